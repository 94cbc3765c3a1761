"""Runs a build in a child process: starts it, reads its answers, ends it, and reports crashes and timeouts."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Iterator, TypeVar

from trtpoets.core import errors
from trtpoets.core.child_process import Child, last_line, python_program, signal_name
from trtpoets.core.errors import BuildFailed, TrtPoetsError
from trtpoets.core.progress import PARTS, Progress
from trtpoets.core.serialization import parsed, to_json
from trtpoets.device.build.build_messages import Answer, BuildResult, Failure, Order, ProbeResult
from trtpoets.device.build.tensorrt_build import OUT_OF_MEMORY

log = logging.getLogger(__name__)

_Result = TypeVar("_Result", BuildResult, ProbeResult)

_GRACE_SECONDS = 5.0
"""Time for a cancelled child to exit: the builder checks for cancellation only between its steps."""

_STALL_SECONDS = 120.0
"""A child that uses no CPU time for this long counts as hanging: TensorRT-RTX hangs when it can't start a thread."""

_CHECK_SECONDS = 2.0
"""Time between checks of a child that sends no answers."""


def run_build(
    order: Order, kind: type[_Result], *, what: str, timeout_seconds: float | None, progress: Progress
) -> _Result:
    """Start the child, give it the `order`, and wait for its result, a `kind`.

    `what` names the build in errors and progress. Raises the child's TrtPoetsError, or BuildFailed if the child
    crashes, hangs or exceeds `timeout_seconds`. On KeyboardInterrupt the child is cancelled first.
    """
    progress(what, 0, PARTS)
    with Child(python_program("trtpoets.device.build.build_child"), folder=None) as child:
        try:
            child.send(to_json(order))
            result = _follow(_answers(child, what, timeout_seconds), kind, what, progress)
            code = child.wait(_GRACE_SECONDS)
        finally:
            cancelled_code = child.interrupt(_GRACE_SECONDS)
        if result is None:
            raise _crash(cancelled_code if code is None else code, what, child.output())
        return result


def _answers(child: Child, what: str, timeout_seconds: float | None) -> Iterator[Answer]:
    """Yield the child's answers until it closes its end. Raises BuildFailed when it takes too long, or hangs."""
    watch = _Watch(child.pid, what, timeout_seconds)
    while True:
        with suppress(TimeoutError):
            reply = child.receive(watch.wait())
            if reply is None:
                return
            yield parsed(Answer, reply)
        watch.check()


class _Watch:
    """Watches the elapsed time and the CPU time of a child."""

    def __init__(self, pid: int, what: str, timeout_seconds: float | None) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._what = what
        self._timeout = timeout_seconds
        self._started = self._last_active = time.monotonic()
        self._cpu_time = ""

    def wait(self) -> float:
        """Seconds until the next `check`."""
        if self._timeout is None:
            return _CHECK_SECONDS
        return min(_CHECK_SECONDS, max(self._started + self._timeout - time.monotonic(), 0.0))

    def check(self) -> None:
        """Raise BuildFailed if the time limit is exceeded or the child used no CPU time for _STALL_SECONDS."""
        now = time.monotonic()
        if self._timeout is not None and now - self._started >= self._timeout:
            raise BuildFailed(
                f"{self._what} took longer than {self._timeout:g} seconds and was cancelled",
                hint="raise the time limit with --timeout SECONDS",
                code="TP4006",
            )
        # /proc/PID/stat: "pid (name) state ...". User and system time are the 12th and 13th fields after the name.
        cpu_time = " ".join(self._stat.read_text().rpartition(")")[2].split()[11:13])
        if cpu_time != self._cpu_time:
            self._cpu_time, self._last_active = cpu_time, now
        elif now - self._last_active >= _STALL_SECONDS:
            raise BuildFailed(
                f"{self._what} used no CPU time for {_STALL_SECONDS:g} seconds and was ended",
                hint="free some memory, raise the limits on memory and threads (ulimit -a), and build again",
                code="TP4007",
            )


def _follow(answers: Iterator[Answer], kind: type[_Result], what: str, progress: Progress) -> _Result | None:
    """Pass progress on until there is a result; None when the child ended without one.

    After the answer "built" the engine is written: if the child then fails while it inspects the layers, the build has
    still succeeded.
    """
    built: _Result | None = None
    try:
        for answer in answers:
            if answer.progress is not None:
                progress(what, min(int(answer.progress * PARTS), PARTS - 1), PARTS)
            elif answer.built is not None:
                built = parsed(kind, answer.built)
            elif answer.done is not None:
                built = parsed(kind, answer.done)
                break
            elif built is None and answer.error is not None:
                raise _error_of(answer.error)
            elif built is None and answer.bug is not None:
                raise RuntimeError(f"{what} met a bug of trtpoets:\n{answer.bug}")
    except BuildFailed:  # the time limit was reached, or the child hangs
        if built is None:
            raise
    if built is not None:
        progress(what, PARTS, PARTS)
        for note in built.notes:
            log.info("%s: %s", what, note)
        for warning in built.warnings:
            log.debug("%s: %s", what, warning)
    return built


def _error_of(value: Failure) -> TrtPoetsError:
    kind = getattr(errors, value.kind)
    if not issubclass(kind, TrtPoetsError):
        raise RuntimeError(f"the build process answered with {value}")
    error: TrtPoetsError = kind(value.message, value.hint, value.code)
    return error


def _crash(code: int, what: str, text: str) -> Exception:
    """The exception for a child that ended without an answer, after it wrote `text`."""
    # A shell between parent and child reports signal N as 128 + N.
    number = -code if code < 0 else code - 128
    name = signal_name(number) if number in set(signal.Signals) else ""
    low = text.lower()
    if name == "SIGKILL" or "memoryerror" in low or any(word in low for word in OUT_OF_MEMORY):
        shown_name = f" ({name})" if name else ""
        return BuildFailed(
            f"{what}: the build process was killed or ran out of memory{shown_name}",
            hint="free some memory, build with a smaller --batch, or build one precision at a time",
            code="TP4008",
        )
    if "Traceback (most recent call last)" in text and not name:
        return RuntimeError(f"{what}: the build process failed because of a bug in trtpoets:\n{text[-4000:]}")
    last = last_line(text.partition("Fatal Python error")[0])  # without the stack that faulthandler adds
    last_output = f"; its last output was: {last[:200]}" if last else ""
    return BuildFailed(
        f"{what}: the build process was ended by {name or f'its library, with code {code}'}{last_output}",
        hint="if it happens again, report it with the ONNX file",
        code="TP4009",
    )


def describe(out: Path) -> str:
    """The name of a build in progress and errors: "build NAME/fp16.rtx.engine"."""
    return f"build {out.parent.name}/{out.name}"
