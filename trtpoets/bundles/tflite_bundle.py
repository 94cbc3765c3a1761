"""Writes the files of a TFLite (LiteRT) bundle, for boards and phones."""

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

    from trtpoets.bundles.bundle_inputs import BundleInputs
    from trtpoets.core.types import TfliteModel
    from trtpoets.judge.advice import Recommended

_RUNTIME = ("core", "device", "judge")
"""The subpackages that the scripts use: preprocessing, the runner, and the check of the golden photos."""

_SCRIPTS = (
    "tflite/classify.py",
    "tflite/selftest.py",
    "common/photo_lines.py",
    "common/golden_test.py",
    "common/checked.py",
)

_DESCRIPTIONS = {
    Precision.FP32: "computes in float32",
    Precision.INT8: "computes in INT8 up to the features; the last layer is float32, so that the scores sum to 1",
}


def tflite_files(
    inputs: BundleInputs, folder: Path, models: Sequence[TfliteModel], recommended: Recommended | None
) -> None:
    """Write all files except the manifest into an empty folder. Raises StorageFailed.

    `inputs` must have no ONNX files, and golden scores of the TFLite interpreter. `recommended` is the recommendation
    about int8.tflite, None without one.
    """
    write_shared(inputs, folder)
    for model in models:
        shutil.copyfile(model.path, folder / f"{model.precision.value}.tflite")
    write_runtime(folder / "runtime" / "trtpoets", inputs.version, _RUNTIME)
    for script in _SCRIPTS:
        copy_template(script, folder)
    (folder / "README.md").write_text(_readme(inputs, models, recommended), encoding="utf-8")


def _readme(inputs: BundleInputs, models: Sequence[TfliteModel], recommended: Recommended | None) -> str:
    about_int8 = f". Compared with FP32: {recommended.why}" if recommended else ""
    rows = [
        f"| `{model.precision.value}.tflite` | {model.path.stat().st_size / 1e6:.1f} MB "
        f"| {_DESCRIPTIONS[model.precision]}{about_int8 if model.precision is Precision.INT8 else ''} |"
        for model in models
    ]
    return filled(
        "tflite/README.md",
        **model_words(inputs),
        rows="\n".join(rows),
        best=inputs.order[0].value,
        labels_file=LABELS_FILE,
        spec_file=SPEC_FILE,
    )
