"""Measures the race of `--backbone auto`: does it find what judging all networks would find, and at which cost?

Each folder of photos is raced, and then every network is judged on all training and validation photos in the deployed
precision, by the ordinary stages: `retrain`, `export`, `quantize`, and cross-fitted heads. The caches of both are empty
at first, and processor seconds are compared, which other work on the machine changes little. The goals: within 1 point
of the best network, at 30 % of the time at most.

    python benchmarks/race.py FOLDER... --candidate NAME[=FILE]... [--precision fp32] [--work /tmp/race]

With `--precision fp32` nothing is quantised, which takes a fraction of the time, and INT8 is not judged.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace
from trtpoets.judge.race import Race, RaceConfig
from trtpoets.pipeline.cross_fit import CrossFit, calibrated_photos
from trtpoets.pipeline.export import export
from trtpoets.pipeline.int8_advice import fitted_for_choices
from trtpoets.pipeline.quantize import quantize
from trtpoets.pipeline.race import race
from trtpoets.pipeline.retrain import RetrainConfig, retrain

_GOAL_POINTS = 1.0
_GOAL_SHARE = 0.3


def main() -> None:
    """Race and judge all networks on each folder, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--candidate", action="append", required=True, metavar="NAME[=FILE]")
    parser.add_argument("--precision", type=Precision, default=Precision.INT8, choices=list(Precision))
    parser.add_argument("--work", type=Path, default=Path("/tmp/trtpoets-race"))
    options = parser.parse_args()
    asked = RaceConfig(tuple(options.candidate), precision=options.precision)
    for number, folder in enumerate(options.folders):
        own = options.work / f"{number}-{folder.name}"
        result, seconds = _raced(folder, asked, own / "race")
        print(f"{folder}: {result.why}")
        for contestant in result.contestants:
            if not contestant.rounds:
                print(f"  {contestant.backbone}: {contestant.outcome}")
                continue
            last = contestant.rounds[-1]
            print(
                f"  {contestant.backbone}: {100 * last.accuracy:.1f} % of {last.photos} photos in "
                f"{last.precision.value}, {contestant.latency_ms:.1f} ms, {contestant.outcome}"
            )
        print(f"  the race took {seconds:.0f} s of processor time", flush=True)
        accuracies, seconds_of = _all_judged(folder, result, own / "all")
        best, total = max(accuracies.values()), sum(seconds_of.values())
        lost = 100 * (best - accuracies[result.chosen])
        print(
            f"  {lost:.1f} points below the best (goal: {_GOAL_POINTS}), {seconds:.0f} s of {total:.0f} s of "
            f"processor time: {seconds / total:.0%} (goal: {_GOAL_SHARE:.0%})",
            flush=True,
        )


def _raced(folder: Path, asked: RaceConfig, work: Path) -> tuple[Race, float]:
    """Return the result of a race with an empty cache, and its processor seconds."""
    os.environ["TRTPOETS_CACHE"] = str(work / "cache")
    start = _processor_seconds()
    result = race(folder, "race", RetrainConfig(race=asked), engines=work / "engines", force=True)
    return result, _processor_seconds() - start


def _processor_seconds() -> float:
    """Return the processor seconds of this process and of the child processes that have ended."""
    return sum(os.times()[:4])


def _all_judged(folder: Path, result: Race, work: Path) -> tuple[dict[int, float], dict[int, float]]:
    """Return the accuracy of each network on the photos that all can be judged on, and its processor seconds."""
    os.environ["TRTPOETS_CACHE"] = str(work / "cache")
    answers, seconds = {}, {}
    for number, contestant in enumerate(result.contestants):
        if contestant.latency_ms is None:
            continue  # its weights did not load
        start = _processor_seconds()
        weights = Path(contestant.weights) if contestant.weights else None
        config = replace(RetrainConfig(), backbone=contestant.backbone, weights=weights)
        space = Workspace(work / "engines", f"{number}-{contestant.backbone}")
        answers[number] = _answers(folder, space, config, result.precision)
        seconds[number] = _processor_seconds() - start
        right = sum(answers[number].values()) / len(answers[number])
        print(
            f"    {contestant.backbone}: {100 * right:.1f} % of {len(answers[number])}, {seconds[number]:.0f} s",
            flush=True,
        )
    common = set.intersection(*(set(own) for own in answers.values()))
    return {number: sum(own[sha256] for sha256 in common) / len(common) for number, own in answers.items()}, seconds


def _answers(folder: Path, space: Workspace, config: RetrainConfig, precision: Precision) -> Mapping[str, bool]:
    """Return whether a network answers each photo right in a precision, by sha256."""
    retrain(folder, space.name, config, engines=space.engines)
    fp32 = export(space.name, engines=space.engines)
    fitted = fitted_for_choices(space, fp32)
    if not isinstance(fitted, CrossFit) or fitted.counted.folds is None:
        raise SystemExit(f"{folder}: nothing can be cross-fitted")
    counted, scores = fitted.counted.folds.fold_of >= 0, fitted.reference
    if precision is Precision.INT8:
        *_, int8 = quantize(space.name, precisions=(precision,), cpu_form=True, engines=space.engines)
        file = fitted.scored(int8, calibrated_photos(space, fitted.dataset))
        counted, scores = counted & file.measured & ~file.calibration, file.scores
    right = scores.argmax(axis=1) == fitted.counted.truth
    rows = zip(fitted.photos, counted.tolist(), right.tolist(), strict=True)
    return {photo.sha256: answer for photo, counts, answer in rows if counts}


if __name__ == "__main__":
    main()
