"""What is there to be judged now, and whether it is what was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.convert.int8.calibration import Ranges
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.types import Classifier, Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, open_details
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.pipeline.artefacts import classifier_identity, classifier_in, classifier_key, dataset_in, has_dataset
from trtpoets.pipeline.lineage import onnx_in, opened
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.core.types import Photo
    from trtpoets.device.runners import Runnable

_EVALUATION, _BENCHMARK = 4, 3
"""Raise one when the same artefacts may give another evaluation, or another benchmark."""


def artefacts_in(space: Workspace) -> tuple[Runnable, ...]:
    """Everything that can answer, the classifier first, as it is the baseline."""
    found = opened(space)
    return (classifier_in(space), *found.onnx, *found.tflite, *found.engines)


def photos_to_judge(space: Workspace) -> tuple[Photo, ...]:
    """The photos that everything is judged on. Raises BadInput where the run has none."""
    if not has_dataset(space):
        raise BadInput(
            f"{space.name} has no photos to be judged on",
            hint=f"give it some: {space.command('pretrained', 'BACKBONE', '--photos', 'FOLDER')}",
            code="TP8033",
        )
    return dataset_in(space).in_split(Split.TEST)


def groups_to_judge(space: Workspace, photos: Sequence[Photo]) -> tuple[int, ...] | None:
    """The independent group of each of `photos`; None where each is a group of its own."""
    groups = groups_of(photos, dataset_in(space) if has_dataset(space) else None)
    return groups if len(set(groups)) < len(groups) else None


def identities(space: Workspace, artefacts: Sequence[Runnable]) -> list[str]:
    """What each artefact is, by content. Reads every file."""
    return [
        classifier_identity(space) if isinstance(artefact, Classifier) else sha256_of_file(artefact.path)
        for artefact in artefacts
    ]


def evaluation_key(identities: Sequence[str], photos: Sequence[Photo], groups: Sequence[int] | None = None) -> str:
    """What an evaluation was made from: the key of its card. `groups` is what `groups_to_judge` gives."""
    return hash_of([_EVALUATION, list(identities), [photo.sha256 for photo in photos], groups and list(groups)])


def benchmark_key(identities: Sequence[str], photos: Sequence[Photo], config: BenchConfig) -> str:
    """What a benchmark was made from: the key of its card."""
    return hash_of([_BENCHMARK, list(identities), [photo.sha256 for photo in photos], vars(config)])


def recorded(identities: Sequence[str], photos: Sequence[Photo]) -> dict[str, Any]:
    """What an evaluation was made from, for its details: read back by `evaluation_now`.

    The sha256 are those of the bytes that were decoded, in the order of the photos: reading verifies them.
    """
    return {
        "version": _EVALUATION,
        "artefacts": list(identities),
        "photos": _photos_hash(photos),
        "photo_sha256": [photo.sha256 for photo in photos],
    }


def evaluation_now(space: Workspace, known: Sequence[str]) -> Mapping[str, Any] | None:
    """The evaluation, where all that it judged is still there as it was. `known` is what `identities` gives."""
    found = open_card(space.evaluation)
    if found is None or not has_dataset(space):
        return None
    judged = found.get("judged") or {}
    if judged.get("version") != _EVALUATION:
        return None
    same = set(judged.get("artefacts", [None])) <= set(known)
    return found if same and judged["photos"] == _photos_hash(photos_to_judge(space)) else None


def benchmark_now(space: Workspace, known: Sequence[str]) -> Mapping[str, Any] | None:
    """The benchmark, where all that it measured is still there as it was. `known` is what `identities` gives."""
    found = open_card(space.benchmark)
    if found is None or "artefacts" not in found:
        return None
    return _without_old_bounds(found) if set(found["artefacts"].values()) <= set(known) else None


def _without_old_bounds(benchmark: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bounds of older versions took inferences as independent, and are none."""
    rows = [row if "independent_count" in row else {**row, "p99_bound_ms": None} for row in benchmark["measurements"]]
    return {**benchmark, "measurements": rows}


def train_benchmark_now(space: Workspace) -> Mapping[str, Any] | None:
    """What `bench --train` measured, where it was of the classifier that is there now."""
    found = open_card(space.train_benchmark)
    return None if found is None else open_card(space.train_benchmark, train_benchmark_key(space, found["config"]))


def train_benchmark_key(space: Workspace, config: Mapping[str, Any]) -> str:
    """What `bench --train` was made from: the key of its card."""
    return hash_of([classifier_key(space), dict(config)])


def int8_ranges(space: Workspace) -> Ranges | None:
    """The ranges that int8.onnx was written with; None where either is not there. Raises MissingArtefact when stale."""
    if not space.onnx(Precision.INT8).is_file():
        return None
    onnx_in(space, Precision.INT8)
    card, ranges = open_card(card_of(space.onnx(Precision.INT8))), open_details(space.ranges, Ranges)
    if card is None or ranges is None:
        return None
    return ranges if (card.get("calibration") or {}).get("hash") == ranges.hash else None


def _photos_hash(photos: Sequence[Photo]) -> str:
    return hash_of([[photo.sha256, photo.label] for photo in photos])


def require_current(space: Workspace) -> None:
    """Raise MissingArtefact unless everything that is there now was evaluated and benched as it is now."""
    known, photos = identities(space, artefacts_in(space)), photos_to_judge(space)
    found = open_card(space.benchmark)
    keys = {
        "evaluated": (space.evaluation, evaluation_key(known, photos, groups_to_judge(space, photos)), "evaluate"),
        "benched": (space.benchmark, benchmark_key(known, photos, _config_of(found)) if found else None, "bench"),
    }
    for done, (card, key, command) in keys.items():
        if key is None or open_card(card, key) is None:
            stale = f"{card.name} is not of the files that are there now"
            raise MissingArtefact(
                stale if card.is_file() else f"{space.name} was not {done} yet",
                hint=space.command(command),
                code="TP8034",
            )


def _config_of(benchmark: Mapping[str, Any]) -> BenchConfig:
    """The configuration that a benchmark was made with, as far as this version knows it."""
    known = {word: value for word, value in benchmark["config"].items() if word in BenchConfig.__dataclass_fields__}
    return BenchConfig(**{**known, "batches": tuple(known["batches"])})
