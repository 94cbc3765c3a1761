"""What the doctor finds, here and on machines that lack things."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.fake_gpu import FakeGpu
from tests.tiny import tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.device import libcuda
from trtpoets.device.doctor import Finding, State, doctor

ROOT = Path(__file__).parent.parent


def by_name() -> dict[str, Finding]:
    return {finding.what: finding for finding in doctor()}


def test_this_machine() -> None:
    found = by_name()
    assert found["Python"].found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert "cores to use" in found["CPU"].found and "GiB" in found["CPU"].found
    for finding in found.values():
        assert finding.found, finding.what
        assert (finding.state is State.READY) == (not finding.hint), f"{finding.what}: mend what is missing, only that"
    assert json.loads(json.dumps([asdict(finding) for finding in found.values()]))[0]["state"] == "ready"


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from trtpoets.device.doctor import doctor; doctor(); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_rtx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")

    def none() -> None:
        raise RunFailed("no NVIDIA driver here: gone", hint="buy one")

    monkeypatch.setattr(libcuda, "load_driver", none)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = by_name()
    assert found["TensorRT-RTX"].found.endswith("targets sm75, sm80, sm86, sm89, sm120, sm121")
    assert (found["NVIDIA GPU"].state, found["NVIDIA GPU"].hint) == (State.MISSING, "buy one")
    assert found["engines"].found == "can be built here: rtx"
    assert found["TensorRT"].hint == "pip install 'trtpoets[tensorrt]'"


def test_a_machine_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(tiny_spec()).install(monkeypatch)
    found = by_name()
    assert found["NVIDIA GPU"].found.startswith("Paper GPU (sm86, 8 GiB); driver ")
    assert found["NVIDIA GPU"].found.endswith("CUDA 12.6")
    assert found["TensorRT"].found == "10.3.0"
    assert "tensorrt" in found["engines"].found


def test_a_bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "pycuda"):
        monkeypatch.setitem(sys.modules, name, None)

    from importlib import metadata

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    found = by_name()
    assert (found["TensorFlow"].found, found["TensorFlow"].hint) == (
        "tensorflow is not installed",
        "pip install 'trtpoets[train]'",
    )
    assert found["engines"].state is State.MISSING and found["engines"].hint == "pip install 'trtpoets[rtx]'"
