"""What a Jetson that was named can do, and the run's files as its TensorRT reads them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.bundles.jetson_bundle import System
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

_TYPED_BY_FILE = (11, 0)
"""Since which TensorRT every network computes in the types of the file."""

_PACKS = tuple(each for each in JETPACKS if each.runs_trtpoets)
"""Those that a bundle for an unnamed JetPack has to serve."""


@dataclass(frozen=True)
class Jetson:
    """What was told of a Jetson: its JetPack and its board, None where it was not."""

    jetpack: JetPack | None
    board: Board | None

    @property
    def chips(self) -> tuple[Chip, ...]:
        """Those that it may have; none where nothing was told."""
        names = (self.board.chip,) if self.board else self.jetpack.chips if self.jetpack else ()
        return tuple(CHIPS[name] for name in names)

    @property
    def runs_trtpoets(self) -> bool:
        """Whether the runtime runs there, as far as is known."""
        return self.jetpack is None or self.jetpack.runs_trtpoets

    @property
    def cache_for(self) -> str:
        """The TensorRT that a calibration cache is for; empty where it takes none."""
        version = self.jetpack.tensorrt if self.jetpack else TENSORRT
        return version if int(version.split(".")[0]) <= LAST else ""

    def useless(self, precision: Precision) -> str:
        """Why a precision pays on none of its chips; empty where it does on some."""
        reasons = [why_not(chip.compute_capability, precision) for chip in self.chips]
        return reasons[0] if reasons and all(reasons) else ""


def jetson_named(jetpack: str, board: str) -> Jetson:
    """The Jetson of a JetPack's version and a board's name; either may be empty. Raises BadInput.

    A board whose JetPacks are all too old for the runtime has the last of them, unless another is named.
    """
    pack = find_jetpack(jetpack) if jetpack else None
    found = find_board(board, pack) if board else None
    if found and pack is None:
        packs = [each for each in JETPACKS if found.chip in each.chips]
        pack = packs[-1] if not any(each.runs_trtpoets for each in packs) else None
    return Jetson(pack, found)


def system_of(jetson: Jetson) -> System:
    """What the bundle is told about its target."""
    pack, board = jetson.jetpack, jetson.board
    known = System(board=board.title if board else "", cache_for=jetson.cache_for)
    if pack is None:
        return known
    return System(
        jetpack=pack.version,
        ubuntu=pack.ubuntu,
        python=pack.python,
        cuda=pack.cuda,
        tensorrt=pack.tensorrt,
        board=known.board,
        runs_trtpoets=pack.runs_trtpoets,
        cache_for=known.cache_for,
        dla=bool(board and board.dla and pack.dla and pack.runs_trtpoets),
    )


def models_for(jetson: Jetson, models: tuple[OnnxModel, ...], golden: Golden, folder: Path) -> tuple[OnnxModel, ...]:
    """The ONNX files as the JetPack reads them: as they are, or rewritten into `folder` and proven to score the same.

    Where TensorRT computes in the types of the file, INT8's remainder becomes FP16, as far as its golden scores allow.
    Raises ConversionFailed where one can't be rewritten, or scores otherwise.
    """
    pack = jetson.jetpack
    if pack is not None and version_of(pack.tensorrt) >= _TYPED_BY_FILE:
        return tuple(_half(model, golden, folder) for model in models)
    ceilings = [each.opset_ceiling for each in ([pack] if pack else _PACKS) if each.opset_ceiling is not None]
    floats = pack is not None and not pack.runs_trtpoets
    return tuple(_model_for(min(ceilings, default=None), floats, model, golden, folder) for model in models)


def notes_on(jetson: Jetson, before: tuple[OnnxModel, ...], after: tuple[OnnxModel, ...]) -> list[str]:
    """What the user has to know of the Jetson, and of files that were rewritten."""
    pack, notes = jetson.jetpack, []
    if pack and not pack.runs_trtpoets:
        notes.append(
            f"JetPack {pack.version} has TensorRT {pack.tensorrt}, older than 8.5: the bundle is for trtexec, without "
            "the Python runtime"
        )
    for precision in (each.precision for each in before):
        slow = [chip.name for chip in jetson.chips if why_not(chip.compute_capability, precision)]
        if slow:
            notes.append(f"{precision.value} gains nothing on {joined(slow)}: --board tells which board it is")
    opsets = {
        (read_header(old.path).opset, read_header(new.path).opset) for old, new in zip(before, after, strict=True)
    }
    for old, new in sorted(opsets):
        if new > old and pack:
            notes.append(
                f"int8.onnx is in operator set {new}, and in FP16 what is not quantised: TensorRT {pack.tensorrt} "
                "computes in the types of the file"
            )
        elif old != new:
            reader = f"TensorRT {pack.tensorrt}" if pack else f"every TensorRT from {_PACKS[0].tensorrt} on"
            notes.append(f"operator set {new} instead of {old}, the latest that {reader} reads; same scores")
    return notes


def _half(model: OnnxModel, golden: Golden, folder: Path) -> OnnxModel:
    if model.precision is not Precision.INT8:
        return model
    try:
        variant = with_fp16_remainder(model, folder / model.path.name)
    except (BadInput, ConversionFailed) as error:
        _log.warning("%s goes into the bundle with its FP32 remainder: %s", model.path, error.message)
        return model
    (scores,) = open_session(variant.path, as_written=True).run([OUTPUT_NAME], {INPUT_NAME: golden.pixels})
    verdict = check_scores_against(golden, model.precision, scores)
    if not verdict.passed:
        _log.warning(
            "%s goes into the bundle with its FP32 remainder: in FP16 golden scores move by %.2g, and %.2g is allowed",
            model.path,
            verdict.max_difference,
            verdict.tolerance,
        )
        return model
    return variant


def _model_for(ceiling: int | None, floats: bool, model: OnnxModel, golden: Golden, folder: Path) -> OnnxModel:
    too_new = ceiling is not None and read_header(model.path).opset > ceiling
    if not (too_new or floats):
        return model
    made = onnx_for_older(model, folder / model.path.name, opset=ceiling, float_photos=floats)
    photos = golden.pixels.astype(np.float32) if floats else golden.pixels
    (scores,) = open_session(made.path).run([OUTPUT_NAME], {INPUT_NAME: photos})
    parity_from_scores(golden.expected[model.precision.value].scores, scores, ())
    return made
