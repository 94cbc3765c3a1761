"""Makes a run of a classifier file that another program wrote."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.adoption.contract_options import ContractOptions, size_option_of
from trtpoets.adoption.decide import UNDECIDED, Decision
from trtpoets.adoption.facts import Fact
from trtpoets.adoption.foreign import AGAIN
from trtpoets.adoption.known import size_from_facts
from trtpoets.adoption.label_match import match_folders
from trtpoets.adoption.labels import labels_for
from trtpoets.adoption.loaded import LoadedModel, load_foreign
from trtpoets.adoption.producers import producer_name
from trtpoets.adoption.search import facts_about, find_contract
from trtpoets.adoption.standard_labels import standard_labels
from trtpoets.convert.onnx_export import ExportConfig
from trtpoets.core.errors import BadInput
from trtpoets.core.files import atomic_folder, temporary_folder, write_bytes
from trtpoets.core.original import Answers, Evidence, Original, Source
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.reading import read_bytes
from trtpoets.core.serialization import to_json
from trtpoets.core.types import FULL_WHITE, Classifier, ModelSpec, Photo, Precision, Split, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_details, read_card
from trtpoets.pipeline.adopt_hints import completed_hints
from trtpoets.pipeline.artefacts import ENGINES, classifier_identity, classifier_in, dataset_in, has_dataset, writing
from trtpoets.pipeline.card_details import ClassifierDetails, ExportDetails
from trtpoets.pipeline.export import Compared, compared_export, parity_photos, seal_export
from trtpoets.pipeline.publish import publish, seal_dataset
from trtpoets.pipeline.recorded_commands import adopt_command
from trtpoets.train.classifier import load_classifier
from trtpoets.train.dataset import Dataset, DatasetConfig, dataset_from_folder

if TYPE_CHECKING:
    from trtpoets.adoption.trial import Trial

_VERSION = 1
"""Increase it when the same file and options may give another classifier."""

_ENOUGH = 100
"""With so many photos, those of the test split take no part in the choice of the contract."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdoptConfig:
    """The options of `adopt`.

    `labels` is a file of labels, `contract` what the user says about the preprocessing. `size` is (height, width) of
    the input of a file that accepts any. `allow_code` opens files that contain Python code. `dataset` is how the
    folder of photos is read; by default 40 % of the photos are for tests, since none are for training.
    """

    labels: Path | None = None
    contract: ContractOptions = field(default_factory=ContractOptions)
    size: tuple[int, int] | None = None
    allow_code: bool = False
    dataset: DatasetConfig = field(default_factory=lambda: DatasetConfig(validation_percent=20, test_percent=40))


@dataclass(frozen=True)
class Adoption:
    """An adopted classifier: what was found about its file, and how fp32.onnx compares with it.

    `trial` is None if no photos were tried. `unmatched` are class folders without a label of the classifier.
    """

    spec: ModelSpec
    compared: Compared
    trial: Trial | None = None
    warnings: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()


