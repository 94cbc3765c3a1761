"""Writes a backbone with a head as a classifier: Keras file, SavedModel, model.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.classifier_hints import make_again
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import atomic_folder
from trtpoets.core.keras_settings import keras_defaults
from trtpoets.core.model_json import MODEL_JSON, write_model_json
from trtpoets.core.optional import tensorflow
from trtpoets.core.reading import read_errors, read_text
from trtpoets.core.storage import error_in_text
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Classifier, ModelSpec
from trtpoets.train.networks import Network
from trtpoets.train.weights import imagenet_labels

if TYPE_CHECKING:
    import keras

KERAS_FILE = "classifier.keras"

_VARIABLES = "variables_of_model"
"""The attribute of the SavedModel with the variables of the network in its order."""

_TRAIN = "train first: trtpoets run PHOTOS --name NAME, or trtpoets pretrained BACKBONE --name NAME"


@keras_defaults()
def classifier_from_head(
    network: Network, head_weights: np.ndarray, head_bias: np.ndarray, spec: ModelSpec, folder: Path
) -> Classifier:
    """Add a softmax head with weights (D, C) and bias (C,) to the backbone, and write the classifier to `folder`.

    The folder is written atomically. Raises BadInput if the head, the labels or the spec belong to another network.
    """
    _require_same_network(network, spec)
    width, classes = network.backbone.feature_width, len(spec.labels)
    if head_weights.shape != (width, classes) or head_bias.shape != (classes,):
        raise BadInput(
            f"the head of {network.backbone.name} with {classes} labels must have the shapes ({width}, {classes}) and "
            f"({classes},), not {head_weights.shape} and {head_bias.shape}",
            hint="train the head again",
            code="TP2005",
        )
    if not (np.isfinite(head_weights).all() and np.isfinite(head_bias).all()):
        raise BadInput(
            "the head contains values that are not finite", hint="use a smaller --learning-rate", code="TP2006"
        )
    model = _with_head(network, head_weights, head_bias)
    with atomic_folder(folder) as part:
        model.save(part / KERAS_FILE)
        _save_serving(model, spec, part / "saved_model")
        write_model_json(spec, part)
    return Classifier(folder, spec)


def imagenet_classifier(network: Network, spec_name: str, folder: Path) -> Classifier:
    """Write the published 1,000-class network in the same form as a trained one.

    Raises BadInput if the weights do not include the 1,000-class layer.
    """
    if network.imagenet_head is None:
        raise BadInput(
            f"these weights of {network.backbone.name} do not include the 1,000-class layer",
            hint="use weights saved with it (include_top=True), or train: trtpoets run PHOTOS --name NAME",
            code="TP2007",
        )
    spec = ModelSpec(
        name=spec_name,
        backbone=network.backbone.name,
        preprocess=network.backbone.published_preprocess,
        labels=imagenet_labels(),
        weights_id=network.weights_id,
    )
    return classifier_from_head(network, *network.imagenet_head, spec, folder)


def head_of_classifier(classifier: Classifier) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the weights (D, C) and bias (C,) of the head, which are read from the variables of the SavedModel.

    The graph of the SavedModel is not loaded. None if its variables are not those of a trained classifier.
    """
    tf = tensorflow()
    try:
        reader = tf.train.load_checkpoint(str(classifier.saved_model / "variables" / "variables"))
    except (tf.errors.OpError, ValueError):
        return None
    shapes = reader.get_variable_to_shape_map()
    last = sum(name.startswith(f"{_VARIABLES}/") for name in shapes) - 1
    names = [f"{_VARIABLES}/{number}/.ATTRIBUTES/VARIABLE_VALUE" for number in (last - 1, last)]
    classes = len(classifier.spec.labels)
    if [shapes.get(name, [0])[-1] for name in names] != [classes, classes]:
        return None
    weights, bias = (np.asarray(reader.get_tensor(name)) for name in names)
    return (weights, bias) if (weights.ndim, bias.ndim) == (2, 1) else None


def load_classifier(folder: Path) -> Classifier:
    """Read a classifier written by `classifier_from_head` or adopted, without TensorFlow.

    Raises MissingArtefact, BadArtefact.
    """
    path = folder / MODEL_JSON
    trained = () if (folder / "original").is_dir() else (KERAS_FILE, "saved_model/saved_model.pb")
    for name in (MODEL_JSON, *trained):
        _require_file(folder / name)
    with read_errors(BadArtefact, path, hint="check its permissions", code="TP2009"):
        text = read_text(path, errors="surrogateescape")
    classifier = Classifier(folder, ModelSpec.from_json(text, str(path)))
    original = classifier.spec.original
    if original is None:
        return classifier
    if classifier.original is None or not classifier.original.exists():
        _require_file(folder / "original" / original.file, make_again(classifier.spec))
    if original.format.is_tensorflow:
        _require_file(classifier.saved_model / "saved_model.pb", make_again(classifier.spec))
    return classifier


def _require_file(path: Path, hint: str = _TRAIN) -> None:
    """Raise MissingArtefact, with `hint`, unless `path` is a file."""
    if not path.is_file():
        raise MissingArtefact(f"{path} does not exist", hint=hint, code="TP2008")


def _require_same_network(network: Network, spec: ModelSpec) -> None:
    """Raise BadInput unless the spec has the name, the weights and the scaling of the network."""
    actual = network.backbone.preprocess
    declared = spec.preprocess
    same_numbers = (declared.height, declared.width, declared.scale, declared.offset) == (
        actual.height,
        actual.width,
        actual.scale,
        actual.offset,
    )
    if spec.backbone != network.backbone.name or spec.weights_id != network.weights_id or not same_numbers:
        raise BadInput(
            f"the spec of {spec.name} describes {spec.backbone} at {declared.height} x {declared.width} with the "
            f"weights {spec.weights_id[:40]}, but the network is {network.backbone.name} at {actual.height} x "
            f"{actual.width} with the weights {network.weights_id[:40]}",
            hint="train again, with the same --backbone and --weights for all steps",
            code="TP2010",
        )


def _with_head(network: Network, weights: np.ndarray, bias: np.ndarray) -> keras.Model:
    """Return a Keras model of the backbone and a softmax head."""
    keras = tensorflow().keras
    head = keras.layers.Dense(bias.size, activation="softmax", kernel_initializer="zeros", name=OUTPUT_NAME)
    model = keras.Model(network.model.input, head(network.model.output), name="classifier")
    head.set_weights([weights.astype(np.float32), bias.astype(np.float32)])
    model.trainable = False
    return model


def _save_serving(model: keras.Model, spec: ModelSpec, folder: Path) -> None:
    """Write a SavedModel whose signature `serve` (also the default) maps `photos` to `scores`."""
    tf = tensorflow()
    photos = tf.TensorSpec((None, spec.preprocess.height, spec.preprocess.width, 3), tf.uint8, name=INPUT_NAME)

    def serve(photos: Any) -> dict[str, object]:
        return {OUTPUT_NAME: model(photos, training=False)}

    module = tf.Module()
    setattr(module, _VARIABLES, model.variables)  # the last two are those of the head
    module.serve = tf.function(serve, input_signature=[photos])
    try:
        tf.saved_model.save(module, str(folder), signatures={"serve": module.serve, "serving_default": module.serve})
    except tf.errors.OpError as error:
        failure = error_in_text(str(error))
        if failure is None:
            raise
        raise failure from error
