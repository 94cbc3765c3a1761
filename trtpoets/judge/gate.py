"""Evaluations -> passed, failed, or cannot tell: how much worse than TensorFlow a narrow precision may be.

Each limit is held against the 95 % interval of what was measured, in which copies of photos count as groups. It is
passed where the whole interval lies within the limit, failed where the whole interval lies beyond it. Anything else is
"cannot tell", with how many photos could. So a runner that loses nothing fails, and one that loses twice the limit
or more passes, at most 1 time in 40.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Mapping, Sequence

from trtpoets.core.errors import BadInput, GateFailed, GateUndecided
from trtpoets.core.runner_id import RunnerId, row_of, runner_of_row
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command, quote
from trtpoets.core.types import Precision
from trtpoets.judge.sample_size import photos_for_agreement, photos_for_drop, photos_for_share

NARROW = (Precision.FP16, Precision.INT8)
"""The narrow precisions: their runners are judged unless others are asked for."""


@dataclass(frozen=True)
class GateConfig:
    """The limits; None does not look. `max_drop` is accuracy in percentage points, `min_agreement` is in percent.

    `runners` are those to judge by name; none given means every runner of a narrow precision. With `allow_undecided`
    "cannot tell" is no error: `require_passed` then raises nothing.
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    runners: tuple[str, ...] = ()
    allow_undecided: bool = False

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_agreement is None:
            raise BadInput("a gate without a limit", hint="--max-drop 0.5 --min-agreement 98", code="TP5036")
        if self.max_drop is not None and not 0 <= self.max_drop < 100:
            raise BadInput(f"--max-drop {self.max_drop:g} is no loss in points", hint="--max-drop 0.5", code="TP5037")
        if self.min_agreement is not None and not 0 < self.min_agreement <= 100:
            raise BadInput(
                f"--min-agreement {self.min_agreement:g} is no percentage", hint="--min-agreement 98", code="TP5038"
            )


class Outcome(str, Enum):
    """Of one limit, one runner, or all."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Check:
    """One limit for one runner. Shares 0..1: `measured` between `low` and `high`, against `limit`.

    `what` is "drop" (accuracy lost, at most `limit`) or "agreement" (at least `limit`). `photos` were judged, in
    `groups` independent groups. `changed` is the share of photos that only one of the two gets right (of "agreement":
    that are answered otherwise). `photos_needed` is how many independent photos could tell, if as many change; None
    where no number could. See `judge.sample_size`.
    """

    what: str
    outcome: Outcome
    limit: float
    measured: float | None
    low: float | None
    high: float | None
    photos: int
    groups: int
    changed: float | None
    photos_needed: int | None


@dataclass(frozen=True)
class RunnerGate:
    """What the gate says of one runner.

    `p_value` is the exact McNemar test's, over groups: how likely so uneven a trade of right answers is between equals.
    `recall_change` has the labels whose recall differs from the reference's, in shares, the worst first.
    """

    runner: RunnerId
    outcome: Outcome
    checks: tuple[Check, ...]
    only_reference: int
    only_runner: int
    p_value: float
    recall_change: Mapping[str, float]


@dataclass(frozen=True)
class Gate:
    """The gate as it was set, and what came of it."""

    config: GateConfig
    outcome: Outcome
    runners: tuple[RunnerGate, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON; each of "runners" begins with the fields of `RunnerId.row`."""
        rows = [row_of(each) for each in self.runners]
        value: dict[str, Any] = json.loads(json.dumps({**asdict(self), "runners": rows}))
        return value


def gate_from_evaluations(evaluations: Sequence[Mapping[str, Any]], config: GateConfig) -> Gate:
    """Hold evaluations, as evaluation.json has them with TensorFlow's first, against the limits.

    Raises BadInput when a runner that is asked for was not evaluated, or none of a narrow precision was.
    """
    compared = {each["runner"]: each for each in evaluations if each.get("comparison")}
    narrow = (name for name, each in compared.items() if runner_of_row(each).precision in NARROW)
    runners = config.runners or tuple(narrow)
    if not runners:
        raise BadInput("there is no FP16 or INT8 runner to judge", hint="trtpoets quantize NAME", code="TP5039")
    strange = [name for name in runners if name not in compared]
    if strange:
        raise BadInput(
            f"{strange[0]} was not evaluated here",
            hint=" or ".join(f"--runner {quote(each)}" for each in compared or ["NAME"]),
            code="TP5040",
        )
    found = tuple(_runner(compared[name], evaluations[0], config) for name in dict.fromkeys(runners))
    return Gate(config, _worst([each.outcome for each in found]), found)


