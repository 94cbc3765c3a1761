"""A child process with requests and replies as JSON lines; it is ended when it crashes or hangs."""

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
    """A Python module in a process of its own, which is ended with the `with` block."""

    def __init__(self, command: Sequence[str], threads: int = 0) -> None:
        self._errors = temporary_file()
        self._replies: queue.Queue[bytes | None] = queue.Queue()
        self._owed = 0
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
        # A long request fills the pipe, and a child that hangs never empties it.
        writer = threading.Thread(target=self._write, args=(line,), daemon=True, name="bench-child-request")
        writer.start()
        self._owed += 1
        reply: bytes | None = b""
        while self._owed and reply is not None:  # who was interrupted left a reply that nobody waits for
            try:
                reply = self._replies.get(timeout=timeout)
            except queue.Empty:
                self.end()
                raise ChildFailed(f"hung: nothing for {timeout:g} s", alive=False) from None
            self._owed -= 1
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
        with suppress(OSError):  # of a request that it never read
            self._process.stdin.close()
        self._errors.close()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it died before it read all: its code says how
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
            return f"hung: nothing for {timeout:g} s, after it closed its output"
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
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{how}; its last words: {said[-1][:300]}" if said else how


def python_module(name: str) -> tuple[str, ...]:
    """Return the command that runs a module of trtpoets with this Python, independent of the current folder."""
    program = f"import runpy, sys; sys.path[:] = {sys.path!r}; runpy.run_module({name!r}, run_name='__main__')"
    return (sys.executable, "-c", program)


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS") if threads else ()
    return child_environment({name: str(threads) for name in names})
