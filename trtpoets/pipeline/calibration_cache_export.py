"""Writes the INT8 activation ranges of a run as a TensorRT calibration cache."""

from __future__ import annotations

import logging
from pathlib import Path

from trtpoets.convert.int8.tensorrt_cache import TENSORRT, CalibrationCache, cache_from_ranges, header_of
from trtpoets.core.errors import MissingArtefact
from trtpoets.core.files import chosen_by
from trtpoets.core.outputs import require_writable
from trtpoets.core.paths import user_path
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.int8_advice import int8_notes
from trtpoets.pipeline.lineage import onnx_in
from trtpoets.pipeline.result_status import int8_ranges

_log = logging.getLogger(__name__)


def check_cache(out: Path | str | None, tensorrt: str) -> None:
    """Check the arguments of `calibration_cache` before long-running work.

    Raises BadInput if this TensorRT version has no calibration caches, StorageFailed if `out` cannot be written.
    """
    header_of(tensorrt)
    if out is not None:
        require_writable(user_path(out), "--calibration-cache")


def calibration_cache(
    name: str, out: Path | str, *, tensorrt: str = TENSORRT, engines: Path | str = ENGINES
) -> CalibrationCache:
    """Write the ranges of engines/<name>/int8.onnx to `out`, for `trtexec --onnx=fp32.onnx --int8 --calib=<out>`.

    `tensorrt` is the TensorRT version that reads the cache; other versions ignore it. A cache contains only ranges, so
    an engine built from fp32.onnx and the cache lacks the corrected biases and rounded weights of int8.onnx.

    Raises MissingArtefact if there is no int8.onnx, BadInput if this TensorRT version has no calibration caches.
    """
    space, out = Workspace(Path(engines), name), user_path(out)
    with writing(space), chosen_by(out.parent, "--calibration-cache FILE"):
        fp32 = onnx_in(space, Precision.FP32)
        ranges = int8_ranges(space)
        if ranges is None:
            options = ["--force"] if space.onnx(Precision.INT8).is_file() else []
            raise MissingArtefact(
                f"{name} has no INT8 ranges for a calibration cache, or they belong to another int8.onnx",
                hint=space.command("quantize", "--precision", "int8", *options),
                code="TP8015",
            )
        cache = cache_from_ranges(fp32, ranges, out, tensorrt, int8_notes(space).in_float)
    _log.info(
        "%s: ranges of %d tensors, for TensorRT %s and fp32.onnx; %d tensors have none, because they are inside fused "
        "kernels or stay in float",
        *(out, len(cache.scales), tensorrt, len(cache.without)),
    )
    return cache
