"""Everything that was measured, in one document and one page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.files import write_json, write_text
from trtpoets.core.runner_id import engine_runner
from trtpoets.core.spec import Flavour, Photo, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.device.engine import flavour_available
from trtpoets.pipeline.current import (
    artefacts_in,
    benchmark_now,
    evaluation_now,
    identities,
    require_current,
    train_benchmark_now,
)
from trtpoets.pipeline.lineage import engines_in, onnx_models_in, stale_in
from trtpoets.pipeline.stages import ENGINES, classifier_in, dataset_in, has_dataset, training_in, writing
from trtpoets.ship.markdown import markdown_from_report
from trtpoets.ship.page import page_from_report
from trtpoets.ship.recommended import Limits, recommendation_from_report
from trtpoets.ship.report import report_from_documents
from trtpoets.ship.unfit import require_recommended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.core.spec import Engine


def report(name: str, *, engines: Path | str = ENGINES) -> Mapping[str, Any]:
    """Write engines/<name>/report.json, report.html and report.md from what the stages left; returns the first."""
    space = Workspace(Path(engines), name)
    with writing(space):
        documents = _documents(space)
        value = report_from_documents(documents)
        write_json(space.report, value)
        write_text(space.page, page_from_report(value, _sample_photos(space)))
        write_text(space.markdown, markdown_from_report(value))
    return value


def recommend(
    name: str,
    *,
    max_drop: float | None = None,
    max_p99: float | None = None,
    batches: Sequence[int] = (),
    engines: Path | str = ENGINES,
) -> Mapping[str, Any]:
    """Which runner, precision and batch size to ship, of what was evaluated and benched in engines/<name>/.

    `max_drop` is in percentage points of accuracy, `max_p99` in ms, `batches` are the sizes to choose from. Returns
    what `recommendation_from_report` gives; where nothing fits its "chosen" is None, and `require_fit` raises. Raises
    MissingArtefact where a measurement is missing, or of other files than those that are there now.
    """
    limits = Limits(max_drop, max_p99, tuple(batches))
    space = Workspace(Path(engines), name)
    require_current(space)
    return recommendation_from_report(report_from_documents(_documents(space)), limits)


def require_fit(name: str, found: Mapping[str, Any], engines: Path | str = ENGINES) -> None:
    """Raise GateFailed when what `recommend` returned has nothing that fits, MissingArtefact when it can't tell."""
    require_recommended(found, name, Path(engines))


def _documents(space: Workspace) -> dict[str, Any]:
    classifier, built = classifier_in(space), engines_in(space)
    cards = {model.precision: open_card(card_of(model.path)) for model in onnx_models_in(space)}
    known = identities(space, artefacts_in(space))
    evaluation, benchmark = evaluation_now(space, known), benchmark_now(space, known)
    train_benchmark = train_benchmark_now(space)
    dataset_in_use = has_dataset(space) and dataset_in(space) is not None
    skipped = [each.to_dict() for each in stale_in(space)]
    skipped += [
        {"what": f"using {path.name}", "why": f"it is of other files than those that are there now: {remedy}"}
        for path, document, remedy in (
            (space.evaluation, evaluation, space.command("evaluate")),
            (space.benchmark, benchmark, space.command("bench")),
            (space.train_benchmark, train_benchmark, space.command("bench", "--train")),
        )
        if document is None and path.is_file()
    ]
    skipped += [entry for card in (evaluation, benchmark) if card for entry in card.get("skipped", [])]
    skipped += _flavours_without_engines({engine.card.flavour for engine in built})
    fp32 = cards.get(Precision.FP32)
    found = {
        "spec": asdict(classifier.spec),
        "dataset": open_card(space.dataset) if dataset_in_use else None,
        "training": training_in(space),
        "train_benchmark": train_benchmark,
        "parity": fp32 and fp32.get("parity"),
        "opset": fp32 and fp32.get("opset"),
        "commands": _commands(space, cards, built),
        "engines_folder": None if space.engines == ENGINES else str(space.engines.absolute()),
        "quantisation": {
            p.value: {**card["notes"], **{word: card.get(word) for word in ("calibration", "config")}}
            for p, card in cards.items()
            if card and "notes" in card
        },
        "evaluation": evaluation,
        "benchmark": benchmark,
        "engines": [
            {**asdict(each.card), **engine_runner(each.card, each.card.precision).row(), "file": each.path.name}
            for each in built
        ],
        "skipped": list({(entry["what"], entry["why"]): entry for entry in skipped}.values()),
    }
    return {word: document for word, document in found.items() if document is not None}


def _commands(
    space: Workspace, cards: Mapping[Precision, Mapping[str, Any] | None], built: Sequence[Engine]
) -> dict[str, list[str]]:
    """The recorded commands of each stage, each once; a stage that an older version did records none."""
    trained_on = open_card(space.dataset) or {}
    found: dict[str, list[Mapping[str, Any] | None]] = {
        "retrain": [trained_on if "command" in trained_on else open_card(card_of(space.classifier))],
        "export": [cards.get(Precision.FP32)],
        "quantize": [card for precision, card in cards.items() if precision is not Precision.FP32],
        "build": [{"command": engine.card.command} for engine in built],
        "evaluate": [open_card(space.evaluation)],
        "bench": [open_card(space.benchmark)],
        "bench train": [open_card(space.train_benchmark)],
    }
    said = {stage: [card["command"] for card in made if card and card.get("command")] for stage, made in found.items()}
    return {stage: list(dict.fromkeys(commands)) for stage, commands in said.items() if commands}


def _flavours_without_engines(built: set[Flavour]) -> list[dict[str, str]]:
    reasons = {flavour: flavour_available(flavour) for flavour in Flavour if flavour not in built}
    return [{"what": f"building {flavour.value} engines", "why": why} for flavour, why in reasons.items() if why]


def _sample_photos(space: Workspace) -> Mapping[str, Photo]:
    """Test photos by path, for the page's gallery."""
    if not has_dataset(space):
        return {}
    return {str(photo.path): photo for photo in dataset_in(space).in_split(Split.TEST)}
