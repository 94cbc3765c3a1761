"""The accuracy gate: compares the accuracy of reduced precisions with TensorFlow: passed, failed, or cannot tell.

Each limit is compared with the 95 % interval of the measured value, in which copies of photos count as groups. A limit
is passed where the whole interval is within it, and failed where the whole interval is beyond it. Otherwise the result
is "cannot tell", with the number of photos that would decide. The probability that a runner without any loss fails is
at most 1 in 40, and so is the probability that a runner that loses twice the limit passes.

Where a file was compared on all photos of the run (`judge.all_photos`), these numbers are used for the runners of that
file, because they are many more than the test photos. Each runner itself was measured on the test photos: a runner that
fails on them fails. A runner that misses the limit on them (`missed`) fails too, because engines compute slightly
different numbers, unless it is the runner with which the file was compared, ONNX Runtime on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Mapping, Sequence

from trtpoets.core.errors import BadInput, GateFailed, GateUndecided
from trtpoets.core.runner_id import RunnerId
from trtpoets.core.serialization import FLAT
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command, quote
from trtpoets.core.types import Precision
from trtpoets.judge.all_photos import AllPhotos, FileOnAllPhotos
from trtpoets.judge.evaluation import Evaluation
from trtpoets.judge.sample_size import photos_for_agreement, photos_for_drop, photos_for_share

REDUCED = (Precision.FP16, Precision.INT8)
"""The reduced precisions, whose runners are checked unless others are named."""


@dataclass(frozen=True)
class GateConfig:
    """The limits; None means no limit. `max_drop` is in percentage points of accuracy, `min_agreement` in percent.

    `runners` are the names of the runners to check; () means all of a reduced precision. With `allow_undecided`
    `require_passed` raises nothing for "cannot tell".
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    runners: tuple[str, ...] = ()
    allow_undecided: bool = False

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_agreement is None:
            raise BadInput("a gate needs a limit", hint="give --max-drop 0.5 --min-agreement 98", code="TP5036")
        if self.max_drop is not None and not 0 <= self.max_drop < 100:
            raise BadInput(
                f"--max-drop must be 0 to 100 points, not {self.max_drop:g}", hint="give --max-drop 0.5", code="TP5037"
            )
        if self.min_agreement is not None and not 0 < self.min_agreement <= 100:
            raise BadInput(
                f"--min-agreement must be above 0 and at most 100 %, not {self.min_agreement:g}",
                hint="give --min-agreement 98",
                code="TP5038",
            )


