"""Divides the photos of a folder into shards, for many machines, and finds out which shards are complete.

The shard of a photo follows from its path in the folder, so that every machine knows its shard without asking another,
and photos that are added later do not change the shards of the others. What a shard computes is stored by the content
of each photo: a shard can be killed and started again, and two machines may compute the same shard.

A shard also writes a record of what it was started for. Whether it is complete is decided by the stored features; the
records explain why it is not.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets import __version__
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import read_json, write_json
from trtpoets.core.formatting import many
from trtpoets.core.optional import installed
from trtpoets.core.paths import cache_root
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.train.bottlenecks import Extractor
    from trtpoets.train.dataset import Dataset
    from trtpoets.train.feature_cache import FeatureCache

_log = logging.getLogger(__name__)

_INDEX = re.compile(r"(auto|[0-9]{1,9})/([0-9]{1,9})")

_AUTO = (("SLURM_ARRAY_TASK_ID", 0), ("JOB_COMPLETION_INDEX", 1))
"""Environment variables with the index of a task, and what is added to it: Kubernetes counts from 0."""

_NAMED = 10
"""The largest number of incomplete shards that a warning names."""


@dataclass(frozen=True)
class Shard:
    """Shard `number`, from 1, of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, path: str) -> bool:
        """Return whether the photo at this path, relative to the photo folder, belongs to this shard."""
        return shard_number(path, self.count) == self.number


@dataclass(frozen=True)
class ShardRecord:
    """What a shard was started for. `listing` is a hash of the paths of all `files`, `key` that of the extractor."""

    folder: str
    backbone: str
    key: str
    listing: str
    files: int
    number: int
    count: int
    photos: int
    trtpoets: str
    onnxruntime: str
    finished: bool = False


@dataclass(frozen=True)
class ShardState:
    """How many photos of a shard have no features yet, and what is known about the reason."""

    number: int
    count: int
    photos: int
    missing: int
    reason: str = ""


def shard_number(path: str, count: int) -> int:
    """Return the number, from 1 to `count`, of the shard of a photo, by its path relative to the photo folder."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def shard_from_option(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that `--shard` names: "3/8", or "auto/8" with the number from Slurm or Kubernetes.

    Raises BadInput.
    """
    match = _INDEX.fullmatch(text)
    if match is None:
        raise BadInput(
            f"the shard must be i/n, for example 3/8, or auto/n, not {text!r}", hint="give --shard 1/8", code="TP8310"
        )
    count = int(match[2])
    number = _number_from(environment, count) if match[1] == "auto" else int(match[1])
    if not 1 <= number <= count:
        raise BadInput(
            f"there is no shard {number} of {count}: "
            + (f"the numbers are 1 to {count}" if count else "there must be at least 1 shard"),
            hint=f"give --shard 1/{max(count, 1)}; for Slurm: sbatch --array=1-{max(count, 1)}",
            code="TP8311",
        )
    return Shard(number, count)


def _number_from(environment: Mapping[str, str], count: int) -> int:
    for name, offset in _AUTO:
        value = environment.get(name, "")
        if value.isdecimal():
            return int(value) + offset
    names = " and ".join(name for name, _ in _AUTO)
    raise BadInput(
        f"--shard auto/{count} needs the number of the task, but {names} are not set",
        hint=f"start it as a Slurm array or an indexed Job of Kubernetes, or give the number, as in --shard 1/{count}",
        code="TP8312",
    )


def started(folder: Path, names: Sequence[str], extractor: Extractor, backbone: str, shard: Shard) -> ShardRecord:
    """Write the record of a shard that starts, and return it. `names` are the paths of all files in `folder`.

    Raises BadInput if other shards of these photos were computed by another version, StorageFailed.
    """
    versions = installed(("onnxruntime",))
    record = ShardRecord(
        folder=str(folder),
        backbone=backbone,
        key=_key(extractor),
        listing=_listing(names),
        files=len(names),
        number=shard.number,
        count=shard.count,
        photos=sum(map(shard.has, names)),
        trtpoets=__version__,
        onnxruntime=versions.get("onnxruntime", ""),
    )
    others = [other for other in records() if other.key == record.key and other.count == record.count]
    for other in others:
        if other.listing == record.listing:
            _require_equal_versions(record, other)
    different = [other for other in others if other.folder == record.folder and other.listing != record.listing]
    if different and all(other.listing != record.listing for other in others):
        _log.warning(
            "shard %d/%d was started when %s had %s instead of %s: start it again, so that it computes the photos that "
            "were added",
            different[0].number,
            different[0].count,
            folder,
            many(different[0].files, "file"),
            f"{record.files:,}",
        )
    _write(record)
    return record


def finished(record: ShardRecord) -> None:
    """Write that a shard is finished. Raises StorageFailed."""
    _write(replace(record, finished=True))