def require_passed(gate: Mapping[str, Any] | None, name: str = "NAME", engines: Path = DEFAULT_ENGINES) -> None:
    """Raise unless the gate of the run `name`, as `Gate.to_dict` gives it, passed; None is no gate.

    Raises GateFailed where a runner fails a limit, and else GateUndecided where the photos can't tell, unless the gate
    allows that.
    """
    if gate is None or gate["outcome"] == Outcome.PASSED:
        return
    if gate["outcome"] == Outcome.FAILED:
        failed = [each for each in gate["runners"] if each["outcome"] == Outcome.FAILED]
        precisions = {runner_of_row(each).precision for each in failed}
        advised = Precision.INT8 in precisions and Precision.FP16 not in precisions
        hint = f"ship fp16: {command('build', name, '--precision', 'fp16', engines=engines)}"
        raise GateFailed(_checks_with(gate, Outcome.FAILED), hint=hint if advised else "", code="TP5041")
    if not gate["config"].get("allow_undecided"):
        again = command("evaluate", name, *_options(gate["config"]), "--allow-undecided", engines=engines)
        raise GateUndecided(
            f"the gate cannot tell: {'; '.join(unknowns(gate))}",
            hint=f"judge more photos (--test-percent), or let a doubt pass: {again}",
            code="TP5042",
        )


def _checks_with(gate: Mapping[str, Any], outcome: Outcome) -> str:
    return "; ".join(
        f"{runner['runner']} {sentence(check)}"
        for runner in gate["runners"]
        for check in runner["checks"]
        if check["outcome"] == outcome
    )


def _options(config: Mapping[str, Any]) -> list[str]:
    """The gate as options of `evaluate`."""
    limits = {"--max-drop": config["max_drop"], "--min-agreement": config["min_agreement"]}
    words = [word for option, value in limits.items() if value is not None for word in (option, f"{value:g}")]
    return words + [word for runner in config["runners"] for word in ("--runner", runner)]


def sentence(check: Mapping[str, Any]) -> str:
    """What one check says of its runner: "loses 2.1 points of accuracy (0.9 to 3.3), 0.5 are allowed"."""
    limit = 100 * check["limit"]
    if check["measured"] is None:
        return "was shown no photo with a label that the classifier knows: no accuracy to lose"
    measured, low, high = (100 * check[word] for word in ("measured", "low", "high"))
    # A second digit where the first would put a bound on the limit.
    digits = 2 if f"{limit:.1f}" in (f"{abs(low):.1f}", f"{abs(high):.1f}") else 1
    if check["what"] == "agreement":
        seen = f"answers like TensorFlow on {measured:.1f} % ({low:.{digits}f} to {high:.{digits}f})"
        return f"{seen}, {limit:g} are asked for"
    if measured < 0:
        seen = f"wins {-measured:.1f} points of accuracy ({-high:.{digits}f} to {-low:.{digits}f})"
        return f"{seen}, losing {limit:g} is allowed"
    return f"loses {measured:.1f} points of accuracy ({low:.{digits}f} to {high:.{digits}f}), {limit:g} are allowed"


def unknowns(gate: Mapping[str, Any]) -> list[str]:
    """What a gate, as `Gate.to_dict` gives it, can't tell, and how many photos could: a sentence for each limit."""
    told: dict[str, list[str]] = {}
    for runner in gate["runners"]:
        for check in runner["checks"]:
            if check["outcome"] == Outcome.UNKNOWN:
                told.setdefault(too_few(check), []).append(runner["runner"])
    return [f"{text}: {', '.join(runners)}" for text, runners in told.items()]


def too_few(check: Mapping[str, Any]) -> str:
    """Of a check that can't tell: what it can't, and how many photos could."""
    agreement, limit = check["what"] == "agreement", 100 * check["limit"]
    what = (
        f"at least {limit:g} % of the answers stay" if agreement else f"at most {limit:g} points of accuracy are lost"
    )
    here = f"{photos_in_groups(check['photos'], check['groups'])} can't tell whether {what}"
    if check["measured"] is None:
        return here
    needed, changed = check["photos_needed"], 100 * check["changed"]
    if needed is None:
        exact = check["limit"] == (1 if agreement else 0)
        return f"{here} ({'no number of photos can' if exact else 'what was measured is at the limit'})"
    kind = "change" if agreement else "change between right and wrong"
    seen = f"as {changed:.2g} % of the answers {kind}" if changed else f"if no answers {kind}"
    return f"{here} (about {rounded(needed)} independent photos could, {seen})"


