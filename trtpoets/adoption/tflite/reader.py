"""Reads a TFLite classifier of another program: checks that it is one, and describes its input and output."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.foreign import Clues, ForeignModel
from trtpoets.adoption.tflite.contents import GIVE_SOURCE, Tensor, TfliteContents, read_contents
from trtpoets.adoption.tflite.metadata import clues_of
from trtpoets.adoption.tflite.pixels import pixels_of_input
from trtpoets.adoption.tflite.to_onnx import require_convertible
from trtpoets.adoption.vectors import require_scores
from trtpoets.core.errors import BadArtefact
from trtpoets.core.images import usable_cores
from trtpoets.core.original import Answers, Format, Layout, OriginalInput, OriginalOutput
from trtpoets.device.original_tflite import interpreter_of

_CLASSIFIER = "give a classifier: one photo in, one score for each class out"

_STORED = ("float32", "uint8", "int8")
"""Types of inputs and outputs that can be adopted."""

_CONTROL_FLOW = ("IF", "WHILE", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE")

_BY_OPERATOR = {
    "SOFTMAX": Answers.PROBABILITIES,
    "LOGISTIC": Answers.SIGMOID,
    "LOG_SOFTMAX": Answers.LOG_PROBABILITIES,
}
"""What the values are after these operators."""

_RANDOM_IMAGES = 4
"""Random images for each range of pixel values; the network's scores for them show what its output means."""


def read_tflite_classifier(path: Path) -> ForeignModel:
    """Read a TFLite file that classifies photos: float, or quantised with uint8 or int8 input and output.

    The input is one photo or a fixed batch, NHWC or NCHW, with 1 or 3 channels. `answers`, the meaning of the output,
    is determined by the last operator if this is SOFTMAX, LOGISTIC or LOG_SOFTMAX. Otherwise the network runs on random
    images: rows that sum to 1 are probabilities, other rows logits. A file with 8-bit weights and float activations
    counts as float.

    Raises MissingArtefact; BadArtefact if the file is damaged, or with what it is if it is not such a classifier; and
    MissingDependency.
    """
    contents = read_contents(path)
    described = described_classifier(contents)
    interpreter = interpreter_of(path, contents.content, usable_cores())
    answers = _answers(contents, interpreter, described.output.size)
    return replace(described, output=replace(described.output, answers=answers))


def described_classifier(contents: TfliteContents) -> ForeignModel:
    """Describe a classifier by the contents of its file alone: `answers` are LOGITS unless its last operator says more.

    Nothing is run. Raises BadArtefact as `read_tflite_classifier` does.
    """
    clues = clues_of(contents)
    _refuse_operators(contents)
    _refuse_tasks(contents, clues)
    input_, layout = _checked_input(contents)
    output, size = _checked_output(contents)
    require_convertible(contents)
    channels_first = layout is Layout.NCHW
    height, width = input_.shape[2:] if channels_first else input_.shape[1:3]
    described = OriginalInput(
        input_.name, input_.dtype, layout, *_scale(input_), batch=0 if input_.dynamic[0] else input_.shape[0]
    )
    answers = _BY_OPERATOR.get(_last_kind(contents), Answers.LOGITS)
    return ForeignModel(
        contents.path,
        Format.TFLITE,
        hashlib.sha256(contents.content).hexdigest(),
        height,
        width,
        input_.shape[1] if channels_first else input_.shape[3],
        described,
        OriginalOutput(output.name, output.dtype, size, answers, *_scale(output)),
        clues,
        pixels_of_input(contents),
    )


def _refuse_operators(contents: TfliteContents) -> None:
    """Raise BadArtefact for control flow and custom operators; by some of these the message says what the file is."""
    path = contents.path
    custom = {operator.kind.partition(":")[2] for operator in contents.operators if operator.kind.startswith("CUSTOM:")}
    if "TFLite_Detection_PostProcess" in custom:
        raise BadArtefact(
            f"{path} is an object detector (operator TFLite_Detection_PostProcess), not a classifier",
            hint=_CLASSIFIER,
            code="TP9320",
        )
    if "edgetpu-custom-op" in custom:
        raise BadArtefact(
            f"{path} is compiled for the Edge TPU: its network is hidden in the operator edgetpu-custom-op",
            hint=f"give the file from which it was compiled: {path.name.replace('_edgetpu', '')}",
            code="TP9321",
        )
    flex = sorted(name for name in custom if name.startswith("Flex"))
    if flex:
        raise BadArtefact(
            f"{path} needs TensorFlow's own operators, which the TFLite interpreter lacks: {', '.join(flex)}",
            hint="convert the network with TFLITE_BUILTINS only, or give the Keras file or SavedModel it was made from",
            code="TP9322",
        )
    if custom:
        raise BadArtefact(
            f"{path} needs custom operators, which only the program that wrote it has: {', '.join(sorted(custom))}",
            hint=GIVE_SOURCE,
            code="TP9323",
        )
    control = sorted({operator.kind for operator in contents.operators} & set(_CONTROL_FLOW))
    if control:
        raise BadArtefact(
            f"{path} contains control flow ({', '.join(control)}), which can't be converted to a fixed graph",
            hint=GIVE_SOURCE,
            code="TP9324",
        )


