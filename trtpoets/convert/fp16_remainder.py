"""Converts int8.onnx to a variant whose remainder, everything outside the Q/DQ pairs, is FP16.

TensorRT 11 and TensorRT-RTX have no builder flag to compute in FP16 what the file declares as FP32. In ONNX opset 23 a
QuantizeLinear accepts FP16 data with an FP32 scale, and a DequantizeLinear can return FP16 (`output_dtype`), so scales
and INT8 arithmetic are unchanged (FP16 scales are too coarse: small ones become 0). Before opset 19, TensorRT's parser
rounds scales to the type of the data (onnx-tensorrt, QuantDequantLinearHelper); TensorRT 10 rejects data of another
type than the scale (NvInfer.h 10.0 to 10.12, IQuantizeLayer). The nodes that the INT8 file names stay FP32.

TensorRT-RTX 1.7 parses and builds such a file. ONNX Runtime 1.32 runs it without graph optimisation; its optimisers
assume equal types of data and scale and produce a graph that ONNX Runtime itself rejects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.convert.fp16 import with_fp16
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.precision import compare_scores
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed
from trtpoets.core.onnx_file import check_onnx, metadata_of, opset_of, write_onnx
from trtpoets.core.onnx_graph import FP32_KEY, MIXED_OPSET, fp32_nodes, read_graph
from trtpoets.core.types import OnnxModel, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.core.types import Photo


_MEAN, _SAME = 0.01, 0.95
"""Largest mean difference of the scores, and smallest share of photos with the same top label."""


@dataclass(frozen=True)
class RemainderNotes:
    """Differences between the scores of a variant and of its INT8 file on `photos` photos, without optimisation."""

    photos: int
    max_abs: float
    mean_abs: float
    same_answer: float

    @property
    def near(self) -> bool:
        """Whether the variant may replace the file. INT8 rounding may differ in a few places."""
        return self.mean_abs <= _MEAN and self.same_answer >= _SAME


def remainder_notes(model: OnnxModel, variant: OnnxModel, photos: Sequence[Photo]) -> RemainderNotes:
    """Compare a variant with its INT8 file. Raises BadPhoto, BadArtefact if ONNX Runtime rejects a file."""
    difference, same = compare_scores(model, variant.path, photos, as_written=True)
    return RemainderNotes(len(same), float(difference.max()), float(difference.mean()), float(same.mean()))


def with_fp16_remainder(model: OnnxModel, out: Path) -> OnnxModel:
    """Write the variant of an INT8 file whose remainder is FP16, in opset 23.

    Raises BadInput for a file that is not INT8 or does not name the nodes to keep in FP32 (written by an earlier
    version); ConversionFailed if an operator does not exist in that opset; BadArtefact, StorageFailed.
    """
    from onnx import version_converter

    if model.precision is not Precision.INT8:
        raise BadInput(
            f"{model.path} must be an INT8 file, but its precision is {model.precision.value}",
            hint="use int8.onnx",
            code="TP3001",
        )
    proto = check_onnx(model.path)
    metadata = metadata_of(proto)
    if FP32_KEY not in metadata:
        raise BadInput(
            f"{model.path} does not name the nodes to keep in FP32: an earlier version of trtpoets wrote it",
            hint="write it again: trtpoets quantize NAME",
            code="TP3002",
        )
    kept = fp32_nodes(read_graph(proto.SerializeToString()))
    try:
        newer = version_converter.convert_version(proto, MIXED_OPSET) if opset_of(proto) < MIXED_OPSET else proto
        half = with_fp16(newer, kept)
        write_onnx(finished(half.graph, opset_of(newer), metadata), out)
    except (BadArtefact, RuntimeError, version_converter.ConvertError) as error:
        raise ConversionFailed(
            f"{model.path} can't be converted to ONNX opset {MIXED_OPSET}: {error}", code="TP3003"
        ) from error
    return OnnxModel(out, model.precision, model.spec)
