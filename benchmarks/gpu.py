"""What this machine's GPU makes of the engines and the harness: the first thing to run on a new one.

    python benchmarks/gpu.py [FOLDER ...] [--out FILE.json]

Builds FOLDER/{fp32,fp16,int8}.onnx (of runs: engines/NAME) with each TensorRT that is here, runs them, and compares
their scores with ONNX Runtime's. Without FOLDER a small network made on the fly stands in. Each engine has a process of
its own: one that crashes costs its own line. Milliseconds are medians of `INFERS` batches of one photo after
`WARM_SECONDS`: "infer" on the host's clock from photos to scores, the copies and the computing on the GPU's, "queue" on
the host's for handing the computing to the GPU. Copies and computing together are what trtexec calls latency.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from trtpoets.core.errors import MissingDependency, TrtPoetsError
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.spec import BatchRange, Engine, Flavour, OnnxModel, Precision
from trtpoets.device.cuda import CudaSession, load_pycuda
from trtpoets.device.engine import engine_from_onnx, flavour_available
from trtpoets.device.engine_config import EngineConfig
from trtpoets.device.libcuda import gpus
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.judge.conditions import conditions

BATCH = BatchRange(1, 8, 16)
COUNTS = (1, 1, 1, 16, 8, 8, 21, 1)
INFERS = 1000
CYCLES = 50
WARM_SECONDS = 0.2
TIMEOUT_SECONDS = 540


def photos_for(model: OnnxModel, count: int) -> np.ndarray:
    """Seeded noise, smoothed so that neighbouring pixels are alike as in photos."""
    preprocess = model.spec.preprocess
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    tall = coarse.repeat(-(-preprocess.height // 8), 1)[:, : preprocess.height]
    return np.ascontiguousarray(tall.repeat(-(-preprocess.width // 8), 2)[:, :, : preprocess.width])


def reference(model: OnnxModel, photos: np.ndarray) -> np.ndarray | None:
    """ONNX Runtime's scores; None where it is not installed."""
    try:
        with open_runner(model) as runner:
            return runner.infer(photos)
    except MissingDependency:
        return None


def free_memory() -> int:
    """Bytes that are free on the GPU."""
    with CudaSession() as session, session.current():
        return int(load_pycuda().mem_get_info()[0])


