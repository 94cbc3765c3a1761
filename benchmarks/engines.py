"""What building in a child process costs, and what engines weigh.

    python benchmarks/engines.py [FOLDER]

Builds FOLDER/{fp32,fp16,int8}.onnx (of a run: engines/NAME) with TensorRT-RTX, each `REPEATS` times in turn with the
same build in this process, and prints the medians and their ratio in one run. Without FOLDER a small network made on
the fly stands in. Needs no GPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.spec import Flavour, OnnxModel, Precision
from trtpoets.device.engine import current_engine, engine_from_onnx
from trtpoets.device.engine_config import EngineConfig
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_build import build_engine
from trtpoets.device.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_messages import Messages

REPEATS = 5
CONFIG = EngineConfig(Flavour.RTX)


def networks(folder: Path | None, scratch: Path) -> list[OnnxModel]:
    """The ONNX files to build."""
    if folder is None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        from tests.tiny import tiny_onnx

        return [tiny_onnx(scratch / f"{precision.value}.onnx", precision) for precision in Precision]
    return [read_onnx(folder / f"{precision.value}.onnx") for precision in Precision]


def in_this_process(model: OnnxModel) -> float:
    """Seconds of the bare build: read, parse, build."""
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
    begun = time.perf_counter()
    build_engine(load_tensorrt(CONFIG.flavour), model.path.read_bytes(), request, lambda _: True, Messages())
    return time.perf_counter() - begun


def main() -> None:
    """Print one line a precision."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        print(f"{load_tensorrt(CONFIG.flavour).title}, medians of {REPEATS}")
        print(f"{'':6}{'whole s':>9}{'build s':>9}{'here s':>9}{'ratio':>7}{'up to date s':>14}{'engine MB':>11}")
        for model in networks(folder, scratch):
            whole, inside, bare = [], [], []
            out = scratch / f"{model.precision.value}.engine"
            for _ in range(REPEATS):
                begun = time.perf_counter()
                engine = engine_from_onnx(model, CONFIG, out)
                whole.append(time.perf_counter() - begun)
                inside.append(engine.card.build_seconds)
                bare.append(in_this_process(model))
            begun = time.perf_counter()
            assert current_engine(model, CONFIG, out) == engine
            found = time.perf_counter() - begun
            a, b, c = (statistics.median(values) for values in (whole, inside, bare))
            size = engine.card.engine_bytes / 1e6
            print(f"{model.precision.value:6}{a:9.2f}{b:9.2f}{c:9.2f}{a / c:7.1f}{found:14.4f}{size:11.2f}")


if __name__ == "__main__":
    try:
        main()
    except TrtPoetsError as error:
        sys.exit(f"{error.message}\n  try: {error.hint}")
