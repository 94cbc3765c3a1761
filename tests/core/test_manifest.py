"""A bundle's manifest: every missing, changed or extra file is reported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, TrtPoetsError
from trtpoets.core.manifest import MANIFEST, Manifest, check_manifest, extra_files, read_manifest, write_manifest
from trtpoets.core.types import Precision

FILES = {"README.md": b"read me", "golden/000.bmp": b"BM\x00\x01", "runtime/trtpoets/core/__init__.py": b"", "x": b"1"}


def written(folder: Path, **more: Any) -> Manifest:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    order = (Precision.INT8, Precision.FP32)
    return write_manifest(folder, name="tiny", target="jetson", version="0.1.0", model="m" * 64, order=order, **more)


def changed(folder: Path, **changes: Any) -> None:
    value = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**value, **changes}))


def test_a_written_manifest_is_read(tmp_path: Path) -> None:
    result = written(tmp_path, jetpack="5.1.2", board="orin-nano")
    assert check_manifest(tmp_path) == read_manifest(tmp_path) == result
    assert set(result.files) == set(FILES)
    value = json.loads((tmp_path / MANIFEST).read_text())
    assert value["format"] == 1
    assert value["order"] == ["int8", "fp32"]
    assert (value["jetpack"], value["board"]) == ("5.1.2", "orin-nano")


def test_jetpack_and_board_are_optional(tmp_path: Path) -> None:
    written(tmp_path)
    assert {"jetpack", "board"}.isdisjoint(json.loads((tmp_path / MANIFEST).read_text()))


@pytest.mark.parametrize("name", [name for name, content in FILES.items() if content])
def test_a_flipped_bit_in_any_file_is_named(name: str, tmp_path: Path) -> None:
    written(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with raises(BadArtefact, "TP1033", name):
        check_manifest(tmp_path)


@pytest.mark.parametrize("name", list(FILES))
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / name).unlink()
    with raises(BadArtefact, "TP1030", name):
        check_manifest(tmp_path)


@pytest.mark.parametrize("name", ["note.txt", "golden/012.bmp", "runtime/trtpoets/core/__pycache__/x.pyc", ".hidden"])
def test_an_extra_file_is_named(name: str, tmp_path: Path) -> None:
    result = written(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    assert extra_files(tmp_path, result) == [name]
    with raises(BadArtefact, "TP1034", name) as caught:
        check_manifest(tmp_path)
    assert caught.value.hint == "delete them, or move them to built/"


def test_many_extra_files_are_counted(tmp_path: Path) -> None:
    written(tmp_path)
    for number in range(9):
        (tmp_path / f"extra{number}").touch()
    with raises(BadArtefact, "TP1034", "extra0", "extra4 (and 4 more)"):
        check_manifest(tmp_path)


def test_files_in_built_are_not_checked(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "built" / "logs").mkdir(parents=True)
    (tmp_path / "built" / "fp16.engine").write_bytes(b"made here")
    (tmp_path / "built" / "link").symlink_to("/etc/hostname")
    check_manifest(tmp_path)


def test_built_is_a_folder_at_the_top_only(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "golden" / "built").mkdir()
    (tmp_path / "golden" / "built" / "x").touch()
    with raises(BadArtefact, "TP1034", "golden/built/x"):
        check_manifest(tmp_path)


def test_a_link_is_no_file_even_to_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "x").rename(tmp_path.parent / "elsewhere")
    (tmp_path / "x").symlink_to(tmp_path.parent / "elsewhere")
    with raises(BadArtefact, "TP1031", "x"):
        check_manifest(tmp_path)


def test_a_linked_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    written(folder)
    (folder / "golden").rename(tmp_path / "golden")
    (folder / "golden").symlink_to(tmp_path / "golden")
    with raises(BadArtefact, "TP1030", "golden/000.bmp"):
        check_manifest(folder)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "x").unlink()
    os.mkfifo(tmp_path / "x")
    with raises(BadArtefact, "TP1031", "x"):
        check_manifest(tmp_path)


@pytest.mark.parametrize(
    "path",
    ["../up", "/etc/passwd", "golden/../../up", "./x", "golden//000.bmp", "", "built/x", "manifest.json", "a\0b"],
)
def test_paths_that_lead_elsewhere_are_refused(path: str, tmp_path: Path) -> None:
    written(tmp_path)
    changed(tmp_path, files={path: "0" * 64})
    with raises(BadArtefact, "TP1029", repr(path)):
        check_manifest(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}},
        {"files": ["x"]},
        {"files": {"x": 1}},
        {"files": {"x": "short"}},
        {"order": ["int4"]},
        {"order": []},
        {"order": ["fp16", "fp16"]},
        {"order": 3},
        {"name": None},
        {"jetpack": 5},
    ],
)
def test_invalid_manifests_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    written(tmp_path)
    changed(tmp_path, **changes)
    with raises(BadArtefact, "TP1029", "manifest.json"):
        check_manifest(tmp_path)


def test_a_later_format_says_who_reads_it(tmp_path: Path) -> None:
    written(tmp_path)
    changed(tmp_path, format=2)
    with raises(BadArtefact, "TP1028", "2", "1") as caught:
        check_manifest(tmp_path)
    assert "runtime/" in caught.value.hint


def test_a_folder_without_one_is_no_bundle(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP1027", "manifest"):
        check_manifest(tmp_path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_one_sentence(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(TrtPoetsError):
        check_manifest(folder)


def test_a_link_can_not_be_bundled(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with raises(BadInput, "TP1025", "link"):
        written(tmp_path)


def test_a_name_that_is_not_utf8_can_not_be_bundled(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.onnx")).touch()
    with raises(BadInput, "TP1026"):
        written(tmp_path)
