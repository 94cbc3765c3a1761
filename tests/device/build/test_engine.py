"""Building engines: with the real TensorRT-RTX, and with the fake builder for crashes, hangs and old versions."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tensorrt_builder import fake_library
from tests.fakes.tensorrt_builder import log as told
from tests.support.tiny import tiny_graph, tiny_onnx, tiny_spec
from trtpoets.core.errors import (
    BadArtefact,
    BadInput,
    BuildFailed,
    MissingArtefact,
    MissingDependency,
    StorageFailed,
    TrtPoetsError,
)
from trtpoets.core.files import read_json
from trtpoets.core.types import BatchRange, Engine, Flavour, OnnxModel, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.build_progress import Phases
from trtpoets.device.build.engine import (
    current_engine,
    default_flavour,
    engine_from_onnx,
    engine_key,
    flavour_available,
    load_engine,
)
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.plan_header import rtx_targets
from trtpoets.device.build.tensorrt_build import build_engine
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.gpu import libcuda
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_messages import Messages

ROOT = Path(__file__).parents[3]
SEGFAULTS = ROOT.parent / "shared" / "examples" / "segfaults"
RTX = EngineConfig(Flavour.RTX)
TENSORRT = EngineConfig(Flavour.TENSORRT)
NO_IMPLEMENTATION = (
    "refuse: IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for "
    "node {conv}. In computeCosts at /_src/optimizer/tacticOptimizer.cpp:4040)"
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tiny" / "fp32.rtx.engine"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine that the tests of cards may copy, never change."""
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("built")
    return engine_from_onnx(tiny_onnx(folder / "fp32.onnx"), RTX, folder / "fp32.rtx.engine")


def copied(engine: Engine, folder: Path) -> Path:
    path = folder / "tiny" / engine.path.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(engine.path.read_bytes())
    card_of(path).write_bytes(card_of(engine.path).read_bytes())
    return path


