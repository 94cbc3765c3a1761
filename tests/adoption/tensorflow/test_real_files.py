"""Real files in TensorFlow's formats, from public repositories: right answers, and the same scores in ONNX."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.adoption.tensorflow.networks import spec_of
from tests.support.shared_files import SHARED
from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Pixels
from trtpoets.adoption.tensorflow.network import TensorFlowNetwork
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.adoption.tensorflow.wrapping import classifier_from_tensorflow
from trtpoets.convert.onnx_export import onnx_from_classifier
from trtpoets.core.optional import onnxruntime
from trtpoets.core.original import Channels, scores_from_output, values_from_photos

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)

MODELS = SHARED / "models"
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FRUITS = ["Apple", "Banana", "Coconut", "Orange", "Passionfruit", "Pineapple", "Strawberry"]
CUSTOM_VISION = Pixels((1.0,) * 3, (-124.0, -117.0, -104.0), Channels.BGR, "BGR minus means")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the real files are not on this machine"),
]


@pytest.mark.parametrize(
    ("name", "pixels", "labels", "right"),
    [
        ("codelab_retrain/retrained_graph.pb", SIGNED, (), 0),
        ("azure_custom_vision/classifier.cvmodel/model.pb", CUSTOM_VISION, FRUITS, 12),
        ("mlperf_tiny_resnet8/pretrainedResnet.h5", RAW, CIFAR, 22),
        ("mlperf_tiny_vww/vww_96.h5", UNIT, (), 0),
    ],
)
def test_right_answers_and_the_same_scores_in_onnx(
    name: str, pixels: Pixels, labels: list[str], right: int, tmp_path: Path
) -> None:
    loaded = read_tensorflow(MODELS / name)
    folder = MODELS / name.split("/", maxsplit=1)[0] / "photos"
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = files or sorted((SHARED / "data" / "flowers5").rglob("*.jpg"))[::25]
    size = loaded.model.width, loaded.model.height
    photos = np.stack(
        [np.asarray(Image.open(file).convert("RGB").resize(size, Image.Resampling.BILINEAR)) for file in files]
    )
    spec = spec_of(loaded, pixels)
    with TensorFlowNetwork(loaded) as network:
        output = network.infer(values_from_photos(photos, spec.preprocess, pixels.channels))
    scores = scores_from_output(output, loaded.model.output)
    if labels:
        correct = [labels[best] == file.parent.name for best, file in zip(scores.argmax(axis=1), files, strict=True)]
        assert sum(correct) >= right
    classifier = classifier_from_tensorflow(loaded, spec, tmp_path / "classifier")
    path = onnx_from_classifier(classifier, tmp_path / "fp32.onnx").path
    session = onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"photos": photos})[0], scores, atol=1e-4)
