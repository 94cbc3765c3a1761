"""Errors that the user can fix.

TrtPoetsError
├── BadInput             an invalid photo, folder, name or option
│   └── BadPhoto         one photo file that can't be decoded
│       └── PhotoChanged one photo file that was modified after the dataset was read
├── MissingDependency    a package that is not installed or can't be imported
├── MissingArtefact      a file that an earlier stage writes is missing
├── BadArtefact          a file that is damaged, was edited, or is not the expected one
├── Busy                 another process is using the same run
├── StorageFailed        the disk is full, not writable, or failing
├── ConversionFailed     a network that can't be exported or quantised
│   └── NoCpuForm        a network that has no INT8 form for CPUs
├── BuildFailed          TensorRT could not build the engine
├── RunFailed            a runner could not compute scores
├── Interrupted          the user pressed Ctrl-C
├── GateFailed           the result does not meet the limits
└── GateUndecided        there are too few photos to decide whether the result meets the limits

Any other exception is a bug in trtpoets and is shown with its traceback.
"""

from __future__ import annotations

from typing import Sequence


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its class if it has no message.

    A line that ends with a colon announces the reason: the next line belongs to it, or the last line of a traceback.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    lines = [lines[0], lines[-1]] if lines[1:2] == ["Traceback (most recent call last):"] else lines
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


class TrtPoetsError(Exception):
    """A failure that the user can fix.

    `message` states what is wrong and what was expected; `hint` is the command to run or the setting to change. `code`
    ("TP" and four digits) identifies the error in scripts and tests, whatever its wording; docs/reference/errors.md
    lists all codes. `details` are lines of a list that belongs to the message, such as a table of candidates.

    `subject`, if it is given, names what the error is about, such as a file: `reason` is the text that was passed, and
    `message` is subject and reason. Code that names the subject itself shows `reason_about(subject)`.
    """

    exit_code = 1

    def __init__(
        self, message: str, hint: str = "", code: str = "", details: Sequence[str] = (), subject: object = ""
    ) -> None:
        self.subject = str(subject)
        self.reason = message
        self.message = f"{self.subject} {message}" if self.subject else message
        self.hint = hint
        self.code = code
        self.details = tuple(details)
        super().__init__("\n".join([self.message, *details]))

    def reason_about(self, subject: object) -> str:
        """What is wrong with `subject`, without its name; the whole message if the error is about something else."""
        return self.reason if self.subject == str(subject) else self.message

    def __reduce__(self) -> tuple[type[TrtPoetsError], tuple[str, str, str, tuple[str, ...], str]]:
        # Exception.__reduce__ would drop all but the message when the error is sent from a child process.
        return type(self), (self.reason, self.hint, self.code, self.details, self.subject)


class BadInput(TrtPoetsError):
    """An invalid photo folder, name or option."""


class BadPhoto(BadInput):
    """One photo file that can't be decoded."""


class PhotoChanged(BadPhoto):
    """One photo file that was modified after the dataset was read."""


class MissingDependency(TrtPoetsError):
    """A package that is not installed or can't be imported."""


class MissingArtefact(TrtPoetsError):
    """A file that an earlier stage writes is missing."""


class BadArtefact(TrtPoetsError):
    """A file that is damaged, was edited, or is not the expected one."""


class Busy(TrtPoetsError):
    """Another process is using the same run."""


class StorageFailed(TrtPoetsError):
    """The disk is full, not writable, or failing."""


class ConversionFailed(TrtPoetsError):
    """A network that can't be exported or quantised."""


class NoCpuForm(ConversionFailed):
    """int8.onnx was written, but the network has no INT8 form for CPUs."""


class BuildFailed(TrtPoetsError):
    """TensorRT could not build the engine."""


class RunFailed(TrtPoetsError):
    """A runner could not compute scores."""


class Interrupted(TrtPoetsError):
    """The user pressed Ctrl-C, or the program received a signal; the message says what is kept."""

    exit_code = 130


class GateFailed(TrtPoetsError):
    """The command succeeded, but the result does not meet the limits."""

    exit_code = 3


class GateUndecided(TrtPoetsError):
    """The command succeeded, but there are too few photos to decide whether the result meets the limits."""

    exit_code = 4
