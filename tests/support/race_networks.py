"""Networks for races whose features are known: nothing is loaded, decoded or quantised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.clouds import clouds
from trtpoets.core.errors import ConversionFailed, MissingArtefact
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Photo, Split
from trtpoets.judge.race import RaceConfig
from trtpoets.pipeline import race as race_module
from trtpoets.pipeline import race_int8, race_rounds
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.train.backbones import Backbone
from trtpoets.train.dataset import Dataset, DatasetConfig
from trtpoets.train.photo_table import table_of

LABELS = ("ant", "bee", "cow")
FEATURES, TRUTH = clouds(400, 1)
FOUR = ("efficientnet_lite0", "mobilenet_v2", "mobilenet_0.25_128", "resnet50")
LATENCIES = {"efficientnet_lite0": 5.0, "mobilenet_v2": 4.0, "mobilenet_0.25_128": 1.0, "resnet50": 30.0}


def dataset() -> Dataset:
    """400 photos of three classes, a tenth of them test photos."""
    splits = (*[Split.TRAIN] * 7, Split.VALIDATION, Split.VALIDATION, Split.TEST)
    photos = tuple(
        Photo(Path(f"{number}.jpg"), LABELS[label], splits[number % 10], f"{number:064x}")
        for number, label in enumerate(TRUTH.tolist())
    )
    return Dataset(Path("photos"), LABELS, table_of(photos, Path("photos")), (), (), (), DatasetConfig())


def race_config(*candidates: str, **options: Any) -> RetrainConfig:
    """A race between FOUR, or the candidates that are given."""
    head = HeadConfig(steps=40, eval_interval=20, batch_size=32, learning_rate=0.01)
    return RetrainConfig(head=head, race=RaceConfig(candidates or FOUR, **options))


@dataclass
class GivenNetworks:
    """`noise` is the standard deviation that each network adds to FEATURES, `noise_int8` that in INT8.

    `share_int8` is the share of the multiply-adds of a network that run in INT8, by default all. Networks of
    `without_int8` cannot be quantised. `judged` are the photos of each network and round, `quantised` the networks that
    were quantised and their numbers of calibration photos, `calibrated` the sha256 of these photos, `workers` who
    computed the features. `families` are the near-copies.
    """

    noise: dict[str, float] = field(default_factory=lambda: {"mobilenet_0.25_128": 30.0})
    noise_int8: dict[str, float] = field(default_factory=dict)
    share_int8: dict[str, float] = field(default_factory=dict)
    without_int8: set[str] = field(default_factory=set)
    judged: list[tuple[str, list[Photo]]] = field(default_factory=list)
    quantised: list[tuple[str, int]] = field(default_factory=list)
    calibrated: set[str] = field(default_factory=set)
    workers: list[object] = field(default_factory=list)
    families: tuple[tuple[int, ...], ...] = ()

    def features(self, photos: Sequence[Photo], noise: float) -> np.ndarray:
        """Features of photos, float32 (N, D)."""
        rows = [int(photo.sha256, 16) for photo in photos]
        drawn = np.random.default_rng(0).normal(size=FEATURES.shape) * noise
        return np.asarray(FEATURES[rows] + drawn[rows], np.float32)


def given_networks(monkeypatch: pytest.MonkeyPatch) -> GivenNetworks:
    """Replace what races do with networks."""
    given = GivenNetworks()

    def base(backbone: Backbone, weights: Path | None, _: object) -> Any:
        if weights is not None:
            raise MissingArtefact(f"{weights} is damaged", hint="", code="TP9999")
        extractor = SimpleNamespace(key=backbone.name, preprocess=None)
        return SimpleNamespace(extractor=extractor, onnx=Path(backbone.name), weights_id=backbone.name)

    def bottlenecks(photos: Sequence[Photo], extractor: Any, *_: Any, workers: object = None, **__: Any) -> np.ndarray:
        given.workers.append(workers)
        given.judged.append((extractor.key, list(photos)))
        return given.features(photos, given.noise.get(extractor.key, 0.0))

    def int8(
        fp32: str, calibration: Any, validation: Any, photos: Sequence[Photo], *_: Any, **__: Any
    ) -> race_int8.Int8Features:
        if fp32 in given.without_int8:
            raise ConversionFailed(f"{fp32} has no layer for INT8", code="TP9999")
        assert all(photo.split is Split.TRAIN for photo in calibration)
        assert all(photo.split is Split.VALIDATION for photo in validation)
        given.quantised.append((fp32, len(calibration)))
        given.calibrated |= {photo.sha256 for photo in calibration}
        features = given.features(photos, given.noise_int8.get(fp32, given.noise.get(fp32, 0.0)))
        return race_int8.Int8Features(features, given.share_int8.get(fp32, 1.0), None)

    def latencies(files: Mapping[int, Path], *_: Any) -> dict[int, float]:
        return {number: LATENCIES[path.name] for number, path in files.items()}

    own = dataset()
    thumbnails = SimpleNamespace(of=lambda *_: None)
    monkeypatch.setattr(race_module, "read_dataset", lambda *_: own)
    for name, replacement in {
        "frozen_base": base,
        "int8_for_timing": lambda network, *_: network.base,
        "bottlenecks_from_photos": bottlenecks,
        "latencies_ms": latencies,
        "ThumbnailCache": lambda *_: thumbnails,
        "families_of": lambda *_: given.families,
        "int8_features": int8,
    }.items():
        monkeypatch.setattr(race_rounds, name, replacement)
    monkeypatch.setattr(race_int8.RaceNetwork, "classifier", lambda network, *_: network.backbone.name)
    return given
