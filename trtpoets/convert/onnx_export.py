"""Classifier -> fp32.onnx: through TensorFlow and tf2onnx, then cleaned, folded and named the same way every time."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.naming import canonical
from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed, MissingArtefact
from trtpoets.core.files import temporary_folder
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.onnx_file import LABELS_KEY, PRECISION_KEY, SPEC_KEY, write_onnx
from trtpoets.core.optional import needs, onnxruntime, tensorflow
from trtpoets.core.progress import Progress, silent
from trtpoets.core.storage import error_in_text
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Classifier, ModelSpec, OnnxModel, Precision

if TYPE_CHECKING:
    import keras

OPSETS = range(13, 19)
"""What the converter writes and every TensorRT from 8.5 on reads."""

_TASK = "export"
_STEPS = 4


@dataclass(frozen=True)
class ExportConfig:
    """How a classifier is written as ONNX."""

    opset: int = 17

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise BadInput(
                f"ONNX opset {self.opset}: trtpoets writes {OPSETS[0]} to {OPSETS[-1]}",
                hint=f"17 is read by every TensorRT from 8.5 on: --opset {ExportConfig.opset}",
                code="TP3042",
            )


@keras_defaults()
def onnx_from_classifier(
    classifier: Classifier, out: Path, config: ExportConfig = ExportConfig(), progress: Progress = silent
) -> OnnxModel:
    """Write the FP32 ONNX file of a classifier: `photos` uint8 (N, H, W, 3) -> `scores` float32 (N, C).

    Raises MissingArtefact or BadArtefact when the SavedModel is absent, damaged or does not fit model.json,
    ConversionFailed when ONNX has no word for one of its operators, StorageFailed.
    """
    progress(_TASK, 0, _STEPS)
    serve = serve_signature(classifier)
    progress(_TASK, 1, _STEPS)
    metadata = metadata_of_spec(classifier.spec, Precision.FP32)
    size = (classifier.spec.preprocess.height, classifier.spec.preprocess.width)

    def answer(photos: Any) -> Any:
        (scores,) = serve(photos=photos).values()
        return scores

    _write(answer, size, out, OUTPUT_NAME, config, metadata, progress)
    return OnnxModel(out, Precision.FP32, classifier.spec)


@keras_defaults()
def onnx_from_network(
    model: keras.Model,
    out: Path,
    output_name: str = "features",
    config: ExportConfig = ExportConfig(),
    metadata: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> None:
    """Write a Keras network `photos` uint8 (N, H, W, 3) -> float32 (N, D) as ONNX, `output_name` its output.

    Raises ConversionFailed, StorageFailed, or BadInput when the network takes anything else than uint8 photos.
    """
    if len(model.inputs) != 1 or model.inputs[0].dtype != "uint8" or len(model.inputs[0].shape) != 4:
        given = [f"{value.dtype} {tuple(value.shape)}" for value in model.inputs]
        raise BadInput(
            f"the network takes {', '.join(given)}, not uint8 (N, H, W, 3)",
            hint="scale photos inside it",
            code="TP3043",
        )
    _, height, width, _ = model.inputs[0].shape
    progress(_TASK, 1, _STEPS)
    _write(
        lambda photos: model(photos, training=False),
        (height, width),
        out,
        output_name,
        config,
        metadata or {},
        progress,
    )


def metadata_of_spec(spec: ModelSpec, precision: Precision) -> dict[str, str]:
    """What an ONNX file says about itself: model.json, its precision, and the labels for other tools."""
    return {SPEC_KEY: spec.to_json(), PRECISION_KEY: precision.value, LABELS_KEY: "\n".join(spec.labels)}


def serve_signature(classifier: Classifier) -> Any:
    """The SavedModel's `serve` signature. Raises MissingArtefact, or BadArtefact when it doesn't fit model.json."""
    folder, spec = classifier.saved_model, classifier.spec
    hint = "train again: trtpoets retrain PHOTOS --name NAME --force"
    if not (folder / "saved_model.pb").is_file():
        raise MissingArtefact(f"{folder} is not a SavedModel", hint=hint, code="TP3044")
    require_trusted(classifier.folder, classifier.foreign)
    tf = tensorflow()
    try:
        loaded = tf.saved_model.load(str(folder))
        serve = loaded.signatures["serve"]
    except Exception as error:
        raise BadArtefact(f"{folder} can't be loaded: {first_line(error)}", hint=hint, code="TP3045") from error
    takes = serve.structured_input_signature[1].get(INPUT_NAME)
    gives = list(serve.structured_outputs.values())
    wanted = [None, spec.preprocess.height, spec.preprocess.width, 3]
    if takes is None or takes.dtype != tf.uint8 or takes.shape.as_list() != wanted:
        raise BadArtefact(f"{folder} takes {takes}, but model.json says uint8 {wanted}", hint=hint, code="TP3046")
    if len(gives) != 1 or gives[0].shape.as_list() != [None, len(spec.labels)]:
        raise BadArtefact(
            f"{folder} gives {gives}, but model.json has {len(spec.labels)} labels", hint=hint, code="TP3047"
        )
    # The signature's variables live as long as what was loaded.
    serve.keep_alive = loaded
    return serve


def _write(
    network: Callable[[Any], Any],
    size: tuple[int, int],
    out: Path,
    output_name: str,
    config: ExportConfig,
    metadata: Mapping[str, str],
    progress: Progress,
) -> None:
    raw = _converted(network, size, config)
    progress(_TASK, 2, _STEPS)
    clean = canonical(_folded(raw), INPUT_NAME, output_name, metadata)
    progress(_TASK, 3, _STEPS)
    write_onnx(clean, out)
    progress(_TASK, 4, _STEPS)


def _converted(network: Callable[[Any], Any], size: tuple[int, int], config: ExportConfig) -> Any:
    """What tf2onnx makes of a TensorFlow function of `photos`."""
    tf = tensorflow()
    with needs("train", reason="exporting to ONNX"):
        import tf2onnx
    signature = [tf.TensorSpec((None, *size, 3), tf.uint8, name=INPUT_NAME)]
    try:
        with _quiet("tf2onnx", "tensorflow"):
            model, _ = tf2onnx.convert.from_function(
                tf.function(network), input_signature=signature, opset=config.opset
            )
    except Exception as error:
        raise ConversionFailed(
            f"the network can't be written as ONNX: {first_line(error)}",
            hint="choose another backbone (trtpoets models lists them), or another --opset",
            code="TP3048",
        ) from error
    return model


def _folded(model: Any) -> Any:
    """The same network with batch-norms, paddings and constants folded into the convolutions beside them.

    ONNX Runtime's basic level does this with standard operators only.
    """
    with needs("train", reason="exporting to ONNX"):
        import onnx

        runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with temporary_folder() as folder:
        options.optimized_model_filepath = str(folder / "folded.onnx")
        try:
            runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            failure = error_in_text(str(error))
            if failure is not None:
                raise failure from error
            raise ConversionFailed(
                f"ONNX Runtime refuses the exported network: {first_line(error)}", code="TP3049"
            ) from error
        folded = onnx.load(options.optimized_model_filepath)
    strange = sorted(
        {f"{node.domain}.{node.op_type}" for node in folded.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if strange:
        raise ConversionFailed(
            f"the network needs operators outside the ONNX standard: {', '.join(strange)}", code="TP3050"
        )
    return folded


@contextlib.contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Only errors of these loggers are heard inside: converters tell about deprecations of their own."""
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in loggers]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


def first_line(error: Exception) -> str:
    """The first line of what another library has to say."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
