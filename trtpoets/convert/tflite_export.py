"""Classifier -> TFLite, in FP32 and in INT8: for boards and phones, where there is no TensorRT.

TensorFlow's own converter does both. The photo goes in as it is, uint8; scores come out as float32, summing to 1.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.convert.int8.calibration_checks import refuse_changed_photos
from trtpoets.convert.onnx_export import first_line, serve_signature
from trtpoets.convert.tflite_metadata import METADATA_NAME, metadata_of_spec
from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed, MissingDependency
from trtpoets.core.images import photo_batches
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import native_stderr_to, needs, tensorflow
from trtpoets.core.progress import Progress, silent
from trtpoets.core.tflite_file import write_tflite
from trtpoets.core.types import (
    INPUT_NAME,
    OUTPUT_NAME,
    Classifier,
    ModelSpec,
    Photo,
    Precision,
    Split,
    TfliteModel,
    hash_of,
)

if TYPE_CHECKING:
    import keras

PRECISIONS = (Precision.FP32, Precision.INT8)
"""Those that TFLite computes in. Its float16 files hold smaller weights, and are computed in float32."""

_STEPS = 2

_HEAD = ["FULLY_CONNECTED", "SOFTMAX"]
"""What stays in float of INT8: scores in steps of 1/256 would not sum to 1, nor tell two labels apart when many."""

_PIXELS = 255.0


@keras_defaults()
def tflite_from_classifier(
    classifier: Classifier,
    precision: Precision,
    photos: Sequence[Photo],
    out: Path,
    progress: Progress = silent,
) -> TfliteModel:
    """Write a classifier as TFLite: one photo uint8 (1, H, W, 3) -> `scores` float32 (1, C).

    INT8 is calibrated with `photos`, of the training split (`calibration_photos` chooses them): weights a channel,
    activations a tensor, by least and greatest (Jacob et al. 2018, arXiv:1712.05877); scaling is INT8 too, the head is
    float. FP32 needs no photos.

    Raises BadInput for a precision that TFLite does not compute in, or INT8 without training photos; BadPhoto;
    MissingArtefact or BadArtefact for a damaged classifier; ConversionFailed; MissingDependency; StorageFailed.
    """
    if precision not in PRECISIONS:
        raise BadInput(
            f"TFLite does not compute in {precision.value}", hint="--precision fp32 --precision int8", code="TP3058"
        )
    tf = tensorflow()
    if not hasattr(tf, "lite"):
        raise MissingDependency(
            f"TensorFlow {tf.__version__} came without its TFLite converter",
            hint="pip install 'tensorflow-cpu<2.22'",
            code="TP3059",
        )
    task = f"{precision.value}.tflite"
    progress(task, 0, _STEPS)
    if precision is Precision.FP32:
        network = _fp32(tf, classifier)
        calibration = None
    else:
        _require_training_photos(photos)
        network = _int8(tf, classifier, photos)
        calibration = hash_of([photo.sha256 for photo in photos])
    progress(task, 1, _STEPS)
    described = _described(network, classifier.spec, precision)
    model = write_tflite(described, classifier.spec, precision, out, calibration)
    progress(task, 2, _STEPS)
    return model


def _fp32(tf: Any, classifier: Classifier) -> bytes:
    serve = serve_signature(classifier)

    def answer(photos: Any) -> dict[str, object]:
        (scores,) = serve(photos=photos).values()
        return {OUTPUT_NAME: scores}

    keep = tf.Module()
    keep.loaded = serve.keep_alive
    with _converting():
        converted: bytes = _converter(tf, answer, tf.uint8, classifier.spec, keep).convert()
    return converted


def _int8(tf: Any, classifier: Classifier, photos: Sequence[Photo]) -> bytes:
    """The network in integers from the photo to the features."""
    spec = classifier.spec
    model, scaling = _keras_model(tf, classifier)
    # Named, as Keras would count up, and the name is in the file.
    rest = tf.keras.Model(scaling.output, model.output, name="network")
    # As a convolution of 1 x 1 the scaling is exact in INT8: each channel has its weight, and its bias has 32 bits.
    weights = np.broadcast_to(np.asarray(scaling.scale, np.float32), 3).reshape(1, 1, 3, 1)
    bias = np.broadcast_to(np.asarray(scaling.offset, np.float32), 3)

    def answer(photos: Any) -> dict[str, object]:
        # The step of the input is 1 whatever the photos reach, so that a pixel is its own integer.
        pixels = tf.quantization.fake_quant_with_min_max_args(photos, 0.0, _PIXELS)
        scaled = tf.nn.depthwise_conv2d(pixels, weights, [1, 1, 1, 1], "VALID") + bias
        return {OUTPUT_NAME: rest(scaled, training=False)}

    def representative() -> Iterator[list[np.ndarray]]:
        for batch in photo_batches(photos, spec.preprocess, 1):
            yield [batch.astype(np.float32)]

    keep = tf.Module()
    keep.variables_of_model = [variable.value for variable in model.variables]
    converter = _converter(tf, answer, tf.float32, spec, keep)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    # The one way of TensorFlow's to name what stays in float.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_HEAD)
    with _converting():
        quantised: bytes = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=representative, debug_options=options
        ).get_nondebug_quantized_model()
    return quantised


def _keras_model(tf: Any, classifier: Classifier) -> tuple[keras.Model, Any]:
    """The Keras network, and its first layer, which scales photos. Raises BadArtefact, ConversionFailed."""
    path = classifier.folder / "classifier.keras"
    require_trusted(classifier.folder, classifier.foreign)
    try:
        model = tf.keras.models.load_model(str(path), compile=False)
    except Exception as error:
        raise BadArtefact(
            f"Keras can't load {path}: {first_line(error)}",
            hint="train again: trtpoets retrain PHOTOS --name NAME --force",
            code="TP3060",
        ) from error
    scaling = model.layers[1] if len(model.layers) > 1 else None
    if not isinstance(scaling, tf.keras.layers.Rescaling):
        raise ConversionFailed(
            f"{path} does not begin by scaling photos, so INT8 can't begin with their pixels",
            hint="train it again with this version of trtpoets: trtpoets retrain PHOTOS --name NAME --force",
            code="TP3061",
        )
    return model, scaling


def _converter(tf: Any, answer: Callable[[Any], dict[str, object]], dtype: Any, spec: ModelSpec, keep: Any) -> Any:
    """TensorFlow's converter of a function of one photo; `keep` holds its variables."""
    size = (1, spec.preprocess.height, spec.preprocess.width, 3)
    signature = [tf.TensorSpec(size, dtype, name=INPUT_NAME)]
    function = tf.function(answer, input_signature=signature).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function], keep)


