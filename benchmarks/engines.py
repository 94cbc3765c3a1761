"""Measures the overhead of building in a child process, engine sizes, and build times for all targets.

    python benchmarks/engines.py [FOLDER ...]

Builds FOLDER/{fp32,fp16,int8}.onnx (FOLDER is a run: engines/NAME) with TensorRT-RTX, each file `REPEATS` times
alternating with the same build in this process, and prints the medians and their ratio. Then each file is built once
for all targets of TensorRT-RTX: one engine for Ampere and later, and one for Turing if the precision is supported.
Without FOLDER a small generated network is used. Needs no GPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from trtpoets.core.errors import BuildFailed, TrtPoetsError
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.types import Flavour, OnnxModel, Precision
from trtpoets.device.build.engine import current_engine, engine_from_onnx
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.tensorrt_build import build_engine
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages

REPEATS = 5
CONFIG = EngineConfig(Flavour.RTX)
TURING = "sm75"
GOAL_SECONDS = 15


def networks(folders: list[Path], scratch: Path) -> list[OnnxModel]:
    """Return the ONNX files to build."""
    if not folders:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        from tests.support.tiny import tiny_onnx

        return [tiny_onnx(scratch / "tiny" / f"{precision.value}.onnx", precision) for precision in Precision]
    return [read_onnx(folder / f"{precision.value}.onnx") for folder in folders for precision in Precision]


def in_this_process(model: OnnxModel) -> float:
    """Build in this process (read, parse, build) and return the seconds."""
    preprocess = model.spec.preprocess
    request = BuildRequest(
        precision=model.precision,
        height=preprocess.height,
        width=preprocess.width,
        batch=CONFIG.batch,
        targets=(),
        workspace_bytes=CONFIG.workspace_mib << 20,
        optimization_level=None,
    )
    start = time.perf_counter()
    build_engine(load_tensorrt(CONFIG.flavour), model.path.read_bytes(), request, lambda _: True, Messages())
    return time.perf_counter() - start


def print_overhead(models: list[OnnxModel], scratch: Path) -> None:
    """Print for each ONNX file the time of a build in a child process and in this process."""
    print(f"{load_tensorrt(CONFIG.flavour).title}, medians of {REPEATS}")
    print(f"{'':26}{'whole s':>9}{'build s':>9}{'here s':>9}{'ratio':>7}{'up to date s':>14}{'engine MB':>11}")
    for number, model in enumerate(models):
        whole, inside, bare = [], [], []
        out = scratch / f"{number}.engine"
        for _ in range(REPEATS):
            start = time.perf_counter()
            engine = engine_from_onnx(model, CONFIG, out)
            whole.append(time.perf_counter() - start)
            inside.append(engine.card.build_seconds)
            bare.append(in_this_process(model))
        start = time.perf_counter()
        assert current_engine(model, CONFIG, out) == engine
        current_seconds = time.perf_counter() - start
        a, b, c = (statistics.median(values) for values in (whole, inside, bare))
        size = engine.card.engine_bytes / 1e6
        print(f"{name_of(model)}{a:9.2f}{b:9.2f}{c:9.2f}{a / c:7.1f}{current_seconds:14.4f}{size:11.2f}")


def print_all_targets(models: list[OnnxModel], scratch: Path) -> None:
    """Print for each ONNX file the build time for all targets, and the total next to the goal."""
    every = load_tensorrt(CONFIG.flavour).targets
    print(f"\nall targets{'':14}{'s':>9}{'engine MB':>11}")
    total = 0.0
    for number, model in enumerate(models):
        for targets in (tuple(target for target in every if target != TURING), (TURING,)):
            start = time.perf_counter()
            try:
                engine = engine_from_onnx(model, replace(CONFIG, targets=targets), scratch / f"{number}.{targets[0]}")
            except BuildFailed as error:
                print(f"{name_of(model)}{'-':>9}{'-':>11}  {' '.join(targets)}: {error.message.rpartition(': ')[2]}")
                continue
            seconds = time.perf_counter() - start
            total += seconds
            print(f"{name_of(model)}{seconds:9.2f}{engine.card.engine_bytes / 1e6:11.2f}  {' '.join(targets)}")
    print(f"total {total:.1f} s; the goal for two networks in three precisions: {GOAL_SECONDS} s")


def name_of(model: OnnxModel) -> str:
    """Return the name and precision of a model, padded to 26 characters."""
    return f"{model.path.resolve().parent.name[:20]:21}{model.precision.value:5}"


def main() -> None:
    """Run both measurements and print their tables."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        models = networks([Path(argument) for argument in sys.argv[1:]], scratch)
        print_overhead(models, scratch)
        print_all_targets(models, scratch)


if __name__ == "__main__":
    try:
        main()
    except TrtPoetsError as error:
        sys.exit(f"{error.message}\n  try: {error.hint}")
