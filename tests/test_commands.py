"""Commands in hints work when pasted: every argument survives a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trtpoets.core.commands import PLACEHOLDERS, command
from trtpoets.core.workspace import Workspace

_WORDS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))


@given(st.lists(_WORDS), _WORDS)
def test_a_shell_reads_back_every_argument(arguments: list[str], engines: str) -> None:
    text = command("label", *arguments, engines=Path(engines))
    expected = ["trtpoets", "label", *arguments]
    if Path(engines) != Path("engines"):
        expected += ["--engines", str(Path(engines))]
    assert shlex.split(text) == expected


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
