"""Collects what the stages of a run left, as one document for the report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trtpoets.core.runner_id import engine_runner
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Flavour, Precision
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.device.build.engine import flavour_available
from trtpoets.pipeline.artefacts import ENGINES, classifier_in, dataset_in, has_dataset, training_in
from trtpoets.pipeline.lineage import engines_in, onnx_models_in, stale_in
from trtpoets.pipeline.result_status import (
    artefacts_in,
    benchmark_now,
    evaluation_now,
    identities,
    train_benchmark_now,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.core.types import Engine


def report_documents(space: Workspace) -> dict[str, Any]:
    """Collect the documents that `report_from_documents` takes, from what the stages of a run left in `space`."""
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
        "training": to_json(training_in(space)),
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