def _refuse_tasks(contents: TfliteContents, clues: Clues) -> None:
    """Raise BadArtefact if the metadata states another task than the classification of photos."""
    task = next((_ultralytics_task(text) for text in clues.files.values() if _ultralytics_task(text)), "")
    if task not in ("", "classify"):
        raise BadArtefact(
            f"{contents.path} is a network for the task {task!r} by its metadata (Ultralytics), not a classifier",
            hint=_CLASSIFIER,
            code="TP9325",
        )
    if clues.metadata.get("input.content") == "audio":
        raise BadArtefact(f"{contents.path} takes sound by its metadata, not photos", hint=_CLASSIFIER, code="TP9326")


def _ultralytics_task(text: str) -> str:
    """The task in temp_meta.txt (a Python dict) or metadata.yaml of Ultralytics, "" if the text is something else."""
    if "stride" not in text or "imgsz" not in text:
        return ""
    match = re.search(r"""['"]?\btask\b['"]?\s*:\s*['"]?(\w+)""", text)
    return match.group(1) if match else ""


def _checked_input(contents: TfliteContents) -> tuple[Tensor, Layout]:
    """The input of the network, and its layout. Raises BadArtefact unless it takes photos."""
    path = contents.path
    if len(contents.inputs) != 1:
        names = ", ".join(contents.tensors[index].name for index in contents.inputs)
        raise BadArtefact(
            f"{path} has {len(contents.inputs)} inputs ({names}), but a classifier takes one photo",
            hint=_CLASSIFIER,
            code="TP9330",
        )
    tensor = contents.tensors[contents.inputs[0]]
    if len(tensor.shape) != 4:
        raise BadArtefact(
            f"{path} has the input {_words(tensor)}, but photos have four dimensions (N, H, W, C); "
            "sound, text and tables have fewer",
            hint=_CLASSIFIER,
            code="TP9331",
        )
    if any(tensor.dynamic[1:]):
        raise BadArtefact(
            f"{path} has the input {_words(tensor)} without a fixed size",
            hint="convert the network again with a fixed input size, such as (1, 224, 224, 3)",
            code="TP9332",
        )
    last, first = tensor.shape[3], tensor.shape[1]
    if last not in (1, 3) and first not in (1, 3):
        raise BadArtefact(
            f"{path} has the input {_words(tensor)}, but photos have 1 or 3 channels", hint=_CLASSIFIER, code="TP9333"
        )
    if min(tensor.shape) < 1:
        raise BadArtefact(f"{path} has the empty input {_words(tensor)}", hint=_CLASSIFIER, code="TP9334")
    _check_type(path, tensor, "input")
    return tensor, Layout.NHWC if last in (1, 3) else Layout.NCHW


def _checked_output(contents: TfliteContents) -> tuple[Tensor, int]:
    """The output of the network, and its number of classes. Raises BadArtefact unless it has scores of classes."""
    path = contents.path
    outputs = [contents.tensors[index] for index in contents.outputs]
    if len(outputs) != 1:
        raise BadArtefact(
            f"{path} has {len(outputs)} outputs ({', '.join(map(_words, outputs))}), as detectors and landmark "
            "networks have; a classifier has one",
            hint=_CLASSIFIER,
            code="TP9335",
        )
    (tensor,) = outputs
    batch = contents.tensors[contents.inputs[0]].shape[0]
    values = int(np.prod(tensor.shape))
    size = values // batch
    if len(tensor.shape) == 4 and max(tensor.shape[1:3]) > 1 and max(tensor.shape[2:]) > 1:
        raise BadArtefact(
            f"{path} returns an image {_words(tensor)}, as segmentation and style transfer do, not class scores",
            hint=_CLASSIFIER,
            code="TP9336",
        )
    if values % batch or max(tensor.shape, default=0) not in (size, batch) or size < 1:
        raise BadArtefact(
            f"{path} returns {_words(tensor)}, but a classifier returns one row of scores for each photo",
            hint=_CLASSIFIER,
            code="TP9337",
        )
    _check_type(path, tensor, "output")
    if size == 1 and _last_kind(contents) != "LOGISTIC":
        raise BadArtefact(
            f"{path} returns a single number ({_last_kind(contents)} is its last operator), as regression does; "
            "a classifier of two classes ends in LOGISTIC or returns two scores",
            hint=_CLASSIFIER,
            code="TP9338",
        )
    return tensor, size


