"""The program that wrote a file is recognised by names and by files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.foreign import foreign_model
from trtpoets.adoption.producer_clues import (
    base_name,
    has_names,
    has_nodes,
    is_azure_onnx,
    is_coral,
    is_early_ultralytics,
    is_fastai,
    is_lobe,
    is_pytorch,
    is_retrained,
    is_small,
    is_ultralytics,
    ultralytics_date,
)
from trtpoets.core.original import Format


@pytest.mark.parametrize(("name", "base"), [("x:0", "x"), ("serving_default_x:0", "x"), ("a/b", "a/b")])
def test_names_of_tensors(name: str, base: str) -> None:
    assert base_name(name) == base


def test_names_and_nodes() -> None:
    model = foreign_model(input_name="data:0", output_name="loss", nodes=("module/conv1/w", "fc"))
    assert has_names(model, ("data",), ("loss", "other"))
    assert has_names(model, ("data",), ())
    assert not has_names(model, ("photo",), ("loss",))
    assert has_nodes(model, "conv1", "fc")
    assert not has_nodes(model, "onv1")


def test_retrained_files_are_of_tensorflow() -> None:
    assert is_retrained(foreign_model(format_=Format.GRAPH_DEF, output_name="final_result:0"))
    assert not is_retrained(foreign_model(format_=Format.ONNX, output_name="final_result"))


@pytest.mark.parametrize(
    ("metadata", "date", "new", "early"),
    [
        ({}, None, False, False),
        ({"task": "detect", "date": "2024-01-01"}, None, False, False),
        ({"task": "classify", "date": "2024-01-01T10:00"}, "2024-01-01", True, False),
        ({"task": "classify", "date": "2023-03-31"}, "2023-03-31", False, True),
        ({"task": "classify"}, "", False, True),
    ],
)
def test_ultralytics_changed_its_values(metadata: dict[str, str], date: str | None, new: bool, early: bool) -> None:
    model = foreign_model(metadata={"names": "{0: 'a'}", **metadata})
    assert (ultralytics_date(model), is_ultralytics(model), is_early_ultralytics(model)) == (date, new, early)


def test_files_beside(tmp_path: Path) -> None:
    model = foreign_model(tmp_path / "model.onnx")
    assert not is_azure_onnx(model) and not is_lobe(model)
    (tmp_path / "cvexport.manifest").write_text(json.dumps({"DomainType": "Classification"}))
    (tmp_path / "signature.json").write_text(json.dumps({"inputs": {"Image": {}}, "outputs": {"Labels": {}}}))
    assert is_azure_onnx(model) and is_lobe(model)
    (tmp_path / "signature.json").write_text(json.dumps({"inputs": ["Image"], "outputs": None}))
    assert not is_lobe(model)


def test_types_sides_and_writers() -> None:
    assert (
        is_small(foreign_model(side=64))
        and not is_small(foreign_model(side=65))
        and not is_small(foreign_model(side=0))
    )
    assert is_pytorch(foreign_model(writer="PyTorch 2.1"))
    assert is_fastai(foreign_model(writer="pytorch", nodes=("/0/GlobalMaxPool", "/0/GlobalAveragePool")))
    assert not is_fastai(foreign_model(writer="pytorch", nodes=("/0/GlobalMaxPool",)))
    assert not is_coral(foreign_model(format_=Format.TFLITE, dtype="uint8", scale=1 / 128, zero_point=128))
