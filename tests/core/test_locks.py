"""Locks between processes."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from tests.fakes.failing_disk import failing
from tests.support.errors import raises
from trtpoets.core import locks
from trtpoets.core.errors import Busy, StorageFailed
from trtpoets.core.locks import locked, trying, waiting_for
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import writing


def test_without_locks_no_temporary_files_are_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another process may be writing a temporary file."""
    space = Workspace(tmp_path, "flowers")
    theirs = space.folder / ".a.json.part-12345678"
    theirs.parent.mkdir()
    theirs.write_text("half")
    locks._warned.clear()
    with failing("flock", errno.ENOLCK, tmp_path):
        for _ in range(2):
            with writing(space):
                assert theirs.is_file()
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 1 and "make sure that no other trtpoets process uses flowers meanwhile" in messages[0]
    with writing(space):
        assert not theirs.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_a_lock_that_is_held_elsewhere(number: int, tmp_path: Path) -> None:
    with failing("flock", number, tmp_path), raises(Busy, "TP1023", "flowers"):
        locked(tmp_path / "lock", "flowers").__enter__()


def test_a_lock_is_held_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with locked(path, "flowers") as held:
        assert held
        assert path.read_text() == str(os.getpid())
        refused = raises(Busy, "TP1023", f"process {os.getpid()}", "flowers")
        with refused as caught, locked(path, "flowers", hint="wait"):
            pytest.fail("two hold one lock")
        assert caught.value.hint == "wait"
    with locked(path, "flowers") as again:
        assert again


def test_a_lock_is_released_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyError), waiting_for(tmp_path / "lock", "the cache"):
        raise KeyError
    with locked(tmp_path / "lock", "the cache") as held:
        assert held


def test_a_file_with_another_content_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("a letter")
    for lock in (locked(path, "flowers"), waiting_for(path, "flowers")):
        with raises(StorageFailed, "TP1024"):
            lock.__enter__()
    assert path.read_text() == "a letter"
    path.write_bytes(bytes(8))  # what a crash of the machine may leave
    with locked(path, "flowers"):
        assert path.read_text() == str(os.getpid())


def test_trying_for_a_lock_does_not_wait(tmp_path: Path) -> None:
    with trying(tmp_path / "lock") as first, trying(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with trying(tmp_path / "lock") as again:
        assert again is True
