"""Runs: plan, execute and record notebooks; and what a notebook says to the record.

In a notebook: ``from journeylab.runs import caution, decision, record, recorded``.
"""

from journeylab.runs.execution import (
    Progress,
    RunInterrupted,
    RunOptions,
    RunResult,
    RunStopped,
    run,
    runs_root,
)
from journeylab.runs.forecasting import Forecast, preview
from journeylab.runs.notebooks import Notebook, find_folder, notebook_paths, read_notebook
from journeylab.runs.parameters import Parameter
from journeylab.runs.plan import Instance, Plan, make_plan
from journeylab.runs.recording import caution, decision, in_run, record, recorded
from journeylab.runs.references import Reference, read_reference
from journeylab.runs.resuming import resume
from journeylab.runs.secret import Secret, open_secret
from journeylab.runs.showing import register_formatters
from journeylab.runs.verifying import Verdict, verify

__all__ = [
    "Forecast",
    "Instance",
    "Notebook",
    "Parameter",
    "Plan",
    "Progress",
    "Reference",
    "RunInterrupted",
    "RunOptions",
    "RunResult",
    "RunStopped",
    "Secret",
    "Verdict",
    "caution",
    "decision",
    "find_folder",
    "in_run",
    "make_plan",
    "notebook_paths",
    "open_secret",
    "preview",
    "read_notebook",
    "read_reference",
    "record",
    "recorded",
    "register_formatters",
    "resume",
    "run",
    "runs_root",
    "verify",
]

register_formatters()
