"""Layers of a weakly typed network that must compute in FP32, told to the builder, which otherwise takes FP16.

A layer's precision and output types are suggestions unless the builder has OBEY_PRECISION_CONSTRAINTS ("build fails
with an error message" where they can't be kept: NvInfer.h, ILayer::setPrecision, 8.5 to 10.16). Every layer has an FP32
form on the GPU, so that flag fails no build; on a DLA such layers fall back on the GPU.

The ONNX parser sets constraints of its own in weakly typed networks: a Quantize layer gets the type of its scale as
precision, a Dequantize layer as output type (onnx-tensorrt, QuantDequantLinearHelper, 10.x; 8.5 and 8.6 set none).
Obeyed, they would make everything beside INT8 layers FP32, so they are taken back.
"""

from __future__ import annotations

from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_graph import OnnxGraph, fp32_nodes, read_graph
from trtpoets.device.build.tensorrt_config import OBEY
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import Messages


def keep_fp32(library: TensorRt, network: Any, config: Any, onnx: bytes, messages: Messages) -> None:
    """Constrain the layers that the ONNX file keeps in FP32, in a network that was parsed from it.

    To be called once the configuration has its flags: where FP16 is not among them, nothing is to be done. Layers that
    are not found are told of in `messages.doubts`. Raises BadArtefact where the file can't be read.
    """
    flags = library.module.BuilderFlag
    if not config.get_flag(flags.FP16):
        return
    try:
        graph = read_graph(onnx)
        kept = fp32_nodes(graph)
    except ValueError as error:
        raise BadArtefact(
            f"the ONNX file does not tell its nodes: {error}", hint="export it again", code="TP4045"
        ) from error
    if not kept:
        return
    quantised = _reading_quantised(graph)
    found = set()
    for index, owner in _owners(network, graph).items():
        if owner in kept and _constrain(library, network.get_layer(index), owner not in quantised):
            found.add(owner)
    lost = [name for name in kept if name not in found]
    if lost:
        messages.doubts.append(
            f"{library.title} has no layer for {', '.join(lost)}, to be kept in FP32: it may compute in FP16"
        )
    if found:
        _free_quantisers(library, network)
        config.set_flag(getattr(flags, OBEY))


def _owners(network: Any, graph: OnnxGraph) -> Mapping[int, str]:
    """The ONNX node of each layer, by the layer's number.

    The parser goes through the nodes in order, adds the layers of each, and gives the tensors that they end in the
    names of the node's outputs; the main layer gets the node's name (ModelImporter.cpp, ImporterContext.cpp of
    onnx-tensorrt). Helper layers, as the bias of a Gemm, have other names.
    """
    makers = {name: node.name for node in graph.nodes for name in node.outputs}
    names = {node.name for node in graph.nodes}
    owners: dict[int, str] = {}
    pending: list[int] = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        pending.append(index)
        for output in range(layer.num_outputs):
            tensor = layer.get_output(output)
            if tensor.name in makers:
                owners.update(dict.fromkeys(pending, makers[tensor.name]))
                pending = []
        if layer.name in names:
            owners[index] = layer.name
            pending = [each for each in pending if each != index]
    return owners


def _reading_quantised(graph: OnnxGraph) -> set[str]:
    """The nodes that read what a DequantizeLinear gives: their arithmetic is INT8, only what they give is a float."""
    dequantised = {name for node in graph.nodes if node.operator == "DequantizeLinear" for name in node.outputs}
    return {node.name for node in graph.nodes if dequantised.intersection(node.inputs)}


def _constrain(library: TensorRt, layer: Any, arithmetic: bool) -> bool:
    """Ask for FP32 outputs, and with `arithmetic` for FP32 within the layer too; whether it computes in floats."""
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


def _free_quantisers(library: TensorRt, network: Any) -> None:
    kinds = library.module.LayerType
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kinds.QUANTIZE:
            layer.reset_precision()
        elif layer.type == kinds.DEQUANTIZE:
            layer.reset_output_type(0)
