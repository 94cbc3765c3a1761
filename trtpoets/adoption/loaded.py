"""Opens a classifier file of any supported format, and writes it as a classifier of trtpoets.

Everything that depends on the format goes through `LoadedModel` and `fp32_from_classifier`.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trtpoets.adoption.folders import classifier_in_folder, unpacking
from trtpoets.adoption.foreign import EXPECTED, ForeignModel
from trtpoets.adoption.sizes import require_usable_size
from trtpoets.adoption.tensorflow.reader import KINDS
from trtpoets.convert.onnx_export import ExportConfig, onnx_from_classifier
from trtpoets.convert.parity import LIMIT
from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.file_kinds import FileKind, kind_named, kind_of_file, other_kind
from trtpoets.core.files import atomic_folder
from trtpoets.core.model_json import write_model_json
from trtpoets.core.original import Format
from trtpoets.core.progress import Progress, silent
from trtpoets.core.reading import LARGEST_NETWORK_FILE, NotReadable, read_errors
from trtpoets.core.types import Classifier, ModelSpec, OnnxModel
from trtpoets.device.originals import onnx_or_tflite_network

if TYPE_CHECKING:
    from trtpoets.adoption.tensorflow.reader import LoadedTensorFlow
    from trtpoets.device.originals import OriginalNetwork

_log = logging.getLogger(__name__)

_OF_FILES = ("onnx", "tflite")
"""Kinds of files (`core/file_kinds.py`) that are not formats of TensorFlow."""


class LoadedModel(Protocol):
    """A classifier file that its reader understood."""

    @property
    def model(self) -> ForeignModel:
        """What the reader found."""

    def network(self) -> OriginalNetwork:
        """Return the network as its own framework runs it, not entered yet."""

    def write(self, spec: ModelSpec, folder: Path) -> Classifier:
        """Write the classifier's folder: model.json, the original, and for TensorFlow's formats saved_model/."""


class _FileModel:
    """An ONNX or TFLite file: its classifier contains the file itself."""

    def __init__(self, model: ForeignModel) -> None:
        self.model = model

    def network(self) -> OriginalNetwork:
        model = self.model
        return onnx_or_tflite_network(model.format, model.path, model.input, model.output)

    def write(self, spec: ModelSpec, folder: Path) -> Classifier:
        assert spec.original is not None
        with atomic_folder(folder) as part:
            write_model_json(spec, part)
            copy = part / "original" / spec.original.file
            copy.parent.mkdir()
            if self.model.format is Format.ONNX:
                from trtpoets.core.onnx_load import load_self_contained

                copy.write_bytes(load_self_contained(self.model.path).content)
            else:
                shutil.copyfile(self.model.path, copy)
        return Classifier(folder, spec)


class _TensorFlowModel:
    """A file in one of TensorFlow's formats: its classifier contains the original and a SavedModel."""

    def __init__(self, loaded: LoadedTensorFlow) -> None:
        self._loaded = loaded
        self.model = loaded.model

    def network(self) -> OriginalNetwork:
        from trtpoets.adoption.tensorflow.network import TensorFlowNetwork

        return TensorFlowNetwork(self._loaded)

    def write(self, spec: ModelSpec, folder: Path) -> Classifier:
        from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow

        assert spec.original is not None
        with atomic_folder(folder) as part:
            write_model_json(spec, part)
            copy = part / "original" / spec.original.file
            if self.model.path.is_dir():
                shutil.copytree(self.model.path, copy)
            else:
                copy.parent.mkdir()
                shutil.copyfile(self.model.path, copy)
            classifier_from_tensorflow(self._loaded, spec, part)
        return Classifier(folder, spec)


