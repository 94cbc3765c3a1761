"""BundleInputs of a bundle made of the tiny network, and what benchmark.json would say of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.tiny import tiny_onnx, tiny_photos, tiny_spec
from trtpoets.bundles.bundle_inputs import BundleInputs
from trtpoets.core.types import Photo, Precision, Split
from trtpoets.device.runners import open_runner
from trtpoets.judge.golden import Golden, golden_from_runners, golden_photos

ORDER = (Precision.INT8, Precision.FP16, Precision.FP32)


def tiny_parts(folder: Path) -> BundleInputs:
    """Three precisions, three golden photos, nothing measured, no engines."""
    models = {item: tiny_onnx(folder / f"{item.value}.onnx", item) for item in Precision}
    return BundleInputs(
        tiny_spec(), tuple(models.values()), (), _golden(folder / "photos", models), ORDER, "a" * 64, "0.1.0"
    )


def _golden(folder: Path, models: dict[Precision, Any]) -> Golden:
    folder.mkdir(parents=True)
    photos = []
    for number, pixels in enumerate(tiny_photos(3)):
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        photos.append(Photo(path, tiny_spec().labels[number], Split.TEST, sha256))
    chosen = golden_photos(photos, tiny_spec().preprocess)
    return golden_from_runners(chosen, {item: open_runner(model) for item, model in models.items()})


def measured(rows: list[tuple[str, int, float, bool]], **config: Any) -> dict[str, Any]:
    """The content of benchmark.json that bundles read: rows are (runner, batch, photos/s, valid)."""
    return {
        "config": {"threads": 0, "scenario": "", **config},
        "conditions": {"cpu": "Paper CPU", "cores": 2, "gpus": [], "time": "2026-11-23T06:18:36+00:00"},
        "measurements": [
            {"runner": runner, "batch": batch, "photos_per_s": rate, "p50_ms": 1000 * batch / rate, "valid": valid}
            for runner, batch, rate, valid in rows
        ],
    }
