"""Child processes get CUDA lazy loading, unless the user has set it otherwise."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from tests.support.sources import nodes_of
from trtpoets.core.child_environment import child_environment
from trtpoets.core.child_process import Child
from trtpoets.core.program import run_program

PACKAGE = Path(__file__).parents[2] / "trtpoets"

WITHOUT_CUDA = {
    "core/signatures.py": "ssh-keygen",
    "judge/bench/conditions.py": "nvidia-smi",
}
"""Modules that start a program which opens no CUDA library."""


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_MODULE_LOADING", raising=False)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child_environment()["CUDA_MODULE_LOADING"] == "LAZY"
    assert "CUDA_MODULE_LOADING" not in os.environ
    assert child_environment({"A": "1"})["A"] == "1"
    for chosen in ("EAGER", "DEFAULT", ""):
        monkeypatch.setenv("CUDA_MODULE_LOADING", chosen)
        assert child_environment() == dict(os.environ)


def test_programs_load_lazily_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    code = run_program(lambda: seen.append(os.environ["CUDA_MODULE_LOADING"]) or 0, print)
    monkeypatch.delenv("CUDA_MODULE_LOADING", raising=False)
    assert (code, seen) == (0, ["LAZY"])


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("chosen", ["", "EAGER"])
def test_a_benchmarks_child(threads: int, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if chosen:
        monkeypatch.setenv("CUDA_MODULE_LOADING", chosen)
    names = "('CUDA_MODULE_LOADING', 'OMP_NUM_THREADS')"
    program = f"import json, os; input(); print(json.dumps({{'told': [os.environ.get(name) for name in {names}]}}))"
    with Child((sys.executable, "-c", program), threads) as child:
        result = child.ask({}, 30)["told"]
    assert result == [chosen or "LAZY", str(threads) if threads else os.environ.get("OMP_NUM_THREADS")]


def test_no_process_is_started_without_it() -> None:
    bare = []
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        if "templates" in path.parts or name in WITHOUT_CUDA:
            continue
        for node in nodes_of(path):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            starts = isinstance(node.func.value, ast.Name) and node.func.value.id == "subprocess"
            if starts and "env" not in {keyword.arg for keyword in node.keywords}:
                bare.append(f"{name}:{node.lineno}")
    assert bare == [], "give them env=child_environment()"
