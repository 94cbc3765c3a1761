"""Readings of photo files: what was read is not read again, unless it may have changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trtpoets.train.folders import readings as module
from trtpoets.train.folders.layout import LabelledFile
from trtpoets.train.folders.photo_files import checked_files
from trtpoets.train.folders.readings import Reading, ReadingCache, identity_of


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    photo = tmp_path / "a.png"
    Image.fromarray(np.full((8, 8, 3), 5, np.uint8)).save(photo)
    return photo


def test_readings_come_back(tmp_path: Path) -> None:
    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(3)]
    cache = ReadingCache(tmp_path / "cache")
    assert cache.of(names) == [None, None, None]
    cache.add(names[:2], [Reading(names[2], 0), Reading(names[0], 65535)])
    again = ReadingCache(tmp_path / "cache").of([names[1], "", names[2], names[0]])
    assert again == [Reading(names[0], 65535), None, None, Reading(names[2], 0)]


def test_a_changed_file_has_another_identity(path: Path) -> None:
    first = identity_of(path)
    assert first == identity_of(path) != ""
    times = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of change can't be set back
    assert identity_of(path) not in (first, "")


def test_files_without_an_identity(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity_of(tmp_path / "gone") == identity_of(tmp_path) == ""
    monkeypatch.setattr(module, "_SETTLED_NS", 10**12)
    assert identity_of(path) == ""  # it changed a moment ago


def test_only_files_without_a_reading_are_read(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [LabelledFile(path, "a"), LabelledFile(tmp_path / "gone.png", "a")]
    cache = ReadingCache(tmp_path / "cache")
    first = checked_files(files, readings=cache)
    assert first == checked_files(files)
    monkeypatch.setattr("trtpoets.train.folders.photo_files.photo_bytes", None)
    assert checked_files(files, readings=ReadingCache(tmp_path / "cache")) == first
