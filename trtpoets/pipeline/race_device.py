"""The device that a race is held for: its precision, and the time of networks, measured here or estimated."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.int8.gpu_classes import GPU_CLASSES
from trtpoets.convert.int8.layer_costs import LayerCosts
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.core.errors import BadInput
from trtpoets.core.images import usable_cores
from trtpoets.core.onnx_file import check_onnx, open_session
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import INPUT_NAME, Precision
from trtpoets.device.capability import fast_types_of, fastest
from trtpoets.device.gpu.libcuda import detect
from trtpoets.device.jetson.jetpack import CHIPS
from trtpoets.device.jetson.jetson_names import find_board
from trtpoets.judge.bench.idle_threads import wait_until_idle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trtpoets.convert.int8.layer_costs import GpuClass
    from trtpoets.judge.race import RaceConfig

_T4 = "t4"
"""The name of the GPU that is accepted besides the Jetson modules."""

_TURNS, _RUNS_OF_A_TURN = 5, 4
"""How often each network is timed at most, in turns with the others, and how many runs of a turn are timed."""

_FEWEST_TURNS, _TURN_SECONDS = 2, 0.5
"""After so many turns, timing ends when the networks have taken so many seconds each on average: on a machine that does
other work, threads that wait for each other cost much processor time, and more runs tell little more."""


@dataclass(frozen=True)
class RaceDevice:
    """Where latency counts: its name, its GPU if the time is estimated, and the precision that will be deployed."""

    name: str
    gpu: GpuClass | None
    precision: Precision


def device_of(config: RaceConfig) -> RaceDevice:
    """Return the device of a race. Raises BadInput for an unknown board, and a limit that is not above 0."""
    if config.max_ms is not None and not config.max_ms > 0:
        raise BadInput(f"--max-ms must be above 0, not {config.max_ms}", hint="give --max-ms 5", code="TP8091")
    if config.board is None:
        gpus = detect().gpus
        own = fastest(gpus[0].compute_capability) if gpus else Precision.INT8
        return RaceDevice(f"this machine's CPU ({usable_cores()} cores)", None, config.precision or own)
    if config.board.strip().lower() == _T4:
        gpu = GPU_CLASSES[_T4]
        return RaceDevice(gpu.name, gpu, config.precision or Precision.INT8)
    board = find_board(config.board, others=(_T4,))
    has_int8 = fast_types_of(CHIPS[board.chip].compute_capability).int8
    own = Precision.INT8 if has_int8 else Precision.FP16
    return RaceDevice(board.title, GPU_CLASSES[board.name], config.precision or own)


def latencies_ms(files: Mapping[int, Path], device: RaceDevice, progress: Progress = silent) -> dict[int, float]:
    """Return the milliseconds for one photo of networks in FP32 files: measured on this CPU, or estimated for a GPU."""
    if device.gpu is None:
        return measured_ms(files, progress)
    return {number: estimated_ms(path, device.gpu, device.precision) for number, path in files.items()}


def measured_ms(files: Mapping[int, Path], progress: Progress = silent) -> dict[int, float]:
    """Return the median milliseconds of each network for one photo, on this CPU. The networks take turns.

    A turn begins when the threads of the network before are idle, and with a run that is not timed.
    """
    sessions = {number: open_session(path) for number, path in files.items()}
    inputs = {}
    for number, session in sessions.items():
        shape = session.get_inputs()[0].shape
        inputs[number] = {INPUT_NAME: np.full((1, *shape[1:]), 127, np.uint8)}
    seconds: dict[int, list[float]] = {number: [] for number in sessions}
    begun = time.perf_counter()
    for turn in range(_TURNS):
        if turn >= _FEWEST_TURNS and time.perf_counter() - begun > _TURN_SECONDS * len(files):
            break
        for number, session in sessions.items():
            wait_until_idle()
            session.run(None, inputs[number])
            for _ in range(_RUNS_OF_A_TURN):
                start = time.perf_counter()
                session.run(None, inputs[number])
                seconds[number].append(time.perf_counter() - start)
        progress("timing networks", turn, _TURNS)
    progress("timing networks", _TURNS, _TURNS)
    return {number: 1000 * median(values) for number, values in seconds.items()}


def estimated_ms(path: Path, gpu: GpuClass, precision: Precision) -> float:
    """Return the estimated milliseconds of a network in an FP32 file for one photo, in INT8, or FP16 for all others."""
    model = check_onnx(path)
    costs = LayerCosts(GraphView(model), gpu)
    return 1000 * (costs.seconds(placement_from_onnx(model)) if precision is Precision.INT8 else costs.fp16)
