"""Intervals and tests of shares over photos in groups: copies of one photo are not independent observations.

A group holds photos for which the same answer is expected: equal bytes, near-copies, shots of one object. The model is
that of cluster sampling: two photos of one group have the correlation rho (the intraclass correlation), photos of
different groups none. A share of n photos then varies like that of n / deff independent photos, with the design effect
deff = 1 + rho * (sum(m^2) / n - 1) for groups of m photos (Kish, 1965; Donner and Klar, 2000). The score intervals of
independent photos are taken at this effective number, as is done for surveys (Korn and Graubard, 1998; Dean and Pagano,
2015). Where each photo is a group of its own, deff is 1, and the interval is that of independent photos.

rho is estimated from the pairs of photos of one group that differ. Two things keep the interval wide where there is
little to estimate it from, so that 9 photos with 25 copies each count as 9 photos. The variance that the pairs are
compared with has two pseudo-observations (Agresti and Coull, 1998): where no pair differs, rho is 1. Where a few groups
have most of the pairs, rho is moved towards 1. `benchmarks/coverage.py` simulates the coverage; without these two it
falls below 93 % for few groups or shares near 1.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from trtpoets.core.errors import BadInput
from trtpoets.judge.statistics import CONFIDENCE, Interval, mcnemar_exact, paired_shares, wilson_interval


def count_of_groups(groups: Sequence[int] | np.ndarray | None, photos: int) -> int:
    """Return the number of groups; each of the `photos` photos is a group of its own where `groups` is None."""
    return photos if groups is None else len(np.unique(_checked(groups, photos)))


def share_interval(
    hits: np.ndarray,
    groups: Sequence[int] | np.ndarray | None = None,
    confidence: float = CONFIDENCE,
    variance_factor: float = 1.0,
) -> Interval:
    """Return the interval of the share of `hits`, bool (N,): Wilson's, at the effective number of photos.

    `groups` has the group of each photo, int (N,); None is a group for each. `variance_factor` is the factor by which
    something else than the groups enlarges the variance (`cross_fit`). Without photos: (0, 1). Raises BadInput where
    the groups are not (N,).
    """
    photos, right = len(hits), int(np.count_nonzero(hits))
    effect = _design_effect(np.asarray(hits, np.float64), groups, (0.0, 1.0), 1.0)
    independent = photos / (effect * variance_factor)
    return wilson_interval(right if independent == photos else right / photos * independent, independent, confidence)


def difference_interval(
    first: np.ndarray,
    second: np.ndarray,
    groups: Sequence[int] | np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the interval of the share of `second` minus that of `first`, bool (N,) each over the same photos.

    Tango's score interval for paired shares, at the effective number of photos: that of their differences. Without
    photos: (-1, 1). Raises BadInput where the results or the groups are not (N,).
    """
    if first.shape != second.shape or first.ndim != 1:
        raise BadInput(
            f"results of shapes {first.shape} and {second.shape} are not paired",
            hint="give one result of each per photo",
            code="TP5029",
        )
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    changes = second.astype(np.float64) - first.astype(np.float64)
    effect = _design_effect(changes, groups, (-1.0, 1.0), 0.25)
    return paired_shares(lost / effect, won / effect, len(first) / effect, confidence)


def equality_test(first: np.ndarray, second: np.ndarray, groups: Sequence[int] | np.ndarray | None = None) -> float:
    """Return the p-value of the hypothesis that two classifiers are equally good, from their right answers, bool (N,).

    The exact test of McNemar (1947) for photos in groups: were both equally good, each group's difference would have
    either sign with equal probability (a permutation test over groups; two-sided). Without groups it is McNemar's.
    Raises BadInput where the results or the groups are not (N,).
    """
    if first.shape != second.shape or first.ndim != 1:
        raise BadInput(
            f"results of shapes {first.shape} and {second.shape} are not paired",
            hint="give one result of each per photo",
            code="TP5030",
        )
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    if groups is None:
        return mcnemar_exact(lost, won)
    _, place = np.unique(_checked(groups, len(first)), return_inverse=True)
    change = np.bincount(place, weights=second.astype(np.float64) - first.astype(np.float64)).astype(np.int64)
    sizes = np.abs(change[change != 0])
    if not (sizes > 1).any():
        return mcnemar_exact(int((change < 0).sum()), int((change > 0).sum()))
    # The probability of each sum of signed sizes, over -sum..sum in steps of two.
    total = int(sizes.sum())
    probabilities = np.ones(1)
    for size in sorted(sizes.tolist()):
        grown = np.zeros(len(probabilities) + size)
        grown[: len(probabilities)] += probabilities / 2
        grown[size:] += probabilities / 2
        probabilities = grown
    at_least = (total + abs(int(change.sum()))) // 2  # the index in `probabilities` of the measured sum
    return float(min(1.0, 2 * probabilities[at_least:].sum()))


def _design_effect(
    values: np.ndarray, groups: Sequence[int] | np.ndarray | None, pseudo: tuple[float, float], weight: float
) -> float:
    """Return the factor by which the groups enlarge the variance of the mean of `values` (N,); 1 without groups.

    `pseudo` are two values that are added as observations, each with `weight`, to estimate the variance of one value.
    Changes between two classifiers are rare, so that a whole pseudo-observation of each would outweigh them: with 0.25
    the intervals of changes have the coverage that they claim (`benchmarks/coverage.py`).
    """
    if groups is None or not len(values):
        return 1.0
    _, place, counts = np.unique(_checked(groups, len(values)), return_inverse=True, return_counts=True)
    if np.max(counts) == 1:
        return 1.0
    sizes, count = counts.astype(np.float64), len(values)
    pairs = sizes * (sizes - 1)
    totals, squares = np.bincount(place, weights=values), np.bincount(place, weights=values**2)
    differing = float((sizes * squares - totals**2).sum())  # half the squared difference, over all ordered pairs
    independent = count**2 / float((sizes**2).sum())  # if the photos of a group were equal
    mean = (values.mean() * independent + weight * sum(pseudo)) / (independent + 2 * weight)
    added = weight * sum(value**2 for value in pseudo)
    square = ((values**2).mean() * independent + added) / (independent + 2 * weight)
    correlation = 1 - differing / float(pairs.sum()) / float(square - mean**2)
    effective_groups = float(pairs.sum()) ** 2 / float((pairs**2).sum())  # groups, weighted by their pairs
    rho = 1 - (1 - min(max(correlation, 0.0), 1.0)) * (1 - effective_groups**-2)
    return 1 + rho * (count / independent - 1)


def _checked(groups: Sequence[int] | np.ndarray, photos: int) -> np.ndarray:
    group_of = np.asarray(groups)
    if group_of.shape != (photos,):
        raise BadInput(
            f"groups must have the shape ({photos},), not {group_of.shape}",
            hint="give one group per photo",
            code="TP5031",
        )
    return group_of
