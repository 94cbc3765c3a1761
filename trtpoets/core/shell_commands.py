"""Formats commands that can be pasted into a shell, for hints, bundles and reports."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePath

from trtpoets.core.console import printable

DEFAULT_ENGINES = Path("engines")
"""Default of --engines, the folder of all runs, relative to the current folder."""

PLACEHOLDERS = frozenset({"PHOTOS", "PHOTO...", "NAME", "FILE", "FOLDER", "NEWPLACE", "BACKBONE", "MODEL"})
"""Placeholders that the reader has to replace. They are not quoted."""


def quote(word: object) -> str:
    """Return `word`, quoted for a shell if needed; as $'a\\nb' if it contains characters that are not printable.

    Works in bash, zsh and ksh. A relative Path that begins with "-" gets the prefix "./".
    """
    text = str(word)
    if isinstance(word, PurePath) and text.startswith("-"):
        text = f"./{text}"
    if printable(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_ansi_c, text))}'"


def _ansi_c(character: str) -> str:
    """Return a character as it is written in $'...'."""
    if character in "\\'":
        return f"\\{character}"
    if printable(character) == character:
        return character
    # A low surrogate represents a byte of a file name that is not UTF-8; others can't occur in a file name.
    content = character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in content)


def command(verb: str, *arguments: object, engines: Path = DEFAULT_ENGINES) -> str:
    """Return the text `trtpoets VERB ARGUMENT...`, with each argument quoted for a POSIX shell if needed.

    An argument is an option ("--force") or a value; pass an option and its value as two arguments. Words in
    PLACEHOLDERS are not quoted. `--engines DIR` is appended if `engines` is not the default folder.
    """
    words = list(arguments)
    if Path(engines) != DEFAULT_ENGINES:
        words += ["--engines", str(engines)]
    return " ".join(["trtpoets", verb, *(str(word) if str(word) in PLACEHOLDERS else quote(word) for word in words)])


_NAMED = re.compile(r"(\btrtpoets [a-z]+(?: [^;,&|()]*?)? )NAME\b( --engines )?")
"""A command up to the placeholder NAME, and the option --engines if it follows."""

_QUOTED = re.compile(r"(?<!\S)\$?'[^']*'")
"""A quoted word. It begins after a space, unlike the apostrophe in "can't"."""


def filled(hint: str, name: str, engines: Path = DEFAULT_ENGINES) -> str:
    """Return a hint with the name of the run for NAME in each command, and `--engines DIR` as in `command`."""
    folder = "" if Path(engines) == DEFAULT_ENGINES else f" --engines {quote(engines)}"

    quoted = [match.span() for match in _QUOTED.finditer(hint)]

    def replacement(match: re.Match[str]) -> str:
        if any(start < match.end(1) < end for start, end in quoted):  # the name of a file looks like a command
            return match.group()
        return match.group(1) + quote(name) + (match.group(2) or folder)

    return _NAMED.sub(replacement, hint)
