"""Questions about engines: whether they build, answer rightly, in which arithmetic, how fast, and what leaks."""

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

from contact.asked import Given, NotAnswered
from contact.harness import CYCLES, GPU_LEAK, free_memory
from contact.networks import Network, built, config_of, need_gpu, need_library, networks, photos_of, target_here
from contact.pace import SETTLE_SECONDS, timed
from trtpoets.core.errors import BuildFailed, TrtPoetsError
from trtpoets.core.types import Engine, Flavour, OnnxModel, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build import tensorrt_build, tensorrt_config
from trtpoets.device.build.build_child import available_memory
from trtpoets.device.build.engine import engine_from_onnx, load_engine
from trtpoets.device.build.engine_config import request_of
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.gpu.libcuda import cuda_version, gpus
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages
from trtpoets.onboard.resources import library_mib

COUNTS = (1, 1, 1, 16, 8, 8, 21, 1)
"""Batch sizes that are captured, replayed, changed, and split."""

MOST_INT8 = 0.8
"""The share of an INT8 engine's layers that is to be in INT8: scaling, the head's softmax and casts are not."""

FASTER = 0.7
"""A second build with the timing cache is to take at most this share of the first."""

LEAK_BATCHES = 1000


def rtx_fp32(given: Given) -> dict[str, Any]:
    """See `_engines`."""
    return _engines(given, Flavour.RTX, Precision.FP32)


def rtx_fp16(given: Given) -> dict[str, Any]:
    """See `_engines`."""
    return _engines(given, Flavour.RTX, Precision.FP16)


def rtx_int8(given: Given) -> dict[str, Any]:
    """See `_engines`. Which layers compute in INT8 is TensorRT-RTX's own choice: told, not a goal."""
    return _engines(given, Flavour.RTX, Precision.INT8)


def tensorrt_fp32(given: Given) -> dict[str, Any]:
    """See `_engines`."""
    return _engines(given, Flavour.TENSORRT, Precision.FP32)


def tensorrt_fp16(given: Given) -> dict[str, Any]:
    """See `_engines`."""
    return _engines(given, Flavour.TENSORRT, Precision.FP16)


def tensorrt_int8(given: Given) -> dict[str, Any]:
    """See `_engines`. An INT8 engine that computes in FP32 misses the goal, however right its scores are."""
    return _engines(given, Flavour.TENSORRT, Precision.INT8)


def _engines(given: Given, flavour: Flavour, precision: Precision) -> dict[str, Any]:
    """Of each network: the build, and where there is a GPU for it, its scores, milliseconds and leaks."""
    need_library(flavour)
    found = {}
    for network in networks(given):
        engine = built(given, network, precision, config_of(flavour))
        card = engine.card
        told: dict[str, Any] = {
            "library": load_tensorrt(flavour).title,
            "targets": list(card.targets),
            "build_seconds": card.build_seconds,
            "engine_bytes": card.engine_bytes,
            "onnx_bytes": network.model(precision).path.stat().st_size,
            "typing": getattr(card, "typing", ""),
            "layers": {} if card.layers is None else dict(card.layers.shares),
            "layers_unknown": "" if card.layers is None else card.layers.why_not,
        }
        why = _cannot_run(engine)
        told.update({"runs": False, "because": why} if why else _measured(given, network, engine))
        found[network.name] = told
    answer: dict[str, Any] = {"networks": found}
    judged = [_as_it_should(each, flavour, precision) for each in found.values() if each["runs"]]
    if judged:
        answer["goal_met"] = all(judged)
    return answer


def _cannot_run(engine: Engine) -> str:
    """Why the engine can't be run here; empty where it can.

    TensorRT-RTX does not name every GPU among its targets (no Hopper in 1.7). Whether its engine "for Ampere and later"
    runs there is tried, and a refusal is an answer.
    """
    try:
        need_gpu()
    except NotAnswered as why:
        return str(why)
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


def _as_it_should(told: dict[str, Any], flavour: Flavour, precision: Precision) -> bool:
    near = told["worst_difference"] is None or told["worst_difference"] <= told["tolerance"]
    wide = flavour is Flavour.TENSORRT and precision is Precision.INT8
    typed = not wide or told["layers"].get("int8", 0.0) >= MOST_INT8
    return bool(near and typed and max(told["batches_leak_bytes"], told["cycles_leak_bytes"]) < GPU_LEAK)


def _measured(given: Given, network: Network, engine: Engine) -> dict[str, Any]:
    return {
        "runs": True,
        **_scores(network, engine),
        "with_graph": latencies(given, engine, graphs=True),
        "without_graph": latencies(given, engine, graphs=False),
        **_leaks(given, engine),
    }


