"""Recognises the program that wrote a classifier file by names in the graph, metadata and the files beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.metadata import ultralytics_metadata
from trtpoets.adoption.neighbours import json_beside
from trtpoets.core.original import Format

CIFAR_SIDE = 64
"""The largest side, in pixels, of an input for which the mean and standard deviation of CIFAR are tried.

The photos of CIFAR have a side of 32 pixels."""

_TENSORFLOW = (Format.KERAS, Format.SAVED_MODEL, Format.GRAPH_DEF, Format.TFLITE)


def base_name(name: str) -> str:
    """Return a tensor's name without ":0" and without the prefix of a TFLite signature."""
    return name.rsplit(":", 1)[0].removeprefix("serving_default_")


def has_names(foreign: ForeignModel, inputs: Sequence[str], outputs: Sequence[str]) -> bool:
    """Whether the input has one of the names `inputs`, and the output one of the names `outputs`, if any are given."""
    return base_name(foreign.input.name) in inputs and (not outputs or base_name(foreign.output.name) in outputs)


def has_nodes(foreign: ForeignModel, *parts: str) -> bool:
    """Whether for each part there is a node whose name, or a section of it after a "/", begins with that part."""
    return all(any(node.startswith(part) or f"/{part}" in node for node in foreign.clues.nodes) for part in parts)


def is_tensorflow(foreign: ForeignModel) -> bool:
    """Whether the file has a format of TensorFlow, TFLite included."""
    return foreign.format in _TENSORFLOW


def is_retrained(foreign: ForeignModel) -> bool:
    """Whether the output has the name that TensorFlow's scripts named retrain.py give it."""
    return is_tensorflow(foreign) and base_name(foreign.output.name) == "final_result"


def is_hub_retrained(foreign: ForeignModel) -> bool:
    """Whether the retrain.py of TensorFlow Hub wrote the file."""
    return is_retrained(foreign) and base_name(foreign.input.name).startswith("Placeholder")


def is_teachable_machine(foreign: ForeignModel) -> bool:
    """Whether Teachable Machine wrote the file."""
    if not is_tensorflow(foreign) or (foreign.height, foreign.width) != (224, 224):
        return False
    # Its networks come from TensorFlow.js, which gives layers names such as dense_Dense1.
    if has_nodes(foreign, "dense_Dense"):
        return True
    # The number in the name of the outer Sequential model varies.
    is_nested = has_nodes(foreign, "sequential_3") or any("/model1/" in node for node in foreign.clues.nodes)
    return re.fullmatch(r"sequential_\d+_input", base_name(foreign.input.name)) is not None and is_nested


def is_slim(foreign: ForeignModel) -> bool:
    """Whether the file is a network of TF-Slim with its original last layer."""
    names = (*foreign.clues.nodes, foreign.output.name)
    networks = ("MobilenetV1/", "MobilenetV2/", "MobilenetV3/", "InceptionV", "InceptionResnetV2/")
    return (
        is_tensorflow(foreign)
        and base_name(foreign.output.name) != "final_result"
        and any(name.startswith(networks) and "/Predictions/" in name for name in names)
    )


def azure_manifest(foreign: ForeignModel) -> dict[str, object]:
    """Return the cvexport.manifest of an Azure classifier beside the file, empty if there is none."""
    content = json_beside(foreign, "cvexport.manifest")
    return content if content.get("DomainType") == "Classification" else {}


