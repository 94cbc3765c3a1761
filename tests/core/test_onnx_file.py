"""Reading, checking and opening ONNX files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support.errors import raises
from tests.support.shared_files import SHARED
from tests.support.small_networks import residual_network, saved, spec
from tests.support.tiny import tiny_graph
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.onnx_file import PRECISION_KEY, SPEC_KEY, check_onnx, metadata_of, open_session, read_onnx
from trtpoets.core.types import INPUT_NAME, OnnxModel, Precision

SEGFAULTS = SHARED / "examples" / "segfaults"


def test_reading_what_was_written(tmp_path: Path) -> None:
    model = saved(residual_network(), tmp_path / "fp32.onnx")
    assert read_onnx(model.path) == OnnxModel(model.path, Precision.FP32, spec())


@pytest.mark.parametrize(("keep", "code"), [(0, "TP1011"), (1, "TP1038"), (100, "TP1038"), (4000, "TP1038")])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int, code: str) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(residual_network().SerializeToString()[:keep])
    with raises(BadArtefact, code, path):
        check_onnx(path)


def test_the_files_that_crash_the_parser_are_refused() -> None:
    files = sorted(SEGFAULTS.glob("*.onnx"))
    if not files:
        pytest.skip(f"{SEGFAULTS} is not on this machine")
    assert len(files) == 4
    for file in files:
        with raises(BadArtefact, "TP1038", file):
            check_onnx(file)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with raises(MissingArtefact, "TP1037") as caught:
            check_onnx(path)
        assert "trtpoets export NAME" in caught.value.hint


def altered(tmp_path: Path, **metadata: str) -> Path:
    proto = residual_network()
    kept = {**metadata_of(proto), **{key.replace("_", "."): value for key, value in metadata.items()}}
    onnx.helper.set_model_props(proto, {key: value for key, value in kept.items() if value})
    return saved(proto, tmp_path / "altered.onnx").path


def test_a_file_from_elsewhere(tmp_path: Path) -> None:
    for key in (SPEC_KEY, PRECISION_KEY):
        with raises(BadArtefact, "TP1041"):
            read_onnx(altered(tmp_path, **{key: ""}))
    with raises(BadArtefact, "TP1041"):
        read_onnx(altered(tmp_path, **{PRECISION_KEY: "fp4"}))


def test_a_model_json_that_was_edited(tmp_path: Path) -> None:
    text = spec().to_json().replace('"height": 32', '"height": 64')
    with raises(BadArtefact, "TP1095", "altered.onnx"):
        read_onnx(altered(tmp_path, **{SPEC_KEY: text}))


def test_other_names_of_input_and_output(tmp_path: Path) -> None:
    proto = residual_network()
    proto.graph.input[0].name = "images"
    proto.graph.node[0].input[0] = "images"
    with raises(BadArtefact, "TP1040", "photos", "scores", "['images']", "['scores']"):
        read_onnx(saved(proto, tmp_path / "other.onnx").path)


def test_a_session_from_a_file_and_from_bytes(tmp_path: Path) -> None:
    model = saved(residual_network(), tmp_path / "fp32.onnx")
    photos = np.zeros((2, 32, 32, 3), np.uint8)
    first, second = (
        open_session(source, threads=1).run(None, {INPUT_NAME: photos})[0]
        for source in (model.path, model.path.read_bytes())
    )
    np.testing.assert_array_equal(first, second)
    with raises(BadArtefact, "TP1044", "the graph"):
        open_session(b"not a graph")


def test_one_session_of_many_has_few_threads_and_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(tiny_graph(), str(tmp_path / "m.onnx"))
    monkeypatch.setattr("trtpoets.core.onnx_file.os.cpu_count", lambda: 64)
    many = [open_session(tmp_path / "m.onnx", one_of_many=True) for _ in range(3)]
    photos = np.full((2, 16, 16, 3), 9, np.uint8)
    alone = open_session(tmp_path / "m.onnx").run(None, {INPUT_NAME: photos})[0]
    for session in many:
        assert session.get_session_options().intra_op_num_threads == 8
        np.testing.assert_array_equal(session.run(None, {INPUT_NAME: photos})[0], alone)


@pytest.mark.parametrize(
    ("count", "calls", "value"),
    [(25, 2, "1,000,000 nodes"), (40, 1, "30 deep")],
)
def test_functions_that_never_end_are_refused_at_once(tmp_path: Path, count: int, calls: int, value: str) -> None:
    """The checker would inline the functions to 2 ** 25 nodes."""
    graph = tiny_graph()
    operators = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for number in range(count):
        ends = ["a", *(f"t{call}" for call in range(calls - 1)), "b"]
        callee = {"op_type": f"F{number + 1}", "domain": "own"} if number < count - 1 else {"op_type": "Relu"}
        body = [helper.make_node(inputs=[a], outputs=[b], **callee) for a, b in pairwise(ends)]
        graph.functions.append(helper.make_function("own", f"F{number}", ["a"], ["b"], body, operators))
    relu = next(node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "F0", "own"
    graph.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(graph, str(tmp_path / "x.onnx"))
    with raises(BadArtefact, "TP1038", tmp_path / "x.onnx", value):
        check_onnx(tmp_path / "x.onnx")
    del graph.functions[1:]
    graph.functions[0].node[0].op_type, graph.functions[0].node[0].domain = "Relu", ""
    del graph.functions[0].node[1:]
    graph.functions[0].node[0].output[0] = "b"
    onnx.save(graph, str(tmp_path / "x.onnx"))
    assert len(check_onnx(tmp_path / "x.onnx").functions) == 1, "one that ends is taken"
