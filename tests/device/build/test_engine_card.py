"""The card is checked before an engine is loaded; an engine without a matching card needs trust."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu
from tests.support.errors import raises
from tests.support.foreign_engines import a_photo, foreign, record_runtime
from tests.support.tiny import tiny_onnx, tiny_spec
from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.types import Engine, Flavour
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build import engine as engine_module
from trtpoets.device.build import timing_cache
from trtpoets.device.build.engine import load_engine
from trtpoets.device.build.engine_card import check_fits, runs_on
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.timing_cache import load_timing_cache, save_timing_cache
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.runners import open_runner
from trtpoets.device.tensorrt_api import TensorRt


def fits(engine: Engine, gpu: Gpu, version: str = "10.3.0", flavour: Flavour = Flavour.TENSORRT) -> None:
    check_fits(engine.card, TensorRt(flavour, None, version), gpu, engine.path)


PAPER = Gpu("Paper GPU", (8, 6), 8 << 30)


@pytest.mark.parametrize(
    ("built", "here", "same_only", "compatible"),
    [
        ("10.3.0", "10.3.0", True, True),
        ("10.3.0", "10.3.0.26", True, True),  # a header has four numbers, some libraries tell three
        ("10.3.0.26", "10.3.0", True, True),
        ("10.3.0.26", "10.3.0.30", False, True),
        ("10.3.0", "10.13.3", False, True),
        ("10.13.3", "10.3.0", False, False),
        ("8.6.1", "10.3.0", False, True),
        ("8.5.2", "8.6.1", False, False),
        ("8.5.2", "10.3.0", False, False),
        ("8.6.1", "8.6.2", False, True),
        ("10.16.2", "11.0.0", False, True),
        ("11.0.0", "11.4.1", False, True),
        ("11.0.0", "10.16.2", False, False),
        ("8.6.1", "11.0.0", False, False),
        ("11.4.1", "12.0.0", False, False),
        ("10", "10", False, False),
        ("", "10.3.0", False, False),
    ],
)
def test_which_versions_run_an_engine(tmp_path: Path, built: str, here: str, same_only: bool, compatible: bool) -> None:
    card = replace(paper_engine(tmp_path).card, tensorrt_version=built)
    assert runs_on(card, here) is same_only
    assert runs_on(replace(card, version_compatible=True), here) is compatible
    assert runs_on(replace(card, flavour=Flavour.RTX, version_compatible=True), here) is same_only


def test_the_flavour_counts(tmp_path: Path) -> None:
    with raises(RunFailed, "TP4016", "tensorrt", "10.3.0", "TensorRT-RTX 10.3.0"):
        fits(paper_engine(tmp_path), PAPER, flavour=Flavour.RTX)


@pytest.mark.parametrize(
    ("targets", "capability", "good"),
    [
        (("sm86",), (8, 6), True),
        (("sm86",), (8, 9), False),
        (("sm80+",), (12, 0), True),
        (("sm80+",), (7, 5), False),
        (("sm110",), (11, 0), True),
        (("sm101",), (11, 0), True),  # Thor, before and after CUDA 13 renamed it
        (("sm110",), (10, 1), True),
        (("sm100",), (10, 1), False),
    ],
)
def test_which_gpus_run_an_engine(
    tmp_path: Path, targets: tuple[str, ...], capability: tuple[int, int], good: bool
) -> None:
    engine, gpu = paper_engine(tmp_path, targets=targets), replace(PAPER, compute_capability=capability)
    if good:
        fits(engine, gpu)
        return
    with raises(RunFailed, "TP4018", targets[0], f"Paper GPU is {gpu.target}") as caught:
        fits(engine, gpu)
    assert caught.value.hint.startswith("build it again on this machine: trtpoets build tiny --force --engines /")


def test_another_model_of_the_same_capability_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = paper_engine(tmp_path)
    fits(engine, PAPER)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        fits(engine, replace(PAPER, name="Cardboard GPU"))
    assert "was tuned for Paper GPU, but this is Cardboard GPU" in caplog.text


AGX = Gpu("Orin", (8, 7), int(61.4 * 2**30), 16, True, "NVIDIA Jetson AGX Orin Developer Kit")
NX = Gpu("Orin", (8, 7), int(15.3 * 2**30), 8, True, "NVIDIA Jetson Orin NX Engineering Reference Developer Kit")
NANO = Gpu("Orin", (8, 7), int(7.4 * 2**30), 8, True, "NVIDIA Jetson Orin Nano Developer Kit Super")
THOR = Gpu("NVIDIA Thor", (11, 0), int(122.8 * 2**30), 20, True, "NVIDIA Jetson AGX Thor Developer Kit")
"""SMs and memory by NVIDIA's data sheets (128 CUDA cores an SM), models as their device trees have them."""


def engine_on(folder: Path, gpu: Gpu, **changes: Any) -> Engine:
    values = {"multiprocessors": gpu.multiprocessors, "memory_gib": gpu.memory_gib, "board": gpu.board, **changes}
    return paper_engine(folder, gpu=gpu.name, targets=(gpu.target,), **values)


