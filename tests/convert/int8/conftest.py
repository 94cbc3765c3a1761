"""A small network with a residual connection, and photos to calibrate it with."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.photos import photo_folder
from tests.support.small_networks import photos_in, residual_network, saved
from trtpoets.core.images import photo_batches
from trtpoets.core.types import OnnxModel, Photo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return saved(residual_network(), tmp_path_factory.mktemp("model") / "fp32.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 4, "rose": 3}))


@pytest.fixture(scope="module")
def dozen_photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 6, "rose": 6}))


@pytest.fixture(scope="module")
def batch(model: OnnxModel, dozen_photos: list[Photo]) -> np.ndarray:
    paths = [photo.path for photo in dozen_photos]
    return next(photo_batches(paths, model.spec.preprocess, len(paths)))
