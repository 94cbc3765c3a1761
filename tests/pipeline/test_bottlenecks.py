"""`bottlenecks`: shards on many machines give the same classifier as one process."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SMALL
from tests.support.errors import raises
from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.progress import Progress
from trtpoets.core.training import HeadConfig
from trtpoets.pipeline import bottlenecks as command
from trtpoets.pipeline.bottlenecks import bottlenecks, check_shards
from trtpoets.pipeline.cache import bottleneck_folder, prune_cache
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.pipeline.head_training import head_from_features
from trtpoets.pipeline.retrain import RetrainConfig, backbone_of, dataset_with_features, photos_and_backbone, retrain
from trtpoets.pipeline.shards import Shard, ShardState, records
from trtpoets.train.bottlenecks import Extractor, feature_caches_in
from trtpoets.train.networks import network_from_backbone


@pytest.fixture(scope="module")
def extractors() -> dict[int, Extractor]:
    """The extractors of the smallest backbone, by the value that counts as white; each is made once."""
    return {}


@pytest.fixture
def config(small_weights: Path, extractors: dict[int, Extractor], monkeypatch: pytest.MonkeyPatch) -> RetrainConfig:
    """The smallest backbone."""

    def once(config: RetrainConfig, white: int) -> Extractor:
        if white not in extractors:
            backbone = backbone_of(config)
            backbone = replace(backbone, preprocess=replace(backbone.preprocess, white=white))
            extractors[white] = extractor_from_network(network_from_backbone(backbone, config.weights), Device.CPU)
        return extractors[white]

    monkeypatch.setattr(command, "_extractor", once)
    return RetrainConfig(SMALL, small_weights, head=HeadConfig(steps=100))


@pytest.fixture
def photos(small_photos: Path, tmp_path: Path) -> Path:
    """Photos whose last change is long ago, as far as the readings can tell."""
    return Path(shutil.copytree(small_photos, tmp_path / "photos"))


@pytest.fixture
def old_photos(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("trtpoets.train.folders.readings._SETTLED_NS", 0)
    return photos


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty cache that knows the exported network already."""
    shutil.copytree(Path(os.environ["TRTPOETS_CACHE"]) / "extractors", folder / "extractors", dirs_exist_ok=True)
    monkeypatch.setenv("TRTPOETS_CACHE", str(folder))


def trained(photos: Path, config: RetrainConfig) -> tuple[bytes, list[str]]:
    """The bytes of the features and of the head that is trained on them, and the tasks that computed something."""
    tasks: list[str] = []
    dataset, _, _ = photos_and_backbone(photos, config)
    dataset, features = dataset_with_features(
        dataset, command._extractor(config, dataset.white), lambda task, *_: tasks.append(task)
    )
    head, _ = head_from_features(dataset, features, config.head)
    return b"".join(array.tobytes() for array in (features, head.weights, head.bias)), tasks


