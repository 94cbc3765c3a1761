"""What there is, in rows for the terminal: pretrained networks, and stores of bottlenecks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.reporting.tables.inspection import Part


def models_part(backbones: Iterable[Any]) -> Part:
    """The pretrained networks: what they cost, and what they reach on ImageNet."""
    rows: list[tuple[Any, ...]] = [
        (
            each.name,
            f"{each.preprocess.height}×{each.preprocess.width}",
            f"{each.parameters / 1e6:.1f}",
            f"{each.multiply_adds / 1e6:,.0f}",
            each.feature_width,
            "–" if each.imagenet_top1 is None else f"{each.imagenet_top1:.1f}",
            "download" if each.needs_download else "embedded",
        )
        for each in backbones
    ]
    columns = ["backbone", "photos>", "10⁶ par.>", "10⁶ m-a>", "width>", "top-1 %>", "weights"]
    return "Pretrained networks; m-a: multiply-adds; top-1: on ImageNet", columns, rows


def cache_part(stores: Sequence[Any]) -> Part:
    """Stores of bottlenecks, at least one, all in one folder."""
    rows: list[tuple[Any, ...]] = [
        (
            store.key.rpartition("-")[0] or store.key[:20],
            store.path.name[:12],
            f"{store.photos:,}",
            store.width,
            size(store.bytes),
        )
        for store in stores
    ]
    return str(stores[0].path.parent), ["bottlenecks of", "folder", "photos>", "width>", "size>"], rows
