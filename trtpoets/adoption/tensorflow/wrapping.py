"""Writes a classifier of another program as a SavedModel that takes photos and returns scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.tensorflow.execution import imported
from trtpoets.adoption.tensorflow.meaning import ends_in_softmax
from trtpoets.adoption.tensorflow.reader import LoadedTensorFlow
from trtpoets.core.errors import BadInput
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import LUMA, Answers, Channels, Layout, Original, classes_of
from trtpoets.core.storage import error_in_text
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Classifier, ModelSpec


@keras_defaults()
def classifier_from_tensorflow(loaded: LoadedTensorFlow, spec: ModelSpec, folder: Path) -> Classifier:
    """Write `folder`/saved_model: `photos` uint8 (N, H, W, 3) -> `scores` float32 (N, C), rows summing to 1.

    It computes the values of `spec.preprocess` and `spec.original.channels`, then the network, then scores, as the
    functions of core/original.py do. Its signatures are `serve` and `serving_default`. Raises BadInput if the spec does
    not fit the network, StorageFailed.
    """
    tf = tensorflow()
    original = _fitting(loaded, spec)
    preprocess = spec.preprocess
    photos = tf.TensorSpec((None, preprocess.height, preprocess.width, 3), tf.uint8, name=INPUT_NAME)

    def serve(photos: Any) -> dict[str, Any]:
        values = _values(tf, photos, spec, original)
        output = imported(loaded.graph, _stored(tf, values, original))
        scores = _scores(tf, output, original, ends_in_softmax(loaded.graph))
        return {OUTPUT_NAME: tf.ensure_shape(scores, (None, len(spec.labels)))}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[photos], autograph=False)
    signatures = {"serve": module.serve, "serving_default": module.serve}
    try:
        tf.saved_model.save(module, str(folder / "saved_model"), signatures=signatures)
    except tf.errors.OpError as error:
        failure = error_in_text(str(error))
        if failure is None:
            raise
        raise failure from error
    return Classifier(folder, spec)


def _fitting(loaded: LoadedTensorFlow, spec: ModelSpec) -> Original:
    """Return the description of the original. Raises BadInput if size, channels or labels are not the network's."""
    model, original = loaded.model, spec.original
    if original is None:
        raise BadInput(f"the spec of {spec.name} does not describe an original file", code="TP9140")
    wanted = (spec.preprocess.height, spec.preprocess.width, original.channels.number)
    actual = (model.height or wanted[0], model.width or wanted[1], model.channels)
    if wanted != actual:
        raise BadInput(
            f"{model.path} takes {actual[0]} x {actual[1]} pixels of {actual[2]} channels, not {wanted[0]} x "
            f"{wanted[1]} of {wanted[2]}",
            hint="leave out the option that says otherwise",
            code="TP9141",
        )
    if len(spec.labels) != classes_of(model.output):
        raise BadInput(
            f"{model.path} has {classes_of(model.output)} classes, but there are {len(spec.labels)} labels",
            hint="give the labels of this network with --labels FILE",
            code="TP9142",
        )
    return original


def _values(tf: Any, photos: Any, spec: ModelSpec, original: Original) -> Any:
    """Compute what `values_from_photos` does."""
    pixels = tf.cast(photos, tf.float32)
    channels = original.channels
    if channels.number == 1:
        pixels = tf.reduce_sum(pixels * tf.constant(LUMA, tf.float32), axis=-1, keepdims=True)
        if channels is Channels.INVERTED_GRAY:
            pixels = 255.0 - pixels
    scale = np.asarray(spec.preprocess.scale[: channels.number], np.float32)
    offset = np.asarray(spec.preprocess.offset[: channels.number], np.float32)
    if (scale != 1).any():
        pixels = pixels * scale
    if offset.any():
        pixels = pixels + offset
    return tf.gather(pixels, [2, 1, 0], axis=-1) if channels is Channels.BGR else pixels


def _stored(tf: Any, values: Any, original: Original) -> Any:
    """Compute what `stored_values` does."""
    if original.input.layout is Layout.NCHW:
        values = tf.transpose(values, (0, 3, 1, 2))
    dtype = tf.dtypes.as_dtype(original.input.dtype)
    if dtype.is_integer:
        values = tf.round(values / original.input.scale) + original.input.zero_point
        values = tf.clip_by_value(values, float(dtype.min), float(dtype.max))
    return tf.cast(values, dtype)


def _scores(tf: Any, output: Any, original: Original, sums_to_one: bool) -> Any:
    """Compute what `scores_from_output` does. The softmax of log-probabilities divides by their sum, too."""
    facts = original.output
    if output.shape.rank != 2:
        output = tf.reshape(output, (-1, facts.size))
    values = tf.cast(output, tf.float32)
    if facts.answers in (Answers.LOGITS, Answers.LOG_PROBABILITIES):
        return tf.nn.softmax(values)
    if facts.answers is Answers.SIGMOID and facts.size == 1:
        return tf.concat([1 - values, values], axis=1)
    if sums_to_one:
        return values
    total = tf.reduce_sum(values, axis=1, keepdims=True)
    safe = tf.where(total > 0, total, tf.ones_like(total))
    return tf.where(total > 0, values / safe, tf.fill(tf.shape(values), np.float32(1 / facts.size)))
