"""What the stages left behind -> report.json: one document for scripts, and all that the page shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trtpoets.core.runner_id import runner_of_row
from trtpoets.core.types import Split
from trtpoets.judge.bench.conditions import conditions
from trtpoets.reporting.near_misses import ship_sentence
from trtpoets.reporting.recommendation import Limits, recommendation_from_report
from trtpoets.reporting.verdict import verdict_from_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = 1
"""Of report.json: raised when a reader of an older one would misunderstand."""

_MATRIX = 100
"""A confusion matrix of at most this many labels is written whole; a larger one as its non-zero cells."""

_BENCHMARK = ("config", "photos", "conditions", "incomplete", "artefacts", "outcomes", "compared", "machine")
"""What of benchmark.json is copied beside its measurements and failures; older ones have less."""

_STAGES = {
    "dataset": ("photos", "no photos belong to this classifier"),
    "training": ("training", "its head was not trained here"),
    "parity": ("parity", "not exported to ONNX yet"),
    "quantisation": ("precisions", "no FP16 or INT8 graph yet"),
    "evaluation": ("accuracy", "not evaluated yet"),
    "benchmark": ("speed", "not benchmarked yet"),
    "engines": ("engines", "no engine was built"),
}


def report_from_documents(documents: Mapping[str, Any]) -> dict[str, Any]:
    """Join the documents of the stages, each as its `to_dict` gives it; any may be missing, and is then in `absent`.

    Takes spec, dataset, training, train_benchmark, parity, opset, quantisation, evaluation, benchmark, engines,
    skipped, conditions, command, commands, engines_folder. Returns plain JSON. `accuracy` and `agreement` are shares
    0..1 by the runner's name, `runners` says what each name is made of; times are in the unit of their name.
    """
    found = json.loads(json.dumps(dict(documents), default=str))
    spec = found.get("spec") or {}
    benchmark = found.get("benchmark") or {}
    evaluations = (found.get("evaluation") or {}).get("evaluations") or []
    report: dict[str, Any] = {
        "version": VERSION,
        "name": spec.get("name", ""),
        "backbone": spec.get("backbone", ""),
        "labels": spec.get("labels", []),
        "spec": spec,
        "dataset": _dataset(found.get("dataset")),
        "training": _training(found.get("training")),
        "train_benchmark": found.get("train_benchmark"),
        "parity": found.get("parity"),
        "opset": found.get("opset"),
        "quantisation": found.get("quantisation") or {},
        **judged(evaluations),
        "runners": _runners([*evaluations, *(benchmark.get("measurements") or []), *(benchmark.get("failures") or [])]),
        "gate": (found.get("evaluation") or {}).get("gate"),
        "engines": [_engine(card) for card in found.get("engines") or []],
        "benchmarks": benchmark.get("measurements") or [],
        "benchmark": {word: benchmark[word] for word in _BENCHMARK if word in benchmark},
        "failures": benchmark.get("failures") or [],
        "skipped": [*(found.get("skipped") or []), *((found.get("train_benchmark") or {}).get("skipped") or [])],
        "absent": [{"what": what, "why": why} for word, (what, why) in _STAGES.items() if not found.get(word)],
        "conditions": found.get("conditions") or benchmark.get("conditions") or conditions(),
        "command": found.get("command"),
        "commands": found.get("commands") or {},
        "engines_folder": found.get("engines_folder"),
    }
    report["skipped"] += [{"what": _measuring(failure), "why": failure["why"]} for failure in report["failures"]]
    # One by one is how photos come at the edge; `recommend` looks at every batch size.
    least = min((row["batch"] for row in report["benchmarks"]), default=1)
    report["recommendation"] = recommendation_from_report(report, Limits(batches=(least,)))
    ship = ship_sentence(report["recommendation"])
    report["verdict"] = [*([{"about": "ship", "text": ship}] if ship else []), *verdict_from_report(report)]
    return report


def _runners(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each runner's name is made of: {"rtx-fp16": {"library": "rtx", "precision": "fp16", ...}}."""
    return {row["runner"]: runner_of_row(row).row() for row in rows}


def _dataset(dataset: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    counts = dataset.get("counts") or {}
    found: dict[str, Any] = {
        "folder": dataset.get("folder"),
        "config": dataset.get("config"),
        "classes": len(counts),
        "counts": counts,
        "photos": {split.value: sum(each.get(split.value, 0) for each in counts.values()) for split in Split},
    }
    for word in ("left_out", "duplicates", "contradictions", "families"):
        entries = dataset.get(word) or []
        found[word] = entries
        # An older version listed the first 1000, beside the number of all.
        found[f"{word}_count"] = max(len(entries), dataset.get(f"{word}_count", 0))
    return found


def _training(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Scalars as they are, the curves under `curves`; `steps` is how many were trained."""
    if training is None:
        return None
    curves = {word: value for word, value in training.items() if isinstance(value, list)}
    rest = {word: value for word, value in training.items() if word not in curves}
    steps = (training.get("config") or {}).get("steps") or max(curves.get("steps") or [0])
    return {**rest, "steps": steps, "curves": curves}


def judged(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """What is asked for most, by runner. Samples are of the first runner, TensorFlow; changes are of the others."""
    first = evaluations[0] if evaluations else {}
    compared = {each["runner"]: each["comparison"] for each in evaluations if each.get("comparison")}
    return {
        "test_photos": first.get("photos", 0),
        "test_groups": first.get("groups", first.get("photos", 0)),
        "accuracy": {each["runner"]: each["accuracy"] for each in evaluations if each["accuracy"] is not None},
        "agreement": {each["runner"]: each["agreement"] for each in evaluations if each["agreement"] is not None},
        "top5_accuracy": {e["runner"]: e["top5_accuracy"] for e in evaluations if e.get("top5_accuracy") is not None},
        "intervals": {
            each["runner"]: {
                word: [each[f"{word}_low"], each[f"{word}_high"]]
                for word in ("accuracy", "agreement")
                if each[word] is not None
            }
            for each in evaluations
        },
        "comparison": {
            runner: {word: value for word, value in each.items() if word != "changed"}
            for runner, each in compared.items()
        },
        "recall": {each["runner"]: each["recall"] for each in evaluations},
        "recall_intervals": {each["runner"]: each.get("recall_intervals", {}) for each in evaluations},
        "confusion": {each["runner"]: _confusion(each) for each in evaluations},
        "samples": {
            "runner": first.get("runner"),
            "mistakes": first.get("mistakes", []),
            "right": first.get("right", []),
            "changed": {runner: each["changed"] for runner, each in compared.items()},
        },
    }


def _confusion(evaluation: Mapping[str, Any]) -> list[list[int]]:
    """Rows are true labels, columns answers; above _MATRIX labels: [label, answer, photos] where there are photos."""
    cells: list[list[int]] = evaluation["confusion"]
    count = len(evaluation["labels"])
    if count > _MATRIX:
        return cells
    matrix = [[0] * count for _ in range(count)]
    for row, column, photos in cells:
        matrix[row][column] = photos
    return matrix


def _engine(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card under the names that scripts read, with everything else that it says."""
    renamed = {"engine_bytes": "bytes", "engine_sha256": "sha256", "build_seconds": "seconds"}
    return {renamed.get(word, word): value for word, value in card.items() if word != "spec"}


def _measuring(failure: Mapping[str, Any]) -> str:
    batch = "" if failure.get("batch") is None else f" at batch {failure['batch']}"
    return f"measuring {failure['runner']}{batch}"