def is_azure(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the file for TensorFlow or TFLite."""
    names = ("loss", "model_output", "model_outputs", "outputs")
    by_names = has_names(foreign, ("Placeholder", "data"), names[:2])
    return is_tensorflow(foreign) and (by_names or bool(azure_manifest(foreign)))


def is_azure_s1(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the file from a domain whose inputs have a side of 300 pixels (S1)."""
    if not is_azure(foreign):
        return False
    target = json_beside(foreign, "metadata_properties.json").get("CustomVision.Preprocess.TargetHeight")
    return foreign.height == 300 or str(target) == "300"


def is_azure_onnx(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the ONNX file, and its metadata does not describe the pixels."""
    keys = foreign.clues.metadata
    return foreign.format is Format.ONNX and bool(azure_manifest(foreign)) and "Image.BitmapPixelFormat" not in keys


def is_azure_onnx_with_keys(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the ONNX file, and its metadata describes the pixels."""
    outputs = ("loss", "classLabel", "model_output", "model_outputs")
    named = bool(azure_manifest(foreign)) or has_names(foreign, ("data",), outputs)
    return foreign.format is Format.ONNX and "Image.BitmapPixelFormat" in foreign.clues.metadata and named


def is_lobe(foreign: ForeignModel) -> bool:
    """Whether the file has Lobe's signature.json beside it."""
    signature = json_beside(foreign, "signature.json")
    inputs, outputs = signature.get("inputs"), signature.get("outputs")
    return (
        isinstance(inputs, dict)
        and "Image" in inputs
        and isinstance(outputs, dict)
        and bool({"Confidences", "Labels"} & set(outputs))
    )


_ULTRALYTICS_UNIT_RANGE = "2023-04"
"""The first month in which all classifiers of Ultralytics take pixels in 0..1 without mean and standard deviation."""


def ultralytics_date(foreign: ForeignModel) -> str | None:
    """Return the date of an Ultralytics classifier as YYYY-MM-DD, "" if it has none; None for other files."""
    metadata = ultralytics_metadata(foreign)
    return metadata.get("date", "")[:10] if metadata.get("task") == "classify" else None


def is_ultralytics(foreign: ForeignModel) -> bool:
    """Whether the file is a classifier of Ultralytics that takes pixels in 0..1, by its date."""
    return (ultralytics_date(foreign) or "") >= _ULTRALYTICS_UNIT_RANGE


def is_early_ultralytics(foreign: ForeignModel) -> bool:
    """Whether the file is an earlier classifier of Ultralytics, or one without a date."""
    date = ultralytics_date(foreign)
    return date is not None and date < _ULTRALYTICS_UNIT_RANGE


def is_edge_impulse(foreign: ForeignModel) -> bool:
    """Whether the input has the name that Edge Impulse gives it."""
    return foreign.format is Format.TFLITE and base_name(foreign.input.name) in ("x_input", "x")


def is_coral(foreign: ForeignModel) -> bool:
    """Whether the types and the quantisation of input and output are those of Coral's classifiers."""
    input_ = foreign.input
    return (
        foreign.format is Format.TFLITE
        and (input_.dtype, foreign.output.dtype, input_.zero_point) == ("uint8", "uint8", 128)
        and abs(input_.scale * 128 - 1) < 0.01
    )


def has_tflite_metadata(foreign: ForeignModel) -> bool:
    """Whether TFLite's standard metadata describe the input as an image."""
    return foreign.format is Format.TFLITE and foreign.clues.metadata.get("input.content") == "image"


def is_pytorch(foreign: ForeignModel) -> bool:
    """Whether PyTorch wrote the ONNX file."""
    return foreign.format is Format.ONNX and foreign.clues.writer.lower().startswith("pytorch")


def is_small(foreign: ForeignModel) -> bool:
    """Whether the input is so small that the network may have been trained with the mean and deviation of CIFAR."""
    return 0 < max(foreign.height, foreign.width) <= CIFAR_SIDE


def writer_is(word: str) -> Callable[[ForeignModel], bool]:
    """Return a function that tells whether the program that the file names as its writer contains `word`."""
    return lambda foreign: word in foreign.clues.writer.lower()


def onnx_names(inputs: Sequence[str], outputs: Sequence[str]) -> Callable[[ForeignModel], bool]:
    """Return a function that tells whether a file is ONNX with these names of input and output, as `has_names`."""
    return lambda foreign: foreign.format is Format.ONNX and has_names(foreign, inputs, outputs)


def keras_layers(*layers: str, without: str = "") -> Callable[[ForeignModel], bool]:
    """Return a function that tells whether a TensorFlow file has layers with these names, and none named `without`."""
    return lambda foreign: (
        is_tensorflow(foreign) and has_nodes(foreign, *layers) and not (without and has_nodes(foreign, without))
    )


def file_stem(stem: str, side: int) -> Callable[[ForeignModel], bool]:
    """Return a function that tells whether a file's name begins with `stem` and its input has this height."""
    return lambda foreign: foreign.path.stem.lower().startswith(stem) and foreign.height == side


def is_gluon(foreign: ForeignModel) -> bool:
    """Whether the output has the name that MXNet gives it when it exports a network of GluonCV."""
    return (
        foreign.format is Format.ONNX
        and base_name(foreign.input.name) == "data"
        and re.fullmatch(r"[a-z]+(v\d+)?\d*_(dense|output|flatten|pred)\d*_.*", base_name(foreign.output.name))
        is not None
    )


def is_fastai(foreign: ForeignModel) -> bool:
    """Whether the head pools both the maximum and the average, as the head of fastai does."""

    return is_pytorch(foreign) and all(
        any(word in node for node in foreign.clues.nodes) for word in ("GlobalMaxPool", "GlobalAveragePool")
    )
