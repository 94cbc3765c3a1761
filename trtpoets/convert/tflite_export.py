"""Exports a classifier to TFLite in FP32 and INT8, for boards and phones without TensorRT.

TensorFlow's converter does both; `tflite_int8` gives INT8 the parameters of int8.onnx instead, where it can. The input
is a uint8 photo; the scores are float32 and sum to 1.
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
from trtpoets.convert.onnx_export import serve_signature
from trtpoets.convert.tflite_graph import PIXELS, TfliteGraph
from trtpoets.convert.tflite_metadata import METADATA_NAME, metadata_of_spec
from trtpoets.core.authenticity import require_trusted
from trtpoets.core.classifier_hints import make_again
from trtpoets.core.errors import BadArtefact, BadInput, ConversionFailed, MissingDependency, first_line
from trtpoets.core.images import photo_batches
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import native_stderr_to, tensorflow
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
"""Precisions in which TFLite computes. Its float16 files contain smaller weights, but are computed in float32."""

_STEPS = 2

HEAD = ["FULLY_CONNECTED", "SOFTMAX"]
"""Operators that INT8 keeps in FP32: with a scale of 1/256, scores would not sum to 1, and many labels would tie."""


@keras_defaults()
def tflite_from_classifier(
    classifier: Classifier,
    precision: Precision,
    photos: Sequence[Photo],
    out: Path,
    progress: Progress = silent,
) -> TfliteModel:
    """Write a classifier as TFLite: one photo, uint8 (1, H, W, 3) -> `scores` float32 (1, C).

    INT8 is calibrated with `photos` of the training split (see `calibration_photos`): scales per channel for weights
    and per tensor for activations, from minima and maxima (Jacob et al. 2018, arXiv:1712.05877). The scaling of pixels
    is INT8 too; the head stays FP32. FP32 needs no photos.

    Raises BadInput for a precision that TFLite does not support, or for INT8 without training photos; BadPhoto;
    MissingArtefact or BadArtefact for a damaged classifier; ConversionFailed; MissingDependency; StorageFailed.
    """
    if precision not in PRECISIONS:
        raise BadInput(
            f"TFLite supports the precisions fp32 and int8, not {precision.value}",
            hint="give --precision fp32 --precision int8",
            code="TP3058",
        )
    tf = tensorflow()
    if not hasattr(tf, "lite"):
        raise MissingDependency(
            f"TensorFlow {tf.__version__} does not include the TFLite converter",
            hint="pip install 'tensorflow-cpu<2.22'",
            code="TP3059",
        )
    task = f"{precision.value}.tflite"
    progress(task, 0, _STEPS)
    if precision is Precision.FP32:
        network = _fp32(tf, classifier)
        calibration = None
    else:
        require_training_photos(photos)
        network = _int8(tf, classifier, photos)
        calibration = hash_of([photo.sha256 for photo in photos])
    progress(task, 1, _STEPS)
    content = described(network, classifier.spec, precision)
    model = write_tflite(content, classifier.spec, precision, out, calibration)
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
    """Convert the network to INT8 from the photo to the features."""
    spec = classifier.spec
    answer, keep = _of_saved_model(tf, classifier) if spec.original is not None else _of_keras_model(tf, classifier)

    def representative() -> Iterator[list[np.ndarray]]:
        for batch in photo_batches(photos, spec.preprocess, 1):
            yield [batch.astype(np.float32)]

    converter = _converter(tf, answer, tf.float32, spec, keep)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    # This is TensorFlow's only way to name operators that stay in FP32.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=HEAD)
    with _converting():
        quantised: bytes = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=representative, debug_options=options
        ).get_nondebug_quantized_model()
    return quantised


def _of_keras_model(tf: Any, classifier: Classifier) -> tuple[Callable[[Any], dict[str, object]], Any]:
    """Return the function from float pixels of 0..255 to the scores, and what holds its variables."""
    model, scaling = _keras_model(tf, classifier)
    # An explicit name: it is written to the file, and Keras's default name depends on the models created before.
    rest = tf.keras.Model(scaling.output, model.output, name="network")
    # As a 1 x 1 convolution, the scaling of pixels is exact in INT8: a weight per channel and a 32-bit bias.
    weights = np.broadcast_to(np.asarray(scaling.scale, np.float32), 3).reshape(1, 1, 3, 1)
    bias = np.broadcast_to(np.asarray(scaling.offset, np.float32), 3)

    def answer(photos: Any) -> dict[str, object]:
        scaled = tf.nn.depthwise_conv2d(_pixels(tf, photos), weights, [1, 1, 1, 1], "VALID") + bias
        return {OUTPUT_NAME: rest(scaled, training=False)}

    keep = tf.Module()
    keep.variables_of_model = [variable.value for variable in model.variables]
    return answer, keep


def _of_saved_model(tf: Any, classifier: Classifier) -> tuple[Callable[[Any], dict[str, object]], Any]:
    """Return the same for an adopted classifier, which has no Keras network: its graph after the cast of photos."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    serve = serve_signature(classifier)
    frozen = convert_variables_to_constants_v2(serve, aggressive_inlining=True)
    definition = frozen.graph.as_graph_def()
    scores, photos = frozen.outputs[0].name, {frozen.inputs[0].name.partition(":")[0]}

    def readers(operator: str) -> set[str]:
        return {node.name for node in definition.node if node.op == operator and node.input[0].split(":")[0] in photos}

    while not readers("Identity") <= photos:
        photos |= readers("Identity")
    casts = sorted(readers("Cast"))
    if not casts:
        raise ConversionFailed(
            f"the graph of {classifier.folder} does not begin with the cast of photos to float",
            hint="give --precision fp32",
            code="TP3067",
        )

    def answer(pixels: Any) -> dict[str, object]:
        values = _pixels(tf, pixels)
        (result,) = tf.graph_util.import_graph_def(
            definition, input_map={f"{name}:0": values for name in casts}, return_elements=[scores], name="network"
        )
        return {OUTPUT_NAME: result}

    keep = tf.Module()
    keep.loaded = serve.keep_alive
    return answer, keep


