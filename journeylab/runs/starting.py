"""Beginning a notebook: the template with a name and a number of its own."""

import json
import re
from pathlib import Path

from journeylab.errors import RunError
from journeylab.runs.notebooks import find_notebook, find_project, notebook_paths
from journeylab.runs.writing import write_whole

_TOPIC = re.compile(r"[a-z][a-z0-9_]{0,29}")
_NUMBER = re.compile(r"(\d+)[a-z]?_")


def new_notebook(topic: str, folder: Path) -> Path:
    """Write ``NN_topic.ipynb``, numbered after the last notebook there is.

    Args:
        topic: Lower-case letters, digits and underscores, beginning with a letter.
        folder: Of notebooks; without a ``template.ipynb`` of its own the kit's is taken.

    Raises:
        RunError: The name is not allowed or taken, or there is no template.
    """
    if not _TOPIC.fullmatch(topic):
        raise RunError(
            "a topic has at most 30 lower-case letters, digits and underscores, beginning with a "
            f"letter, so that others can refer to it as @topic/record; got {topic!r}"
        )
    paths = notebook_paths(folder)
    if topic in paths:
        raise RunError(f"{paths[topic].name} is called {topic!r} already")
    numbers = [int(found[1]) for path in paths.values() if (found := _NUMBER.match(path.stem))]
    number = 10 * (max(numbers, default=0) // 10 + 1)
    path = folder / f"{number:02d}_{topic}.ipynb"
    content = json.loads(_template(folder).read_text(encoding="utf-8"))
    words = topic.replace("_", " ")
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"]).replace("TOPIC", words)
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return path


def _template(folder: Path) -> Path:
    project = find_project(Path(__file__).resolve().parent)
    folders = [folder, *([project / "notebooks"] if project else [])]
    for place in folders:
        paths = notebook_paths(place)
        if "template" in paths:
            return find_notebook(paths, "template")
    raise RunError(f"there is no template.ipynb in {folder.name} to begin from")