@contextmanager
def _converting() -> Iterator[None]:
    """Turn what the converter raises into ConversionFailed, and keep what it has to say to itself."""
    try:
        with warnings.catch_warnings(), native_stderr_to(os.devnull):
            warnings.simplefilter("ignore")
            yield
    except (BadInput, MissingDependency):  # of a photo, or of the decoder
        raise
    except Exception as error:
        raise ConversionFailed(
            f"the network can't be written as TFLite: {first_line(error)}",
            hint="choose another backbone (trtpoets models lists them)",
            code="TP3062",
        ) from error


def _require_training_photos(photos: Sequence[Photo]) -> None:
    if not photos:
        raise BadInput("there are no photos to calibrate INT8 with", hint="--precision fp32 needs none", code="TP3063")
    for photo in photos:
        if photo.split is not Split.TRAIN:
            raise BadInput(
                f"{photo.path} is in the {photo.split.value} split: INT8 is calibrated with training photos only",
                hint="choose them with calibration_photos",
                code="TP3064",
            )
    refuse_changed_photos(photos)


def _described(network: bytes, spec: ModelSpec, precision: Precision) -> bytes:
    """The same network that takes pixels as uint8, names what it takes and gives, and carries TFLite's metadata."""
    with needs("train", reason="writing TFLite's metadata"):
        import flatbuffers
        from tensorflow.lite.python import schema_py_generated as schema
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(network), 0))
    (graph,) = model.subgraphs
    (takes,), (gives,) = graph.inputs, graph.outputs
    photos, scores = graph.tensors[takes], graph.tensors[gives]
    if photos.type == schema.TensorType.FLOAT32:
        _take_pixels(schema, model, graph, takes)
    expected = (schema.TensorType.UINT8, [1, spec.preprocess.height, spec.preprocess.width, 3])
    if (photos.type, list(photos.shape)) != expected or scores.type != schema.TensorType.FLOAT32:
        raise ConversionFailed(
            f"the converter wrote a network of {list(photos.shape)}, type {photos.type}", code="TP3065"
        )
    photos.name, scores.name = INPUT_NAME, OUTPUT_NAME
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata_of_spec(spec, precision), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(network) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _take_pixels(schema: Any, model: Any, graph: Any, takes: int) -> None:
    """Let an INT8 network begin with uint8: its first operator then moves 0..255 to -128..127, and computes nothing.

    Raises ConversionFailed unless that operator rounds to steps of 1, so that a pixel is its own integer.
    """
    (first,) = (operator for operator in graph.operators if takes in operator.inputs)
    code = model.operatorCodes[first.opcodeIndex]
    gives = graph.tensors[first.outputs[0]]
    steps = gives.quantization and (list(gives.quantization.scale), list(gives.quantization.zeroPoint))
    if code.builtinCode != schema.BuiltinOperator.QUANTIZE or steps != ([1.0], [-128]):
        raise ConversionFailed(
            f"the converter reads photos in steps of {steps}, not of 1: scores would be of other pixels",
            hint="use another version of TensorFlow; 2.21 does it right",
            code="TP3066",
        )
    pixels = graph.tensors[takes]
    pixels.type = schema.TensorType.UINT8
    pixels.quantization = schema.QuantizationParametersT()
    pixels.quantization.scale, pixels.quantization.zeroPoint = [1.0], [0]
