"""Cards and names of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.paths import cache_root
from trtpoets.core.workspace import Workspace, card_of, key_of, open_card, read_card, seal_card


def sealed(folder: Path) -> Path:
    (folder / "a.onnx").write_text("graph")
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_text("w")
    card = card_of(folder / "a.onnx")
    seal_card(card, key="k1", files=[folder / "a.onnx", folder / "model"], details={"photos": 3, "naïve": None})
    return card


def test_a_card_gives_back_what_it_was_given(tmp_path: Path) -> None:
    card = sealed(tmp_path)
    assert card.name == "a.onnx.json"
    assert open_card(card, "k1") == {"photos": 3, "naïve": None}
    assert open_card(card) == {"photos": 3, "naïve": None}
    assert key_of(card) == "k1"


def test_a_stale_card_is_not_there(tmp_path: Path) -> None:
    card = sealed(tmp_path)
    assert open_card(card, "k2") is None
    assert open_card(tmp_path / "none.json") is None


@pytest.mark.parametrize("file", ["a.onnx", "model/weights"])
def test_a_card_does_not_match_changed_files(tmp_path: Path, file: str) -> None:
    card = sealed(tmp_path)
    (tmp_path / file).write_text("other")
    assert open_card(card, "k1") is None
    (tmp_path / file).unlink()
    assert open_card(card, "k1") is None


@pytest.mark.parametrize("what", ["key", "seal", "details", "files"])
def test_an_edited_card_is_refused(tmp_path: Path, what: str) -> None:
    card = sealed(tmp_path)
    value = json.loads(card.read_text())
    value[what] = {**value[what], "a.onnx": "x"} if isinstance(value[what], dict) else "edited"
    card.write_text(json.dumps(value))
    with raises(BadArtefact, "TP1099", "a.onnx.json"):
        open_card(card)


@pytest.mark.parametrize(
    ("card", "stage"),
    [
        ("int8.cpu.onnx.json", "quantize 'my flowers' --cpu-form"),
        ("fp32.onnx.json", "export 'my flowers'"),
        ("int8.tflite.json", "bundle 'my flowers' --for tflite"),
        ("evaluation.json", "evaluate 'my flowers'"),
    ],
)
@pytest.mark.parametrize("text", ["{", "[]", '{"seal": "", "key": "", "files": {}, "details": {}}'])
def test_the_hint_for_a_damaged_card_deletes_it_and_writes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: str, stage: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Workspace(Path("engines"), "my flowers").folder / card
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(BadArtefact) as caught:
        read_card(path)
    assert caught.value.hint == f"rm 'engines/my flowers/{card}' && trtpoets {stage}"
    with pytest.raises(BadArtefact) as caught:
        read_card(path.absolute())
    assert caught.value.hint.endswith(f"trtpoets {stage} --engines {tmp_path / 'engines'}")


def test_the_hint_for_a_card_whose_stage_needs_photos_names_no_stage(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(BadArtefact) as caught:
        read_card(tmp_path / "dataset.json")
    assert caught.value.hint.endswith(f": rm {tmp_path / 'dataset.json'}")


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"seal": 1}'])
def test_json_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with raises(BadArtefact, "TP1098"):
        open_card(tmp_path / "c.json")


@pytest.mark.parametrize("name", ["flowers", "my flowers", "it's 5\" 🌷", "a.b-c_d", "ü" * 50])
def test_good_names(tmp_path: Path, name: str) -> None:
    assert Workspace(tmp_path, name).folder == tmp_path / name


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("", "TP1097", "empty"),
        (" ", "TP1097", "empty"),
        ("..", "TP1102", "path"),
        ("../up", "TP1102", "path"),
        ("a/b", "TP1102", "path"),
        ("a\\b", "TP1102", "path"),
        ("-rf", "TP1103", "'-'"),
        (".hidden", "TP1103", "'.'"),
        ("a\nb", "TP1104", "control character"),
        ("x" * 101, "TP1105", "100 bytes"),
    ],
)
def test_bad_names_say_why(tmp_path: Path, name: str, code: str, reason: str) -> None:
    with raises(BadInput, code, repr(name), reason):
        Workspace(tmp_path, name)


@given(st.text(max_size=120))
def test_any_accepted_name_is_one_folder(name: str) -> None:
    engines = Path("engines")
    try:
        space = Workspace(engines, name)
    except BadInput:
        return
    assert space.folder.parent == engines
    assert space.lock.parent == engines
    assert space.folder.name == name


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRTPOETS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "trtpoets"
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
