"""Recommends what to deploy: the runner, precision and batch size with the most photos/s within given limits.

Every runner that was evaluated, and whose measurements are valid, is a candidate at each of its batch sizes:
TensorFlow, ONNX Runtime on the CPU or with a GPU provider, TFLite, engines. Other ways to run TensorFlow (XLA, Keras'
`predict`, the CPU of a machine with a GPU) are measured for comparison only, as they would deploy the same classifier.
Of the candidates within the limits, the one with the most photos/s is recommended. Rates that differ by less than 3 %,
or by less than the noise of the rounds, count as equal; then the smallest loss decides, and then the smallest batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.formatting import joined, many, milliseconds, point_interval, shown
from trtpoets.core.runner_id import Library, RunnerId, baseline_text, is_baseline
from trtpoets.core.serialization import FLAT
from trtpoets.core.types import Precision
from trtpoets.judge.bench.measure import Measurement, late_percentile
from trtpoets.judge.bench.rounds import too_few
from trtpoets.judge.gate import Check, GateOutcome, own_photos_decide, photos_in_groups, rounded
from trtpoets.judge.sample_size import photos_for_drop
from trtpoets.judge.statistics import least_count
from trtpoets.reporting.choice import best_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.reporting.model import Report

_NOT_EVALUATED = "evaluated"
"""The `what` of a Lack: the candidate was benched but not evaluated."""

_DROP = 0.5
"""The allowed loss of accuracy in points where no limit is given."""


@dataclass(frozen=True)
class Limits:
    """The limits; None means no limit. `max_drop` is in percentage points, `max_p99` in ms, with 99 % confidence.

    Without `max_drop`, half a point may be lost, and INT8 is left out if `quantize` advises against it. `batches` are
    the batch sizes to choose from; empty means all that were measured.
    """

    max_drop: float | None = None
    max_p99: float | None = None
    batches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_drop is not None and not 0 <= self.max_drop < 100:
            raise BadInput(
                f"--max-drop must be 0 to 100 points, not {self.max_drop:g}", hint="give --max-drop 0.5", code="TP6012"
            )
        if self.max_p99 is not None and not 0 < self.max_p99 < math.inf:
            raise BadInput(
                f"--max-p99 must be a finite number of ms above 0, not {self.max_p99:g}",
                hint="give --max-p99 5",
                code="TP6013",
            )

    @property
    def drop(self) -> float:
        """The loss that is allowed, as a share."""
        return (_DROP if self.max_drop is None else self.max_drop) / 100


@dataclass(frozen=True)
class Lack:
    """A reason why a candidate does not fit. `excess` is relative to the limit; `unknown` means not measured."""

    what: str
    text: str
    excess: float = 0.0
    unknown: bool = False


@dataclass(frozen=True)
class Candidate:
    """A runner at a batch size, with its measurements. Times in ms, shares 0..1; `file` is what would be deployed.

    `precision` is "fp32" for TensorFlow too. `p99_bound_ms` is the upper bound of its 99th percentile, with 99 %
    confidence. `count` inferences were timed, which count as `independent_count` independent ones (see Measurement).
    `drop` is the loss of accuracy relative to TensorFlow on `photos` photos in `groups` independent groups, with its
    95 % interval; a gain is below 0. For INT8 these are all photos outside calibration where they were evaluated and
    the test photos do not speak against it (`judge.gate`); otherwise the test photos.
    """

    runner: RunnerId = field(metadata=FLAT)
    precision: str
    file: str
    batch: int
    p50_ms: float | None
    p99_ms: float | None
    p99_bound_ms: float | None
    count: int
    independent_count: int
    photos_per_s: float
    speedup: float | None
    drop: float | None
    drop_low: float | None
    drop_high: float | None
    photos: int
    groups: int
    lacks: tuple[Lack, ...] = field(default=())


@dataclass(frozen=True)
class Recommendation:
    """What to deploy, which `trtpoets.recommend` returns.

    `limits` are the applied limits. `chosen` is None if no candidate fits; `rejected` are the other candidates, the
    nearest first. `photos_needed` is the number of independent test photos that would decide whether the loss of
    accuracy is within the limit, at the same rate of changed answers; None if no number would. `sentence` includes it
    if the interval of the loss exceeds the limit.
    """

    limits: Limits
    chosen: Candidate | None
    sentence: str
    rejected: tuple[Candidate, ...]
    photos_needed: int | None
    schema_version: int = 1


def recommendation_from_report(report: Report, limits: Limits | None = None) -> Recommendation:
    """Return the best of the measured runners of a report."""
    limits = limits or Limits()
    candidates = list(_candidates(report, limits))
    fitting = [candidate for candidate in candidates if not candidate.lacks]
    rejected = sorted((candidate for candidate in candidates if candidate.lacks), key=_distance)
    rows = {(row.runner.name, row.batch): row for row in report.benchmarks}
    chosen = best_of(fitting, rows) if fitting else None
    needed = photos_for_drop(limits.drop, _loss(chosen.runner, report, limits).changed if chosen else 0.0)
    return Recommendation(
        limits=replace(limits, max_drop=100 * limits.drop),
        chosen=chosen,
        sentence=_sentence(chosen, limits, needed, _idle(report), report.baseline) + _not_evaluated(chosen, rejected)
        if chosen
        else "",
        rejected=tuple(rejected),
        photos_needed=needed,
    )


def _candidates(report: Report, limits: Limits) -> Iterable[Candidate]:
    files = {engine.runner: shown(engine.file) for engine in report.engines}
    for row in report.benchmarks:
        runner, batch = row.runner, row.batch
        if runner.compared_only or (limits.batches and batch not in limits.batches):
            continue
        precision = (runner.precision or Precision.FP32).value
        loss = _loss(runner, report, limits)
        yield Candidate(
            runner=runner,
            precision=precision,
            file=files.get(runner) or _file(runner),
            batch=batch,
            p50_ms=row.p50_ms,
            p99_ms=row.p99_ms,
            p99_bound_ms=row.p99_bound_ms,
            count=row.count,
            independent_count=row.independent_count,
            photos_per_s=row.photos_per_s,
            speedup=row.speedup,
            drop=loss.drop,
            drop_low=loss.low,
            drop_high=loss.high,
            photos=loss.photos,
            groups=loss.groups,
            lacks=tuple(_lacks(row, loss.drop, runner, report, limits)),
        )


def _file(runner: RunnerId) -> str:
    """Return the file that a runner other than an engine runs."""
    return "classifier" if is_baseline(runner) else runner.file


@dataclass(frozen=True)
class _Loss:
    """The loss of accuracy and its interval, None where it is not known; the photos, and the share that changes."""

    drop: float | None
    low: float | None
    high: float | None
    photos: int
    groups: int
    changed: float = 0.0


def _loss(runner: RunnerId, report: Report, limits: Limits) -> _Loss:
    """Return the loss of accuracy relative to TensorFlow: on all photos where these decide, else on the test photos."""
    own = _loss_on_test_photos(runner.name, report)
    item = report.all_photos.of_runner(runner) if report.all_photos else None
    if item is None or runner.name not in report.intervals:
        return own
    compared = item.comparison
    if compared.accuracy_change is None or compared.change_low is None or compared.change_high is None:
        return own
    if own.drop is not None and own.low is not None and own.high is not None:
        failed = GateOutcome.FAILED if own.low > limits.drop else GateOutcome.UNKNOWN
        check = Check("drop", failed, limits.drop, own.drop, own.low, own.high, own.photos, own.groups, None, None)
        if own_photos_decide(check, runner == item.runner):
            return own
    drop, low, high = 0.0 - compared.accuracy_change, 0.0 - compared.change_high, 0.0 - compared.change_low
    changed = (compared.only_reference + compared.only_runner) / item.labelled
    return _Loss(drop, low, high, item.labelled, item.labelled_groups, changed)


def _loss_on_test_photos(runner: str, report: Report) -> _Loss:
    photos, groups = report.test_photos, report.test_groups
    if is_baseline(runner) and runner in report.intervals:
        return _Loss(0.0, 0.0, 0.0, photos, groups)
    compared = report.comparison.get(runner)
    if compared is None:
        return _Loss(None, None, None, photos, groups)
    changed = (compared.only_reference + compared.only_runner) / photos
    if compared.accuracy_change is None or compared.change_low is None or compared.change_high is None:
        return _Loss(None, None, None, photos, groups, changed)
    drop, low, high = 0.0 - compared.accuracy_change, 0.0 - compared.change_high, 0.0 - compared.change_low
    return _Loss(drop, low, high, photos, groups, changed)


def _lacks(row: Measurement, drop: float | None, runner: RunnerId, report: Report, limits: Limits) -> Iterable[Lack]:
    if not row.valid:
        yield Lack("valid", f"its measurement is not valid: {row.reason}", unknown=True)
    if runner.name not in report.intervals:
        yield Lack(_NOT_EVALUATED, "its answers were not evaluated", unknown=True)
    elif drop is None:
        yield Lack("drop", "no test photo has a label that the classifier knows", unknown=True)
    elif _beyond(drop, limits.drop):
        yield Lack("drop", f"it loses {_points(drop)}, {_points(limits.drop)} are allowed", _excess(drop, limits.drop))
    if runner.precision is Precision.INT8:
        yield from _advice(report, limits, runner)
    if limits.max_p99 is not None and row.valid:
        yield from _late(row, limits.max_p99)


def _advice(report: Report, limits: Limits, runner: RunnerId) -> Iterable[Lack]:
    """Yield what an INT8 file lacks according to the command that made it and compared it with FP32 on other photos."""
    advice = report.quantisation.advice_on(runner)
    if advice is None:
        return
    if limits.max_drop is None:
        if advice.precision != Precision.INT8.value:
            maker = "bundle" if runner.library is Library.TFLITE else "quantize"
            yield Lack("advice", f"{maker} advises against it: {advice.why}", 1.0)
        return
    for check in [check for result in (advice.gate.runners if advice.gate else ()) for check in result.checks]:
        if check.what == "drop" and check.measured is not None and _beyond(check.measured, limits.drop):
            kind = "photo outside calibration" if check.file else "validation photo"
            photos = many(check.photos, kind, kind.replace("photo", "photos", 1))
            text = f"it loses {_points(check.measured)} on {photos}"
            yield Lack("drop", f"{text}, {_points(limits.drop)} are allowed", _excess(check.measured, limits.drop))


def _late(row: Measurement, limit: float) -> Iterable[Lack]:
    late, bound = late_percentile(row, limit), row.p99_bound_ms
    if late is not None:
        percent, value = late
        text = f"its p{percent} is {milliseconds(value)} ms, {limit:g} are allowed"
        yield Lack("p99", text, value / limit - 1)
    elif bound is None and row.p99_ms is None:
        text = f"{many(row.count, 'inference')} can't support a p99 ({least_count(99):,} could)"
        yield Lack("p99", text, unknown=True)
    elif bound is None:
        text = f"its p99 has no bound: {too_few(row.count, row.independent_count)}"
        yield Lack("p99", text, unknown=True)
    elif bound > limit:
        yield Lack("p99", f"its p99 may be {milliseconds(bound)} ms, {limit:g} are allowed", bound / limit - 1)


def _beyond(drop: float, limit: float) -> bool:
    # A loss that equals the limit is allowed, so rounding errors of the quotient are ignored.
    return drop > limit and not math.isclose(drop, limit, rel_tol=1e-9)


def _excess(drop: float, limit: float) -> float:
    """Return the excess relative to the limit; a limit of 0 is replaced by the default limit."""
    return (drop - limit) / (limit or _DROP / 100)


def _distance(candidate: Candidate) -> tuple[bool, float, float]:
    """Return the sort key of rejected candidates: those with measured reasons first, then by their excess."""
    lacks = candidate.lacks
    return any(lack.unknown for lack in lacks), sum(lack.excess for lack in lacks), -candidate.photos_per_s


def _idle(report: Report) -> bool:
    """Return whether there are engines that did not run here, which may be the better choice elsewhere."""
    return any(engine.runner.name not in report.agreement for engine in report.engines)


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _sentence(chosen: Candidate, limits: Limits, needed: int | None, idle: bool, report_baseline: RunnerId) -> str:
    p99 = f", p99 {milliseconds(chosen.p99_ms)}" if chosen.p99_ms is not None else ""
    if limits.max_p99 is not None:
        p99 += f", at most {milliseconds(chosen.p99_bound_ms)}"
    speed = f"{milliseconds(chosen.p50_ms)} ms (median{p99}) and {chosen.photos_per_s:,.0f} photos/s"
    baseline = baseline_text(report_baseline)
    is_itself = chosen.runner == report_baseline
    file = baseline if is_itself else f"{chosen.file} through {chosen.runner.through}"
    text = f"{'Of what ran on this machine, ship' if idle else 'Ship'} {file}, {_batch(chosen.batch)}: {speed}"
    if is_itself:
        return f"{text}; no other runner that was measured here is faster and within the limits."
    if chosen.speedup is not None:
        text += f", {chosen.speedup:.1f} times as fast as {baseline}"
    drop, low, high = (100 * (value or 0.0) for value in (chosen.drop, chosen.drop_low, chosen.drop_high))
    moved = (
        f"for {drop:.1f} points of accuracy lost ({_signed(low)} to {_signed(high)})"
        if round(drop, 1) > 0
        else f"with {-drop:.1f} points of accuracy won ({_signed(-high)} to {_signed(-low)})"
        if round(drop, 1) < 0
        else f"with the same accuracy (a change of {point_interval(-high / 100, -low / 100)} points)"
    )
    text = f"{text}, {moved} on {photos_in_groups(chosen.photos, chosen.groups)}"
    if high <= 100 * limits.drop:
        return f"{text}."
    could = f"about {rounded(needed)} independent photos could" if needed else "no number of photos could"
    return f"{text}; that can't tell whether at most {_points(limits.drop)} are lost ({could})."


def _not_evaluated(chosen: Candidate, rejected: Sequence[Candidate]) -> str:
    """Return a sentence about faster runners that were not evaluated, or ""."""
    names = [
        candidate.runner.name
        for candidate in rejected
        if candidate.photos_per_s > chosen.photos_per_s and {lack.what for lack in candidate.lacks} == {_NOT_EVALUATED}
    ]
    listed = joined(sorted(set(names)))
    return f" Faster, but its answers were not evaluated: {listed} (trtpoets evaluate NAME --force)." if names else ""


def _batch(batch: int) -> str:
    return "one photo at a time" if batch == 1 else f"{batch} photos at a time"


def _points(share: float) -> str:
    return f"{100 * share:.3g} points"