def _scores(network: Network, engine: Engine) -> dict[str, Any]:
    """How far scores are from those that are right, over batch sizes that are captured, replayed, changed and split."""
    photos, expected, tolerance = network.reference(engine.card.precision)
    if expected is None:
        return {"worst_difference": None, "same_answers": None, "tolerance": tolerance, "beside": "nothing is here"}
    worst, same, total = 0.0, 0, 0
    with TensorRtRunner(engine) as runner:
        for count in COUNTS:
            places = np.arange(count) % len(photos)
            found, wanted = runner.infer(photos[places]), expected[places]
            worst = max(worst, float(np.abs(found - wanted).max()))
            same += int((found.argmax(axis=1) == wanted.argmax(axis=1)).sum())
            total += count
    beside = "the bundle's golden scores" if network.bundle else "ONNX Runtime"
    return {"worst_difference": worst, "same_answers": same / total, "tolerance": tolerance, "beside": beside}


def latencies(given: Given, engine: Engine, *, graphs: bool, batch: int = 1) -> dict[str, Any]:
    """Medians and 99th percentiles in milliseconds: `infer` on the host's clock, the rest on the GPU's."""
    photos = _photos(engine, batch)
    begun = time.perf_counter()
    with TensorRtRunner(engine, graphs=graphs) as runner:
        entered = time.perf_counter() - begun
        timed(lambda: runner.infer(photos), min(SETTLE_SECONDS, given.seconds))
        infer = timed(lambda: runner.infer(photos), given.seconds)
        timings: list[Any] = []
        timed(lambda: timings.append(runner.infer_timed(photos)[1]), given.seconds)
    found: dict[str, Any] = {}
    columns = {"infer": infer, **{word: [getattr(each, f"{word}_ms") for each in timings] for word in _PARTS}}
    for word, values in columns.items():
        found[f"{word}_p50"], found[f"{word}_p99"] = (float(np.percentile(values, at)) for at in (50, 99))
    return {**found, "graph": timings[-1].graph, "enter_seconds": entered}


_PARTS = ("h2d", "compute", "d2h", "enqueue", "device")


def _leaks(given: Given, engine: Engine) -> dict[str, int]:
    """Bytes of the GPU that batches, and entering and leaving, don't give back."""
    photos = _photos(engine, 1)
    with TensorRtRunner(engine) as runner:
        for _ in range(20):
            runner.infer(photos)
        before = free_memory()
        for _ in range(min(LEAK_BATCHES, given.count)):
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
    """Build in this process, as the product does in a child: what was built, its layers' arithmetic, and seconds.

    `targets` are those that the product would not take.
    """
    library, model = load_tensorrt(flavour), network.model(precision)
    request = request_of(model, config_of(flavour))
    if targets is not None:
        request = replace(request, targets=targets)
    begun = time.perf_counter()
    content = model.path.read_bytes()
    made = tensorrt_build.build_engine(library, content, request, lambda fraction: True, Messages())
    seconds = time.perf_counter() - begun
    return made, inspect_engine(library, made.engine, request, made.logger), seconds


@contextmanager
def _typed(weak: bool) -> Iterator[None]:
    """Within, networks are typed weakly or strongly, whatever the product would choose."""
    kept = tensorrt_config.weakly_typed
    modules = (tensorrt_config, tensorrt_build)
    for module in modules:
        module.weakly_typed = lambda *_, **__: weak  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.weakly_typed = kept  # type: ignore[attr-defined]


def rtx_current(given: Given) -> dict[str, Any]:
    """ComputeCapability.CURRENT: whether it is taken, and what is said where it is refused."""
    need_library(Flavour.RTX)
    network = networks(given)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    if "CURRENT" not in load_tensorrt(Flavour.RTX).module.ComputeCapability.__members__:
        raise NotAnswered(f"{load_tensorrt(Flavour.RTX).title} has no ComputeCapability.CURRENT")
    told: dict[str, Any] = {"network": network.name, "precision": precision.value, "target_here": target_here()}
    try:
        made, _, seconds = built_here(network, Flavour.RTX, precision, ("current",))
    except TrtPoetsError as error:
        return {**told, "builds": False, "refusal": error.message}
    return {**told, "builds": True, "seconds": seconds, "engine_bytes": len(bytes(made.engine))}


def int8_typing(given: Given) -> dict[str, Any]:
    """INT8 built weakly and strongly typed, with the layers' arithmetic and milliseconds of each."""
    need_library(Flavour.TENSORRT)
    library = load_tensorrt(Flavour.TENSORRT)
    if "INT8" not in library.module.BuilderFlag.__members__:
        raise NotAnswered(f"{library.title} has strongly typed networks only")
    network = networks(given)[0]
    base = built(given, network, Precision.INT8, config_of(Flavour.TENSORRT))
    found: dict[str, Any] = {"network": network.name, "library": library.title}
    for name, weak in (("weakly typed", True), ("strongly typed", False)):
        if not weak and not library.strongly_typed:
            found[name] = {"because": f"{library.title} has weakly typed networks only"}
            continue
        with _typed(weak):
            try:
                made, layers, seconds = built_here(network, Flavour.TENSORRT, Precision.INT8)
            except BuildFailed as error:
                found[name] = {"because": error.message}
                continue
        engine = _kept(base, bytes(made.engine), name.replace(" ", "-"))
        found[name] = {
            "typing": made.typing,
            "layers": dict(layers.shares),
            "layers_unknown": layers.why_not,
            "build_seconds": seconds,
            **_scores(network, engine),
            "with_graph": latencies(given, engine, graphs=True),
        }
    weakly = found["weakly typed"]
    return {**found, "goal_met": weakly.get("layers", {}).get("int8", 0.0) >= MOST_INT8}


