"""The ranges of a run as a TensorRT calibration cache."""

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
    """Raise BadInput unless calibration caches exist for this TensorRT, StorageFailed unless `out` can be written.

    Cheap: call it before long work.
    """
    header_of(tensorrt)
    if out is not None:
        require_writable(user_path(out), "--calibration-cache")


def calibration_cache(
    name: str, out: Path | str, *, tensorrt: str = TENSORRT, engines: Path | str = ENGINES
) -> CalibrationCache:
    """Write the ranges of engines/<name>/int8.onnx to `out`, for `trtexec --onnx=fp32.onnx --int8 --calib=<out>`.

    `tensorrt` is the version that shall read it: TensorRT ignores a cache of another. A cache holds ranges alone: what
    correcting biases wins is in int8.onnx, and not in an engine built from fp32.onnx and the cache.

    Raises MissingArtefact before `quantize` has written int8.onnx, BadInput for a version without such caches.
    """
    space, out = Workspace(Path(engines), name), user_path(out)
    with writing(space), chosen_by(out.parent, "--calibration-cache FILE"):
        fp32 = onnx_in(space, Precision.FP32)
        ranges = int8_ranges(space)
        if ranges is None:
            again = ["--force"] if space.onnx(Precision.INT8).is_file() else []
            raise MissingArtefact(
                f"{name} has no ranges for a calibration cache yet, or those of another int8.onnx",
                hint=space.command("quantize", "--precision", "int8", *again),
                code="TP8015",
            )
        cache = cache_from_ranges(fp32, ranges, out, tensorrt, int8_notes(space).in_float)
    _log.info(
        "%s: %d tensors, for TensorRT %s and fp32.onnx; %d have no range: they lie inside fused kernels, or stay float",
        *(out, len(cache.scales), tensorrt, len(cache.without)),
    )
    return cache
