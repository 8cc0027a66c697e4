"""Sharing: what leaves this machine, and what must not."""

from journeylab.sharing.bundle import Bundle, share
from journeylab.sharing.erasure import Erasure, forget
from journeylab.sharing.gate import Finding, GateError, inspect
from journeylab.sharing.suppression import suppress
from journeylab.sharing.traces import Known, this_machine

__all__ = [
    "Bundle",
    "Erasure",
    "Finding",
    "GateError",
    "Known",
    "forget",
    "inspect",
    "share",
    "suppress",
    "this_machine",
]
