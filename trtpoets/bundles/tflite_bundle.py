"""A bundle for TFLite: for boards and phones, where TFLite (LiteRT) is what there is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from trtpoets.bundles.bundle_inputs import write_shared
from trtpoets.bundles.vendored_runtime import copy_template, filled, model_words, write_runtime
from trtpoets.core.tflite_file import LABELS_FILE, SPEC_FILE
from trtpoets.core.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import Parts
    from trtpoets.core.types import TfliteModel

_RUNTIME = ("core", "device", "judge")
"""What the scripts use of this package: how photos are prepared, the runner, and the golden photos' check."""

_SCRIPTS = (
    "tflite/classify.py",
    "tflite/selftest.py",
    "common/photo_lines.py",
    "common/golden_test.py",
    "common/checked.py",
)

_WHAT = {
    Precision.FP32: "computed in float32",
    Precision.INT8: "in integers from the photo to the features; the last layer is float32, so that scores sum to 1",
}


def tflite_files(parts: Parts, folder: Path, models: Sequence[TfliteModel]) -> None:
    """Write everything but the manifest into an empty folder. Raises StorageFailed.

    `parts` has no ONNX files, and golden scores by TFLite's interpreter.
    """
    write_shared(parts, folder)
    for model in models:
        shutil.copyfile(model.path, folder / f"{model.precision.value}.tflite")
    write_runtime(folder / "runtime" / "trtpoets", parts.version, _RUNTIME)
    for script in _SCRIPTS:
        copy_template(script, folder)
    (folder / "README.md").write_text(_readme(parts, models), encoding="utf-8")


def _readme(parts: Parts, models: Sequence[TfliteModel]) -> str:
    rows = [
        f"| `{each.precision.value}.tflite` | {each.path.stat().st_size / 1e6:.1f} MB | {_WHAT[each.precision]} |"
        for each in models
    ]
    return filled(
        "tflite/README.md",
        **model_words(parts),
        rows="\n".join(rows),
        best=parts.order[0].value,
        labels_file=LABELS_FILE,
        spec_file=SPEC_FILE,
    )
