"""Simulates the coverage of the confidence intervals of trtpoets: how often they contain the true value.

    python benchmarks/coverage.py [--draws 4000] [--only accuracy] [--json FILE]

Each scenario draws results from a known true value under stated assumptions, computes the interval with the functions
of `trtpoets.judge`, and counts how often it contains the true value. A row shows the nominal coverage, the mean
simulated coverage over a range of true values, and the lowest one. Counts are discrete, so the coverage for a single
true value and number of photos oscillates around the nominal one (Brown, Cai and DasGupta, 2001). Therefore the mean
over the range must be 93 to 97 %, and the lowest is only printed. Rows marked "wide" may be above: under their
assumptions the interval is conservative by design. The exit code is 1 if a row is out of bounds.

To add rows, write a function that yields Scenarios and add it to FAMILIES. The function of a Scenario takes a random
generator and a true value, and returns whether the interval contains the value.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from trtpoets.judge.clustered import difference_interval, share_interval
from trtpoets.judge.cross_fit import (
    ACCURACY_PART,
    AGREEMENT_PART,
    CrossFitConfig,
    folds_of_photos,
    variance_factor,
)
from trtpoets.judge.statistics import Interval, paired_difference, paired_shares, wilson_interval

BOUNDS = (0.93, 0.97)
"""The bounds of the mean coverage of a row whose nominal coverage is 0.95."""


@dataclass(frozen=True)
class Scenario:
    """A simulation and its assumptions.

    `held` draws once for one of the true values `truths` and returns whether the interval contains it. `draws` is the
    fraction of --draws for this row, below 1 for slow ones. `wide` rows may be above the bounds.
    """

    what: str
    assumed: str
    truths: tuple[float, ...]
    held: Callable[[np.random.Generator, float], bool]
    draws: float = 1.0
    claimed: float = 0.95
    wide: bool = False


@dataclass(frozen=True)
class Row:
    """The result of a scenario: coverage 0..1, mean and minimum over the true values."""

    what: str
    assumed: str
    claimed: float
    mean: float
    lowest: float
    draws: int
    wide: bool
    within: bool


def simulated(family: str, number: int, draws: int) -> Row:
    """Simulate scenario `number` of a family, seeded by its name, with `draws` draws in total."""
    scenario = list(FAMILIES[family]())[number]
    rng = np.random.default_rng(zlib.crc32(f"{family} {scenario.what} {scenario.assumed}".encode()))
    draws_per_truth = max(int(draws * scenario.draws / len(scenario.truths)), 1)
    shares = [np.mean([scenario.held(rng, truth) for _ in range(draws_per_truth)]) for truth in scenario.truths]
    mean, (low, high) = float(np.mean(shares)), (bound + scenario.claimed - 0.95 for bound in BOUNDS)
    within = low <= mean and (scenario.wide or mean <= high)
    return Row(
        scenario.what,
        scenario.assumed,
        scenario.claimed,
        mean,
        float(min(shares)),
        draws_per_truth * len(shares),
        scenario.wide,
        within,
    )


def holds(interval: Interval, truth: float) -> bool:
    """Whether the interval contains the true value, up to rounding errors."""
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


# -- accuracy and agreement: shares of photos --------------------------------------------------------------------------

wilson = lru_cache(maxsize=None)(wilson_interval)
tango = lru_cache(maxsize=None)(paired_shares)

SHARES = tuple(np.linspace(0.6, 0.98, 20))


def sizes_of(kind: str) -> np.ndarray:
    """Return the group sizes for different patterns of near-copies."""
    rng = np.random.default_rng(0)
    return np.array(
        {
            "9 photos with 25 copies each": [25] * 9,
            "40 groups of 5": [5] * 40,
            "100 photos and 20 groups of 5": [1] * 100 + [5] * 20,
            "60 groups of 1 to 20": np.minimum(rng.geometric(0.3, 60), 20).tolist(),
            "100 photos and 3 groups of 30": [1] * 100 + [30] * 3,
            "300 photos and 40 groups of 5": [1] * 300 + [5] * 40,
            "200 groups of 1 to 10": rng.integers(1, 11, 200).tolist(),
        }[kind]
    )


def drawn_in_groups(rng: np.random.Generator, sizes: np.ndarray, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Return uniform numbers (N,) and their groups; in a group they are equal with probability `rho`."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    own = rng.random(len(groups)) >= np.sqrt(rho)
    return np.where(own, rng.random(len(groups)), rng.random(len(sizes))[groups]), groups


def accuracy() -> Iterator[Scenario]:
    """Yield scenarios for the interval of accuracy, agreement and recall."""
    for photos in (10, 40, 200, 1000):
        yield Scenario(
            "accuracy, agreement, recall",
            f"{photos:,} independent photos; shares 60 to 98 %",
            SHARES,
            lambda rng, share, photos=photos: holds(wilson(int(rng.binomial(photos, share)), photos), share),
            draws=4,
        )
    for photos in (200, 1000):
        yield Scenario(
            "accuracy, agreement, recall",
            f"{photos:,} independent photos; shares 98 to 99.9 %",
            tuple(np.linspace(0.98, 0.999, 20)),
            lambda rng, share, photos=photos: holds(wilson(int(rng.binomial(photos, share)), photos), share),
            draws=4,
        )


def grouped() -> Iterator[Scenario]:
    """Yield scenarios for the same interval with photos in groups of correlated results."""
    kinds = (
        "9 photos with 25 copies each",
        "40 groups of 5",
        "100 photos and 20 groups of 5",
        "60 groups of 1 to 20",
        "100 photos and 3 groups of 30",
    )
    for kind in kinds:
        sizes = sizes_of(kind)
        for rho in (1.0, 0.7, 0.3, 0.0):

            def held(rng: np.random.Generator, share: float, sizes: np.ndarray = sizes, rho: float = rho) -> bool:
                drawn, groups = drawn_in_groups(rng, sizes, rho)
                return holds(share_interval(drawn < share, groups), share)

            yield Scenario("accuracy in groups", f"{kind}; rho {rho:g}", SHARES, held, 0.5, wide=rho == 0)


# -- the change of accuracy between two runners ------------------------------------------------------------------------

CHANGES = ((0.02, 0.0), (0.03, 0.01), (0.05, 0.02), (0.1, 0.0), (0.1, 0.05), (0.2, 0.1), (0.3, -0.05))
"""(share of photos that only one of the two gets right, accuracy lost)."""


def difference() -> Iterator[Scenario]:
    """Yield scenarios for the interval of the change of accuracy relative to a reference, on the same photos."""
    for photos in (100, 800, 5000):

        def held(rng: np.random.Generator, place: float, photos: int = photos) -> bool:
            changed, loss = CHANGES[int(place)]
            chances = [(changed + loss) / 2, (changed - loss) / 2, 1 - changed]
            lost, won, _ = rng.multinomial(photos, chances).tolist()
            return holds(tango(lost, won, photos), -loss)

        yield Scenario(
            "change of accuracy",
            f"{photos:,} independent photos; 2 to 30 % change",
            tuple(range(len(CHANGES))),
            held,
            2,
        )
    for kind in ("300 photos and 40 groups of 5", "200 groups of 1 to 10", "9 photos with 25 copies each"):
        sizes = sizes_of(kind)
        for rho in (1.0, 0.5, 0.0):

            def held_in_groups(
                rng: np.random.Generator, place: float, sizes: np.ndarray = sizes, rho: float = rho
            ) -> bool:
                changed, loss = CHANGES[int(place)]
                drawn, groups = drawn_in_groups(rng, sizes, rho)
                lost, won = drawn < (changed + loss) / 2, drawn > 1 - (changed - loss) / 2
                return holds(difference_interval(lost, won, groups), -loss)

            yield Scenario(
                "change of accuracy in groups",
                f"{kind}; rho {rho:g}; 2 to 30 % change",
                tuple(range(len(CHANGES))),
                held_in_groups,
                0.5,
                wide=rho == 0 or len(sizes) < 20,
            )


# -- the change of a score's divergence: INT8's notes ------------------------------------------------------------------


def divergence() -> Iterator[Scenario]:
    """Yield scenarios for the interval of the mean change of a value per photo, such as the divergence of scores."""
    for groups_of in (1, 4):
        for count in (30, 200):

            def held(rng: np.random.Generator, truth: float, count: int = count, groups_of: int = groups_of) -> bool:
                shared = np.repeat(rng.gamma(4.0, 0.25, count), groups_of) if groups_of > 1 else 0.0
                change = rng.gamma(4.0, 0.25, count * groups_of) + shared - (2.0 if groups_of > 1 else 1.0) + truth
                place = np.repeat(np.arange(count), groups_of)
                return holds(paired_difference(np.zeros(len(change)), change, place), truth)

            copies = f"{count} groups of {groups_of}" if groups_of > 1 else f"{count} independent photos"
            yield Scenario("change of divergence", f"{copies}; skewed (gamma, shape 4)", (0.0, 0.2), held, 0.2)


# -- all photos, by cross-fitted heads ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CrossFitted:
    """Photos whose heads are cross-fitted: their number, features each, copies in a group, and folds."""

    photos: int
    width: int
    copies: int = 1
    folds: int = 10
    classes: int = 3
    ridge: float = 0.1

    def answers(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """Draw photos; return the labels, the FP32 and the INT8 answers, the groups (N,), and the number of folds.

        The variances of the features fall like 1 / j, as those of a backbone do; the classes differ in the first ten.
        INT8 rotates and shifts the features a little, which is the same for all photos, and adds noise.
        """
        fixed = np.random.default_rng(self.width)
        scale = 1 / np.sqrt(1 + np.arange(self.width) / 3)
        means = np.zeros((self.classes, self.width))
        means[:, :10] = fixed.normal(size=(self.classes, 10)) * 0.7 * scale[:10]
        turn = fixed.normal(size=(self.width, self.width)) / np.sqrt(self.width)
        shift = 0.05 * fixed.normal(size=self.width) * scale
        count = self.photos // self.copies
        group_of = np.repeat(np.arange(count), self.copies)
        truth = rng.integers(0, self.classes, count)[group_of]
        own = 1.0 if self.copies == 1 else 0.3
        noise = np.sqrt(1 - own) * rng.normal(size=(count, self.width))[group_of]
        noise = noise + np.sqrt(own) * rng.normal(size=(len(group_of), self.width))
        features = means[truth] + noise * scale
        narrow = features + 0.07 * (features / scale) @ turn * scale + shift
        narrow += 0.07 * rng.normal(size=features.shape) * scale
        folds = folds_of_photos(
            truth, group_of, [f"{number:016x}" for number in rng.permutation(len(truth))], CrossFitConfig(self.folds)
        )
        assert folds is not None
        wide_answers, narrow_answers = np.zeros(len(truth), int), np.zeros(len(truth), int)
        for fold in range(folds.count):
            trained, _, answered = folds.rows(fold)
            middle, deviation = features[trained].mean(axis=0), features[trained].std(axis=0)
            x, target = (features[trained] - middle) / deviation, np.eye(self.classes)[truth[trained]]
            kernel = x.T @ x + self.ridge * len(x) * np.eye(self.width)
            weights = np.linalg.solve(kernel, x.T @ (target - target.mean(axis=0)))
            for answers, values in ((wide_answers, features), (narrow_answers, narrow)):
                scores = (values[answered] - middle) / deviation @ weights + target.mean(axis=0)
                answers[answered] = scores.argmax(axis=1)
        return truth, wide_answers, narrow_answers, group_of, folds.count


@cache
def expected(setting: CrossFitted) -> tuple[float, float, float]:
    """Return the expected accuracy of heads, agreement and change, which cross-fitting estimates without bias."""
    rng = np.random.default_rng(1)
    means = []
    for _ in range(400):
        truth, wide, narrow, _, _ = setting.answers(rng)
        before, after = np.mean(wide == truth), np.mean(narrow == truth)
        means.append([before, np.mean(wide == narrow), after - before])
    accuracy, agreement, change = np.mean(means, axis=0).tolist()
    return accuracy, agreement, change


CROSS_FITTED = {
    "10 folds; 60 to 600 photos, 40 to 200 features": (
        CrossFitted(60, 40),
        CrossFitted(180, 100),
        CrossFitted(180, 200),
        CrossFitted(600, 100),
    ),
    "3 and 5 folds; 180 photos, 100 features": (
        CrossFitted(180, 100, folds=3),
        CrossFitted(180, 100, folds=5),
    ),
    "10 folds; 100 groups of 4, 40 features": (CrossFitted(400, 40, copies=4),),
}


def cross_fitted() -> Iterator[Scenario]:
    """Yield scenarios for the intervals over all photos; heads are ridge regressions.

    The true values are the means of 400 other runs, which `Scenario.truths` cannot hold: it has the places of the
    settings.
    """
    for number, what in enumerate(("accuracy", "agreement", "change")):
        for assumed, settings in CROSS_FITTED.items():

            def held(
                rng: np.random.Generator,
                place: float,
                settings: tuple[CrossFitted, ...] = settings,
                number: int = number,
            ) -> bool:
                setting = settings[int(place)]
                truth, wide, narrow, groups, folds = setting.answers(rng)
                if number == 2:
                    interval = difference_interval(wide == truth, narrow == truth, groups)
                else:
                    hits, part = (wide == truth, ACCURACY_PART) if number == 0 else (wide == narrow, AGREEMENT_PART)
                    interval = share_interval(hits, groups, variance_factor=variance_factor(folds, part))
                return holds(interval, expected(setting)[number])

            wide_by_design = settings[0].copies > 1 and number > 0
            places = tuple(map(float, range(len(settings))))
            yield Scenario(f"cross-fitted {what}", assumed, places, held, 0.2, wide=wide_by_design)


FAMILIES: dict[str, Callable[[], Iterator[Scenario]]] = {
    "accuracy": accuracy,
    "grouped": grouped,
    "difference": difference,
    "divergence": divergence,
    "cross-fitted": cross_fitted,
}


def main() -> int:
    """Simulate every row, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8000, help="draws per row (default 8000)")
    parser.add_argument("--only", choices=[*FAMILIES], help="one family of rows")
    parser.add_argument("--processes", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = [
        (name, i) for name in ([options.only] if options.only else FAMILIES) for i in range(len(list(FAMILIES[name]())))
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        results = list(pool.map(simulated, *zip(*rows, strict=True), [options.draws] * len(rows)))
    print(f"{'interval':30} {'assumed':56} {'claimed':>7} {'mean':>6} {'lowest':>6}")
    for row in results:
        mark = "" if row.within else "  OUT OF BOUNDS"
        wide = " wide" if row.wide else ""
        print(f"{row.what:30} {row.assumed:56} {row.claimed:7.0%} {row.mean:6.1%} {row.lowest:6.1%}{wide}{mark}")
    print(f"{len(results)} rows in {time.perf_counter() - start:.0f} s; mean within 93 to 97 % where 95 % is claimed")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in results], indent=1))
    return 0 if all(row.within for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
