"""Child processes that native code may crash without harm to the parent, with requests and replies as JSON lines.

The parent starts `python_program(module)` as a `Child`, sends requests to its stdin and reads replies from its stdout.
The module's `main` replies with `replies()`, limits its memory with `limit_memory`, and ends when stdin is closed.
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
    """The failure of a child process. `alive` is whether it accepts further requests, `hung` whether it timed out."""

    def __init__(self, why: str, *, alive: bool = False, hung: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.alive = alive
        self.hung = hung


class Child:
    """A Python program in a process of its own, which is ended with the `with` block.

    It has a session of its own, so that Ctrl-C is received only by the parent. `threads` limits the threads of native
    libraries (0: no limit). It runs in `folder`, None for that of the parent.
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
        """Send a request, whose reply `answer` returns."""
        self.send(request)
        self._owed += 1

    def answer(self, timeout: float) -> dict[str, Any]:
        """Return the reply to the last request that was begun. Raises ChildFailed like `ask`."""
        reply: dict[str, Any] | None = None
        while self._owed:  # skips the reply to an interrupted request
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
        # A long request fills the pipe, and a child that hangs never empties it.
        threading.Thread(target=self._write, args=(line,), daemon=True, name="child-request").start()

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """Return the next reply; None when the child has closed its end. Raises TimeoutError after `timeout` s."""
        try:
            line = self._replies.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            return None
        reply: dict[str, Any] = json.loads(line)
        return reply

    def wait(self, timeout: float) -> int | None:
        """Wait until the process ends; returns its exit code, -N for signal N, or None after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def interrupt(self, grace: float) -> int:
        """Send SIGINT to the process, end it after `grace` seconds, and return its exit code, -N for signal N."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            if self.wait(grace) is None:
                self._process.kill()
        return self._process.wait()

    def end(self) -> None:
        """End the process and its children, which are in a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # of a request that it never read
            self._process.stdin.close()
        self._errors.close()

    def output(self) -> str:
        """What the process wrote to stderr, and to stdout apart from its replies."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it ended before it read all: its exit code says how
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._replies.put(line)
        self._replies.put(None)

    def _failure(self, timeout: float) -> ChildFailed:
        """How the process ended, with the last line that it wrote."""
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

    With the parent's sys.path the child imports the same packages, and nothing from the current folder.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    flags = ("-B",) if sys.dont_write_bytecode else ()
    return (sys.executable, *flags, "-c", program)


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGSEGV; "signal 99" for one without a name."""
    return next((member.name for member in signal.Signals if member == number), f"signal {number}")


def last_line(text: str) -> str:
    """The last line that is not blank; empty without one."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@contextmanager
def replies() -> Iterator[Callable[[Any], None]]:
    """In the child: yield the function that sends a reply, a mapping or a dataclass, to the parent.

    Native libraries write to stdout as they like: their output goes to stderr, and only replies go to stdout.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)

        def send(reply: Any) -> None:
            stream.write(json.dumps(to_json(reply)) + "\n")
            stream.flush()

        yield send


def error_line(error: Exception) -> str:
    """Return an exception as one line."""
    if isinstance(error, TrtPoetsError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return f"{type(error).__name__}: {error}"


def limit_memory(size: int) -> None:
    """Limit the private writable memory of this process to `size` bytes, and be ended first when memory runs out.

    RLIMIT_DATA is used because RLIMIT_AS limits address space, of which CUDA reserves much more than there is memory.
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
