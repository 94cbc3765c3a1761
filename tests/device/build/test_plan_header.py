"""The header of an engine file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.build_requests import RTX
from trtpoets.core.types import Engine, OnnxModel
from trtpoets.device.build.engine import (
    engine_from_onnx,
)
from trtpoets.device.build.plan_header import rtx_targets


def test_targets_are_what_was_asked_for(rtx: None, model: OnnxModel, out: Path) -> None:
    engine = engine_from_onnx(model, replace(RTX, targets=("sm89", "SM86", "sm86")), out)
    assert engine.card.targets == ("sm86", "sm89")
    assert rtx_targets(out) == ("sm86", "sm89")


def test_headers_that_are_not_known_say_nothing(built: Engine, tmp_path: Path) -> None:
    content = built.path.read_bytes()
    for number, other in enumerate(
        [b"", content[:63], content[:-1], b"ftrt" + content[4:], content[:32] + b"\xff" * 32]
    ):
        path = tmp_path / str(number)
        path.write_bytes(other)
        assert rtx_targets(path) == ()
