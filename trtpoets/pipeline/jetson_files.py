"""Prepares the ONNX files of a run for a Jetson: which precisions it supports, and files that its TensorRT can read."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.bundles.jetson_bundle import TargetSystem
from trtpoets.convert.fp16_remainder import with_fp16_remainder
from trtpoets.convert.int8.tensorrt_cache import LAST, TENSORRT
from trtpoets.convert.opset_downgrade import onnx_for_older
from trtpoets.convert.parity import parity_from_scores
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.formatting import joined
from trtpoets.core.onnx_file import open_session
from trtpoets.core.onnx_metadata import read_header
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, OnnxModel, Precision
from trtpoets.device.capability import version_of, why_not
from trtpoets.device.jetson.jetpack import CHIPS, JETPACKS, Board, Chip, JetPack
from trtpoets.device.jetson.jetson_names import find_board, find_jetpack
from trtpoets.judge.golden import check_scores_against

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.judge.golden import Golden


_log = logging.getLogger(__name__)

_STRONGLY_TYPED = (11, 0)
"""The first TensorRT version in which every network is strongly typed."""

_SUPPORTED = tuple(jetpack for jetpack in JETPACKS if jetpack.runs_trtpoets)
"""The JetPacks that a bundle must support if none is named."""


@dataclass(frozen=True)
class JetsonTarget:
    """The Jetson that a bundle is for: its JetPack and board, None if the user named none."""

    jetpack: JetPack | None
    board: Board | None

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The chips that it may have; empty if neither board nor JetPack is known."""
        names = (self.board.chip,) if self.board else self.jetpack.chips if self.jetpack else ()
        return tuple(CHIPS[name] for name in names)

    @property
    def runs_trtpoets(self) -> bool:
        """Whether the trtpoets runtime supports its JetPack; true if the JetPack is unknown."""
        return self.jetpack is None or self.jetpack.runs_trtpoets

    @property
    def cache_for(self) -> str:
        """The TensorRT version for calibration caches; "" if its TensorRT has none."""
        version = self.jetpack.tensorrt if self.jetpack else TENSORRT
        return version if int(version.split(".")[0]) <= LAST else ""

    def useless(self, precision: Precision) -> str:
        """Return why `precision` has no benefit on any of its chips; "" if it has one on some chip."""
        reasons = [why_not(chip.compute_capability, precision) for chip in self.chips]
        return reasons[0] if reasons and all(reasons) else ""


def jetson_named(jetpack: str, board: str) -> JetsonTarget:
    """Return the Jetson for a JetPack version and a board name, each of which may be empty. Raises BadInput.

    If no JetPack is named and all JetPacks of the board are too old for the trtpoets runtime, the latest one is used.
    """
    pack = find_jetpack(jetpack) if jetpack else None
    module = find_board(board, pack) if board else None
    if module and pack is None:
        candidates = [jetpack for jetpack in JETPACKS if module.chip in jetpack.chips]
        pack = candidates[-1] if not any(jetpack.runs_trtpoets for jetpack in candidates) else None
    return JetsonTarget(pack, module)


def system_of(jetson: JetsonTarget) -> TargetSystem:
    """Return the description of the Jetson for the bundle."""
    pack, board = jetson.jetpack, jetson.board
    title = board.title if board else ""
    if pack is None:
        return TargetSystem(board=title, cache_for=jetson.cache_for)
    return TargetSystem(
        jetpack=pack.version,
        ubuntu=pack.ubuntu,
        python=pack.python,
        cuda=pack.cuda,
        tensorrt=pack.tensorrt,
        board=title,
        runs_trtpoets=pack.runs_trtpoets,
        cache_for=jetson.cache_for,
        dla=bool(board and board.dla and pack.dla and pack.runs_trtpoets),
    )