def load_foreign(path: Path, *, allow_code: bool = False) -> LoadedModel:
    """Read a classifier file, SavedModel folder, or folder with one classifier; the format is detected by its content.

    `allow_code` permits files that contain Python code or operators that use files (Keras Lambda layers).
    Raises MissingArtefact, or BadArtefact that names what the file is if it cannot be adopted.
    """
    if path.is_dir():
        folder, path = path, classifier_in_folder(path)
        if path != folder:
            _log.info("the classifier in %s is %s", folder, path.relative_to(folder))
    kind = _kind(path)
    if kind.name in (*_OF_FILES, *KINDS):
        require_usable_size(path, kind)
    if kind.name == "onnx":
        from trtpoets.adoption.onnx import read_onnx_classifier

        return _FileModel(read_onnx_classifier(path))
    if kind.name == "tflite":
        from trtpoets.adoption.tflite import read_tflite_classifier

        return _FileModel(read_tflite_classifier(path))
    if kind.name in KINDS:
        from trtpoets.adoption.tensorflow.reader import read_tensorflow

        return _TensorFlowModel(read_tensorflow(path, KINDS[kind.name], allow_code=allow_code))
    error = other_kind(path, kind, EXPECTED)
    error.hint = unpacking(path, kind) or error.hint
    raise error


@dataclass(frozen=True)
class Fp32File:
    """fp32.onnx of a classifier, and how it is compared with the classifier.

    The scores may differ by `tolerance`. `rounding` is the path of a variant to compare instead, None for most: it
    rounds as the integers of a TFLite file do, while `model` clips where they saturate and does not round.
    """

    model: OnnxModel
    tolerance: float = LIMIT
    rounding: Path | None = None


def fp32_from_classifier(
    classifier: Classifier, out: Path, scratch: Path, config: ExportConfig, progress: Progress = silent
) -> Fp32File:
    """Write fp32.onnx of any classifier.

    For an integer TFLite file and an ONNX file with Q/DQ pairs, `Fp32File.rounding` is written into `scratch`.
    """
    original = classifier.spec.original
    if original is None or original.format.is_tensorflow:
        return Fp32File(onnx_from_classifier(classifier, out, config, progress))
    assert classifier.original is not None
    if original.format is Format.ONNX:
        from trtpoets.adoption.onnx import fp32_from_onnx

        pairs = scratch / "rounded.onnx"
        model, tolerance = fp32_from_onnx(classifier.original, classifier.spec, out, config.opset, pairs)
        return Fp32File(model, tolerance, pairs if pairs.is_file() else None)
    from trtpoets.adoption.onnx import wrap_network
    from trtpoets.adoption.tflite import network_from_tflite

    rounded, smooth = network_from_tflite(classifier.original, config.opset)
    rounds = rounded is not smooth
    model = wrap_network(smooth, "values", "answers", classifier.spec, out, config.opset)
    if not rounds:
        return Fp32File(model)
    variant = wrap_network(rounded, "values", "answers", classifier.spec, scratch / "rounded.onnx", config.opset)
    return Fp32File(model, rounding=variant.path)


def brings_scales(classifier: Classifier) -> bool:
    """Return whether a classifier is an adopted ONNX file with Q/DQ pairs of its own."""
    original = classifier.spec.original
    if original is None or original.format is not Format.ONNX or classifier.original is None:
        return False
    from trtpoets.adoption.onnx import has_own_pairs

    return has_own_pairs(classifier.original, original)


def _kind(path: Path) -> FileKind:
    if path.is_dir():
        return kind_named("saved-model")
    missing = MissingArtefact(f"{path} does not exist", hint="check the path", code="TP9502")
    with read_errors(BadArtefact, path, hint="check its permissions", code="TP9504", missing=missing):
        try:
            kind, size = kind_of_file(path), path.stat().st_size
        except NotReadable as error:
            raise BadArtefact(error.message, hint=error.hint, code="TP9503") from error
    if kind is None:
        limit = f", more than the {LARGEST_NETWORK_FILE:,} that are read" if size > LARGEST_NETWORK_FILE else ""
        raise BadArtefact(
            f"{path} is not {EXPECTED}, and its kind is unknown; it has {size:,} bytes{limit}",
            hint="export the network to ONNX with the program that wrote it",
            code="TP9505",
        )
    return kind
