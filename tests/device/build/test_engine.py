"""Engines: built by the real TensorRT-RTX and by a fake TensorRT, and loaded with their cards."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.build_requests import RTX, TENSORRT, only
from tests.support.errors import raises
from tests.support.shared_files import SHARED
from tests.support.tiny import tiny_graph, tiny_onnx, tiny_spec
from trtpoets.core.errors import (
    BadArtefact,
    BadInput,
    BuildFailed,
    MissingArtefact,
    MissingDependency,
    StorageFailed,
)
from trtpoets.core.files import read_json
from trtpoets.core.types import BatchRange, Engine, Flavour, OnnxModel, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.engine import (
    current_engine,
    default_flavour,
    engine_from_onnx,
    engine_key,
    flavour_available,
    load_engine,
)
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu

SEGFAULTS = SHARED / "examples" / "segfaults"


def copied(engine: Engine, folder: Path) -> Path:
    path = folder / "tiny" / engine.path.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(engine.path.read_bytes())
    card_of(path).write_bytes(card_of(engine.path).read_bytes())
    return path


# Files that a bundle's manifest lists


def test_a_device_without_onnx_builds_files_of_a_manifest(
    child: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child("ok")
    model = tiny_onnx(tmp_path / "tiny" / "int8.onnx", Precision.INT8)
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "onnx.py").write_text("raise ImportError('no onnx here', name='onnx')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "without"))  # the child's path is ours
    out = tmp_path / "tiny" / "int8.tensorrt.engine"
    with raises(MissingDependency, "TP1050", "onnx"):
        engine_from_onnx(model, TENSORRT, out)
    sha256 = hashlib.sha256(model.path.read_bytes()).hexdigest()
    engine = engine_from_onnx(model, TENSORRT, out, manifest_sha256=sha256)
    assert (engine.card.calibration_hash, engine.card.onnx_sha256) == ("c" * 64, sha256)
    with raises(BadArtefact, "TP4010"):
        engine_from_onnx(model, TENSORRT, out, manifest_sha256="0" * 64)


# Real builds


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(Precision.FP32, marks=pytest.mark.slow),
        pytest.param(Precision.FP16, marks=pytest.mark.slow),
        Precision.INT8,
    ],
)
def test_every_precision_builds(rtx: None, tmp_path: Path, precision: Precision) -> None:
    import tensorrt_rtx

    model = tiny_onnx(tmp_path / "tiny" / f"{precision.value}.onnx", precision)
    out = tmp_path / "tiny" / f"{precision.value}.rtx.engine"
    seen: list[tuple[str, int, int]] = []
    config = EngineConfig(Flavour.RTX, batch=BatchRange(1, 2, 4), workspace_mib=64)
    engine = engine_from_onnx(model, config, out, progress=lambda *step: seen.append(step))
    card = engine.card
    assert (card.flavour, card.precision, card.tensorrt_version) == (Flavour.RTX, precision, tensorrt_rtx.__version__)
    assert card.targets == ("sm80+",)
    assert (card.batch, card.workspace_mib, card.spec) == (BatchRange(1, 2, 4), 64, tiny_spec())
    assert card.preprocess_hash == tiny_spec().preprocess.hash
    assert card.calibration_hash == ("c" * 64 if precision is Precision.INT8 else None)
    assert card.engine_bytes == out.stat().st_size > 1000
    assert 0 < card.build_seconds < 60
    assert load_engine(out) == engine == current_engine(model, config, out)
    assert only(out.parent) == {model.path.name, out.name, card_of(out).name}
    task = f"build tiny/{out.name}"
    assert seen[0] == (task, 0, 1000) and seen[-1] == (task, 1000, 1000)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_errors_of_the_compiler_are_reported(rtx: None, model: OnnxModel, out: Path) -> None:
    reason = "Cannot compile operation 'head' for Turing (SM75): FP32 GEMM is not supported"
    with raises(BuildFailed, "TP4050", "fp32", "sm75", reason) as caught:
        engine_from_onnx(model, replace(RTX, targets=("sm75",)), out)
    assert caught.value.hint == "leave sm75 out of --target, or build with --precision fp16 for it"
    assert only(out.parent) == {"fp32.onnx"}


@pytest.mark.slow  # two builds
def test_builds_are_reproducible(rtx: None, model: OnnxModel, built: Engine, out: Path) -> None:
    assert engine_from_onnx(model, RTX, out).card.engine_sha256 == built.card.engine_sha256


def test_nothing_is_rebuilt_that_is_up_to_date(built: Engine, tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "fp32.onnx")
    path = copied(built, tmp_path)
    assert current_engine(model, RTX, path) == Engine(path, built.card)
    assert current_engine(model, replace(RTX, timeout_seconds=9.0), path) is not None
    others = [
        replace(RTX, batch=BatchRange(1, 1, 1)),
        replace(RTX, workspace_mib=512),
        replace(RTX, targets=("sm86",)),
        replace(RTX, optimization_level=5),
    ]
    assert [current_engine(model, other, path) for other in others] == [None] * 4
    assert len({engine_key(model, config) for config in [RTX, *others]}) == 5
    assert current_engine(tiny_onnx(tmp_path / "fp32.onnx", Precision.FP16), RTX, path) is None
    assert engine_key(model, replace(RTX, targets=("sm86", "sm80"))) == engine_key(
        model, replace(RTX, targets=("SM80", "sm86", "sm86"))
    )


@pytest.mark.slow  # test_build_plan.py refuses other batches
def test_a_static_batch(rtx: None, tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx", batch=4)
    with raises(BadInput, "TP4056", "4", "1:8:32") as caught:
        engine_from_onnx(model, RTX, tmp_path / "a.engine")
    assert caught.value.hint == "give --batch 4:4:4"
    engine = engine_from_onnx(model, replace(RTX, batch=BatchRange(4, 4, 4)), tmp_path / "a.engine")
    assert engine.card.batch == BatchRange(4, 4, 4)


def test_paths_of_any_bytes(rtx: None, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 'photos' \xf0\x9f\x8c\xb8")
    engine = engine_from_onnx(tiny_onnx(folder / "x.onnx"), RTX, folder / "x.engine")
    assert load_engine(folder / "x.engine") == engine


# ONNX files that are not whole


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 3))])
def test_files_that_crash_the_parser_never_reach_it(rtx: None, out: Path, model: OnnxModel, number: int) -> None:
    if not SEGFAULTS.is_dir():
        pytest.skip("the files that crash the parser are in the folder shared, which is absent")
    path = sorted(SEGFAULTS.glob("*.onnx"))[number]
    with raises(BadArtefact, "TP1038", path):
        engine_from_onnx(replace(model, path=path), RTX, out)
    assert only(out.parent) == {"fp32.onnx"}


def test_a_truncated_file(rtx: None, model: OnnxModel, out: Path) -> None:
    model.path.write_bytes(model.path.read_bytes()[:-200])
    with raises(BadArtefact, "TP1049"):
        engine_from_onnx(model, RTX, out)


def test_a_missing_file(rtx: None, model: OnnxModel, out: Path) -> None:
    model.path.unlink()
    with pytest.raises(MissingArtefact) as caught:
        engine_from_onnx(model, RTX, out)
    assert caught.value.hint == "make it: trtpoets quantize NAME"


def test_a_file_that_says_something_else(rtx: None, model: OnnxModel, out: Path) -> None:
    with raises(BadArtefact, "TP4003", "tiny", "fp32", "int8"):
        engine_from_onnx(replace(model, precision=Precision.INT8), RTX, out)
    with raises(BadArtefact, "TP4003"):
        engine_from_onnx(replace(model, spec=tiny_spec(offset=0.0)), RTX, out)


def test_a_network_whose_photos_are_not_its_models(rtx: None, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    from trtpoets.core.onnx_file import PRECISION_KEY, SPEC_KEY

    graph = tiny_graph()
    helper.set_model_props(graph, {SPEC_KEY: tiny_spec(side=20).to_json(), PRECISION_KEY: "fp32"})
    onnx.save(graph, str(tmp_path / "x.onnx"))
    with raises(BadArtefact, "TP4055", "[16, 16, 3]", "[20, 20, 3]"):
        engine_from_onnx(OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec(side=20)), RTX, tmp_path / "x.engine")


@pytest.mark.slow  # test_errors_of_the_compiler_are_reported is alike
def test_an_unknown_operator(rtx: None, tmp_path: Path) -> None:
    """The ONNX checker accepts other domains; the parser names the node."""
    import onnx
    from onnx import helper

    graph = tiny_graph()
    relu = next(node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain, relu.name = "Frobnicate", "com.example", "middle"
    graph.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(graph, str(tmp_path / "x.onnx"))
    with raises(BuildFailed, "TP4051", "node 'middle' (Frobnicate): ", "Plugin not found") as caught:
        engine_from_onnx(OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec()), RTX, tmp_path / "x.engine")
    assert "\n" not in caught.value.message


# Cards


def test_loading_needs_the_engine_and_its_card(built: Engine, tmp_path: Path) -> None:
    path = copied(built, tmp_path)
    card_of(path).unlink()
    with raises(MissingArtefact, "TP4012", card_of(path)) as caught:
        load_engine(path)
    assert caught.value.hint.startswith("build it again on this machine: trtpoets build tiny --force --engines /")
    path.unlink()
    with raises(MissingArtefact, "TP4012", "fp32.rtx.engine"):
        load_engine(path)


def test_an_edited_card(built: Engine, tmp_path: Path) -> None:
    path = copied(built, tmp_path)
    card = card_of(path)
    card.write_text(card.read_text().replace('"fp32"', '"fp16"'))
    with raises(BadArtefact, "TP1099"):
        load_engine(path)


@pytest.mark.parametrize("position", [0, 40, -1])
def test_one_byte_of_the_engine(built: Engine, tmp_path: Path, position: int) -> None:
    path = copied(built, tmp_path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with raises(BadArtefact, "TP4013", path):
        load_engine(path)


def test_a_card_of_another_preprocess(built: Engine, tmp_path: Path) -> None:
    path = copied(built, tmp_path)
    details = read_json(card_of(path))["details"]
    details["spec"]["preprocess"]["offset"] = [0.0, 0.0, 0.0]
    seal_card(card_of(path), key="k", files=[path], details=details)
    with raises(BadArtefact, "TP4015", path, details["preprocess_hash"][:12]):
        load_engine(path)


@pytest.mark.parametrize("field", ["flavour", "spec", "batch", "engine_bytes"])
def test_a_card_of_another_version(built: Engine, tmp_path: Path, field: str) -> None:
    path = copied(built, tmp_path)
    details = read_json(card_of(path))["details"]
    del details[field]
    seal_card(card_of(path), key="k", files=[path], details=details)
    with raises(BadArtefact, "TP4014"):
        load_engine(path)


# Builds by a fake TensorRT


def test_a_build_by_tensorrt(child: Any, model: OnnxModel, out: Path) -> None:
    child("noisy")
    engine = engine_from_onnx(model, TENSORRT, out)
    assert out.read_bytes() == b"engine of a fake"
    card = engine.card
    assert (card.targets, card.gpu, card.compute_capability) == (("sm86",), "Paper GPU", "8.6")
    assert (card.cuda_version, card.tensorrt_version) == ("12.6", "10.3")
    assert load_engine(out) == engine


def test_tensorrt_takes_no_targets(child: Any, model: OnnxModel, out: Path) -> None:
    child("ok")
    with raises(BadInput, "TP4027", "TensorRT 10.3", "--target sm86"):
        engine_from_onnx(model, replace(TENSORRT, targets=("sm86",)), out)


def test_a_folder_that_may_not_be_written(rtx: None, model: OnnxModel) -> None:
    with raises(StorageFailed, "TP1085", "write", "/sys/kernel/engines/x.engine") as caught:
        engine_from_onnx(model, RTX, Path("/sys/kernel/engines/x.engine"))  # takes no folder from anyone, root included
    assert caught.value.hint == "choose a folder that you may write to with --engines DIR"


# Which flavour


def test_flavours_without_a_gpu(rtx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert flavour_available(Flavour.RTX) is None
    reason = flavour_available(Flavour.TENSORRT)
    assert reason is not None and reason.startswith("tensorrt is needed for building or running tensorrt engines")
    assert default_flavour() is Flavour.RTX
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependency) as caught:
        default_flavour()
    assert caught.value.hint == "pip install 'trtpoets[rtx]'"


def test_tensorrt_needs_a_gpu_too(child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    child("ok")
    assert flavour_available(Flavour.TENSORRT) is None and default_flavour() is Flavour.TENSORRT

    def none() -> tuple[Gpu, ...]:
        raise BuildFailed("the NVIDIA driver finds no GPU")

    monkeypatch.setattr(libcuda, "gpus", none)
    assert flavour_available(Flavour.TENSORRT) == "the NVIDIA driver finds no GPU"


def test_the_card_is_json_for_people(built: Engine) -> None:
    card = json.loads(card_of(built.path).read_text())
    assert card["details"]["spec"]["labels"] == ["ant", "bee", "cow"]
    assert card["details"]["targets"] == ["sm80+"]
