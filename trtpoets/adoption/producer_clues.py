"""Recognises the program that wrote a classifier file by names in the graph, metadata and the files beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.metadata import ultralytics_metadata
from trtpoets.adoption.neighbours import json_beside
from trtpoets.core.original import Format

CIFAR_SIDE = 64
"""CIFAR's statistics are considered for inputs up to this side. CIFAR's photos have 32 pixels."""

_TENSORFLOW = (Format.KERAS, Format.SAVED_MODEL, Format.GRAPH_DEF, Format.TFLITE)


def base_name(name: str) -> str:
    """Return a tensor's name without ":0" and without the prefix of a TFLite signature."""
    return name.rsplit(":", 1)[0].removeprefix("serving_default_")


def has_names(foreign: ForeignModel, inputs: Sequence[str], outputs: Sequence[str]) -> bool:
    """Whether the input has one of these names, and the output one of `outputs` if there are any."""
    return base_name(foreign.input.name) in inputs and (not outputs or base_name(foreign.output.name) in outputs)


def has_nodes(foreign: ForeignModel, *parts: str) -> bool:
    """Whether each part is the beginning of a node's name, or follows a "/" in one."""
    return all(any(node.startswith(part) or f"/{part}" in node for node in foreign.clues.nodes) for part in parts)


def is_tensorflow(foreign: ForeignModel) -> bool:
    """Whether the file has a format of TensorFlow, TFLite included."""
    return foreign.format in _TENSORFLOW


def is_retrained(foreign: ForeignModel) -> bool:
    """Whether the output is that of the scripts named retrain.py."""
    return is_tensorflow(foreign) and base_name(foreign.output.name) == "final_result"


def is_hub_retrained(foreign: ForeignModel) -> bool:
    """Whether retrain.py of TensorFlow Hub wrote the file."""
    return is_retrained(foreign) and base_name(foreign.input.name).startswith("Placeholder")


def is_teachable_machine(foreign: ForeignModel) -> bool:
    """Whether Teachable Machine wrote the file."""
    if not is_tensorflow(foreign) or (foreign.height, foreign.width) != (224, 224):
        return False
    # Its networks come from TensorFlow.js, which names layers in this way. The numbers of the Sequential models vary.
    if has_nodes(foreign, "dense_Dense"):
        return True
    is_nested = has_nodes(foreign, "sequential_3") or any("/model1/" in node for node in foreign.clues.nodes)
    return re.fullmatch(r"sequential_\d+_input", base_name(foreign.input.name)) is not None and is_nested


def is_slim(foreign: ForeignModel) -> bool:
    """Whether the network is one of TF-Slim, with its original output."""
    names = (*foreign.clues.nodes, foreign.output.name)
    networks = ("MobilenetV1/", "MobilenetV2/", "MobilenetV3/", "InceptionV", "InceptionResnetV2/")
    return (
        is_tensorflow(foreign)
        and base_name(foreign.output.name) != "final_result"
        and any(name.startswith(networks) and "/Predictions/" in name for name in names)
    )


def manifest(foreign: ForeignModel) -> dict[str, object]:
    """Return the cvexport.manifest of an Azure classifier beside the file, empty if there is none."""
    content = json_beside(foreign, "cvexport.manifest")
    return content if content.get("DomainType") == "Classification" else {}


def is_azure(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the file for TensorFlow or TFLite."""
    names = ("loss", "model_output", "model_outputs", "outputs")
    by_names = has_names(foreign, ("Placeholder", "data"), names[:2])
    return is_tensorflow(foreign) and (by_names or bool(manifest(foreign)))


def is_azure_s1(foreign: ForeignModel) -> bool:
    """Whether it is one of the exports with 300 pixels."""
    if not is_azure(foreign):
        return False
    target = json_beside(foreign, "metadata_properties.json").get("CustomVision.Preprocess.TargetHeight")
    return foreign.height == 300 or str(target) == "300"


def is_azure_onnx(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the ONNX file, without keys about the pixels."""
    keys = foreign.clues.metadata
    return foreign.format is Format.ONNX and bool(manifest(foreign)) and "Image.BitmapPixelFormat" not in keys


def is_azure_onnx_with_keys(foreign: ForeignModel) -> bool:
    """Whether Azure Custom Vision exported the ONNX file, with keys about the pixels."""
    outputs = ("loss", "classLabel", "model_output", "model_outputs")
    named = bool(manifest(foreign)) or has_names(foreign, ("data",), outputs)
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


def ultralytics_date(foreign: ForeignModel) -> str | None:
    """Return the date of an Ultralytics classifier, "" if it has none; None for other files."""
    metadata = ultralytics_metadata(foreign)
    return metadata.get("date", "")[:10] if metadata.get("task") == "classify" else None


def is_ultralytics(foreign: ForeignModel) -> bool:
    """Whether Ultralytics wrote a classifier since it takes 0..1 without statistics."""
    return (ultralytics_date(foreign) or "") >= "2023-04"


def is_early_ultralytics(foreign: ForeignModel) -> bool:
    """Whether Ultralytics wrote a classifier before that, or at an unknown date."""
    date = ultralytics_date(foreign)
    return date is not None and date < "2023-04"


def is_edge_impulse(foreign: ForeignModel) -> bool:
    """Whether the input has the name that Edge Impulse gives it."""
    return foreign.format is Format.TFLITE and base_name(foreign.input.name) in ("x_input", "x")


def is_coral(foreign: ForeignModel) -> bool:
    """Whether the input and output have the types and quantisation of Coral's classifiers."""
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
    """Whether the input is so small that the network may be trained with CIFAR's statistics."""
    return 0 < max(foreign.height, foreign.width) <= CIFAR_SIDE


def writer_is(word: str) -> Callable[[ForeignModel], bool]:
    """Recognise the name of the writer that the file states."""
    return lambda foreign: word in foreign.clues.writer.lower()


def onnx_names(inputs: Sequence[str], outputs: Sequence[str]) -> Callable[[ForeignModel], bool]:
    """Recognise the names of input and output of an ONNX file."""
    return lambda foreign: foreign.format is Format.ONNX and has_names(foreign, inputs, outputs)


def keras_layers(*layers: str, without: str = "") -> Callable[[ForeignModel], bool]:
    """Recognise a network of keras.applications by the names of layers."""
    return lambda foreign: (
        is_tensorflow(foreign) and has_nodes(foreign, *layers) and not (without and has_nodes(foreign, without))
    )


def file_stem(stem: str, side: int) -> Callable[[ForeignModel], bool]:
    """Recognise the beginning of the file's name and the side of its input."""
    return lambda foreign: foreign.path.stem.lower().startswith(stem) and foreign.height == side


def is_gluon(foreign: ForeignModel) -> bool:
    """Whether the output is named by a network of GluonCV, as MXNet exports it."""
    return (
        foreign.format is Format.ONNX
        and base_name(foreign.input.name) == "data"
        and bool(re.fullmatch(r"[a-z]+(v\d+)?\d*_(dense|output|flatten|pred)\d*_.*", base_name(foreign.output.name)))
    )


def is_fastai(foreign: ForeignModel) -> bool:
    """Whether the head pools both the maximum and the average, as that of fastai."""
    return is_pytorch(foreign) and all(
        any(word in node for node in foreign.clues.nodes) for word in ("GlobalMaxPool", "GlobalAveragePool")
    )
