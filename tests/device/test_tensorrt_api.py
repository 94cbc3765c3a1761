"""Messages of libraries are shortened, and libraries that can't be used are refused with the reason."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import MissingDependency
from trtpoets.core.types import Flavour
from trtpoets.device.tensorrt_api import load_tensorrt, numpy_type


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with raises(MissingDependency, "TP4098", "tensorrt is needed for") as caught:
        load_tensorrt(Flavour.TENSORRT)
    assert caught.value.hint == "pip install 'trtpoets[tensorrt]'"


def test_a_library_without_its_native_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with raises(MissingDependency, "TP4099", "libnvinfer.so.10: cannot open"):
        load_tensorrt(Flavour.TENSORRT)


def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contexts of TensorRT 8.4 (JetPack 5.0.2) have no named tensors."""
    old = SimpleNamespace(__version__="8.4.1", IExecutionContext=SimpleNamespace(execute_async_v2=None))
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with raises(MissingDependency, "TP4100", "TensorRT 8.4.1", "TensorRT 8.5") as caught:
        load_tensorrt(Flavour.TENSORRT)
    assert "JetPack 5.1 or later" in caught.value.hint


def test_both_flavours_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    here = SimpleNamespace(__version__="10.3.0", IExecutionContext=SimpleNamespace(set_tensor_address=None))
    monkeypatch.setitem(sys.modules, "tensorrt", here)
    first, second = load_tensorrt(Flavour.TENSORRT), load_tensorrt(Flavour.RTX)
    assert first.module is here and second.module is sys.modules["tensorrt_rtx"]
    assert (first.title, load_tensorrt(Flavour.TENSORRT)) == ("TensorRT 10.3.0", first)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("DataType.UINT8", "uint8"), ("DataType.INT64", "int64"), ("DataType.HALF", "float16"), ("DataType.BF16", "bf16")],
)
def test_types_in_the_words_of_numpy(kind: str, name: str) -> None:
    assert numpy_type(kind) == name
