"""What an ONNX file holds: operators, precisions, parameters, work. Of any file, whoever wrote it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.graph_view import QUANTISERS, GraphView
from trtpoets.convert.graph.lenient_load import UncheckedOnnx, read_unchecked
from trtpoets.convert.graph.multiply_adds import Product, all_nodes, operator_name, products, view_of_any
from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_external import ExternalFile
from trtpoets.core.onnx_file import CALIBRATION_KEY, PRECISION_KEY, SPEC_KEY, metadata_of
from trtpoets.core.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PASSES_ON = ("Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")
"""Operators that change nothing of what a number is worth: between a pair and the product that it is for."""


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: its numbers as "uint8", its sizes; None or a name ("N") where a size is not fixed.

    `shape` is None as a whole where the file does not tell it. What is no tensor has the dtype "sequence" or "map".
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


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
    `not_counted` counts nodes, by operator, that may multiply and are in no sum: fused operators and plug-ins that are
    not known here, and bodies of loops. `complaints` are those of ONNX's checker; a build refuses such a file.
    `external` are the files that weights are in. `spec`, `precision` and `calibration` are what trtpoets wrote into the
    file; None in others' files.
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
    not_counted: Mapping[str, int]
    complaints: tuple[str, ...]
    external: tuple[ExternalFile, ...]


def facts_of_onnx(path: Path) -> OnnxFacts:
    """Read any ONNX file that parses, without its external data, and list what ONNX's checker says against it.

    Raises BadArtefact for what does not parse, MissingDependency.
    """
    try:
        return _facts(path, read_unchecked(path))
    except (UnicodeError, TypeError) as error:  # protobuf gives bytes for text that is not UTF-8
        raise BadArtefact(
            f"{path} is not a valid ONNX file: it holds text that is not UTF-8 ({error})",
            hint="export it again, or copy it again",
            code="TP3009",
        ) from error


def _facts(path: Path, unchecked: UncheckedOnnx) -> OnnxFacts:
    model = unchecked.model
    view = view_of_any(model)
    found, not_counted = products(view, model)
    work, unknown = _work(found, view)
    metadata = metadata_of(model)
    spec, complaints = _spec(path, metadata)
    operators = Counter(operator_name(node) for node in all_nodes(model.graph))
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
        parameters=_parameters(model.graph),
        multiply_adds=sum(each.multiply_adds for each in work.values()),
        work=work,
        sizes_unknown=unknown,
        precision=metadata.get(PRECISION_KEY),
        calibration=metadata.get(CALIBRATION_KEY),
        spec=spec,
        not_counted=not_counted,
        complaints=unchecked.complaints + complaints,
        external=unchecked.external,
    )


def _work(found: Sequence[Product], view: GraphView) -> tuple[dict[str, WorkFacts], int]:
    """The work of each precision, most first; and how many products have unknown shapes."""
    costs: dict[str, list[int]] = {}
    for product in found:
        costs.setdefault(_precision(view, product.node), []).append(product.multiply_adds)
    work = {name: WorkFacts(len(each), sum(each)) for name, each in costs.items()}
    unknown = sum(each.count(0) for each in costs.values())
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


def _parameters(graph: Any) -> int:
    steps = {name for node in graph.node if node.op_type in QUANTISERS for name in node.input[1:]}
    own: int = sum(math.prod(tensor.dims) for tensor in graph.initializer if tensor.name not in steps)
    inner = [each for node in graph.node for attribute in node.attribute for each in (attribute.g, *attribute.graphs)]
    return own + sum(_parameters(each) for each in inner)


def _spec(path: Path, metadata: Mapping[str, str]) -> tuple[ModelSpec | None, tuple[str, ...]]:
    """What trtpoets wrote into the file of its photos and labels, or why that can't be read."""
    if SPEC_KEY not in metadata:
        return None, ()
    try:
        return ModelSpec.from_json(metadata[SPEC_KEY], str(path)), ()
    except BadArtefact as error:
        return None, (error.message,)


def _tensor(value: Any) -> TensorFacts:
    form = value.type.WhichOneof("value")
    if form not in ("tensor_type", "sparse_tensor_type"):
        return TensorFacts(value.name, form.replace("_type", "") if form else "unknown", None)
    kind = getattr(value.type, form)
    sizes = tuple(
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or None
        for dimension in kind.shape.dim
    )
    return TensorFacts(value.name, _dtype(kind.elem_type), sizes if kind.HasField("shape") else None)


def _dtype(number: int) -> str:
    """ONNX's number of a type as people write it: "fp32", "fp16", "uint8"."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else "unknown"
    return {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "undefined": "unknown"}.get(
        name, name
    )
