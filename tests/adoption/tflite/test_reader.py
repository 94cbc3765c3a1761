"""What is read of a TFLite classifier, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tflite_files import TfliteFile, tflite_classifier
from trtpoets.adoption.tflite import read_tflite_classifier
from trtpoets.core.errors import BadArtefact
from trtpoets.core.original import Answers, Layout, OriginalInput, OriginalOutput

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


def test_a_float_file(tmp_path: Path) -> None:
    model = read_tflite_classifier(tflite_classifier().write(tmp_path / "net.tflite"))
    assert (model.height, model.width, model.channels) == (8, 8, 3)
    assert model.input == OriginalInput("photo", "float32", Layout.NHWC, batch=1)
    assert model.output == OriginalOutput("scores", "float32", 4, Answers.PROBABILITIES)
    assert model.fixed is None
    assert model.clues.writer == "made by a test"
    assert model.clues.nodes == ("convolved", "mean", "logits", "scores")


@pytest.mark.parametrize(("dtype", "zero_point", "lowest"), [("uint8", 0, 0), ("int8", -128, -128)])
def test_an_integer_file(tmp_path: Path, dtype: str, zero_point: int, lowest: int) -> None:
    file = tflite_classifier(dtype=dtype, zero_point=zero_point)
    model = read_tflite_classifier(file.write(tmp_path / "net.tflite"))
    assert model.input == OriginalInput("photo", dtype, Layout.NHWC, float(np.float32(1 / 255)), zero_point, batch=1)
    assert model.output == OriginalOutput("scores", dtype, 4, Answers.PROBABILITIES, 1 / 256, lowest)
    assert model.fixed is not None
    assert model.fixed.pixels.name == "0..1"


@pytest.mark.parametrize(
    ("last", "answers"),
    [
        ("LOGISTIC", Answers.SIGMOID),
        ("LOG_SOFTMAX", Answers.LOG_PROBABILITIES),
        ("", Answers.LOGITS),
        ("TANH", Answers.LOGITS),
    ],
)
def test_the_last_operator_gives_the_meaning(tmp_path: Path, last: str, answers: Answers) -> None:
    model = read_tflite_classifier(tflite_classifier(last=last).write(tmp_path / "net.tflite"))
    assert model.output.answers is answers


def test_values_give_the_meaning_after_another_operator(tmp_path: Path) -> None:
    file = tflite_classifier()
    same = file.tensor("same", (1, 4))
    file.operator("ABS", file.outputs, [same])
    file.outputs = [same]
    assert read_tflite_classifier(file.write(tmp_path / "net.tflite")).output.answers is Answers.PROBABILITIES


def test_batch_size_and_channels(tmp_path: Path) -> None:
    fixed = read_tflite_classifier(tflite_classifier(shape=(4, 8, 6, 1)).write(tmp_path / "fixed.tflite"))
    assert (fixed.height, fixed.width, fixed.channels, fixed.input.batch) == (8, 6, 1, 4)
    free = tflite_classifier(signature=(-1, 8, 8, 3)).write(tmp_path / "free.tflite")
    assert read_tflite_classifier(free).input.batch == 0


def refused(file: TfliteFile, folder: Path, code: str, *values: str) -> BadArtefact:
    """Return the error of a file, which must have this code and a message with these values."""
    with raises(BadArtefact, code, folder / "net_edgetpu.tflite", *values) as caught:
        read_tflite_classifier(file.write(folder / "net_edgetpu.tflite"))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("custom", "code"),
    [
        ("TFLite_Detection_PostProcess", "TP9320"),
        ("edgetpu-custom-op", "TP9321"),
        ("FlexErf", "TP9322"),
        ("Mystery", "TP9323"),
    ],
)
def test_custom_operators(tmp_path: Path, custom: str, code: str) -> None:
    file = tflite_classifier()
    file.operator("CUSTOM", file.outputs, file.outputs, custom=custom)
    error = refused(file, tmp_path, code, custom)
    if custom == "edgetpu-custom-op":
        assert error.hint == "give the file from which it was compiled: net.tflite"


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.outputs = [*file.outputs, file.outputs[0] - 1]
    refused(file, tmp_path, "TP9335", "2 outputs (scores float32 (1, 4), ")
    file.inputs = [*file.inputs, file.inputs[0] + 1]
    refused(file, tmp_path, "TP9330", "2 inputs (photo, convolved)")


@pytest.mark.parametrize(
    ("shape", "dtype", "code"),
    [
        ((1, 16000), "float32", "TP9331"),
        ((1, 8, 8, 5), "float32", "TP9333"),
        ((1, 8, 8, 3), "int16", "TP9340"),
        ((1, 8, 8, 3), "string", "TP9340"),
    ],
)
def test_other_inputs(tmp_path: Path, shape: tuple[int, ...], dtype: str, code: str) -> None:
    file = tflite_classifier()
    file.inputs = [file.tensor("other", shape, dtype)]
    refused(file, tmp_path, code, f"input other {dtype} {shape}")


def test_an_input_of_any_size(tmp_path: Path) -> None:
    refused(tflite_classifier(signature=(1, -1, -1, 3)), tmp_path, "TP9332", "photo float32 (1, 8, 8, 3)")


@pytest.mark.parametrize(
    ("shape", "dtype", "code", "value"),
    [
        ((1, 8, 8, 21), "float32", "TP9336", "other float32 (1, 8, 8, 21)"),
        ((1, 84, 2100), "float32", "TP9337", "other float32 (1, 84, 2100)"),
        ((1, 5), "int64", "TP9340", "output other int64 (1, 5)"),
        ((1, 1), "float32", "TP9338", "LOGISTIC"),
    ],
)
def test_other_outputs(tmp_path: Path, shape: tuple[int, ...], dtype: str, code: str, value: str) -> None:
    file = tflite_classifier()
    file.outputs = [file.tensor("other", shape, dtype)]
    refused(file, tmp_path, code, value)


def test_metadata_of_other_tasks(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.files = {"temp_meta.txt": "{'stride': 32, 'task': 'detect', 'imgsz': [640, 640], 'names': {0: 'crop'}}"}
    refused(file, tmp_path, "TP9325", "'detect'")
    file.files = {"metadata.yaml": "stride: 1\ntask: classify\nimgsz:\n- 64\n- 64\n"}
    assert read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues.files == file.files


def test_control_flow(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.operator("CALL_ONCE", [], [])
    refused(file, tmp_path, "TP9324", "(CALL_ONCE)")


def test_operators_that_cannot_be_converted_are_named(tmp_path: Path) -> None:
    file = tflite_classifier()
    sine = file.tensor("sine", (1, 4))
    file.operator("SIN", file.outputs, [sine])
    file.outputs = [sine]
    refused(file, tmp_path, "TP9360", "SIN")


def test_a_regression_is_no_classifier(tmp_path: Path) -> None:
    file = tflite_classifier(last="")
    last = file.tensor("output_crop", (1, 4))
    file.operator("ABS", file.outputs, [last])
    file.outputs = [last]
    refused(file, tmp_path, "TP9462", "output_crop with 4 values", "its name")
