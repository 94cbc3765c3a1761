"""An FP32 network and its photos, for many INT8 forms of it to be corrected by and held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from trtpoets.convert.int8.bias_correction import Reference, corrections, reference_from_onnx
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.fidelity import Answers, Fidelity, answers_from_onnx, fidelity_from_answers
from trtpoets.convert.int8.gptq import rounded_weights
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_graph import Int8Maker
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.segments import Sessions
from trtpoets.convert.precision import kept_fp32
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Photo

_BATCH = 16


class Comparer:
    """An FP32 file, the photos of its calibration, mixed, and `validation` photos to judge by; without any, the former.

    What FP32 makes of the photos is computed once, when it is first asked for. Raises BadInput without photos, and
    BadArtefact when the file is none.
    """

    def __init__(
        self, model: OnnxModel, photos: Sequence[Photo], validation: Sequence[Photo], config: Int8Config | None = None
    ) -> None:
        if not photos:
            raise BadInput(
                "there are no photos to correct INT8 with",
                hint="trtpoets quantize NAME --precision fp16",
                code="TP3024",
            )
        self.model = model
        self.config = config or Int8Config()
        self.proto = check_onnx(model.path)
        self.sessions = Sessions()
        self._sha256 = sha256_of_onnx(model.path)
        self._photos = list(photos)
        self._judged = sorted(validation or photos, key=lambda photo: photo.sha256)[: self.config.judged_photos]
        self._fidelity: dict[bytes, Fidelity] = {}
        self._shifts: dict[bytes, dict[str, np.ndarray]] = {}

    def maker(self, ranges: Ranges) -> Int8Maker:
        """What makes INT8 forms with some ranges. Raises BadArtefact when they are another file's, or not finite."""
        if ranges.onnx_sha256 != self._sha256:
            raise BadArtefact(
                f"the ranges were measured on another network than {self.model.path}",
                hint="calibrate again: trtpoets quantize NAME --force",
                code="TP3025",
            )
        return Int8Maker(self.proto, ranges)

    @cached_property
    def searched(self) -> np.ndarray:
        """The judging photos that a search over layers runs on: uint8 (N, H, W, 3)."""
        return np.concatenate(self._batches)[: self.config.search_photos]

    @cached_property
    def reference(self) -> Reference:
        """FP32 on `searched`."""
        return reference_from_onnx(self.proto, self.searched)

    def fidelity(self, form: Any) -> Fidelity:
        """How near an INT8 ModelProto is to FP32. Asked again for an equal one, it remembers."""
        name = _identity(form)
        if name not in self._fidelity:
            self._fidelity[name] = fidelity_from_answers(self._answers, self._answers_of(form))
        return self._fidelity[name]

    def shifts(self, maker: Int8Maker, form: Any, placement: Placement) -> dict[str, np.ndarray]:
        """How far each bias of an INT8 form has to move: `corrections` on the photos for that; remembered likewise."""
        name = _identity(form)
        if name not in self._shifts:
            unstepped = maker.without_steps(placement)
            self._shifts[name] = corrections(form, unstepped, self.reference, self._few, self.sessions)
        return self._shifts[name]

    def kept_fp32(self, form: Any, progress: Progress = silent) -> dict[str, str]:
        """The nodes of an INT8 form that must not compute in FP16, and why: `precision.kept_fp32` on the photos."""
        count = len(self._photos)
        return kept_fp32(
            form, self._photos, self.model.spec.preprocess, lambda done: progress("fp32 nodes", done, count)
        )[0]

    def rounded(self, form: Any, placement: Placement, progress: Progress = silent) -> dict[str, np.ndarray]:
        """The weights of an INT8 form: `rounded_weights` on the photos for that."""
        return rounded_weights(form, placement, self._decoded(self._photos[: self.config.rounding_photos]), progress)

    @cached_property
    def _few(self) -> np.ndarray:
        return self._decoded(self._photos[: self.config.correction_photos])

    @cached_property
    def _answers(self) -> Answers:
        return self._answers_of(self.proto)

    def _answers_of(self, proto: Any) -> Answers:
        return answers_from_onnx(proto, self.reference.feature_name, self._batches)

    @cached_property
    def _batches(self) -> tuple[np.ndarray, ...]:
        # 128 photos of 224 x 224 are 19 MB; they are run some dozen times.
        return tuple(photo_batches(self._judged, self.model.spec.preprocess, _BATCH))

    def _decoded(self, photos: Sequence[Photo]) -> np.ndarray:
        return next(photo_batches(photos, self.model.spec.preprocess, len(photos)))


def _identity(form: Any) -> bytes:
    return hashlib.sha256(form.SerializeToString(deterministic=True)).digest()
