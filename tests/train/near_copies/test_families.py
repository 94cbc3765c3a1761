"""Families of near-copies: what is found, what is not joined, what bounds memory, and what splits make of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

import trtpoets
from tests.conftest import SMALL
from tests.support.near_copies import CONFIG, jpeg, scene, thumbnails_of
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Split
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.retrain import RetrainConfig, training_of
from trtpoets.train.dataset import DatasetConfig
from trtpoets.train.near_copies.families import compare_pairs, families_from_pairs, families_of
from trtpoets.train.near_copies.grouping import across_splits
from trtpoets.train.near_copies.local_contrast import NormalisedThumbnails
from trtpoets.train.split import positions_of, split_at


def lookalike(seed: int) -> Image.Image:
    """An object that looks like all others of its kind but for little: wires, a frame, and small structure."""
    pixels = np.asarray(scene(seed)).astype(float)
    pixels = 150 + 0.12 * (pixels - 128)
    pixels[20:30] = pixels[70:80] = pixels[120:130] = 20
    pixels[:, :8] = pixels[:, -8:] = 60
    for left in range(15, 190, 25):
        pixels[40:60, left : left + 12] -= 60
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def frame(image: Image.Image) -> Image.Image:
    moved = image.crop((5, 3, 200, 147)).resize((200, 150))
    noise = np.random.default_rng(0).normal(0, 5, (150, 200, 3))
    return Image.fromarray(np.clip(np.asarray(moved) + noise, 0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "crop": lambda image: image.crop((30, 10, 190, 130)),
    "mirror": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "resize": lambda image: image.resize((90, 110)),
    "encode": lambda image: jpeg(image, 30),
    "light": lambda image: ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(1.2)).enhance(0.8),
    "frame": frame,
    "both": lambda image: jpeg(image.crop((0, 20, 170, 150)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), 60),
}


def features_of(images: list[Image.Image]) -> np.ndarray:
    """In place of bottlenecks: colours of a coarse grid, the same for the mirror image."""
    grids = np.stack([np.asarray(image.resize((4, 4), Image.Resampling.BOX), np.float32) for image in images]) - 128
    return np.concatenate([grids + grids[:, :, ::-1], np.abs(grids - grids[:, :, ::-1])], axis=1).reshape(
        len(images), -1
    )


def found_families(images: list[Image.Image], names: list[str] | None = None) -> set[tuple[int, ...]]:
    files = [("", name) for name in names or [f"{hash(number)}.jpg" for number in range(len(images))]]
    return set(families_of(features_of(images), thumbnails_of(images), files))


@pytest.mark.parametrize("kind", CHANGES)
def test_copies_are_found(kind: str) -> None:
    originals = [scene(seed) for seed in range(12)]
    images = [*originals, *(CHANGES[kind](image) for image in originals[:6])]
    assert found_families(images) == {(number, number + 12) for number in range(6)}


def test_two_crops_of_one_photo_are_copies() -> None:
    originals = [scene(seed) for seed in range(10)]
    images = [image.crop((0, 0, 176, 132)) for image in originals] + [
        image.crop((24, 18, 200, 150)) for image in originals
    ]
    assert found_families(images) == {(number, number + 10) for number in range(10)}


def test_photos_that_look_alike_are_no_copies() -> None:
    images = [lookalike(seed) for seed in range(150)]
    assert found_families([*images, CHANGES["encode"](images[7])]) == {(7, 150)}


def test_names_alone_join_nothing() -> None:
    images = [scene(seed) for seed in range(5)]
    assert not found_families(images, ["a.jpg", "a (2).jpg", "a_aug3.jpg", "a.rf.0123456789abcdef.jpg", "a-copy.jpg"])


def test_no_photos_and_one() -> None:
    assert families_of(np.zeros((0, 8), np.float32), np.zeros((0, 64, 64), np.uint8), []) == ()
    assert found_families([scene(1)]) == set()
    black = [Image.new("RGB", (50, 50)) for _ in range(3)]
    found_families(black)  # photos without structure are compared without warnings of numpy


def test_families_do_not_depend_on_order() -> None:
    images = [scene(seed) for seed in range(8)]
    images += [CHANGES[kind](images[number]) for number, kind in enumerate(CHANGES)]
    expected = found_families(images)
    order = np.random.default_rng(0).permutation(len(images))
    again = found_families([images[place] for place in order])
    assert {tuple(sorted(int(order[place]) for place in family)) for family in again} == expected
    assert len(expected) == len(CHANGES)


def test_families_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [scene(seed) for seed in range(8)]
    images += [CHANGES[kind](images[number]) for number, kind in enumerate(CHANGES)]
    expected = found_families(images)
    monkeypatch.setattr("trtpoets.train.near_copies.families._PHOTOS", 3)
    monkeypatch.setattr("trtpoets.train.near_copies.families.PHOTOS_PER_TASK", 2)
    assert found_families(images) == expected


def test_the_windows_of_each_photo_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    normalised = NormalisedThumbnails(thumbnails_of([scene(seed) for seed in range(12)]))
    described: list[int] = []
    original = NormalisedThumbnails.window_descriptors

    def noted(self: NormalisedThumbnails, rows: np.ndarray) -> np.ndarray:
        described.extend(rows.tolist())
        return original(self, rows)

    monkeypatch.setattr(NormalisedThumbnails, "window_descriptors", noted)
    pairs = np.array([(first, second) for first in range(11) for second in range(first + 1, 12)])
    monkeypatch.setattr("trtpoets.train.near_copies.families.PHOTOS_PER_TASK", 5)
    compare_pairs(normalised, pairs)
    assert sorted(described) == list(range(12))


def test_a_chain_that_grows_beyond_bounds_keeps_its_strong_pairs_only() -> None:
    chain = np.array([(place, place + 1) for place in range(99)])
    strength = np.where(np.arange(99) % 5 == 4, 0.79, 0.95)
    families = families_from_pairs(chain, strength, photos=100)
    assert max(map(len, families)) == 5
    assert families_from_pairs(chain[:9], strength[:9], photos=100) == (tuple(range(10)),)
    video = families_from_pairs(chain, np.full(99, 0.99), photos=100)
    assert video == (tuple(range(100)),)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]), max_size=40))
def test_families_are_disjoint_and_hold_every_pair(pairs: list[tuple[int, int]]) -> None:
    families = families_from_pairs(np.array(pairs, dtype=np.int64).reshape(-1, 2), np.ones(len(pairs)), 1000)
    members = [member for family in families for member in family]
    assert len(members) == len(set(members))
    for first, second in pairs:
        assert any(first in family and second in family for family in families)


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


numbers = st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True)


@given(numbers, st.lists(st.lists(st.integers(0, 59), min_size=2, max_size=6), max_size=6), st.randoms())
def test_families_share_a_position_and_others_keep_theirs(
    chosen: list[int], groups: list[list[int]], random: object
) -> None:
    files = [(f"{number}.jpg", sha(number)) for number in chosen]
    families = [family for group in groups if len(family := [sha(chosen[i % len(chosen)]) for i in group]) > 1]
    positions = dict(zip((name for _, name in files), positions_of(files, families), strict=True))
    for family in families:
        assert len({positions[member] for member in family}) == 1
    members = {member for family in families if len(set(family)) > 1 for member in family}
    alone = dict(zip((name for _, name in files), positions_of(files), strict=True))
    assert all(positions[name] == alone[name] for _, name in files if name not in {m for f in families for m in f})
    assert members <= set(positions)
    random.shuffle(files)  # type: ignore[attr-defined]
    random.shuffle(families)  # type: ignore[attr-defined]
    assert dict(zip((name for _, name in files), positions_of(files, families), strict=True)) == positions


def test_a_family_goes_where_its_nohash_group_goes() -> None:
    files = [("a_nohash_1.jpg", sha(1)), ("a_nohash_2.jpg", sha(2)), ("x.jpg", sha(3)), ("y.jpg", sha(4))]
    positions = positions_of(files, [[sha(2), sha(3)]])
    assert positions[0] == positions[1] == positions[2] == positions_of(files)[0]
    assert positions[3] == positions_of(files)[3]


def test_families_fall_into_splits_as_photos_do() -> None:
    files = [("", sha(number)) for number in range(5000)]
    families = [[sha(5 * number + place) for place in range(5)] for number in range(1000)]
    splits = [split_at(position, CONFIG) for position in positions_of(files, families)]
    assert 350 < splits.count(Split.TEST) < 650
    assert 350 < splits.count(Split.VALIDATION) < 650


def copied_folder(root: Path, places: dict[str, str]) -> Path:
    """Photos of two classes as augmentation tools export them, three copies of each; `places` by a copy's number."""
    for label, first in (("a", 0), ("b", 100)):
        for number in range(20):
            image = scene(first + number)
            for copy, changed in enumerate((image, CHANGES["crop"](image), CHANGES["mirror"](image))):
                folder = root / places.get(f"{copy}", "") / label
                folder.mkdir(parents=True, exist_ok=True)
                changed.save(folder / f"{number}_aug{copy}.jpg", quality=90)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> tuple[Path, RetrainConfig]:
    config = RetrainConfig(
        SMALL, small_weights, dataset=DatasetConfig(20, 20), head=HeadConfig(steps=30, eval_interval=10, batch_size=16)
    )
    return tmp_path_factory.mktemp("copies"), config


