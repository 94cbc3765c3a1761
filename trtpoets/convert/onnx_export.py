"""Exports a classifier to fp32.onnx with TensorFlow and tf2onnx, folds constants and assigns canonical names."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.convert.graph.constant_shapes import with_constant_shapes
from trtpoets.convert.graph.naming import canonical
from trtpoets.convert.graph.photo_scaling import with_scaling_by_planes
from trtpoets.convert.inlining import with_compiled_calls_inlined
from trtpoets.convert.tf_operators import OPERATORS
from trtpoets.core.authenticity import require_trusted
from trtpoets.core.classifier_hints import REPORT, convert_otherwise, make_again
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed, MissingArtefact, first_line
from trtpoets.core.files import temporary_folder
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.onnx_file import LABELS_KEY, PRECISION_KEY, SPEC_KEY, UNWANTED_OPTIMIZERS, write_onnx
from trtpoets.core.optional import needs, onnxruntime, tensorflow
from trtpoets.core.progress import Progress, silent
from trtpoets.core.storage import error_in_text
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Classifier, ModelSpec, OnnxModel, Precision

if TYPE_CHECKING:
    import keras

OPSETS = range(13, 19)
"""Opsets that tf2onnx writes and that every TensorRT from 8.5 on reads."""

_MULTIPLY_PAIRS = ("TransposeOptimizer", "QDQPropagationTransformer")
"""Optimizers of ONNX Runtime that add Q/DQ pairs before and after a Transpose."""

_ANOTHER = "choose another backbone (trtpoets models lists them), or another opset: trtpoets export NAME --opset 15"

_TASK = "export"
_STEPS = 4


@dataclass(frozen=True)
class ExportConfig:
    """Settings of the ONNX export."""

    opset: int = 17

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise BadInput(
                f"the ONNX opset must be {OPSETS[0]} to {OPSETS[-1]}, not {self.opset}",
                hint=f"give --opset {ExportConfig.opset}, which every TensorRT from 8.5 on reads",
                code="TP3042",
            )


@keras_defaults()
def onnx_from_classifier(
    classifier: Classifier, out: Path, config: ExportConfig = ExportConfig(), progress: Progress = silent
) -> OnnxModel:
    """Write the FP32 ONNX file of a classifier: `photos` uint8 (N, H, W, 3) -> `scores` float32 (N, C).

    Raises MissingArtefact or BadArtefact if the SavedModel is missing, damaged or does not match model.json;
    ConversionFailed if ONNX cannot represent one of its operators; StorageFailed.
    """
    progress(_TASK, 0, _STEPS)
    serve = serve_signature(classifier)
    progress(_TASK, 1, _STEPS)
    metadata = metadata_of_spec(classifier.spec, Precision.FP32)
    size = (classifier.spec.preprocess.height, classifier.spec.preprocess.width)

    def answer(photos: Any) -> Any:
        (scores,) = serve(photos=photos).values()
        return scores

    hint = convert_otherwise(classifier.spec, _ANOTHER)
    _write(answer, size, out, OUTPUT_NAME, config, metadata, progress, hint)
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
    """Write a Keras network, `photos` uint8 (N, H, W, 3) -> float32 (N, D), as ONNX; `output_name` names its output.

    Raises ConversionFailed, StorageFailed, or BadInput if the input is not uint8 photos.
    """
    if len(model.inputs) != 1 or model.inputs[0].dtype != "uint8" or len(model.inputs[0].shape) != 4:
        inputs = [f"{value.dtype} {tuple(value.shape)}" for value in model.inputs]
        raise BadInput(
            f"the network's input must be uint8 (N, H, W, 3), not {', '.join(inputs)}",
            hint="add a Rescaling layer to the network, so that it accepts pixels of 0 to 255",
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
        _ANOTHER,
    )


def metadata_of_spec(spec: ModelSpec, precision: Precision) -> dict[str, str]:
    """Return the metadata of an ONNX file: model.json, its precision, and the labels for other tools."""
    return {SPEC_KEY: spec.to_json(), PRECISION_KEY: precision.value, LABELS_KEY: "\n".join(spec.labels)}


def serve_signature(classifier: Classifier) -> Any:
    """Return the `serve` signature. Raises MissingArtefact, BadArtefact if it does not match model.json."""
    folder, spec = classifier.saved_model, classifier.spec
    hint = make_again(spec)
    if not (folder / "saved_model.pb").is_file():
        raise MissingArtefact(f"{folder} does not contain a SavedModel", hint=hint, code="TP3044")
    require_trusted(classifier.folder, classifier.foreign)
    tf = tensorflow()
    try:
        loaded = tf.saved_model.load(str(folder))
        serve = loaded.signatures["serve"]
    except Exception as error:
        raise BadArtefact(f"{folder} can't be loaded: {first_line(error)}", hint=hint, code="TP3045") from error
    photos = serve.structured_input_signature[1].get(INPUT_NAME)
    outputs = list(serve.structured_outputs.values())
    expected = [None, spec.preprocess.height, spec.preprocess.width, 3]
    if photos is None or photos.dtype != tf.uint8 or photos.shape.as_list() != expected:
        raise BadArtefact(
            f"the input of {folder} is {photos}, but model.json requires uint8 {expected}", hint=hint, code="TP3046"
        )
    if len(outputs) != 1 or outputs[0].shape.as_list() != [None, len(spec.labels)]:
        raise BadArtefact(
            f"the outputs of {folder} are {outputs}, but model.json has {len(spec.labels)} labels",
            hint=hint,
            code="TP3047",
        )
    # The variables of the signature exist only as long as the loaded SavedModel.
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
    hint: str,
) -> None:
    raw = _converted(network, size, config, hint)
    progress(_TASK, 2, _STEPS)
    clean = with_constant_shapes(with_scaling_by_planes(folded(raw)))
    clean = canonical(clean, INPUT_NAME, output_name, metadata)
    progress(_TASK, 3, _STEPS)
    write_onnx(clean, out)
    progress(_TASK, 4, _STEPS)


def _converted(network: Callable[[Any], Any], size: tuple[int, int], config: ExportConfig, hint: str) -> Any:
    """Convert a TensorFlow function of `photos` with tf2onnx; return a ModelProto. `hint` is for ConversionFailed."""
    tf = tensorflow()
    with needs("train", reason="exporting to ONNX"):
        import tf2onnx
    signature = [tf.TensorSpec((None, *size, 3), tf.uint8, name=INPUT_NAME)]
    try:
        with _quiet("tf2onnx", "tensorflow"):
            function = with_compiled_calls_inlined(tf.function(network), signature[0])
            model, _ = tf2onnx.convert.from_function(
                function, input_signature=signature, opset=config.opset, custom_op_handlers=dict(OPERATORS)
            )
    except Exception as error:
        raise ConversionFailed(
            f"the network can't be converted to ONNX: {first_line(error)}",
            hint=hint,
            code="TP3048",
        ) from error
    return model


def folded(model: Any) -> Any:
    """Return the same network with batch norms, padding and constants folded into the neighbouring convolutions.

    ONNX Runtime's basic optimisation level does this and uses standard operators only. Q/DQ pairs are kept as they are.
    """
    with needs("train", reason="exporting to ONNX"):
        import onnx

        runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    quantised = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    unwanted = [*UNWANTED_OPTIMIZERS, *(_MULTIPLY_PAIRS if quantised else ())]
    with temporary_folder() as folder:
        options.optimized_model_filepath = str(folder / "folded.onnx")
        try:
            runtime.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=unwanted,
            )
        except Exception as error:
            failure = error_in_text(str(error))
            if failure is not None:
                raise failure from error
            raise ConversionFailed(
                f"ONNX Runtime rejects the exported network: {first_line(error)}", hint=REPORT, code="TP3049"
            ) from error
        folded = onnx.load(options.optimized_model_filepath)
    nonstandard = sorted(
        {f"{node.domain}.{node.op_type}" for node in folded.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if nonstandard:
        raise ConversionFailed(
            f"the network needs operators outside the ONNX standard: {', '.join(nonstandard)}",
            hint="replace their layers by others in the program that defines the network",
            code="TP3050",
        )
    return folded


@contextlib.contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Suppress messages below ERROR of these loggers; converters log deprecation warnings of their own."""
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in loggers]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
