"""Evaluations -> passed, failed, or cannot tell: how much worse than TensorFlow a narrow precision may be.

The photos decide what can be said. Where there are enough of them, the measured value is held against the limit. With
fewer, only a miss that chance can't explain counts (its whole 95 % interval lies beyond the limit, and McNemar's test
sees more than chance); anything else is "cannot tell". Enough means that a flawless runner would be proven: with not
one answer lost, Wilson's interval keeps within the limit.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Mapping, Sequence

from trtpoets.core.commands import DEFAULT_ENGINES, command
from trtpoets.core.errors import BadInput, GateFailed
from trtpoets.core.runner_id import RunnerId, row_of, runner_of_row
from trtpoets.core.spec import Precision
from trtpoets.judge.statistics import CONFIDENCE, wilson_interval

NARROW = (Precision.FP16, Precision.INT8)
"""The narrow precisions: their runners are judged unless others are asked for."""


@dataclass(frozen=True)
class GateConfig:
    """The limits; None does not look. `max_drop` is accuracy in percentage points, `min_agreement` is in percent.

    `runners` are those to judge by name; none given means every runner of a narrow precision.
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    runners: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_agreement is None:
            raise BadInput("a gate without a limit", hint="--max-drop 0.5 --min-agreement 98")
        if self.max_drop is not None and not 0 <= self.max_drop < 100:
            raise BadInput(f"--max-drop {self.max_drop:g} is no loss in points", hint="--max-drop 0.5")
        if self.min_agreement is not None and not 0 < self.min_agreement <= 100:
            raise BadInput(f"--min-agreement {self.min_agreement:g} is no percentage", hint="--min-agreement 98")


class Outcome(str, Enum):
    """Of one limit, one runner, or all."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Check:
    """One limit for one runner. Shares 0..1: `measured` between `low` and `high`, against `limit`.

    `what` is "drop" (accuracy lost, at most `limit`) or "agreement" (at least `limit`). `photos_needed` is how many
    would do for this limit; `photos` is how many there are.
    """

    what: str
    outcome: Outcome
    limit: float
    measured: float | None
    low: float | None
    high: float | None
    photos: int
    photos_needed: int


@dataclass(frozen=True)
class RunnerGate:
    """What the gate says of one runner.

    `p_value` is the exact McNemar test's: how likely so uneven a trade of right answers is between equals.
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
        raise BadInput("there is no FP16 or INT8 runner to judge", hint="trtpoets quantize NAME")
    strange = [name for name in runners if name not in compared]
    if strange:
        raise BadInput(f"{strange[0]} was not evaluated here", hint=f"--runner {', '.join(compared) or 'NAME'}")
    found = tuple(_runner(compared[name], evaluations[0], config) for name in dict.fromkeys(runners))
    return Gate(config, _worst([each.outcome for each in found]), found)


def require_passed(gate: Mapping[str, Any] | None, name: str = "NAME", engines: Path = DEFAULT_ENGINES) -> None:
    """Raise GateFailed when the gate of the run `name`, as `Gate.to_dict` gives it, failed; None is no gate."""
    if gate is None or gate["outcome"] != Outcome.FAILED:
        return
    failed = [each for each in gate["runners"] if each["outcome"] == Outcome.FAILED]
    misses = "; ".join(
        f"{each['runner']} {sentence(check)}"
        for each in failed
        for check in each["checks"]
        if check["outcome"] == Outcome.FAILED
    )
    precisions = {runner_of_row(each).precision for each in failed}
    advised = Precision.INT8 in precisions and Precision.FP16 not in precisions
    hint = f"ship fp16: {command('build', name, '--precision', 'fp16', engines=engines)}"
    raise GateFailed(misses, hint=hint if advised else "")


def sentence(check: Mapping[str, Any]) -> str:
    """What one check says of its runner: "loses 2.1 points of accuracy (0.9 to 3.3), 0.5 are allowed"."""
    limit = 100 * check["limit"]
    if check["measured"] is None:
        return "was shown no photo with a label that the classifier knows: no accuracy to lose"
    measured, low, high = (100 * check[word] for word in ("measured", "low", "high"))
    if check["what"] == "agreement":
        return f"answers like TensorFlow on {measured:.1f} % ({low:.1f} to {high:.1f}), {limit:g} are asked for"
    if measured < 0:
        return f"wins {-measured:.1f} points of accuracy ({-high:.1f} to {-low:.1f}), losing {limit:g} is allowed"
    return f"loses {measured:.1f} points of accuracy ({low:.1f} to {high:.1f}), {limit:g} are allowed"


def unknowns(gate: Mapping[str, Any]) -> list[str]:
    """What a gate, as `Gate.to_dict` gives it, can't tell, and how many photos could: a sentence for each limit."""
    told: dict[str, list[str]] = {}
    for runner in gate["runners"]:
        for check in runner["checks"]:
            if check["outcome"] == Outcome.UNKNOWN:
                told.setdefault(_too_few(check), []).append(runner["runner"])
    return [f"{text}: {', '.join(runners)}" for text, runners in told.items()]


def _too_few(check: Mapping[str, Any]) -> str:
    limit, photos, needed = 100 * check["limit"], f"{check['photos']:,}", f"{check['photos_needed']:,}"
    if check["what"] == "agreement":
        return f"{photos} photos can't tell whether {limit:g} % of the answers stay ({needed} could)"
    return f"{photos} photos can't tell whether accuracy falls by at most {limit:g} points ({needed} could)"


def photos_for_share(limit: float) -> int:
    """How many photos prove that a share is at most `limit`, when it shows on none: Wilson's interval of 0 of n.

    A limit of 0 can't be proven by any number, and is held against what was seen: 1.
    """
    if limit <= 0:
        return 1
    low, high = 1, 2
    while wilson_interval(0, high).high > limit:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wilson_interval(0, middle).high <= limit else (middle, high)
    return high


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
    photos, needed = evaluation["photos"], photos_for_share(1 - limit)
    measured, low, high = (evaluation[word] for word in ("agreement", "agreement_low", "agreement_high"))
    outcome = _outcome(misses=measured < limit, surely=high < limit, enough=photos >= needed)
    return Check("agreement", outcome, limit, measured, low, high, photos, needed)


def _drop(evaluation: Mapping[str, Any], limit: float) -> Check:
    compared, photos = evaluation["comparison"], evaluation["labelled"]
    needed = photos_for_share(limit)
    if compared["accuracy_change"] is None:
        return Check("drop", Outcome.UNKNOWN, limit, None, None, None, photos, needed)
    measured, low, high = (0.0 - compared[word] for word in ("accuracy_change", "change_high", "change_low"))
    # Shares are quotients of whole numbers: a drop of exactly the limit is allowed, whatever its last bit says.
    misses = measured > limit and not math.isclose(measured, limit, rel_tol=1e-9)
    # Of a handful of photos an interval is too sure of itself; the exact test is not.
    surely = low > limit and compared["p_value"] < 1 - CONFIDENCE
    outcome = _outcome(misses=misses, surely=surely, enough=photos >= needed)
    return Check("drop", outcome, limit, measured, low, high, photos, needed)


def _outcome(*, misses: bool, surely: bool, enough: bool) -> Outcome:
    if surely or (misses and enough):
        return Outcome.FAILED
    return Outcome.PASSED if enough else Outcome.UNKNOWN


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    return next((each for each in (Outcome.FAILED, Outcome.UNKNOWN) if each in outcomes), Outcome.PASSED)
