"""Precision options with which `trtexec` builds an ONNX file of a bundle as `trtpoets build` does.

TensorRT 8, and 10 for INT8, take precision flags (see `device/build/tensorrt_config.weakly_typed`); otherwise 10 builds
a strongly typed network; 11 supports nothing else. The options are those of NVIDIA's samples/common/sampleOptions.cpp.
Trtexec 8.4 and later can constrain single layers by name; the ONNX parser names layers like the nodes.
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
_NO_OVERFLOW = ("Softmax",)
"""Operators that are kept in FP32 only for precise scores, and do not overflow in FP16."""


def type_options(model: OnnxModel, tensorrt: str) -> str:
    """Return the precision options of `trtexec` for a TensorRT version, as shell words; "" if it needs none.

    Raises BadArtefact if the file cannot be read.
    """
    version = numbers_of(tensorrt)
    if model.precision is Precision.FP32:
        return "--stronglyTyped" if version[0] == 10 else ""
    kept = _fp32_operators(model)
    if version < (10, 0):
        flags = "--int8 --fp16" if model.precision is Precision.INT8 else "--fp16"
        return f"{flags} {_constraints(kept)}" if kept and version >= _CONSTRAINS else flags
    if version >= (11, 0):
        return ""
    # From TensorRT 10 on, the parser constrains the layers of Q/DQ pairs, and trtexec cannot undo that. With
    # --precisionConstraints=obey all other layers would run in FP32. So if a layer could overflow in FP16, the network
    # is built strongly typed.
    overflow = [name for name, operator in kept.items() if operator not in _NO_OVERFLOW]
    return "--int8 --fp16" if model.precision is Precision.INT8 and not overflow else "--stronglyTyped"


def numbers_of(tensorrt: str) -> tuple[int, int]:
    """Return major and minor of a TensorRT version."""
    major, minor = (int(number) for number in tensorrt.split(".")[:2])
    return major, minor


def _fp32_operators(model: OnnxModel) -> dict[str, str]:
    """Return the nodes that must compute in FP32, mapped to their operators. Raises BadArtefact."""
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
