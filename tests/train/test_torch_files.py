"""The reader of PyTorch's files: what PyTorch writes is read, and nothing in a file is run."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.errors import raises
from tests.support.torch_files import MAGIC, PROTOCOL, Named, Reference, legacy_file, pickled, zip_file
from trtpoets.core.errors import BadArtefact
from trtpoets.train.torch_files import read_tensors

MOST = 1 << 20
WRITERS: dict[str, Callable[[Mapping[str, np.ndarray]], bytes]] = {"before 1.6": legacy_file, "since 1.6": zip_file}


def zip_of(data: bytes, **files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("net/data.pkl", data)
        for key, content in files.items():
            archive.writestr(f"net/data/{key}", content)
    return out.getvalue()


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_reads_what_pytorch_writes(writer: Any) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    columns = np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3))
    tensors: dict[str, np.ndarray] = {"a": rows, "b": columns, "c.num_batches_tracked": np.array(7)}
    read = read_tensors(writer(tensors), MOST)
    assert list(read) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == value.dtype


def test_metadata_and_parameters_of_a_network_are_accepted() -> None:
    """A state dict has metadata as an attribute; some old files contain parameters in place of tensors."""
    storage = Reference("storage", Named("torch", "FloatStorage"), "0", "cpu", 2)
    tensor = Named("torch._utils", "_rebuild_tensor_v2", storage, 0, (2,), (1,), False, None)
    parameter = Named("torch._utils", "_rebuild_parameter", tensor, True, None)
    data = pickled({"a": parameter})
    metadata = pickled({"version": 1})[2:-1]  # without the instructions that begin and end a pickle
    with_metadata = data[:-1] + metadata + b"b."
    values = np.array([1.5, -2], "<f4")
    for content in (data, with_metadata):
        np.testing.assert_array_equal(read_tensors(zip_of(content, **{"0": values.tobytes()}), MOST)["a"], values)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.load", "collections.Counter", "numpy.load"])
def test_refuses_a_pickle_that_names_anything_else(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    target = tmp_path / "ran"
    state = pickled(Named(module, function, f"touch {target}"))
    legacy = pickled(MAGIC) + pickled(PROTOCOL) + pickled({}) + state
    for content in (legacy, zip_of(state)):
        with raises(BadArtefact, "TP2152", name):
            read_tensors(content, MOST)
    assert not target.exists()


def test_refuses_instructions_that_build_other_objects() -> None:
    with raises(BadArtefact, "TP2150", "INST"):
        read_tensors(zip_of(b"(ios\nsystem\n."), MOST)
    with raises(BadArtefact, "TP2150", "STACK_GLOBAL"):
        read_tensors(zip_of(b"\x80\x04\x8c\x02os\x8c\x06system\x93."), MOST)


def test_text_is_no_function() -> None:
    """A string that equals the name of a function does not call it."""
    data = b"X" + struct.pack("<I", 23) + b"collections.OrderedDict" + b")R."
    with raises(BadArtefact, "TP2152"):
        read_tensors(zip_of(data), MOST)


@pytest.mark.parametrize(
    "falsified",
    [{"strides": (400, 1)}, {"strides": (-3, 1)}, {"offset": 3}, {"offset": -1}, {"count": 3}, {"count": 1 << 60}],
)
def test_refuses_a_tensor_that_reaches_outside_its_storage(falsified: dict[str, Any]) -> None:
    content = legacy_file({"a": np.zeros((2, 3), np.float32)}, **falsified)
    with raises(BadArtefact, "TP2153"):
        read_tensors(content, MOST)


@pytest.mark.parametrize(
    "content",
    [
        zip_file({"a": np.zeros((2, 3), np.float32)}, strides=(400, 1)),
        zip_file({"a": np.zeros((2, 3), np.float32)}, count=1 << 60),
        zip_file({"a": np.zeros(MOST, np.float32)}, compression=zipfile.ZIP_DEFLATED),
        zip_file({"a": np.zeros(2, np.float32)}, byteorder=b"big"),
        zip_of(pickled([1, 2])),
        zip_of(pickled({"a": 1})),
        zip_of(pickled({"a": {"b": 1}})),
        zip_of(b""),
        b"PK\x03\x04",
        b"",
        pickled({}),
    ],
    ids=["outside", "count", "bomb", "big-endian", "list", "number", "nested", "no pickle", "no zip", "empty", "other"],
)
def test_files_that_cannot_be_read_are_refused(content: bytes) -> None:
    with raises(BadArtefact, "TP2153"):
        read_tensors(content, MOST)


def test_a_few_bytes_that_declare_terabytes_are_refused() -> None:
    """With strides of zero, one number has any shape."""
    storage = Reference("storage", Named("torch", "FloatStorage"), "0", "cpu", 1)
    tensor = Named("torch._utils", "_rebuild_tensor_v2", storage, 0, (1 << 40,), (0,), False, None)
    with raises(BadArtefact, "TP2153"):
        read_tensors(zip_of(pickled({"a": tensor}), **{"0": bytes(4)}), MOST)
    many = {f"a{i}": np.zeros(MOST // 8, np.float32) for i in range(3)}
    with raises(BadArtefact, "TP2153"):
        read_tensors(legacy_file(many), MOST)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_but_never_run(data: st.DataObject) -> None:
    writer = WRITERS[data.draw(st.sampled_from(sorted(WRITERS)))]
    content = bytearray(writer({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    try:
        read = read_tensors(bytes(content[:end]), MOST)
    except BadArtefact:
        return
    assert all(isinstance(value, np.ndarray) for value in read.values())
