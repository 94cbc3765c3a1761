"""Writing a bundle's folder and archive, and what is never replaced."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle_inputs import ORDER, tiny_parts
from tests.support.errors import raises
from trtpoets.bundles.bundle_inputs import BundleInputs
from trtpoets.bundles.pack import BundleResult, archive_of, require_replaceable, root_of, write_bundle
from trtpoets.core.errors import BadInput
from trtpoets.core.files import sha256_of_file, sha256_of_folder
from trtpoets.core.manifest import MANIFEST, Target, check_manifest


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> BundleInputs:
    return tiny_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.core.files.os.fsync", lambda _: None)


def two_files(folder: Path) -> None:
    """A program and a file in a folder."""
    (folder / "files").mkdir()
    (folder / "files" / "labels.txt").write_text("ant\n")
    (folder / "build").write_text("#!/bin/sh\n")
    (folder / "build").chmod(0o755)


def written(parts: BundleInputs, out: Path, fill: Callable[[Path], None] = two_files, **options: Any) -> BundleResult:
    return write_bundle(parts, Target.JETSON, out, fill, **options)


def members_of(archive: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(archive) as tar:
        return list(tar)


def test_folder_manifest_and_archive_agree(parts: BundleInputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = written(parts, out, jetpack="6.2", board="orin-nano", warnings=("slow",), next_commands=("sh build",))
    assert check_manifest(out) == result.manifest
    assert (result.folder, result.archive) == (out, archive_of(out))
    assert archive_of(out).name == "out.tar"
    assert (result.archive_sha256, result.archive_bytes) == (
        sha256_of_file(result.archive),
        result.archive.stat().st_size,
    )
    assert result.sizes == {path: (out / path).stat().st_size for path in (MANIFEST, "build", "files/labels.txt")}
    manifest = result.manifest
    assert (manifest.name, manifest.target, manifest.version, manifest.model) == ("tiny", "jetson", "0.1.0", "a" * 64)
    assert (manifest.order, manifest.jetpack, manifest.board) == (ORDER, "6.2", "orin-nano")
    assert (result.warnings, result.next) == (("slow",), ("sh build",))


def test_the_archive_begins_with_the_manifest(parts: BundleInputs, tmp_path: Path) -> None:
    members = members_of(written(parts, tmp_path / "out").archive)
    root = root_of("tiny", Target.JETSON)
    assert root == "tiny-jetson"
    names = [f"{root}/{path}" for path in (MANIFEST, "build", "files/labels.txt")]
    assert [member.name for member in members] == names
    assert [member.mode for member in members] == [0o644, 0o755, 0o644]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 315532800)}


def test_bytes_depend_on_the_files_only(parts: BundleInputs, tmp_path: Path) -> None:
    def otherwise(folder: Path) -> None:
        """The same files, written in another order, at another time and for this user only."""
        (folder / "build").write_text("#!/bin/sh\n")
        (folder / "build").chmod(0o700)
        (folder / "files").mkdir(mode=0o700)
        (folder / "files" / "labels.txt").write_text("ant\n")
        os.utime(folder / "build", (1_000_000_000, 1_000_000_000))

    first, second = written(parts, tmp_path / "one"), written(parts, tmp_path / "other" / "place", otherwise)
    assert first.archive_sha256 == second.archive_sha256


def test_the_time_is_that_of_the_first_bundle_with_these_files(parts: BundleInputs, tmp_path: Path) -> None:
    hashes: list[str] = []

    def created(sha256: str) -> int:
        hashes.append(sha256)
        return 1_700_000_000

    result = written(parts, tmp_path / "out", created=created)
    assert result.manifest.created == 1_700_000_000
    two = tmp_path / "two"
    two.mkdir()
    two_files(two)
    assert hashes == [sha256_of_folder(two)], "the manifest is not part of the hash"


def test_what_fill_raises_leaves_no_file(parts: BundleInputs, tmp_path: Path) -> None:
    written(parts, tmp_path / "out")
    before = sha256_of_folder(tmp_path)

    def broken(folder: Path) -> None:
        two_files(folder)
        raise BadInput("no", hint="none", code="TP0000")

    with raises(BadInput, "TP0000"):
        written(parts, tmp_path / "out", broken)
    assert sha256_of_folder(tmp_path) == before


@pytest.fixture(scope="module")
def packed(parts: BundleInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(parts, tmp_path_factory.mktemp("packed") / "out").folder


@pytest.fixture
def out(packed: Path, tmp_path: Path) -> Path:
    """A copy of a bundle with its archive."""
    shutil.copyfile(archive_of(packed), tmp_path / "out.tar")
    return Path(shutil.copytree(packed, tmp_path / "out"))


def test_an_unchanged_bundle_may_be_replaced(out: Path, tmp_path: Path) -> None:
    require_replaceable(out, force=False)
    require_replaceable(tmp_path / "new", force=False)
    (tmp_path / "empty").mkdir()
    require_replaceable(tmp_path / "empty", force=False)


def test_a_changed_bundle_is_replaced_only_with_force(out: Path) -> None:
    (out / "build").write_text("#!/bin/sh\necho mine\n")
    with raises(BadInput, "TP6006", "/build was changed") as caught:
        require_replaceable(out, force=False)
    assert caught.value.hint == "replace it with --force"
    require_replaceable(out, force=True)


def test_built_engines_are_replaced_only_with_force(out: Path) -> None:
    (out / "built" / "pycache-0").mkdir(parents=True)
    require_replaceable(out, force=False)
    (out / "built" / "fp16.engine").write_bytes(b"hours of work")
    with raises(BadInput, "TP6007", "/built"):
        require_replaceable(out, force=False)
    require_replaceable(out, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_files_of_the_user_is_not_replaced(force: bool, out: Path) -> None:
    (out / "notes.txt").write_text("mine")
    with raises(BadInput, "TP6005", "notes.txt"):
        require_replaceable(out, force)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_a_foreign_manifest_is_not_replaced(force: bool, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"name": "a web page", "icons": []}')
    with raises(BadInput, "TP6004", "manifest"):
        require_replaceable(tmp_path, force)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("folder", "TP6003"),
        ("file", "TP6002"),
        ("link", "TP6002"),
        ("archive", "TP6001"),
        ("linked archive", "TP6001"),
    ],
)
def test_other_files_and_folders_are_not_replaced(kind: str, code: str, force: bool, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    if kind == "folder":
        shutil.copytree(mine, out)
    elif kind == "file":
        out.write_text("years")
    elif kind == "link":
        out.symlink_to(mine)
    elif kind == "archive":
        with tarfile.open(tmp_path / "out.tar", "w") as backup:
            backup.add(mine, "photos")
    else:
        (tmp_path / "out.tar").symlink_to(mine / "thesis.tex")
    with raises(BadInput, code, out.with_suffix(".tar") if "archive" in kind else out) as caught:
        require_replaceable(out, force)
    assert "--out FOLDER" in caught.value.hint
