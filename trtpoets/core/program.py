"""What every program of ours does around its work: streams, signals, and an exit code for however it ends."""

from __future__ import annotations

import os
import sys
from typing import Callable

from trtpoets.core.child_environment import load_lazily
from trtpoets.core.errors import Interrupted, TrtPoetsError
from trtpoets.core.signals import exit_code, interrupt_on_signals, interrupted
from trtpoets.core.storage import stray_failure
from trtpoets.core.streams import BROKEN_PIPE, discard_output, prepare_streams, writing_results


def run_program(work: Callable[[], int], tell: Callable[[TrtPoetsError], object], *, keeps_results: bool = True) -> int:
    """Do the work of a program and return the code to exit with; `tell` gets what went wrong and can be mended.

    `keeps_results`: whether a second start goes on with what an interrupted one finished; the message says so.

    The code is `work`'s, or that of the SystemExit that it raises. It is 1 where standard output can't be written, and
    BROKEN_PIPE where its reader has gone; 128 + the signal's number where SIGINT, SIGTERM or SIGHUP ended the work.
    Errors of disks that no place expected are told too. Bugs are raised.
    """
    load_lazily(os.environ)
    prepare_streams()
    interrupt_on_signals()
    try:
        code = _flushed(work)
    except BrokenPipeError:
        code = BROKEN_PIPE
    except TrtPoetsError as error:
        tell(error)
        code = error.exit_code
    except KeyboardInterrupt:  # while modules were imported, or a result was printed
        tell(
            Interrupted(
                f"{interrupted()}; what was finished is kept", hint="the same command goes on from here", code="TP1070"
            )
            if keeps_results
            else Interrupted(interrupted(), hint="the same command starts again from the beginning", code="TP1071")
        )
        code = Interrupted.exit_code
    except OSError as error:
        failure = _of_output() or stray_failure(error)
        if failure is None:
            raise
        tell(failure)
        code = failure.exit_code
    if code:
        _drop_broken_output()
    return exit_code(code)


def _flushed(work: Callable[[], int]) -> int:
    """The work's code, with all that it printed written. Raises as `work` and `writing_results` do."""
    try:
        code = work() or 0  # Typer gives None
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code + "\n")
    _write_rest()
    return code


def _write_rest() -> None:
    with writing_results():
        pass


def _of_output() -> TrtPoetsError | None:
    """What to tell where it is standard output that fails: it does so again when it is flushed."""
    try:
        _write_rest()
    except TrtPoetsError as failure:
        return failure
    return None


def _drop_broken_output() -> None:
    """Python would complain of it again while it ends."""
    try:
        _write_rest()
    except (TrtPoetsError, BrokenPipeError):
        discard_output()
