"""A tiny network and photos for tests of fine-tuning: 16 x 16 pixels, two convolutions with batch norms."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.photos import photo_folder
from trtpoets.core.fine_tuning import DepthTrial, FineTuneConfig, FineTuning, PairedResult
from trtpoets.core.optional import tensorflow
from trtpoets.core.types import Photo, Preprocess, Split
from trtpoets.train.backbones import backbone_named
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.finetune import LabelledPhotos
from trtpoets.train.finetune_loop import FineTuningLoop
from trtpoets.train.head import Head
from trtpoets.train.networks import Network, with_scaling

WIDTH = 8


def tiny_network(norms: bool = True) -> Network:
    """A network of two convolutions and global pooling, with weights that are the same in each call."""
    keras = tensorflow().keras
    layers = keras.layers
    photos = keras.Input((16, 16, 3), name="scaled")
    x = layers.Conv2D(4, 3, strides=2, use_bias=not norms, name="first")(photos)
    x = layers.BatchNormalization(name="first_norm")(x) if norms else x
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, use_bias=not norms, name="second")(x)
    x = layers.BatchNormalization(name="second_norm")(x) if norms else x
    x = layers.Conv2D(WIDTH, 1, name="third")(layers.ReLU()(x))
    base = keras.Model(photos, layers.GlobalAveragePooling2D(name="features")(x))
    random = np.random.default_rng(0)
    for layer in base.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(random.normal(0, 0.5, layer.kernel.shape).astype(np.float32))
    preprocess = Preprocess(16, 16, (1 / 127.5,) * 3, (-1.0,) * 3)
    backbone = replace(backbone_named("mobilenet_v2"), name="tiny", preprocess=preprocess, feature_width=WIDTH)
    return Network(backbone, with_scaling(backbone, base), "0" * 64, None)


def zero_head(classes: int = 2) -> Head:
    return Head(np.zeros((WIDTH, classes), np.float32), np.zeros(classes, np.float32))


def labelled_photos(folder: Path, count: int = 30) -> LabelledPhotos:
    """Photos of two classes that differ in colour; a quarter are validation photos."""
    photos = dataset_from_folder(photo_folder(folder, {"roses": count, "tulips": count}), DatasetConfig(25, 20)).photos

    def of(split: Split) -> tuple[list[Photo], np.ndarray]:
        own = [photo for photo in photos if photo.split is split]
        return own, np.array([photo.label == "tulips" for photo in own], np.int32)

    return LabelledPhotos(*of(Split.TRAIN), *of(Split.VALIDATION))


def diverge(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Return scores for the validation photos that are not finite after `after` evaluations."""
    original, calls = FineTuningLoop.logits, itertools.count()

    def logits(loop: FineTuningLoop, photos: np.ndarray) -> np.ndarray:
        return original(loop, photos) * (np.nan if next(calls) >= after else 1)

    monkeypatch.setattr(FineTuningLoop, "logits", logits)


def fine_tuning_details(kept: bool = True) -> FineTuning:
    """What training.json has of a fine-tuning of 10 of 52 layers."""
    result = PairedResult(100, 98, 0.8, 0.9 if kept else 0.81, 0.02, 0.18, 0.01 if kept else 0.9)
    why = f"the {'fine-tuned' if kept else 'frozen'} network is shipped"
    curve = (0.8, 0.85, 0.9)
    trials = (DepthTrial(10, 0.4, 5.0), DepthTrial(26, 0.5, 6.0))
    return FineTuning(
        FineTuneConfig(),
        10,
        52,
        kept,
        why,
        20,
        61.0,
        9.5,
        (0, 10, 20),
        curve,
        curve,
        curve,
        curve,
        result,
        result,
        trials,
    )