class GateOutcome(str, Enum):
    """The result of one limit, of one runner, or of the whole gate."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Check:
    """The result of one limit for one runner. `measured`, its interval `low` to `high`, and `limit` are shares 0..1.

    `what` is "drop" (accuracy lost, at most `limit`) or "agreement" (at least `limit`). `photos` were evaluated,
    in `groups` independent groups. `changed` is the share of photos that only one of the two classifies correctly (for
    "agreement": whose answers differ). `photos_needed` is the number of independent photos that would decide, at the
    same rate of changes; None where no number would. See `judge.sample_size`. `file` is the file whose comparison on
    all photos decided; empty where the runner's own test photos did.
    """

    what: str
    outcome: GateOutcome
    limit: float
    measured: float | None
    low: float | None
    high: float | None
    photos: int
    groups: int
    changed: float | None
    photos_needed: int | None
    file: str = ""


@dataclass(frozen=True)
class RunnerGate:
    """The result of the gate for one runner.

    `p_value` is that of the exact McNemar test over groups, for the hypothesis of equal accuracy. `recall_change` is
    the change of recall (share) of each label whose recall differs from the reference's, the largest loss first.
    """

    runner: RunnerId = field(metadata=FLAT)
    outcome: GateOutcome
    checks: tuple[Check, ...]
    only_reference: int
    only_runner: int
    p_value: float
    recall_change: Mapping[str, float]


@dataclass(frozen=True)
class Gate:
    """The configuration of the gate, and its result."""

    config: GateConfig
    outcome: GateOutcome
    runners: tuple[RunnerGate, ...]


def gate_from_evaluations(
    evaluations: Sequence[Evaluation], config: GateConfig, all_photos: AllPhotos | None = None
) -> Gate:
    """Check evaluations, TensorFlow's first, against the limits of `config`. `all_photos` are the same run's.

    Raises BadInput when a runner that `config` names was not evaluated, or none of a reduced precision was.
    """
    compared = {evaluation.runner.name: evaluation for evaluation in evaluations if evaluation.comparison}
    reduced = (name for name, evaluation in compared.items() if evaluation.runner.precision in REDUCED)
    runners = config.runners or tuple(reduced)
    if not runners:
        raise BadInput("no FP16 or INT8 runner was evaluated", hint="trtpoets quantize NAME", code="TP5039")
    unknown = [name for name in runners if name not in compared]
    if unknown:
        raise BadInput(
            f"{unknown[0]} was not evaluated",
            hint="give " + " or ".join(f"--runner {quote(name)}" for name in compared or ["NAME"]),
            code="TP5040",
        )
    results = tuple(_runner(compared[name], evaluations[0], config, all_photos) for name in dict.fromkeys(runners))
    return Gate(config, _worst([result.outcome for result in results]), results)


def gate_from_all_photos(all_photos: AllPhotos, config: GateConfig) -> Gate | None:
    """Check the files of an evaluation over all photos against the limits; None where none was compared."""
    results = tuple(
        RunnerGate(
            runner=item.runner,
            outcome=_worst([check.outcome for check in checks]),
            checks=checks,
            only_reference=item.comparison.only_reference,
            only_runner=item.comparison.only_runner,
            p_value=item.comparison.p_value,
            recall_change=item.recall_change,
        )
        for item in all_photos.files
        if item.photos
        for checks in [_checks(item, config, all_photos)]
    )
    return Gate(config, _worst([result.outcome for result in results]), results) if results else None


def require_passed(gate: Gate | None, name: str = "NAME", engines: Path = DEFAULT_ENGINES) -> None:
    """Raise unless the gate of the run `name` passed; None means that there is no gate.

    Raises GateFailed where a runner fails a limit, and else GateUndecided where the photos are too few to decide,
    unless the gate allows that.
    """
    if gate is None or gate.outcome is GateOutcome.PASSED:
        return
    if gate.outcome is GateOutcome.FAILED:
        precisions = {result.runner.precision for result in gate.runners if result.outcome is GateOutcome.FAILED}
        advised = Precision.INT8 in precisions and Precision.FP16 not in precisions
        hint = f"ship fp16: {command('build', name, '--precision', 'fp16', engines=engines)}"
        raise GateFailed("; ".join(failures(gate)), hint=hint if advised else "", code="TP5041")
    if not gate.config.allow_undecided:
        again = command("evaluate", name, *_options(gate.config), "--allow-undecided", engines=engines)
        raise GateUndecided(
            f"the gate cannot tell: {'; '.join(unknowns(gate))}",
            hint=f"{_more_photos(gate)}, or accept an undecided gate: {again}",
            code="TP5042",
        )


def _more_photos(gate: Gate) -> str:
    """Return how to get more photos for the undecided limits."""
    undecided = [check for result in gate.runners for check in result.checks if check.outcome is GateOutcome.UNKNOWN]
    return "add photos" if all(check.file for check in undecided) else "evaluate more photos (--test-percent)"


def failures(gate: Gate) -> list[str]:
    """Return one clause for each limit that a runner fails: its name and the measured value."""
    return [
        f"{result.runner.name} {sentence(check)}"
        for result in gate.runners
        for check in result.checks
        if check.outcome is GateOutcome.FAILED
    ]


def _options(config: GateConfig) -> list[str]:
    """Return the gate as options of `evaluate`."""
    limits = {"--max-drop": config.max_drop, "--min-agreement": config.min_agreement}
    words = [word for option, value in limits.items() if value is not None for word in (option, f"{value:g}")]
    return words + [word for runner in config.runners for word in ("--runner", runner)]


def sentence(check: Check, with_photos: bool = True) -> str:
    """Return the result of one check as a clause: "loses 2.1 points of accuracy (0.9 to 3.3), 0.5 are allowed".

    `with_photos` adds on which photos a file was compared, where these are not the runner's own test photos.
    """
    limit, where = 100 * check.limit, _on_photos(check) if with_photos else ""
    if check.measured is None or check.low is None or check.high is None:
        return "was evaluated on no photo with a label of the classifier, so its accuracy is unknown"
    measured, low, high = 100 * check.measured, 100 * check.low, 100 * check.high
    # Two digits where a bound rounded to one digit would equal the limit.
    digits = 2 if f"{limit:.1f}" in (f"{abs(low):.1f}", f"{abs(high):.1f}") else 1
    if check.what == "agreement":
        agreement = f"agrees on {measured:.1f} % ({low:.{digits}f} to {high:.{digits}f})"
        return f"{agreement}{where}, {limit:g} are asked for"
    if measured < 0:
        gain = f"wins {-measured:.1f} points of accuracy ({-high:.{digits}f} to {-low:.{digits}f})"
        return f"{gain}{where}, losing {limit:g} is allowed"
    loss = f"loses {measured:.1f} points of accuracy ({low:.{digits}f} to {high:.{digits}f})"
    return f"{loss}{where}, {limit:g} are allowed"


def _on_photos(check: Check) -> str:
    """Return on which photos another file than the runner's own answers was compared; empty for the test photos."""
    if not check.file:
        return ""
    return f" on {photos_in_groups(check.photos, check.groups)} outside calibration ({check.file})"


