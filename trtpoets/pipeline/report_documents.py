"""Collects the documents that the stages of a run wrote, for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from trtpoets.core.network_notes import Parity
from trtpoets.core.runner_id import engine_runner
from trtpoets.core.serialization import from_json
from trtpoets.core.types import Int8Form, Precision, Skipped
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.pipeline.artefacts import ENGINES, classifier_in, dataset_in, has_dataset, training_in
from trtpoets.pipeline.int8_advice import tflite_recommendation
from trtpoets.pipeline.lineage import cpu_form_in, engines_in, onnx_models_in, opened, stale_in
from trtpoets.pipeline.result_status import (
    artefacts_in,
    benchmark_now,
    evaluation_now,
    identities,
    race_now,
    sweep_now,
    train_benchmark_now,
)
from trtpoets.reporting.model import (
    DatasetDocument,
    Documents,
    EngineEntry,
    Fp16Summary,
    Int8Summary,
    Quantisation,
    TfliteSummary,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from trtpoets.core.types import Engine

    Details = Mapping[str, Any] | None

_T = TypeVar("_T")

_RENAMED = {"engine_bytes": "bytes", "engine_sha256": "sha256", "build_seconds": "seconds"}
"""Fields of an engine's card that have another name in report.json."""

_NOT_COPIED = ("flavour", "precision", "spec")
"""Fields of an engine's card that an EngineEntry does not take over: its runner has the precision."""


def report_documents(space: Workspace) -> Documents:
    """Return the documents of a run that are up to date with its files."""
    classifier, built = classifier_in(space), engines_in(space)
    cards = {model.precision: open_card(card_of(model.path)) for model in onnx_models_in(space)}
    hashes = identities(space, artefacts_in(space))
    evaluation, benchmark = evaluation_now(space, hashes), benchmark_now(space, hashes)
    train_benchmark = train_benchmark_now(space)
    sweep, race = sweep_now(space), race_now(space)
    dataset = open_card(space.dataset) if has_dataset(space) and dataset_in(space) is not None else None
    fp32 = cards.get(Precision.FP32) or {}
    stale = [
        Skipped(f"using {path.name}", f"it was measured on other files: {remedy}")
        for path, document, remedy in (
            (space.evaluation, evaluation, space.command("evaluate")),
            (space.benchmark, benchmark, space.command("bench")),
            (space.train_benchmark, train_benchmark, space.command("bench", "--train")),
            (space.sweep, sweep, space.command("sweep", "PHOTOS")),
            (space.race, race, space.command("race", "PHOTOS")),
        )
        if document is None and path.is_file()
    ]
    measured = [entry for document in (evaluation, benchmark) if document for entry in document.skipped]
    skipped = [*(artefact.skipped for artefact in stale_in(space)), *stale, *measured]
    return Documents(
        spec=classifier.spec,
        dataset=None if dataset is None else from_json(DatasetDocument, dataset, str(space.dataset)),
        training=training_in(space),
        train_benchmark=train_benchmark,
        sweep=sweep,
        race=race,
        parity=from_json(Parity, fp32["parity"], _card(space, Precision.FP32)) if fp32.get("parity") else None,
        rounded=from_json(Parity, fp32["rounded"], _card(space, Precision.FP32)) if fp32.get("rounded") else None,
        opset=fp32.get("opset"),
        quantisation=Quantisation(
            _notes(cards.get(Precision.FP16), _card(space, Precision.FP16), Fp16Summary),
            _int8_notes(space, Int8Form.TENSORRT),
            _int8_notes(space, Int8Form.CPU),
            _tflite_notes(space),
        ),
        evaluation=evaluation,
        benchmark=benchmark,
        engines=tuple(map(_engine, built)),
        skipped=tuple(dict.fromkeys(skipped)),
        commands=_commands(space, dataset, cards, built),
        engines_folder=None if space.engines == ENGINES else str(space.engines.absolute()),
    )


def _card(space: Workspace, precision: Precision) -> str:
    return str(card_of(space.onnx(precision)))


def _notes(card: Details, source: str, kind: type[_T], **more: object) -> _T | None:
    """Return the notes on an ONNX file of a reduced precision, with the configuration that it was made with."""
    if not card or "notes" not in card:
        return None
    notes = {**card["notes"], **{name: card.get(name) for name in ("calibration", "config")}, **more}
    return from_json(kind, notes, source)


def _int8_notes(space: Workspace, form: Int8Form) -> Int8Summary | None:
    """Return the notes on the INT8 file of a form; None if there is none that is up to date."""
    usable = cpu_form_in(space) if form is Int8Form.CPU else None
    models = [model for model in onnx_models_in(space) if model.precision is Precision.INT8]
    model = usable if form is Int8Form.CPU else next(iter(models), None)
    if model is None:
        return None
    size = model.path.stat().st_size / space.onnx(Precision.FP32).stat().st_size
    return _notes(open_card(card_of(model.path)), str(card_of(model.path)), Int8Summary, size=size)


def _tflite_notes(space: Workspace) -> TfliteSummary | None:
    """Return the notes on int8.tflite; None if there is none that is up to date."""
    paths = {model.precision: model.path for model in opened(space).tflite}
    if not {Precision.FP32, Precision.INT8} <= paths.keys():
        return None
    size = paths[Precision.INT8].stat().st_size / paths[Precision.FP32].stat().st_size
    return TfliteSummary(size, tflite_recommendation(space))


def _engine(engine: Engine) -> EngineEntry:
    card = {_RENAMED.get(name, name): value for name, value in vars(engine.card).items() if name not in _NOT_COPIED}
    runner = engine_runner(engine.card, engine.card.precision)
    return EngineEntry(runner=runner, flavour=engine.card.flavour.value, file=engine.path.name, **card)


def _commands(
    space: Workspace, dataset: Details, cards: Mapping[Precision, Details], built: Sequence[Engine]
) -> dict[str, tuple[str, ...]]:
    """Return the recorded commands by stage, without duplicates. Older versions recorded none."""
    trained_on = dataset or {}
    reduced = [card for precision, card in cards.items() if precision is not Precision.FP32]
    recorded = {
        "retrain": _recorded([trained_on if "command" in trained_on else open_card(card_of(space.classifier))]),
        "export": _recorded([cards.get(Precision.FP32)]),
        "quantize": _recorded(reduced),
        "build": (engine.card.command for engine in built),
        **{
            stage: _recorded([open_card(path)])
            for stage, path in (
                ("evaluate", space.evaluation),
                ("bench", space.benchmark),
                ("bench train", space.train_benchmark),
                ("sweep", space.sweep),
                ("race", space.race),
            )
        },
    }
    once = {stage: tuple(dict.fromkeys(filter(None, commands))) for stage, commands in recorded.items()}
    return {stage: commands for stage, commands in once.items() if commands}


def _recorded(cards: Iterable[Details]) -> Iterator[str]:
    yield from (str(card.get("command") or "") for card in cards if card)
