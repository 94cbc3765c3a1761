"""The child process in which an ONNX file is checked, parsed and built, so that a native crash stays in there.

The parent (`build_process.py`) writes one line of JSON, the order, to stdin and keeps it open: when it closes, the
parent is gone and so is this process. Answers go as lines of JSON to the file descriptor named in the order; whatever
native libraries print goes to stdout and stderr, which the parent keeps for the day something crashes.
SIGINT cancels at the builder's next step.
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
from trtpoets.core.onnx_load import read_whole
from trtpoets.core.onnx_metadata import facts_of, read_vouched_onnx
from trtpoets.core.own_files import write_own
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.signals import ignore_until_parent_ends
from trtpoets.core.storage import stray_failure
from trtpoets.core.types import Flavour, ModelSpec
from trtpoets.device.build.build_messages import Answer, BuildOrder, BuildResult, Failure, LookResult, Order
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.layer_types import untold
from trtpoets.device.build.tensorrt_build import build_engine, failure, machine_of
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_messages import Messages

_RESERVED = 512 << 20
"""Bytes that count as written to before they are: stacks of threads, 8 MiB each."""

_TICK_SECONDS = 0.05
"""Progress is told at most this often: a builder may take thousands of steps a second."""


class Answers:
    """Lines of JSON to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
        self._last = 0.0

    def send(self, answer: Answer) -> None:
        """Send one answer."""
        self._stream.write(json.dumps(to_json(answer)) + "\n")
        self._stream.flush()

    def progress(self, fraction: float) -> None:
        """Tell how much is done, 0 to 1, now and then."""
        now = time.monotonic()
        if now - self._last >= _TICK_SECONDS:
            self._last = now
            self.send(Answer(progress=fraction))


def main() -> None:
    """Carry out the one order on stdin."""
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
    # Read past Python's buffer: a lock that this thread held at shutdown would abort the process.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _limit_memory(size: int) -> None:
    """Let this process write to `size` bytes at most: a hostile file shall not push the whole machine into a corner.

    Should memory run out all the same, the system is asked to end this process before any other. RLIMIT_DATA counts
    what is private and writable. Address space (RLIMIT_AS) would be the wrong measure: CUDA reserves far more of it
    than there is memory.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _look(order: Order, answers: Answers, cancelled: threading.Event) -> LookResult:
    """What the library finds on this machine."""
    return LookResult(machine_of(load_tensorrt(order.flavour), Messages()))


def _build(order: Order, answers: Answers, cancelled: threading.Event) -> BuildResult:
    wanted = order.build
    assert wanted is not None
    path = Path(os.fsdecode(bytes.fromhex(wanted.onnx_path)))
    request = wanted.request
    calibration = _check(path, wanted)
    network = read_whole(path)  # TensorRT's parser would look for external data in the current directory
    if network.sha256 != wanted.onnx_sha256:
        raise BadArtefact(f"{path} changed while it was about to be built", hint="build again", code="TP4001")
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
        layers=untold("the build process ended while its inspector was asked"),
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

    One that is vouched for was checked where its bundle was made, and `_build` compares its hash: a device has no
    checker.
    """
    found = read_vouched_onnx(path) if wanted.vouched else read_onnx(path)
    expected, request = ModelSpec.from_json(wanted.spec, "the order"), wanted.request
    if found.precision is not request.precision or found.spec != expected:
        raise BadArtefact(
            f"{path} holds {found.spec.name} in {found.precision.value}, not {expected.name} in "
            f"{request.precision.value}, or describes its photos differently",
            hint="export it again: trtpoets export NAME --force",
            code="TP4003",
        )
    return facts_of(path).metadata.get(CALIBRATION_KEY)


_TASKS: Mapping[str, Callable[[Order, Answers, threading.Event], BuildResult | LookResult]] = {
    "build": _build,
    "look": _look,
}


def order_for(
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


def order_to_look(flavour: Flavour, answers: int) -> str:
    """The order to start a library and say what it finds on this machine."""
    return _line("look", answers, flavour)


def _line(task: str, answers: int, flavour: Flavour, wanted: BuildOrder | None = None) -> str:
    return json.dumps(to_json(Order(task, answers, flavour, memory_to_use() + _RESERVED, wanted))) + "\n"


def memory_to_use(root: Path = Path("/")) -> int:
    """How many bytes of this machine's memory are free for a build, swap included; in a container, of its share.

    `root` is where the system's files are. 0 swap and no limit are common; memory that is only cached counts as free.
    """
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE))
    free = (int(values["MemAvailable"]) + int(values["SwapFree"])) << 10
    limit, used = (root / "sys/fs/cgroup" / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, max(int(limit.read_text()) - int(used.read_text()), 0))
    return free
