"""What TensorRT says: collected while it works, and made one sentence for people."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Iterator

from trtpoets.core.onnx_metadata import node_of
from trtpoets.device.tensorrt_api import TensorRt

NO_DRIVER = "factory function returned nullptr"
"""What TensorRT's constructors raise (as TypeError) when CUDA does not start."""

_NO_CUDA = "cudaError 35"
"""Each error on a machine without a GPU is followed by one with this: the reason only where there is no other."""

_NOISE = ("Thread context has not been set",)


class Messages:
    """What TensorRT has said: errors and warnings, without the noise that hides them.

    `notes` are trtpoets' own remarks on the build, as that timings of another device were left out; `doubts` are its
    own about the engine, for its card. While an error is `expected`, what TensorRT reports is of a trial whose outcome
    is handled: it is kept as a warning, and gives no reason of a failure.
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
        """What TensorRT reports inside is no reason why a later step fails."""
        self._expected = True
        try:
            yield
        finally:
            self._expected = False

    def error(self, text: str) -> None:
        """Keep an error, unless it is known noise."""
        if self._expected:
            self.warnings.append(text)
        elif _NO_CUDA in text:
            self._no_cuda = True
        elif not any(noise in text for noise in _NOISE):
            self.errors.append(text)

    def sentence(self) -> str:
        """The first error in one sentence; empty when there was none."""
        first = next((text for text in map(plain, self.errors) if text), "")
        return first or ("CUDA does not start: no usable driver" if self._no_cuda else "")


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
            if severity in errors:
                messages.error(text)
            elif severity == base.WARNING:
                messages.warnings.append(text)

    return Logger()


def new_recorder(library: TensorRt, messages: Messages) -> Any:
    """A TensorRT error recorder that keeps errors in `messages`: objects that have one log no errors any more.

    TensorRT counts on the recorder to outlive what has it and what that made, so `messages` keeps it. Give one to a
    builder only once its network is parsed: TensorRT-RTX 1.7 crashes when it frees a network that a parser filled while
    the builder had a recorder.
    """
    base = library.module.IErrorRecorder

    class Recorder(base):  # type: ignore[misc, valid-type]
        """Called by TensorRT from its own threads."""

        def __init__(self) -> None:
            base.__init__(self)
            self._found: list[tuple[Any, str]] = []

        def report_error(self, code: Any, text: str) -> bool:
            """Keep an error; the work that met it need not stop for the recorder's sake."""
            self._found.append((code, text))
            messages.error(text)
            return True

        def num_errors(self) -> int:
            """How many there are since `clear`."""
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
            """Forget the errors; `messages` keeps them."""
            self._found.clear()

    recorder = Recorder()
    messages.recorders.append(recorder)
    return recorder


_ENVELOPE = re.compile(r"Error Code \d+: (?P<kind>[^(]*)\((?P<text>.*)\)\s*$", re.DOTALL)
_PLACE = re.compile(r"\.?\s*In \w+ at \S+?:\d+\s*$")
_BRACKET = re.compile(r"\[[\w./]+:+[^\]]*\]\s*")


def plain(text: str) -> str:
    """A message of TensorRT without its source positions and wrapping: one line.

    Example: "IBuilder::build: Error Code 1: Myelin ([pass.cpp:337: check] Cannot compile 'fc'. In f at /a/b.cpp:20)"
    becomes "Cannot compile 'fc'". That memory ran out is said in the wrapping alone, and stays.
    """
    found = _ENVELOPE.search(text)
    if found:
        text = _PLACE.sub("", found.group("text"))
        if "outofmemory" in found.group("kind").replace(" ", "").lower():
            text = f"out of memory: {text}"
    text = _BRACKET.sub("", text)
    return " ".join(text.split()).strip(" .;")


def parser_sentence(error: Any, content: bytes) -> str:
    """A ParserError on the ONNX file `content` in one sentence, with the node and the operator at fault.

    TensorRT 8 tells the node's number only, so the file is asked for the rest.
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
    (("plugin", "importer", "unsupported"), "this TensorRT lacks the operator; {again}"),
    (("opset",), "write an older operator set: trtpoets export NAME --opset 17 --force"),
    (("symmetric", "zero point", "zero-point", "scale coefficients"), "quantise again: trtpoets quantize NAME --force"),
)


def parser_fix(sentence: str) -> str:
    """The next command after a parser's error."""
    again = "export it again with the default operators: trtpoets export NAME --force"
    low = sentence.lower()
    return next((fix for words, fix in _FIXES if any(word in low for word in words)), "{again}").format(again=again)