@pytest.mark.parametrize(
    ("built", "here", "changes", "refused"),
    [
        (AGX, AGX, {}, ""),
        (AGX, NANO, {}, "16 SMs, 64 GiB, NVIDIA Jetson AGX Orin Developer Kit"),
        (NANO, AGX, {}, "8 SMs, 8 GiB, NVIDIA Jetson Orin Nano"),
        (NX, NANO, {}, "8 SMs, 16 GiB, NVIDIA Jetson Orin NX"),  # as many SMs
        (AGX, replace(NANO, board=None), {}, "16 SMs"),  # in a container
        (AGX, replace(NANO, multiprocessors=None), {}, "AGX Orin"),
        (AGX, replace(AGX, multiprocessors=14), {}, "16 SMs"),  # the AGX Orin 32GB
        (THOR, replace(THOR, multiprocessors=12), {}, "20 SMs"),  # the T4000
        (AGX, NANO, {"multiprocessors": None, "board": None, "memory_gib": None}, ""),
        (AGX, replace(NANO, board="Carrier of another maker", multiprocessors=None), {}, ""),
    ],
)
def test_an_engine_of_another_jetson_is_refused(
    tmp_path: Path, built: Gpu, here: Gpu, changes: dict[str, Any], refused: str
) -> None:
    engine = engine_on(tmp_path, built, **changes)
    if not refused:
        fits(engine, here)
        return
    with raises(RunFailed, "TP4019", f"{built.name} (", refused) as caught:
        fits(engine, here)
    assert caught.value.hint.startswith("build it again on this machine: ")


def test_a_card_that_does_not_tell_the_module(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cards of earlier versions do not have these fields: they are readable, and unknown values are reported."""
    engine = engine_on(tmp_path, AGX)
    details = asdict(engine.card)
    for field in ("multiprocessors", "memory_gib", "board"):
        del details[field]
    seal_card(card_of(engine.path), key="k", files=[engine.path], details=details)
    old = load_engine(engine.path)
    assert (old.card.multiprocessors, old.card.memory_gib, old.card.board) == (None, None, None)
    with caplog.at_level(logging.WARNING):
        fits(old, NANO)
    assert "does not name the Jetson it was built on" in caplog.text
    caplog.clear()
    fits(replace(old, card=replace(old.card, gpu="Paper GPU", targets=("sm86",))), PAPER)
    assert not caplog.records


def test_small_differences_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fits(engine_on(tmp_path, NX), replace(NX, memory_bytes=int(7.4 * 2**30)))
        assert "16 GiB" in caplog.text and "8 GiB" in caplog.text
        caplog.clear()
        fits(engine_on(tmp_path, PAPER, multiprocessors=68), replace(PAPER, multiprocessors=70))
    assert "was tuned for Paper GPU (68 SMs, 8 GiB), but this is Paper GPU (70 SMs, 8 GiB)" in caplog.text


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (NANO, False),
        (NX, False),
        (replace(AGX, multiprocessors=14), False),
        (replace(AGX, memory_bytes=60 << 30), True),
    ],
)
def test_keys_tell_modules_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Gpu, same: bool) -> None:
    library = TensorRt(Flavour.TENSORRT, None, "10.3.0")
    monkeypatch.setattr(engine_module, "load_tensorrt", lambda flavour: library)
    model, config = tiny_onnx(tmp_path / "fp32.onnx"), EngineConfig(flavour=Flavour.TENSORRT)
    keys = []
    for gpu in (AGX, other):
        monkeypatch.setattr(libcuda, "gpus", lambda gpu=gpu: (gpu,))
        keys.append((engine_module.engine_key(model, config), timing_cache._key(library, gpu)))
    assert (keys[0][0] == keys[1][0], keys[0][1] == keys[1][1]) == (same, same)
    save_timing_cache(tmp_path / "x.timing-cache", b"timings", library, AGX)
    assert load_timing_cache(tmp_path / "x.timing-cache", library, AGX) == b"timings"
    assert load_timing_cache(tmp_path / "x.timing-cache", library, other) == (b"timings" if same else b"")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("targets", ["smxx+"]),
        ("targets", [86]),
        ("targets", 5),
        ("tensorrt_version", 10),
        ("platform", None),
        ("engine_sha256", 1),
        ("batch", [1, 2, 3]),
        ("spec", "x"),
        ("nonsense", 1),
        ("build_seconds", "soon"),
        ("gpu", 5),
        ("version_compatible", "yes"),
        ("dla_core", "one"),
        ("multiprocessors", "many"),
        ("board", 5),
        ("layers", {"layers": {}, "counts": {"int8": 1}, "shares": {}}),
        ("layers", {"layers": {}, "counts": {"int8": "1"}, "shares": {"int8": 1.0}}),
    ],
)
def test_a_sealed_card_of_nonsense(tmp_path: Path, field: str, value: Any) -> None:
    engine = paper_engine(tmp_path)
    details = {**asdict(engine.card), field: value}
    seal_card(card_of(engine.path), key="k", files=[engine.path], details=details)
    with raises(BadArtefact, "TP4014"):
        load_engine(engine.path)


@pytest.mark.parametrize("version_compatible", [False, True])
def test_only_version_compatible_engines_may_bring_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version_compatible: bool
) -> None:
    FakeGpu(tiny_spec()).install(monkeypatch)
    allowed = record_runtime(monkeypatch)
    with open_runner(paper_engine(tmp_path, version_compatible=version_compatible)):
        assert allowed == [(version_compatible, None)]


def test_the_core_of_a_dla_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(tiny_spec()).install(monkeypatch)
    allowed = record_runtime(monkeypatch)
    with open_runner(paper_engine(tmp_path, dla_core=1)):
        assert allowed == [(False, 1)]


# Engines of others


def test_an_engine_without_a_card_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    path = foreign(tmp_path)
    photo = a_photo(tmp_path)
    with raises(BadArtefact, "TP4042", path, card_of(path)) as caught:
        trtpoets.label(str(path), [photo])
    assert caught.value.hint == (f"show what it is: trtpoets inspect {path}; if you trust its author, add --trust")
    assert "new engine" not in gpu.journal
