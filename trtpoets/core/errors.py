"""What can go wrong and can be mended by the person who reads it.

TrtPoetsError
├── BadInput             a photo, folder, name or option that can't be used
│   └── BadPhoto         one photo file that can't be decoded
│       └── PhotoChanged one photo file that has other bytes than when the dataset was read
├── MissingDependency    a package that is not installed, or does not load
├── MissingArtefact      an earlier stage has not run
├── BadArtefact          a file that is damaged, was edited, or belongs to something else
├── Busy                 another process works on the same name
├── StorageFailed        the disk is full, or may not be written
├── ConversionFailed     a network that can't be exported or quantised
├── BuildFailed          TensorRT would not build the engine
├── RunFailed            a runner that can't answer
├── Interrupted          the user pressed Ctrl-C
├── GateFailed           everything worked, and the result is not good enough
└── GateUndecided        everything worked, and there are too few photos to tell whether the result is good enough

Anything else that is raised is a bug of ours, and keeps its traceback.
"""

from __future__ import annotations


class TrtPoetsError(Exception):
    """A failure that the user can mend.

    `message` names the value and what was expected; `hint` is the command to run or the thing to change next. `code`
    ("TP" and four digits) identifies the error in scripts and tests, whatever its wording; docs/reference/errors.md
    lists all codes.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __reduce__(self) -> tuple[type[TrtPoetsError], tuple[str, str, str]]:
        # Exception.__reduce__ would drop hint and code when the error is sent from a child process.
        return type(self), (self.message, self.hint, self.code)


class BadInput(TrtPoetsError):
    """A photo folder, name or option that can't be used."""


class BadPhoto(BadInput):
    """One photo file that can't be decoded."""


class PhotoChanged(BadPhoto):
    """One photo file that has other bytes than when the dataset was read."""


class MissingDependency(TrtPoetsError):
    """A package that is not installed, or does not load here."""


class MissingArtefact(TrtPoetsError):
    """A file that an earlier stage would have made."""


class BadArtefact(TrtPoetsError):
    """A file that is damaged, was edited, or belongs to something else."""


class Busy(TrtPoetsError):
    """Another process works on the same name."""


class StorageFailed(TrtPoetsError):
    """The disk is full, or may not be written."""


class ConversionFailed(TrtPoetsError):
    """A network that can't be exported or quantised."""


class BuildFailed(TrtPoetsError):
    """TensorRT would not build the engine."""


class RunFailed(TrtPoetsError):
    """A runner that can't answer."""


class Interrupted(TrtPoetsError):
    """The user pressed Ctrl-C; what was finished is kept."""

    exit_code = 130


class GateFailed(TrtPoetsError):
    """Everything worked, and the result is not good enough."""

    exit_code = 3


class GateUndecided(TrtPoetsError):
    """Everything worked, and there are too few photos to tell whether the result is good enough."""

    exit_code = 4
