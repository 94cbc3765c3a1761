"""The metadata of TFLite files, as clues to their producer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tflite_files import tflite_classifier
from tests.support.tiny import tiny_spec
from trtpoets.adoption.tflite import read_tflite_classifier
from trtpoets.convert.tflite_metadata import METADATA_NAME, metadata_of_spec
from trtpoets.core.types import Precision

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


def test_standard_metadata_and_appended_files(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.metadata = {METADATA_NAME: metadata_of_spec(tiny_spec(), Precision.INT8), "min_runtime_version": b"1.5.0\0\0"}
    file.files = {"labels.txt": "ant\nbee\n"}
    clues = read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues
    assert clues.files == {"labels.txt": "ant\nbee\n"}
    assert clues.metadata["name"] == "tiny"
    assert clues.metadata["input.color_space"] == "RGB"
    assert clues.metadata["input.content"] == "image"
    assert clues.metadata["output.files"] == "labels.txt"
    assert clues.metadata["min_runtime_version"] == "1.5.0"


def test_normalization_options(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.metadata = {METADATA_NAME: _normalized((127.5, 127.5, 127.5), (127.5,))}
    metadata = read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues.metadata
    assert (metadata["input.mean"], metadata["input.std"]) == ("127.5,127.5,127.5", "127.5")


def _normalized(mean: tuple[float, ...], std: tuple[float, ...]) -> bytes:
    """Standard metadata with NormalizationOptions for the input."""
    import flatbuffers

    from trtpoets.convert.tflite_metadata import _Tables

    tables = _Tables(flatbuffers.Builder(256))
    options = tables.table(2, {0: tables.floats(mean), 1: tables.floats(std)})
    unit = tables.table(2, {0: ("Uint8", 1), 1: options})
    photo = tables.table(7, {0: tables.text("image"), 4: tables.vector([unit])})
    graph = tables.table(7, {2: tables.vector([photo])})
    tables.builder.Finish(tables.table(8, {3: tables.vector([graph])}), file_identifier=b"M001")
    return bytes(tables.builder.Output())


def test_damaged_metadata_is_left_out(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.metadata = {METADATA_NAME: b"\xff" * 40}
    assert read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues.metadata == {}
