"""Simulates the coverage of the confidence intervals and bounds of speed, on rounds with known true values.

    python benchmarks/coverage_speed.py [--runs 500] [--seed 0] [--rounds 20]

Each line is a scenario: the claim, how often it held if an interval or bound was reported, how often one was reported,
how often a wrong one was reported, and its width relative to the value. "About" means within 2 points of the nominal
coverage, "at least" not below it; otherwise the exit code is 1. Lines without a claim violate the assumptions. They
show whether the interval is then withheld, and how often it is wrong if it is not. No clock is read and no runner is
run. It takes one minute on two cores.

`--rounds 10` simulates a runner on a GPU, which takes part in every second round of a benchmark, so that the
autocorrelation between its rounds is squared.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from trtpoets.judge.bench.compare import compared
from trtpoets.judge.bench.early_stop import is_check_due, ratios_are_within
from trtpoets.judge.bench.rounds import percentile_bound, ratio_of_rounds, ratio_of_runs
from trtpoets.judge.statistics import CONFIDENCE, PERCENTILE_CONFIDENCE

ROUNDS = 20
"""Number of rounds of a runner; set by `--rounds`."""

OF_A_BENCHMARK = 20

NOISE = 0.02
"""Standard deviation of the logarithm of a round."""

PRECISIONS = ("fp32", "fp16", "int8")
RUNNERS = tuple(f"{each}-{precision}" for each in ("onnxruntime", "rtx", "tensorrt") for precision in PRECISIONS)[:8]


def between(share: float) -> float:
    """Return the autocorrelation between ROUNDS rounds if it is `share` between the rounds of the benchmark."""
    return float(share ** (OF_A_BENCHMARK / ROUNDS))


def dependent(rng: np.random.Generator, share: float, count: int) -> np.ndarray:
    """Return normal values (count,) of variance 1 with autocorrelation `share`."""
    fresh = rng.normal(size=count) * math.sqrt(1 - share**2)
    fresh[0] = rng.normal()
    for place in range(1, count):
        fresh[place] += share * fresh[place - 1]
    return fresh


def spells(rng: np.random.Generator, length: float, part: float, count: int) -> np.ndarray:
    """Return bool (count,): slow phases with mean duration `length` that make up the fraction `part`."""
    ends, begins = 1 / length, part / (length * (1 - part))
    slow = np.empty(count, bool)
    now = rng.random() < part
    for place, chance in enumerate(rng.random(count)):
        slow[place] = now
        now = chance >= ends if now else chance < begins
    return slow


@dataclass(frozen=True)
class Scenario:
    """A simulation. `trial` returns whether the claim held (None if none was made) and its width.

    `claim` is "about" (the nominal coverage within 2 points), "at least", or "" if its assumptions are violated.
    """

    what: str
    name: str
    nominal: float
    claim: str
    trial: Callable[[np.random.Generator], tuple[bool | None, float]]
    weight: float = 1.0


Rounds = Callable[[np.random.Generator], np.ndarray]
"""A function that simulates the logarithms (ROUNDS,) of one run, whose true median is 0."""


def of_rounds(made: Rounds) -> Callable[[np.random.Generator], tuple[bool | None, float]]:
    """Return a trial: whether the interval contains the ratio of another run; common effects cancel out."""

    def trial(rng: np.random.Generator) -> tuple[bool | None, float]:
        shared = np.cumsum(rng.normal(0, 0.1, ROUNDS))
        found = ratio_of_rounds(np.exp(shared + made(rng)), np.exp(shared))
        other = float(np.exp(np.median(made(rng))))
        if found.interval is None:
            return None, 0.0
        return found.interval.low <= other <= found.interval.high, math.log(
            found.interval.high / found.interval.low
        ) / 2

    return trial


def of_stopped(made: Rounds) -> Callable[[np.random.Generator], tuple[bool | None, float]]:
    """Return a trial: as `of_rounds`, for benchmarks that end as soon as the ratio is known to ±5 %."""

    def trial(rng: np.random.Generator) -> tuple[bool | None, float]:
        base, own = np.exp(made(rng)), np.ones(ROUNDS)
        rounds = ROUNDS
        for done in filter(lambda done: is_check_due(done, ROUNDS), range(1, ROUNDS)):
            first, second = (dict(enumerate(values[:done])) for values in (base, own))
            if ratios_are_within(0.05, first, [second]):
                rounds = done
                break
        if rounds == ROUNDS:
            return None, 0.0
        found = ratio_of_rounds(base[:rounds], own[:rounds])
        assert found.interval is not None
        other = float(np.exp(np.median(made(rng)[:rounds])))
        width = math.log(found.interval.high / found.interval.low) / 2
        return found.interval.low <= other <= found.interval.high, width

    return trial


def of_runs(made: Rounds) -> Callable[[np.random.Generator], tuple[bool | None, float]]:
    """Return a trial: whether the interval of the ratio of two equal runs contains 1."""

    def trial(rng: np.random.Generator) -> tuple[bool | None, float]:
        found = ratio_of_runs(np.exp(made(rng)), np.exp(made(rng)))
        if found.interval is None:
            return None, 0.0
        return found.interval.low <= 1 <= found.interval.high, math.log(found.interval.high / found.interval.low) / 2

    return trial


def of_rows(share: float, before_and_now: bool) -> Callable[[np.random.Generator], tuple[bool | None, float]]:
    """Return a trial: whether eight equal rows of one or two benchmarks are all reported as equally fast."""

    def one(rng: np.random.Generator) -> dict[str, object]:
        base = NOISE * dependent(rng, between(share), ROUNDS)
        rows = [{"runner": "tensorflow", "batch": 1, "valid": True, "round_p50_ms": np.exp(base).tolist()}]
        for name in RUNNERS:
            spans = np.exp(base + NOISE * dependent(rng, between(share), ROUNDS))
            rows.append({"runner": name, "batch": 1, "valid": True, "round_p50_ms": spans.tolist()})
        return {"measurements": [{**row, "p50_ms": 1.0, "speedup": 1.0} for row in rows]}

    def trial(rng: np.random.Generator) -> tuple[bool | None, float]:
        if before_and_now:
            changes = compared(one(rng), one(rng))["changes"][1:]
            noises = [each["noise"] for each in changes if each["noise"] is not None]
            held = not any(each["verdict"] in ("faster", "slower") for each in changes)
            return held, float(np.mean(noises)) if noises else 0.0
        base, other = (NOISE * dependent(rng, between(share), ROUNDS) for _ in range(2))
        held, widths = True, []
        for _ in RUNNERS:
            first, second = (NOISE * dependent(rng, between(share), ROUNDS) for _ in range(2))
            found = ratio_of_rounds(np.exp(base), np.exp(first), comparisons=len(RUNNERS))
            if found.interval is not None:
                held &= found.interval.low <= float(np.exp(np.median(other - second))) <= found.interval.high
                widths.append(math.log(found.interval.high / found.interval.low) / 2)
        return held, float(np.mean(widths)) if widths else 0.0

    return trial


def of_percentile(
    made: Callable[[np.random.Generator, int], np.ndarray], count: int, truth: float
) -> Callable[[np.random.Generator], tuple[bool | None, float]]:
    """Return a trial: whether the bound of the p99 of `count` latencies in ROUNDS rounds is at least `truth`."""

    def trial(rng: np.random.Generator) -> tuple[bool | None, float]:
        found = percentile_bound(np.array_split(made(rng, count), ROUNDS), 99).value
        return (None, 0.0) if found is None else (found >= truth, found / truth - 1)

    return trial


def scenarios() -> list[Scenario]:
    """Return all scenarios in the order of the table."""
    made: list[Scenario] = []
    for what, of in (("ratio of rounds", of_rounds), ("ratio of runs", of_runs)):

        def add(name: str, claim: str, rounds: Rounds, what: str = what, of: Callable[..., object] = of) -> None:
            made.append(Scenario(what, name, CONFIDENCE, claim, of(rounds), 4.0))  # type: ignore[arg-type]

        for share in (0.0, 0.3, 0.6, 0.8):
            name = f"correlation of rounds {share:.1f}" if share else "independent rounds"
            claim = "about" if share < 0.5 or (share < 0.7 and of is of_rounds) else "at least" if share < 0.7 else ""
            add(name, claim, lambda rng, share=share: NOISE * dependent(rng, between(share), ROUNDS))
        add("heavy tails (t, 3 degrees)", "at least", lambda rng: NOISE * rng.standard_t(3, ROUNDS))
        add("a tenth of rounds 20 % slower", "at least", lambda rng: NOISE * rng.normal(size=ROUNDS) + _outliers(rng))
        for size in (0.02, 0.1):
            drift = size * np.linspace(-0.5, 0.5, ROUNDS)
            name, claim = f"a drift by {size:.0%}", "at least" if size < 0.1 else ""
            add(name, claim, lambda rng, drift=drift: NOISE * rng.normal(size=ROUNDS) + drift)
        add("a random walk", "", lambda rng: np.cumsum(NOISE * rng.normal(size=ROUNDS)))
    for share in (0.0, 0.3, 0.6):
        name = f"correlation of rounds {share:.1f}" if share else "independent rounds"
        rounds = _dependent_rounds(share)
        claim = "at least" if share < 0.5 else ""
        made.append(Scenario("stopped early", name, CONFIDENCE, claim, of_stopped(rounds), 4.0))
    for share in (0.0, 0.5):
        name = f"8 rows, correlation of rounds {share:.1f}" if share else "8 rows, independent rounds"
        made.append(Scenario("all ratios", name, CONFIDENCE, "at least", of_rows(share, False)))
        made.append(Scenario("no false alarm", name, CONFIDENCE, "at least", of_rows(share, True)))
    for name, claim, latencies, truth in _latencies():
        for count in (1000, 4000):
            made.append(
                Scenario(
                    "p99 bound",
                    f"{name}, {count:,}",
                    PERCENTILE_CONFIDENCE,
                    claim,
                    of_percentile(latencies, count, truth),
                )
            )
    return made


def _dependent_rounds(share: float) -> Rounds:
    return lambda rng: NOISE * dependent(rng, between(share), ROUNDS)


def _outliers(rng: np.random.Generator) -> np.ndarray:
    return 0.2 * (rng.random(ROUNDS) < 0.1)


def _latencies() -> list[tuple[str, str, Callable[[np.random.Generator, int], np.ndarray], float]]:
    """Return name, claim, simulation of the latencies (N,) and true 99th percentile of each case."""
    high = 2.3263

    def keeping(share: float) -> Callable[[np.random.Generator, int], np.ndarray]:
        return lambda rng, count: np.exp(0.1 * dependent(rng, share, count))

    def rounds(rng: np.random.Generator, count: int) -> np.ndarray:
        return np.exp(0.03 * rng.normal(size=count) + np.repeat(0.05 * rng.normal(size=ROUNDS), count // ROUNDS))

    def drifting(rng: np.random.Generator, count: int) -> np.ndarray:
        return np.exp(0.01 * rng.normal(size=count) + 0.1 * np.linspace(-1, 1, count))

    def bursts(length: float, part: float) -> Callable[[np.random.Generator, int], np.ndarray]:
        return lambda rng, count: np.exp(0.02 * rng.normal(size=count) + 0.4 * spells(rng, length, part, count))

    def in_spells(part: float) -> float:
        """Return the 99th percentile, which lies among the slow latencies."""
        from statistics import NormalDist

        return math.exp(0.4 + 0.02 * NormalDist().inv_cdf(1 - 0.01 / part))

    return [
        ("independent", "at least", keeping(0.0), math.exp(0.1 * high)),
        ("exponential tails", "at least", lambda rng, count: 1 + rng.exponential(size=count), 1 + math.log(100)),
        ("correlation 0.5", "at least", keeping(0.5), math.exp(0.1 * high)),
        ("correlation 0.9", "at least", keeping(0.9), math.exp(0.1 * high)),
        ("correlation 0.97", "at least", keeping(0.97), math.exp(0.1 * high)),
        ("rounds at other levels", "at least", rounds, math.exp(high * math.hypot(0.03, 0.05))),
        ("a drift by 20 %", "at least", drifting, math.exp(0.098)),
        ("10 % in spells of 5", "at least", bursts(5, 0.1), in_spells(0.1)),
        ("3 % in spells of 20", "", bursts(20, 0.03), in_spells(0.03)),
        ("5 % in spells of 100", "", bursts(100, 0.05), in_spells(0.05)),
    ]


def simulated(task: tuple[int, int, int]) -> tuple[float, float, float]:
    """Simulate (scenario, runs, seed): return the shares that held and that were reported, and the median width."""
    place, runs, seed = task
    trial = scenarios()[place].trial
    rng = np.random.default_rng([seed, place])
    found = [trial(rng) for _ in range(runs)]
    given = [(held, width) for held, width in found if held is not None]
    if not given:
        return math.nan, 0.0, math.nan
    return (
        float(np.mean([held for held, _ in given])),
        len(given) / runs,
        float(np.median([width for _, width in given])),
    )


def misses(scenario: Scenario, held: float, count: float) -> bool:
    """Whether a claim holds significantly too rarely in `count` runs, or too often for the claim "about"."""
    if math.isnan(held) or not scenario.claim:
        return False
    left_open = 3 * math.sqrt(scenario.nominal * (1 - scenario.nominal) / max(count, 1))
    if scenario.claim == "about":
        return abs(held - scenario.nominal) > 0.02 + left_open
    return held < scenario.nominal - left_open


def main() -> int:
    """Print the table; return 1 if a claim fails under its assumptions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=500, help="simulated benchmarks per scenario (four times as many for ratios)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=OF_A_BENCHMARK, help="a divisor of 1,000")
    options = parser.parse_args()
    global ROUNDS  # noqa: PLW0603 - what all scenarios have in common
    ROUNDS = options.rounds
    chosen = scenarios()
    tasks = [(place, int(options.runs * scenario.weight), options.seed) for place, scenario in enumerate(chosen)]
    print(f"{'what':<16} {'scenario':<34} {'claim':>12} {'held':>6} {'given':>6} {'wrong':>6} {'width':>6}")
    failed = 0
    with get_context("fork").Pool(2) as pool:
        for (_, runs, _), scenario, (held, share, width) in zip(
            tasks, chosen, pool.imap(simulated, tasks), strict=True
        ):
            wrong = misses(scenario, held, share * runs)
            failed += wrong
            wide = "–" if math.isnan(width) else f"{width:.1%}"
            shares = [f"{held:.1%}", f"{share:.0%}", f"{share * (1 - held):.1%}"] if share else ["–", "0%", "0%"]
            columns = "".join(f" {number:>6}" for number in (*shares, wide))
            claim = f"{scenario.claim} {scenario.nominal:.0%}" if scenario.claim else "none"
            print(
                f"{scenario.what:<16} {scenario.name:<34} {claim:>12}{columns}{'  FAILS' if wrong else ''}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
