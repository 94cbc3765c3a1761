"""Real classifier files, adopted without options, as the recipes of docs/guides/adopt.md say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shared_files import SHARED
from trtpoets.core.original import Channels, Source
from trtpoets.core.types import Resize
from trtpoets.pipeline.adopt import Adoption, adopt

MODELS = SHARED / "models"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the real files are not part of the repository"),
]


def adopted(file: str, engines: Path, photos: bool = True) -> Adoption:
    path = MODELS / file
    folder = MODELS / Path(file).parts[0] / "photos" if photos else None
    return adopt(path, "real", photos=folder, engines=engines)


def right(adoption: Adoption) -> tuple[int, int]:
    """Right answers with the contract that was chosen, and the number of photos."""
    assert adoption.trial is not None and adoption.spec.original is not None
    preprocess, original = adoption.spec.preprocess, adoption.spec.original
    (row,) = [
        row
        for row in adoption.trial.rows
        if row.contract.pixels.scale == preprocess.scale
        and row.contract.pixels.offset == preprocess.offset
        and row.contract.pixels.channels is original.channels
        and row.contract.geometry.resize is preprocess.resize
        and row.contract.geometry.crop_fraction == preprocess.crop_fraction
    ]
    return row.count, row.photos


def test_automl_vision_edge(tmp_path: Path) -> None:
    adoption = adopted("automl_vision_edge/model.tflite", tmp_path)
    assert right(adoption) == (54, 55)
    assert adoption.spec.labels == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert adoption.compared.rounded is not None and adoption.compared.rounded.max_abs <= 1 / 256 + 1e-4


def test_edge_impulse(tmp_path: Path) -> None:
    adoption = adopted("edge_impulse/trained.tflite", tmp_path)
    count, photos = right(adoption)
    assert 45 <= count <= 47 and photos == 59


def test_mlperf_tiny_resnet8(tmp_path: Path) -> None:
    adoption = adopted("mlperf_tiny_resnet8/pretrainedResnet.h5", tmp_path)
    count, photos = right(adoption)
    assert 22 <= count <= 23 and photos == 28
    assert adoption.spec.preprocess.scale == (1.0, 1.0, 1.0) and adoption.spec.preprocess.offset == (0.0, 0.0, 0.0)
    assert adoption.spec.labels[:3] == ("airplane", "automobile", "bird")


@pytest.mark.parametrize("file", ["classifier.cvmodel/model.pb", "sample-tflite.cvmodel/model.tflite"])
def test_azure_custom_vision(tmp_path: Path, file: str) -> None:
    adoption = adopted(f"azure_custom_vision/{file}", tmp_path)
    assert adoption.spec.original is not None and adoption.spec.original.channels is Channels.BGR
    count, photos = right(adoption)
    assert 12 <= count <= 13 and photos == 15


@pytest.mark.parametrize("file", ["retrained_graph.pb", "retrained_graph.tflite"])
def test_tensorflow_for_poets(tmp_path: Path, file: str) -> None:
    adoption = adopted(f"codelab_retrain/{file}", tmp_path, photos=False)
    preprocess = adoption.spec.preprocess
    assert preprocess.scale == pytest.approx((1 / 127.5,) * 3) and preprocess.offset == (-1.0, -1.0, -1.0)
    assert preprocess.resize is Resize.STRETCH and len(adoption.spec.labels) == 5
    assert adoption.compared.parity.max_abs < 1e-4


def test_mlperf_tiny_visual_wake_words(tmp_path: Path) -> None:
    adoption = adopted("mlperf_tiny_vww/vww_96.h5", tmp_path, photos=False)
    assert adoption.spec.original is not None
    assert adoption.spec.preprocess.scale == pytest.approx((1 / 255,) * 3)
    assert Source.SIBLING in {fact.source for fact in adoption.spec.original.evidence}
