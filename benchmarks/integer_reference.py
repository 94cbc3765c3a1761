"""Compares the integer reference of int8.onnx with its Q/DQ graph and with fp32.onnx, in ONNX Runtime on the CPU.

For each run it prints the speed of both forms relative to FP32, at batch sizes 1 and 8, from interleaved rounds in one
process; and how many photos of the run get the same first label from both forms, and from the Q/DQ graph with and
without graph optimisations. The scores of the reference are compared between sessions bit by bit.

    python benchmarks/integer_reference.py engines/NAME [engines/NAME ...] [--rounds 15] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.convert.int8.integer_reference import integer_reference
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import check_onnx, open_session, read_onnx
from trtpoets.core.optional import onnxruntime
from trtpoets.core.types import INPUT_NAME, Precision
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import dataset_in

BATCHES = (1, 8)

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def scores(session: Any, photos: np.ndarray, batch: int = 8) -> np.ndarray:
    """Return the scores of all photos, float32 (N, C)."""
    parts = [session.run(None, {INPUT_NAME: photos[at : at + batch]})[0] for at in range(0, len(photos), batch)]
    return np.concatenate(parts)


def relative_speed(sessions: dict[str, Any], photos: np.ndarray, rounds: int) -> dict[str, float]:
    """Return the speed of each session relative to the first, from the medians of interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {INPUT_NAME: photos})
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    first = next(iter(medians.values()))
    return {name: first / median for name, median in medians.items()}


def plain_session(content: bytes, level: str, threads: int) -> Any:
    """Return a session without trtpoets' settings."""
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def same(one: np.ndarray, other: np.ndarray) -> str:
    """Return how many rows have the same first label."""
    equal = int((one.argmax(axis=1) == other.argmax(axis=1)).sum())
    return f"{equal} of {len(one)} ({equal / len(one):.2%})"


def measure(folder: Path, rounds: int, threads: int, most: int) -> None:
    """Print the results for one run."""
    space = Workspace(folder.parent, folder.name)
    fp32, int8 = (space.onnx(precision) for precision in (Precision.FP32, Precision.INT8))
    chosen = sorted(dataset_in(space).photos, key=lambda photo: photo.sha256)[:most]
    pixels = np.concatenate(list(photo_batches(chosen, read_onnx(fp32).spec.preprocess, 16)))
    reference = integer_reference(check_onnx(int8)).SerializeToString()
    contents = {"fp32": fp32, "Q/DQ": int8, "integers": reference}
    sessions = {name: open_session(content, threads) for name, content in contents.items()}
    print(f"{space.name}: {len(pixels)} photos")
    for batch in BATCHES:
        speeds = relative_speed(sessions, pixels[:batch], rounds)
        print(f"  batch {batch}: speed relative to FP32:", ", ".join(f"{n} {s:.2f}" for n, s in speeds.items()))
    results = {name: scores(session, pixels) for name, session in sessions.items()}
    as_written = scores(open_session(int8, threads, as_written=True), pixels)
    print("  the same answer as the Q/DQ graph:", same(results["integers"], results["Q/DQ"]))
    print("  the same answer as the Q/DQ graph without optimisations:", same(results["integers"], as_written))
    print("  the Q/DQ graph with and without optimisations:", same(results["Q/DQ"], as_written))
    print("  the same answer as FP32: integers", same(results["integers"], results["fp32"]))
    print("                           Q/DQ", same(results["Q/DQ"], results["fp32"]))
    few = pixels[:16]
    different = [
        f"{level}, {count} threads, batch {batch}"
        for level in LEVELS
        for count in (1, 2)
        for batch in BATCHES
        if not np.array_equal(scores(plain_session(reference, level, count), few, batch), results["integers"][:16])
    ]
    print("  sessions with other bits:", "; ".join(different) or "none of 16")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs with fp32.onnx and int8.onnx")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photos", type=int, default=2000, help="at most so many photos are compared")
    options = parser.parse_args(arguments)
    for folder in options.runs:
        measure(folder, options.rounds, options.threads, options.photos)


if __name__ == "__main__":
    main()
