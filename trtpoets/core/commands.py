"""Commands as text that works when a person pastes it into a shell: for hints, bundles and reports."""

from __future__ import annotations

import re
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


_NAMED = re.compile(r"(\btrtpoets [a-z]+(?: [^;,&|()]*?)? )NAME\b( --engines )?")


def filled(hint: str, name: str, engines: Path = DEFAULT_ENGINES) -> str:
    """A hint with the run's name, quoted, in the place of NAME in each command, and `--engines DIR` as in `command`."""
    folder = "" if Path(engines) == DEFAULT_ENGINES else f" --engines {shlex.quote(str(engines))}"
    return _NAMED.sub(lambda found: found.group(1) + shlex.quote(name) + (found.group(2) or folder), hint)
