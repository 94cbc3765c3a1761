"""External data of ONNX files: found relative to the file, and part of every hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.errors import raises
from tests.support.foreign_onnx import external
from tests.support.tiny import SIDE, tiny_graph, tiny_photos, tiny_spec
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.onnx_external import external_files, sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx, open_session, read_onnx
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.types import INPUT_NAME, BatchRange, Flavour, OnnxModel, Precision
from trtpoets.device.build import engine as engine_module
from trtpoets.device.build.engine import engine_key
from trtpoets.device.build.engine_config import EngineConfig


def relocated(path: Path, location: str) -> Path:
    """The same file after its tensors name another place."""
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_come_from_beside_the_file_not_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = external(tmp_path / "a", 5.0), external(tmp_path / "b")
    monkeypatch.chdir(here.parent)
    inside = onnx.load(str(there))
    assert check_onnx(there) == inside
    assert onnx.load_model_from_string(load_self_contained(there).content) == inside
    photos = tiny_photos(2)
    answers = open_session(there).run(None, {INPUT_NAME: photos})[0]
    expected = open_session(inside.SerializeToString()).run(None, {INPUT_NAME: photos})[0]
    np.testing.assert_array_equal(answers, expected)
    assert read_onnx(there) == OnnxModel(there, Precision.FP32, tiny_spec(SIDE))
    relative = Path("../b/net.onnx")
    assert check_onnx(relative) == inside


def test_a_graph_in_memory_is_not_completed_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = external(tmp_path)
    monkeypatch.chdir(tmp_path)
    with raises(BadArtefact, "TP1042"):
        open_session(path.read_bytes())


def test_the_identity_covers_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "plain.onnx"
    onnx.save(tiny_graph(), str(plain))
    assert sha256_of_onnx(plain) == hashlib.sha256(plain.read_bytes()).hexdigest() == load_self_contained(plain).sha256
    path, other = external(tmp_path / "a"), external(tmp_path / "b", 5.0)
    assert path.read_bytes() == other.read_bytes(), "the ONNX files themselves are equal"
    assert sha256_of_onnx(path) != sha256_of_onnx(other)
    assert sha256_of_onnx(path) == load_self_contained(path).sha256
    before = sha256_of_onnx(path)
    data = path.parent / "net.onnx.data"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    assert sha256_of_onnx(path) != before


def test_changed_weights_are_another_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        version = "1.0"

    monkeypatch.setattr(engine_module, "load_tensorrt", lambda flavour: Library())
    config = EngineConfig(Flavour.RTX, batch=BatchRange(1, 1, 1))
    keys = [
        engine_key(OnnxModel(external(tmp_path, scale), Precision.FP32, tiny_spec()), config)
        for scale in (1.0, 5.0, 1.0)
        if not (tmp_path / "net.onnx.data").unlink(missing_ok=True)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_weights_that_are_missing_or_cut_short(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = tmp_path / "net.onnx.data"
    content = data.read_bytes()
    for read in (check_onnx, sha256_of_onnx, open_session, load_self_contained, read_onnx):
        data.write_bytes(content[:-1])
        with raises(BadArtefact, "TP1951", "net.onnx.data is truncated: it has 967 bytes"):
            read(path)
        data.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
        with raises(BadArtefact, "TP1961", "Git LFS pointer") as caught:
            read(path)
        assert caught.value.hint == f"cd {tmp_path} && git lfs pull"
        data.unlink()
        with raises(MissingArtefact, "TP1950", "net.onnx.data is missing") as missing:
            read(path)
        assert missing.value.hint == f"copy it next to {path}"


@pytest.mark.parametrize(
    ("location", "code", "reason"),
    [
        ("/etc/hostname", "TP1963", "absolute"),
        ("C:\\weights", "TP1963", "absolute"),
        ("../net.onnx.data", "TP1964", "out of"),
        ("sub/../../x", "TP1964", "out of"),
        ("sub\\..\\..\\x", "TP1964", "out of"),
        ("link", "TP1966", "link that leads out of"),
        ("linked/net.onnx.data", "TP1966", "link that leads out of"),
        ("loop", "TP1965", ""),
        ("", "TP1962", "''"),
        ("sub", "TP1967", "folder"),
        ("a" * 300, "TP1965", ""),
    ],
)
def test_locations_that_lead_elsewhere(tmp_path: Path, location: str, code: str, reason: str) -> None:
    path = external(tmp_path / "net")
    (tmp_path / "net.onnx.data").write_bytes((path.parent / "net.onnx.data").read_bytes())
    (path.parent / "link").symlink_to(tmp_path / "net.onnx.data")
    (path.parent / "linked").symlink_to(tmp_path)
    (path.parent / "loop").symlink_to(path.parent / "loop")
    (path.parent / "sub").mkdir()
    relocated(path, location)
    for read in (check_onnx, sha256_of_onnx, open_session):
        with raises(BadArtefact, code, path, location, reason) as caught:
            read(path)
        assert caught.value.hint


def test_a_link_and_a_folder_below_are_followed(tmp_path: Path) -> None:
    path = external(tmp_path / "net")
    expected = check_onnx(path)
    (path.parent / "weights").mkdir()
    (path.parent / "net.onnx.data").rename(path.parent / "weights" / "w.bin")
    (path.parent / "link").symlink_to("weights/w.bin")
    for location in ("weights/w.bin", "./weights/w.bin", "link"):
        assert check_onnx(relocated(path, location)) == expected


@pytest.mark.parametrize(("key", "value"), [("offset", "-1"), ("length", "x"), ("offset", "9" * 30)])
def test_offsets_that_are_no_numbers(tmp_path: Path, key: str, value: str) -> None:
    path = external(tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    entries = model.graph.initializer[0].external_data
    next(entry for entry in entries if entry.key == key).value = value
    path.write_bytes(model.SerializeToString())
    with raises(BadArtefact, "TP1035", "the offset or length", "of its external data is not a valid number"):
        check_onnx(path)


def test_more_weights_than_a_network_may_have(tmp_path: Path) -> None:
    path = external(tmp_path)
    with (tmp_path / "net.onnx.data").open("r+b") as stream:
        stream.truncate(3 << 30)  # sparse: it takes no room
    for read in (check_onnx, sha256_of_onnx, open_session):
        with raises(BadArtefact, "TP1036", "3.0") as caught:
            read(path)
        assert f"trtexec --onnx={path} --saveEngine={path.with_suffix('.engine')}" in caught.value.hint
        assert "FP16" not in caught.value.hint, "adopt writes all weights in float32"


def test_tensors_in_attributes_and_graphs_inside_graphs(tmp_path: Path) -> None:
    """The parser without the onnx package finds the same tensors as the package."""

    def value(name: str) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(np.arange(4, dtype=np.float32), name)
        onnx.external_data_helper.set_external_data(tensor, f"{name}.bin", 0, 16)
        tensor.ClearField("raw_data")
        (tmp_path / f"{name}.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
        return tensor

    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=value("c"))],
        "inner",
        [],
        [helper.make_tensor_value_info("y", 1, [4])],
        [value("b")],
    )
    node = helper.make_node("If", ["flag"], ["out"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph(
        [node],
        "outer",
        [helper.make_tensor_value_info("flag", 9, [])],
        [helper.make_tensor_value_info("out", 1, [4])],
        [value("a")],
    )
    path = tmp_path / "x.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    assert [
        (external_file.location, external_file.tensors, external_file.needed, external_file.bytes)
        for external_file in external_files(path)
    ] == [
        ("c.bin", 2, 16, 16),
        ("b.bin", 2, 16, 16),
        ("a.bin", 1, 16, 16),
    ]
    whole = check_onnx(path)
    assert not any(tensor.data_location for tensor in whole.graph.initializer)
    assert external_files(path, whole.SerializeToString()) == ()
