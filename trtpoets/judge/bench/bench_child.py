"""The child process in which one runner is measured. Requests on stdin and replies on stdout, one JSON line each.

    python -m trtpoets.judge.bench.bench_child

The first request contains the artefact and the photos with their SHA-256. Its reply is {"loaded": seconds, "gpu":
whether the runner uses the GPU, "waits": how its threads wait for the GPU ("" without one), "slots": how many batches
it can run at once}. These requests may follow, in any order and number:
{"warm_up": batch} -> {"warmup": {...}}; {"round": batch, "seconds": s, "count": n, "limit": s} -> {"round": {...}};
{"finish": batch} -> {"finished": {...}}; {"stream": batch} -> {"streamed": {...}}; {"serve": true} ->
{"served": {...}}; {"loadgen": scenario, "batch": n, "median_ms": ms, "out": folder} -> {"judged": {...}}. The reply
to a request that fails is {"failure": text}. A reply is sent when the threads of the process are idle. The process ends
when stdin is closed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Callable, Mapping

import numpy as np

from trtpoets.core.child_process import be_ended_first, error_line, replies
from trtpoets.core.images import photo_batches
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.signals import ignore_until_parent_ends
from trtpoets.core.types import Classifier, ModelSpec, OnnxModel, Photo, Precision, Split, TfliteModel
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.device.runners.base import Runner
from trtpoets.device.runners.gpu import runs_on_gpu
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.judge.bench.bench_config import BenchConfig, Scenario
from trtpoets.judge.bench.energy import find_sensor
from trtpoets.judge.bench.idle_threads import wait_until_idle
from trtpoets.judge.bench.loadgen import run_loadgen
from trtpoets.judge.bench.meter import Finished, Meter
from trtpoets.judge.bench.scenario import LoadgenResult, Served, Streamed, serve, stream
from trtpoets.judge.bench.slowdown_watch import GpuWatch

Opener = Callable[..., Runner]

_OPENER: Opener = partial(open_runner, contained=True, wait=Wait.SPIN)
"""Opens the real runners; a damaged file may crash this process. Threads wait for the GPU by polling, as
trtexec does, so that the time to wake a thread is not measured."""

_WARMUP_LIMIT = 10
"""The longest warm-up as a multiple of the shortest one."""


def description_from_artefact(artefact: Runnable) -> dict[str, str]:
    """Return what the child process needs to open an artefact, as JSON."""
    if isinstance(artefact, Classifier):
        return {
            "kind": "classifier",
            "path": str(artefact.folder.resolve()),
            "spec": artefact.spec.to_json(),
            "foreign": artefact.foreign,
        }
    if isinstance(artefact, (OnnxModel, TfliteModel)):
        return {
            "kind": "onnx" if isinstance(artefact, OnnxModel) else "tflite",
            "path": str(artefact.path.resolve()),
            "spec": artefact.spec.to_json(),
            "precision": artefact.precision.value,
        }
    return {"kind": "engine", "path": str(artefact.path.resolve())}


def artefact_from_description(value: Mapping[str, str]) -> Runnable:
    """Return the artefact of a description from `description_from_artefact`. An engine's card is checked again.

    The ONNX file is not checked again: the parent has done it, and the `onnx` package would add to the measured memory.
    """
    path = Path(value["path"])
    if value["kind"] == "classifier":
        return Classifier(path, ModelSpec.from_json(value["spec"], str(path)), value["foreign"])
    if value["kind"] in ("onnx", "tflite"):
        kind = OnnxModel if value["kind"] == "onnx" else TfliteModel
        return kind(path, Precision(value["precision"]), ModelSpec.from_json(value["spec"], str(path)))
    from trtpoets.device.build.engine import load_engine

    return load_engine(path)


def main(opener: Opener = _OPENER) -> None:
    """Answer requests until stdin is closed. `opener` opens the runner; tests pass their own."""
    ignore_until_parent_ends()
    be_ended_first()
    _do_without_pyplot()
    with replies() as send:

        def send_fields(**value: Any) -> None:
            send(value)

        try:
            _serve(sys.stdin, opener, send_fields)
        except BrokenPipeError:
            return  # the parent has ended
        except Exception as error:  # noqa: BLE001 - any failure affects this runner only
            send_fields(failure=error_line(error))


def _do_without_pyplot() -> None:
    """Make the import of matplotlib.pyplot fail: Keras tries it, and it takes a tenth of TensorFlow's import."""
    modules: Any = sys.modules
    modules.setdefault("matplotlib.pyplot", None)


