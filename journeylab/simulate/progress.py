"""Progress of a world in the making, shown only where somebody watches."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from journeylab.simulate.writing import Progress


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """A bar on standard error that counts people; silent where that is no terminal."""
    with tqdm(desc=what, unit=" people", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
