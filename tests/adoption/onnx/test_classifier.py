"""ONNX classifiers are read, and damaged files raise errors of trtpoets only."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adoption.onnx.networks import SIDE, plain
from tests.adoption.onnx.wrapping import spec_for
from tests.support.errors import raises
from trtpoets.adoption.onnx import fp32_from_onnx, read_onnx_classifier
from trtpoets.adoption.producers import producer_name
from trtpoets.core.errors import TrtPoetsError

_CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4)

_SETTINGS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return plain(tmp_path_factory.mktemp("damaged") / "a.onnx").read_bytes()


def test_tasks_of_ultralytics(tmp_path: Path) -> None:
    assert read_onnx_classifier(plain(tmp_path / "a.onnx", task="classify")).clues.metadata["task"] == "classify"
    with raises(TrtPoetsError, "TP9220", "a detector", "detect"):
        read_onnx_classifier(plain(tmp_path / "a.onnx", task="detect"))


def test_the_graph_names_paddle_where_the_file_names_no_writer(tmp_path: Path) -> None:
    model = onnx.load(str(plain(tmp_path / "a.onnx")))
    model.producer_name = model.producer_version = ""
    for name, producer in (
        ("PaddlePaddle Graph in PIR mode", "PaddlePaddle"),
        ("Model from PaddlePaddle.", "PaddlePaddle"),
        ("main", ""),
    ):
        model.graph.name = name
        onnx.save(model, str(tmp_path / "b.onnx"))
        foreign = read_onnx_classifier(tmp_path / "b.onnx")
        assert foreign.clues.writer == producer
        assert producer_name(foreign) == producer


@_SETTINGS
@given(changes=_CHANGES)
def test_damaged_files_raise_our_errors_only(content: bytes, tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    read_and_wrap(content, tmp_path, changes)


@pytest.mark.slow
@settings(_SETTINGS, max_examples=1000)
@given(changes=_CHANGES)
def test_many_damaged_files(content: bytes, tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    read_and_wrap(content, tmp_path, changes)


def read_and_wrap(content: bytes, tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damaged)
    try:
        foreign = read_onnx_classifier(path)
        if foreign.channels == 3 and max(foreign.height, foreign.width) <= 4 * SIDE:
            fp32_from_onnx(foreign, spec_for(foreign), tmp_path / "fp32.onnx")
    except TrtPoetsError as error:
        assert error.hint or error.message
