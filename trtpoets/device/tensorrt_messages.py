"""Collects TensorRT's log messages and errors, and shortens them to one sentence."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Iterator

from trtpoets.core.onnx_metadata import node_of
from trtpoets.device.tensorrt_api import TensorRt

NO_DRIVER = "factory function returned nullptr"
"""Message of the TypeError that TensorRT's constructors raise if CUDA does not start."""

_NO_CUDA = "cudaError 35"
"""Part of a message that follows every error on a machine without a GPU; used only if there is no other error."""

_NOISE = ("Thread context has not been set",)


class Messages:
    """TensorRT's errors and warnings, without known irrelevant ones.

    `notes` are trtpoets' remarks on the build, such as an ignored timing cache; `doubts` are its warnings about the
    engine, which are stored in the card. Errors inside `expected` come from a step whose failure is handled: they are
    kept as warnings.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.doubts: list[str] = []
        self.recorders: list[Any] = []
        self._no_cuda = self._expected = False

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Within the context, errors are kept as warnings, because their cause is handled."""
        self._expected = True
        try:
            yield
        finally:
            self._expected = False

    def error(self, text: str) -> None:
        """Add an error, unless it is known to be irrelevant."""
        if self._expected:
            self.warnings.append(text)
        elif _NO_CUDA in text:
            self._no_cuda = True
        elif not any(noise in text for noise in _NOISE):
            self.errors.append(text)

    def sentence(self) -> str:
        """The first error as one sentence; empty if there was none."""
        first = next((text for text in map(plain, self.errors) if text), "")
        return first or ("CUDA does not start: no usable driver" if self._no_cuda else "")


def new_logger(library: TensorRt, messages: Messages) -> Any:
    """A TensorRT logger that adds errors and warnings to `messages`. It must outlive the objects that use it."""
    base = library.module.ILogger
    errors = (base.INTERNAL_ERROR, base.ERROR)

    class Logger(base):  # type: ignore[misc, valid-type]
        """Called by TensorRT from its own threads."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            """Add errors and warnings to `messages`."""
            if severity in errors:
                messages.error(text)
            elif severity == base.WARNING:
                messages.warnings.append(text)

    return Logger()


def new_recorder(library: TensorRt, messages: Messages) -> Any:
    """A TensorRT error recorder that adds errors to `messages`; objects with a recorder do not log errors.

    The recorder must outlive the objects that use it and those they create, so `messages` keeps it. Set it on a builder
    only after its network is parsed: TensorRT-RTX 1.7 crashes when it frees a network that was parsed while the builder
    had a recorder.
    """
    base = library.module.IErrorRecorder

    class Recorder(base):  # type: ignore[misc, valid-type]
        """Called by TensorRT from its own threads."""

        def __init__(self) -> None:
            base.__init__(self)
            self._found: list[tuple[Any, str]] = []

        def report_error(self, code: Any, text: str) -> bool:
            """Add an error; returning True does not stop the operation."""
            self._found.append((code, text))
            messages.error(text)
            return True

        def num_errors(self) -> int:
            """The number of errors since `clear`."""
            return len(self._found)

        get_num_errors = num_errors  # the name that the bindings of 8.5 to 11.4 look for when TensorRT itself asks

        def get_error_code(self, index: int) -> Any:
            """An error's ErrorCodeTRT."""
            return self._found[index][0]

        def get_error_desc(self, index: int) -> str:
            """An error's text."""
            return self._found[index][1]

        def has_overflowed(self) -> bool:
            """Whether errors were dropped for want of room: never."""
            return False

        def clear(self) -> None:
            """Remove the errors from the recorder; `messages` keeps them."""
            self._found.clear()

    recorder = Recorder()
    messages.recorders.append(recorder)
    return recorder


_ENVELOPE = re.compile(r"Error Code \d+: (?P<kind>[^(]*)\((?P<text>.*)\)\s*$", re.DOTALL)
_PLACE = re.compile(r"\.?\s*In \w+ at \S+?:\d+\s*$")
_BRACKET = re.compile(r"\[[\w./]+:+[^\]]*\]\s*")


def plain(text: str) -> str:
    """A message of TensorRT as one line, without source positions and the enclosing error code.

    Example: "IBuilder::build: Error Code 1: Myelin ([pass.cpp:337: check] Cannot compile 'fc'. In f at /a/b.cpp:20)"
    becomes "Cannot compile 'fc'". "Out of memory" is only in the enclosing part and is kept.
    """
    match = _ENVELOPE.search(text)
    if match:
        text = _PLACE.sub("", match.group("text"))
        if "outofmemory" in match.group("kind").replace(" ", "").lower():
            text = f"out of memory: {text}"
    text = _BRACKET.sub("", text)
    return " ".join(text.split()).strip(" .;")


def parser_sentence(error: Any, content: bytes) -> str:
    """A ParserError about the ONNX file `content` as one sentence, with the name and operator of the node.

    TensorRT 8 gives only the node's index, so name and operator are read from the file.
    """
    text = plain(error.desc())
    if hasattr(error, "node_operator"):
        name, operator = error.node_name(), error.node_operator()
    else:
        name, operator = node_of(content, error.node())
    if not operator:
        return text
    return f"node {name!r} ({operator}): {text}" if name else f"a {operator} node: {text}"


_FIXES = (
    (("plugin", "importer", "unsupported"), "this TensorRT does not support the operator; {again}"),
    (("opset",), "export an older opset: trtpoets export NAME --opset 17 --force"),
    (("symmetric", "zero point", "zero-point", "scale coefficients"), "quantise again: trtpoets quantize NAME --force"),
)


def parser_fix(sentence: str) -> str:
    """The hint for an error of the parser."""
    again = "export it again with the default operators: trtpoets export NAME --force"
    low = sentence.lower()
    return next((fix for words, fix in _FIXES if any(word in low for word in words)), "{again}").format(again=again)
