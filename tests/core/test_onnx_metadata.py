"""Reading ONNX headers without the `onnx` package, compared with that package."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from tests.support.tiny import tiny_graph, tiny_onnx
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.onnx_file import metadata_of, opset_of, read_onnx
from trtpoets.core.onnx_metadata import read_header, read_verified_onnx
from trtpoets.core.types import Precision


@pytest.mark.parametrize("precision", Precision)
def test_it_agrees_with_the_onnx_package(precision: Precision, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "tiny.onnx", precision).path
    facts, graph = read_header(path), tiny_graph(precision)
    assert facts.metadata == metadata_of(graph)
    assert facts.opset == opset_of(graph) == 17
    assert read_verified_onnx(path) == read_onnx(path)


def test_other_domains_do_not_count_as_operator_sets(tmp_path: Path) -> None:
    from onnx import helper, save

    graph = tiny_graph()
    del graph.opset_import[:]
    graph.opset_import.extend([helper.make_opsetid("com.microsoft", 99), helper.make_opsetid("ai.onnx", 18)])
    save(graph, str(tmp_path / "tiny.onnx"))
    assert read_header(tmp_path / "tiny.onnx").opset == 18


def test_files_that_are_no_onnx_files(tmp_path: Path) -> None:
    path = tmp_path / "fp32.onnx"
    with raises(MissingArtefact, "TP1048"):
        read_header(path)
    path.write_bytes(b"not a protobuf")
    with raises(BadArtefact, "TP1011", "a valid ONNX file"):
        read_header(path)
    path.write_bytes(b"")
    with raises(BadArtefact, "TP1041"):
        read_verified_onnx(path)


def test_a_file_that_ends_too_soon_is_refused(tmp_path: Path) -> None:
    whole = tiny_graph().SerializeToString(deterministic=True)
    path = tmp_path / "fp32.onnx"
    refused = 0
    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        try:
            read_verified_onnx(path)
        except BadArtefact:
            refused += 1
    assert refused >= len(range(0, len(whole), 37)) - 1  # the end may fall between two fields that may be absent


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    try:
        read_header(path)
    except BadArtefact as error:
        assert "is not a valid ONNX file" in error.message
