"""The contents of TFLite files, and files that are damaged or of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tflite_files import tflite_classifier
from tests.support.tflite_networks import Network
from tests.support.tiny import tiny_spec
from trtpoets.adoption.tflite import read_tflite_classifier
from trtpoets.adoption.tflite import reader as reader_module
from trtpoets.adoption.tflite.contents import Quantisation, Tensor, is_hybrid, read_contents
from trtpoets.convert.tflite_metadata import METADATA_NAME, metadata_of_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.types import Precision

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


def test_other_files(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP1089"):
        read_tflite_classifier(tmp_path / "none.tflite")
    path = tmp_path / "net.tflite"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with raises(BadArtefact, "TP1011", "a Git LFS pointer"):
        read_tflite_classifier(path)
    path.write_bytes(bytes([28, 0, 0, 0]) + b"NOPE" + bytes(range(64)))
    with raises(BadArtefact, "TP9303"):
        read_tflite_classifier(path)
    with pytest.raises(BadArtefact):
        read_tflite_classifier(tmp_path)
    content = tflite_classifier().write(path).read_bytes()
    path.write_bytes(content[:100])
    with raises(BadArtefact, "TP9304"):
        read_tflite_classifier(path)


def test_damaged_files_end_in_an_error_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SoundError(Exception):
        """The interpreter would be asked now."""

    def ask(*arguments: object) -> None:
        raise SoundError

    monkeypatch.setattr(reader_module, "interpreter_of", ask)
    file = tflite_classifier(dtype="int8", zero_point=-128)
    file.metadata = {METADATA_NAME: metadata_of_spec(tiny_spec(), Precision.INT8)}
    path = tmp_path / "net.tflite"
    content = file.write(path).read_bytes()
    random = np.random.default_rng(0)
    refused_ones = 0
    for _ in range(100):
        damaged = bytearray(content)
        for place in random.integers(8, len(content), 2):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_tflite_classifier(path)
        except BadArtefact:
            refused_ones += 1
        except SoundError:
            pass
    assert 20 < refused_ones < 80


def test_quantised_constants_have_real_values_along_their_axis() -> None:
    quantisation = Quantisation(np.array([0.5, 2], np.float32), np.array([0, 10]), axis=1)
    data = np.array([[1, 11], [-2, 8]], np.int8)
    tensor = Tensor("weights", "int8", (2, 2), (False, False), quantisation, data)
    assert tensor.integer_range == (-128, 127)
    np.testing.assert_array_equal(tensor.real_data, [[0.5, 2], [-1, -4]])
    with pytest.raises(ValueError, match="size 1"):
        _ = quantisation.single
    assert Quantisation(np.array([0.5], np.float32), np.array([3]), 0).single == (0.5, 3)


def test_other_constants_are_read_as_they_are_stored() -> None:
    half = Tensor("half", "float16", (2,), (False,), data=np.array([0.5, 2], np.float16))
    assert half.integer_range is None
    assert half.real_data is not None
    assert half.real_data.dtype == np.float32
    shape = Tensor("shape", "int32", (2,), (False,), data=np.array([1, -1], np.int32))
    assert shape.real_data is shape.data
    sums = Tensor("bias", "int32", (1,), (False,), Quantisation(np.array([0.1]), np.array([0]), 0))
    assert sums.integer_range is None
    assert sums.real_data is None


def test_operators_and_their_tensors(tmp_path: Path) -> None:
    file = tflite_classifier(signature=(-1, 8, 8, 3))
    contents = read_contents(file.write(tmp_path / "net.tflite"))
    assert [operator.kind for operator in contents.operators] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert contents.tensors[contents.inputs[0]].dynamic == (True, False, False, False)
    (output,) = contents.outputs
    assert contents.producer_of(output) is contents.operators[-1]
    assert contents.producer_of(contents.inputs[0]) is None
    assert (contents.subgraphs, contents.signature, contents.description) == (1, (), "made by a test")
    assert not any(is_hybrid(contents, operator) for operator in contents.operators)


def test_a_layer_with_weights_of_8_bits_and_float_input_is_hybrid(tmp_path: Path) -> None:
    network = Network()
    network.int8 = True
    kernel = network.weights((4, 3, 3, 4), 0)
    network.int8 = False
    values = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    current = network.add("CONV_2D", [network.start, kernel, -1], (1, 8, 8, 4), "Conv2DOptions", **values)
    contents = read_contents(network.finish(current).write(tmp_path / "net.tflite"))
    assert [is_hybrid(contents, operator) for operator in contents.operators] == [False, True, False]


def test_only_small_appended_files_are_read(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.files = {"labels.txt": "ant\nbée\n", "large.txt": "x" * ((1 << 20) + 1)}
    assert read_contents(file.write(tmp_path / "net.tflite")).files == {"labels.txt": "ant\nbée\n"}
