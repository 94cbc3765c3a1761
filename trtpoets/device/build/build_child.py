"""The child process that checks, parses and builds an ONNX file, so that a native crash does not end the parent.

Protocol: the parent (`build_process.py`) writes one line of JSON, the request, to stdin and keeps stdin open; when it
closes, this process exits. Answers are lines of JSON on the file descriptor given in the request. Output of native
libraries goes to stdout and stderr, which the parent shows after a crash. SIGINT cancels at the builder's next step.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable, Mapping

from trtpoets.core.errors import BadArtefact, BuildFailed, TrtPoetsError
from trtpoets.core.onnx_file import CALIBRATION_KEY, read_onnx
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.onnx_metadata import read_header, read_verified_onnx
from trtpoets.core.own_files import write_own
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.signals import ignore_until_parent_ends
from trtpoets.core.storage import stray_failure
from trtpoets.core.types import Flavour, ModelSpec
from trtpoets.device.build.build_messages import Answer, BuildOrder, BuildResult, Failure, LookResult, Order
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.layer_types import unknown_layers
from trtpoets.device.build.tensorrt_build import build_engine, failure, machine_of
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages

_RESERVED = 512 << 20
"""Bytes that RLIMIT_DATA counts although they are not used: thread stacks, 8 MiB each."""

_TICK_SECONDS = 0.05
"""Shortest time between two progress answers: a builder may take thousands of steps a second."""


class Answers:
    """Sends answers to the parent as lines of JSON."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
        self._last = 0.0

    def send(self, answer: Answer) -> None:
        """Send one answer."""
        self._stream.write(json.dumps(to_json(answer)) + "\n")
        self._stream.flush()

    def progress(self, fraction: float) -> None:
        """Send the finished fraction, 0 to 1, unless one was sent less than _TICK_SECONDS ago."""
        now = time.monotonic()
        if now - self._last >= _TICK_SECONDS:
            self._last = now
            self.send(Answer(progress=fraction))


def main() -> None:
    """Execute the request on stdin."""
    faulthandler.enable()
    ignore_until_parent_ends()
    order = parsed(Order, json.loads(sys.stdin.readline()))
    _limit_memory(order.memory_bytes)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    answers = Answers(order.answers)
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    try:
        answers.send(Answer(done=to_json(_TASKS[order.task](order, answers, cancelled))))
    except TrtPoetsError as error:
        answers.send(Answer(error=_as_answer(error)))
    except OSError as error:
        failure = stray_failure(error)
        if failure is None:
            answers.send(Answer(bug=traceback.format_exc()))
        else:
            answers.send(Answer(error=_as_answer(failure)))
    except MemoryError:
        answers.send(
            Answer(
                error=Failure(
                    kind="BuildFailed",
                    message=f"the memory ran out: the build process may take {order.memory_bytes >> 20:,} MiB",
                    hint="free some memory, or build with a smaller --batch",
                    code="TP4999",
                )
            )
        )
    except Exception:  # noqa: BLE001 - the parent raises it again, with this traceback
        answers.send(Answer(bug=traceback.format_exc()))


def _as_answer(error: TrtPoetsError) -> Failure:
    return Failure(type(error).__name__, error.message, error.hint, error.code)


def _end_with_parent() -> None:
    # os.read does not use Python's buffer, whose lock would abort the process at shutdown.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _limit_memory(size: int) -> None:
    """Limit the private writable memory of this process to `size` bytes, so that a hostile file can't exhaust memory.

    If memory runs out anyway, the kernel ends this process first (oom_score_adj). RLIMIT_DATA is used because
    RLIMIT_AS limits address space, of which CUDA reserves much more than there is memory.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _probe(order: Order, answers: Answers, cancelled: threading.Event) -> LookResult:
    """What the library finds on this machine."""
    return LookResult(machine_of(load_tensorrt(order.flavour), Messages()))


def _build(order: Order, answers: Answers, cancelled: threading.Event) -> BuildResult:
    wanted = order.build
    assert wanted is not None
    path = Path(os.fsdecode(bytes.fromhex(wanted.onnx_path)))
    request = wanted.request
    calibration = _check(path, wanted)
    network = load_self_contained(path)  # TensorRT's parser would look for external data in the current directory
    if network.sha256 != wanted.onnx_sha256:
        raise BadArtefact(f"{path} was modified before the build started", hint="build again", code="TP4001")
    library = load_tensorrt(order.flavour)
    messages = Messages()

    def step(fraction: float) -> bool:
        answers.progress(fraction)
        return not cancelled.is_set()

    timings = bytes.fromhex(wanted.timing_cache)
    begun = time.perf_counter()
    try:
        built = build_engine(library, network.content, request, step, messages, timings)
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
    answers.send(
        Answer(built=to_json(done))
    )  # the engine is whole now, whatever asking for its layers does to this process
    return replace(done, layers=inspect_engine(library, built.engine, request, built.logger))


def _check(path: Path, wanted: BuildOrder) -> str | None:
    """Check the ONNX file before TensorRT's parser sees it; returns its calibration hash.

    A vouched file is listed in a bundle's manifest and was checked when the bundle was made; `_build` compares its
    hash. A device has no ONNX checker.
    """
    found = read_verified_onnx(path) if wanted.vouched else read_onnx(path)
    expected, request = ModelSpec.from_json(wanted.spec, "the order"), wanted.request
    if found.precision is not request.precision or found.spec != expected:
        raise BadArtefact(
            f"{path} contains {found.spec.name} in {found.precision.value}, not {expected.name} in "
            f"{request.precision.value}, or has another preprocessing",
            hint="export it again: trtpoets export NAME --force",
            code="TP4003",
        )
    return read_header(path).metadata.get(CALIBRATION_KEY)


_TASKS: Mapping[str, Callable[[Order, Answers, threading.Event], BuildResult | LookResult]] = {
    "build": _build,
    "probe": _probe,
}


def build_request_line(
    *,
    onnx: Path,
    onnx_sha256: str,
    vouched: bool,
    spec: ModelSpec,
    flavour: Flavour,
    request: BuildRequest,
    timing_cache: bytes,
    out: Path,
    answers: int,
) -> str:
    """The order to build, as its line of JSON. Paths travel as hex: they need not be text."""
    wanted = BuildOrder(
        onnx_path=os.fsencode(onnx).hex(),
        onnx_sha256=onnx_sha256,
        vouched=vouched,
        spec=spec.to_json(),
        request=request,
        timing_cache=timing_cache.hex(),
        out_path=os.fsencode(out).hex(),
    )
    return _line("build", answers, flavour, wanted)


def probe_request_line(flavour: Flavour, answers: int) -> str:
    """The request to start a library and report what it supports on this machine, as a line of JSON."""
    return _line("probe", answers, flavour)


def _line(task: str, answers: int, flavour: Flavour, wanted: BuildOrder | None = None) -> str:
    return json.dumps(to_json(Order(task, answers, flavour, available_memory() + _RESERVED, wanted))) + "\n"


def available_memory(root: Path = Path("/")) -> int:
    """The number of bytes of memory and swap that a build may use: those of the machine or of its container.

    `root` is the folder of the system's files. Memory used for caches counts as available.
    """
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE))
    free = (int(values["MemAvailable"]) + int(values["SwapFree"])) << 10
    limit, used = (root / "sys/fs/cgroup" / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, max(int(limit.read_text()) - int(used.read_text()), 0))
    return free
