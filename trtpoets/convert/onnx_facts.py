"""What an ONNX file holds: operators, precisions, parameters, work. Of any file, whoever wrote it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.graph import QUANTISERS, WEIGHTED, GraphView, multiply_adds
from trtpoets.core.onnx_file import CALIBRATION_KEY, PRECISION_KEY, SPEC_KEY, check_onnx, metadata_of
from trtpoets.core.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PASSES_ON = ("Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")
"""Operators that change nothing of what a number is worth: between a pair and the product that it is for."""


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: its numbers as "uint8", its sizes; None or a name ("N") where a size is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class WorkFacts:
    """The convolutions and matrix products that compute in one precision, and their multiply-adds for one photo."""

    layers: int
    multiply_adds: int


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file holds.

    `operators` counts nodes, commonest first. `parameters` counts the numbers of its constants, but not the steps and
    zero points of Q/DQ pairs. `work` is by precision: the pairs' ("int8") for what reads its two factors through Q/DQ
    pairs, else the type of its weights. `sizes_unknown` counts products whose shapes can't be told: the sums lack them.
    `spec`, `precision` and `calibration` are what trtpoets wrote into the file; None in others' files.
    """

    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    operators: Mapping[str, int]
    quantizers: int
    dequantizers: int
    parameters: int
    multiply_adds: int
    work: Mapping[str, WorkFacts]
    sizes_unknown: int
    precision: str | None
    calibration: str | None
    spec: ModelSpec | None


def facts_of_onnx(path: Path) -> OnnxFacts:
    """Check and read an ONNX file. Raises MissingArtefact, BadArtefact with what is wrong, MissingDependency."""
    model = check_onnx(path)
    view = GraphView(model)
    work, unknown = _work(view)
    metadata = metadata_of(model)
    operators = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in view.nodes)
    return OnnxFacts(
        ir_version=int(model.ir_version),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import},
        # Old files list their constants among the inputs.
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in view.constants),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        operators=dict(sorted(operators.items(), key=lambda each: (-each[1], each[0]))),
        quantizers=operators["QuantizeLinear"],
        dequantizers=operators["DequantizeLinear"],
        parameters=_parameters(view),
        multiply_adds=sum(each.multiply_adds for each in work.values()),
        work=work,
        sizes_unknown=unknown,
        precision=metadata.get(PRECISION_KEY),
        calibration=metadata.get(CALIBRATION_KEY),
        spec=ModelSpec.from_json(metadata[SPEC_KEY], str(path)) if SPEC_KEY in metadata else None,
    )


def _work(view: GraphView) -> tuple[dict[str, WorkFacts], int]:
    """The work of each precision, most first; and how many products have unknown shapes."""
    found: dict[str, list[int]] = {}
    for node in view.nodes:
        if node.op_type in WEIGHTED and not node.domain and len(node.input) > 1:
            found.setdefault(_precision(view, node), []).append(multiply_adds(view, node))
    work = {name: WorkFacts(len(costs), sum(costs)) for name, costs in found.items()}
    unknown = sum(costs.count(0) for costs in found.values())
    return dict(sorted(work.items(), key=lambda each: -each[1].multiply_adds)), unknown


def _precision(view: GraphView, node: Any) -> str:
    pairs = [_dequantizer(view, name) for name in node.input[:2]]
    if all(pairs):
        return _dtype(view.element_type(pairs[1].input[0]))
    return _dtype(view.element_type(node.input[1]))


def _dequantizer(view: GraphView, tensor: str) -> Any:
    """The DequantizeLinear that a tensor comes out of; None for other tensors."""
    node = view.producer.get(tensor)
    while node is not None and node.op_type in _PASSES_ON:
        node = view.producer.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _parameters(view: GraphView) -> int:
    steps = {name for node in view.nodes if node.op_type in QUANTISERS for name in node.input[1:]}
    return sum(
        int(np.prod(tensor.dims, dtype=np.int64)) for name, tensor in view.constants.items() if name not in steps
    )


def _tensor(value: Any) -> TensorFacts:
    kind = value.type.tensor_type
    sizes = [
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or None
        for dimension in kind.shape.dim
    ]
    return TensorFacts(value.name, _dtype(kind.elem_type), tuple(sizes))


def _dtype(number: int) -> str:
    """ONNX's number of a type as people write it: "fp32", "fp16", "uint8"."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else "unknown"
    return {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "undefined": "unknown"}.get(
        name, name
    )
