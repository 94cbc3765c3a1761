"""Imports the packages that training needs in a child process, to check that they work.

An installed package may fail to load because of a missing shared library, an invalid keras.json or a missing
dependency. The child has the same environment and imports through `core.optional`, like every command.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Mapping

import trtpoets
from trtpoets.core.child_environment import child_environment
from trtpoets.core.child_process import signal_name
from trtpoets.core.serialization import parsed

NAMES = ("onnx", "onnxruntime", "tensorflow", "tf2onnx")
"""The modules that are tried, in this order."""

_SECONDS = 180

_PROGRAM = """
import json, sys
sys.path.append({root!r})
from trtpoets.core import optional

def try_to(name):
    if name == "onnxruntime":
        return {{"providers": optional.onnxruntime().get_available_providers()}}
    if name == "tensorflow":
        return {{"gpus": optional.tensorflow_gpus()}}
    __import__(name)
    return {{}}

for name in {names!r}:
    try:
        result = try_to(name)
    except Exception as error:
        # The cause of MissingDependency is the package's own error.
        lines = str(error.__cause__ or error).splitlines() or [type(error).__name__]
        result = {{"problem": lines[0]}}
    print("\\n" + json.dumps([name, result]), flush=True)
"""


@dataclass(frozen=True)
class Imports:
    """The results of the imports: `problems` maps modules that can't be imported to the reason.

    `tensorflow_gpus` is the number of GPUs that TensorFlow sees, None if it was not tried or can't be imported.
    `providers` are those of ONNX Runtime in the order of preference.
    """

    problems: Mapping[str, str] = field(default_factory=dict)
    tensorflow_gpus: int | None = None
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tried:
    """What one package said."""

    problem: str = ""
    gpus: int | None = None
    providers: tuple[str, ...] = ()


def try_imports(names: Iterable[str]) -> Imports:
    """Import those of NAMES that are in `names` in a child process. Raises nothing."""
    asked = set(names)
    wanted = [name for name in NAMES if name in asked]
    if not wanted:
        return Imports()
    program = _PROGRAM.format(root=str(Path(trtpoets.__file__).parent.parent), names=wanted)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            timeout=_SECONDS,
            check=False,
        )
        output, end = done.stdout, _end(done.returncode)
    except subprocess.TimeoutExpired as error:
        output, end = error.stdout or b"", f"took longer than {_SECONDS} s"
    except OSError as error:
        output, end = b"", f"can't start {sys.executable}: {error.strerror}"
    results = dict(filter(None, map(_read, output.splitlines())))
    problems = {name: tried.problem for name, tried in results.items() if tried.problem}
    for name in wanted:
        if name not in results:
            problems[name] = f"the import {end}"
            break  # those after it were not tried
    return Imports(problems, results.get("tensorflow", _Tried()).gpus, results.get("onnxruntime", _Tried()).providers)


def _end(code: int) -> str:
    if code < 0:
        return f"was ended by {signal_name(-code)}"
    return f"ended the process with code {code}"


def _read(line: bytes) -> tuple[str, _Tried] | None:
    """A line of the program; None for what a package printed."""
    try:
        value = json.loads(line)
        if isinstance(value, list) and len(value) == 2 and value[0] in NAMES:
            return value[0], parsed(_Tried, value[1])
    except ValueError:
        pass
    return None
