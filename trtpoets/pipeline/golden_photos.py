"""Selects and scores the golden photos of a run once, so that all its bundles contain the same ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trtpoets.core.files import atomic_folder, sha256_of_file
from trtpoets.core.types import OnnxModel, Precision, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners.ort import OnnxRuntimeRunner
from trtpoets.judge.golden import (
    COUNT,
    Golden,
    expected_of_int8,
    golden_from_runners,
    golden_photos,
    read_golden,
    write_golden,
)
from trtpoets.pipeline.lineage import cpu_form_in
from trtpoets.pipeline.photos import verified_photos
from trtpoets.pipeline.result_status import photos_to_judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.device.runners.base import Runner

_VERSION = 1
"""Increase it when the same photos and ONNX files may give other golden photos or tolerances."""


def golden_in(space: Workspace, models: Sequence[OnnxModel]) -> Golden:
    """Return the golden photos with the ONNX Runtime scores of all ONNX files of the run. `models` must include FP32.

    `models` are without int8.cpu.onnx, which is looked up. Raises BadInput if the run has no test photos or one was
    changed; BadPhoto.
    """
    photos, cpu_form = photos_to_judge(space), cpu_form_in(space)
    files = [model.path for model in (*models, *([] if cpu_form is None else [cpu_form]))]
    key = hash_of([_VERSION, COUNT, [sha256_of_file(path) for path in files], [photo.sha256 for photo in photos]])
    if open_card(card_of(space.golden), key) is None:
        with verified_photos(space, photos):
            chosen = golden_photos(photos, models[0].spec.preprocess)
        runners: dict[Precision, Runner] = {model.precision: OnnxRuntimeRunner(model) for model in models}
        # ONNX Runtime can compute Q/DQ graphs in integers or in float. Their rounding differs, as TensorRT's will.
        others: dict[Precision, Runner] = {
            model.precision: OnnxRuntimeRunner(model, as_written=True)
            for model in models
            if model.precision is Precision.INT8
        }
        golden = golden_from_runners(chosen, runners, others)
        if cpu_form is not None:
            fused, as_written = OnnxRuntimeRunner(cpu_form), OnnxRuntimeRunner(cpu_form, as_written=True)
            golden = replace(golden, cpu_form=expected_of_int8(chosen, fused, as_written))
        with atomic_folder(space.golden) as folder:
            write_golden(golden, folder)
        seal_card(card_of(space.golden), key=key, files=[space.golden], details={"photos": len(chosen)})
    return read_golden(space.golden, models[0].spec)
