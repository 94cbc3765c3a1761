"""The child process that checks, parses and builds an ONNX file, so that a native crash does not end the parent.

The protocol is that of `core/child_process.py`: the parent (`build_process.py`) sends one Order, and the child replies
with any number of Answers. SIGINT cancels the build at the builder's next step.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Callable, Mapping

from trtpoets.core.child_process import limit_memory, replies
from trtpoets.core.errors import BadArtefact, BuildFailed, TrtPoetsError
from trtpoets.core.onnx_file import CALIBRATION_KEY, read_onnx
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.onnx_metadata import read_header, read_verified_onnx
from trtpoets.core.own_files import write_own
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.signals import ignore_until_parent_ends
from trtpoets.core.storage import stray_failure
from trtpoets.core.system_files import available_memory
from trtpoets.core.types import Flavour, ModelSpec
from trtpoets.device.build.build_messages import Answer, BuildOrder, BuildResult, Failure, Order, ProbeResult
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.layer_types import unknown_layers
from trtpoets.device.build.tensorrt_build import build_engine, failure, machine_of
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages

_RESERVED = 512 << 20
"""Bytes that RLIMIT_DATA counts although they are not used: thread stacks, 8 MiB each."""

_TICK_SECONDS = 0.05
"""Shortest time between two answers about progress, because a builder may report thousands of steps a second."""


class AnswerSender:
    """Sends Answers to the parent."""

    def __init__(self, send: Callable[[Answer], None]) -> None:
        self.send = send
        self._last = 0.0

    def progress(self, fraction: float) -> None:
        """Send the finished fraction, 0 to 1, unless one was sent less than _TICK_SECONDS ago."""
        now = time.monotonic()
        if now - self._last >= _TICK_SECONDS:
            self._last = now
            self.send(Answer(progress=fraction))


def main() -> None:
    """Execute the Order on stdin, and send Answers to stdout."""
    faulthandler.enable()
    ignore_until_parent_ends()
    order = parsed(Order, json.loads(sys.stdin.readline()))
    # With this limit, a malicious file can't use up the memory of the machine.
    limit_memory(order.memory_bytes)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    with replies() as send:
        send(_result(order, AnswerSender(send), cancelled))


def _result(order: Order, answers: AnswerSender, cancelled: threading.Event) -> Answer:
    """Execute an order. Returns the last answer: the result, or the error."""
    try:
        return Answer(done=to_json(_TASKS[order.task](order, answers, cancelled)))
    except TrtPoetsError as error:
        return Answer(error=_as_failure(error))
    except OSError as error:
        disk_error = stray_failure(error)
        return Answer(bug=traceback.format_exc()) if disk_error is None else Answer(error=_as_failure(disk_error))
    except MemoryError:
        return Answer(
            error=Failure(
                kind="BuildFailed",
                message=f"the memory ran out: the build process may take {order.memory_bytes >> 20:,} MiB",
                hint="free some memory, or build with a smaller --batch",
                code="TP4999",
            )
        )
    except Exception:  # noqa: BLE001 - the parent raises it again, with this traceback
        return Answer(bug=traceback.format_exc())


def _as_failure(error: TrtPoetsError) -> Failure:
    return Failure(type(error).__name__, error.message, error.hint, error.code)


def _end_with_parent() -> None:
    """End this process when the parent closes stdin, which it does when it ends."""
    # os.read does not use Python's buffer, whose lock would abort the process at shutdown.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _probe(order: Order, answers: AnswerSender, cancelled: threading.Event) -> ProbeResult:
    """Return what the library supports on this machine."""
    return ProbeResult(machine_of(load_tensorrt(order.flavour), Messages()))


def _build(order: Order, answers: AnswerSender, cancelled: threading.Event) -> BuildResult:
    """Build an engine, write it to the path in the order, and return its properties."""
    wanted = order.build
    assert wanted is not None
    request = wanted.request
    network, calibration = _checked_network(wanted)
    library = load_tensorrt(order.flavour)
    messages = Messages()

    def step(fraction: float) -> bool:
        answers.progress(fraction)
        return not cancelled.is_set()

    timings = bytes.fromhex(wanted.timing_cache)
    begun = time.perf_counter()
    try:
        built = build_engine(library, network, request, step, messages, timings)
    except MemoryError as error:
        raise failure(library, request, "out of memory") from error
    if cancelled.is_set():
        raise BuildFailed("the build was cancelled", code="TP4002")
    seconds = time.perf_counter() - begun
    out = Path(os.fsdecode(bytes.fromhex(wanted.out_path)))
    write_own(out, built.engine)
    done = BuildResult(
        seconds=seconds,
        calibration=calibration,
        timing_cache=None if built.timing_cache is None else bytes(built.timing_cache).hex(),
        typing=built.typing,
        layers=unknown_layers("the build process ended while the engine was inspected"),
        notes=tuple(messages.notes),
        doubts=tuple(messages.doubts),
        warnings=tuple(messages.warnings[:50]),
    )
    # The engine is complete. It is reported now, because inspecting its layers may crash this process.
    answers.send(Answer(built=to_json(done)))
    return replace(done, layers=inspect_engine(library, built.engine, request, built.logger))


def _checked_network(wanted: BuildOrder) -> tuple[bytes, str | None]:
    """Check the ONNX file before TensorRT parses it, and return its content and its calibration hash.

    The `onnx` package, which a device does not have, checks the file, unless it is `in_manifest`: then the manifest of
    a bundle lists its hash, and it was checked when the bundle was made.
    """
    path = Path(os.fsdecode(bytes.fromhex(wanted.onnx_path)))
    model = read_verified_onnx(path) if wanted.in_manifest else read_onnx(path)
    expected, request = ModelSpec.from_json(wanted.spec, "the order"), wanted.request
    if model.precision is not request.precision or model.spec != expected:
        raise BadArtefact(
            f"{path} contains {model.spec.name} in {model.precision.value}, not {expected.name} in "
            f"{request.precision.value}, or has another preprocessing",
            hint="export it again: trtpoets export NAME --force",
            code="TP4003",
        )
    calibration = read_header(path).metadata.get(CALIBRATION_KEY)
    network = load_self_contained(path)  # TensorRT's parser would look for external data in the current directory
    if network.sha256 != wanted.onnx_sha256:
        raise BadArtefact(f"{path} was modified before the build started", hint="build again", code="TP4001")
    return network.content, calibration


_TASKS: Mapping[str, Callable[[Order, AnswerSender, threading.Event], BuildResult | ProbeResult]] = {
    "build": _build,
    "probe": _probe,
}


def build_order(
    *,
    onnx: Path,
    onnx_sha256: str,
    in_manifest: bool,
    spec: ModelSpec,
    flavour: Flavour,
    request: BuildRequest,
    timing_cache: bytes,
    out: Path,
) -> Order:
    """Return the order to build an engine. Paths are sent as hex, because they need not be valid UTF-8."""
    wanted = BuildOrder(
        onnx_path=os.fsencode(onnx).hex(),
        onnx_sha256=onnx_sha256,
        in_manifest=in_manifest,
        spec=spec.to_json(),
        request=request,
        timing_cache=timing_cache.hex(),
        out_path=os.fsencode(out).hex(),
    )
    return _order("build", flavour, wanted)


def probe_order(flavour: Flavour) -> Order:
    """Return the order to load a library and report what it supports on this machine."""
    return _order("probe", flavour)


def _order(task: str, flavour: Flavour, wanted: BuildOrder | None = None) -> Order:
    return Order(task, flavour, available_memory() + _RESERVED, wanted)
