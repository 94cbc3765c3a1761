"""Simulates races of `--backbone auto` from the features of all networks: which network is chosen, and at which cost?

The features of all training and validation photos are computed once. A race with other photos in its rounds, which
takes a second, uses the rows of these photos. It is compared with the accuracy of all networks on all photos, the mean
of four divisions into ten folds. The cost is the processor time of features and heads, relative to judging all networks
on all photos once; `race.py` measures whole races, with exports and latencies.

    python benchmarks/race_rule.py FOLDER... --candidate NAME[=FILE]... [--races 16] [--keep 0.75]

With `--keep` the most accurate networks stay after each round, this share of them, and right answers alone decide.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from trtpoets.core.progress import silent
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Precision, Split
from trtpoets.judge.cross_fit import CrossFitConfig, folds_of_photos
from trtpoets.judge.race import NetworkAnswers, RaceConfig, decide, photos_of_round, rounds_of, survivors
from trtpoets.pipeline.cache import bottleneck_folder
from trtpoets.pipeline.extractors import frozen_base
from trtpoets.pipeline.head_training import indices_of_labels, rows_in
from trtpoets.pipeline.race_device import device_of, latencies_ms
from trtpoets.pipeline.race_heads import heads_of_folds
from trtpoets.pipeline.race_rounds import Entrant
from trtpoets.pipeline.retrain import RetrainConfig, backbone_for, read_dataset
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.dataset import Dataset
from trtpoets.train.joint_heads import scores_by_fold
from trtpoets.train.near_copies.grouping import groups_of

_DIVISIONS = 4
_GOAL_POINTS = 1.0

_Rule = Callable[[dict[int, NetworkAnswers], np.ndarray, int], list[int]]
"""Answers, groups of the photos and the photos that the next round adds -> the networks that stay."""


def main() -> None:
    """Simulate races on the photos of each folder, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--candidate", action="append", required=True, metavar="NAME[=FILE]")
    parser.add_argument("--races", type=int, default=16)
    parser.add_argument("--keep", type=float)
    parser.add_argument("--work", type=Path, default=Path("/tmp/trtpoets-race-rule"))
    options = parser.parse_args()
    os.environ["TRTPOETS_CACHE"] = str(options.work / "cache")
    entrants = [
        Entrant(name, Path(file) if file else None)
        for name, _, file in (text.partition("=") for text in options.candidate)
    ]
    for folder in options.folders:
        networks = _Networks(read_dataset(folder, RetrainConfig()), entrants)
        accuracies = [100 * networks.accuracy(number) for number in range(len(entrants))]
        for name, accuracy in zip(networks.names, accuracies, strict=True):
            print(f"{folder}: {name}: {accuracy:.1f} %", flush=True)
        rule = _shipped if options.keep is None else _keeping(options.keep)
        results = [_race(networks, seed, rule, accuracy_only=options.keep is not None) for seed in range(options.races)]
        lost = np.array([max(accuracies) - accuracies[chosen] for chosen, _ in results])
        cost = np.mean([seconds for _, seconds in results]) / networks.seconds_of_all
        chosen = Counter(networks.names[number] for number, _ in results)
        print(
            f"  {lost.mean():.2f} points below the best on average, {lost.max():.1f} at most; within {_GOAL_POINTS:g}: "
            f"{(lost <= _GOAL_POINTS).sum()} of {len(lost)}; cost {cost:.0%}; chosen: {dict(chosen)}",
            flush=True,
        )


def _shipped(judged: dict[int, NetworkAnswers], groups: np.ndarray, added: int) -> list[int]:
    return survivors(judged, groups, added)


def _keeping(share: float) -> _Rule:
    """Return the rule that keeps a share of the networks, the most accurate ones."""

    def kept(judged: dict[int, NetworkAnswers], _groups: np.ndarray, _added: int) -> list[int]:
        ranked = sorted(judged, key=lambda number: judged[number].rank)
        return ranked[: max(math.ceil(share * len(ranked)), 2)]

    return kept


