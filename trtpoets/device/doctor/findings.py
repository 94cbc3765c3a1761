"""The doctor's words: how things stand, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How things stand with one need. MISSING and DOUBTFUL come with a hint; IDLE is what this machine does without."""

    READY = "ready"
    DOUBTFUL = "check"
    MISSING = "missing"
    IDLE = "not here"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found or why not, what it is good for, and what mends it."""

    what: str
    state: State
    found: str
    serves: str = ""
    hint: str = ""
