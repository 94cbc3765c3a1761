"""Lists the artefacts of a run and checks whether results are up to date."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.convert.int8.calibration import Ranges
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Classifier, Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, key_of, open_card, open_details
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.benchmark_file import benchmark_from_card
from trtpoets.judge.evaluation_file import VERSION, EvaluatedFiles, Evaluations, evaluations_from_json
from trtpoets.judge.race import Race
from trtpoets.judge.sweep import Sweep
from trtpoets.judge.train_benchmark import TrainBenchConfig, TrainBenchmark
from trtpoets.pipeline.artefacts import classifier_identity, classifier_in, classifier_key, dataset_in, has_dataset
from trtpoets.pipeline.lineage import onnx_in, opened
from trtpoets.pipeline.photos import photos_command
from trtpoets.train.near_copies.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.core.types import Photo
    from trtpoets.device.runners import Runnable
    from trtpoets.judge.bench.benchmark import Benchmark

_BENCHMARK = 3
"""Raise it when the same artefacts may give another benchmark."""

_LATER = ("ratio_within", "wall_seconds", "qdq_on_cpu")
"""Options that earlier versions lack: a benchmark without them keeps the key that it had there."""


def artefacts_in(space: Workspace) -> tuple[Runnable, ...]:
    """Return all artefacts that can classify photos; the classifier is first, because it is the baseline."""
    artefacts = opened(space)
    return (classifier_in(space), *artefacts.onnx, *artefacts.tflite, *artefacts.engines)


def photos_to_judge(space: Workspace) -> Sequence[Photo]:
    """Return the test photos, with which everything is evaluated and measured. Raises BadInput without photos."""
    if not has_dataset(space):
        raise BadInput(
            f"{space.name} has no test photos",
            hint=f"add photos: {photos_command(space)}",
            code="TP8033",
        )
    return dataset_in(space).in_split(Split.TEST)


def groups_to_judge(space: Workspace, photos: Sequence[Photo]) -> tuple[int, ...] | None:
    """Return the independent group of each of `photos`; None where each is a group of its own."""
    groups = groups_of(photos, dataset_in(space) if has_dataset(space) else None)
    return groups if len(set(groups)) < len(groups) else None


def identities(space: Workspace, artefacts: Sequence[Runnable]) -> list[str]:
    """Return a hash of the content of each artefact. Reads every file."""
    return [
        classifier_identity(space) if isinstance(artefact, Classifier) else sha256_of_file(artefact.path)
        for artefact in artefacts
    ]


def evaluation_key(identities: Sequence[str], photos: Sequence[Photo], groups: Sequence[int] | None = None) -> str:
    """Return the key of an evaluation's card: a hash of its inputs. `groups` is the result of `groups_to_judge`."""
    return hash_of([VERSION, list(identities), [photo.sha256 for photo in photos], groups and list(groups)])


def benchmark_key(identities: Sequence[str], photos: Sequence[Photo], config: BenchConfig) -> str:
    """Return the key of a benchmark's card: a hash of its inputs."""
    options = {name: value for name, value in vars(config).items() if name not in _LATER or value}
    return hash_of([_BENCHMARK, list(identities), [photo.sha256 for photo in photos], options])


def recorded(identities: Sequence[str], photos: Sequence[Photo]) -> EvaluatedFiles:
    """Return the inputs of an evaluation, for evaluation.json; `evaluation_now` compares them again.

    The SHA-256 of the photos, in their order, are those of the decoded bytes, because reading verifies them.
    """
    return EvaluatedFiles(VERSION, tuple(identities), _photos_hash(photos), tuple(photo.sha256 for photo in photos))


def evaluation_of(space: Workspace, artefacts: Sequence[Runnable]) -> Evaluations | None:
    """Return the evaluation if it includes these files and the classifier as they are now, on the present test photos.

    Files that were added to the run since then, and files that it also includes, do not matter: each file was compared
    with the classifier alone.
    """
    photos = photos_to_judge(space)
    result = evaluation_now(space)
    if result is None or result.judged is None or result.groups != groups_to_judge(space, photos):
        return None
    wanted = identities(space, (classifier_in(space), *artefacts))
    return result if set(wanted) <= set(result.judged.artefacts) else None


