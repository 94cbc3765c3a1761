"""Describes a TFLite file of another program by its contents. The interpreter does not load it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from trtpoets.adoption.description import NetworkFacts, by_number, known_about
from trtpoets.adoption.tflite.contents import Tensor, read_contents
from trtpoets.adoption.tflite.pixels import sibling_pixels
from trtpoets.adoption.tflite.reader import described_classifier
from trtpoets.convert.graph.onnx_facts import TensorFacts
from trtpoets.core.errors import BadArtefact

_DTYPES = {"float32": "fp32", "float16": "fp16", "float64": "fp64"}
_WEIGHTS = ("float32", "float16", "float64", "int8", "uint8", "int4")


def facts_of_tflite(path: Path) -> NetworkFacts:
    """Describe a TFLite file. Raises BadArtefact if it is damaged, MissingDependency."""
    contents = read_contents(path)
    constants = [tensor for tensor in contents.tensors if tensor.data is not None and tensor.dtype in _WEIGHTS]
    weights: Counter[str] = Counter()
    for tensor in constants:
        weights[_dtype(tensor)] += int(tensor.data.size) if tensor.data is not None else 0
    try:
        model, refused = described_classifier(contents), ""
    except BadArtefact as error:
        model, refused = None, error.message
    integers = [tensor for tensor in map(contents.tensors.__getitem__, contents.inputs) if tensor.quantisation]
    scales = [f"the input {tensor.name} is {_quantised(tensor)}" for tensor in integers]
    sibling = sibling_pixels(model) if model is not None else None
    beside = [sibling.evidence.text] if sibling is not None else []
    producer, labels, where, sentences = known_about(model, [*scales, *beside])
    return NetworkFacts(
        producer or contents.description,
        tuple(_tensor(contents.tensors[index]) for index in contents.inputs),
        tuple(_tensor(contents.tensors[index]) for index in contents.outputs),
        by_number(operator.kind for operator in contents.operators),
        dict(weights.most_common()),
        labels,
        where,
        sentences,
        refused,
    )


def _dtype(tensor: Tensor) -> str:
    return _DTYPES.get(tensor.dtype, tensor.dtype)


def _tensor(tensor: Tensor) -> TensorFacts:
    free = tensor.dynamic or (False,) * len(tensor.shape)
    sizes = tuple(None if any_ else size for size, any_ in zip(tensor.shape, free, strict=True))
    return TensorFacts(tensor.name, _dtype(tensor), sizes)


def _quantised(tensor: Tensor) -> str:
    assert tensor.quantisation is not None
    if tensor.quantisation.scale.size != 1:
        return f"{tensor.dtype} with {tensor.quantisation.scale.size} scales"
    scale, zero = tensor.quantisation.single
    return f"{tensor.dtype}, scale {scale:.6g}, zero point {zero}"