def only(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Files that a bundle's manifest vouches for


def test_a_device_without_onnx_builds_what_is_vouched_for(
    child: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child("ok")
    model = tiny_onnx(tmp_path / "tiny" / "int8.onnx", Precision.INT8)
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "onnx.py").write_text("raise ImportError('no onnx here', name='onnx')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "without"))  # the child's path is ours
    out = tmp_path / "tiny" / "int8.tensorrt.engine"
    with pytest.raises(MissingDependency, match="reading ONNX files needs onnx"):
        engine_from_onnx(model, TENSORRT, out)
    sha256 = hashlib.sha256(model.path.read_bytes()).hexdigest()
    engine = engine_from_onnx(model, TENSORRT, out, vouched_sha256=sha256)
    assert (engine.card.calibration_hash, engine.card.onnx_sha256) == ("c" * 64, sha256)
    with pytest.raises(BadArtefact, match="differs from the bundle's manifest"):
        engine_from_onnx(model, TENSORRT, out, vouched_sha256="0" * 64)


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


def test_targets_are_what_was_asked_for(rtx: None, model: OnnxModel, out: Path) -> None:
    engine = engine_from_onnx(model, replace(RTX, targets=("sm89", "SM86", "sm86")), out)
    assert engine.card.targets == ("sm86", "sm89")
    assert rtx_targets(out) == ("sm86", "sm89")


def test_errors_of_the_compiler_are_reported(rtx: None, model: OnnxModel, out: Path) -> None:
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, replace(RTX, targets=("sm75",)), out)
    assert caught.value.message.endswith(
        "could not build the fp32 engine for sm75: "
        "Cannot compile operation 'head' for Turing (SM75): FP32 GEMM is not supported"
    )
    assert caught.value.hint == "leave sm75 out of --target, or build --precision fp16 for it"
    assert only(out.parent) == {"fp32.onnx"}


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


def test_a_static_batch(rtx: None, tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx", batch=4)
    with pytest.raises(BadInput) as caught:
        engine_from_onnx(model, RTX, tmp_path / "a.engine")
    assert caught.value.message == "the network has the fixed batch size 4, not 1:8:32"
    assert caught.value.hint == "--batch 4:4:4"
    engine = engine_from_onnx(model, replace(RTX, batch=BatchRange(4, 4, 4)), tmp_path / "a.engine")
    assert engine.card.batch == BatchRange(4, 4, 4)


def test_paths_of_any_bytes(rtx: None, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 'photos' \xf0\x9f\x8c\xb8")
    engine = engine_from_onnx(tiny_onnx(folder / "x.onnx"), RTX, folder / "x.engine")
    assert load_engine(folder / "x.engine") == engine


# Configs that can't be met


@pytest.mark.parametrize(
    ("changes", "text", "hint"),
    [
        (
            {"batch": BatchRange(4, 2, 8)},
            "the batch sizes 4:2:8 must be at least 1 and in ascending order",
            "--batch 1:8:32",
        ),
        (
            {"batch": BatchRange(1, 9, 8)},
            "the batch sizes 1:9:8 must be at least 1 and in ascending order",
            "--batch 1:8:32",
        ),
        (
            {"batch": BatchRange(0, 1, 1)},
            "the batch sizes 0:1:1 must be at least 1 and in ascending order",
            "--batch 1:8:32",
        ),
        ({"workspace_mib": 15}, "the workspace must be at least 16 MiB, not 15", "--workspace"),
        ({"timeout_seconds": 0.0}, "the timeout must be more than 0 seconds, not 0.0", "--timeout 600"),
        ({"timeout_seconds": float("nan")}, "the timeout must be more than 0 seconds, not nan", "--timeout 600"),
        (
            {"optimization_level": 6},
            "the optimisation level must be 0 (quick build) to 5 (fast engine), not 6",
            "--optimization-level",
        ),
        ({"targets": ("sm87", "sm86")}, "has no target sm87", "it has sm75, sm80, sm86, sm89, sm120, sm121"),
        ({"targets": ("sm90",)}, "has no target sm90", "it has sm75"),
        ({"targets": ("current",)}, "has no target current", "it has sm75"),
    ],
)
def test_configs_that_cant_be_met(
    rtx: None, model: OnnxModel, out: Path, changes: dict[str, Any], text: str, hint: str
) -> None:
    with pytest.raises(BadInput) as caught:
        engine_from_onnx(model, replace(RTX, **changes), out)
    assert text in caught.value.message and hint in caught.value.hint
    assert only(out.parent) == {"fp32.onnx"}


def test_the_least_workspace_builds(rtx: None, model: OnnxModel, out: Path) -> None:
    assert engine_from_onnx(model, replace(RTX, workspace_mib=16), out).card.workspace_mib == 16


# ONNX files that are not whole


@pytest.mark.parametrize("number", range(4))
def test_files_that_crash_the_parser_never_reach_it(rtx: None, out: Path, model: OnnxModel, number: int) -> None:
    if not SEGFAULTS.is_dir():
        pytest.skip("the files that crash the parser are in ../shared, which is not here")
    path = sorted(SEGFAULTS.glob("*.onnx"))[number]
    with pytest.raises(BadArtefact, match="is not a valid ONNX file"):
        engine_from_onnx(replace(model, path=path), RTX, out)
    assert only(out.parent) == {"fp32.onnx"}


def test_a_truncated_file(rtx: None, model: OnnxModel, out: Path) -> None:
    model.path.write_bytes(model.path.read_bytes()[:-200])
    with pytest.raises(BadArtefact, match="is not a valid ONNX file"):
        engine_from_onnx(model, RTX, out)


def test_a_missing_file(rtx: None, model: OnnxModel, out: Path) -> None:
    model.path.unlink()
    with pytest.raises(MissingArtefact) as caught:
        engine_from_onnx(model, RTX, out)
    assert caught.value.hint == "make it: trtpoets quantize NAME"


def test_a_file_that_says_something_else(rtx: None, model: OnnxModel, out: Path) -> None:
    with pytest.raises(BadArtefact, match="contains tiny in fp32, not tiny in int8"):
        engine_from_onnx(replace(model, precision=Precision.INT8), RTX, out)
    with pytest.raises(BadArtefact, match="or has another preprocessing"):
        engine_from_onnx(replace(model, spec=tiny_spec(offset=0.0)), RTX, out)


def test_a_network_whose_photos_are_not_its_models(rtx: None, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    from trtpoets.core.onnx_file import PRECISION_KEY, SPEC_KEY

    graph = tiny_graph()
    helper.set_model_props(graph, {SPEC_KEY: tiny_spec(side=20).to_json(), PRECISION_KEY: "fp32"})
    onnx.save(graph, str(tmp_path / "x.onnx"))
    with pytest.raises(BadArtefact, match=r"the network is \[16, 16, 3\], but its model.json has \[20, 20, 3\]"):
        engine_from_onnx(OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec(side=20)), RTX, tmp_path / "x.engine")


def test_an_operator_that_nobody_has(rtx: None, tmp_path: Path) -> None:
    """The ONNX checker accepts other domains; the parser names the node."""
    import onnx
    from onnx import helper

    graph = tiny_graph()
    relu = next(node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain, relu.name = "Frobnicate", "com.example", "middle"
    graph.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(graph, str(tmp_path / "x.onnx"))
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec()), RTX, tmp_path / "x.engine")
    assert "can't parse the network: node 'middle' (Frobnicate): " in caught.value.message
    assert "Plugin not found" in caught.value.message and "\n" not in caught.value.message


# Cards


def test_loading_needs_the_engine_and_its_card(built: Engine, tmp_path: Path) -> None:
    path = copied(built, tmp_path)
    card_of(path).unlink()
    with pytest.raises(MissingArtefact) as caught:
        load_engine(path)
    assert caught.value.message == f"{card_of(path)} is not there"
    assert caught.value.hint.startswith("build it again on this machine: trtpoets build tiny --force --engines /")
    path.unlink()
    with pytest.raises(MissingArtefact, match=r"fp32\.rtx\.engine is not there"):
        load_engine(path)


def test_an_edited_card(built: Engine, tmp_path: Path) -> None:
    path = copied(built, tmp_path)
    card = card_of(path)
    card.write_text(card.read_text().replace('"fp32"', '"fp16"'))
    with pytest.raises(BadArtefact, match="was edited or damaged: its seal does not match its content"):
        load_engine(path)


@pytest.mark.parametrize("position", [0, 40, -1])
def test_one_byte_of_the_engine(built: Engine, tmp_path: Path, position: int) -> None:
    path = copied(built, tmp_path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadArtefact) as caught:
        load_engine(path)
    assert caught.value.message == (
        f"{path} is not the engine that its card describes: the file was changed or damaged"
    )


def test_a_card_of_another_preprocess(built: Engine, tmp_path: Path) -> None:
    path = copied(built, tmp_path)
    details = read_json(card_of(path))["details"]
    details["spec"]["preprocess"]["offset"] = [0.0, 0.0, 0.0]
    seal_card(card_of(path), key="k", files=[path], details=details)
    with pytest.raises(BadArtefact, match=r"was built for the preprocessing .{12}, but its model has"):
        load_engine(path)


@pytest.mark.parametrize("field", ["flavour", "spec", "batch", "engine_bytes"])
def test_a_card_of_another_version(built: Engine, tmp_path: Path, field: str) -> None:
    path = copied(built, tmp_path)
    details = read_json(card_of(path))["details"]
    del details[field]
    seal_card(card_of(path), key="k", files=[path], details=details)
    with pytest.raises(BadArtefact, match="was written by another version of trtpoets"):
        load_engine(path)


def test_headers_that_are_not_known_say_nothing(built: Engine, tmp_path: Path) -> None:
    content = built.path.read_bytes()
    for number, other in enumerate(
        [b"", content[:63], content[:-1], b"ftrt" + content[4:], content[:32] + b"\xff" * 32]
    ):
        path = tmp_path / str(number)
        path.write_bytes(other)
        assert rtx_targets(path) == ()


# What happens to the child


def alive(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(pid_file: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not (pid_file.is_file() and pid_file.read_text()):
        assert time.monotonic() < deadline, "the child never began to build"
        time.sleep(0.02)


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
    with pytest.raises(BadInput) as caught:
        engine_from_onnx(model, replace(TENSORRT, targets=("sm86",)), out)
    assert caught.value.message == (
        "TensorRT 10.3 builds only for the GPU of this machine, so --target sm86 is not possible"
    )


@pytest.mark.parametrize(
    ("behaviour", "text", "hint"),
    [
        ("segfault", "the build process was ended by SIGSEGV", "report it with the ONNX file"),
        (
            "exit",
            "the build process was ended by its library, with code 3; its last output was: fatal: no",
            "report it",
        ),
        ("killed", "the build process was killed or ran out of memory (SIGKILL)", "free some memory"),
        ("out of memory", "the build process was killed or ran out of memory (SIGABRT)", "free some memory"),
        ("no driver", "can't build here: no usable CUDA driver (it gave no reason)", "--flavour rtx"),
        (
            NO_IMPLEMENTATION,
            "could not build the fp32 engine: Could not find any implementation for node {conv}",
            "report this with the file",
        ),
        (
            "refuse: [tactic.cpp::get::12] Error Code 2: OutOfMemory (Requested size was 99 bytes.)",
            "engine: out of memory: Requested size was 99 bytes",
            "free some memory",
        ),
        ("refuse: Error Code 1: Cuda Runtime (out of memory)", "engine: out of memory", "free some memory"),
    ],
    ids=["segfault", "exit", "killed", "bad_alloc", "no driver", "no implementation", "bytes", "cuda memory"],
)
def test_failures_of_the_child_are_reported(
    child: Any, model: OnnxModel, out: Path, behaviour: str, text: str, hint: str
) -> None:
    child(behaviour)
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, TENSORRT, out)
    assert text in caught.value.message and hint in caught.value.hint
    assert "\n" not in caught.value.message and "File " not in caught.value.message
    assert only(out.parent) == {"fp32.onnx"}, "nothing may be left half done"


def test_a_bug_keeps_its_traceback(child: Any, model: OnnxModel, out: Path) -> None:
    child("bug")
    with pytest.raises(RuntimeError, match=r"(?s)met a bug of trtpoets.*tensorrt_builder.*ValueError: a wrong turn"):
        engine_from_onnx(model, TENSORRT, out)


def test_a_library_that_fails_to_load_only_in_the_child(child: Any, model: OnnxModel, out: Path) -> None:
    child("ok")
    engine_key(model, TENSORRT)  # the parent has it loaded
    (out.parent.parent / "site" / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: no such file')")
    with pytest.raises(MissingDependency, match=r"libnvinfer\.so\.10: no such file"):
        engine_from_onnx(model, TENSORRT, out)


@pytest.mark.parametrize("behaviour", ["slow", "deaf"])
def test_a_timeout_cancels(
    child: Any, model: OnnxModel, out: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.device.build.build_process._GRACE_SECONDS", 1.0)
    pid_file = child(behaviour)
    begun = time.monotonic()
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, replace(TENSORRT, timeout_seconds=1.5), out)
    assert caught.value.message == "build tiny/fp32.rtx.engine took longer than 1.5 seconds and was cancelled"
    assert time.monotonic() - begun < 10
    assert not alive(pid_file) and only(out.parent) == {"fp32.onnx"}


def test_ctrl_c_cancels(child: Any, model: OnnxModel, out: Path) -> None:
    pid_file = child("slow")

    def interrupt() -> None:
        wait_for(pid_file)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(model, TENSORRT, out)
    thread.join()
    assert time.monotonic() - begun < 10
    assert not alive(pid_file) and only(out.parent) == {"fp32.onnx"}


def test_a_killed_parent_takes_its_child_along(child: Any, model: OnnxModel, out: Path) -> None:
    pid_file = child("deaf")
    program = f"""
        import sys
        sys.path[:0] = [{str(out.parent.parent / "site")!r}, {str(ROOT)!r}]
        from pathlib import Path
        from tests.support.tiny import tiny_spec
        from trtpoets.core.types import Flavour, OnnxModel, Precision
        from trtpoets.device.gpu import libcuda
        from trtpoets.device.build.engine import EngineConfig, engine_from_onnx
        libcuda.gpus = lambda: (libcuda.Gpu("Paper GPU", (8, 6), 8 << 30),)
        model = OnnxModel(Path({str(model.path)!r}), Precision.FP32, tiny_spec())
        engine_from_onnx(model, EngineConfig(Flavour.TENSORRT), Path({str(out)!r}))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    wait_for(pid_file)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while alive(pid_file):
        assert time.monotonic() < deadline, "the child lives on without its parent"
        time.sleep(0.05)


def test_a_build_that_hangs_is_ended(child: Any, model: OnnxModel, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.device.build.build_process._GRACE_SECONDS", 0.5)
    monkeypatch.setattr("trtpoets.device.build.build_process._CHECK_SECONDS", 0.1)
    monkeypatch.setattr("trtpoets.device.build.build_process._STALL_SECONDS", 1.5)
    pid_file = child("deaf")
    with pytest.raises(BuildFailed) as caught:
        engine_from_onnx(model, TENSORRT, out)
    assert caught.value.message == "build tiny/fp32.rtx.engine used no CPU time for 1.5 seconds and was ended"
    assert not alive(pid_file) and only(out.parent) == {"fp32.onnx"}


@pytest.mark.slow
def test_memory_that_runs_out(
    rtx: None, model: OnnxModel, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory, the real TensorRT-RTX does not load, refuses, crashes or hangs; each is reported."""
    python, shell = sys.executable, tmp_path / "python"
    outcomes = []
    for megabytes in (350, 450, 475, 500, 525, 550, 600, 4000):
        shell.write_text(f'#!/bin/sh\nulimit -v {megabytes * 1000}\nexec {python} "$@"\n')
        shell.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(shell))
        try:
            engine_from_onnx(model, replace(RTX, timeout_seconds=10.0), out)
        except TrtPoetsError as error:
            outcomes.append(f"{type(error).__name__}: {error.message} ({error.hint})")
            assert only(out.parent) == {"fp32.onnx"}
        else:
            outcomes.append("built")
    assert outcomes[-1] == "built"
    assert any(outcome.startswith("BuildFailed") and "memory" in outcome for outcome in outcomes), outcomes


def test_a_folder_that_may_not_be_written(rtx: None, model: OnnxModel) -> None:
    with pytest.raises(StorageFailed, match=r"can't write /sys/kernel/engines/x\.engine") as caught:
        engine_from_onnx(model, RTX, Path("/sys/kernel/engines/x.engine"))  # takes no folder from anyone, root included
    assert caught.value.hint == "choose a folder that you may write to: --engines DIR"


def test_a_full_disk(rtx: None, model: OnnxModel, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        with pytest.raises(StorageFailed, match="No space left on device") as caught:
            engine_from_onnx(model, RTX, disk / "x.engine")
        assert "free some space" in caught.value.hint
        assert only(disk) == set()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_current_folder_does_not_reach_the_child(
    rtx: None, model: OnnxModel, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "onnx.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert engine_from_onnx(model, RTX, out).card.engine_bytes > 0


# The builder of each kind of TensorRT, in this process


def request(precision: Precision, level: int | None = None) -> BuildRequest:
    return BuildRequest(precision, 16, 16, BatchRange(1, 2, 4), (), 1 << 28, level)


@pytest.mark.parametrize(
    ("version", "precision", "network", "flags"),
    [
        ("8.6", Precision.FP32, 0b1, None),
        ("8.6", Precision.FP16, 0b1, ["FP16"]),
        ("8.6", Precision.INT8, 0b1, ["INT8", "FP16"]),
        ("10.3", Precision.FP16, 0b11, None),
        ("10.3", Precision.INT8, 0b1, ["INT8", "FP16"]),
        ("10.16", Precision.INT8, 0b1, ["INT8", "FP16"]),
        ("11.0", Precision.INT8, 0b1, None),
    ],
)
def test_each_version_gets_its_own_flags(
    version: str, precision: Precision, network: int, flags: list[str] | None
) -> None:
    steps: list[float] = []

    def step(fraction: float) -> bool:
        steps.append(fraction)
        return True

    content = tiny_graph(precision).SerializeToString()
    built = build_engine(fake_library(version), content, request(precision), step, Messages())
    assert built.engine == b"engine of a fake"
    assert told["network"] == network and told.get("flags") == flags
    assert told["workspace"] == 1 << 28
    assert told["shapes"] == ("photos", (1, 16, 16, 3), (2, 16, 16, 3), (4, 16, 16, 3))
    assert steps == ([] if version == "8.6" else [0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_gpu_without_the_arithmetic_is_refused() -> None:
    with pytest.raises(BuildFailed) as caught:
        build_engine(fake_library("8.6", fast=False), b"onnx", request(Precision.INT8), lambda _: True, Messages())
    assert caught.value.message == "this GPU has no fast INT8, so TensorRT 8.6 would compute in another precision"
    assert caught.value.hint == "build --precision fp16"


def test_phases_add_up_and_never_fall() -> None:
    phases = Phases()
    seen = [phases.fraction]
    phases.start("build", None, 2)
    for part in ("first", "second"):
        phases.start(part, "build", 4)
        for step in range(4):
            phases.advance(part, step + 1)
            seen.append(phases.fraction)
        phases.finish(part)
        phases.advance("build", 1 if part == "first" else 2)
        seen.append(phases.fraction)
    phases.finish("build")
    seen.append(phases.fraction)
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1
    assert seen[1] == 0.125 and seen[5] == 0.5
    phases.start("loop", "loop", 1)
    phases.advance("unknown", 3)
    assert phases.fraction == 1


# Which flavour


def test_flavours_without_a_gpu(rtx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert flavour_available(Flavour.RTX) is None
    reason = flavour_available(Flavour.TENSORRT)
    assert reason is not None and reason.startswith("building or running tensorrt engines needs tensorrt")
    assert default_flavour() is Flavour.RTX
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependency) as caught:
        default_flavour()
    assert caught.value.hint == "pip install 'trtpoets[rtx]'"


def test_tensorrt_needs_a_gpu_too(child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    child("ok")
    assert flavour_available(Flavour.TENSORRT) is None and default_flavour() is Flavour.TENSORRT

    def none() -> tuple[Gpu, ...]:
        raise BuildFailed("the NVIDIA driver sees no GPU")

    monkeypatch.setattr(libcuda, "gpus", none)
    assert flavour_available(Flavour.TENSORRT) == "the NVIDIA driver sees no GPU"


def test_the_card_is_json_for_people(built: Engine) -> None:
    card = json.loads(card_of(built.path).read_text())
    assert card["details"]["spec"]["labels"] == ["ant", "bee", "cow"]
    assert card["details"]["targets"] == ["sm80+"]
