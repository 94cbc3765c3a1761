"""Joins the documents of a run's stages to a report: the content of report.json, and of the page."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from trtpoets.core.types import Skipped, Split
from trtpoets.reporting.model import (
    Accuracies,
    BenchmarkSummary,
    Curves,
    DatasetDocument,
    DatasetSummary,
    Documents,
    Intervals,
    Matrix,
    Report,
    RunnerEntry,
    Samples,
    Sentence,
    TrainingSummary,
)
from trtpoets.reporting.near_misses import ship_sentence
from trtpoets.reporting.recommendation import Limits, recommendation_from_report
from trtpoets.reporting.verdict import verdict_from_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtpoets.core.runner_id import RunnerId
    from trtpoets.core.training import TrainingDetails
    from trtpoets.judge.bench.benchmark import Benchmark
    from trtpoets.judge.evaluation import Evaluation

_MATRIX = 100
"""A confusion matrix of at most this many labels is written whole; a larger one as its non-zero cells."""


def report_from_documents(documents: Documents) -> Report:
    """Join the documents of the stages to a report. Stages that have not run are listed in its `absent`.

    The machine is not examined: the conditions are those of the benchmark, or of `bench --train`; None without either.
    """
    spec, benchmark, training = documents.spec, documents.benchmark, documents.train_benchmark
    evaluations = documents.evaluation.evaluations if documents.evaluation else ()
    measured = benchmark or training
    report = Report(
        **_fields_of(Accuracies, accuracies_from_evaluations(evaluations)),
        name=spec.name if spec else "",
        backbone=spec.backbone if spec else "",
        labels=spec.labels if spec else (),
        spec=spec,
        dataset=_dataset(documents.dataset) if documents.dataset else None,
        training=_training(documents.training) if documents.training else None,
        train_benchmark=training,
        sweep=documents.sweep,
        race=documents.race,
        parity=documents.parity,
        rounded=documents.rounded,
        opset=documents.opset,
        quantisation=documents.quantisation,
        runners={runner.name: RunnerEntry(runner) for runner in _runners(evaluations, benchmark)},
        gate=documents.evaluation.gate if documents.evaluation else None,
        all_photos=documents.evaluation.all_photos if documents.evaluation else None,
        engines=documents.engines,
        benchmarks=benchmark.measurements if benchmark else (),
        benchmark=_benchmark(benchmark) if benchmark else BenchmarkSummary(),
        failures=benchmark.failures if benchmark else (),
        skipped=(
            *documents.skipped,
            *(training.skipped if training else ()),
            *(skipped_failures(benchmark) if benchmark else ()),
        ),
        absent=tuple(_absent(documents)),
        conditions=measured.conditions if measured else None,
        command=documents.command,
        commands=documents.commands,
        engines_folder=documents.engines_folder,
    )
    # On edge devices photos arrive one by one; `recommend` considers every batch size.
    smallest = min((row.batch for row in report.benchmarks), default=1)
    report = replace(report, recommendation=recommendation_from_report(report, Limits(batches=(smallest,))))
    assert report.recommendation is not None
    ship = ship_sentence(report.recommendation)
    return replace(report, verdict=(*((Sentence("ship", ship),) if ship else ()), *verdict_from_report(report)))


def _fields_of(kind: type, value: object) -> dict[str, Any]:
    """Return the values of a dataclass's fields by name; nested dataclasses are not converted."""
    return {entry.name: getattr(value, entry.name) for entry in fields(kind)}


def _absent(documents: Documents) -> Iterator[Skipped]:
    notes = documents.quantisation
    stages = (
        (documents.dataset, "photos", "no photos belong to this classifier"),
        (documents.training, "training", "its head was not trained here"),
        (documents.parity, "parity", "not exported to ONNX yet"),
        (notes.fp16 or notes.int8, "precisions", "no FP16 or INT8 graph yet"),
        (notes.int8 or not notes.fp16, "INT8", "quantize wrote FP16 only"),
        (documents.evaluation, "accuracy", "not evaluated yet"),
        (documents.benchmark, "speed", "not benchmarked yet"),
        (documents.engines, "engines", "no engine was built"),
    )
    for document, what, why in stages:
        if not document:
            yield Skipped(what, why)


