"""Builds on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trtpoets.core.types import Flavour, Precision
from trtpoets.device.build.build_plan import BuildPlan, Problem
from trtpoets.reporting.tables.builds import layer_lines, layers_text, plan_text

PLAN = BuildPlan(
    engine=Path("engines/x/fp16.engine"),
    onnx=Path("engines/x/fp16.onnx"),
    opset=17,
    precision=Precision.FP16,
    flavour=Flavour.TENSORRT,
    library="TensorRT 10.3.0",
    gpu="Orin",
    targets=("sm87",),
    shapes=((1, 16, 16, 3), (8, 16, 16, 3), (32, 16, 16, 3)),
    workspace_mib=1024,
    optimization_level=3,
    dla_core=None,
    network=("STRONGLY_TYPED",),
    flags=(),
    typing="strongly typed",
    timing_cache=None,
    current=False,
    problems=(),
    notes=("a note " * 30,),
)


def facts(text: str) -> str:
    return " ".join(text.split())


def test_a_plan_says_what_is_built_from_what() -> None:
    text = plan_text(PLAN)
    assert text.splitlines()[0] == "engines/x/fp16.engine: can be built here"
    assert "from engines/x/fp16.onnx, operator set 17" in facts(text)
    assert "on Orin" in text and "16×16×3, 1 to 32 at a time, tuned for 8" in text
    assert "STRONGLY_TYPED, workspace 1,024 MiB, level 3" in facts(text)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"current": True}, "exists and is up to date"),
        ({"problems": (Problem("no GPU", "buy one"),)}, "can't be built here"),
        ({"problems": (Problem("no GPU", "buy one"),)}, "but no GPU try buy one"),
        ({"library": "", "gpu": None, "targets": ()}, "by tensorrt, which is not installed photos"),
        ({"dla_core": 1}, ", DLA core 1"),
        ({"shapes": ((4, 8, 8, 3),) * 3}, "8×8×3, 4 at a time"),
        ({"timing_cache": Path("/nowhere/t.cache")}, "/nowhere/t.cache, will be written"),
    ],
)
def test_what_differs_is_shown(changes: dict[str, Any], line: str) -> None:
    assert line in facts(plan_text(replace(PLAN, **changes)))


def engine(name: str, layers: Any, notes: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(path=Path(name), card=SimpleNamespace(layers=layers, notes=notes))


def test_layers_of_engines_are_counted_and_a_reason_is_given_once() -> None:
    known = SimpleNamespace(counts={"int8": 52, "fp16": 9}, shares={"int8": 0.852, "fp16": 0.148}, why_not="")
    unknown = SimpleNamespace(counts={}, shares={}, why_not="this library does not report them")
    engines = [engine("a", known, ("a note",)), engine("b", unknown), engine("c", unknown), engine("d", None)]
    first, note, reason = layer_lines(engines)
    assert first == "a: 61 layers: 52 in INT8 (85.2 %) and 9 in FP16 (14.8 %)"
    assert note == "a: a note"
    assert reason == "Layer by layer: this library does not report them"
    assert layers_text({"fp32": 1}, {"fp32": 1.0}).startswith("1 layer: 1 in FP32 (100 %")