def _race(networks: _Networks, seed: int, rule: _Rule, *, accuracy_only: bool) -> tuple[int, float]:
    """Return the network that a race chooses, and the processor seconds of its features and heads."""
    alive, seconds, before = list(range(len(networks.names))), 0.0, 0
    sizes = rounds_of(networks.truth)
    for place, count in enumerate(sizes, 1):
        rows = photos_of_round(networks.truth, networks.groups, count, seed)
        start = _processor_seconds()
        judged = {number: networks.answers(number, rows) for number in alive}
        seconds += _processor_seconds() - start
        seconds += sum(networks.seconds_per_photo[number] for number in alive) * (len(rows) - before)
        if accuracy_only:
            judged = {number: replace(own, probabilities=own.right) for number, own in judged.items()}
        if place == len(sizes) or len(rows) == len(networks.truth):
            break
        alive, before = rule(judged, networks.groups[rows], sizes[place] - len(rows)), len(rows)
        if len(alive) == 1:
            break
    return decide(judged, networks.groups[rows], networks.names, None).chosen, seconds


@dataclass(frozen=True, eq=False)
class _Networks:
    """The networks and what they compute for the photos that may be used for a choice."""

    dataset: Dataset
    entrants: list[Entrant]

    @property
    def names(self) -> list[str]:
        """The names of the networks."""
        return [entrant.backbone for entrant in self.entrants]

    @cached_property
    def rows(self) -> np.ndarray:
        """The training and validation photos, int64 (N,)."""
        return rows_in(self.dataset, Split.TRAIN, Split.VALIDATION)

    @cached_property
    def truth(self) -> np.ndarray:
        """The label of each photo, int64 (N,)."""
        return np.asarray(indices_of_labels(self.dataset)[self.rows])

    @cached_property
    def groups(self) -> np.ndarray:
        """The independent group of each photo, int (N,), as far as names tell it."""
        return np.array(groups_of(self.dataset.photos, self.dataset))[self.rows]

    @cached_property
    def _computed(self) -> list[tuple[np.ndarray, float, float]]:
        """The features of each network, float32 (N, D), their processor seconds and its latency."""
        config, photos = RetrainConfig(), self.dataset.photos.at(self.rows)
        device = device_of(RaceConfig(precision=Precision.FP32))
        computed = []
        for number, entrant in enumerate(self.entrants):
            base = frozen_base(backbone_for(self.dataset, entrant.applied_to(config)), entrant.weights, config.device)
            latency = latencies_ms({number: base.onnx}, device, silent)[number]
            start = _processor_seconds()
            features = np.array(bottlenecks_from_photos(photos, base.extractor, bottleneck_folder()))
            computed.append((features, _processor_seconds() - start, latency))
        return computed

    @property
    def seconds_per_photo(self) -> list[float]:
        """The processor seconds of the features of one photo, of each network."""
        return [seconds / len(self.rows) for _, seconds, _ in self._computed]

    def answers(self, number: int, rows: np.ndarray, division: int = 0) -> NetworkAnswers:
        """Return the cross-fitted answers of a network on some of the photos, int64 (n,)."""
        features, _, latency = self._computed[number]
        sha256s = self.dataset.photos.at(self.rows[rows]).sha256s
        truth, own = self.truth[rows], np.ascontiguousarray(features[rows])
        folds = folds_of_photos(truth, self.groups[rows], sha256s, CrossFitConfig(seed=division))
        assert folds is not None, "too few photos"
        heads = heads_of_folds(own, truth, folds, len(self.dataset.labels), HeadConfig())
        scores = scores_by_fold(heads, own, folds.fold_of, len(self.dataset.labels))
        return NetworkAnswers(scores.argmax(axis=1) == truth, scores[np.arange(len(truth)), truth], latency)

    @cached_property
    def _on_all(self) -> tuple[list[float], float]:
        """The accuracy of each network on all photos, and the processor seconds of one division."""
        everything, start = np.arange(len(self.rows)), _processor_seconds()
        accuracies = [
            float(np.mean([self.answers(number, everything, division).accuracy for division in range(_DIVISIONS)]))
            for number in range(len(self.entrants))
        ]
        return accuracies, (_processor_seconds() - start) / _DIVISIONS

    def accuracy(self, number: int) -> float:
        """Return the accuracy of a network on all photos, 0..1."""
        return self._on_all[0][number]

    @property
    def seconds_of_all(self) -> float:
        """The processor seconds of judging all networks on all photos once."""
        return sum(seconds for _, seconds, _ in self._computed) + self._on_all[1]


def _processor_seconds() -> float:
    """Return the processor seconds of this process and of the child processes that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
