"""Runs: plan, execute and record notebooks; and what a notebook says to the record.

In a notebook: ``from journeylab.runs import caution, decision, record, recorded``.
"""

from journeylab.runs.execution import Progress, RunInterrupted, RunResult, run
from journeylab.runs.notebooks import Notebook, find_folder, notebook_paths, read_notebook
from journeylab.runs.parameters import Parameter
from journeylab.runs.plan import Instance, Plan, make_plan
from journeylab.runs.recording import caution, decision, record, recorded
from journeylab.runs.references import Reference, read_reference
from journeylab.runs.showing import register_formatters

__all__ = [
    "Instance",
    "Notebook",
    "Parameter",
    "Plan",
    "Progress",
    "Reference",
    "RunInterrupted",
    "RunResult",
    "caution",
    "decision",
    "find_folder",
    "make_plan",
    "notebook_paths",
    "read_notebook",
    "read_reference",
    "record",
    "recorded",
    "register_formatters",
    "run",
]

register_formatters()
