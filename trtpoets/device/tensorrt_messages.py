"""What TensorRT says: collected while it works, and made one sentence for people."""

from __future__ import annotations

import re
from typing import Any

from trtpoets.device.tensorrt_api import TensorRt

NO_DRIVER = "factory function returned nullptr"
"""What TensorRT's constructors raise (as TypeError) when CUDA does not start."""

_NOISE = (
    "cudaError 35",  # each error on a machine without a GPU is followed by this one
    "Thread context has not been set",
)


class Messages:
    """What TensorRT has logged: errors and warnings, without the noise that hides them."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def sentence(self) -> str:
        """The first error in one sentence; empty when there was none."""
        return next((text for text in map(plain, self.errors) if text), "")


def new_logger(library: TensorRt, messages: Messages) -> Any:
    """A TensorRT logger that keeps errors and warnings in `messages`. Keep a reference to it as long as its users."""
    base = library.module.ILogger
    errors = (base.INTERNAL_ERROR, base.ERROR)

    class Logger(base):  # type: ignore[misc, valid-type]
        """Called by TensorRT from its own threads."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            """Keep errors and warnings."""
            if any(noise in text for noise in _NOISE):
                return
            if severity in errors:
                messages.errors.append(text)
            elif severity == base.WARNING:
                messages.warnings.append(text)

    return Logger()


_ENVELOPE = re.compile(r"Error Code \d+: (?P<kind>[^(]*)\((?P<text>.*)\)\s*$", re.DOTALL)
_PLACE = re.compile(r"\.?\s*In \w+ at \S+?:\d+\s*$")
_BRACKET = re.compile(r"\[[\w./]+:+[^\]]*\]\s*")


def plain(text: str) -> str:
    """A message of TensorRT without its source positions and wrapping: one line.

    Example: "IBuilder::build: Error Code 1: Myelin ([pass.cpp:337: check] Cannot compile 'fc'. In f at /a/b.cpp:20)"
    becomes "Cannot compile 'fc'".
    """
    found = _ENVELOPE.search(text)
    if found:
        text = _PLACE.sub("", found.group("text"))
    text = _BRACKET.sub("", text)
    return " ".join(text.split()).strip(" .;")
