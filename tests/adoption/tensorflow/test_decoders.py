"""Decoders in many forms are replaced by pixels, and what they do to a photo is measured."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adoption.tensorflow.networks import SIDE, features, graph, photos, weights
from tests.adoption.tensorflow.reading import expected_scores, read
from tests.support.errors import raises
from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.decide import decide
from trtpoets.adoption.known import known_facts
from trtpoets.adoption.tensorflow.decoders import NOT_ANTIALIASED
from trtpoets.core.errors import BadArtefact
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Channels
from trtpoets.core.types import Resize

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

Decode = Callable[[Any, Any], Any]
"""A function of TensorFlow and a decoded photo that returns the photo that the network takes."""


def resized(tf: Any, photo: Any) -> Any:
    return tf.image.resize(photo, (SIDE, SIDE))


def cropped(tf: Any, photo: Any) -> Any:
    """The middle, a square of 0.875 of the shorter side."""
    height, width = tf.unstack(tf.shape(photo)[:2])
    side = tf.cast(tf.cast(tf.minimum(height, width), tf.float32) * 0.875, tf.int32)
    photo = tf.image.crop_to_bounding_box(photo, (height - side) // 2, (width - side) // 2, side, side)
    return resized(tf, photo)


def padded(tf: Any, photo: Any) -> Any:
    return tf.image.resize_with_pad(photo, SIDE, SIDE)


def definition_of(decode: Decode, in_base64: bool = False, loops_of_tensorflow_1: bool = False) -> Any:
    """A graph that decodes a batch of photos in a loop and returns three scores."""
    tf = tensorflow()

    def one(content: Any) -> Any:
        photo = tf.io.decode_image(
            tf.io.decode_base64(content) if in_base64 else content, channels=3, expand_animations=False
        )
        return tf.ensure_shape(decode(tf, photo), (SIDE, SIDE, 3))

    def build(v1: Any) -> None:
        contents = v1.placeholder("string", [None], name="image_bytes")
        values = v1.map_fn(one, contents, dtype=tf.float32)
        v1.nn.softmax(v1.matmul(v1.squeeze(features(v1, values / 100.0), [1, 2]), weights(6, 3)), name="scores")

    if not loops_of_tensorflow_1:
        return graph(build)
    tf.compat.v1.disable_control_flow_v2()
    try:
        return graph(build)
    finally:
        tf.compat.v1.enable_control_flow_v2()


def unit(tf: Any, photo: Any) -> Any:
    return resized(tf, tf.image.convert_image_dtype(photo, tf.float32))


def signed_bgr(tf: Any, photo: Any) -> Any:
    return (resized(tf, photo) / 127.5 - 1.0)[..., ::-1]


@pytest.mark.parametrize(
    ("decode", "pixels", "geometry", "more"),
    [
        (resized, RAW, Geometry(), {}),
        (unit, UNIT, Geometry(), {"loops_of_tensorflow_1": True}),
        (unit, UNIT, Geometry(), {"in_base64": True}),
        (signed_bgr, Pixels(SIGNED.scale, SIGNED.offset, Channels.BGR, "-1..1"), Geometry(), {}),
        (cropped, RAW, Geometry(Resize.CROP, 0.875), {}),
        (padded, RAW, Geometry(Resize.LETTERBOX), {}),
    ],
    ids=["raw", "loop of TensorFlow 1", "base64", "BGR", "crop", "letterbox"],
)
def test_what_the_decoder_does_is_measured(
    decode: Decode, pixels: Pixels, geometry: Geometry, more: dict[str, bool], tmp_path: Path
) -> None:
    tf = tensorflow()
    definition = definition_of(decode, **more)
    loaded = read(definition, tmp_path)
    model = loaded.model
    assert (model.height, model.width, model.channels) == (SIDE, SIDE, 3)
    assert model.fixed is not None and model.geometry is not None
    assert model.fixed.pixels.same_as(pixels)
    # Resizing moves the ramps by up to a pixel.
    assert model.geometry.geometry.resize is geometry.resize
    assert model.geometry.geometry.crop_fraction == pytest.approx(geometry.crop_fraction, abs=0.02)
    facts = known_facts(model)
    assert [fact.channels_known for fact in facts if fact.pixels] == [True]
    assert [fact.geometry for fact in facts if fact.geometry] == [model.geometry.geometry]
    if geometry.crop_fraction == 1:  # then photos of the size of the input are not resized
        contents = [tf.io.encode_png(photo).numpy() for photo in photos()]
        if more.get("in_base64"):
            contents = [tf.io.encode_base64(content).numpy() for content in contents]
        with tf.Graph().as_default() as whole:
            tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=whole) as session:
            own = session.run("scores:0", {"image_bytes:0": contents})
        np.testing.assert_allclose(expected_scores(loaded, pixels), own, atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_resize_without_antialiasing_is_reported(antialias: bool, tmp_path: Path) -> None:
    loaded = read(definition_of(lambda tf, photo: tf.image.resize(photo, (SIDE, SIDE), antialias=antialias)), tmp_path)
    geometry = loaded.model.geometry
    assert geometry is not None
    assert geometry.evidence.text.endswith(", without antialiasing") is not antialias
    assert geometry.warning == ("" if antialias else NOT_ANTIALIASED)
    decision = decide(loaded.model, known_facts(loaded.model), None)
    assert (NOT_ANTIALIASED in decision.warnings) is not antialias


def standardised(tf: Any, photo: Any) -> Any:
    return tf.image.per_image_standardization(resized(tf, photo))


def cropped_on_both_sides(tf: Any, photo: Any) -> Any:
    return resized(tf, tf.image.central_crop(photo, 0.5))


def corner(tf: Any, photo: Any) -> Any:
    return photo[:SIDE, :SIDE]


@pytest.mark.parametrize(
    ("decode", "code", "value"),
    [
        (standardised, "TP9148", "graph.pb"),
        (cropped_on_both_sides, "TP9149", "50% of the width and 50% of the height"),
        (corner, "TP9149", " 0% of the width and 0% of the height"),
    ],
)
def test_a_decoder_that_is_not_understood_is_named(decode: Decode, code: str, value: str, tmp_path: Path) -> None:
    with raises(BadArtefact, code, value) as caught:
        read(definition_of(lambda tf, photo: tf.cast(decode(tf, photo), tf.float32)), tmp_path)
    assert "input of pixels" in caught.value.hint


def test_photos_that_keep_their_size_are_refused_with_what_is_there(tmp_path: Path) -> None:
    def build(v1: Any) -> None:
        contents = v1.placeholder("string", [None], name="image_bytes")
        first = v1.image.decode_jpeg(contents[0], channels=3)
        mean = v1.reduce_mean(v1.cast(first, "float32"), [0, 1])[None]
        v1.nn.softmax(v1.matmul(mean, weights(3, 3)), name="scores")

    with raises(BadArtefact, "TP9105") as caught:
        read(graph(build), tmp_path)
    assert caught.value.code == "TP9105"


def test_text_without_a_decoder(tmp_path: Path) -> None:
    def build(v1: Any) -> None:
        text = v1.placeholder("string", [None], name="text")
        number = v1.string_to_number(text)[:, None]
        v1.nn.softmax(v1.matmul(number, weights(1, 3)), name="scores")

    with raises(BadArtefact, "TP9146") as caught:
        read(graph(build), tmp_path)
    assert caught.value.code == "TP9146"


def test_an_endless_loop_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.adoption.tensorflow.decoders._TIMEOUT_MS", 300)
    definition = definition_of(
        lambda tf, photo: resized(tf, photo) + tf.while_loop(lambda n: n > -1.0, lambda n: [n + 1.0], [0.0])[0]
    )
    with raises(BadArtefact, "TP9147") as caught:
        read(definition, tmp_path)
    assert caught.value.code == "TP9147"