def scores_of(engine: Engine, photos: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """How far scores are from the expected, over batch sizes that are captured, replayed, changed and split."""
    worst, same, asked = 0.0, 0, 0
    with TensorRtRunner(engine) as runner:
        for count in COUNTS:
            found, wanted = runner.infer(photos[:count]), expected[:count]
            worst = max(worst, float(abs(found - wanted).max()))
            same += int((found.argmax(axis=1) == wanted.argmax(axis=1)).sum())
            asked += count
    return {"worst_difference": worst, "same_answers": same / asked}


def latencies(engine: Engine, photo: np.ndarray, graphs: bool) -> dict[str, Any]:
    """Medians and 99th percentiles of one photo, in milliseconds."""
    begun = time.perf_counter()
    with TensorRtRunner(engine, graphs=graphs) as runner:
        entered = time.perf_counter() - begun
        warm_until = time.perf_counter() + WARM_SECONDS
        while time.perf_counter() < warm_until:
            runner.infer(photo)
        times: dict[str, list[float]] = {"infer": [], "h2d": [], "compute": [], "d2h": [], "queue": [], "device": []}
        for _ in range(INFERS):
            start = time.perf_counter()
            runner.infer(photo)
            times["infer"].append(1000 * (time.perf_counter() - start))
        for _ in range(INFERS):
            _, timing = runner.infer_timed(photo)
            parts = (timing.h2d_ms, timing.compute_ms, timing.d2h_ms, timing.enqueue_ms, timing.device_ms)
            for key, value in zip(("h2d", "compute", "d2h", "queue", "device"), parts, strict=True):
                times[key].append(value)
    found: dict[str, Any] = {f"{key}_p50": float(np.percentile(values, 50)) for key, values in times.items()}
    found.update({f"{key}_p99": float(np.percentile(values, 99)) for key, values in times.items()})
    return {**found, "graph": timing.graph, "enter_seconds": entered}


def leaks(engine: Engine, photo: np.ndarray) -> dict[str, int]:
    """Bytes of the GPU that `INFERS` batches and `CYCLES` times entering and leaving don't give back."""
    with TensorRtRunner(engine) as runner:
        for _ in range(20):
            runner.infer(photo)
        before = free_memory()
        for _ in range(INFERS):
            runner.infer(photo)
        infers = before - free_memory()
    free = []
    for _ in range(CYCLES):
        with TensorRtRunner(engine) as runner:
            runner.infer(photo)
        free.append(free_memory())
    return {"infers_leak_bytes": infers, "cycles_leak_bytes": free[CYCLES // 10] - free[-1]}


def measure(model: OnnxModel, flavour: Flavour, folder: Path) -> dict[str, Any]:
    """Build and run one engine; everything that is known about it."""
    library, gpu = load_tensorrt(flavour), gpus()[0]
    config = EngineConfig(flavour, targets=(gpu.target,) if gpu.target in library.targets else (), batch=BATCH)
    engine = engine_from_onnx(model, config, folder / f"{model.precision.value}.engine")
    photos = photos_for(model, max(COUNTS))
    expected = reference(model, photos)
    return {
        "library": library.title,
        "gpu": f"{gpu.name}, {gpu.target}",
        "targets": engine.card.targets,
        "build_seconds": engine.card.build_seconds,
        "engine_bytes": engine.card.engine_bytes,
        **(scores_of(engine, photos, expected) if expected is not None else {}),
        "with_graph": latencies(engine, photos[:1], True),
        "without_graph": latencies(engine, photos[:1], False),
        **leaks(engine, photos[:1]),
    }


def in_a_child(onnx: Path, flavour: Flavour) -> dict[str, Any]:
    """`measure` in a process of its own; {"failed": why} when it does not come back with a result."""
    command = [sys.executable, __file__, str(onnx), "--one", flavour.value]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {TIMEOUT_SECONDS} s"}
    if result.returncode:
        said = "\n".join(result.stderr.strip().splitlines()[-12:])
        return {"failed": f"ended with code {result.returncode}: {said}"}
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return {**found, "warnings": result.stderr.strip()} if result.stderr.strip() else found


def networks(folders: list[Path], scratch: Path) -> Iterator[Path]:
    """The ONNX files to build."""
    for folder in folders:
        yield from (folder / f"{precision.value}.onnx" for precision in Precision)
    if not folders:
        from tests.tiny import tiny_onnx

        yield from (tiny_onnx(scratch / "tiny" / f"{precision.value}.onnx", precision).path for precision in Precision)


def line(case: dict[str, Any]) -> str:
    """One case for people."""
    name = f"{case['flavour']:9}{case['network']:>16}{case['precision']:>5}"
    if "failed" in case:
        return f"{name}  {case['failed']}"
    with_graph, plain = case["with_graph"], case["without_graph"]
    times = "".join(f"{with_graph[f'{key}_p50']:9.3f}" for key in ("infer", "h2d", "compute", "d2h", "queue"))
    against = f"{case['worst_difference']:8.4f}{case['same_answers']:7.0%}" if "same_answers" in case else f"{'-':>15}"
    return f"{name}{times}{plain['infer_p50']:9.3f}{plain['queue_p50']:9.3f}{against}{case['build_seconds']:8.1f}"


def main() -> int:
    """Print one line an engine; 1 when one failed or there was none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Flavour, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(read_onnx(options.folders[0]), options.one, Path(folder))))
        return 0
    print(", ".join(f"{gpu.name} ({gpu.target})" for gpu in gpus()))
    cases = []
    print(f"{'':30}{'infer':>9}{'h2d':>9}{'compute':>9}{'d2h':>9}{'queue':>9}", end="")
    print(f"{'no graph':>9}{'queue':>9}{'differs':>8}{'same':>7}{'build s':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for flavour in Flavour:
            missing = flavour_available(flavour)
            if missing:
                print(f"{flavour.value:9} {missing}")
                continue
            for onnx in networks(options.folders, Path(scratch)):
                known = {"flavour": flavour.value, "network": onnx.resolve().parent.name, "precision": onnx.stem}
                cases.append({**known, **in_a_child(onnx, flavour)})
                print(line(cases[-1]), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"conditions": conditions(), "cases": cases}, indent=1) + "\n")
    return int(not cases or any("failed" in case for case in cases))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrtPoetsError as error:
        sys.exit(f"{error.message}\n  try: {error.hint}")