def _serve(requests: IO[str], opener: Opener, send: Callable[..., None]) -> None:
    request = json.loads(requests.readline())
    config = from_json(BenchConfig, request["config"], "the request")
    if config.threads:
        # Before any library counts the cores. A library that ignores its thread option can't get more than the others.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.threads])
    artefact, way = artefact_from_description(request["artefact"]), Way(request["way"])
    runner = opener(artefact, config.threads, way, batches=config.batches)
    files = [Photo(Path(path), "", Split.TEST, sha256) for path, sha256 in request["photos"]]
    paths = [file.path for file in files]
    preprocess = runner.spec.preprocess
    if request["prepared"]:  # these photos are cropped already
        preprocess = replace(preprocess, crop_fraction=1.0)
    photos = np.concatenate(list(photo_batches(files, preprocess, 16)))
    _forget_peak()
    began = time.perf_counter()
    with runner, ExitStack() as stack:
        loaded, gpu = time.perf_counter() - began, runs_on_gpu(runner)
        watch = stack.enter_context(GpuWatch(request["bus_id"])) if gpu else None
        waits = runner.waits.value if isinstance(runner, TensorRtRunner) else ""
        send(loaded=loaded, gpu=gpu, waits=waits, slots=runner.slots)
        sensor = find_sensor(gpu=request["bus_id"]) if request["energy"] else None
        joules = stack.enter_context(sensor).joules if sensor else None
        settle = config.gpu_settle_seconds

        def meter(batch: int) -> Meter:
            brief = config.wall_seconds > 0
            return Meter(runner, photos, batch, paths, None, joules, preprocess, watch, settle, brief)

        meters: dict[int, Meter] = {}
        for line in requests:
            try:
                reply = _reply(json.loads(line), runner, photos, meter, meters, config)
                wait_until_idle()
                send(**reply)
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 - the other batch sizes may still work
                send(failure=error_line(error))


def _reply(
    request: Mapping[str, Any],
    runner: Runner,
    photos: np.ndarray,
    new_meter: Callable[[int], Meter],
    meters: dict[int, Meter],
    config: BenchConfig,
) -> dict[str, Any]:
    if "warm_up" in request:
        meter = meters[request["warm_up"]] = new_meter(request["warm_up"])
        limit = min(max(_WARMUP_LIMIT * config.warmup_seconds, 1.0), config.max_seconds)
        warmup = meter.warm_up(config.warmup_seconds, limit)
        # Each round collects garbage first, which takes longer than a round if it examines TensorFlow's objects again.
        gc.collect()
        gc.freeze()
        return {"warmup": to_json(warmup)}
    if "round" in request:
        return {
            "round": to_json(meters[request["round"]].round(request["seconds"], request["count"], request["limit"]))
        }
    if {"serve", "stream", "loadgen"} & set(request):
        meter = new_meter(request.get("stream", request.get("batch", 1)))
        (kind, result), load = meter.watching(lambda: _scenario(request, runner, photos, config))
        return {kind: to_json(result), "gpu": to_json(load)}
    meter = meters.pop(request["finish"])
    return {"finished": to_json(Finished(tuple(meter.answers.tolist()), meter.fault, peak_memory_mib()))}


def _scenario(
    request: Mapping[str, Any], runner: Runner, photos: np.ndarray, config: BenchConfig
) -> tuple[str, Streamed | Served | LoadgenResult]:
    """Return the name of the reply's field, and its value."""
    if "stream" in request:
        return "streamed", stream(runner, photos, request["stream"], config)
    if "serve" in request:
        return "served", serve(runner, photos, config)
    scenario, out = Scenario(request["loadgen"]), Path(request["out"])
    return "judged", run_loadgen(runner, photos, scenario, request["batch"], request["median_ms"], config, out)


def _forget_peak() -> None:
    """Reset the peak memory of the process: it then excludes the decoding of the photos."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib() -> float | None:
    """Return the peak memory of this process in MiB, as Linux reports it; None elsewhere.

    getrusage would count what the parent held when it started this process.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) / 1024 if lines else None


if __name__ == "__main__":
    main()