def unknowns(gate: Gate) -> list[str]:
    """Return a clause for each undecided limit, with the number of photos that would decide it."""
    runners_of: dict[str, list[str]] = {}
    for result in gate.runners:
        for check in result.checks:
            if check.outcome is GateOutcome.UNKNOWN:
                runners_of.setdefault(too_few(check), []).append(result.runner.name)
    return [f"{text}: {', '.join(runners)}" for text, runners in runners_of.items()]


def too_few(check: Check) -> str:
    """Return the question that an undecided check leaves open, and the number of photos that would decide it."""
    agreement, limit = check.what == "agreement", 100 * check.limit
    what = (
        f"at least {limit:g} % of the answers stay" if agreement else f"at most {limit:g} points of accuracy are lost"
    )
    outside = " outside calibration" if check.file else ""
    here = f"{photos_in_groups(check.photos, check.groups)}{outside} can't tell whether {what}"
    if check.measured is None or check.changed is None:
        return here
    needed, changed = check.photos_needed, 100 * check.changed
    if needed is None:
        exact = check.limit == (1 if agreement else 0)
        return f"{here} ({'no number of photos can' if exact else 'what was measured is at the limit'})"
    kind = "change" if agreement else "change between right and wrong"
    rate = f"as {changed:.2g} % of the answers {kind}" if changed else f"if no answers {kind}"
    return f"{here} (about {rounded(needed)} independent photos could, {rate})"


def missed(check: Check) -> bool:
    """Return whether the measured value misses the limit, for recommendations, which also decide undecided checks.

    True where the check fails. Also True where it is undecided, the measured value is beyond the limit, and the photos
    are enough for a runner without any loss to pass.
    """
    if check.outcome is not GateOutcome.UNKNOWN or check.measured is None:
        return check.outcome is GateOutcome.FAILED
    agreement, limit, measured = check.what == "agreement", check.limit, check.measured
    lossless = photos_for_share(round(1 - limit, 12) if agreement else limit)
    # A share that equals the limit is allowed, so rounding errors of the quotient are ignored.
    beyond = (measured < limit if agreement else measured > limit) and not math.isclose(measured, limit, rel_tol=1e-9)
    return beyond and (lossless is None or check.groups >= lossless)


def photos_in_groups(photos: int, groups: int, noun: str = "photo") -> str:
    """Return "800 photos", or "225 photos in 9 independent groups"."""
    count = f"1 {noun}" if photos == 1 else f"{photos:,} {noun}s"
    if groups >= photos:
        return count
    return f"{count} in {'1 independent group' if groups == 1 else f'{groups:,} independent groups'}"


def rounded(count: int) -> str:
    """Return an estimated number of photos as text, from 1,000 on rounded up to two digits."""
    unit: int = 10 ** max(len(str(count)) - 2, 0) if count >= 1000 else 1
    return f"{-(-count // unit) * unit:,}"


