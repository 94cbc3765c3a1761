"""The types of the doctor's results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """The state of a component. MISSING and DOUBTFUL have a hint; IDLE means that this machine does not need it."""

    READY = "ready"
    DOUBTFUL = "check"
    MISSING = "missing"
    IDLE = "not here"


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, state, text, what the subject is needed for, and how to fix a problem."""

    what: str
    state: State
    found: str
    serves: str = ""
    hint: str = ""
