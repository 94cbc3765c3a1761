"""Exit codes and messages of a program."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trtpoets.core import program
from trtpoets.core.errors import BadInput, GateFailed, Interrupted, StorageFailed, TrtPoetsError
from trtpoets.core.program import run_program
from trtpoets.core.streams import BROKEN_PIPE


@pytest.fixture(autouse=True)
def _signals_and_streams_stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(program, "prepare_streams", lambda: None)
    monkeypatch.setattr(program, "load_lazily", lambda environment: None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ended(work: Callable[[], int], **options: bool) -> tuple[int, list[TrtPoetsError]]:
    """The exit code and the errors that were reported."""
    reported: list[TrtPoetsError] = []
    return run_program(work, reported.append, **options), reported


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_is_that_of_the_work(code: int) -> None:
    assert ended(lambda: code) == (code, [])
    assert ended(raising(SystemExit(code))) == (code, [])


def test_a_text_of_system_exit_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(SystemExit("what is wrong"))) == (1, [])
    assert capsys.readouterr().err == "what is wrong\n"
    assert ended(raising(SystemExit(None))) == (0, [])


def test_errors_that_the_user_can_correct_are_reported_with_their_exit_code() -> None:
    for error in (BadInput("a", hint="b"), GateFailed("c", hint="d")):
        assert ended(raising(error)) == (error.exit_code, [error])
    assert GateFailed.exit_code == 3


def test_ctrl_c_says_whether_results_are_kept() -> None:
    code, (kept,) = ended(raising(KeyboardInterrupt()))
    _, (lost,) = ended(raising(KeyboardInterrupt()), keeps_results=False)
    assert isinstance(kept, Interrupted) and code == 130
    assert kept.message.endswith("finished results are kept")
    assert "kept" not in lost.message


def test_an_error_of_a_disk_is_reported_and_a_bug_is_raised(tmp_path: Path) -> None:
    code, (error,) = ended(raising(OSError(28, "No space left on device", str(tmp_path / "x"))))
    assert isinstance(error, StorageFailed) and code == 1
    with pytest.raises(ZeroDivisionError):
        ended(raising(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        ended(raising(FileNotFoundError(2, "No such file or directory", "x")))


def test_what_fails_because_a_library_has_lost_a_signal_is_an_interruption() -> None:
    """Keras catches every exception where it computes a shape, and fails afterwards."""

    def work() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:  # noqa: BLE001
            raise TypeError("Failed to convert elements of (None, 256) to Tensor") from None
        return 0

    code, (error,) = ended(work)
    assert isinstance(error, Interrupted) and code == 128 + signal.SIGTERM
    assert error.code == "TP1070" and "SIGTERM" in error.message


def test_a_reader_of_the_output_that_has_exited() -> None:
    assert ended(raising(BrokenPipeError())) == (BROKEN_PIPE, [])


def test_too_little_memory_is_an_error_without_a_traceback() -> None:
    code, (error,) = ended(raising(MemoryError()))
    assert (code, error.code) == (1, "TP1958")
