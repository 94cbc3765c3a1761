"""Constrains layers of a weakly typed network to FP32, for which the builder would otherwise choose FP16.

A layer's precision and output types are suggestions unless the builder has OBEY_PRECISION_CONSTRAINTS (then "build
fails with an error message" if they can't be satisfied: NvInfer.h, ILayer::setPrecision, 8.5 to 10.16). Every layer has
an FP32 implementation on the GPU, so the flag makes no build fail; with a DLA such layers fall back to the GPU.

The ONNX parser also sets constraints in weakly typed networks: the type of its scale becomes the precision of a
Quantize layer and the output type of a Dequantize layer (onnx-tensorrt, QuantDequantLinearHelper, 10.x; 8.5 and 8.6 set
none). They would make all layers next to INT8 layers FP32, so they are reset.
"""

from __future__ import annotations

from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_graph import OnnxGraph, fp32_nodes, read_graph
from trtpoets.device.build.tensorrt_config import OBEY
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import Messages


def keep_fp32(library: TensorRt, network: Any, config: Any, onnx: bytes, messages: Messages) -> None:
    """Constrain the layers of a parsed network that the ONNX file keeps in FP32.

    Call it after the flags of the builder config are set: without FP16 it does nothing. Nodes without a layer are
    reported in `messages.doubts`. Raises BadArtefact if the file can't be read.
    """
    flags = library.module.BuilderFlag
    if not config.get_flag(flags.FP16):
        return
    try:
        graph = read_graph(onnx)
        kept = fp32_nodes(graph)
    except ValueError as error:
        raise BadArtefact(
            f"the nodes of the ONNX file can't be read: {error}", hint="export it again", code="TP4045"
        ) from error
    if not kept:
        return
    quantised = _nodes_with_int8_inputs(graph)
    constrained = set()
    for index, owner in _owners(network, graph).items():
        if owner in kept and _constrain(library, network.get_layer(index), owner not in quantised):
            constrained.add(owner)
    missing = [name for name in kept if name not in constrained]
    if missing:
        messages.doubts.append(
            f"{library.title} has no layer for {', '.join(missing)}, which must stay in FP32 and may compute in FP16"
        )
    if constrained:
        _reset_quantizers(library, network)
        config.set_flag(getattr(flags, OBEY))


def _owners(network: Any, graph: OnnxGraph) -> Mapping[int, str]:
    """The name of the ONNX node of each layer, by the layer's index.

    The parser processes the nodes in order and adds the layers of each. Their output tensors get the names of the
    node's outputs; the main layer gets the node's name (ModelImporter.cpp, ImporterContext.cpp of onnx-tensorrt).
    Helper layers, such as the bias of a Gemm, have other names.
    """
    producers = {name: node.name for node in graph.nodes for name in node.outputs}
    names = {node.name for node in graph.nodes}
    owners: dict[int, str] = {}
    pending: list[int] = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        pending.append(index)
        for output in range(layer.num_outputs):
            tensor = layer.get_output(output)
            if tensor.name in producers:
                owners.update(dict.fromkeys(pending, producers[tensor.name]))
                pending = []
        if layer.name in names:
            owners[index] = layer.name
            pending = [other for other in pending if other != index]
    return owners


def _nodes_with_int8_inputs(graph: OnnxGraph) -> set[str]:
    """The nodes whose inputs come from a DequantizeLinear: they compute in INT8, and only their outputs are floats."""
    dequantised = {name for node in graph.nodes if node.operator == "DequantizeLinear" for name in node.outputs}
    return {node.name for node in graph.nodes if dequantised.intersection(node.inputs)}


def _constrain(library: TensorRt, layer: Any, arithmetic: bool) -> bool:
    """Constrain a layer's outputs (with `arithmetic` also its computation) to FP32; False if it has no float output."""
    types, kinds = library.module.DataType, library.module.LayerType
    if layer.type in (kinds.CONSTANT, kinds.SHAPE, kinds.QUANTIZE, kinds.DEQUANTIZE):
        return False
    floats = False
    for index in range(layer.num_outputs):
        tensor = layer.get_output(index)
        if tensor.dtype in (types.FLOAT, types.HALF):
            layer.set_output_type(index, types.FLOAT)
            floats = True
    if floats and arithmetic:
        layer.precision = types.FLOAT
    return floats


def _reset_quantizers(library: TensorRt, network: Any) -> None:
    kinds = library.module.LayerType
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kinds.QUANTIZE:
            layer.reset_precision()
        elif layer.type == kinds.DEQUANTIZE:
            layer.reset_output_type(0)