def missed(check: Mapping[str, Any]) -> bool:
    """Whether the best estimate is that a limit is missed: for advice, where a doubt has to go one way or the other.

    So it is where the check fails, and where what was measured is beyond the limit though the photos would do to show
    that a flawless runner is within it.
    """
    if check["outcome"] != Outcome.UNKNOWN or check["measured"] is None:
        return bool(check["outcome"] == Outcome.FAILED)
    agreement, limit, measured = check["what"] == "agreement", check["limit"], check["measured"]
    flawless = photos_for_share(round(1 - limit, 12) if agreement else limit)
    # Shares are quotients of whole numbers: exactly the limit is allowed, whatever the last bit says.
    beyond = (measured < limit if agreement else measured > limit) and not math.isclose(measured, limit, rel_tol=1e-9)
    return beyond and (flawless is None or check["groups"] >= flawless)


def photos_in_groups(photos: int, groups: int, noun: str = "photo") -> str:
    """`800 photos`, or `225 photos in 9 independent groups`."""
    count = f"1 {noun}" if photos == 1 else f"{photos:,} {noun}s"
    if groups >= photos:
        return count
    return f"{count} in {'1 independent group' if groups == 1 else f'{groups:,} independent groups'}"


def rounded(count: int) -> str:
    """A number of photos that can't be known better: from 1,000 on with two digits, upwards."""
    unit: int = 10 ** max(len(str(count)) - 2, 0) if count >= 1000 else 1
    return f"{-(-count // unit) * unit:,}"


def _runner(evaluation: Mapping[str, Any], reference: Mapping[str, Any], config: GateConfig) -> RunnerGate:
    compared = evaluation["comparison"]
    checks = []
    if config.min_agreement is not None:
        checks.append(_agreement(evaluation, round(config.min_agreement / 100, 12)))
    if config.max_drop is not None:
        checks.append(_drop(evaluation, round(config.max_drop / 100, 12)))
    before, after = reference["recall"], evaluation["recall"]
    change = {label: after[label] - before[label] for label in after if after[label] is not None}
    return RunnerGate(
        runner=runner_of_row(evaluation),
        outcome=_worst([check.outcome for check in checks]),
        checks=tuple(checks),
        only_reference=compared["only_reference"],
        only_runner=compared["only_runner"],
        p_value=compared["p_value"],
        recall_change=dict(sorted(((k, v) for k, v in change.items() if v), key=lambda item: item[1])),
    )


def _agreement(evaluation: Mapping[str, Any], limit: float) -> Check:
    measured, low, high = (evaluation[word] for word in ("agreement", "agreement_low", "agreement_high"))
    outcome = _outcome(within=low >= limit, beyond=high < limit)
    photos, groups = evaluation["photos"], evaluation["groups"]
    needed = photos_for_agreement(limit, measured)
    return Check("agreement", outcome, limit, measured, low, high, photos, groups, 1 - measured, needed)


def _drop(evaluation: Mapping[str, Any], limit: float) -> Check:
    compared, photos, groups = evaluation["comparison"], evaluation["labelled"], evaluation["labelled_groups"]
    if compared["accuracy_change"] is None:
        return Check("drop", Outcome.UNKNOWN, limit, None, None, None, photos, groups, None, None)
    measured, low, high = (0.0 - compared[word] for word in ("accuracy_change", "change_high", "change_low"))
    changed = (compared["only_reference"] + compared["only_runner"]) / photos
    needed = photos_for_drop(limit, changed)
    if needed is not None and needed <= groups:  # a runner that loses nothing would have passed: this one loses some
        needed = photos_for_drop(limit, changed, measured)
    outcome = _outcome(within=high <= limit, beyond=low > limit)
    return Check("drop", outcome, limit, measured, low, high, photos, groups, changed, needed)


def _outcome(*, within: bool, beyond: bool) -> Outcome:
    return Outcome.PASSED if within else Outcome.FAILED if beyond else Outcome.UNKNOWN


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    return next((each for each in (Outcome.FAILED, Outcome.UNKNOWN) if each in outcomes), Outcome.PASSED)