def _runner(
    evaluation: Evaluation, reference: Evaluation, config: GateConfig, all_photos: AllPhotos | None
) -> RunnerGate:
    compared = evaluation.comparison
    assert compared is not None
    checks = _checks(evaluation, config)
    of_file = all_photos.of_runner(evaluation.runner) if all_photos else None
    if all_photos is not None and of_file is not None:
        is_its_runner = evaluation.runner == of_file.runner
        pairs = zip(checks, _checks(of_file, config, all_photos))
        checks = tuple(own if own_photos_decide(own, is_its_runner) else other for own, other in pairs)
    change = {
        label: after - before
        for label, after in evaluation.recall.items()
        if after is not None and (before := reference.recall[label]) is not None
    }
    return RunnerGate(
        runner=evaluation.runner,
        outcome=_worst([check.outcome for check in checks]),
        checks=checks,
        only_reference=compared.only_reference,
        only_runner=compared.only_runner,
        p_value=compared.p_value,
        recall_change=dict(
            sorted(
                ((label, difference) for label, difference in change.items() if difference), key=lambda item: item[1]
            )
        ),
    )


def own_photos_decide(own: Check, is_its_runner: bool) -> bool:
    """Return whether the result on a runner's own test photos counts instead of the file's on all photos.

    It does where the runner fails on them. It does too where the runner misses the limit on them, unless it is the
    runner with which the file was compared.
    """
    return own.outcome is GateOutcome.FAILED or (not is_its_runner and missed(own))


def _checks(
    measured: Evaluation | FileOnAllPhotos, config: GateConfig, all_photos: AllPhotos | None = None
) -> tuple[Check, ...]:
    """Return the results of the limits: for a runner's test photos, or for a file on `all_photos`."""
    checks = []
    if config.min_agreement is not None:
        factor = all_photos.agreement_factor if all_photos else 1.0
        checks.append(_agreement(measured, round(config.min_agreement / 100, 12), factor))
    if config.max_drop is not None:
        checks.append(_drop(measured, round(config.max_drop / 100, 12)))
    file = measured.file if isinstance(measured, FileOnAllPhotos) else ""
    return tuple(replace(check, file=file) for check in checks)


def _agreement(evaluation: Evaluation | FileOnAllPhotos, limit: float, factor: float) -> Check:
    """Return the result of the limit of the agreement. `factor` enlarges the variance of that of independent photos."""
    measured, low, high = evaluation.agreement, evaluation.agreement_low, evaluation.agreement_high
    assert measured is not None and low is not None and high is not None
    outcome = _outcome(within=low >= limit, beyond=high < limit)
    photos, groups = evaluation.photos, evaluation.groups
    needed = photos_for_agreement(limit, measured)
    needed = None if needed is None else math.ceil(needed * factor)
    return Check("agreement", outcome, limit, measured, low, high, photos, groups, 1 - measured, needed)


def _drop(evaluation: Evaluation | FileOnAllPhotos, limit: float) -> Check:
    compared = evaluation.comparison
    assert compared is not None
    photos, groups = evaluation.labelled, evaluation.labelled_groups
    if compared.accuracy_change is None or compared.change_low is None or compared.change_high is None:
        return Check("drop", GateOutcome.UNKNOWN, limit, None, None, None, photos, groups, None, None)
    measured, low, high = 0.0 - compared.accuracy_change, 0.0 - compared.change_high, 0.0 - compared.change_low
    changed = (compared.only_reference + compared.only_runner) / photos
    needed = photos_for_drop(limit, changed)
    if needed is not None and needed <= groups:  # enough for a runner without any loss, so the measured loss is used
        needed = photos_for_drop(limit, changed, measured)
    outcome = _outcome(within=high <= limit, beyond=low > limit)
    return Check("drop", outcome, limit, measured, low, high, photos, groups, changed, needed)


def _outcome(*, within: bool, beyond: bool) -> GateOutcome:
    return GateOutcome.PASSED if within else GateOutcome.FAILED if beyond else GateOutcome.UNKNOWN


def _worst(outcomes: Sequence[GateOutcome]) -> GateOutcome:
    return next(
        (outcome for outcome in (GateOutcome.FAILED, GateOutcome.UNKNOWN) if outcome in outcomes), GateOutcome.PASSED
    )
