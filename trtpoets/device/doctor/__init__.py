"""Checks what this machine supports, with a command that fixes each problem (`trtpoets doctor`)."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.device.doctor.abilities import works_of
from trtpoets.device.doctor.components import parts_of
from trtpoets.device.doctor.findings import Finding
from trtpoets.device.doctor.software import Software, software_here
from trtpoets.device.doctor.system import System, system_at


@dataclass(frozen=True)
class Diagnosis:
    """The findings about a machine: its parts and what works on it, with the facts they are based on."""

    parts: tuple[Finding, ...]
    works: tuple[Finding, ...]
    system: System
    software: Software


def doctor(*, training: bool = True) -> Diagnosis:
    """Check this machine. Raises nothing: a missing component is a finding.

    Without `training`, packages that only training needs are not imported, which saves seconds.
    """
    return diagnose(system_at(), software_here(training=training))


def diagnose(system: System, software: Software) -> Diagnosis:
    """The findings for the facts about a machine. Those about Jetsons and GPUs are based on documentation."""
    parts = parts_of(system, software)
    return Diagnosis(parts, works_of(system, software, parts), system, software)
