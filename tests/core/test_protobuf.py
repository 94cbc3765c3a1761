"""Limits on the fields of protobuf files."""

from __future__ import annotations

from pathlib import Path

import pytest

import trtpoets
from tests.support.errors import raises
from trtpoets.core import protobuf
from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.onnx_load import load_self_contained


def test_onnx_files_of_countless_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf.check_field_count, "__defaults__", (50_000,))
    path = tmp_path / "a.onnx"
    graph = b"\x0a\x00" * 60_000  # empty nodes
    path.write_bytes(b"\x08\x08\x3a" + b"\xc0\xa9\x07" + graph)
    for read in (trtpoets.inspect, check_onnx, load_self_contained):
        with raises(BadArtefact, "TP1045", "more than 50,000 fields"):
            read(path)
    protobuf.check_field_count(memoryview(b"\x08\x08\x3a\xc0\xa9\x07" + bytes(len(graph))))  # zeros are not fields
