"""The options by which `trtexec` builds an ONNX file of a bundle in the types that `build` takes.

TensorRT 8 is told by flags what it may compute in, and 10 for INT8, as in `device/tensorrt_config.weakly_typed`; 10
takes the types of the file otherwise; 11 knows nothing else. Options as in NVIDIA's samples/common/sampleOptions.cpp:
8.4 and later constrain layers, by the names that the ONNX parser gives them, which are those of the nodes.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_graph import fp32_nodes, read_graph
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import Precision

if TYPE_CHECKING:
    from trtpoets.core.types import OnnxModel

_CONSTRAINS = (8, 4)
_EASY = ("Softmax",)
"""Operators that are in FP32 for the last digits of the scores: they do not overflow in FP16."""


def type_options(model: OnnxModel, tensorrt: str) -> str:
    """What `trtexec` of a TensorRT is told of types, as words for a shell; empty where there is nothing to tell.

    Raises BadArtefact where the file can't be read.
    """
    version = numbers_of(tensorrt)
    if model.precision is Precision.FP32:
        return "--stronglyTyped" if version[0] == 10 else ""
    kept = _kept(model)
    if version < (10, 0):
        flags = "--int8 --fp16" if model.precision is Precision.INT8 else "--fp16"
        return f"{flags} {_constraints(kept)}" if kept and version >= _CONSTRAINS else flags
    if version >= (11, 0):
        return ""
    # From 10 on the parser constrains the layers of Q/DQ pairs, and trtexec can't take that back: constraints that are
    # obeyed would make all that lies beside them FP32. What must not overflow is then built as the file says.
    overflow = [name for name, operator in kept.items() if operator not in _EASY]
    return "--int8 --fp16" if model.precision is Precision.INT8 and not overflow else "--stronglyTyped"


def numbers_of(tensorrt: str) -> tuple[int, int]:
    """Major and minor of a version of TensorRT."""
    major, minor = (int(number) for number in tensorrt.split(".")[:2])
    return major, minor


def _kept(model: OnnxModel) -> dict[str, str]:
    """The nodes that must compute in FP32, and their operators."""
    try:
        graph = read_graph(bytes(read_bytes(model.path)))
        names = set(fp32_nodes(graph))
    except ValueError as error:
        raise BadArtefact(
            f"{model.path} is not a valid ONNX file: {error}", hint="export it again", code="TP6008"
        ) from error
    return {node.name: node.operator for node in graph.nodes if node.name in names}


def _constraints(names: dict[str, str]) -> str:
    types = shlex.quote(",".join(f"{name}:fp32" for name in names))
    return f"--precisionConstraints=obey --layerPrecisions={types} --layerOutputTypes={types}"