def evaluation_now(space: Workspace, hashes: Sequence[str] | None = None) -> Evaluations | None:
    """Return the evaluation if all its input files are unchanged. `hashes` is the result of `identities`.

    Without `hashes` only the photos must be unchanged.
    """
    details = open_card(space.evaluation)
    if details is None or not has_dataset(space) or (details.get("judged") or {}).get("version") != VERSION:
        return None
    result = evaluations_from_json(details, space.evaluation)
    assert result.judged is not None
    same = hashes is None or set(result.judged.artefacts) <= set(hashes)
    if not same or result.judged.photos != _photos_hash(photos_to_judge(space)):
        return None
    other_photos = result.all_photos is not None and result.all_photos.dataset != dataset_in(space).hash
    return replace(result, all_photos=None) if other_photos else result


def benchmark_now(space: Workspace, hashes: Sequence[str]) -> Benchmark | None:
    """Return the benchmark if all files that it was made from are unchanged. `hashes` is the result of `identities`."""
    details = open_card(space.benchmark)
    if details is None or "artefacts" not in details:
        return None
    benchmark = benchmark_from_card(details, space.benchmark)
    return benchmark if set(benchmark.artefacts.values()) <= set(hashes) else None


def train_benchmark_now(space: Workspace) -> TrainBenchmark | None:
    """Return the result of `bench --train` if it was measured with the classifier as it is now."""
    details = open_card(space.train_benchmark)
    if details is None:
        return None
    benchmark = from_json(TrainBenchmark, details, str(space.train_benchmark))
    same = key_of(space.train_benchmark) == train_benchmark_key(space, benchmark.config)
    return benchmark if same else None


def sweep_now(space: Workspace) -> Sweep | None:
    """Return the result of `sweep` if it was made with the photos and the network of the classifier as it is now."""
    details = open_card(space.sweep)
    if details is None or not has_dataset(space):
        return None
    result = from_json(Sweep, details, str(space.sweep))
    spec = classifier_in(space).spec
    same = (result.dataset, result.backbone) == (dataset_in(space).hash, spec.backbone)
    return result if same else None


def race_now(space: Workspace) -> Race | None:
    """Return the race in which the network of the classifier as it is now was chosen, for its photos."""
    details = open_card(space.race)
    if details is None or not has_dataset(space):
        return None
    result, spec = from_json(Race, details, str(space.race)), classifier_in(space).spec
    if spec.backbone != result.winner.backbone or dataset_in(space).hash_of_labels != result.photos:
        return None
    return result


def train_benchmark_key(space: Workspace, config: TrainBenchConfig) -> str:
    """Return the key of the card of train-benchmark.json: a hash of the inputs of `bench --train`."""
    return hash_of([classifier_key(space), to_json(config)])


def int8_ranges(space: Workspace) -> Ranges | None:
    """Return the ranges of int8.onnx; None if either file is missing. Raises MissingArtefact if int8.onnx is stale."""
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
    """Raise MissingArtefact unless the evaluation and the benchmark are up to date with all files of the run."""
    hashes, photos = identities(space, artefacts_in(space)), photos_to_judge(space)
    details = open_card(space.benchmark)
    config = benchmark_from_card(details, space.benchmark).config if details else None
    keys = {
        "evaluated": (space.evaluation, evaluation_key(hashes, photos, groups_to_judge(space, photos)), "evaluate"),
        "benched": (space.benchmark, benchmark_key(hashes, photos, config) if config else None, "bench"),
    }
    for done, (card, key, command) in keys.items():
        if key is None or open_card(card, key) is None:
            stale = f"{card.name} was measured on other files than those of the run now"
            raise MissingArtefact(
                stale if card.is_file() else f"{space.name} was not {done} yet",
                hint=space.command(command),
                code="TP8034",
            )
