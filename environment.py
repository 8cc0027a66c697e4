"""Write environment.yml: Python and pip from conda, everything else as the lock pins it."""

from pathlib import Path

from packaging.requirements import Requirement

PYTHON = "3.11"
HEADER = f"""\
# Written by `make environment` from requirements.lock; do not edit by hand.
# conda env create -f environment.yml && conda activate journeylab
# pip cannot leave out what xgboost asks for on a GPU: on Linux it also fetches NCCL, which a CPU
# never loads. `make run` installs without it.
name: journeylab
channels:
  - conda-forge
dependencies:
  - python={PYTHON}
  - pip
  - pip:
"""


def pins(lock: str) -> list[str]:
    """Requirements of a lock file that some platform installs on the environment's Python."""
    lines = [line.rstrip(" \\") for line in lock.splitlines() if line[:1].isalnum()]
    return [line for line in lines if _is_wanted(Requirement(line))]


def _is_wanted(requirement: Requirement) -> bool:
    if requirement.marker is None:
        return True
    python = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    return any(
        requirement.marker.evaluate({**python, "sys_platform": system, "platform_system": name})
        for system, name in (("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows"))
    )


def environment() -> str:
    """Text of environment.yml."""
    lock = (Path(__file__).resolve().parent / "requirements.lock").read_text()
    return HEADER + "".join(f'      - "{pin}"\n' for pin in [*pins(lock), "-e ."])


if __name__ == "__main__":
    print(environment(), end="")
