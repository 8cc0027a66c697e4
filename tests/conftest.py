"""What every test may use."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.spark"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the public data that are not committed."""
    folder = os.environ.get("JOURNEYLAB_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("JOURNEYLAB_DATA names no folder with the public data sets")
    return Path(folder)
