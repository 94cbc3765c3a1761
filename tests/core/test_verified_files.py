"""A file is hashed and checked once in a command, and again when it changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trtpoets.core import verified_files
from trtpoets.core.files import sha256_of_file
from trtpoets.core.verified_files import checked_once, once, verifying_once


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as unchanged from the moment in which it was written."""
    monkeypatch.setattr(verified_files, "_MOMENT_NS", 0)
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    return path


class Counter:
    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def read(self) -> bytes:
        self.count += 1
        return self.path.read_bytes()


def test_a_file_is_read_once_in_a_block_and_anew_in_the_next(file: Path) -> None:
    counter = Counter(file)
    for count in (1, 2):
        with verifying_once():
            for _ in range(3):
                with verifying_once():
                    assert once("bytes", file, counter.read) == b"abc"
        assert counter.count == count
    assert once("bytes", file, counter.read) == once("bytes", file, counter.read)
    assert counter.count == 4, "outside of a block nothing is kept"


def test_a_file_that_changed_is_read_again(file: Path) -> None:
    with verifying_once():
        before = sha256_of_file(file)
        times = file.stat()
        file.write_bytes(b"abd")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert sha256_of_file(file) != before
        replacement = file.with_name("other")
        replacement.write_bytes(b"abc")
        replacement.replace(file)
        assert sha256_of_file(file) == before


def test_a_file_that_changed_a_moment_ago_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_files, "_MOMENT_NS", 1 << 62)
    counter = Counter(file)
    with verifying_once():
        for _ in range(2):
            once("bytes", file, counter.read)
    assert counter.count == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(file: Path) -> None:
    def changing() -> bytes:
        content = file.read_bytes()
        file.write_bytes(content + b"x")
        return content

    with verifying_once():
        assert once("bytes", file, changing) == b"abc"
        assert once("bytes", file, file.read_bytes) == b"abcx"
        checked: list[bytes] = []
        assert checked_once("check", file, changing, checked.append) == b"abcx"
        assert checked_once("check", file, file.read_bytes, checked.append) == b"abcxx"
        assert checked_once("check", file, file.read_bytes, checked.append) == b"abcxx"
    assert checked == [b"abcx", b"abcxx"]


def test_a_missing_file_and_a_failed_check_are_raised_each_time(file: Path) -> None:
    def refuse(_: bytes) -> None:
        raise ValueError("damaged")

    with verifying_once():
        for _ in range(2):
            with pytest.raises(ValueError, match="damaged"):
                checked_once("check", file, file.read_bytes, refuse)
            with pytest.raises(FileNotFoundError):
                sha256_of_file(file.with_name("none"))
