"""Completes the hints of errors of `adopt`: commands with the file, the run and the options that the user gave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.shell_commands import quote
from trtpoets.pipeline.recorded_commands import adopt_command

if TYPE_CHECKING:
    from trtpoets.core.workspace import Workspace
    from trtpoets.pipeline.adopt import AdoptConfig

_PIXELS = {"--preprocess", "--mean", "--std", "--scale", "--channels"}
_GEOMETRY = {"--resize", "--crop"}

_WORD = r"(?:\$'(?:[^'\\]|\\.)*'|'[^']*'|\"[^\"]*\"|[^\s'\"])+"
"""A word as `quote` writes it for a shell."""

_COMMAND = re.compile("trtpoets adopt (?P<model>" + _WORD + ") --name NAME(?P<rest>[^;()]*)")


@contextmanager
def completed_hints(
    space: Workspace, model: Path, photos: Path | str | None, config: AdoptConfig, *, force: bool
) -> Iterator[None]:
    """Complete the hint of an error that is raised inside."""
    try:
        yield
    except TrtPoetsError as error:
        texts = [error.hint, *error.details]
        error.hint, *details = [completed_hint(text, space, model, photos, config, force=force) for text in texts]
        error.details = tuple(details)
        raise


def completed_hint(
    hint: str, space: Workspace, model: Path, photos: Path | str | None, config: AdoptConfig, *, force: bool
) -> str:
    """Return a hint in which each command that adopts the file is complete.

    An option that the hint states replaces that of the user, so that the command can be pasted.
    """

    def complete(match: re.Match[str]) -> str:
        stated = set(re.findall(r"--[a-z-]+", match["rest"]))
        contract = config.contract
        if stated & _PIXELS:
            contract = replace(contract, pixels=None, channels=None)
        if stated & _GEOMETRY:
            contract = replace(contract, geometry=None)
        rest = replace(
            config,
            contract=contract,
            labels=None if "--labels" in stated else config.labels,
            size=None if "--size" in stated else config.size,
            allow_code=config.allow_code and "--allow-code" not in stated,
        )
        again = adopt_command(space, model, None if "--photos" in stated else photos, rest)
        if match["model"] not in ("MODEL", quote(model)):  # a file in the folder of the user, or an unpacked archive
            again = again.replace(quote(str(model.absolute())), match["model"], 1)
        return again + (" --force" if force and "--force" not in stated else "") + match["rest"]

    return _COMMAND.sub(complete, hint)
