"""The options of `build` and `bench` that trtpoets and the programs of a bundle have in common: defined once, here.

`cli/options.py` makes Typer options of them, `onboard/bundle_options.py` arguments of argparse. The documentation of
the commands is generated from the former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from trtpoets.core.runner_id import DEFAULT_WORKSPACE_MIB

_T = TypeVar("_T")


@dataclass(frozen=True)
class SharedOption(Generic[_T]):
    """An option: how it is spelled, its help and its default, which is None where the option may be left out.

    `least` and `most` are limits of a number, for Typer only: the device checks the values when it uses them.
    """

    flag: str
    help: str
    default: _T
    least: float | None = None
    most: float | None = None


BATCH_RANGE = SharedOption(
    "--batch",
    "Batch sizes of the engine: minimum:optimum:maximum (default: 1:8:32, or the network's batch if that is fixed).",
    None,
)
WORKSPACE = SharedOption("--workspace", "GPU memory that the builder may use, in MiB.", DEFAULT_WORKSPACE_MIB)
OPTIMIZATION_LEVEL = SharedOption(
    "--optimization-level",
    "Builder optimization level, from 0 (fast build) to 5 (fast engine); default: TensorRT's default.",
    None,
    least=0,
    most=5,
)
VERSION_COMPATIBLE = SharedOption(
    "--version-compatible", "Build an engine that later TensorRT versions can run too (needs 8.6 or later).", False
)
DLA = SharedOption("--dla", "DLA core of a Jetson; unsupported layers run on the GPU.", None)
TIMEOUT = SharedOption("--timeout", "Stop a build that takes longer, in seconds.", None)
DRY_RUN = SharedOption(
    "--dry-run", "Show what would be built and whether this machine can build it; build nothing.", False
)
FORCE = SharedOption("--force", "Repeat the work even if the results are up to date.", False)

BENCH_BATCH = SharedOption("--batch", "Batch size to measure (repeatable; default: 1 and 8).", None, least=1)
SECONDS = SharedOption(
    "--seconds", "Minimum measuring time for each runner and batch size, in seconds.", 2.0, least=0.1
)
THREADS = SharedOption("--threads", "CPU threads of each runner; 0: the runner's default.", 0, least=0)
SCENARIO = SharedOption(
    "--scenario", "MLPerf scenario to measure: single-stream, multi-stream, offline or server.", None
)
TARGET_QPS = SharedOption("--target-qps", "Load of the server scenario, in photos per second.", 0.0, least=0)
LOADGEN = SharedOption("--loadgen", "Also measure with MLPerf LoadGen and keep its logs.", False)
COMPARE = SharedOption("--compare", "Earlier benchmark.json to compare with.", None)
MAX_P99 = SharedOption(
    "--max-p99",
    "Gate, and latency limit of the server scenario: maximum p99 latency, in ms. Exit code 3 if it fails.",
    None,
    least=0,
)
JSON = SharedOption("--json", "Print the result as one JSON document instead of tables.", False)
