"""How artefacts reach the process that runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.tiny import tiny_spec
from trtpoets.core.errors import MissingArtefact
from trtpoets.core.types import Classifier, OnnxModel, Precision, TfliteModel
from trtpoets.judge.bench.bench_child import artefact_from_description, description_from_artefact


def test_artefacts_travel_to_the_child(tmp_path: Path) -> None:
    folder = tmp_path / "a folder\udcff"
    for artefact in (
        Classifier(folder, tiny_spec()),
        OnnxModel(folder / "int8.onnx", Precision.INT8, tiny_spec()),
        TfliteModel(folder / "int8.tflite", Precision.INT8, tiny_spec()),
    ):
        text = json.dumps(description_from_artefact(artefact))
        assert artefact_from_description(json.loads(text)) == artefact
    with pytest.raises(MissingArtefact):
        artefact_from_description({"kind": "engine", "path": str(tmp_path / "none.engine")})
