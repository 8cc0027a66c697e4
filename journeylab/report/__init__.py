"""Executed notebooks become a static site that needs no network and no script."""

from journeylab.report.difference import write_difference
from journeylab.report.index import write_index
from journeylab.report.overview import write_overview
from journeylab.report.page import write_page

__all__ = ["write_difference", "write_index", "write_overview", "write_page"]
