"""One question in a process of its own: what it answers, or why it does not."""

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

from contact.asked import Given, NotAnswered
from contact.questions import MACHINE, Question, question_of

LAST_WORDS = 300
"""Characters of what a process said last that are kept."""


def answer_here(name: str, given: Given, out: Path) -> None:
    """Answer a question in this process, into the file `out`: {"answer": {...}}, or {"because": why, "failed": bool}.

    `failed` tells a question that met an error from one that this machine has no answer to.
    """
    from trtpoets.core.errors import MissingDependency, TrtPoetsError

    question = MACHINE if name == MACHINE.id else question_of(name)
    try:
        module = importlib.import_module(f"contact.{question.module}")
        told: dict[str, Any] = {"answer": getattr(module, question.function)(given)}
    except NotAnswered as why:
        told = {"because": str(why), "failed": False}
    except TrtPoetsError as error:
        words = f"{error.message} ({error.hint})" if error.hint else error.message
        told = {"because": words, "failed": not isinstance(error, MissingDependency)}
    out.write_text(json.dumps(told), encoding="utf-8")


def asked(question: Question, given: Given, command: Sequence[str], timeout: float = 0.0) -> dict[str, Any]:
    """Ask in a child process: `command`, then the question's id, what is given, and the file for its answer.

    Returns what `results.Book` keeps: "answered", "because", "failed", "answer", "goal_met", "seconds".
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "answer.json", Path(folder) / "said.txt"
        with said.open("wb") as noise:
            child = subprocess.Popen(
                [*command, question.id, given.to_json(), str(out)],
                stdin=subprocess.DEVNULL,
                stdout=noise,
                stderr=noise,
                start_new_session=True,
            )
            try:
                code = child.wait(timeout or question.timeout)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(child)
        told = _told(code, out, said, timeout or question.timeout)
    found = told.get("answer")
    return {
        "question": question.text,
        "goal": question.goal,
        "answered": found is not None,
        "because": told.get("because", ""),
        "failed": bool(told.get("failed")),
        "answer": found,
        "goal_met": (found or {}).get("goal_met"),
        "seconds": round(time.monotonic() - began, 1),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _end(child: Any) -> None:
    """Nothing of it is left, its own children included: it leads a session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _told(code: Any, out: Path, said: Path, timeout: float) -> dict[str, Any]:
    if code is None:
        return {"because": f"it took longer than {timeout:g} s", "failed": True}
    try:
        told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return told
    except (OSError, ValueError):
        pass
    how = f"its process ended with code {code}" if code >= 0 else f"its process died of {_signal(-code)}"
    lines = [line.strip() for line in said.read_text("utf-8", "replace").splitlines() if line.strip()]
    return {"because": f"{how}: {lines[-1][-LAST_WORDS:]}" if lines else how, "failed": True}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def this_command(script: str) -> Sequence[str]:
    """The command that answers a question in a process of its own."""
    return (sys.executable, script, "--answer")