def models_for(
    jetson: JetsonTarget, models: tuple[OnnxModel, ...], golden: Golden, folder: Path
) -> tuple[OnnxModel, ...]:
    """Return the ONNX files in a form that the JetPack's TensorRT can read.

    Files that need changes are rewritten into `folder`, and their scores on the golden photos are compared with the
    original. For strongly typed TensorRT, the layers of int8.onnx that are not quantised become FP16 if the golden
    scores stay within their tolerance. Raises ConversionFailed if a file cannot be rewritten or its scores differ.
    """
    pack = jetson.jetpack
    if pack is not None and version_of(pack.tensorrt) >= _STRONGLY_TYPED:
        return tuple(_with_fp16_layers(model, golden, folder) for model in models)
    candidates = [pack] if pack else _SUPPORTED
    ceilings = [jetpack.opset_ceiling for jetpack in candidates if jetpack.opset_ceiling is not None]
    float_photos = pack is not None and not pack.runs_trtpoets
    return tuple(_model_for(min(ceilings, default=None), float_photos, model, golden, folder) for model in models)


def notes_on(jetson: JetsonTarget, before: tuple[OnnxModel, ...], after: tuple[OnnxModel, ...]) -> list[str]:
    """Return notes for the user about limits of the Jetson and about rewritten files."""
    pack, notes = jetson.jetpack, []
    if pack and not pack.runs_trtpoets:
        notes.append(
            f"JetPack {pack.version} has TensorRT {pack.tensorrt}, older than 8.5: the bundle is for trtexec, without "
            "the Python runtime"
        )
    for precision in (model.precision for model in before):
        slow = [chip.name for chip in jetson.chips if why_not(chip.compute_capability, precision)]
        if slow:
            notes.append(f"{precision.value} has no benefit on {joined(slow)}; name the board with --board")
    opsets = {
        (read_header(old.path).opset, read_header(new.path).opset) for old, new in zip(before, after, strict=True)
    }
    for old, new in sorted(opsets):
        if new > old and pack:
            notes.append(
                f"int8.onnx has opset {new}, and FP16 layers where it is not quantised, because TensorRT "
                f"{pack.tensorrt} is strongly typed"
            )
        elif old != new:
            reader = f"TensorRT {pack.tensorrt}" if pack else f"every TensorRT from {_SUPPORTED[0].tensorrt} on"
            notes.append(f"opset {new} instead of {old}, the latest that {reader} supports; the scores are the same")
    return notes


def _with_fp16_layers(model: OnnxModel, golden: Golden, folder: Path) -> OnnxModel:
    """Return int8.onnx with FP16 layers, written into `folder`; `model` if it is not INT8 or the scores differ."""
    if model.precision is not Precision.INT8:
        return model
    try:
        variant = with_fp16_remainder(model, folder / model.path.name)
    except (BadInput, ConversionFailed) as error:
        _log.warning("%s is packed with FP32 for the layers that are not quantised: %s", model.path, error.message)
        return model
    (scores,) = open_session(variant.path, as_written=True).run([OUTPUT_NAME], {INPUT_NAME: golden.pixels})
    verdict = check_scores_against(golden, model.precision, scores)
    if not verdict.passed:
        _log.warning(
            "%s is packed with FP32 for the layers that are not quantised: with FP16 its golden scores change by %.2g, "
            "the tolerance is %.2g",
            model.path,
            verdict.max_difference,
            verdict.tolerance,
        )
        return model
    return variant


def _model_for(ceiling: int | None, float_photos: bool, model: OnnxModel, golden: Golden, folder: Path) -> OnnxModel:
    """Return `model`, or its copy in `folder` with opset `ceiling` or with a float32 input. Raises ConversionFailed."""
    too_new = ceiling is not None and read_header(model.path).opset > ceiling
    if not (too_new or float_photos):
        return model
    rewritten = onnx_for_older(model, folder / model.path.name, opset=ceiling, float_photos=float_photos)
    photos = golden.pixels.astype(np.float32) if float_photos else golden.pixels
    (scores,) = open_session(rewritten.path).run([OUTPUT_NAME], {INPUT_NAME: photos})
    parity_from_scores(golden.expected[model.precision.value].scores, scores, ())
    return rewritten
