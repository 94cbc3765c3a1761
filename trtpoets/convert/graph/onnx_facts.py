"""Describes any ONNX file: its operators, precisions, parameters and multiply-adds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.graph_view import QUANTISERS, GraphView
from trtpoets.convert.graph.lenient_load import UncheckedOnnx, read_unchecked
from trtpoets.convert.graph.multiply_adds import (
    WeightedNode,
    all_nodes,
    operator_name,
    view_of_any,
    weighted_nodes,
)
from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_external import ExternalFile
from trtpoets.core.onnx_file import CALIBRATION_KEY, FORM_KEY, PRECISION_KEY, SPEC_KEY, metadata_of
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import Int8Form, ModelSpec, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TRANSPARENT = ("Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")
"""Operators that do not change values; they may stand between a Q/DQ pair and its convolution or MatMul."""


_FLOATS = (1, 10, 11, 16)
"""TensorProto's numbers of float32, float16, float64 and bfloat16."""


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: its dtype, for example "uint8", and its sizes; None or a name ("N") for a dynamic size.

    `shape` is None if the file does not specify it. Values that are not tensors have the dtype "sequence" or "map".
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class WorkFacts:
    """The number of convolutions and MatMuls that compute in one precision, and their multiply-adds for one photo."""

    layers: int
    multiply_adds: int


@dataclass(frozen=True)
class OnnxFacts:
    """A description of an ONNX file.

    `operators` counts nodes, the most frequent first. `parameters` is the number of constant values, without the scales
    and zero points of Q/DQ pairs. `work` is by precision: that of the Q/DQ pairs ("int8") if a node reads both operands
    through pairs, otherwise the type of its weights. `sizes_unknown` counts convolutions and MatMuls whose shapes are
    unknown; the sums do not include them. `not_counted` counts nodes, by operator, that may multiply but are not
    included: unknown fused operators and plug-ins, and bodies of loops. `complaints` are those of ONNX's checker; such
    a file cannot be built. `external` are the files that contain weights. `spec`, `precision`, `calibration` and `form`
    are metadata written by trtpoets; None in other files. `islands` are the operators between the INT8 layers of the
    CPU form that ONNX Runtime computes in float, None where no card lists them.
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
    form: Int8Form | None = field(default=None, metadata=OPTIONAL)
    islands: tuple[str, ...] | None = field(default=None, metadata=OPTIONAL)


def facts_of_onnx(path: Path) -> OnnxFacts:
    """Read any ONNX file that can be parsed, without its external data, and describe it.

    Raises BadArtefact if it cannot be parsed, MissingDependency.
    """
    try:
        return _facts(path, read_unchecked(path))
    except (UnicodeError, TypeError) as error:  # protobuf returns bytes for text that is not UTF-8
        raise BadArtefact(
            f"{path} is not a valid ONNX file: it contains text that is not UTF-8 ({error})",
            hint="export or copy the file again",
            code="TP3009",
        ) from error


def _facts(path: Path, unchecked: UncheckedOnnx) -> OnnxFacts:
    model = unchecked.model
    view = view_of_any(model)
    weighted, not_counted = weighted_nodes(view, model)
    work, unknown = _work(weighted, view)
    metadata = metadata_of(model)
    spec, complaints = _spec(path, metadata)
    operators = Counter(operator_name(node) for node in all_nodes(model.graph))
    return OnnxFacts(
        ir_version=int(model.ir_version),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import},
        # Old files list constants among the inputs too.
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in view.constants),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        quantizers=operators["QuantizeLinear"],
        dequantizers=operators["DequantizeLinear"],
        parameters=_parameters(model.graph),
        multiply_adds=sum(facts.multiply_adds for facts in work.values()),
        work=work,
        sizes_unknown=unknown,
        precision=metadata.get(PRECISION_KEY),
        calibration=metadata.get(CALIBRATION_KEY),
        spec=spec,
        not_counted=not_counted,
        complaints=unchecked.complaints + complaints,
        external=unchecked.external,
        form=_form(metadata),
    )


def _form(metadata: Mapping[str, str]) -> Int8Form | None:
    """Return the form of an INT8 file of trtpoets; None for other files and for a form of a later version."""
    if metadata.get(PRECISION_KEY) != Precision.INT8.value:
        return None
    name = metadata.get(FORM_KEY, Int8Form.TENSORRT.value)
    return Int8Form(name) if name in {form.value for form in Int8Form} else None


def _work(weighted: Sequence[WeightedNode], view: GraphView) -> tuple[dict[str, WorkFacts], int]:
    """Return the work of each precision, largest first, and the number of nodes with unknown shapes."""
    by_precision: dict[str, list[int]] = {}
    for entry in weighted:
        by_precision.setdefault(_precision(view, entry.node), []).append(entry.multiply_adds)
    work = {name: WorkFacts(len(counts), sum(counts)) for name, counts in by_precision.items()}
    unknown = sum(counts.count(0) for counts in by_precision.values())
    return dict(sorted(work.items(), key=lambda item: -item[1].multiply_adds)), unknown


def _precision(view: GraphView, node: Any) -> str:
    pairs = [_dequantizer(view, name) for name in node.input[:2]]
    if all(pairs):
        return _dtype(view.element_type(pairs[1].input[0]))
    return _dtype(view.element_type(node.input[1]))


def _dequantizer(view: GraphView, tensor: str) -> Any:
    """Return the DequantizeLinear that a tensor comes from; None for other tensors."""
    node = view.producer.get(tensor)
    while node is not None and node.op_type in _TRANSPARENT:
        node = view.producer.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _parameters(graph: Any) -> int:
    quantisation = {name for node in graph.node if node.op_type in QUANTISERS for name in node.input[1:]}
    own: int = sum(math.prod(tensor.dims) for tensor in graph.initializer if tensor.name not in quantisation)
    # Old exporters, such as Paddle's, write weights as nodes. Shapes are integers.
    nodes = [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in quantisation]
    tensors = [entry.t for node in nodes for entry in node.attribute if entry.HasField("t")]
    own += sum(math.prod(tensor.dims) for tensor in tensors if tensor.dims and tensor.data_type in _FLOATS)
    subgraphs = [subgraph for node in graph.node for entry in node.attribute for subgraph in (entry.g, *entry.graphs)]
    return own + sum(_parameters(subgraph) for subgraph in subgraphs)


def _spec(path: Path, metadata: Mapping[str, str]) -> tuple[ModelSpec | None, tuple[str, ...]]:
    """Return the ModelSpec that trtpoets wrote into the file, if any, and the reason if it cannot be read."""
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
    """Return the short name of a TensorProto.DataType: "fp32", "fp16", "uint8"."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else "unknown"
    return {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "undefined": "unknown"}.get(
        name, name
    )
