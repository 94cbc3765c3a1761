"""Engines from elsewhere, and what the runtime was given."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.photos import make_photo
from tests.support.tiny import tiny_spec


def record_runtime(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int | None]]:
    """Return a list that records, for each engine that is loaded, whether host code was allowed, and the DLA core."""
    runtime = sys.modules["tensorrt"].Runtime
    load = runtime.deserialize_cuda_engine
    calls: list[tuple[bool, int | None]] = []

    def loading(self: Any, plan: bytes) -> Any:
        calls.append((getattr(self, "engine_host_code_allowed", False), getattr(self, "DLA_core", None)))
        return load(self, b"plan of a paper network")

    monkeypatch.setattr(runtime, "deserialize_cuda_engine", loading)
    return calls


def foreign(folder: Path, name: str = "fp16.mine.plan", version: tuple[int, ...] = (10, 3, 0, 26)) -> Path:
    """A plan of TensorRT as its header tells, with nothing in it, and the model.json that it needs."""
    path = folder / name
    path.write_bytes(struct.pack("<4sIQQ4B", b"ftrt", 0, 0, 0, *version).ljust(200, b"\0"))
    (folder / "model.json").write_text(tiny_spec().to_json())
    return path


def a_photo(folder: Path) -> Path:
    make_photo(0, 0).save(folder / "a.png")
    return folder / "a.png"
