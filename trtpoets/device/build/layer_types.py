"""Parses the JSON of TensorRT's engine inspector into the precision of each layer.

The JSON has one object per layer if the engine was built with detailed profiling verbosity. Up to 10.x a tensor's type
is a word in "Format/Datatype", such as "Thirty-two wide channel vectorized row major Int8 format" or "Half"; 11 has two
fields (docs.nvidia.com/deeplearning/tensorrt, "Engine Inspector" and "Migrating IEngineInspector Usage").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Mapping

from trtpoets.core.types import LayerReport

_TYPES = {
    "int8": "int8",
    "fp8": "fp8",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "half": "fp16",
    "fp16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
}
_TYPE = re.compile(r"\b(" + "|".join(_TYPES) + r")\b")

_FIELDS = ("Format/Datatype", "DataType", "Datatype", "Format")

_COMPUTES_NOTHING = ("reformat", "noop", "constant", "shuffle", "signal", "wait", "nop")
"""Types of layers that only move or store data."""


def report_from_inspector(text: str) -> LayerReport:
    """The report for the result of `get_engine_information(JSON)`; empty, with the reason, if it can't be parsed."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return unknown_layers("the engine inspector's answer has an unknown form")
    types = {
        str(layer.get("Name", number)): _arithmetic(layer)
        for number, layer in enumerate(layers if isinstance(layers, list) else [])
        if isinstance(layer, dict) and _computes(layer)
    }
    known = {name: kind for name, kind in types.items() if kind}
    if not known:
        return unknown_layers("the engine inspector reports no types of layers")
    counts = Counter(known.values())
    return LayerReport(
        layers=known,
        counts=dict(counts.most_common()),
        shares={kind: count / len(known) for kind, count in counts.most_common()},
    )


def int8_doubt(layers: LayerReport) -> str:
    """A warning about an INT8 engine with at least as many FP32 layers as INT8 layers, else "".

    A builder that can't fuse Q/DQ pairs computes them in FP32 without a message. Layers in FP16 are expected: layers
    that are not quantised use it.
    """
    if not layers.counts:
        return ""
    int8, fp32 = (layers.counts.get(kind, 0) for kind in ("int8", "fp32"))
    if int8 > fp32:
        return ""
    total = sum(layers.counts.values())
    return f"of {total} layers, {int8} run in INT8 and {fp32} in FP32: the INT8 engine may not be faster than FP32"


def unknown_layers(reason: str) -> LayerReport:
    """The report of an engine whose layers are unknown."""
    return LayerReport({}, {}, {}, reason)


def _computes(layer: Mapping[str, object]) -> bool:
    return str(layer.get("LayerType", "")).lower() not in _COMPUTES_NOTHING


def _arithmetic(layer: Mapping[str, object]) -> str:
    """The type of a layer's weights, else of the first tensor that it reads, else of the first that it writes."""
    tensors = [layer.get("Weights"), *_list(layer.get("Inputs")), *_list(layer.get("Outputs"))]
    return next(filter(None, map(_type_of, tensors)), "")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _type_of(tensor: Any) -> str:
    if not isinstance(tensor, dict):
        return ""
    words = (str(tensor[field]) for field in ("Type", *_FIELDS) if field in tensor)
    match = next(filter(None, (_TYPE.search(word.lower()) for word in words)), None)
    return _TYPES[match.group(1)] if match else ""
