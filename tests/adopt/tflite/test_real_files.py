"""TFLite files as people have them, with photos: what is read of them, and their answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trtpoets.adopt.contract import RAW, Contract, Geometry, Pixels
from trtpoets.adopt.foreign import ForeignModel
from trtpoets.adopt.tflite import read_tflite_classifier
from trtpoets.core.images import photo_to_array
from trtpoets.core.original import Channels, scores_from_output, values_from_photos
from trtpoets.core.types import Resize
from trtpoets.device.original_tflite import TfliteNetwork

MODELS = next(
    (folder for parent in Path(__file__).parents if (folder := parent / "shared" / "models").is_dir()), Path("models")
)

pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason="the folder shared/models with real classifier files is absent"
)

STRETCH, CROP = Geometry(Resize.STRETCH), Geometry(Resize.CROP)

AZURE = Pixels((1.0,) * 3, (-124.0, -117.0, -104.0), Channels.BGR, "0..255 minus means")

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
RUBBISH = ("battery", "bottle", "can", "cigarette")
FRUIT = ("Apple", "Banana", "Coconut", "Orange", "Passionfruit", "Pineapple", "Strawberry")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def model(name: str) -> ForeignModel:
    return read_tflite_classifier(MODELS / name)


def photos_of(folder: str, labels: tuple[str, ...], contract: Contract, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos, uint8 (N, H, W, 3), and the numbers of their labels."""
    preprocess = contract.preprocess(size, size)
    paths = sorted((MODELS / folder / "photos").glob("*/*"))
    return (
        np.stack([photo_to_array(path, preprocess) for path in paths]),
        np.array([labels.index(path.parent.name) for path in paths]),
    )


CASES = {
    "automl": ("automl_vision_edge/model.tflite", FLOWERS, None, STRETCH, (54, 54)),
    "labeler": ("automl_vision_edge/automl_labeler_model.tflite", FLOWERS, None, STRETCH, (50, 50)),
    "edge-stretch": ("edge_impulse/trained.tflite", RUBBISH, None, STRETCH, (45, 48)),
    "edge-crop": ("edge_impulse/trained.tflite", RUBBISH, None, CROP, (45, 48)),
    "resnet-int8-stretch": ("mlperf_tiny_resnet8/pretrainedResnet_quant.tflite", CIFAR, None, STRETCH, (21, 23)),
    "resnet-int8-crop": ("mlperf_tiny_resnet8/pretrainedResnet_quant.tflite", CIFAR, None, CROP, (21, 23)),
    "resnet-stretch": ("mlperf_tiny_resnet8/pretrainedResnet.tflite", CIFAR, RAW, STRETCH, (22, 23)),
    "resnet-crop": ("mlperf_tiny_resnet8/pretrainedResnet.tflite", CIFAR, RAW, CROP, (22, 23)),
    "azure": ("azure_custom_vision/sample-tflite.cvmodel/model.tflite", FRUIT, AZURE, STRETCH, (12, 13)),
}


def case(name: str) -> tuple[ForeignModel, np.ndarray, np.ndarray, tuple[int, int]]:
    """The model of a case, the values that it takes for its photos, their labels, and how many should be right."""
    path, labels, pixels, geometry, expected = CASES[name]
    facts = model(path)
    if pixels is None:
        assert facts.fixed is not None
        pixels = facts.fixed.pixels
    contract = Contract(pixels, geometry)
    photos, truth = photos_of(path.partition("/")[0], labels, contract, facts.height)
    values = values_from_photos(photos, contract.preprocess(facts.height, facts.width), pixels.channels)
    return facts, values, truth, expected


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_right_answers(name: str) -> None:
    facts, values, truth, (least, most) = case(name)
    with TfliteNetwork(facts.path, facts.input, facts.output) as network:
        scores = scores_from_output(network.infer(values), facts.output)
    right = int((scores.argmax(axis=1) == truth).sum())
    assert least <= right <= most
