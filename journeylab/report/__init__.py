"""Executed notebooks become a static site that needs no network and no script."""

from journeylab.report.index import write_index
from journeylab.report.page import write_page

__all__ = ["write_index", "write_page"]