def shard_states(dataset: Dataset, extractor: Extractor, cache: FeatureCache, count: int = 0) -> tuple[ShardState, ...]:
    """Return the state of each of `count` shards of a dataset; 0 is the count of the shards that were started last.

    There are none if no shards of this folder were started.
    """
    known = records()
    if not known and not count:
        return ()
    everything = list(dataset.photos.paths_below(dataset.folder))
    left_out = [os.path.relpath(file.path, dataset.folder) for file in dataset.left_out]
    key, listing = _key(extractor), _listing([*everything, *left_out])
    ours = [record for record in known if record.listing == listing or record.folder == str(dataset.folder)]
    if not count:
        started_last = next((record for record in ours if record.key == key), ours[0] if ours else None)
        if started_last is None:
            return ()
        count = started_last.count
    stored = cache.has(dataset.photos.sha256s)
    numbers = np.array([shard_number(name, count) for name in everything])
    photos, missing = (np.bincount(own, minlength=count + 1) for own in (numbers, numbers[~stored]))
    return tuple(
        ShardState(
            number,
            count,
            int(photos[number]),
            int(missing[number]),
            _reason([record for record in ours if (record.number, record.count) == (number, count)], key, listing)
            if missing[number]
            else "",
        )
        for number in range(1, count + 1)
    )


def warn_of_incomplete(dataset: Dataset, extractor: Extractor, cache: FeatureCache) -> None:
    """Log which shards of a dataset are not complete, if shards were started; their photos are computed here then."""
    lacking = [state for state in shard_states(dataset, extractor, cache) if state.missing]
    for state in lacking[:_NAMED]:
        _log.warning("%s", state_text(state))
    if lacking:
        _log.warning(
            "%d of %d shards %s not complete; what is missing is computed here now: %s",
            len(lacking),
            lacking[0].count,
            _are(len(lacking)),
            many(sum(state.missing for state in lacking), "photo"),
        )


def require_complete(states: Sequence[ShardState], without_shard: str) -> None:
    """Raise MissingArtefact, which names the shards, unless all of them are complete.

    `without_shard` is the command that computes the bottlenecks of all of them.
    """
    lacking = [state for state in states if state.missing]
    if lacking:
        first = lacking[0]
        raise MissingArtefact(
            f"{len(lacking)} of {first.count} shards {_are(len(lacking))} not complete",
            hint=f"{'start them again, the first' if len(lacking) > 1 else 'start it again'} with: {without_shard} "
            f"--shard {first.number}/{first.count}",
            code="TP8313",
            details=[state_text(state) for state in lacking],
        )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def state_text(state: ShardState) -> str:
    """Return the state of an incomplete shard as a sentence without its full stop."""
    reason = f" ({state.reason})" if state.reason else ""
    return f"shard {state.number}/{state.count} lacks {state.missing:,} of {many(state.photos, 'photo')}{reason}"


def records() -> list[ShardRecord]:
    """Return the records of all shards in the cache, the last written first; damaged ones are ignored."""
    dated = []
    for path in _record_files():
        try:
            dated.append((path.stat().st_mtime, from_json(ShardRecord, read_json(path), str(path))))
        except (OSError, BadArtefact, BadInput) as error:
            _log.debug("%s is ignored: %s", path, error)
    return [record for _, record in sorted(dated, key=lambda item: -item[0])]


def delete_records(older_than_days: float = 0) -> None:
    """Delete the records that are older than so many days; 0: all."""
    limit = time.time() - older_than_days * 86400
    for path in _record_files():
        if not older_than_days or path.stat().st_mtime <= limit:
            path.unlink(missing_ok=True)


def _require_equal_versions(record: ShardRecord, other: ShardRecord) -> None:
    for package in ("trtpoets", "onnxruntime"):
        mine, theirs = getattr(record, package), getattr(other, package)
        if mine != theirs:
            raise BadInput(
                f"shard {other.number}/{other.count} was computed with {package} {theirs}, but this machine has "
                f"{mine or 'none'}; all shards need the same version, so that their features are comparable",
                hint=f"pip install {package}=={theirs}; or delete what is cached and start all shards again: "
                "trtpoets cache --prune",
                code="TP8314",
            )


def _reason(own: Sequence[ShardRecord], key: str, listing: str) -> str:
    """Return why a shard is not complete, from its records, the last written first."""
    same_key = [record for record in own if record.key == key]
    if not own:
        return "it was not started"
    if not same_key:
        return f"it was started for {own[0].backbone}"
    record = same_key[0]
    if record.listing != listing:
        return f"it was started for {many(record.files, 'file')}, some of them others"
    return "" if record.finished else "it was started, but has not finished"


def _record_files() -> list[Path]:
    folder = cache_root() / "shards"
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _write(record: ShardRecord) -> None:
    identity = hash_of([record.folder, record.key, record.listing, record.number, record.count])
    write_json(cache_root() / "shards" / f"{identity[:32]}.json", to_json(record))


def _key(extractor: Extractor) -> str:
    return f"{extractor.key}:{extractor.preprocess.hash}"


def _listing(names: Sequence[str]) -> str:
    return hash_of(sorted(name.encode("utf-8", "surrogateescape").hex() for name in names))
