"""What this machine can do, and the line that mends what it can't."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.device.doctor.abilities import works_of
from trtpoets.device.doctor.components import parts_of
from trtpoets.device.doctor.findings import Finding
from trtpoets.device.doctor.software import Software, software_here
from trtpoets.device.doctor.system import System, system_at


@dataclass(frozen=True)
class Diagnosis:
    """A machine: its parts, what works on it (and in which precisions), and the facts that this was told from."""

    parts: tuple[Finding, ...]
    works: tuple[Finding, ...]
    system: System
    software: Software


def doctor(*, training: bool = True) -> Diagnosis:
    """Look at this machine. Raises nothing: what is missing is a finding.

    Without `training`, what only training needs is not imported: that takes seconds, and a device may lack it.
    """
    return diagnose(system_at(), software_here(training=training))


def diagnose(system: System, software: Software) -> Diagnosis:
    """What the facts about a machine mean. What concerns Jetsons and GPUs rests on documents: see `device.jetpack`."""
    parts = parts_of(system, software)
    return Diagnosis(parts, works_of(system, software, parts), system, software)
