"""Questions about engines: builds, correct scores, precision of the layers, speed, memory leaks."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Iterator

import numpy as np

from contact.harness import CYCLES, GPU_LEAK, free_memory
from contact.networks import Network, built, config_of, need_gpu, need_library, networks, photos_of, target_here
from contact.pace import SETTLE_SECONDS, timed
from contact.question_inputs import NotAnswered, QuestionInputs
from trtpoets.core.errors import BuildFailed, TrtPoetsError
from trtpoets.core.system_files import available_memory
from trtpoets.core.types import Engine, Flavour, OnnxModel, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build import tensorrt_build, tensorrt_config
from trtpoets.device.build.engine import engine_from_onnx, load_engine
from trtpoets.device.build.engine_config import request_of
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.gpu.libcuda import cuda_version, gpus
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages
from trtpoets.onboard.resources import library_mib

COUNTS = (1, 1, 1, 16, 8, 8, 21, 1)
"""Batch sizes that cause graphs to be captured and replayed, and batches to be split."""

MIN_INT8 = 0.8
"""Minimum share of INT8 layers in an INT8 engine; scaling, softmax and casts are not INT8."""

MAX_CACHED_BUILD = 0.7
"""Maximum duration of a second build with the timing cache, relative to the first."""

LEAK_BATCHES = 1000


def engines(inputs: QuestionInputs, flavour_name: str, precision_name: str) -> dict[str, Any]:
    """Build each network and, if there is a GPU, check scores, latencies and memory leaks.

    An INT8 engine of TensorRT that runs in FP32 misses the goal even if its scores are correct. TensorRT-RTX chooses
    which layers run in INT8; their share is reported but is not a goal.
    """
    flavour, precision = Flavour(flavour_name), Precision(precision_name)
    need_library(flavour)
    by_network = {}
    for network in networks(inputs):
        engine = built(inputs, network, precision, config_of(flavour))
        card = engine.card
        result: dict[str, Any] = {
            "library": load_tensorrt(flavour).title,
            "targets": list(card.targets),
            "build_seconds": card.build_seconds,
            "engine_bytes": card.engine_bytes,
            "onnx_bytes": network.model(precision).path.stat().st_size,
            "typing": getattr(card, "typing", ""),
            "layers": {} if card.layers is None else dict(card.layers.shares),
            "layers_unknown": "" if card.layers is None else card.layers.why_not,
        }
        reason = _cannot_run(engine)
        result.update({"runs": False, "because": reason} if reason else _measured(inputs, network, engine))
        by_network[network.name] = result
    answer: dict[str, Any] = {"networks": by_network}
    goals = [_meets_goal(result, flavour, precision) for result in by_network.values() if result["runs"]]
    if goals:
        answer["goal_met"] = all(goals)
    return answer


def _cannot_run(engine: Engine) -> str:
    """Return why the engine cannot run here; "" if it can.

    TensorRT-RTX does not list every GPU among its targets (no Hopper in 1.7), so its engine for Ampere and later is
    tried on other GPUs.
    """
    try:
        need_gpu()
    except NotAnswered as reason:
        return str(reason)
    library, target = load_tensorrt(engine.card.flavour), gpus()[0].target
    if engine.card.flavour is Flavour.TENSORRT or target in library.targets:
        return ""
    try:
        with TensorRtRunner(engine) as runner:
            runner.infer(_photos(engine, 1))
    except TrtPoetsError as error:
        return f"{target} is not among the targets of {library.title}, and its engine does not run: {error.message}"
    return ""


def _photos(engine: Engine, count: int) -> np.ndarray:
    return photos_of(OnnxModel(engine.path, engine.card.precision, engine.card.spec), count)


def _meets_goal(result: dict[str, Any], flavour: Flavour, precision: Precision) -> bool:
    correct = result["worst_difference"] is None or result["worst_difference"] <= result["tolerance"]
    needs_int8 = flavour is Flavour.TENSORRT and precision is Precision.INT8
    mostly_int8 = not needs_int8 or result["layers"].get("int8", 0.0) >= MIN_INT8
    leak = max(result["batches_leak_bytes"], result["cycles_leak_bytes"])
    return bool(correct and mostly_int8 and leak < GPU_LEAK)


def _measured(inputs: QuestionInputs, network: Network, engine: Engine) -> dict[str, Any]:
    return {
        "runs": True,
        **_scores(network, engine),
        "with_graph": latencies(inputs, engine, graphs=True),
        "without_graph": latencies(inputs, engine, graphs=False),
        **_leaks(inputs, engine),
    }


def _scores(network: Network, engine: Engine) -> dict[str, Any]:
    """Compare the scores with the reference, over batch sizes that are captured, replayed and split."""
    photos, expected, tolerance = network.reference(engine.card.precision)
    if expected is None:
        return {"worst_difference": None, "same_answers": None, "tolerance": tolerance, "beside": "no reference"}
    worst, same, total = 0.0, 0, 0
    with TensorRtRunner(engine) as runner:
        for count in COUNTS:
            indices = np.arange(count) % len(photos)
            scores, reference = runner.infer(photos[indices]), expected[indices]
            worst = max(worst, float(np.abs(scores - reference).max()))
            same += int((scores.argmax(axis=1) == reference.argmax(axis=1)).sum())
            total += count
    beside = "the bundle's golden scores" if network.bundle else "ONNX Runtime"
    return {"worst_difference": worst, "same_answers": same / total, "tolerance": tolerance, "beside": beside}


def latencies(inputs: QuestionInputs, engine: Engine, *, graphs: bool, batch: int = 1) -> dict[str, Any]:
    """Return medians and 99th percentiles in ms: `infer` by the host clock, the other phases by CUDA events."""
    photos = _photos(engine, batch)
    start = time.perf_counter()
    with TensorRtRunner(engine, graphs=graphs) as runner:
        enter_seconds = time.perf_counter() - start
        timed(lambda: runner.infer(photos), min(SETTLE_SECONDS, inputs.seconds))
        infer = timed(lambda: runner.infer(photos), inputs.seconds)
        timings: list[Any] = []
        timed(lambda: timings.append(runner.infer_timed(photos)[1]), inputs.seconds)
    percentiles: dict[str, Any] = {}
    columns = {"infer": infer, **{phase: [getattr(row, f"{phase}_ms") for row in timings] for phase in _PHASES}}
    for name, values in columns.items():
        percentiles[f"{name}_p50"], percentiles[f"{name}_p99"] = (float(np.percentile(values, p)) for p in (50, 99))
    return {**percentiles, "graph": timings[-1].graph, "enter_seconds": enter_seconds}


_PHASES = ("h2d", "compute", "d2h", "enqueue", "device")


def _leaks(inputs: QuestionInputs, engine: Engine) -> dict[str, int]:
    """Return the GPU memory in bytes that is lost over batches, and over entering and exiting the runner."""
    photos = _photos(engine, 1)
    with TensorRtRunner(engine) as runner:
        for _ in range(20):
            runner.infer(photos)
        before = free_memory()
        for _ in range(min(LEAK_BATCHES, inputs.count)):
            runner.infer(photos)
        batches = before - free_memory()
    free = []
    for _ in range(CYCLES):
        with TensorRtRunner(engine) as runner:
            runner.infer(photos)
        free.append(free_memory())
    return {"batches_leak_bytes": batches, "cycles_leak_bytes": free[CYCLES // 5] - free[-1]}


def built_here(
    network: Network, flavour: Flavour, precision: Precision, targets: tuple[str, ...] | None = None
) -> tuple[Any, Any, float]:
    """Build in this process instead of a child process; return the build, the precision of its layers, and seconds.

    `targets` may be values that `trtpoets build` does not accept.
    """
    library, model = load_tensorrt(flavour), network.model(precision)
    request = request_of(model, config_of(flavour))
    if targets is not None:
        request = replace(request, targets=targets)
    start = time.perf_counter()
    content = model.path.read_bytes()
    result = tensorrt_build.build_engine(library, content, request, lambda fraction: True, Messages())
    seconds = time.perf_counter() - start
    return result, inspect_engine(library, result.engine, request, result.logger), seconds


@contextmanager
def _typed(weak: bool) -> Iterator[None]:
    """Build weakly or strongly typed networks in the body, regardless of the default."""
    kept = tensorrt_config.weakly_typed
    modules = (tensorrt_config, tensorrt_build)
    for module in modules:
        module.weakly_typed = lambda *_, **__: weak  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.weakly_typed = kept  # type: ignore[attr-defined]


def rtx_current(inputs: QuestionInputs) -> dict[str, Any]:
    """ComputeCapability.CURRENT: whether it is taken, and what is said where it is refused."""
    need_library(Flavour.RTX)
    network = networks(inputs)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    if "CURRENT" not in load_tensorrt(Flavour.RTX).module.ComputeCapability.__members__:
        raise NotAnswered(f"{load_tensorrt(Flavour.RTX).title} has no ComputeCapability.CURRENT")
    result: dict[str, Any] = {"network": network.name, "precision": precision.value, "target_here": target_here()}
    try:
        build, _, seconds = built_here(network, Flavour.RTX, precision, ("current",))
    except TrtPoetsError as error:
        return {**result, "builds": False, "refusal": error.message}
    return {**result, "builds": True, "seconds": seconds, "engine_bytes": len(bytes(build.engine))}


def int8_typing(inputs: QuestionInputs) -> dict[str, Any]:
    """Build INT8 weakly and strongly typed; return the precision of the layers and the latency of each."""
    need_library(Flavour.TENSORRT)
    library = load_tensorrt(Flavour.TENSORRT)
    if "INT8" not in library.module.BuilderFlag.__members__:
        raise NotAnswered(f"{library.title} has strongly typed networks only")
    network = networks(inputs)[0]
    base = built(inputs, network, Precision.INT8, config_of(Flavour.TENSORRT))
    results: dict[str, Any] = {"network": network.name, "library": library.title}
    for name, weak in (("weakly typed", True), ("strongly typed", False)):
        if not weak and not library.strongly_typed:
            results[name] = {"because": f"{library.title} has weakly typed networks only"}
            continue
        with _typed(weak):
            try:
                build, layers, seconds = built_here(network, Flavour.TENSORRT, Precision.INT8)
            except BuildFailed as error:
                results[name] = {"because": error.message}
                continue
        engine = _kept(base, bytes(build.engine), name.replace(" ", "-"))
        results[name] = {
            "typing": build.typing,
            "layers": dict(layers.shares),
            "layers_unknown": layers.why_not,
            "build_seconds": seconds,
            **_scores(network, engine),
            "with_graph": latencies(inputs, engine, graphs=True),
        }
    weakly = results["weakly typed"]
    return {**results, "goal_met": weakly.get("layers", {}).get("int8", 0.0) >= MIN_INT8}


def _kept(like: Engine, plan: bytes, name: str) -> Engine:
    """Write another engine of the same network next to one that has a card, and return it."""
    path = like.path.with_name(f"{name}.{like.path.name}")
    path.write_bytes(plan)
    card = replace(like.card, engine_sha256=hashlib.sha256(plan).hexdigest(), engine_bytes=len(plan), layers=None)
    seal_card(card_of(path), key="0" * 64, files=[path], details=asdict(card))
    return load_engine(path)


def timing_cache(inputs: QuestionInputs) -> dict[str, Any]:
    """Build the same engine twice in an empty folder; the second build uses the timing cache of the first."""
    need_library(Flavour.TENSORRT)
    network = networks(inputs)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    folder = inputs.work / network.name / "twice"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    manifest_sha256 = network.bundle.manifest.files[network.model(precision).path.name] if network.bundle else ""
    out, seconds = folder / f"{precision.value}.tensorrt.engine", []
    for _ in range(2):
        engine = engine_from_onnx(
            network.model(precision), config_of(Flavour.TENSORRT), out, manifest_sha256=manifest_sha256
        )
        seconds.append(engine.card.build_seconds)
    cache = [path.stat().st_size for path in folder.glob("*.timing-cache")]
    return {
        "network": network.name,
        "precision": precision.value,
        "first_seconds": seconds[0],
        "second_seconds": seconds[1],
        "cache_bytes": cache[0] if cache else 0,
        "goal_met": bool(cache) and seconds[1] <= MAX_CACHED_BUILD * seconds[0],
    }


def version_compatible(inputs: QuestionInputs) -> dict[str, Any]:
    """Check that a version-compatible engine loads, with the same scores as the default engine."""
    need_library(Flavour.TENSORRT)
    if not tensorrt_config.has_version_compatible(load_tensorrt(Flavour.TENSORRT)):
        raise NotAnswered(f"{load_tensorrt(Flavour.TENSORRT).title} can't build version-compatible engines")
    network = networks(inputs)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    plain = built(inputs, network, precision, config_of(Flavour.TENSORRT))
    config = config_of(Flavour.TENSORRT, version_compatible=True)
    engine = built(inputs, network, precision, config, f"{precision.value}.version-compatible")
    photos = photos_of(network.model(precision), 8)
    with TensorRtRunner(plain) as first, TensorRtRunner(engine) as second:
        gap = float(np.abs(first.infer(photos) - second.infer(photos)).max())
    return {
        "network": network.name,
        "precision": precision.value,
        "engine_bytes": [plain.card.engine_bytes, engine.card.engine_bytes],
        "worst_difference": gap,
        "goal_met": gap < 0.02,
    }


def builder_memory(inputs: QuestionInputs) -> dict[str, Any]:
    """Measure the peak memory of the build process, relative to its limit and to the required free memory."""
    flavour = next((item for item in (Flavour.TENSORRT, Flavour.RTX) if not _missing(item)), None)
    if flavour is None:
        raise NotAnswered("no TensorRT library is installed")
    network = networks(inputs)[0]
    precision = Precision.INT8 if Precision.INT8 in network.models else next(iter(network.models))
    model = network.model(precision)
    manifest_sha256 = network.bundle.manifest.files[model.path.name] if network.bundle else ""
    out = inputs.work / network.name / f"memory.{flavour.value}.engine"
    out.parent.mkdir(parents=True, exist_ok=True)
    peak: dict[str, int] = {}
    ended = threading.Event()

    def record_peak() -> None:
        while not ended.wait(0.02):
            for pid in _builders():
                for name, value in _memory(pid).items():
                    peak[name] = max(value, peak.get(name, 0))

    limit = available_memory()
    thread = threading.Thread(target=record_peak, daemon=True)
    thread.start()
    try:
        engine_from_onnx(model, config_of(flavour), out, manifest_sha256=manifest_sha256)
    finally:
        ended.set()
        thread.join()
    if not peak:
        raise NotAnswered("the build process ended before its memory was read")
    size = model.path.stat().st_size
    required = (library_mib(_cuda(), os.environ) << 20) + 6 * size
    return {
        "library": load_tensorrt(flavour).title,
        "onnx_bytes": size,
        "limit_bytes": limit,
        "data_bytes": peak.get("VmData", 0),
        "resident_bytes": peak.get("VmHWM", 0),
        "room_asked_for_bytes": required,
        "goal_met": peak.get("VmData", 0) < limit and peak.get("VmHWM", 0) < required,
    }


def _cuda() -> str | None:
    """Return the CUDA version of the driver; None without a driver."""
    try:
        return cuda_version()
    except TrtPoetsError:
        return None


def _missing(flavour: Flavour) -> bool:
    try:
        need_library(flavour)
    except NotAnswered:
        return True
    return False


def _builders() -> list[int]:
    """Return the process ids of the build processes, which are children of this process."""
    pids: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            pids += [int(pid) for pid in path.read_text().split()]
        except OSError:
            continue
    return pids


def _memory(pid: int) -> dict[str, int]:
    """Return VmData and VmHWM of a process in bytes; {} if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return {name: int(kib) << 10 for name, kib in re.findall(r"^(VmData|VmHWM):\s*(\d+) kB", text, re.MULTILINE)}
