"""TFLite files with labels and model.json: written with the same bytes, and refused if anything was changed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.tflite_file import DESCRIPTION_FILE, LABELS_FILE, SPEC_FILE, network_in, read_tflite, write_tflite
from trtpoets.core.types import Precision, TfliteModel

NETWORK = b"\x1c\x00\x00\x00TFL3" + bytes(range(200))
"""Begins like a network: the file is never given to the interpreter here."""


@pytest.fixture
def model(tmp_path: Path) -> TfliteModel:
    return write_tflite(NETWORK, tiny_spec(), Precision.INT8, tmp_path / "a.tflite", "c" * 64)


def test_a_written_file_is_read(model: TfliteModel) -> None:
    assert read_tflite(model.path) == model
    assert network_in(model.path) == NETWORK
    with zipfile.ZipFile(model.path) as archive:
        assert archive.namelist() == [LABELS_FILE, SPEC_FILE, DESCRIPTION_FILE]
        assert archive.read(LABELS_FILE) == b"ant\nbee\ncow\n"


def test_the_same_network_gives_the_same_bytes(model: TfliteModel, tmp_path: Path) -> None:
    again = write_tflite(NETWORK, tiny_spec(), Precision.INT8, tmp_path / "b.tflite", "c" * 64)
    assert again.path.read_bytes() == model.path.read_bytes()


def changed(path: Path, name: str, text: str) -> Path:
    """A copy of a file with another text in its archive."""
    out = path.with_name("changed.tflite")
    out.write_bytes(network_in(path))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "a") as new:
        for item in old.namelist():
            new.writestr(item, text if item == name else old.read(item))
    return out


@pytest.mark.parametrize(
    ("name", "text", "code", "value"),
    [
        (LABELS_FILE, "cow\nbee\nant\n", "TP1088", LABELS_FILE),
        (DESCRIPTION_FILE, "{}", "TP1092", "precision"),
        (DESCRIPTION_FILE, '{"precision": "int9", "calibration": null, "network": ""}', "TP1092", "'int9'"),
        (DESCRIPTION_FILE, '{"precision": "int8", "calibration": null, "network": ""}', "TP1093", "sha256"),
        (SPEC_FILE, "[]", "TP1094", SPEC_FILE),
    ],
)
def test_changed_texts_are_refused(model: TfliteModel, name: str, text: str, code: str, value: str) -> None:
    path = changed(model.path, name, text)
    with raises(BadArtefact, code, path, value):
        read_tflite(path)


def test_a_changed_network_is_refused(model: TfliteModel) -> None:
    content = bytearray(model.path.read_bytes())
    content[40] ^= 1
    model.path.write_bytes(content)
    for read in (read_tflite, network_in):
        with raises(BadArtefact, "TP1093"):
            read(model.path)


def test_a_text_that_would_take_too_much_memory_is_refused(model: TfliteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.core.tflite_file._MAX_BYTES", 10)
    with raises(BadArtefact, "TP1092", "must have at most 0 MiB"):
        read_tflite(model.path)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP1089"):
        read_tflite(tmp_path / "none.tflite")
    with raises(BadArtefact, "TP1090", "Is a directory"):
        read_tflite(tmp_path)
    (tmp_path / "x.tflite").write_bytes(b"\x01\x02\x03\x04nope")
    with raises(BadArtefact, "TP1091"):
        read_tflite(tmp_path / "x.tflite")
    (tmp_path / "x.tflite").write_bytes(NETWORK)
    with raises(BadArtefact, "TP1092"):
        read_tflite(tmp_path / "x.tflite")