@pytest.mark.slow  # the run of tests/pipeline/test_run.py searches for copies too
def test_retrain_keeps_copies_together_and_reports_both_accuracies(
    trained: tuple[Path, RetrainConfig], caplog: pytest.LogCaptureFixture
) -> None:
    root, config = trained
    caplog.set_level("INFO")
    photos = copied_folder(root / "photos", {})
    trtpoets.retrain(photos, "together", config, engines=root / "engines")
    space = Workspace(root / "engines", "together")
    kept = dataset_in(space)
    assert kept is not None
    assert len(kept.families) == 40
    assert not across_splits(kept)
    details = training_of("together", engines=root / "engines")
    assert details.families == 40
    assert details.families_photos == 120
    assert details.together is not None and details.as_it_stands is not None
    assert details.together.test_accuracy == details.test_accuracy
    assert details.together.test_photos == kept.counts["a"]["test"] + kept.counts["b"]["test"]
    apart = details.as_it_stands
    assert apart.low is not None and apart.test_accuracy is not None and apart.high is not None
    assert apart.low <= apart.test_accuracy <= apart.high
    assert "40 families of near-copies with 120 of 120 photos" in caplog.text
    caplog.clear()
    trtpoets.retrain(photos, "together", config, engines=root / "engines")
    assert "families" not in caplog.text  # nothing was done again
    assert dataset_in(space) == kept


@pytest.mark.slow
def test_retrain_keeps_given_splits_and_reports_the_accuracy_without_copies(
    trained: tuple[Path, RetrainConfig], caplog: pytest.LogCaptureFixture
) -> None:
    root, config = trained
    photos = copied_folder(root / "given", {"0": "train", "1": "val", "2": "test"})
    for label in "ab":
        scene(500 + ord(label)).save(photos / "test" / label / "new.jpg")
    trtpoets.retrain(photos, "given", config, engines=root / "engines")
    kept = dataset_in(Workspace(root / "engines", "given"))
    assert kept is not None
    assert kept.counts["a"] == {"train": 20, "validation": 20, "test": 21}
    details = training_of("given", engines=root / "engines")
    assert details.families_across_splits == 40
    assert details.without_copies is not None
    assert details.without_copies.test_photos == 2
    assert details.as_it_stands is None
    assert "40 of 42 test photos have a near-copy in another split" in caplog.text