def _pixels(tf: Any, photos: Any) -> Any:
    """Fix the scale of the input at 1, so that the integer value of a pixel is the pixel."""
    return tf.quantization.fake_quant_with_min_max_args(photos, 0.0, PIXELS)


def _keras_model(tf: Any, classifier: Classifier) -> tuple[keras.Model, Any]:
    """Return the Keras network and its first layer, which scales photos. Raises BadArtefact, ConversionFailed."""
    path = classifier.folder / "classifier.keras"
    require_trusted(classifier.folder, classifier.foreign)
    try:
        model = tf.keras.models.load_model(str(path), compile=False)
    except Exception as error:
        raise BadArtefact(
            f"Keras can't load {path}: {first_line(error)}",
            hint=make_again(classifier.spec),
            code="TP3060",
        ) from error
    scaling = model.layers[1] if len(model.layers) > 1 else None
    if not isinstance(scaling, tf.keras.layers.Rescaling):
        raise ConversionFailed(
            f"{path} does not begin with a Rescaling layer, which INT8 needs to start from pixels",
            hint="train again with this version of trtpoets: trtpoets retrain PHOTOS --name NAME --force",
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
    """Convert the converter's exceptions to ConversionFailed, and suppress its warnings and output."""
    try:
        with warnings.catch_warnings(), native_stderr_to(os.devnull):
            warnings.simplefilter("ignore")
            yield
    except (BadInput, MissingDependency):  # from reading a photo
        raise
    except Exception as error:
        raise ConversionFailed(
            f"the network can't be converted to TFLite: {first_line(error)}",
            hint="choose another backbone (trtpoets models lists them)",
            code="TP3062",
        ) from error


def require_training_photos(photos: Sequence[Photo]) -> None:
    """Raise BadInput if there are no photos, or others than those of the training split that the dataset has."""
    if not photos:
        raise BadInput(
            "there are no photos for INT8 calibration",
            hint="use --precision fp32, which needs no photos",
            code="TP3063",
        )
    for photo in photos:
        if photo.split is not Split.TRAIN:
            raise BadInput(
                f"{photo.path} is in the {photo.split.value} split, but INT8 must be calibrated with training photos",
                hint="choose them with calibration_photos",
                code="TP3064",
            )
    refuse_changed_photos(photos)


def described(network: bytes, spec: ModelSpec, precision: Precision) -> bytes:
    """Return the network with a uint8 input, names for its input and output, and TFLite metadata."""
    parsed = TfliteGraph(network)
    schema, model, graph = parsed.schema, parsed.model, parsed.graph
    (input_index,), (output_index,) = graph.inputs, graph.outputs
    photos, scores = graph.tensors[input_index], graph.tensors[output_index]
    if photos.type == schema.TensorType.FLOAT32:
        _set_uint8_input(schema, model, graph, input_index)
    expected = (schema.TensorType.UINT8, [1, spec.preprocess.height, spec.preprocess.width, 3])
    if (photos.type, list(photos.shape)) != expected or scores.type != schema.TensorType.FLOAT32:
        raise ConversionFailed(
            f"the converter wrote an input of shape {list(photos.shape)} and type {photos.type}, and scores of type "
            f"{scores.type}",
            code="TP3065",
        )
    photos.name, scores.name = INPUT_NAME, OUTPUT_NAME
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata_of_spec(spec, precision), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return parsed.content


def _set_uint8_input(schema: Any, model: Any, graph: Any, input_index: int) -> None:
    """Change the input of an INT8 network to uint8. Its first operator then only maps 0..255 to -128..127.

    Raises ConversionFailed if that operator has another scale than 1, because pixels would be changed.
    """
    (first,) = (operator for operator in graph.operators if input_index in operator.inputs)
    code = model.operatorCodes[first.opcodeIndex]
    output = graph.tensors[first.outputs[0]]
    quantisation = output.quantization and (list(output.quantization.scale), list(output.quantization.zeroPoint))
    if code.builtinCode != schema.BuiltinOperator.QUANTIZE or quantisation != ([1.0], [-128]):
        raise ConversionFailed(
            "the converter must quantise photos with the scale 1 and the zero point -128, but the scale and zero point "
            f"are {quantisation}: the scores would be wrong",
            hint="use another version of TensorFlow; 2.21 is known to work",
            code="TP3066",
        )
    pixels = graph.tensors[input_index]
    pixels.type = schema.TensorType.UINT8
    pixels.quantization = schema.QuantizationParametersT()
    pixels.quantization.scale, pixels.quantization.zeroPoint = [1.0], [0]
