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
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact, BuildFailed, TrtPoetsError
from trtpoets.core.onnx_file import CALIBRATION_KEY, read_onnx
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.onnx_metadata import read_header, read_verified_onnx
from trtpoets.core.own_files import write_own
from trtpoets.core.signals import ignore_until_parent_ends
from trtpoets.core.storage import stray_failure
from trtpoets.core.types import BatchRange, Flavour, ModelSpec, Precision
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

    def send(self, **answer: Any) -> None:
        """Send one answer."""
        self._stream.write(json.dumps(answer) + "\n")
        self._stream.flush()

    def progress(self, fraction: float) -> None:
        """Send the finished fraction, 0 to 1, unless one was sent less than _TICK_SECONDS ago."""
        now = time.monotonic()
        if now - self._last >= _TICK_SECONDS:
            self._last = now
            self.send(progress=fraction)


def main() -> None:
    """Execute the request on stdin."""
    faulthandler.enable()
    ignore_until_parent_ends()
    order = json.loads(sys.stdin.readline())
    _limit_memory(order["memory_bytes"])
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    answers = Answers(order["answers"])
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    try:
        answers.send(done=_TASKS[order["task"]](order, answers, cancelled))
    except TrtPoetsError as error:
        answers.send(error=_as_answer(error))
    except OSError as error:
        failure = stray_failure(error)
        answers.send(**({"bug": traceback.format_exc()} if failure is None else {"error": _as_answer(failure)}))
    except MemoryError:
        answers.send(
            error={
                "kind": "BuildFailed",
                "message": f"out of memory: the build process may use {order['memory_bytes'] >> 20:,} MiB",
                "hint": "free some memory, or build with a smaller --batch",
                "code": "TP4999",
            }
        )
    except Exception:  # noqa: BLE001 - the parent raises it again, with this traceback
        answers.send(bug=traceback.format_exc())


def _as_answer(error: TrtPoetsError) -> dict[str, str]:
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint, "code": error.code}


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


def _probe(order: Mapping[str, Any], answers: Answers, cancelled: threading.Event) -> dict[str, Any]:
    """Start the library and return what it supports on this machine."""
    machine = machine_of(load_tensorrt(Flavour(order["flavour"])), Messages())
    return {"machine": asdict(machine), "notes": [], "warnings": []}


def _build(order: Mapping[str, Any], answers: Answers, cancelled: threading.Event) -> dict[str, Any]:
    path = Path(os.fsdecode(bytes.fromhex(order["onnx_path"])))
    request = _request_of(order["request"])
    calibration = _check(path, order)
    network = load_self_contained(path)  # TensorRT's parser would look for external data in the current directory
    if network.sha256 != order["onnx_sha256"]:
        raise BadArtefact(f"{path} was modified before the build started", hint="build again", code="TP4001")
    library = load_tensorrt(Flavour(order["flavour"]))
    messages = Messages()

    def step(fraction: float) -> bool:
        answers.progress(fraction)
        return not cancelled.is_set()

    timings = bytes.fromhex(order["timing_cache"])
    started = time.perf_counter()
    try:
        built = build_engine(library, network.content, request, step, messages, timings)
    except MemoryError as error:
        raise failure(library, request, "out of memory") from error
    if cancelled.is_set():
        raise BuildFailed("the build was cancelled", code="TP4002")
    seconds = time.perf_counter() - started
    out = Path(os.fsdecode(bytes.fromhex(order["out_path"])))
    write_own(out, built.engine)
    done = {
        "seconds": seconds,
        "calibration": calibration,
        "timing_cache": None if built.timing_cache is None else bytes(built.timing_cache).hex(),
        "typing": built.typing,
        "layers": asdict(unknown_layers("the build process ended while the engine was inspected")),
        "notes": messages.notes,
        "doubts": messages.doubts,
        "warnings": messages.warnings[:50],
    }
    answers.send(built=done)  # the engine is complete even if inspecting it crashes this process
    return {**done, "layers": asdict(inspect_engine(library, built.engine, request, built.logger))}


def _check(path: Path, order: Mapping[str, Any]) -> str | None:
    """Check the ONNX file before TensorRT's parser sees it; returns its calibration hash.

    A vouched file is listed in a bundle's manifest and was checked when the bundle was made; `_build` compares its
    hash. A device has no ONNX checker.
    """
    model = read_verified_onnx(path) if order["vouched"] else read_onnx(path)
    expected = ModelSpec.from_json(order["spec"], "the order")
    if model.precision.value != order["request"]["precision"] or model.spec != expected:
        raise BadArtefact(
            f"{path} contains {model.spec.name} in {model.precision.value}, not {expected.name} in "
            f"{order['request']['precision']}, or has another preprocessing",
            hint="export it again: trtpoets export NAME --force",
            code="TP4003",
        )
    return read_header(path).metadata.get(CALIBRATION_KEY)


def _request_of(value: Mapping[str, Any]) -> BuildRequest:
    return BuildRequest(
        **{
            **value,
            "precision": Precision(value["precision"]),
            "batch": BatchRange(**value["batch"]),
            "targets": tuple(value["targets"]),
        }
    )


_TASKS = {"build": _build, "probe": _probe}


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
    """The request to build an engine, as a line of JSON. Paths are sent as hex, because they may not be valid text."""
    return _line(
        "build",
        answers,
        flavour,
        onnx_path=os.fsencode(onnx).hex(),
        onnx_sha256=onnx_sha256,
        vouched=vouched,
        spec=spec.to_json(),
        request=asdict(request),
        timing_cache=timing_cache.hex(),
        out_path=os.fsencode(out).hex(),
    )


def probe_request_line(flavour: Flavour, answers: int) -> str:
    """The request to start a library and report what it supports on this machine, as a line of JSON."""
    return _line("probe", answers, flavour)


def _line(task: str, answers: int, flavour: Flavour, **rest: Any) -> str:
    order = {
        "task": task,
        "answers": answers,
        "flavour": flavour.value,
        "memory_bytes": available_memory() + _RESERVED,
        **rest,
    }
    return json.dumps(order) + "\n"


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