def _kept(like: Engine, plan: bytes, name: str) -> Engine:
    """Another engine of the same network beside one that has a card."""
    path = like.path.with_name(f"{name}.{like.path.name}")
    path.write_bytes(plan)
    card = replace(like.card, engine_sha256=hashlib.sha256(plan).hexdigest(), engine_bytes=len(plan), layers=None)
    seal_card(card_of(path), key="0" * 64, files=[path], details=asdict(card))
    return load_engine(path)


def timing_cache(given: Given) -> dict[str, Any]:
    """The same engine built twice in an empty folder: the second build finds the timing cache of the first."""
    need_library(Flavour.TENSORRT)
    network = networks(given)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    folder = given.work / network.name / "twice"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    vouched = network.bundle.manifest.files[network.model(precision).path.name] if network.bundle else ""
    out, seconds = folder / f"{precision.value}.tensorrt.engine", []
    for _ in range(2):
        engine = engine_from_onnx(network.model(precision), config_of(Flavour.TENSORRT), out, vouched_sha256=vouched)
        seconds.append(engine.card.build_seconds)
    cache = [each.stat().st_size for each in folder.glob("*.timing-cache")]
    return {
        "network": network.name,
        "precision": precision.value,
        "first_seconds": seconds[0],
        "second_seconds": seconds[1],
        "cache_bytes": cache[0] if cache else 0,
        "goal_met": bool(cache) and seconds[1] <= FASTER * seconds[0],
    }


def version_compatible(given: Given) -> dict[str, Any]:
    """An engine that brings its own runtime loads here, and answers as the ordinary one does."""
    need_library(Flavour.TENSORRT)
    if not tensorrt_config.has_version_compatible(load_tensorrt(Flavour.TENSORRT)):
        raise NotAnswered(f"{load_tensorrt(Flavour.TENSORRT).title} builds no version-compatible engines")
    network = networks(given)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    plain = built(given, network, precision, config_of(Flavour.TENSORRT))
    config = config_of(Flavour.TENSORRT, version_compatible=True)
    engine = built(given, network, precision, config, f"{precision.value}.version-compatible")
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


def builder_memory(given: Given) -> dict[str, Any]:
    """The most that the child which builds holds, by /proc, beside its limit and the room that is asked for."""
    flavour = next((each for each in (Flavour.TENSORRT, Flavour.RTX) if not _missing(each)), None)
    if flavour is None:
        raise NotAnswered("no TensorRT is here")
    network = networks(given)[0]
    precision = Precision.INT8 if Precision.INT8 in network.models else next(iter(network.models))
    model = network.model(precision)
    vouched = network.bundle.manifest.files[model.path.name] if network.bundle else ""
    out = given.work / network.name / f"memory.{flavour.value}.engine"
    out.parent.mkdir(parents=True, exist_ok=True)
    most: dict[str, int] = {}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for pid in _builders():
                for word, value in _memory(pid).items():
                    most[word] = max(value, most.get(word, 0))

    limit = available_memory()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        engine_from_onnx(model, config_of(flavour), out, vouched_sha256=vouched)
    finally:
        ended.set()
        thread.join()
    if not most:
        raise NotAnswered("the process that builds ended before it was looked at")
    size = model.path.stat().st_size
    asked_for = (library_mib(_cuda(), os.environ) << 20) + 6 * size
    return {
        "library": load_tensorrt(flavour).title,
        "onnx_bytes": size,
        "limit_bytes": limit,
        "data_bytes": most.get("VmData", 0),
        "resident_bytes": most.get("VmHWM", 0),
        "room_asked_for_bytes": asked_for,
        "goal_met": most.get("VmData", 0) < limit and most.get("VmHWM", 0) < asked_for,
    }


def _cuda() -> str | None:
    """The driver's CUDA; None where there is none."""
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
    """The children of this process that build."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found += [int(pid) for pid in path.read_text().split()]
        except OSError:
            continue
    return found


def _memory(pid: int) -> dict[str, int]:
    """VmData and VmHWM of a process in bytes; {} where it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return {word: int(kib) << 10 for word, kib in re.findall(r"^(VmData|VmHWM):\s*(\d+) kB", text, re.MULTILINE)}
