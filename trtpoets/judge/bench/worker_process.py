"""Runs a child process that takes requests and returns replies as JSON lines. One that hangs is ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Mapping, Sequence

import trtpoets
from trtpoets.core.child_environment import child_environment
from trtpoets.core.files import temporary_file


class ChildFailed(Exception):
    """The failure of a child process. `alive` is whether it accepts further requests."""

    def __init__(self, why: str, *, alive: bool) -> None:
        super().__init__(why)
        self.why = why
        self.alive = alive


class Child:
    """A Python module in its own process, which ends with the `with` block."""

    def __init__(self, command: Sequence[str], threads: int = 0) -> None:
        self._errors = temporary_file()
        self._replies: queue.Queue[bytes | None] = queue.Queue()
        self._pending = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(threads),
            cwd=Path(trtpoets.__file__).parent.parent,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True, name="bench-child").start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Send a request and return its reply. Raises ChildFailed if it fails, times out, or the process dies."""
        line = json.dumps(request).encode() + b"\n"
        # Writing a long request blocks while the child does not read, so a thread writes it.
        writer = threading.Thread(target=self._write, args=(line,), daemon=True, name="bench-child-request")
        writer.start()
        self._pending += 1
        reply: bytes | None = b""
        while self._pending and reply is not None:  # skips the reply to an interrupted request
            try:
                reply = self._replies.get(timeout=timeout)
            except queue.Empty:
                self.end()
                raise ChildFailed(f"hung: no reply within {timeout:g} s", alive=False) from None
            self._pending -= 1
        if reply is None:
            raise ChildFailed(self._death(timeout), alive=False)
        answer: dict[str, Any] = json.loads(reply)
        if "failure" in answer:
            raise ChildFailed(answer["failure"], alive=True)
        return answer

    def end(self) -> None:
        """End the process and its children, which are in a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # a request may be unread
            self._process.stdin.close()
        self._errors.close()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # the process ended before it read all: `_death` returns how
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._replies.put(line)
        self._replies.put(None)

    def _death(self, timeout: float) -> str:
        """Return how the process ended, with the last line that it wrote to stderr."""
        try:
            code = self._process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"hung: still running {timeout:g} s after it closed its output"
        if code < 0:
            try:
                how = f"died of {signal.Signals(-code).name}"
            except ValueError:
                how = f"died of signal {-code}"
            if -code == signal.SIGKILL:
                how += ", most likely because memory ran out"
        else:
            how = f"ended with code {code}"
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{how}; its last output: {lines[-1][:300]}" if lines else how


def python_module(name: str) -> tuple[str, ...]:
    """Return the command that runs a module of trtpoets with this Python, independent of the current folder."""
    program = f"import runpy, sys; sys.path[:] = {sys.path!r}; runpy.run_module({name!r}, run_name='__main__')"
    return (sys.executable, "-c", program)


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS") if threads else ()
    return child_environment({name: str(threads) for name in names})
