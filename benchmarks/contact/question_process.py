"""Runs one question in a child process and returns its answer, or why it has none."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

from contact.question_inputs import NotAnswered, QuestionInputs
from contact.questions import MACHINE, Question, question_of
from trtpoets.core.child_environment import child_environment

MAX_OUTPUT = 300
"""Number of characters of the last line of output that are recorded."""


def answer_in_this_process(name: str, inputs: QuestionInputs, out: Path) -> None:
    """Answer a question in this process. Writes {"answer": {...}} or {"because": reason, "failed": bool} to `out`.

    `failed` is true after an error, and false if the question cannot be answered on this machine.
    """
    from trtpoets.core.errors import MissingDependency, TrtPoetsError

    question = MACHINE if name == MACHINE.id else question_of(name)
    try:
        module = importlib.import_module(f"contact.{question.module}")
        result: dict[str, Any] = {"answer": getattr(module, question.function)(inputs, *question.arguments)}
    except NotAnswered as reason:
        result = {"because": str(reason), "failed": False}
    except TrtPoetsError as error:
        message = f"{error.message} ({error.hint})" if error.hint else error.message
        result = {"because": message, "failed": not isinstance(error, MissingDependency)}
    out.write_text(json.dumps(result), encoding="utf-8")


def run_question(
    question: Question, inputs: QuestionInputs, command: Sequence[str], timeout: float = 0.0
) -> dict[str, Any]:
    """Run a question in a child process: `command` with its id, the inputs as JSON, and the file for its answer.

    Returns the entry for `results.ResultFile`: "answered", "because", "failed", "answer", "goal_met", "seconds".
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out, output = Path(folder) / "answer.json", Path(folder) / "output.txt"
        with output.open("wb") as stream:
            child = subprocess.Popen(
                [*command, question.id, inputs.to_json(), str(out)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=child_environment({}),
                start_new_session=True,
            )
            try:
                code = child.wait(timeout or question.timeout)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(child)
        result = _result(code, out, output, timeout or question.timeout)
    answer = result.get("answer")
    return {
        "question": question.text,
        "goal": question.goal,
        "answered": answer is not None,
        "because": result.get("because", ""),
        "failed": bool(result.get("failed")),
        "answer": answer,
        "goal_met": (answer or {}).get("goal_met"),
        "seconds": round(time.monotonic() - start, 1),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _end(child: Any) -> None:
    """Kill the child process and its own children, which are in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _result(code: Any, out: Path, output: Path, timeout: float) -> dict[str, Any]:
    """Return what the child wrote to `out`, or {"because", "failed"} if it wrote nothing."""
    if code is None:
        return {"because": f"it took longer than {timeout:g} s", "failed": True}
    try:
        result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return result
    except (OSError, ValueError):
        pass
    end = f"its process exited with code {code}" if code >= 0 else f"its process was killed by {_signal(-code)}"
    lines = [line.strip() for line in output.read_text("utf-8", "replace").splitlines() if line.strip()]
    return {"because": f"{end}: {lines[-1][-MAX_OUTPUT:]}" if lines else end, "failed": True}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def child_command(script: str) -> Sequence[str]:
    """Return the command that answers a question in a child process."""
    return (sys.executable, script, "--answer")
