"""Which libraries load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fakes.gpu import FakeGpu
from tests.fakes.machines import write
from tests.support.machines import TENSORFLOW
from tests.support.tiny import tiny_spec
from trtpoets.device.doctor import software as doctor_software
from trtpoets.device.doctor.imports import Imports
from trtpoets.device.doctor.software import software_here


def test_software_that_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_software, "try_imports", lambda names: Imports(tensorflow_gpus=3))
    FakeGpu(tiny_spec()).install(monkeypatch)
    result = software_here()
    assert [(gpu.name, gpu.target) for gpu in result.gpus] == [("Paper GPU", "sm86")]
    assert (result.driver_cuda, result.tensorrt.version, result.pycuda.version) == ("12.6", "10.3.0", "12.6.0")
    assert result.tensorflow_gpus == 3, "as TensorFlow says"


def test_software_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    for name in ("tensorrt", "tensorrt_rtx", "pycuda"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(metadata, "version", none)
    result = software_here()
    assert result.packages == {} and result.providers == ()
    assert "tensorrt" in result.tensorrt.problem and "pycuda" in result.pycuda.problem


@pytest.mark.parametrize(
    ("answer", "gpus"),
    [("print('hello'); n = 2", 2), ("n = 0", 0), ("raise ImportError('libcudart')", None), ("n = 'many'", None)],
)
def test_tensorflow_is_asked_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, gpus: int | None
) -> None:
    write(tmp_path, {"tensorflow.py": TENSORFLOW.format(answer=answer)})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    FakeGpu(tiny_spec()).install(monkeypatch)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.21.0")
    write(tmp_path, {f"{name}.py": "" for name in ("onnx", "tf2onnx")})
    write(tmp_path, {"onnxruntime.py": "get_available_providers = lambda: ['CPUExecutionProvider']"})
    result = software_here()
    assert (result.tensorflow_gpus, result.providers) == (gpus, ("CPUExecutionProvider",))
    assert ("tensorflow" in result.problems) == (gpus is None)
    assert "libcudart" not in answer or result.problems["tensorflow"] == "libcudart"
