"""Measures the race of `--backbone auto`: does it find what judging all networks would find, and at which cost?

Each folder of photos is raced, and then every network is judged as the finalists of the race are: trained, exported,
quantised, and judged on all training and validation photos in the deployed precision. The caches of both are empty at
first, and processor seconds are compared, which other work on the machine changes little. The goals: within 1 point of
the best network that the race could choose, at 30 % of the time at most.

    python benchmarks/race.py FOLDER... --candidate NAME[=FILE]... [--precision fp32] [--work /tmp/race]

With `--precision fp32` nothing is quantised, which takes a fraction of the time, and INT8 is not judged.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace
from trtpoets.judge.race import Race, RaceConfig
from trtpoets.pipeline.race import race
from trtpoets.pipeline.race_finalist import answers_of_finalist
from trtpoets.pipeline.retrain import RetrainConfig

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
        accuracies, seconds_of_all = _all_judged(folder, result, own / "all")
        best = max(accuracies.values())
        lost = 100 * (best - accuracies[result.chosen])
        share = seconds / seconds_of_all
        print(f"{folder}: {result.why}")
        for place, accuracy in accuracies.items():
            own_result = result.contestants[place]
            print(
                f"  {own_result.backbone}: {100 * accuracy:.1f} % of all photos, {own_result.latency_ms:.1f} ms, "
                f"{own_result.outcome}"
            )
        print(
            f"  {lost:.1f} points below the best (goal: {_GOAL_POINTS}), {seconds:.0f} s of {seconds_of_all:.0f} s of "
            f"processor time: {share:.0%} (goal: {_GOAL_SHARE:.0%})",
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


def _all_judged(folder: Path, result: Race, work: Path) -> tuple[dict[int, float], float]:
    """Return the accuracy of each network on the photos that all can be judged on, and the processor seconds."""
    os.environ["TRTPOETS_CACHE"] = str(work / "cache")
    start = _processor_seconds()
    answers = {}
    for number, contestant in enumerate(result.contestants):
        if contestant.latency_ms is None:
            continue  # its weights did not load
        weights = Path(contestant.weights) if contestant.weights else None
        config = replace(RetrainConfig(), backbone=contestant.backbone, weights=weights)
        space = Workspace(work / "engines", f"{number}-{contestant.backbone}")
        answers[number] = answers_of_finalist(folder, space, config, result.precision)
    seconds = _processor_seconds() - start
    common = set.intersection(*(set(own) for own in answers.values()))
    shares = {number: sum(own[sha256][0] for sha256 in common) / len(common) for number, own in answers.items()}
    return shares, seconds


if __name__ == "__main__":
    main()