def _check_type(path: Path, tensor: Tensor, side: str) -> None:
    """Raise BadArtefact unless the `side`, input or output, has a supported type and at most one scale."""
    if tensor.dtype in _STORED:
        if tensor.quantisation is not None and tensor.quantisation.scale.size != 1:
            raise BadArtefact(
                f"{path} has the {side} {_words(tensor)} with {tensor.quantisation.scale.size} scales, not one",
                hint="convert the network to TFLite again",
                code="TP9339",
            )
        return
    advice = {
        "int16": "convert the network with 8-bit activations (TFLITE_BUILTINS_INT8), or to float",
        "int32": "remove the ArgMax at its end, so that it returns the scores of all classes",
        "int64": "remove the ArgMax at its end, so that it returns the scores of all classes",
    }
    raise BadArtefact(
        f"{path} has the {side} {_words(tensor)}, but only {', '.join(_STORED)} can be adopted",
        hint=advice.get(tensor.dtype, "convert the network to TFLite with float32 input and output"),
        code="TP9340",
    )


def _words(tensor: Tensor) -> str:
    return f"{tensor.name} {tensor.dtype} {tensor.shape}"


def _scale(tensor: Tensor) -> tuple[float, int]:
    """Scale and zero point of a tensor: 1 and 0 for floats, and for integers without quantisation."""
    if tensor.quantisation is None or tensor.dtype == "float32":
        return 1.0, 0
    return tensor.quantisation.single


_NEUTRAL_OPERATORS = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST", "EXPAND_DIMS")
"""Operators that do not change the meaning of scores."""


def _last_kind(contents: TfliteContents) -> str:
    """The operator that computes the scores."""
    operator = contents.producer_of(contents.outputs[0])
    for _ in range(len(contents.operators)):
        if operator is None or operator.kind not in _NEUTRAL_OPERATORS:
            break
        operator = contents.producer_of(operator.inputs[0])
    return operator.kind if operator else "none"


def _answers(contents: TfliteContents, interpreter: Any, size: int) -> Answers:
    kind = _last_kind(contents)
    if kind in _BY_OPERATOR:
        return _BY_OPERATOR[kind]
    values, tolerance = _rows_of_random_images(contents, interpreter, size)
    if np.all(values >= -1e-6) and np.all(abs(values.sum(axis=1) - 1) <= tolerance):
        return Answers.PROBABILITIES
    if np.all(values <= 1e-6) and np.all(abs(np.exp(values).sum(axis=1) - 1) <= tolerance):
        return Answers.LOG_PROBABILITIES
    require_scores(str(contents.path), contents.tensors[contents.outputs[0]].name, values)
    return Answers.LOGITS


def _rows_of_random_images(contents: TfliteContents, interpreter: Any, size: int) -> tuple[np.ndarray, float]:
    """The values of the output for random images of several ranges, and how far their sum may be from 1."""
    (input_,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = _scale(contents.tensors[contents.outputs[0]])
    random = np.random.default_rng(0)
    rows = []
    for low, high in ((0, 1), (-1, 1), (0, 255)):
        for _ in range(_RANDOM_IMAGES):
            image = random.uniform(low, high, input_["shape"])
            if input_["dtype"] is not np.float32:
                image = random.integers(0, 256, input_["shape"]) + np.iinfo(input_["dtype"]).min
            interpreter.set_tensor(input_["index"], image.astype(input_["dtype"]))
            interpreter.invoke()
            stored = interpreter.get_tensor(output["index"]).reshape(-1, size).astype(np.float64)
            rows.append((stored - zero_point) * scale)
    return np.concatenate(rows), 1e-3 + (scale * size / 2 if output["dtype"] is not np.float32 else 0)
