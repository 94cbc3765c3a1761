"""Commands in hints work when pasted: a shell reads every argument unchanged."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trtpoets.core.console import printable
from trtpoets.core.shell_commands import PLACEHOLDERS, command, filled, quote
from trtpoets.core.workspace import Workspace

_ANY = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))
_WORDS = _ANY.filter(lambda text: printable(text) == text)


@given(st.lists(_WORDS), _WORDS)
def test_a_shell_reads_back_every_argument(arguments: list[str], engines: str) -> None:
    text = command("label", *arguments, engines=Path(engines))
    expected = ["trtpoets", "label", *arguments]
    if Path(engines) != Path("engines"):
        expected += ["--engines", str(Path(engines))]
    assert shlex.split(text) == expected


HOSTILE = [
    "a\nb; touch owned",
    "\x1b[2J\x1b]0;title\x07",
    "it's $(id) `id` \\ \n'",
    "\u202egpj.exe\u2066",
    "not utf-8 \udcff\udc80a",
    "\u2028$'\\n'\t\x7f\x9b1m",
    "caf\u00e9 \U0001f33c",
]


def test_bash_reads_back_what_can_not_be_seen() -> None:
    words = [*HOSTILE, "\x1b" * 3 + "abc"]
    text = " ".join(map(quote, words))
    assert printable(text) == text
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


@given(_ANY)
def test_a_hint_has_no_control_characters(name: str) -> None:
    hint = filled(command("inspect", Path(name)) + "; trtpoets run PHOTOS --name NAME", name, Path(name))
    assert printable(hint) == hint


def test_a_file_that_looks_like_an_option() -> None:
    assert command("inspect", Path("-rf"), "--json") == "trtpoets inspect ./-rf --json"


def test_a_file_that_is_called_like_a_command() -> None:
    hint = command("inspect", Path("trtpoets run NAME$(id)")) + "; trtpoets report NAME"
    assert shlex.split(filled(hint, "it's"))[2] == "trtpoets run NAME$(id);"


def test_placeholders_are_not_quoted() -> None:
    assert command("label", "my flowers", "PHOTO...") == "trtpoets label 'my flowers' PHOTO..."
    assert all(command("inspect", word) == f"trtpoets inspect {word}" for word in PLACEHOLDERS)


def test_the_default_folder_is_not_repeated() -> None:
    assert Workspace(Path("engines"), "f").command("export") == "trtpoets export f"
    assert Workspace(Path("my engines"), "f").command("export") == "trtpoets export f --engines 'my engines'"


def test_a_training_takes_the_name_as_an_option() -> None:
    space = Workspace(Path("engines"), "my flowers")
    assert space.command("retrain", "PHOTOS") == "trtpoets retrain PHOTOS --name 'my flowers'"
    assert space.command("quantize", "--precision", "int8") == "trtpoets quantize 'my flowers' --precision int8"
