"""Tells whether a hint is a whole command or an instruction, so that no fragment of a command is shown as one."""

from __future__ import annotations

import functools
import re
from typing import Any

_PROGRAMS = ("./build", "chmod", "nvidia-smi", "pip", "ray", "rm", "sudo", "trtpoets")

_BEGINNINGS = """
add adopt build calibrate call check choose collect compare convert copy create delete do download end export fix for
free freeze give hold if in install keep leave make measure move name omit on open pass prepare put quantise race raise
read remove rename repair replace run save score see send set ship show sign start submit sweep to train try unpack
unset update use wait without write
"""
"""The first words of instructions: an imperative, or the beginning of its condition."""


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    import typer.main

    from trtpoets.cli.main import app

    program: Any = typer.main.get_command(app)
    verbs = "|".join(program.commands)
    return (
        re.compile(r"^(?:--?\w|\d)\S*"),  # an option or a number alone
        re.compile(r"[:;] --\w\S*"),  # a colon announces a command, but only its option follows
        re.compile(rf"(?<!trtpoets )(?<![\w./])\b(?:{verbs}) --\w\S*"),  # the program's name is missing
        re.compile(r"^(?:trtpoets|pip) [^';:]*(?:'[^']*'[^';:]*)*(?:, (?!or |then )|: )"),  # prose follows the command
    )


def fragment_in(hint: str) -> str:
    """Return the part of a hint that fails when pasted and is no instruction either; "" if there is none."""
    found = (pattern.search(hint) for pattern in _patterns())
    return next((match.group() for match in found if match), "")


def begins_well(hint: str) -> bool:
    """Return whether a hint begins with a program, an instruction or a value."""
    first = re.split(r"[ :,]", hint, maxsplit=1)[0]
    return not first or "…" in first or first in (*_PROGRAMS, *_BEGINNINGS.split())
