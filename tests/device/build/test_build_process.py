"""The process that builds an engine: failures, timeouts, interruptions, missing memory, a full disk."""

from __future__ import annotations

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

from tests.support.build_requests import RTX, TENSORRT, only
from tests.support.errors import raises
from trtpoets.core.errors import (
    BuildFailed,
    MissingDependency,
    StorageFailed,
    TrtPoetsError,
)
from trtpoets.core.types import OnnxModel
from trtpoets.device.build.engine import (
    engine_from_onnx,
    engine_key,
)

ROOT = Path(__file__).parents[3]
NO_IMPLEMENTATION = (
    "refuse: IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for "
    "node {conv}. In computeCosts at /_src/optimizer/tacticOptimizer.cpp:4040)"
)


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


@pytest.mark.parametrize(
    ("behaviour", "code", "values", "hint"),
    [
        ("segfault", "TP4009", ("SIGSEGV",), "report it with the ONNX file"),
        pytest.param("exit", "TP4009", ("code 3", "fatal: no"), "report it", marks=pytest.mark.slow),
        ("killed", "TP4008", ("SIGKILL",), "free some memory"),
        pytest.param("out of memory", "TP4008", ("SIGABRT",), "free some memory", marks=pytest.mark.slow),
        ("no driver", "TP4049", (), "--flavour rtx"),
        (
            NO_IMPLEMENTATION,
            "TP4050",
            ("fp32", "Could not find any implementation for node {conv}"),
            "report this with the file",
        ),
        (
            "refuse: [tactic.cpp::get::12] Error Code 2: OutOfMemory (Requested size was 99 bytes.)",
            "TP4050",
            ("Requested size was 99 bytes",),
            "free some memory",
        ),
        pytest.param(
            "refuse: Error Code 1: Cuda Runtime (out of memory)",
            "TP4050",
            ("out of memory",),
            "free some memory",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["segfault", "exit", "killed", "bad_alloc", "no driver", "no implementation", "bytes", "cuda memory"],
)
def test_failures_of_the_child_are_reported(
    child: Any, model: OnnxModel, out: Path, behaviour: str, code: str, values: tuple[str, ...], hint: str
) -> None:
    child(behaviour)
    with raises(BuildFailed, code, *values) as caught:
        engine_from_onnx(model, TENSORRT, out)
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message and "File " not in caught.value.message
    assert only(out.parent) == {"fp32.onnx"}, "nothing may be left half done"


def test_a_bug_keeps_its_traceback(child: Any, model: OnnxModel, out: Path) -> None:
    child("bug")
    with pytest.raises(RuntimeError, match=r"(?s)met a bug of trtpoets.*tensorrt_builder.*ValueError: a wrong turn"):
        engine_from_onnx(model, TENSORRT, out)


@pytest.mark.slow  # a variant of the failures of the child
def test_a_library_that_fails_to_load_only_in_the_child(child: Any, model: OnnxModel, out: Path) -> None:
    child("ok")
    engine_key(model, TENSORRT)  # the parent has it loaded
    (out.parent.parent / "site" / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: no such file')")
    with raises(MissingDependency, "TP4099", "libnvinfer.so.10: no such file"):
        engine_from_onnx(model, TENSORRT, out)


@pytest.mark.parametrize("behaviour", ["slow", "deaf"])
def test_a_timeout_cancels(
    child: Any, model: OnnxModel, out: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.device.build.build_process._GRACE_SECONDS", 1.0)
    pid_file = child(behaviour)
    begun = time.monotonic()
    with raises(BuildFailed, "TP4006", "build tiny/fp32.rtx.engine", "1.5 seconds"):
        engine_from_onnx(model, replace(TENSORRT, timeout_seconds=1.5), out)
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
    with raises(BuildFailed, "TP4007", "build tiny/fp32.rtx.engine", "1.5 seconds"):
        engine_from_onnx(model, TENSORRT, out)
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


def test_a_full_disk(rtx: None, model: OnnxModel, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        with raises(StorageFailed, "TP1085", "No space left on device") as caught:
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
