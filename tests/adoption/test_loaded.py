"""Opening a classifier file, and writing it as a classifier and as fp32.onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.onnx.networks import Foreign, image, plain, saved, scores
from tests.adoption.onnx.wrapping import spec_for
from tests.support.errors import raises
from trtpoets.adoption.loaded import fp32_from_classifier, load_foreign
from trtpoets.adoption.onnx import wrap
from trtpoets.adoption.onnx.float32 import HALF_TOLERANCE
from trtpoets.adoption.onnx.opened import open_onnx
from trtpoets.convert.onnx_export import ExportConfig
from trtpoets.convert.parity import LIMIT
from trtpoets.core.errors import BadArtefact
from trtpoets.core.model_json import MODEL_JSON
from trtpoets.core.reading import LARGEST_NETWORK_FILE
from trtpoets.core.types import Classifier, ModelSpec
from trtpoets.train.classifier import load_classifier


def adopted(path: Path, folder: Path) -> Classifier:
    loaded = load_foreign(path)
    return loaded.write(spec_for(loaded.model), folder)


def half(path: Path) -> Path:
    net = Foreign(13, np.float16)
    net.op("Identity", net.logits("input"), outputs=["output"])
    return saved(net.model([image(dtype=np.float16)], [scores(dtype=np.float16)]), path)


@pytest.mark.parametrize(("write", "tolerance"), [(plain, LIMIT), (half, HALF_TOLERANCE)], ids=["float32", "float16"])
def test_an_onnx_file_is_read_once_for_its_fp32_file_and_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, tolerance: float
) -> None:
    classifier = adopted(write(tmp_path / "net.onnx"), tmp_path / "classifier")
    reads: list[Path] = []

    def counted(path: Path) -> Any:
        reads.append(path)
        return open_onnx(path)

    monkeypatch.setattr(wrap, "open_onnx", counted)
    monkeypatch.setattr("trtpoets.adoption.onnx.opened.open_onnx", counted)
    fp32 = fp32_from_classifier(classifier, tmp_path / "fp32.onnx", tmp_path, ExportConfig())
    assert (fp32.model.path, fp32.tolerance, fp32.rounding) == (tmp_path / "fp32.onnx", tolerance, None)
    assert reads == [classifier.original]


def test_model_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    classifier = adopted(plain(tmp_path / "net.onnx"), tmp_path / "classifier")
    assert load_classifier(classifier.folder) == classifier
    text = (classifier.folder / MODEL_JSON).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert ModelSpec.from_json(text, "") == classifier.spec


def test_a_file_of_an_unknown_kind_is_named_with_its_size_and_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(b"\xff\xd9\xfd" + bytes(range(128, 160)))
    with raises(BadArtefact, "TP9505", "35") as caught:
        load_foreign(path)
    assert caught.value.code == "TP9505"
    assert "more than" not in caught.value.message
    with path.open("r+b") as stream:
        stream.truncate(LARGEST_NETWORK_FILE + 1)  # sparse: it takes no space
    with raises(BadArtefact, "TP9505", "4,294,967,297", "4,294,967,296"):
        load_foreign(path)
