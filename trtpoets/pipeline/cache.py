"""What can be computed again: bottlenecks and exported bases. Listing and pruning it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.paths import cache_root
from trtpoets.train.bottlenecks import StoreInfo, prune_stores, stores_in

if TYPE_CHECKING:
    from pathlib import Path


def cache() -> tuple[StoreInfo, ...]:
    """The bottleneck stores on this machine."""
    return stores_in(bottleneck_folder())


def prune_cache(older_than_days: float = 0) -> tuple[StoreInfo, ...]:
    """Delete the stores that were not used for so many days (0: all); returns what was deleted."""
    return prune_stores(bottleneck_folder(), older_than_days)


def bottleneck_folder() -> Path:
    """Where every bottleneck store lives."""
    return cache_root() / "bottlenecks"
