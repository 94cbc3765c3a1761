"""Files of a run that somebody else made are marked as trusted, or none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.workspace import Workspace, card_of, read_card, seal_card
from trtpoets.pipeline.trust import trust


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engines folder of a run with one engine, whose card was sealed with another key."""
    path = Workspace(tmp_path, "flowers").folder / "fp16.engine"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"ftrt")
    with monkeypatch.context() as other:
        other.setenv("TRTPOETS_KEY", str(tmp_path / "their key"))
        seal_card(card_of(path), key="k" * 64, files=[path], details={})
    return tmp_path


def test_foreign_files_are_trusted_once(foreign: Path) -> None:
    engine = foreign / "flowers" / "fp16.engine"
    assert read_card(card_of(engine)).foreign
    before = sha256_of_file(engine)
    assert trust("flowers", engines=foreign) == (engine,)
    assert not read_card(card_of(engine)).foreign
    assert trust("flowers", engines=foreign) == ()
    assert sha256_of_file(engine) == before


def test_a_changed_file_is_not_trusted(foreign: Path) -> None:
    engine = foreign / "flowers" / "fp16.engine"
    engine.write_bytes(b"ftrt changed")
    with raises(BadArtefact, "TP8045") as caught:
        trust("flowers", engines=foreign)
    assert "build" in caught.value.hint
    assert read_card(card_of(engine)).foreign


def test_a_run_without_such_files(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP8044"):
        trust("flowers", engines=tmp_path)
