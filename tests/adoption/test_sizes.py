"""Files that are too large are refused with their size before they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from tests.adoption.onnx.networks import Foreign, image, plain, saved, scores
from tests.support.errors import raises
from trtpoets.adoption import sizes
from trtpoets.adoption.loaded import load_foreign
from trtpoets.adoption.onnx import opened
from trtpoets.adoption.sizes import require_usable_size
from trtpoets.core.errors import BadArtefact, RunFailed
from trtpoets.core.file_kinds import kind_named
from trtpoets.core.onnx_external import LARGEST_NETWORK


def sparse(path: Path, start: bytes, size: int = LARGEST_NETWORK + 1) -> Path:
    path.write_bytes(start)
    with path.open("r+b") as stream:
        stream.truncate(size)
    return path


@pytest.mark.parametrize("kind", ["onnx", "tflite", "graph-def", "keras-h5", "keras"])
def test_a_file_above_2_gib_is_refused(kind: str, tmp_path: Path) -> None:
    path = sparse(tmp_path / "net", b"", 3 << 30)
    with raises(BadArtefact, "TP9507", "3.00") as caught:
        require_usable_size(path, kind_named(kind))
    assert caught.value.code == "TP9507"
    assert ("include_optimizer" if kind.startswith("keras") else "smaller network") in caught.value.hint


def test_a_saved_model_is_as_large_as_its_folder(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    sparse(tmp_path / "variables" / "variables.data-00000-of-00001", b"")
    with raises(BadArtefact, "TP9507", "2.00") as caught:
        load_foreign(tmp_path)
    assert caught.value.code == "TP9507"


def big_external(folder: Path, sides: tuple[int, int], dtype: int = TensorProto.FLOAT) -> Path:
    """A classifier with one large weight, whose data file is sparse."""
    folder.mkdir()
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["output"])
    model = net.model([image()], [scores()])
    tensor = model.graph.initializer.add(name="large", data_type=dtype, dims=sides, data_location=1)
    length = sides[0] * sides[1] * (4 if dtype == TensorProto.FLOAT else 2)
    for key, value in (("location", "net.data"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    sparse(folder / "net.data", b"", length)
    return saved(model, folder / "net.onnx")


def test_external_data_counts(tmp_path: Path) -> None:
    path = big_external(tmp_path / "a", (20480, 32768))
    with raises(BadArtefact, "TP9507", "2.50") as caught:
        load_foreign(path)
    assert caught.value.code == "TP9507"


def test_float16_counts_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LARGEST_NETWORK", 3_000_000)  # as float16 the weights have 2 MB
    with raises(BadArtefact, "TP9507", "of weights in float32") as caught:
        load_foreign(big_external(tmp_path / "a", (1000, 1000), TensorProto.FLOAT16))
    assert caught.value.code == "TP9507"


def test_more_memory_than_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(tmp_path / "net.onnx")
    monkeypatch.setattr(sizes, "_SMALL", 100)
    kind = kind_named("onnx")
    require_usable_size(path, kind)
    monkeypatch.setattr(sizes, "available_memory", lambda: 3 << 28)
    with raises(RunFailed, "TP9508", "1", "0.8") as caught:
        require_usable_size(path, kind)
    assert caught.value.code == "TP9508"
    monkeypatch.setattr(sizes, "memory_of", dict)  # no /proc/meminfo
    require_usable_size(path, kind)
