"""Commands as text that works when a person pastes it into a shell: for hints, bundles and reports."""

from __future__ import annotations

import shlex
from pathlib import Path

DEFAULT_ENGINES = Path("engines")
"""The folder of all runs where no --engines is given, relative to the current folder."""

PLACEHOLDERS = frozenset({"PHOTOS", "PHOTO...", "NAME", "FILE", "FOLDER", "NEWPLACE", "BACKBONE"})
"""Words that stand for what the reader has to fill in. They are not quoted."""


def command(verb: str, *arguments: object, engines: Path = DEFAULT_ENGINES) -> str:
    """The text `trtpoets VERB ARGUMENT...`, each argument quoted for a POSIX shell where it needs that.

    An argument is one word, an option ("--force") or a value; pass an option and its value as two arguments. Words in
    PLACEHOLDERS stay as they are. `--engines DIR` is added where `engines` is not the default folder.
    """
    words = [str(argument) for argument in arguments]
    if Path(engines) != DEFAULT_ENGINES:
        words += ["--engines", str(engines)]
    return " ".join(["trtpoets", verb, *(word if word in PLACEHOLDERS else shlex.quote(word) for word in words)])
