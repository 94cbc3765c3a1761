"""What is read of a TFLite classifier, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_files import TfliteFile, tflite_classifier
from tests.support.tiny import tiny_spec
from trtpoets.adopt.tflite import read_tflite_classifier
from trtpoets.adopt.tflite import reader as reader_module
from trtpoets.convert.tflite_metadata import METADATA_NAME, metadata_of_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.original import Answers, Layout, OriginalInput, OriginalOutput
from trtpoets.core.types import Precision
from trtpoets.device import original_tflite

pytest.importorskip("ai_edge_litert")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of these tests are sound: no child process has to try them."""
    monkeypatch.setattr(original_tflite, "require_sound", lambda *arguments, **options: None)


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
    assert model.input == OriginalInput("photo", dtype, Layout.NHWC, pytest.approx(1 / 255), zero_point, batch=1)
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


def test_standard_metadata_and_appended_files(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.metadata = {METADATA_NAME: metadata_of_spec(tiny_spec(), Precision.INT8), "min_runtime_version": b"1.5.0\0\0"}
    file.files = {"labels.txt": "ant\nbee\n"}
    clues = read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues
    assert clues.files == {"labels.txt": "ant\nbee\n"}
    assert clues.metadata["name"] == "tiny"
    assert clues.metadata["input.color_space"] == "RGB"
    assert clues.metadata["input.content"] == "image"
    assert clues.metadata["output.files"] == "labels.txt"
    assert clues.metadata["min_runtime_version"] == "1.5.0"


def test_normalization_options(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.metadata = {METADATA_NAME: _normalized((127.5, 127.5, 127.5), (127.5,))}
    metadata = read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues.metadata
    assert (metadata["input.mean"], metadata["input.std"]) == ("127.5,127.5,127.5", "127.5")


def _normalized(mean: tuple[float, ...], std: tuple[float, ...]) -> bytes:
    """Standard metadata with NormalizationOptions for the input."""
    import flatbuffers

    from trtpoets.convert.tflite_metadata import _Tables

    tables = _Tables(flatbuffers.Builder(256))
    options = tables.table(2, {0: tables.floats(mean), 1: tables.floats(std)})
    unit = tables.table(2, {0: ("Uint8", 1), 1: options})
    photo = tables.table(7, {0: tables.text("image"), 4: tables.vector([unit])})
    graph = tables.table(7, {2: tables.vector([photo])})
    tables.builder.Finish(tables.table(8, {3: tables.vector([graph])}), file_identifier=b"M001")
    return bytes(tables.builder.Output())


def test_damaged_metadata_is_left_out(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.metadata = {METADATA_NAME: b"\xff" * 40}
    assert read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues.metadata == {}


def refused(file: TfliteFile, folder: Path, pattern: str) -> BadArtefact:
    with pytest.raises(BadArtefact, match=pattern) as caught:
        read_tflite_classifier(file.write(folder / "net_edgetpu.tflite"))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("custom", "pattern"),
    [
        ("TFLite_Detection_PostProcess", "is an object detector"),
        ("edgetpu-custom-op", "compiled for the Edge TPU"),
        ("FlexErf", "TensorFlow's own operators, which the TFLite interpreter lacks: FlexErf"),
        ("Mystery", "custom operators, which only the program that wrote it has: Mystery"),
    ],
)
def test_custom_operators(tmp_path: Path, custom: str, pattern: str) -> None:
    file = tflite_classifier()
    file.operator("CUSTOM", file.outputs, file.outputs, custom=custom)
    error = refused(file, tmp_path, pattern)
    if custom == "edgetpu-custom-op":
        assert error.hint == "give the file from which it was compiled: net.tflite"


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.outputs = [*file.outputs, file.outputs[0] - 1]
    refused(file, tmp_path, r"has 2 outputs \(scores float32 \(1, 4\), .*as detectors and landmark networks have")
    file.inputs = [*file.inputs, file.inputs[0] + 1]
    refused(file, tmp_path, r"has 2 inputs \(photo, convolved\)")


@pytest.mark.parametrize(
    ("shape", "dtype", "pattern"),
    [
        ((1, 16000), "float32", "photos have four dimensions"),
        ((1, 8, 8, 5), "float32", "photos have 1 or 3 channels"),
        ((1, 8, 8, 3), "int16", "only float32, uint8, int8 can be adopted"),
        ((1, 8, 8, 3), "string", "only float32, uint8, int8 can be adopted"),
    ],
)
def test_other_inputs(tmp_path: Path, shape: tuple[int, ...], dtype: str, pattern: str) -> None:
    file = tflite_classifier()
    file.inputs = [file.tensor("other", shape, dtype)]
    refused(file, tmp_path, pattern)


def test_an_input_of_any_size(tmp_path: Path) -> None:
    refused(tflite_classifier(signature=(1, -1, -1, 3)), tmp_path, "without a fixed size")


@pytest.mark.parametrize(
    ("shape", "dtype", "pattern"),
    [
        ((1, 8, 8, 21), "float32", "returns an image"),
        ((1, 84, 2100), "float32", "one row of scores"),
        ((1, 5), "int64", "only float32, uint8, int8 can be adopted"),
        ((1, 1), "float32", "returns a single number"),
    ],
)
def test_other_outputs(tmp_path: Path, shape: tuple[int, ...], dtype: str, pattern: str) -> None:
    file = tflite_classifier()
    file.outputs = [file.tensor("other", shape, dtype)]
    refused(file, tmp_path, pattern)


def test_metadata_of_other_tasks(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.files = {"temp_meta.txt": "{'stride': 32, 'task': 'detect', 'imgsz': [640, 640], 'names': {0: 'crop'}}"}
    refused(file, tmp_path, "for the task 'detect' by its metadata")
    file.files = {"metadata.yaml": "stride: 1\ntask: classify\nimgsz:\n- 64\n- 64\n"}
    assert read_tflite_classifier(file.write(tmp_path / "net.tflite")).clues.files == file.files


def test_control_flow(tmp_path: Path) -> None:
    file = tflite_classifier()
    file.operator("CALL_ONCE", [], [])
    refused(file, tmp_path, r"contains control flow \(CALL_ONCE\)")


def test_operators_that_cannot_be_converted_are_named(tmp_path: Path) -> None:
    file = tflite_classifier()
    sine = file.tensor("sine", (1, 4))
    file.operator("SIN", file.outputs, [sine])
    file.outputs = [sine]
    refused(file, tmp_path, "operators that can't be converted to ONNX: SIN")


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact, match="does not exist"):
        read_tflite_classifier(tmp_path / "none.tflite")
    path = tmp_path / "net.tflite"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BadArtefact, match="a Git LFS pointer"):
        read_tflite_classifier(path)
    path.write_bytes(bytes([28, 0, 0, 0]) + b"NOPE" + bytes(range(64)))
    with pytest.raises(BadArtefact, match="not a TFLite file"):
        read_tflite_classifier(path)
    with pytest.raises(BadArtefact):
        read_tflite_classifier(tmp_path)
    content = tflite_classifier().write(path).read_bytes()
    path.write_bytes(content[:100])
    with pytest.raises(BadArtefact, match="is damaged"):
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
