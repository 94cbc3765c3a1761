"""What there is, in rows for the terminal: pretrained networks, stores of bottlenecks, the files of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import size
from trtpoets.core.manifest import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.bundles.pack import BundleResult
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


def bundle_part(bundle: BundleResult) -> Part:
    """What is in a bundle, folders as one row each, and the archive, for the terminal."""
    sizes: dict[str, list[int]] = {}
    for path, count in bundle.sizes.items():
        top, slash, _ = path.partition("/")
        sizes.setdefault(top + slash, []).append(count)
    rows = [(path, len(found), size(sum(found))) for path, found in sorted(sizes.items())]
    total = ("together", len(bundle.sizes), size(sum(bundle.sizes.values())))
    # Elsewhere what runs follows from the provider or the model that is asked for.
    tried = "; to be tried in this order" if bundle.manifest.target == Target.JETSON else ""
    order = ", ".join(precision.value for precision in bundle.manifest.order)
    title = f"{bundle.manifest.name} for {bundle.manifest.target}{tried}: {order}"
    return title, ["", "files>", "size>"], [*rows, total, (bundle.archive.name, "", size(bundle.archive_bytes))]
