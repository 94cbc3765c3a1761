"""Checks an engine's scores of the golden photos in a child process.

A failing kernel makes the CUDA context of its process unusable, and a crash ends the process; the parent must be able
to try the next precision.

One request on stdin, {"engine": path, "golden": folder}, is answered with {"verdict": {...}} or {"failure": text}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from trtpoets.core.child_process import Child, ChildFailed, error_line, python_program, replies
from trtpoets.core.errors import RunFailed
from trtpoets.core.serialization import OPTIONAL, from_json
from trtpoets.core.types import Engine
from trtpoets.device.build.engine import load_engine
from trtpoets.device.runners import open_runner
from trtpoets.judge.golden import Verdict, check_scores_against, read_golden

_PATIENCE_SECONDS = 300.0
"""Time limit: loading an engine for the first time is slow on a small board."""


def verdict_of(engine: Engine, golden: Path) -> Verdict:
    """The result of the golden check for an engine. Raises RunFailed, also if the child process crashes or hangs."""
    with Child(python_program("trtpoets.onboard.golden_check")) as child:
        try:
            answer = child.ask({"engine": str(engine.path), "golden": str(golden)}, _PATIENCE_SECONDS)
        except ChildFailed as failed:
            raise RunFailed(f"{engine.path.name} does not run: {failed.why}", code="TP7016") from failed
    return from_json(Verdict, answer["verdict"], "the golden check")


@dataclass(frozen=True)
class _Answer:
    """What the process answers: the verdict, or what went wrong."""

    verdict: Verdict | None = field(default=None, metadata=OPTIONAL)
    failure: str | None = field(default=None, metadata=OPTIONAL)


def _answer(request: Mapping[str, str]) -> _Answer:
    try:
        engine = load_engine(Path(request["engine"]))
        golden = read_golden(Path(request["golden"]), engine.card.spec)
        with open_runner(engine) as runner:
            scores = runner.infer(golden.pixels)
        return _Answer(verdict=check_scores_against(golden, engine.card.precision, scores))
    except Exception as error:  # noqa: BLE001 - any exception is a failure of this engine, which the parent reports
        return _Answer(failure=error_line(error))


def main() -> None:
    """Execute the request on stdin."""
    with replies() as send:
        send(_answer(json.loads(sys.stdin.readline())))
