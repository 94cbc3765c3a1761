"""Runs a program of trtpoets: prepares streams and signals, reports errors and determines the exit code."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import Callable

from trtpoets.core.child_environment import load_lazily
from trtpoets.core.errors import Interrupted, RunFailed, TrtPoetsError
from trtpoets.core.signals import exit_code, interrupt_on_signals, interrupted, is_interrupted
from trtpoets.core.storage import stray_failure
from trtpoets.core.streams import BROKEN_PIPE, discard_output, prepare_streams, writing_results


def run_program(
    work: Callable[[], int], report: Callable[[TrtPoetsError], object], *, keeps_results: bool = True
) -> int:
    """Call `work` and return the exit code of the program; `report` is called with each TrtPoetsError.

    `keeps_results` says whether an interrupted command keeps what it had finished; the message after an interruption
    says so.

    The exit code is the one that `work` returns or raises as SystemExit; 1 if standard output can't be written,
    BROKEN_PIPE if its reader has exited, 128 + the signal's number after SIGINT, SIGTERM or SIGHUP. An OSError of a
    disk that was not handled elsewhere is reported as StorageFailed. Bugs are raised, unless a signal was received:
    what fails after it is its consequence.
    """
    load_lazily(os.environ)
    prepare_streams()
    interrupt_on_signals()
    try:
        code = _flushed(work)
    except BrokenPipeError:
        code = BROKEN_PIPE
    except (KeyboardInterrupt, Exception) as error:
        failure = _failure(error, keeps_results)
        if failure is None:
            raise
        report(failure)
        code = failure.exit_code
    if code:
        _drop_broken_output()
    code = exit_code(code)
    if code == Interrupted.exit_code:
        # If KeyboardInterrupt was raised inside exec(), which dataclasses call, Python would end with SIGINT instead of
        # the exit code.
        atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
    return code


def _failure(error: BaseException, keeps_results: bool) -> TrtPoetsError | None:
    """The error to report for an exception; None if the exception is a bug."""
    if isinstance(error, TrtPoetsError):
        return error
    if isinstance(error, KeyboardInterrupt):  # during an import, or while a result was printed
        return _interruption(keeps_results)
    if isinstance(error, MemoryError):
        return RunFailed(
            "there is not enough memory",
            hint="end other programs, or use a machine with more memory",
            code="TP1958",
        )
    failure = None
    if isinstance(error, OSError):
        failure = _output_failure() or stray_failure(error)
    # A library may lose KeyboardInterrupt and fail then: Keras has an "except:" where it computes a shape.
    return failure or (_interruption(keeps_results) if is_interrupted() else None)


def _interruption(keeps_results: bool) -> Interrupted:
    """The error to report after a signal."""
    if not keeps_results:
        return Interrupted(interrupted(), hint="run the same command again", code="TP1071")
    return Interrupted(f"{interrupted()}; finished results are kept", hint="run the same command again", code="TP1070")


def _flushed(work: Callable[[], int]) -> int:
    """Call `work`, flush its output and return its exit code. Raises as `work` and `writing_results` do."""
    try:
        code = work() or 0  # Typer returns None
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code + "\n")
    _flush_output()
    return code


def _flush_output() -> None:
    with writing_results():
        pass


def _output_failure() -> TrtPoetsError | None:
    """The error of standard output, which occurs again when it is flushed; None if it works."""
    try:
        _flush_output()
    except TrtPoetsError as failure:
        return failure
    return None


def _drop_broken_output() -> None:
    """Discard output that can't be written, which Python would report again at exit."""
    try:
        _flush_output()
    except (TrtPoetsError, BrokenPipeError):
        discard_output()
