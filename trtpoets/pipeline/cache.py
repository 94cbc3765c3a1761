"""What can be computed again: bottlenecks and exported bases. Listing and pruning it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.paths import cache_root
from trtpoets.train.bottlenecks import FeatureCacheInfo, feature_caches_in, prune_feature_caches

if TYPE_CHECKING:
    from pathlib import Path


def cache() -> tuple[FeatureCacheInfo, ...]:
    """The bottleneck stores on this machine."""
    return feature_caches_in(bottleneck_folder())


def prune_cache(older_than_days: float = 0) -> tuple[FeatureCacheInfo, ...]:
    """Delete the stores that were not used for so many days (0: all); returns what was deleted."""
    return prune_feature_caches(bottleneck_folder(), older_than_days)


def bottleneck_folder() -> Path:
    """Where every bottleneck store lives."""
    return cache_root() / "bottlenecks"
