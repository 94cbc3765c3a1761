"""Starts child processes, which native code may crash without harm to the parent, and exchanges JSON lines with them.

The parent starts `python_program(module)` as a `Child`, sends requests to its stdin and reads replies from its stdout.
The module's `main` sends them by `replies()`, limits its memory by `limit_memory`, and ends when stdin is closed.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterator, Mapping, Sequence

import trtpoets
from trtpoets.core.child_environment import child_environment
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import temporary_file
from trtpoets.core.serialization import to_json

_ROOT = Path(trtpoets.__file__).parent.parent


class ChildFailed(Exception):
    """The failure of a child process: it still accepts requests if `alive`, and did not reply in time if `hung`."""

    def __init__(self, why: str, *, alive: bool = False, hung: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.alive = alive
        self.hung = hung


class Child:
    """Runs a Python program in a process of its own until the end of the `with` block.

    The process has its own session, so that only the parent receives Ctrl-C. `threads` limits the threads of native
    libraries (0: no limit). The process runs in `folder`, or in that of the parent if it is None.
    """

    def __init__(self, command: Sequence[str], threads: int = 0, folder: Path | None = _ROOT) -> None:
        self._errors = temporary_file()
        self._replies: queue.Queue[bytes | None] = queue.Queue()
        self._owed = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(threads),
            cwd=folder,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True, name="child-replies").start()

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

    def ask(self, request: Mapping[str, object], timeout: float) -> dict[str, Any]:
        """Send a request and return its reply. Raises ChildFailed if it fails, times out, or the process ends."""
        self.begin(request)
        return self.answer(timeout)

    def begin(self, request: Mapping[str, object]) -> None:
        """Send a request; `answer` returns its reply."""
        self.send(request)
        self._owed += 1

    def answer(self, timeout: float) -> dict[str, Any]:
        """Return the reply to the last request that `begin` sent. Raises ChildFailed as `ask` does."""
        reply: dict[str, Any] | None = None
        while self._owed:  # skips replies to interrupted requests
            try:
                reply = self.receive(timeout)
            except TimeoutError:
                self.end()
                raise ChildFailed(f"hung: no reply within {timeout:g} s", hung=True) from None
            if reply is None:
                raise self._failure(timeout)
            self._owed -= 1
        assert reply is not None
        if "failure" in reply:
            raise ChildFailed(reply["failure"], alive=True)
        return reply

    def send(self, request: Mapping[str, object]) -> None:
        """Send a request without waiting for a reply."""
        line = json.dumps(request).encode() + b"\n"
        # A child that hangs does not read its pipe, and writing a long request would wait for it without a time limit.
        threading.Thread(target=self._write, args=(line,), daemon=True, name="child-request").start()

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """Return the next reply; None if the child has closed its stdout. Raises TimeoutError after `timeout` s."""
        try:
            line = self._replies.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            return None
        reply: dict[str, Any] = json.loads(line)
        return reply

    def wait(self, timeout: float) -> int | None:
        """Wait until the process ends; return its exit code (-N for signal N), or None after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def interrupt(self, grace: float) -> int:
        """Send SIGINT to the process, kill it after `grace` seconds, and return its exit code (-N for signal N)."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            if self.wait(grace) is None:
                self._process.kill()
        return self._process.wait()

    def end(self) -> None:
        """Kill the process and its children, which are in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # the process has not read a request
            self._process.stdin.close()
        self._errors.close()

    def output(self) -> str:
        """Return what the process wrote to stderr, and to stdout apart from its replies."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it ended before it read all; `_failure` reports why
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._replies.put(line)
        self._replies.put(None)

    def _failure(self, timeout: float) -> ChildFailed:
        """Return how the process ended, with the last line that it wrote."""
        code = self.wait(timeout)
        if code is None:
            return ChildFailed(f"hung: still running {timeout:g} s after it closed its output", hung=True)
        if code < 0:
            how = f"its process was ended by {signal_name(-code)}"
            if -code == signal.SIGKILL:
                how += ", probably because memory ran out"
        else:
            how = f"its process ended with code {code}"
        line = last_line(self.output())
        return ChildFailed(f"{how}; its last output: {line[:300]}" if line else how)


def python_program(module: str) -> tuple[str, ...]:
    """Return the command that runs `main` of a module of trtpoets with this Python.

    The child has the sys.path of the parent: it imports the same packages, and none from the current folder.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    flags = ("-B",) if sys.dont_write_bytecode else ()
    return (sys.executable, *flags, "-c", program)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGSEGV; "signal 99" for one without a name."""
    return next((member.name for member in signal.Signals if member == number), f"signal {number}")


def last_line(text: str) -> str:
    """Return the last line that is not blank; empty if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@contextmanager
def replies() -> Iterator[Callable[[Any], None]]:
    """Yield the function with which a child process sends a reply, a mapping or a dataclass, to its parent.

    Everything else that is written to stdout, such as messages of native libraries, goes to stderr from then on.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)

        def send(reply: Any) -> None:
            stream.write(json.dumps(to_json(reply)) + "\n")
            stream.flush()

        yield send


def error_line(error: Exception) -> str:
    """Return the message of an exception in one line: with its hint if it is ours, else with its class."""
    if isinstance(error, TrtPoetsError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return f"{type(error).__name__}: {error}"


def limit_memory(size: int) -> None:
    """Limit the private writable memory of this process to `size` bytes, and call `be_ended_first`.

    The limit is RLIMIT_DATA: RLIMIT_AS limits address space, and CUDA reserves much more of that than there is memory.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    be_ended_first()


def be_ended_first() -> None:
    """Make the kernel end this process, and not its parent, when the memory of the machine runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS") if threads else ()
    return child_environment({name: str(threads) for name in names})
