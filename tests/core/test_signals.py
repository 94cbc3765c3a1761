"""SIGTERM and SIGHUP keep finished results, end child processes, and give the exit code 128 + signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trtpoets.cli.interruption import NOTHING
from trtpoets.cli.terminal import progress_display
from trtpoets.core import signals
from trtpoets.core.child_process import Child
from trtpoets.core.errors import Interrupted, TrtPoetsError
from trtpoets.core.program import run_program
from trtpoets.core.signals import (
    deferring_interrupts,
    exit_code,
    ignore_until_parent_ends,
    interrupt_on_signals,
    interrupted,
)

ENDING = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers of before, afterwards; nothing was received."""
    monkeypatch.setattr(signals, "_received", [])
    monkeypatch.setattr(signals, "_deferring", [0])
    kept = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_work_as_ctrl_c_does(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[TrtPoetsError] = []
    kept = []

    def work() -> int:
        with progress_display():
            try:
                signal.raise_signal(number)
            finally:
                kept.append("bottlenecks")
        return 0

    monkeypatch.setattr("trtpoets.core.program.prepare_streams", lambda: None)
    assert run_program(work, calls.append) == 128 + number
    assert kept and isinstance(calls[0], Interrupted)
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert calls[0].message == f"{how}; what is kept: {NOTHING.what}"


def test_an_interrupt_can_be_deferred_and_a_second_one_cannot() -> None:
    interrupt_on_signals()
    steps = []
    with pytest.raises(KeyboardInterrupt), deferring_interrupts():
        with deferring_interrupts():
            signal.raise_signal(signal.SIGINT)
            steps.append("inner")
        steps.append("outer")
    assert steps == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt), deferring_interrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was deferred too")
    with deferring_interrupts():
        pass  # nothing is left over
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_modules_are_imported(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.core.program.prepare_streams", lambda: None)

    def aborted() -> int:  # what Typer makes of it
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            sys.exit(1)
        return 0

    assert run_program(aborted, lambda error: None) == 128 + number
    signals._received.clear()
    assert run_program(lambda: signal.raise_signal(number) or 0, lambda error: None) == 128 + number


def test_signals_of_one_request_interrupt_once() -> None:
    """systemd sends SIGTERM and SIGHUP together: the second must not interrupt saving after the first."""
    interrupt_on_signals()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
    assert interrupted() == "ended by SIGTERM" and exit_code(1) == 143
    with pytest.raises(KeyboardInterrupt):  # a second Ctrl-C does not wait
        signal.raise_signal(signal.SIGINT)


def test_a_later_signal_interrupts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_on_signals()
    for now in (100.0, 200.0):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", ENDING)
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    """nohup ignores SIGHUP; a shell ignores SIGINT of a background job."""
    signal.signal(number, signal.SIG_IGN)
    interrupt_on_signals()
    signal.raise_signal(number)
    assert exit_code(0) == 0


def test_exit_codes_without_and_with_a_signal() -> None:
    assert [exit_code(code) for code in (0, 1, 3)] == [0, 1, 3] and interrupted() == "interrupted"
    signals.record_signal(signal.SIGINT)
    assert (exit_code(0), exit_code(130)) == (0, 130)  # a server is ended by Ctrl-C
    signals._received[:] = [signal.SIGTERM]
    assert (exit_code(0), exit_code(1)) == (143, 143)


def test_children_leave_the_signal_to_their_parent() -> None:
    ignore_until_parent_ends()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)


CHILD = """
import sys
from trtpoets.judge.bench import bench_child
bench_child._serve = lambda requests, opener, tell: [tell(ready=1) for line in requests]
bench_child.main()
"""


def test_a_benchmarks_child_outlives_a_signal_to_the_whole_group() -> None:
    with Child([sys.executable, "-c", CHILD]) as child:
        assert child.ask({}, 60) == {"ready": 1}
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(child.pid, number)
        assert child.ask({}, 60) == {"ready": 1}


UPDATER = """
import sys
from trtpoets.core.signals import interrupt_on_signals
from trtpoets.onboard.update.update_command import _run
interrupt_on_signals()
try:
    _run(["/bin/sh", "-c", sys.argv[1]])
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_an_updates_program_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """In a child process, because an updater has no threads, which could receive the signal."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    script = f"sleep 600 > {pipe} & echo > {pipe}; kill -TERM $PPID; wait"
    assert subprocess.run([sys.executable, "-c", UPDATER, script], timeout=60, check=False).returncode == 7
    os.set_blocking(reading, True)
    with os.fdopen(reading) as stream:
        assert stream.read() == "\n"  # to its end, which is reached when no process can write any more


PROGRAM = """
import sys, time
from trtpoets.cli import main
from trtpoets.cli.terminal import progress_display
def app(standalone_mode):
    with progress_display():
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
            print("on", flush=True)
main.app = app
main.main()
"""


def test_a_program_under_nohup_ends_by_sigterm() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # noqa: PLW1509 - no threads yet
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGHUP)
        for _ in range(10):
            assert child.stdout.readline() == "on\n"
        child.send_signal(signal.SIGTERM)
        child.stdout.read()
        content = child.stderr.read()
    assert child.returncode == 143
    assert content == f"Error: ended by SIGTERM; what is kept: {NOTHING.what} [TP9001]\n  try: {NOTHING.next}\n"
