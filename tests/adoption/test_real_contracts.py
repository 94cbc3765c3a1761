"""The contracts of real files: what is found without photos, and what photos confirm or refuse."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.foreign import bgr
from tests.support.shared_files import SHARED
from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.contract_options import contract_options
from trtpoets.adoption.facts import nearly_same
from trtpoets.adoption.label_match import match_folders
from trtpoets.adoption.labels import labels_for
from trtpoets.adoption.loaded import LoadedModel, load_foreign
from trtpoets.adoption.producer_table import AZURE_MEANS
from trtpoets.adoption.producers import producer_name
from trtpoets.adoption.search import facts_about, find_contract
from trtpoets.adoption.trial import Trial
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Source
from trtpoets.core.types import Photo, Resize, Split

MODELS = SHARED / "models"

pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason="the folder shared/models with real classifier files is absent"
)

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CASES: dict[str, tuple[str, Pixels, Geometry, str]] = {
    "codelab_retrain/retrained_graph.tflite": (
        "retrain.py of TensorFlow for Poets",
        SIGNED,
        Geometry(),
        "indiana newyork oklahoma pennsylvania wyoming",
    ),
    "azure_custom_vision/sample-tflite.cvmodel/model.tflite": (
        "Azure Custom Vision",
        AZURE_MEANS,
        Geometry(Resize.CROP, 227 / 256),
        "Apple Banana Coconut Orange Passionfruit Pineapple Strawberry",
    ),
    "edge_impulse/trained.tflite": ("Edge Impulse", UNIT, Geometry(Resize.CROP), "battery bottle can cigarette"),
    "automl_vision_edge/model.tflite": (
        "AutoML Vision Edge",
        SIGNED,
        Geometry(),
        "daisy dandelion roses sunflowers tulips",
    ),
    "automl_vision_edge/automl_labeler_model.tflite": (
        "AutoML Vision Edge",
        SIGNED,
        Geometry(),
        "daisy dandelion roses sunflowers tulips",
    ),
    "mlperf_tiny_resnet8/pretrainedResnet.tflite": ("MLPerf Tiny", RAW, Geometry(), ""),
    "mlperf_tiny_resnet8/pretrainedResnet_quant.tflite": ("MLPerf Tiny", RAW, Geometry(), ""),
    "mlperf_tiny_vww/vww_96_float.tflite": ("MLPerf Tiny", UNIT, Geometry(), ""),
    "mlperf_tiny_vww/vww_96_int8.tflite": ("MLPerf Tiny", UNIT, Geometry(), ""),
}


@cache
def loaded_model(name: str) -> LoadedModel:
    return load_foreign(MODELS / name)


@pytest.mark.parametrize("name", CASES)
def test_without_photos(name: str) -> None:
    producer, pixels, geometry, labels = CASES[name]
    loaded = loaded_model(name)
    model = loaded.model
    assert producer_name(model) == producer
    result = find_contract(loaded, facts_about(loaded), (model.height, model.width), (), (), contract_options())
    assert nearly_same(result.decision.contract.pixels, pixels)
    assert result.decision.contract.geometry == geometry
    names, evidence = labels_for(model)
    assert (evidence.source is Source.ASSUMED) == (not labels)
    assert " ".join(names) == labels or not labels


def photos_of(folder: str, labels: tuple[str, ...]) -> tuple[Photo, ...]:
    paths = sorted((MODELS / folder / "photos").glob("*/*"))
    matched = match_folders(sorted({path.parent.name for path in paths}), labels)
    assert not matched.unmatched
    return tuple(
        Photo(path, matched[path.parent.name], Split.TEST, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    )


def search(name: str, labels: tuple[str, ...], **options: str) -> tuple[LoadedModel, Trial, Pixels, tuple[str, ...]]:
    loaded = loaded_model(name)
    model = loaded.model
    photos = photos_of(name.split("/", maxsplit=1)[0], labels)
    size = (model.height, model.width)
    result = find_contract(loaded, facts_about(loaded), size, photos, labels, contract_options(**options))  # type: ignore[arg-type]
    assert result.trial is not None
    return loaded, result.trial, result.decision.contract.pixels, result.decision.warnings


@pytest.mark.parametrize("name", ["pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"])
def test_resnet8_takes_raw_pixels(name: str) -> None:
    _, trial, pixels, warnings = search(f"mlperf_tiny_resnet8/{name}", CIFAR)
    assert nearly_same(pixels, RAW)
    counts = {row.contract.pixels.text: row.count for row in reversed(trial.rows)}
    assert 22 <= counts["0..255, RGB"] <= 24
    assert counts.get("0..1, RGB", 0) == 0
    assert len(warnings) == 1  # about the geometry


def test_resnet8_with_the_wrong_option() -> None:
    """Options are followed, and the photos show that they are wrong."""
    name = "mlperf_tiny_resnet8/pretrainedResnet.tflite"
    pixels, warnings = search(name, CIFAR, preprocess="0-1")[2:]
    assert nearly_same(pixels, UNIT)
    assert any("significantly fewer" in warning for warning in warnings)


def test_resnet8_without_its_sibling_and_name(tmp_path: Path) -> None:
    """Nothing is known about the file, and 28 photos do not decide: raw pixels come first in the list."""
    file = tmp_path / "net.tflite"
    file.write_bytes((MODELS / "mlperf_tiny_resnet8" / "pretrainedResnet.tflite").read_bytes())
    loaded = load_foreign(file)
    assert not facts_about(loaded)
    photos = photos_of("mlperf_tiny_resnet8", CIFAR)
    with raises(BadInput, "TP9435", "distinguish 0..255, RGB from") as caught:
        find_contract(loaded, (), (32, 32), photos, CIFAR, contract_options())
    _, best, *candidates = caught.value.details
    assert best.split() == ["0..255,", "RGB", "23", "of", "28", "--preprocess", "raw"]
    assert not any("--preprocess 0-1" in line for line in candidates)


def test_edge_impulse() -> None:
    labels = ("battery", "bottle", "can", "cigarette")
    _, trial, pixels, warnings = search("edge_impulse/trained.tflite", labels)
    assert nearly_same(pixels, UNIT)
    assert 45 <= trial.best.count <= 48
    assert "do not distinguish crop" in warnings[0]


@pytest.mark.slow
def test_azure() -> None:
    name = "azure_custom_vision/sample-tflite.cvmodel/model.tflite"
    labels = tuple(CASES[name][3].split())
    loaded, trial, pixels, _ = search(name, labels)
    assert nearly_same(pixels, AZURE_MEANS)
    counts = {row.contract.pixels.text: row.count for row in reversed(trial.rows)}
    assert 12 <= counts[AZURE_MEANS.text] <= 14
    assert counts["0..1, RGB"] == 3
    assert counts["0..255, RGB"] < counts[bgr(RAW).text]
    with raises(BadInput, "TP9435", "distinguish"):
        size = (loaded.model.height, loaded.model.width)
        find_contract(loaded, (), size, photos_of("azure_custom_vision", labels), labels, contract_options())


@pytest.mark.slow
def test_automl() -> None:
    name = "automl_vision_edge/model.tflite"
    _, trial, pixels, _ = search(name, tuple(CASES[name][3].split()))
    assert nearly_same(pixels, SIGNED)
    assert next(row.count for row in trial.rows if row.contract.geometry == Geometry()) == 54
