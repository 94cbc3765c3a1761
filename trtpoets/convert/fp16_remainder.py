"""int8.onnx -> the same network, all outside its Q/DQ pairs in FP16, for builders that take the types of the file.

TensorRT 11 and TensorRT-RTX have no flag that lets them compute in FP16 what the file has in FP32. In ONNX operator set
23 a QuantizeLinear takes FP16 data with an FP32 scale, and a DequantizeLinear gives FP16 from one (`output_dtype`): the
scales and the INT8 arithmetic stay what they were (scales in FP16 would ruin the network). Before set 19, TensorRT's
parser rounds scales to the type of the data (onnx-tensorrt, QuantDequantLinearHelper); 10.x refuses data of another
type than the scale (NvInfer.h 10.0 to 10.12, IQuantizeLayer). The nodes that the INT8 file names stay FP32.

The real TensorRT-RTX 1.7 parses and builds such a file. ONNX Runtime 1.32 runs it as written; its optimisers take data
and scale for one type, and make a graph of it that it refuses itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.convert.fp16 import with_fp16
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.precision import compared
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed
from trtpoets.core.onnx_file import check_onnx, metadata_of, opset_of, write_onnx
from trtpoets.core.onnx_graph import FP32_KEY, MIXED_OPSET, fp32_nodes, read_graph
from trtpoets.core.types import OnnxModel, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.core.types import Photo


_MEAN, _SAME = 0.01, 0.95
"""How far scores may move on average, and how many answers must stay the same."""


@dataclass(frozen=True)
class HalfNotes:
    """How far the scores of a variant lie from those of its INT8 file, on `photos` photos, both as they are written."""

    photos: int
    max_abs: float
    mean_abs: float
    same_answer: float

    @property
    def near(self) -> bool:
        """Whether the variant may stand for the file. Roundings of INT8 fall otherwise here and there."""
        return self.mean_abs <= _MEAN and self.same_answer >= _SAME


def half_notes(model: OnnxModel, variant: OnnxModel, photos: Sequence[Photo]) -> HalfNotes:
    """Hold a variant against its INT8 file. Raises BadPhoto, BadArtefact where ONNX Runtime refuses a file."""
    apart, same = compared(model, variant.path, photos, as_written=True)
    return HalfNotes(len(same), float(apart.max()), float(apart.mean()), float(same.mean()))


def half_remainder(model: OnnxModel, out: Path) -> OnnxModel:
    """Write the variant of an INT8 file whose remainder is FP16, in operator set 23.

    Raises BadInput for a file that is not INT8, or that does not name the nodes to stay FP32 as those of this version
    do; ConversionFailed where an operator has no form in that set, BadArtefact, StorageFailed.
    """
    from onnx import version_converter

    if model.precision is not Precision.INT8:
        raise BadInput(f"{model.path} is {model.precision.value}, not int8", hint="give int8.onnx", code="TP3001")
    proto = check_onnx(model.path)
    metadata = metadata_of(proto)
    if FP32_KEY not in metadata:
        raise BadInput(
            f"{model.path} does not tell which nodes must stay FP32: it is of an earlier version",
            hint="write it again: trtpoets quantize NAME",
            code="TP3002",
        )
    kept = fp32_nodes(read_graph(proto.SerializeToString()))
    try:
        newer = version_converter.convert_version(proto, MIXED_OPSET) if opset_of(proto) < MIXED_OPSET else proto
        halved = with_fp16(newer, kept)
        write_onnx(finished(halved.graph, opset_of(newer), metadata), out)
    except (BadArtefact, RuntimeError, version_converter.ConvertError) as error:
        raise ConversionFailed(
            f"{model.path} can't be written in ONNX operator set {MIXED_OPSET}: {error}", code="TP3003"
        ) from error
    return OnnxModel(out, model.precision, model.spec)
