"""What TensorRT's engine inspector tells, as numbers: in which arithmetic each layer of an engine runs.

The JSON has one object a layer where an engine was built with detailed verbosity. Up to 10.x a tensor's type is a word
in "Format/Datatype", as in "Thirty-two wide channel vectorized row major Int8 format" or "Half"; 11 has two fields
(docs.nvidia.com/deeplearning/tensorrt, "Engine Inspector" and "Migrating IEngineInspector Usage").
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
"""Kinds of layers that move or hold numbers."""


def report_from_inspector(text: str) -> LayerReport:
    """Read what `get_engine_information(JSON)` gave. What can't be read gives an empty report that says why."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return untold("its inspector answers in another form than is known here")
    told = {
        str(layer.get("Name", number)): _arithmetic(layer)
        for number, layer in enumerate(layers if isinstance(layers, list) else [])
        if isinstance(layer, dict) and _computes(layer)
    }
    known = {name: kind for name, kind in told.items() if kind}
    if not known:
        return untold("its inspector names the layers and nothing else")
    counts = Counter(known.values())
    return LayerReport(
        layers=known,
        counts=dict(counts.most_common()),
        shares={kind: count / len(known) for kind, count in counts.most_common()},
    )


def int8_doubt(layers: LayerReport) -> str:
    """What is wrong with the layers of an INT8 engine; empty where more of them run in INT8 than in FP32.

    A builder that finds no use for Q/DQ pairs takes them as arithmetic in FP32 and says nothing. Layers in FP16 are
    none of its failures: what is not quantised runs so.
    """
    if not layers.counts:
        return ""
    int8, fp32 = (layers.counts.get(kind, 0) for kind in ("int8", "fp32"))
    if int8 > fp32:
        return ""
    total = sum(layers.counts.values())
    return f"of {total} layers {int8} run in INT8 and {fp32} in FP32: this INT8 engine may be no faster than FP32's"


def untold(reason: str) -> LayerReport:
    """The report of an engine whose layers can't be known."""
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
    found = next(filter(None, (_TYPE.search(word.lower()) for word in words)), None)
    return _TYPES[found.group(1)] if found else ""
