"""What is there to be judged now, and whether it is what was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.spec import Classifier, Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.judge.bench_config import BenchConfig
from trtpoets.pipeline.stages import (
    classifier_in,
    classifier_key,
    dataset_in,
    engines_in,
    has_dataset,
    onnx_models_in,
    tflite_models_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trtpoets.core.spec import Photo
    from trtpoets.device.runners import Runnable

_EVALUATION, _BENCHMARK = 3, 2
"""Raise one when the same artefacts may give another evaluation, or another benchmark."""


def artefacts_in(space: Workspace) -> tuple[Runnable, ...]:
    """Everything that can answer, the classifier first, as it is the baseline."""
    return (classifier_in(space), *onnx_models_in(space), *tflite_models_in(space), *engines_in(space))


def photos_to_judge(space: Workspace) -> tuple[Photo, ...]:
    """The photos that everything is judged on. Raises BadInput where the run has none."""
    if not has_dataset(space):
        raise BadInput(
            f"{space.name} has no photos to be judged on",
            hint=f"give it some: {space.command('pretrained', 'BACKBONE', '--photos', 'FOLDER')}",
        )
    return dataset_in(space).in_split(Split.TEST)


def identities(space: Workspace, artefacts: Sequence[Runnable]) -> list[str]:
    """What each artefact is, by content. Reads every file."""
    return [
        classifier_key(space) if isinstance(artefact, Classifier) else sha256_of_file(artefact.path)
        for artefact in artefacts
    ]


def evaluation_key(identities: Sequence[str], photos: Sequence[Photo]) -> str:
    """What an evaluation was made from: the key of its card."""
    return hash_of([_EVALUATION, list(identities), [photo.sha256 for photo in photos]])


def benchmark_key(identities: Sequence[str], photos: Sequence[Photo], config: BenchConfig) -> str:
    """What a benchmark was made from: the key of its card."""
    return hash_of([_BENCHMARK, list(identities), [photo.sha256 for photo in photos], vars(config)])


def require_fresh(space: Workspace, precisions: Iterable[Precision]) -> None:
    """Raise MissingArtefact where an ONNX file was made from a classifier or an fp32.onnx that is no longer there.

    Files of a trtpoets that did not write down what they were made from pass.
    """
    sources = {precision: sha256_of_file(space.onnx(Precision.FP32)) for precision in (Precision.FP16, Precision.INT8)}
    sources[Precision.FP32] = classifier_key(space)
    for precision in precisions:
        card = open_card(card_of(space.onnx(precision))) or {}
        if card.get("made_from") not in (None, sources[precision]):
            stage = "export" if precision is Precision.FP32 else "quantize"
            raise MissingArtefact(
                f"{space.onnx(precision)} is of an earlier training or export", hint=space.command(stage)
            )


def require_current(space: Workspace) -> None:
    """Raise MissingArtefact unless everything that is there now was evaluated and benched as it is now."""
    known, photos = identities(space, artefacts_in(space)), photos_to_judge(space)
    found = open_card(space.benchmark)
    keys = {
        "evaluated": (space.evaluation, evaluation_key(known, photos), "evaluate"),
        "benched": (space.benchmark, benchmark_key(known, photos, _config_of(found)) if found else None, "bench"),
    }
    for done, (card, key, command) in keys.items():
        if key is None or open_card(card, key) is None:
            stale = f"{card.name} is not of the files that are there now"
            raise MissingArtefact(
                stale if card.is_file() else f"{space.name} was not {done} yet", hint=space.command(command)
            )


def _config_of(benchmark: Mapping[str, Any]) -> BenchConfig:
    """The configuration that a benchmark was made with, as far as this version knows it."""
    known = {word: value for word, value in benchmark["config"].items() if word in BenchConfig.__dataclass_fields__}
    return BenchConfig(**{**known, "batches": tuple(known["batches"])})
