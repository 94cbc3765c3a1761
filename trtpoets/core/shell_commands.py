"""Commands as text that works when a person pastes it into a shell: for hints, bundles and reports."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePath

from trtpoets.core.console import printable

DEFAULT_ENGINES = Path("engines")
"""The folder of all runs where no --engines is given, relative to the current folder."""

PLACEHOLDERS = frozenset({"PHOTOS", "PHOTO...", "NAME", "FILE", "FOLDER", "NEWPLACE", "BACKBONE"})
"""Words that stand for what the reader has to fill in. They are not quoted."""


def quote(word: object) -> str:
    """`word` for a shell, visible as it is: quoted where needed, as $'a\\nb' where it has characters that are not.

    Pasting gives the very word in bash, zsh and ksh. A relative Path that looks like an option gets ./ before it.
    """
    text = str(word)
    if isinstance(word, PurePath) and text.startswith("-"):
        text = f"./{text}"
    if printable(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_ansi_c, text))}'"


def _ansi_c(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if printable(character) == character:
        return character
    # A surrogate is a byte of a file name that is not UTF-8; others stand for nothing that a shell could be given.
    content = character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in content)


def command(verb: str, *arguments: object, engines: Path = DEFAULT_ENGINES) -> str:
    """The text `trtpoets VERB ARGUMENT...`, each argument quoted for a POSIX shell where it needs that.

    An argument is one word, an option ("--force") or a value; pass an option and its value as two arguments. Words in
    PLACEHOLDERS stay as they are. `--engines DIR` is added where `engines` is not the default folder.
    """
    words = list(arguments)
    if Path(engines) != DEFAULT_ENGINES:
        words += ["--engines", str(engines)]
    return " ".join(["trtpoets", verb, *(str(word) if str(word) in PLACEHOLDERS else quote(word) for word in words)])


_NAMED = re.compile(r"(\btrtpoets [a-z]+(?: [^;,&|()]*?)? )NAME\b( --engines )?")

_QUOTED = re.compile(r"(?<!\S)\$?'[^']*'")
"""A quoted word; an apostrophe in a sentence has a letter before it."""


def filled(hint: str, name: str, engines: Path = DEFAULT_ENGINES) -> str:
    """A hint with the run's name, quoted, in the place of NAME in each command, and `--engines DIR` as in `command`."""
    folder = "" if Path(engines) == DEFAULT_ENGINES else f" --engines {quote(engines)}"

    quoted = [found.span() for found in _QUOTED.finditer(hint)]

    def filled_in(found: re.Match[str]) -> str:
        if any(start < found.end(1) < end for start, end in quoted):  # a file that is called like a command
            return found.group()
        return found.group(1) + quote(name) + (found.group(2) or folder)

    return _NAMED.sub(filled_in, hint)
