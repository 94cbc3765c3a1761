"""Nodes that stay FP32 in an INT8 network, and its variant with FP16 layers for strongly typed builders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import helper

import trtpoets
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from trtpoets.convert.fp16_remainder import RemainderNotes
from trtpoets.core.errors import BuildFailed
from trtpoets.core.files import read_json, sha256_of_file
from trtpoets.core.manifest import Target
from trtpoets.core.onnx_file import check_onnx, metadata_of, opset_of
from trtpoets.core.onnx_graph import MIXED_OPSET, marked_fp32
from trtpoets.core.types import Flavour, Precision
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.pipeline.lineage import engines_in

INT8 = Precision.INT8


# In a run


def run_with_int8(folder: Path, **notes: Any) -> Workspace:
    """A run whose int8.onnx names the nodes that must stay FP32."""
    space = bundle_run(folder, **notes)
    path = space.onnx(Precision.INT8)
    details = open_card(card_of(path))
    assert details is not None
    proto = check_onnx(path)
    (softmax,) = (node.name for node in proto.graph.node if node.op_type == "Softmax")
    helper.set_model_props(proto, {**metadata_of(proto), **marked_fp32([softmax])})
    path.write_bytes(proto.SerializeToString(deterministic=True))
    seal_card(card_of(path), key="int8", files=[path], details=details)
    return space


def test_a_library_without_type_flags_builds_the_variant(child: Any, tmp_path: Path) -> None:
    child("ok", "11.0")
    space = run_with_int8(tmp_path)
    words: dict[str, Any] = {"precisions": [INT8], "flavour": Flavour.TENSORRT, "engines": space.engines}
    (plan,) = trtpoets.plan_build("tiny", **words)
    assert plan.opset == 17 and any(
        "built from int8.half.onnx, which build writes first" in note for note in plan.notes
    )
    assert not space.half_remainder.exists(), "a dry run writes nothing"
    (engine,) = trtpoets.build("tiny", **words)
    assert engine.path.name == "int8.tensorrt.engine"
    assert engine.card.onnx_sha256 == sha256_of_file(space.half_remainder)
    assert engine.card.layers is not None and engine.card.layers.counts.keys() == {"int8", "fp16", "fp32"}
    assert engine.card.layers.counts["fp32"] == 1, "the softmax"
    card = read_json(card_of(space.half_remainder))["details"]
    assert card["made_from"] == sha256_of_file(space.onnx(INT8)) and card["notes"]["same_answer"] == 1.0
    (plan,) = trtpoets.plan_build("tiny", **words)
    assert plan.current and plan.opset == MIXED_OPSET and plan.onnx == space.half_remainder and plan.notes == ()
    assert [note.path for note in engines_in(space)] == [engine.path], "an engine of the variant is of int8.onnx"
    path = space.onnx(INT8)
    details = open_card(card_of(path))
    path.write_bytes(path.read_bytes() + b"\x7a\x00")  # an empty field with an unknown number
    seal_card(card_of(path), key="int8", files=[path], details=details or {})
    assert engines_in(space) == ()


@pytest.mark.parametrize("version", [pytest.param("8.6", marks=pytest.mark.slow), "10.3"])
def test_a_library_with_type_flags_builds_the_file_itself(child: Any, tmp_path: Path, version: str) -> None:
    child("ok", version)
    space = run_with_int8(tmp_path)
    (engine,) = trtpoets.build("tiny", precisions=[INT8], flavour=Flavour.TENSORRT, engines=space.engines)
    assert engine.card.onnx_sha256 == sha256_of_file(space.onnx(INT8)) and not space.half_remainder.exists()


@pytest.mark.slow  # builds an engine
def test_without_a_variant_int8_is_built_with_a_warning(
    child: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    child("ok", "11.0")
    space = bundle_run(tmp_path)
    words: dict[str, Any] = {"precisions": [INT8], "flavour": Flavour.TENSORRT, "engines": space.engines}
    (engine,) = trtpoets.build("tiny", **words)
    assert engine.card.onnx_sha256 == sha256_of_file(space.onnx(INT8))
    assert "is built with FP32 for the layers that are not quantised: " in caplog.text
    assert "does not name the nodes" in caplog.text
    far = RemainderNotes(photos=32, max_abs=0.5, mean_abs=0.02, same_answer=1.0)
    monkeypatch.setattr("trtpoets.pipeline.int8_build_input.remainder_notes", lambda *_: far)
    other = run_with_int8(tmp_path / "other")
    trtpoets.build("tiny", **{**words, "engines": other.engines})
    assert "the scores change by 0.02 on average" in caplog.text
    assert not other.half_remainder.exists()


def test_the_real_tensorrt_rtx_builds_it_for_turing(tmp_path: Path) -> None:
    """Which has no FP32 matrix products there: int8.onnx itself is refused."""
    pytest.importorskip("tensorrt_rtx")
    space = run_with_int8(tmp_path)
    words: dict[str, Any] = {"flavour": Flavour.RTX, "targets": ["sm75"]}
    (engine,) = trtpoets.build("tiny", precisions=[INT8], engines=space.engines, **words)
    assert engine.card.targets == ("sm75",)
    (plan,) = trtpoets.plan_build(str(space.onnx(INT8)), **words)
    assert "layers that are not quantised run in FP32, their type in this file" in plan.notes
    with raises(BuildFailed, "TP4050", "FP32 GEMM is not supported"):
        trtpoets.build(str(space.onnx(INT8)), **words)


def test_a_jetpack_with_tensorrt_11_gets_the_variant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = run_with_int8(tmp_path)
    bundle = trtpoets.bundle("tiny", Target.JETSON, jetpack="7.2.2", engines=space.engines)
    assert opset_of(check_onnx(bundle.folder / "int8.onnx")) == MIXED_OPSET
    assert opset_of(check_onnx(bundle.folder / "fp16.onnx")) == 17
    note = "int8.onnx has opset 23, and FP16 layers where it is not quantised, because TensorRT 11.4.1 is strongly"
    assert any(warning.startswith(note) for warning in bundle.warnings)
    other = trtpoets.bundle("tiny", Target.JETSON, jetpack="7.1", engines=space.engines, out=tmp_path / "other")
    assert opset_of(check_onnx(other.folder / "int8.onnx")) == 17