def _runners(evaluations: Sequence[Evaluation], benchmark: Benchmark | None) -> Iterator[RunnerId]:
    yield from (evaluation.runner for evaluation in evaluations)
    if benchmark:
        yield from (row.runner for row in benchmark.measurements)
        yield from (failure.runner for failure in benchmark.failures)


def _dataset(document: DatasetDocument) -> DatasetSummary:
    counts = document.counts
    # An earlier version listed the first 1000 files only, and recorded the number of all.
    listed = {
        "left_out_count": document.left_out,
        "duplicates_count": document.duplicates,
        "contradictions_count": document.contradictions,
        "families_count": document.families,
    }
    totals = {name: max(len(entries), getattr(document, name)) for name, entries in listed.items()}
    return DatasetSummary(
        **{**_fields_of(DatasetDocument, document), **totals},
        classes=len(counts),
        photos={split.value: sum(own.get(split.value, 0) for own in counts.values()) for split in Split},
    )


def _training(details: TrainingDetails) -> TrainingSummary:
    curves = Curves(**_fields_of(Curves, details))
    shared = {name: value for name, value in vars(details).items() if not hasattr(curves, name)}
    return TrainingSummary(**{**shared, "command": details.command or ""}, steps=details.config.steps, curves=curves)


def _benchmark(benchmark: Benchmark) -> BenchmarkSummary:
    return BenchmarkSummary(**_fields_of(BenchmarkSummary, benchmark))


def accuracies_from_evaluations(evaluations: Sequence[Evaluation]) -> Accuracies:
    """Return the evaluations by the name of the runner. Samples are those of the first one, TensorFlow."""
    if not evaluations:
        return Accuracies()
    first = evaluations[0]
    compared = {evaluation.runner.name: evaluation.comparison for evaluation in evaluations if evaluation.comparison}
    return Accuracies(
        test_photos=first.photos,
        test_groups=first.groups,
        accuracy={
            evaluation.runner.name: evaluation.accuracy for evaluation in evaluations if evaluation.accuracy is not None
        },
        agreement={
            evaluation.runner.name: evaluation.agreement
            for evaluation in evaluations
            if evaluation.agreement is not None
        },
        top5_accuracy={
            evaluation.runner.name: evaluation.top5_accuracy
            for evaluation in evaluations
            if evaluation.top5_accuracy is not None
        },
        intervals={
            evaluation.runner.name: Intervals(
                _both(evaluation.accuracy_low, evaluation.accuracy_high),
                _both(evaluation.agreement_low, evaluation.agreement_high),
            )
            for evaluation in evaluations
        },
        comparison={runner: comparison.summary for runner, comparison in compared.items()},
        recall={evaluation.runner.name: evaluation.recall for evaluation in evaluations},
        recall_intervals={evaluation.runner.name: evaluation.recall_intervals for evaluation in evaluations},
        confusion={evaluation.runner.name: _confusion(evaluation) for evaluation in evaluations},
        samples=Samples(
            first.runner.name,
            first.mistakes,
            first.right,
            {runner: comparison.changed for runner, comparison in compared.items()},
        ),
    )


def _both(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _confusion(evaluation: Evaluation) -> Matrix:
    """Return the confusion matrix: rows are true labels, columns answers; for many labels the non-zero cells."""
    count = len(evaluation.labels)
    if count > _MATRIX:
        return evaluation.confusion
    matrix = [[0] * count for _ in range(count)]
    for row, column, photos in evaluation.confusion:
        matrix[row][column] = photos
    return tuple(map(tuple, matrix))


def skipped_failures(benchmark: Benchmark) -> tuple[Skipped, ...]:
    """Return the runners that could not be measured as entries of `skipped`."""
    return tuple(
        Skipped(
            f"measuring {failure.runner.name}" + ("" if failure.batch is None else f" at batch {failure.batch}"),
            failure.why,
        )
        for failure in benchmark.failures
    )
