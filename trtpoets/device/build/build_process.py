"""The parent's side of a build: starts the child, follows it, ends it, and says what happened when it crashes."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Callable, Iterator, TypeVar

from trtpoets.core import errors
from trtpoets.core.child_environment import child_environment
from trtpoets.core.errors import BuildFailed, TrtPoetsError
from trtpoets.core.files import temporary_file
from trtpoets.core.progress import PARTS, Progress
from trtpoets.core.serialization import parsed
from trtpoets.device.build.build_messages import Answer, BuildResult, Failure, LookResult
from trtpoets.device.build.tensorrt_build import OUT_OF_MEMORY

log = logging.getLogger(__name__)

_Result = TypeVar("_Result", BuildResult, LookResult)

_GRACE_SECONDS = 5.0
"""How long a child that was asked to stop may take: the builder listens only between its steps."""

_STALL_SECONDS = 120.0
"""A build that has used no processor time for so long hangs: seen of TensorRT-RTX when a thread of it can't start."""

_LOOK_SECONDS = 2.0
"""How often a silent child is looked at."""


def run_build(
    order: Callable[[int], str], kind: type[_Result], *, what: str, timeout_seconds: float | None, progress: Progress
) -> _Result:
    """Start the child, give it `order(descriptor for its answers)`, and wait for its result, a `kind`.

    `what` names the build in errors and progress. Raises what the child raised; BuildFailed when it crashed, hangs, or
    took longer than `timeout_seconds`. On KeyboardInterrupt the child is cancelled before the interrupt goes on.
    """
    progress(what, 0, PARTS)
    reading, writing = os.pipe()
    with temporary_file() as noise, open(reading, "rb", buffering=0) as answers:  # noqa: PTH123 - a descriptor, not a path
        try:
            child = _start(writing, noise)
        finally:
            os.close(writing)
        try:
            _tell(child, order(writing))
            result = _follow(_lines(answers, child, what, timeout_seconds), kind, what, progress)
            code = child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
        if result is None:
            raise _crash(child.returncode if code is None else code, what, noise)
        return result


def _start(writing: int, noise: IO[bytes]) -> subprocess.Popen[bytes]:
    # The parent's import path as it is: the child must find the same packages, and nothing of the current folder.
    program = f"import sys; sys.path[:] = {sys.path!r}; from trtpoets.device.build.build_child import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=noise,
        stderr=noise,
        env=child_environment(),
        pass_fds=[writing],
        start_new_session=True,  # Ctrl-C reaches the parent only, which then cancels the child
    )


def _tell(child: subprocess.Popen[bytes], order: str) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(order.encode())
        child.stdin.flush()
    except BrokenPipeError:
        log.debug("the build process ended before it read its order")


def _lines(
    answers: IO[bytes], child: subprocess.Popen[bytes], what: str, timeout_seconds: float | None
) -> Iterator[Answer]:
    """Yield the child's answers until it closes its end. Raises BuildFailed when it takes too long, or hangs."""
    rest = b""
    watch = _Watch(child.pid, what, timeout_seconds)
    with selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        while True:
            ready = selector.select(watch.wait())
            watch.look()
            if not ready:
                continue
            block = answers.read(65536)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield parsed(Answer, json.loads(line))


class _Watch:
    """The time that a child has taken, and whether it still works."""

    def __init__(self, pid: int, what: str, timeout_seconds: float | None) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._what = what
        self._timeout = timeout_seconds
        self._begun = self._worked = time.monotonic()
        self._used = ""

    def wait(self) -> float:
        """How many seconds may pass until the next look."""
        if self._timeout is None:
            return _LOOK_SECONDS
        return min(_LOOK_SECONDS, max(self._begun + self._timeout - time.monotonic(), 0.0))

    def look(self) -> None:
        """Raise BuildFailed when the time is up, or no processor time was used for too long."""
        now = time.monotonic()
        if self._timeout is not None and now - self._begun >= self._timeout:
            raise BuildFailed(
                f"{self._what} took longer than {self._timeout:g} seconds and was cancelled",
                hint="give it more time: --timeout SECONDS",
                code="TP4006",
            )
        # "pid (name) state ..." and then numbers: user and system time are the 12th and 13th after the name.
        used = " ".join(self._stat.read_text().rpartition(")")[2].split()[11:13])
        if used != self._used:
            self._used, self._worked = used, now
        elif now - self._worked >= _STALL_SECONDS:
            raise BuildFailed(
                f"{self._what} has stood still for {_STALL_SECONDS:g} seconds and was ended",
                hint="free some memory, raise the limits on memory and threads (ulimit -a), and build again",
                code="TP4007",
            )


def _follow(answers: Iterator[Answer], kind: type[_Result], what: str, progress: Progress) -> _Result | None:
    """Pass progress on until there is a result; None when the child ended without one.

    A child that has "built" has written its engine; how it ends after that, while it asks for the engine's layers, is
    no failure of the build.
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
    except BuildFailed:  # the time is up, or the child hangs
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


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no child behind: ask, wait, then kill."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdin is not None:
        try:
            child.stdin.close()
        except BrokenPipeError:
            log.debug("the build process ended before it read its order")


def _crash(code: int, what: str, noise: IO[bytes]) -> Exception:
    """What to raise for a child that ended without an answer."""
    noise.seek(0)
    text = noise.read().decode("utf-8", "replace")
    # A shell between us reports signal N as 128 + N.
    number = -code if code < 0 else code - 128
    name = next((member.name for member in signal.Signals if member == number), "")
    low = text.lower()
    if name == "SIGKILL" or "memoryerror" in low or any(word in low for word in OUT_OF_MEMORY):
        ended = f" ({name})" if name else ""
        return BuildFailed(
            f"{what}: the build process was killed or ran out of memory{ended}",
            hint="free some memory, build with a smaller --batch, or build one precision at a time",
            code="TP4008",
        )
    if "Traceback (most recent call last)" in text and not name:
        return RuntimeError(f"{what}: the build process met a bug of trtpoets before it could answer:\n{text[-4000:]}")
    spoken = text.partition("Fatal Python error")[0]  # without the stack that faulthandler adds
    last = next((line.strip() for line in reversed(spoken.splitlines()) if line.strip()), "")
    said = f"; its last words were: {last[:200]}" if last else ""
    return BuildFailed(
        f"{what}: the build process was ended by {name or f'its library, with code {code}'}{said}",
        hint="if it happens again, report it with the ONNX file",
        code="TP4009",
    )


def describe(out: Path) -> str:
    """How progress and errors call the build of `out`: "build NAME/fp16.rtx.engine"."""
    return f"build {out.parent.name}/{out.name}"