def test_8_shards_give_the_same_bytes_as_one(
    photos: Path, config: RetrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bottlenecks(photos, config)  # exports the network
    use_cache(tmp_path / "one", monkeypatch)
    assert bottlenecks(photos, config).computed == 90
    expected, _ = trained(photos, config)
    use_cache(tmp_path / "eight", monkeypatch)
    results = [bottlenecks(photos, config, shard=Shard(number, 8)) for number in range(8, 0, -1)]
    assert sum(result.photos for result in results) == sum(result.computed for result in results) == 90
    assert all(result.photos < 30 for result in results)
    assert [state.missing for state in check_shards(photos, config)] == [0] * 8
    result, tasks = trained(photos, config)
    assert "bottlenecks" not in tasks and "thumbnails" not in tasks
    assert result == expected


@pytest.mark.slow
def test_the_classifier_has_the_same_bytes(
    photos: Path, config: RetrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bottlenecks(photos, config)
    for count in (1, 8):
        use_cache(tmp_path / f"cache {count}", monkeypatch)
        for number in range(1, count + 1):
            bottlenecks(photos, config, shard=Shard(number, count))
        retrain(photos, "small", config, engines=tmp_path / str(count))
    folder = Path("small", "classifier", "saved_model", "variables")
    one, eight = (sorted((tmp_path / str(count) / folder).iterdir()) for count in (1, 8))
    assert one and list(map(sha256_of_file, one)) == list(map(sha256_of_file, eight))


def stop_after(count: int) -> Progress:
    def progress(task: str, done: int, total: int) -> None:
        if task == "bottlenecks" and done >= count:
            raise KeyboardInterrupt

    return progress


def test_a_killed_shard_is_named_and_resumes(
    old_photos: Path,
    config: RetrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    first = bottlenecks(old_photos, config, shard=Shard(1, 3))
    with pytest.raises(KeyboardInterrupt):
        bottlenecks(old_photos, config, shard=Shard(2, 3), progress=stop_after(8))
    stored = max(info.photos for info in feature_caches_in(bottleneck_folder()) if info.width == 256) - first.photos
    assert stored >= 8
    with raises(MissingArtefact, "TP8313", "2 of 3", "shard 2/3", "shard 3/3", "has not finished", "not started"):
        check_shards(old_photos, config)
    trained(old_photos, config)
    assert "shard 2/3 lacks" in caplog.text and "shard 3/3 lacks" in caplog.text and "shard 1/3" not in caplog.text
    resumed = bottlenecks(old_photos, config, shard=Shard(2, 3))
    assert resumed.computed == 0
    assert [state.missing for state in check_shards(old_photos, config)] == [0, 0, 0]
    assert len(records()) == 2
    prune_cache()
    assert records() == []


def test_photos_that_were_read_are_not_read_again(
    old_photos: Path, config: RetrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    bottlenecks(old_photos, config)
    with monkeypatch.context() as reading:
        reading.setattr("trtpoets.train.folders.photo_files.photo_bytes", None)
        assert bottlenecks(old_photos, config).computed == 0
    changed = next(old_photos.rglob("*.jpg"))
    Image.fromarray(np.full((40, 40, 3), 7, np.uint8)).save(changed)
    assert bottlenecks(old_photos, config).computed == 1


def test_the_folder_is_searched_once(photos: Path, config: RetrainConfig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        result = bottlenecks(photos, config)
    assert result.photos == 90
    assert caplog.text.count("class folders in") == 1


def test_shards_of_other_photos_backbones_and_versions(
    photos: Path,
    config: RetrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    with raises(BadInput, "TP8315", tmp_path / "cache"):
        check_shards(photos, config)
    bottlenecks(photos, config, shard=Shard(1, 2))
    with monkeypatch.context() as other:
        other.setattr("trtpoets.pipeline.shards.__version__", "0.0.9")
        with raises(BadInput, "TP8314", "trtpoets", "0.0.9", "shard 1/2"):
            bottlenecks(photos, config, shard=Shard(2, 2))
    with monkeypatch.context() as other:
        other.setattr("trtpoets.pipeline.shards.installed", lambda names: {"onnxruntime": "0.1"})
        with raises(BadInput, "TP8314", "onnxruntime", "0.1"):
            bottlenecks(photos, config, shard=Shard(2, 2))
    extra = photos / "ant" / "later.png"
    Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(extra)
    bottlenecks(photos, config, shard=Shard(2, 2))
    assert "shard 1/2 was started when" in caplog.text and "90 files instead of 91" in caplog.text
    states = {state.number: state for state in check_shards_or_states(photos, config)}
    assert sum(state.missing for state in states.values()) == (1 if Shard(1, 2).has("ant/later.png") else 0)
    bottlenecks(photos, config, shard=Shard(1, 2))
    assert [state.missing for state in check_shards(photos, config)] == [0, 0]


def check_shards_or_states(photos: Path, config: RetrainConfig) -> tuple[ShardState, ...]:
    """The states of the shards, complete or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "require_complete", lambda *_: None)
        return check_shards(photos, config)


def test_photos_with_16_bits_wait_for_all_shards(
    old_photos: Path, config: RetrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        Image.fromarray(np.full((40, 40), 3000 + number, np.uint16)).save(old_photos / "ant" / f"wide {number}.png")
    waiting = 0
    for number in (1, 2):
        try:
            bottlenecks(old_photos, config, shard=Shard(number, 2))
        except BadInput as error:
            assert error.code == "TP8316"
            waiting += 1
    assert waiting == 1  # the second has read the rest
    for number in (1, 2):
        bottlenecks(old_photos, config, shard=Shard(number, 2))
    assert [state.missing for state in check_shards(old_photos, config)] == [0, 0]
