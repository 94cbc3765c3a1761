"""Describes a Keras file by its configuration and its weights. Neither Keras nor TensorFlow is imported."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trtpoets.adoption.description import NetworkFacts, by_number, known_about, model_of, refusal_of, refusal_of_input
from trtpoets.adoption.foreign import Clues
from trtpoets.adoption.tensorflow.keras_config import require_no_code
from trtpoets.adoption.tensorflow.keras_files import KerasContent, content_of
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.errors import BadArtefact
from trtpoets.core.original import Format

_MODELS = ("Sequential", "Functional", "Model")
_DTYPES = {"float32": "fp32", "float16": "fp16", "float64": "fp64", "bfloat16": "bf16"}
_MAX_LAYERS = 20_000
_WITHOUT_UNITS = ("Activation", "Softmax", "Dropout", "Flatten", "Reshape", "ReLU")
"""Layers that keep the number of classes of the layer before them."""

LayerConfig = Mapping[str, Any]
"""The JSON of a layer in a Keras configuration. Its values are checked where they are read."""


def facts_of_keras(path: Path) -> NetworkFacts:
    """Describe a Keras file. Raises BadArtefact if it is damaged or has no network, MissingDependency."""
    content = content_of(path)
    layers = list(_layers(content.config))
    version = content.metadata.get("keras_version", "")
    inputs, outputs = _ends(content.config, layers)
    classes = _classes(layers)
    if len(outputs) == 1 and classes:
        outputs = (TensorFacts(outputs[0].name, outputs[0].dtype, (None, classes)),)
    clues = Clues(f"keras {version}".strip(), tuple(_name(layer) for layer in layers), dict(content.metadata))
    single = len(inputs) == len(outputs) == 1
    model = model_of(path, Format.KERAS, inputs[0], outputs[0], classes, clues) if single else None
    producer, labels, where, sentences = known_about(model, _scaling(layers))
    return NetworkFacts(
        producer or clues.writer,
        inputs,
        outputs,
        by_number(str(layer["class_name"]) for layer in layers),
        _weights(content),
        labels,
        where,
        sentences,
        _refused(content, path, inputs, outputs),
    )


def _layers(config: Any) -> Iterator[LayerConfig]:
    """Yield the layers of a configuration in their order, those of networks inside it too."""
    pending, count = [config], 0
    while pending and count < _MAX_LAYERS:
        part = pending.pop()
        inner = part.get("config") if isinstance(part, dict) else None
        if not isinstance(inner, (dict, list)) or not isinstance(part.get("class_name"), str):
            continue
        layers = inner if isinstance(inner, list) else inner.get("layers")  # Keras before 2.2 had a list
        if part["class_name"] in _MODELS and isinstance(layers, list):
            pending += reversed(layers)
        elif isinstance(inner, dict):
            count += 1
            yield part


def _name(layer: LayerConfig) -> str:
    return str(layer["config"].get("name", ""))


def _dtype(layer: LayerConfig) -> str:
    dtype = layer["config"].get("dtype", "float32")
    if isinstance(dtype, dict):  # a policy of Keras 3
        dtype = dtype.get("config", {}).get("name", "float32")
    return _DTYPES.get(str(dtype), str(dtype))


def _ends(config: Any, layers: list[LayerConfig]) -> tuple[tuple[TensorFacts, ...], tuple[TensorFacts, ...]]:
    """Return the inputs and outputs of the outer network; the shapes of outputs are unknown."""
    inner = config.get("config", {}) if isinstance(config, dict) else {}
    by_name = {_name(layer): layer for layer in layers}
    inner = inner if isinstance(inner, dict) else {}
    named = [_names(inner.get(key)) for key in ("input_layers", "output_layers")]
    sources = [by_name[name] for name in named[0] if name in by_name]
    if not sources:
        sources = [layer for layer in layers if _shape(layer) is not None][:1]
    inputs = tuple(TensorFacts(_name(layer), _dtype(layer), _shape(layer)) for layer in sources)
    if not named[1]:
        named[1] = [_name(layers[-1])] if layers else []
    kinds = [_dtype(by_name[name]) if name in by_name else "fp32" for name in named[1]]
    return inputs, tuple(TensorFacts(name, kind, None) for name, kind in zip(named[1], kinds, strict=True))


def _names(value: Any) -> list[str]:
    """Return the names in `input_layers` or `output_layers`: ["a", 0, 0], or a list of such."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [value[0]]
    entries = value if isinstance(value, list) else []
    return [str(entry[0]) for entry in entries if isinstance(entry, list) and entry]


def _shape(layer: LayerConfig) -> tuple[int | str | None, ...] | None:
    config = layer["config"]
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    if not isinstance(shape, list) or not all(size is None or isinstance(size, int) for size in shape):
        return None
    return tuple(shape)


def _classes(layers: list[LayerConfig]) -> int:
    """Return the number of values of the last layer, 0 if the configuration does not say it."""
    for layer in reversed(layers):
        units = layer["config"].get("units")
        if isinstance(units, int) and layer["class_name"] == "Dense":
            return units
        if layer["class_name"] not in _WITHOUT_UNITS:
            break
    return 0


def _scaling(layers: list[LayerConfig]) -> Iterator[str]:
    """Yield what the layers state that scale pixels."""
    for layer in layers:
        config = layer["config"]
        if layer["class_name"] == "Rescaling":
            yield f"the layer {_name(layer)} computes x * {_number(config, 'scale')} + {_number(config, 'offset')}"
        elif layer["class_name"] == "Normalization":
            yield f"the layer {_name(layer)} subtracts a mean and divides by a deviation"


def _number(config: LayerConfig, key: str) -> str:
    value = config.get(key, 0)
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


def _weights(content: KerasContent) -> dict[str, int]:
    """Return the number of float weights by type, without those of the optimizer."""
    import h5py

    counts: Counter[str] = Counter()

    def visit(name: str, item: Any) -> None:
        optimizer = name.split("/", maxsplit=1)[0] in ("optimizer", "optimizer_weights")
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and not optimizer:
            counts[_DTYPES.get(item.dtype.name, item.dtype.name)] += int(item.size)

    with h5py.File(io.BytesIO(content.h5), "r") as file:
        file.visititems(visit)
    return dict(counts.most_common())


def _refused(
    content: KerasContent, path: Path, inputs: tuple[TensorFacts, ...], outputs: tuple[TensorFacts, ...]
) -> str:
    """Return why the file is not adopted, as far as its configuration says it."""
    try:
        require_no_code(content.config, path, allow_code=False)
    except BadArtefact as error:
        return error.message
    several = refusal_of(inputs, "inputs") or refusal_of(outputs, "outputs")
    return several or (refusal_of_input(inputs[0]) if inputs else "")