def adopt(
    model: Path | str,
    name: str,
    *,
    photos: Path | str | None = None,
    config: AdoptConfig | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> Adoption:
    """Make a run of a classifier file of another program: ONNX, TFLite, Keras, SavedModel or frozen TensorFlow graph.

    Determines the labels and how the file expects its photos, from the graph, metadata, the producer and, with labelled
    `photos`, by trying every plausible way. Writes the classifier, model.json with the evidence, and fp32.onnx, whose
    scores are compared with those of the file in its own framework.

    Raises BadArtefact if the file is not a classifier that can be adopted, BadInput with the candidates if the
    preprocessing is not certain, and ConversionFailed if the scores differ.
    """
    config = config or AdoptConfig()
    path, folder = user_path(model), None if photos is None else user_path(photos)
    space = Workspace(Path(engines), name)
    with writing(space), completed_hints(space, path, photos, config, force=force):
        loaded = load_foreign(path, allow_code=config.allow_code)
        foreign = loaded.model
        facts = facts_about(loaded)
        size = _size(loaded, facts, config)
        labels, about_labels = labels_for(foreign, config.labels)
        dataset: Dataset | None = None
        unmatched: tuple[str, ...] = ()
        if folder is not None:
            dataset = dataset_from_folder(folder, config.dataset, progress, ranked=True)
            if about_labels.source is Source.ASSUMED:
                labels, about_labels = standard_labels(dataset.labels, len(labels)) or (labels, about_labels)
            dataset, unmatched = _with_labels(dataset, labels, about_labels)
        _require_labels_of_logit(loaded, about_labels)
        about = [list(labels), to_json(facts), list(size), dataset and dataset.hash, to_json(config)]
        key = hash_of([_VERSION, foreign.sha256, about, name])
        command = adopt_command(space, path, photos, config)
        known = None if force else _known(space, key)
        if known is not None:
            if dataset is not None:
                seal_dataset(space, dataset, command)
            return replace(known, unmatched=unmatched)
        _require_free(space, foreign.sha256, force)
        tried = _photos_to_try(dataset, labels)
        try:
            search = find_contract(loaded, facts, size, tried, labels, config.contract, progress)
        except BadInput as error:
            can_be_kept = error.code in UNDECIDED and not force and config == AdoptConfig()
            stated = _stated_before(space, foreign.sha256, dataset) if can_be_kept else None
            if stated is None:
                raise
            _log.warning("the preprocessing is not certain: the one that was stated for this run before is kept")
            return replace(stated, unmatched=unmatched)
        decision = search.decision
        _require_labels_confirmed(about_labels, search.trial, decision)
        for warning in decision.warnings:
            _log.warning("%s", warning)
        white = FULL_WHITE if dataset is None else dataset.white
        spec = _spec(name, loaded, size, labels, decision, about_labels, white)
        with temporary_folder() as scratch:
            candidate = loaded.write(spec, scratch / "classifier")
            exported, compared = compared_export(
                candidate, scratch / "fp32.onnx", parity_photos(dataset), ExportConfig(), progress
            )
            publish(
                space,
                key,
                lambda: _copied(candidate, space.classifier),
                dataset=dataset,
                command=command,
                trial=search.trial,
            )
            write_bytes(space.onnx(Precision.FP32), read_bytes(exported.path))
        seal_export(space, ExportConfig().opset, compared)
        return Adoption(spec, compared, search.trial, decision.warnings, unmatched)


def _size(loaded: LoadedModel, facts: Sequence[Fact], config: AdoptConfig) -> tuple[int, int]:
    """Return the height and width of the input. Raises BadInput if the file and the option contradict each other."""
    model = loaded.model
    if model.height and model.width:
        sides = model.height, model.width
        if config.size not in (None, sides):
            raise BadInput(
                f"{model.path} takes photos of {model.height} x {model.width} pixels, not of --size "
                f"{size_option_of(config.size)}",
                hint=f"{AGAIN} --size {size_option_of(sides)}",
                code="TP8050",
            )
        return sides
    if config.size is not None:
        return config.size
    size = size_from_facts(tuple(facts))
    if size is None:
        raise BadInput(
            f"{model.path} accepts photos of any size, so the size that it was trained with is not known",
            hint=f"give the height and width in pixels: {AGAIN} --size 224; or --size 48x192 for 48 rows of 192 pixels",
            code="TP8051",
        )
    return size


def _with_labels(dataset: Dataset, labels: Sequence[str], about: Evidence) -> tuple[Dataset, tuple[str, ...]]:
    """Return the dataset with the classifier's labels in place of the class folders' names, and unmatched folders.

    Raises BadInput if no folder has a label, unless the labels themselves are made up.
    """
    try:
        match = match_folders(dataset.labels, labels)
    except BadInput:
        if about.source is not Source.ASSUMED:
            raise
        _log.warning(
            "the classifier has no labels, so it is not known which photos it should call what: the photos serve for "
            "calibration and for comparisons with the original, not for accuracy; --labels FILE names the classes"
        )
        return dataset, dataset.labels
    for warning in match.warnings:
        _log.warning("%s", warning)
    for sentence in match.renamed:
        _log.info("%s", sentence)
    renamed: Mapping[str, str] = {name: match.labels.get(name, name) for name in dataset.labels}
    photos = dataset.photos.with_labels(renamed)
    return replace(dataset, labels=tuple(sorted(set(renamed.values()))), photos=photos), tuple(match.unmatched)


def _photos_to_try(dataset: Dataset | None, labels: Sequence[str]) -> Sequence[Photo]:
    """Return the photos of known classes for the trial: without the test photos if there are enough others."""
    if dataset is None:
        return ()
    known = dataset.photos.at(np.flatnonzero(dataset.photos.label_indices(labels) >= 0))
    others = known.in_split(Split.TRAIN, Split.VALIDATION)
    return others if len(others) >= _ENOUGH else known


def _require_labels_of_logit(loaded: LoadedModel, about: Evidence) -> None:
    """Raise BadInput for a single number without a sigmoid, unless labels say that it decides between two classes."""
    output = loaded.model.output
    if output.size == 1 and output.answers is Answers.LOGITS and about.source is Source.ASSUMED:
        raise BadInput(
            f"{loaded.model.path} returns one number and does not end in a Sigmoid. It is the logit of the "
            "second of two classes only if two labels are given",
            hint="name both classes in a file, one per line, the second is that of positive numbers: "
            f"{AGAIN} --labels FILE",
            code="TP8203",
        )


def _require_labels_confirmed(about: Evidence, trial: Trial | None, decision: Decision) -> None:
    """Raise BadInput if labels were assumed from the folders' names and the answers do not confirm them."""
    if about.source is not Source.ASSUMED or trial is None:
        return
    row = next((row for row in trial.rows if row.contract == decision.contract), trial.best)
    if not trial.is_above_chance(row):
        raise BadInput(
            f"{about.text}, but only {row.count} of {row.photos} photos are classified correctly, no more than by "
            "chance",
            hint=f"name the classes in a file, one per line, in the order of the scores: {AGAIN} --labels FILE",
            code="TP8052",
        )


def _require_free(space: Workspace, sha256: str, force: bool) -> None:
    """Raise BadInput if the run has another classifier, which would be replaced."""
    if force or not card_of(space.classifier).is_file():
        return
    spec = classifier_in(space).spec
    if spec.original is None or spec.original.sha256 != sha256:
        made_of = "trained here" if spec.original is None else f"adopted from {spec.original.file}"
        raise BadInput(
            f"the run {space.name} has a classifier that was {made_of}",
            hint=f"choose another --name, or replace it: {AGAIN} --force",
            code="TP8053",
        )


def _known(space: Workspace, key: str) -> Adoption | None:
    """Return the adoption if the run has exactly this classifier and its fp32.onnx."""
    details = open_details(card_of(space.classifier), ClassifierDetails, key, own=True)
    exported = open_details(card_of(space.onnx(Precision.FP32)), ExportDetails)
    if details is None or exported is None or exported.made_from != classifier_identity(space):
        return None
    spec = load_classifier(space.classifier).spec
    return Adoption(spec, Compared(exported.parity, exported.rounded), details.trial)


def _stated_before(space: Workspace, sha256: str, dataset: Dataset | None) -> Adoption | None:
    """Return the adoption of the same file and photos whose pixel values the user stated, None if there is none.

    `run --model` has no options for them: with this, it continues from an `adopt` that has them.
    """
    card = card_of(space.classifier)
    if dataset is None or not card.is_file() or not has_dataset(space) or dataset_in(space).hash != dataset.hash:
        return None
    original = classifier_in(space).spec.original
    if original is None or original.sha256 != sha256:
        return None
    stated = any((fact.about, fact.source) == ("pixels", Source.OPTION) for fact in original.evidence)
    return _known(space, read_card(card).key) if stated else None


def _spec(
    name: str,
    loaded: LoadedModel,
    size: tuple[int, int],
    labels: tuple[str, ...],
    decision: Decision,
    about_labels: Evidence,
    white: int,
) -> ModelSpec:
    model = loaded.model
    preprocess = replace(decision.contract.preprocess(*size), white=white)
    original = Original(
        format=model.format,
        file=model.path.name,
        sha256=model.sha256,
        producer=producer_name(model),
        input=model.input,
        output=model.output,
        channels=decision.contract.pixels.channels,
        evidence=(*decision.evidence, about_labels),
    )
    return ModelSpec(name, model.path.name, preprocess, labels, model.sha256, original)


def _copied(classifier: Classifier, folder: Path) -> Classifier:
    with atomic_folder(folder) as part:
        shutil.copytree(classifier.folder, part, dirs_exist_ok=True)
    return replace(classifier, folder=folder)
