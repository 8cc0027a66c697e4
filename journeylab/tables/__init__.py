"""Tables: from a folder, a file or a database to typed, complete Ibis tables, and out again."""

from journeylab.tables.engine import collect, connect_duckdb
from journeylab.tables.identities import Merges, find_merges
from journeylab.tables.intake import FileReport
from journeylab.tables.opened import Tables
from journeylab.tables.opening import IntakeReport, check, fingerprint, open_and_check, open_tables

__all__ = [
    "FileReport",
    "IntakeReport",
    "Merges",
    "Tables",
    "check",
    "collect",
    "connect_duckdb",
    "find_merges",
    "fingerprint",
    "open_and_check",
    "open_tables",
]
