"""Atomic writing of files and folders, JSON files, hashes and locks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, Busy, MissingArtefact, StorageFailed
from trtpoets.core.files import (
    atomic_file,
    atomic_folder,
    locked,
    read_json,
    sha256_of_file,
    sha256_of_folder,
    sweep_parts,
    write_json,
    write_text,
)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_new_file_has_the_mode_that_the_user_expects(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_folder(path) as part:
        (part / "old").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(path) as part:
        (part / "new").write_text("2")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["old"]
    with atomic_folder(path) as part:
        (part / "new").write_text("2")
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_killed_writer_leaves_the_old_file_and_its_part_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = f"""
from pathlib import Path
from trtpoets.core.files import atomic_file
with atomic_file(Path({str(path)!r})) as part:
    part.write_text("half")
    print("ready", flush=True)
    import time; time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    sweep_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_may_not_be_written_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with raises(StorageFailed, "TP1085", "write", "a.txt", "Permission denied") as caught:
        write_text(tmp_path / "a.txt", "")
    assert caught.value.hint == "choose a folder that you may write to with --engines DIR"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    with (
        raises(StorageFailed, "TP1085", "No space left on device") as caught,
        atomic_file(tmp_path / "a"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x")
    assert "MiB are free there" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("")
    with raises(StorageFailed, "TP1085", tmp_path / "engines", "Not a directory"):
        write_text(tmp_path / "engines" / "flowers" / "a.json", "")


def test_json_is_read_or_refused_with_a_reason(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1, 2.5, None], "name\udcff": "not UTF-8"})
    assert read_json(tmp_path / "a.json") == {"ü": [1, 2.5, None], "name\udcff": "not UTF-8"}
    with raises(MissingArtefact, "TP1012"):
        read_json(tmp_path / "b.json")
    (tmp_path / "b.json").write_text('{"a": ')
    with raises(BadArtefact, "TP1013"):
        read_json(tmp_path / "b.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert "loss" not in read_json(tmp_path / "a.json")


def test_a_folders_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "x", "1")
    first = sha256_of_folder(tmp_path)
    assert sha256_of_file(tmp_path / "a" / "x").startswith("6b86b273ff34fce1")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    second = sha256_of_folder(tmp_path)
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, second, sha256_of_folder(tmp_path)}) == 3


def test_a_lock_is_refused_at_once_and_dies_with_its_holder(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from trtpoets.core.files import locked
with locked(Path({str(tmp_path / "lock")!r}), "flowers"):
    print("ready", flush=True)
    import time; time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        before = time.monotonic()
        with raises(Busy, "TP1023", child.pid, "flowers"):
            locked(tmp_path / "lock", "flowers").__enter__()
        assert time.monotonic() - before < 5
        child.send_signal(signal.SIGKILL)
    with locked(tmp_path / "lock", "flowers"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_lock_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(handle: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with raises(StorageFailed, "TP1085", "No space left on device"):
            locked(tmp_path / "lock", "flowers").__enter__()
    with locked(tmp_path / "lock", "flowers"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
