"""Lists and deletes the stores of cached bottlenecks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.paths import cache_root
from trtpoets.pipeline.shards import delete_records
from trtpoets.train.bottlenecks import FeatureCacheInfo, feature_caches_in, prune_feature_caches

if TYPE_CHECKING:
    from pathlib import Path


def cache() -> tuple[FeatureCacheInfo, ...]:
    """Return the bottleneck stores on this machine."""
    return feature_caches_in(bottleneck_folder())


def prune_cache(older_than_days: float = 0) -> tuple[FeatureCacheInfo, ...]:
    """Delete the stores that were not used for `older_than_days` days (0: all), and return them.

    Records of shards that are as old are deleted too.
    """
    delete_records(older_than_days)
    return prune_feature_caches(bottleneck_folder(), older_than_days)


def bottleneck_folder() -> Path:
    """Return the folder of the bottleneck stores."""
    return cache_root() / "bottlenecks"
