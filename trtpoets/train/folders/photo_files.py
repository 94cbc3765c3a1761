"""Reads, hashes and decodes labelled files once, to find those that are usable photos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadPhoto
from trtpoets.core.images import check_photo, photo_bytes, usable_cores
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import map_ahead
from trtpoets.train.folders.readings import Reading, ReadingCache, identity_of

if TYPE_CHECKING:
    from trtpoets.core.types import Split
    from trtpoets.train.folders.layout import LabelledFile


_STORED = 500
"""Number of readings that are stored at a time."""


@dataclass(frozen=True)
class CheckedFile:
    """A file of a class: the sha256 of its bytes, or the reason why it cannot be used, and a remedy.

    `levels` is the value of white that its 16-bit samples suggest, 0 for 8-bit samples. `split` is the split that the
    folder gives it, if any.
    """

    path: Path
    label: str
    sha256: str
    reason: str = ""
    remedy: str = ""
    levels: int = 0
    split: Split | None = None


BeforeReading = Callable[[Sequence[Path]], None]
"""A function that is called with the files that have to be read, before the first one is."""


def unchecked(files: Sequence[Path]) -> None:
    """Check nothing before `files` are read."""


def checked_files(
    files: Sequence[LabelledFile],
    progress: Progress = silent,
    readings: ReadingCache | None = None,
    before_reading: BeforeReading = unchecked,
) -> list[CheckedFile]:
    """Read, hash and decode every file once, in threads; return the results in the order of `files`.

    With `readings`, a file is read only if its reading is not known; those of usable files are added to them.
    `before_reading` is called first if any file has to be read.
    """
    threads = usable_cores()
    identities = [""] * len(files)
    known: list[Reading | None] = [None] * len(files)
    if readings is not None:
        identities = list(map_ahead(lambda file: identity_of(file.path), files, threads, 4 * threads))
        known = readings.of(identities)
    unread = [file.path for file, reading in zip(files, known, strict=True) if reading is None]
    if unread:
        before_reading(unread)
    checked: list[CheckedFile] = []
    added: list[int] = []

    def result_of(number: int) -> CheckedFile:
        file, reading = files[number], known[number]
        if reading is not None:
            return CheckedFile(file.path, file.label, reading.sha256, levels=reading.levels, split=file.split)
        return _checked(file)

    def store() -> None:
        if readings is not None and added:
            results = [Reading(checked[number].sha256, checked[number].levels) for number in added]
            readings.add([identities[number] for number in added], results)
            added.clear()

    try:
        with closing(map_ahead(result_of, range(len(files)), threads, 4 * threads)) as results:
            for number, result in enumerate(results):
                checked.append(result)
                if identities[number] and known[number] is None and not result.reason:
                    added.append(number)
                    if len(added) >= _STORED:
                        store()
                progress("photos", len(checked), len(files))
    finally:
        store()
    return checked


def _checked(file: LabelledFile) -> CheckedFile:
    return replace(_check(file.label, file.path), split=file.split)


def _check(label: str, path: Path) -> CheckedFile:
    if not path.is_file():
        reason = "is a broken link" if path.is_symlink() else "is not a regular file"
        return CheckedFile(path, label, "", reason, "delete it")
    try:
        with photo_bytes(path) as content:
            facts = check_photo(content, str(path))
            sha256 = hashlib.sha256(content).hexdigest()
    except BadPhoto as error:
        return CheckedFile(path, label, "", error.reason_about(path), error.hint)
    return CheckedFile(path, label, sha256, levels=facts.levels)
