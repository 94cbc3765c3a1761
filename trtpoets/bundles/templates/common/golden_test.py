"""The self-test of bundles: runs the golden photos and compares the scores with the expected ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from photo_lines import HERE  # adds the runtime to sys.path

from trtpoets.core.console import json_text
from trtpoets.core.streams import discard_output, prepare_streams, writing_results
from trtpoets.core.types import Int8Form, Precision
from trtpoets.judge.golden import check_scores_against, read_golden

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

TIMED = 20


def golden_test(
    infer: Callable[[np.ndarray], np.ndarray],
    precision: str,
    by: str,
    as_json: bool,
    form: Int8Form = Int8Form.TENSORRT,
) -> int:
    """Compare the scores with the expected ones, measure the latency, print both, and return the exit code.

    `infer` maps photos, uint8 (N, H, W, 3), to scores, float32 (N, C), and computes in `precision`, and for INT8 in the
    form `form`; `by` is its name.
    The exit code is 0, or 3 if the scores differ by more than the tolerance.
    """
    prepare_streams()
    golden = read_golden(HERE / "golden")
    verdict = check_scores_against(golden, Precision(precision), infer(golden.pixels), form)
    times = []
    for number in range(TIMED):
        start = time.perf_counter()
        infer(golden.pixels[number % len(golden.photos)][None])
        times.append(1000 * (time.perf_counter() - start))
    result = {
        "passed": verdict.passed,
        "runner": by,
        "precision": precision,
        "max_difference": verdict.max_difference,
        "tolerance": verdict.tolerance,
        "same_answers": verdict.same_answers,
        "photos": verdict.photos,
        "median_ms": sorted(times)[TIMED // 2],
    }
    summary = (
        f"{'passed' if verdict.passed else 'FAILED'}: {precision} by {by}: scores differ by "
        f"at most {verdict.max_difference:.2g} (tolerance {verdict.tolerance:g}); "
        f"{verdict.same_answers} of {verdict.photos} predictions agree; {result['median_ms']:.2f} ms per photo "
        f"(median of {TIMED})"
    )
    try:
        with writing_results():
            print(json_text(result) if as_json else summary)
    except BrokenPipeError:  # the reader has closed the pipe; the exit code still shows the result
        discard_output()
    return 0 if verdict.passed else 3
