"""TFLite files as people have them, with photos: what is read of them, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from tests.support.shared_files import SHARED
from trtpoets.adoption.contract import RAW, UNIT, Contract, Geometry, Pixels
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.tflite import network_from_tflite, read_tflite_classifier, sibling_pixels
from trtpoets.adoption.tflite.to_onnx import session_of
from trtpoets.core.images import photo_to_array
from trtpoets.core.original import Channels, values_from_photos
from trtpoets.core.types import Resize
from trtpoets.device.original_tflite import TfliteNetwork

MODELS = SHARED / "models"

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


@dataclass(frozen=True)
class Answered:
    """The labels of the photos, and the real values that the interpreter and the two ONNX networks answer."""

    truth: np.ndarray
    original: np.ndarray
    rounded: np.ndarray
    smooth: np.ndarray
    expected: tuple[int, int]
    step: float

    def right(self, answers: np.ndarray) -> int:
        """The number of photos whose highest answer is right."""
        return int((answers.argmax(axis=1) == self.truth).sum())


@cache
def answered(name: str) -> Answered:
    facts, values, truth, expected = case(name)
    with TfliteNetwork(facts.path, facts.input, facts.output) as network:
        stored = network.infer(values)
    original = (stored.astype(np.float32) - facts.output.zero_point) * np.float32(facts.output.scale)
    rounded, smooth = network_from_tflite(facts.path)
    step = facts.output.scale if facts.output.dtype != "float32" else 0.0
    return Answered(truth, original, session_of(rounded)(values), session_of(smooth)(values), expected, step)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_right_answers(name: str) -> None:
    answers = answered(name)
    least, most = answers.expected
    assert least <= answers.right(answers.original) <= most
    assert answers.right(answers.rounded) == answers.right(answers.original)
    assert least - 2 <= answers.right(answers.smooth) <= most + 2


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_rounded_network_returns_the_integers_of_the_interpreter(name: str) -> None:
    answers = answered(name)
    np.testing.assert_allclose(answers.rounded, answers.original, atol=answers.step / 100 if answers.step else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_smooth_network_differs_by_rounding_alone(name: str) -> None:
    answers = answered(name)
    difference = abs(answers.smooth - answers.original)
    if answers.step == 0:
        assert difference.max() < 1e-5
        return
    # Two sets of kernels of the interpreter differ by as much: up to 59 steps of 1/256, 3.4 on average.
    assert difference.mean() < 5 * answers.step
    agreement = (answers.smooth.argmax(axis=1) == answers.original.argmax(axis=1)).mean()
    assert agreement >= 0.88


@pytest.mark.parametrize(
    ("name", "pixels", "sibling"),
    [
        ("mlperf_tiny_resnet8/pretrainedResnet.tflite", RAW, "pretrainedResnet_quant.tflite"),
        ("mlperf_tiny_vww/vww_96_float.tflite", UNIT, "vww_96_int8.tflite"),
        ("azure_custom_vision/sample-tflite.cvmodel/model.tflite", None, ""),
        ("codelab_retrain/retrained_graph.tflite", None, ""),
    ],
)
def test_pixels_of_float_files(name: str, pixels: Pixels | None, sibling: str) -> None:
    facts = model(name)
    assert facts.fixed is None
    fixed = sibling_pixels(facts)
    assert (fixed and fixed.pixels) == pixels
    assert fixed is None or sibling in fixed.evidence.text


def test_what_the_labeler_says_of_itself() -> None:
    clues = model("automl_vision_edge/automl_labeler_model.tflite").clues
    assert clues.writer == "TOCO Converted."
    assert clues.files["labels.txt"].split() == list(FLOWERS)
    assert clues.metadata["name"] == "AutoML image classifier"
    assert (clues.metadata["input.mean"], clues.metadata["input.std"]) == ("0", "1")
