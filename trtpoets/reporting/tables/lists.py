"""Tables for the terminal: pretrained networks, stores of bottlenecks, the files of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import many, seconds, size
from trtpoets.core.manifest import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.bundles.pack import BundleResult
    from trtpoets.reporting.tables.inspection import Part


def models_part(backbones: Iterable[Any]) -> Part:
    """Return a table of the pretrained networks: size, cost, and accuracy on ImageNet."""
    rows: list[tuple[Any, ...]] = [
        (
            backbone.name,
            f"{backbone.preprocess.height}×{backbone.preprocess.width}",
            f"{backbone.parameters / 1e6:.1f}",
            f"{backbone.multiply_adds / 1e6:,.0f}",
            backbone.feature_width,
            "–" if backbone.imagenet_top1 is None else f"{backbone.imagenet_top1:.1f}",
            backbone.delivery,
        )
        for backbone in backbones
    ]
    columns = ["backbone", "photos>", "10⁶ par.>", "10⁶ m-a>", "width>", "top-1 %>", "weights"]
    return "Pretrained networks; m-a: multiply-adds; top-1: on ImageNet", columns, rows


def cache_part(stores: Sequence[Any]) -> Part:
    """Return a table of stores of bottlenecks, at least one, all in one folder."""
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


def shards_part(states: Sequence[Any]) -> Part:
    """Return a table of the shards of a folder of photos."""
    rows: list[tuple[Any, ...]] = [
        (f"{state.number}/{state.count}", f"{state.photos:,}", f"{state.missing:,}") for state in states
    ]
    return "All shards are complete", ["shard", "photos>", "missing>"], rows


def bottlenecks_text(result: Any) -> str:
    """Return what `bottlenecks` has computed, in a sentence."""
    shard = f" of shard {result.shard.number}/{result.shard.count}" if result.shard else ""
    left_out = f"; {many(result.left_out, 'file')} can't be used" if result.left_out else ""
    return (
        f"{many(result.photos, 'photo')}{shard} with bottlenecks of {result.backbone}; {result.computed:,} computed in "
        f"{seconds(result.seconds)}{left_out}."
    )


def bundle_part(bundle: BundleResult) -> Part:
    """Return a table of the content of a bundle, with one row per folder, and of its archive."""
    sizes: dict[str, list[int]] = {}
    for path, count in bundle.sizes.items():
        top, slash, _ = path.partition("/")
        sizes.setdefault(top + slash, []).append(count)
    rows = [(path, len(counts), size(sum(counts))) for path, counts in sorted(sizes.items())]
    total = ("together", len(bundle.sizes), size(sum(bundle.sizes.values())))
    # For other targets, the provider or the requested model determines what runs.
    tried = "; to be tried in this order" if bundle.manifest.target == Target.JETSON else ""
    order = ", ".join(precision.value for precision in bundle.manifest.order)
    title = f"{bundle.manifest.name} for {bundle.manifest.target}{tried}: {order}"
    return title, ["", "files>", "size>"], [*rows, total, (bundle.archive.name, "", size(bundle.archive_bytes))]
