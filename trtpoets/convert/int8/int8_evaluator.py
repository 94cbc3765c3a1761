"""Int8Evaluator corrects INT8 versions of an FP32 network and compares them with it, on the same photos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.naming import finished
from trtpoets.convert.int8.accuracy_target import PairedAnswers, answers_from_scores, is_met
from trtpoets.convert.int8.bias_correction import Fp32Reference, bias_shifts, reference_from_onnx
from trtpoets.convert.int8.calibration import Ranges
from trtpoets.convert.int8.fidelity import NetworkOutputs, fidelity_from_outputs, outputs_from_onnx
from trtpoets.convert.int8.forms import TENSORRT, Arithmetic
from trtpoets.convert.int8.gptq import gptq_weights
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_graph import Int8GraphBuilder
from trtpoets.convert.int8.placement import Placement
from trtpoets.convert.int8.qdq import dequantized
from trtpoets.convert.int8.segments import SegmentRunner
from trtpoets.convert.precision import kept_fp32
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.fixed_batch import whole_groups
from trtpoets.core.images import photo_batches
from trtpoets.core.network_notes import Fidelity
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx, opset_of
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import OnnxModel, Photo

_BATCH = 4
"""So many photos run at a time: the activations of more do not stay in the caches of a processor."""

FEW = 32
"""This many validation photos choose the methods that are compared on all."""

_PROMISE_PHOTOS = 256
"""At most this many validation photos decide whether the accuracy target is met while layers are searched."""


class Int8Evaluator:
    """Corrects and evaluates INT8 versions of an FP32 file.

    `photos` are the calibration photos in mixed order; they are used for corrections. Versions are evaluated on the
    `validation` photos, or on `photos` if there are none, as files of `arithmetic.form`. FP32 outputs are computed
    once, on first use. `proto` is the FP32 ModelProto, prepared for that form. Raises BadInput without photos,
    BadArtefact if the file is not an ONNX file.
    """

    def __init__(
        self,
        model: OnnxModel,
        photos: Sequence[Photo],
        validation: Sequence[Photo],
        config: Int8Config | None = None,
        arithmetic: Arithmetic = TENSORRT,
    ) -> None:
        if not photos:
            raise BadInput(
                "there are no photos for INT8 bias correction",
                hint="use FP16: trtpoets quantize NAME --precision fp16",
                code="TP3024",
            )
        self.model = model
        self.config = config or Int8Config()
        self.arithmetic = arithmetic
        self._original = check_onnx(model.path)
        self.proto = arithmetic.prepared(self._original)
        self.runner = SegmentRunner()
        self._sha256 = sha256_of_onnx(model.path)
        self._photos = list(photos)
        ordered = sorted(validation or photos, key=lambda photo: photo.sha256)
        self._judged = ordered[: self.config.judged_photos]
        self._also_judged = ordered[len(self._judged) : _PROMISE_PHOTOS]
        self._fidelity: dict[tuple[bytes, int], Fidelity] = {}
        self._outputs: dict[bytes, NetworkOutputs] = {}
        self._shifts: dict[bytes, dict[str, np.ndarray]] = {}
        self._rounded: dict[bytes, dict[str, np.ndarray]] = {}

    def of_form(self, arithmetic: Arithmetic, config: Int8Config) -> Int8Evaluator:
        """Return an evaluator of a form on the same photos, which takes over what has been computed.

        Results for INT8 versions are those of a form. `config` must have the same numbers of photos.
        """
        other = Int8Evaluator(self.model, self._photos, (*self._judged, *self._also_judged), config, arithmetic)
        of_form = ("reference", "_fidelity", "_outputs", "_shifts", "_rounded") if arithmetic is self.arithmetic else ()
        for name in ("_batches", "_correction_photos", "_fp32_outputs", "_fp32_scores", *of_form):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def builder(self, ranges: Ranges) -> Int8GraphBuilder:
        """Return the builder of INT8 graphs for some ranges.

        Raises BadArtefact if the ranges belong to another file or are not finite.
        """
        if ranges.onnx_sha256 != self._sha256:
            raise BadArtefact(
                f"the ranges belong to another network than {self.model.path}",
                hint="calibrate again: trtpoets quantize NAME --force",
                code="TP3025",
            )
        return Int8GraphBuilder(self._original, ranges, self.arithmetic)

    @cached_property
    def search_photos(self) -> np.ndarray:
        """The validation photos for the sensitivity analysis: uint8 (N, H, W, 3)."""
        return whole_groups(np.concatenate(self._batches)[: self.config.search_photos], self._batch)

    @cached_property
    def reference(self) -> Fp32Reference:
        """The FP32 network on `search_photos`."""
        return reference_from_onnx(self.proto, self.search_photos)

    def search_features(self, version: Any) -> np.ndarray:
        """Return the features of the file of an INT8 version for `search_photos`: float32 (N, F)."""
        proto = self.as_file(version)
        return outputs_from_onnx(proto, self._features_in(proto), _batches_of(self.search_photos)).features

    def as_file(self, version: Any) -> Any:
        """Return an INT8 version of the builder as the file of its form, without metadata of the classifier."""
        if self.arithmetic is TENSORRT:
            return version
        return finished(self.arithmetic.lowered(version).graph, opset_of(version), self.arithmetic.metadata)

    @property
    def few_judged(self) -> int:
        """A number of validation photos that tells poor versions from good ones in a quarter of the time."""
        return min(FEW, len(self._judged))

    def fidelity(self, version: Any, photos: int | None = None) -> Fidelity:
        """Return how close the file of an INT8 version is to FP32, on the first `photos` judged photos (None: all).

        Results are cached by the content of the version.
        """
        count = len(self._judged) if photos is None else min(photos, len(self._judged))
        content = _hash_of_model(version)
        if (content, count) not in self._fidelity:
            outputs = self._outputs.get(content)
            done = 0 if outputs is None else len(outputs.scores)
            if done < count:
                more = self._outputs_of(self.as_file(version), done, count)
                outputs = more if outputs is None else _joined(outputs, more)
                self._outputs[content] = outputs
            assert outputs is not None
            self._fidelity[content, count] = fidelity_from_outputs(
                _first(self._fp32_outputs, count), _first(outputs, count)
            )
        return self._fidelity[content, count]

    def fidelity_of_file(self, proto: Any) -> Fidelity:
        """Return how close a file of the form is to FP32."""
        return fidelity_from_outputs(self._fp32_outputs, self._outputs_of(proto, 0, len(self._judged)))

    def outputs_on(self, photos: Sequence[Photo], version: Any = None) -> NetworkOutputs:
        """Return the outputs of the file of an INT8 version on photos; those of FP32 without a version."""
        proto = self._original if version is None else self.as_file(version)
        batches = photo_batches(photos, self.model.spec.preprocess, _BATCH)
        return outputs_from_onnx(proto, self._features_in(proto), batches)

    def is_target_met(self, version: Any) -> bool:
        """Return whether the file of an INT8 version meets the target of accuracy_target.py on at most 256 photos."""
        self.fidelity(version)  # runs the judged photos, unless they have been run
        scores, labels = self._outputs[_hash_of_model(version)].scores, self.model.spec.labels
        truth = [photo.label for photo in (*self._judged, *self._also_judged)]
        judged = answers_from_scores(self._fp32_scores[: len(scores)], scores, labels, truth[: len(scores)])
        if not is_met(PairedAnswers(len(truth), judged.different)):
            return False  # even if all other photos agree, which then need not be run
        scores = self._with_others(self.as_file(version), scores)
        return is_met(answers_from_scores(self._fp32_scores, scores, labels, truth))

    def bias_shifts(self, builder: Int8GraphBuilder, version: Any, placement: Placement) -> dict[str, np.ndarray]:
        """Return the bias shift of each layer of an INT8 version, float32 (channels,). Results are cached."""
        key = _hash_of_model(version)
        if key not in self._shifts:
            clipped = builder.build_clipped(placement)
            self._shifts[key] = bias_shifts(version, clipped, self.reference, self._correction_photos, self.runner)
        return self._shifts[key]

    def kept_fp32(self, version: Any, progress: Progress = silent, exact: Any | None = None) -> dict[str, str]:
        """Return the nodes of an INT8 version that must not be converted to FP16, and why.

        `exact` is the FP32 network that the version quantises. It has the same tensors and runs faster; rounding
        changes no range by as much as the margin of `kept_fp32`.
        """
        count = len(self._photos)
        return kept_fp32(
            version, self._photos, self.model.spec.preprocess, lambda done: progress("fp32 nodes", done, count), exact
        )[0]

    def gptq_weights(self, version: Any, placement: Placement, progress: Progress = silent) -> dict[str, np.ndarray]:
        """Return the weights of an INT8 version rounded by GPTQ, by name. Results are cached."""
        key = _hash_of_model(version)
        if key not in self._rounded:
            photos = self._decoded(self._photos[: self.config.rounding_photos])
            self._rounded[key] = gptq_weights(version, placement, photos, progress)
        return self._rounded[key]

    @cached_property
    def _correction_photos(self) -> np.ndarray:
        return self._decoded(self._photos[: self.config.correction_photos])

    @cached_property
    def _fp32_outputs(self) -> NetworkOutputs:
        return self._outputs_of(self._original, 0, len(self._judged))

    def _outputs_of(self, proto: Any, start: int, stop: int) -> NetworkOutputs:
        """Return the outputs of a network for the judged photos from `start` to `stop`."""
        photos = np.concatenate(self._batches)[start:stop]
        return outputs_from_onnx(proto, self._features_in(proto), _batches_of(photos))

    def _features_in(self, proto: Any) -> str:
        """Return the name of the feature tensor in FP32 or in a file of the form."""
        name = self.reference.feature_name
        computed = {tensor for node in proto.graph.node for tensor in node.output}
        # The CPU form has no tensor before a pair whose range replaces a ReLU.
        return name if name in computed else dequantized(name)

    @cached_property
    def _fp32_scores(self) -> np.ndarray:
        return self._with_others(self._original, self._fp32_outputs.scores)

    def _with_others(self, proto: Any, judged_scores: np.ndarray) -> np.ndarray:
        """Return the scores of a network on the judged photos, which are given, and on those that are also judged."""
        if not self._also_judged:
            return judged_scores
        batches = photo_batches(self._also_judged, self.model.spec.preprocess, _BATCH)
        return np.concatenate([judged_scores, outputs_from_onnx(proto, self._features_in(proto), batches).scores])

    @cached_property
    def _batches(self) -> tuple[np.ndarray, ...]:
        # 128 photos of 224 x 224 take 19 MB and are used a dozen times, so they are kept in memory.
        return tuple(photo_batches(self._judged, self.model.spec.preprocess, _BATCH))

    def _decoded(self, photos: Sequence[Photo]) -> np.ndarray:
        return whole_groups(next(photo_batches(photos, self.model.spec.preprocess, len(photos))), self._batch)

    @cached_property
    def _batch(self) -> int:
        """The fixed batch of the network; 0 if it takes any number of photos."""
        return GraphView(self.proto).batch or 0


def _batches_of(photos: np.ndarray) -> Iterator[np.ndarray]:
    return (photos[start : start + _BATCH] for start in range(0, len(photos), _BATCH))


def _joined(first: NetworkOutputs, more: NetworkOutputs) -> NetworkOutputs:
    return NetworkOutputs(np.concatenate([first.features, more.features]), np.concatenate([first.scores, more.scores]))


def _first(outputs: NetworkOutputs, count: int) -> NetworkOutputs:
    return NetworkOutputs(outputs.features[:count], outputs.scores[:count])


def _hash_of_model(proto: Any) -> bytes:
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).digest()
