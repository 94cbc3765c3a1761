import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.support.photos import photo_folder
from tests.support.small_networks import photos_in, residual_network, saved
from trtpoets.convert.int8.activation_stats import histograms
from trtpoets.convert.int8.calibration import (
    CalibrationConfig,
    Method,
    Ranges,
    calibration_photos,
    ranges_from_photos,
)
from trtpoets.convert.int8.calibration_checks import Witness
from trtpoets.convert.int8.thresholds import BINS, entropy_threshold, mse_threshold, percentile_threshold
from trtpoets.core.errors import BadArtefact, BadInput, BadPhoto, ConversionFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import open_session
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import INPUT_NAME, OnnxModel, Photo, Split


def made_up(counts: dict[str, int], split: Split = Split.TRAIN) -> list[Photo]:
    return [
        Photo(Path(f"{label}/{i}.jpg"), label, split, f"{label}-{i}") for label in counts for i in range(counts[label])
    ]


def chosen(available: list[Photo], **config: int) -> set[str]:
    return {photo.sha256 for photo in calibration_photos(available, CalibrationConfig(**config))}


def test_photos_come_from_the_training_split_as_labels_occur() -> None:
    photos = (
        made_up({"a": 60, "b": 30, "c": 10}) + made_up({"d": 50}, Split.TEST) + made_up({"e": 50}, Split.VALIDATION)
    )
    found = calibration_photos(photos, CalibrationConfig(photos=20))
    assert Counter(photo.label for photo in found) == {"a": 12, "b": 6, "c": 2}


def test_the_choice_does_not_hang_on_order_or_on_other_photos() -> None:
    photos = made_up({"a": 40, "b": 40})
    first = chosen(photos, photos=20)
    assert chosen(photos[::-1], photos=20) == first
    assert chosen(photos, photos=20, seed=1) != first
    grown = chosen([*photos, Photo(Path("new.jpg"), "a", Split.TRAIN, "new")], photos=20)
    assert len(grown - first) <= 1


def test_rare_labels_are_not_left_out_and_equal_photos_count_once() -> None:
    photos = made_up({"a": 1000, "b": 1}) + made_up({"a": 1000})
    found = calibration_photos(photos, CalibrationConfig(photos=10))
    assert Counter(photo.label for photo in found) == {"a": 9, "b": 1}
    assert len({photo.sha256 for photo in found}) == 10


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 100))
def test_shares_add_up(counts: list[int], wanted: int) -> None:
    photos = made_up({f"label {i}": count for i, count in enumerate(counts)})
    if not photos:
        return
    logging.disable(logging.WARNING)
    found = Counter(photo.label for photo in calibration_photos(photos, CalibrationConfig(photos=wanted)))
    logging.disable(logging.NOTSET)
    assert sum(found.values()) == min(wanted, sum(counts))
    if wanted >= sum(count > 0 for count in counts):
        assert len(found) == sum(count > 0 for count in counts)


def test_too_few_photos_are_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert len(calibration_photos(made_up({"a": 5}), CalibrationConfig(photos=8))) == 5
    assert "calibrating with 5 photos" in caplog.text
    assert "3 more photos would do" in caplog.text


def test_classes_that_calibration_does_not_see_are_named(caplog: pytest.LogCaptureFixture) -> None:
    calibration_photos(made_up({"a": 9, "b": 5, "c": 5}), CalibrationConfig(photos=3))
    assert caplog.text == ""
    calibration_photos(made_up({"a": 9, "b": 5, "c": 5}), CalibrationConfig(photos=2))
    assert "calibrating with 2 photos of 3 classes: 'c' has none, for one; with --photos 3 each has one" in caplog.text
    caplog.clear()
    calibration_photos(made_up({"a": 9}) + made_up({"b": 5}, Split.TEST), CalibrationConfig(photos=4))
    assert "all calibration photos are of one class, 'a': ranges may be too narrow for any other" in caplog.text


def noise(levels: float, count: int, seed: int = 0) -> np.ndarray:
    """Grey photos uint8 (count, 32, 32, 3) whose pixels deviate from their mean by about so many levels."""
    pixels = np.random.default_rng(seed).normal(128, levels, (count, 32, 32, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def witnessed(*batches: np.ndarray, answers: int = 2) -> None:
    witness = Witness(("a", "b", "c"))
    for batch in batches:
        witness.see(batch, np.eye(3, dtype=np.float32)[np.arange(len(batch)) % answers])
    witness.conclude(3)


def test_one_colour_is_told_from_little_contrast(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadInput, match=r"the calibration photos \(5\) are all the same plain colour, #808080"):
        witnessed(noise(0.5, 3), noise(0.5, 2))
    witnessed(noise(1.5, 8))
    assert "8 of 8 calibration photos are one plain colour each" in caplog.text
    caplog.clear()
    witnessed(noise(0.5, 4), noise(3.0, 4))
    witnessed(noise(3.0, 8))
    assert caplog.text == "", "half of them show something"


def test_one_answer_to_all_photos_says_something_when_they_are_many(caplog: pytest.LogCaptureFixture) -> None:
    witnessed(noise(20, 15), answers=1)
    assert caplog.text == ""
    witnessed(noise(20, 15), noise(20, 1), answers=1)
    assert "the network answers 'a' to all 16 calibration photos, of 3 classes" in caplog.text


def test_a_photo_that_is_also_in_the_test_split_is_refused() -> None:
    leak = Photo(Path("copy.jpg"), "a", Split.TEST, "a-3")
    with pytest.raises(BadInput, match=r"3\.jpg is for calibration, and copy\.jpg in the test split is the same photo"):
        calibration_photos([*made_up({"a": 5}), leak], CalibrationConfig(photos=5))


def test_no_training_photos() -> None:
    with pytest.raises(BadInput, match="none of 2 photos is in the training split"):
        calibration_photos(made_up({"a": 2}, Split.TEST), CalibrationConfig())


@pytest.mark.parametrize("wrong", [{"photos": 0}, {"batch_size": 0}, {"percentile": 101.0}, {"percentile": 12}])
def test_configs_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        CalibrationConfig(**wrong)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return saved(residual_network(), tmp_path_factory.mktemp("model") / "fp32.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return photos_in(photo_folder(tmp_path_factory.mktemp("photos"), {"daisy": 4, "rose": 3}))


def activations(model: OnnxModel, photos: list[Photo], names: list[str]) -> list[np.ndarray]:
    proto = onnx.load(model.path)
    for name in names:
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    (batch,) = photo_batches([photo.path for photo in photos], model.spec.preprocess, 100)
    found: list[np.ndarray] = open_session(proto.SerializeToString()).run(names, {INPUT_NAME: batch})
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_minmax_is_what_the_tensors_span(model: OnnxModel, photos: list[Photo], batch_size: int) -> None:
    seen: list[tuple[str, int, int]] = []
    config = CalibrationConfig(method=Method.MINMAX, batch_size=batch_size)
    ranges = ranges_from_photos(model, photos, config, lambda *step: seen.append(step))[0]
    names = list(ranges.tensors)
    assert "project:0" in names
    assert "stem:0" not in names, "only what gets a pair is observed"
    for name, array in zip(names, activations(model, photos, names), strict=True):
        assert ranges.tensors[name] == pytest.approx((array.min(), array.max()), abs=1e-5)
    assert ranges.per_class == {"daisy": 4, "rose": 3}
    assert ranges.onnx_sha256 == sha256_of_file(model.path)
    assert seen[0] == ("calibration", 0, 7)
    assert seen[-1] == ("calibration", 7, 7)


@pytest.mark.parametrize("method", [Method.ENTROPY, Method.PERCENTILE, Method.MSE])
def test_other_methods_cut_the_range(model: OnnxModel, photos: list[Photo], method: Method) -> None:
    widest = ranges_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX))[0].tensors
    ranges = ranges_from_photos(model, photos, CalibrationConfig(method=method, percentile=95.0))[0].tensors
    assert all(widest[name][0] <= low <= high <= widest[name][1] for name, (low, high) in ranges.items())
    assert any(high < widest[name][1] for name, (_, high) in ranges.items())


def test_percentile_of_real_activations(model: OnnxModel, photos: list[Photo]) -> None:
    config = CalibrationConfig(method=Method.PERCENTILE, percentile=90.0)
    low, high = ranges_from_photos(model, photos, config)[0].tensors["project:0"]
    (array,) = activations(model, photos, ["project:0"])
    exact = np.quantile(np.abs(array), 0.9)
    assert max(-low, high) == pytest.approx(exact, rel=0.02)


def test_histograms_count_every_value_of_a_small_map(model: OnnxModel, photos: list[Photo]) -> None:
    (array,) = activations(model, photos, ["project:0"])
    top = float(np.abs(array).max())
    paths = [photo.path for photo in photos]
    (counts,) = histograms(
        onnx.load(model.path), {"project:0": top}, paths, model.spec.preprocess, 2, lambda done: None
    ).values()
    expected, _ = np.histogram(np.abs(array), bins=BINS, range=(0, top))
    assert counts.sum() == array.size
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 3, "only values on an edge may differ"


def test_thresholds_of_known_distributions() -> None:
    uniform = np.full(BINS, 1000)
    assert percentile_threshold(uniform, 4.0, 50.5) == pytest.approx(4.0 * 0.505, rel=1e-3)
    assert percentile_threshold(uniform, 4.0, 100.0) == 4.0
    assert entropy_threshold(uniform, 4.0) > 3.9, "nothing of an even distribution is an outlier"
    outlier = np.zeros(BINS, np.int64)
    outlier[:200] = np.exp(-np.arange(200) / 40) * 1e6
    outlier[-1] = 1
    assert entropy_threshold(outlier, 1.0) < 0.2, "one value in millions is not worth nine tenths of the steps"
    assert mse_threshold(uniform, 4.0) > 3.9
    assert mse_threshold(outlier, 1.0) < 0.3
    assert entropy_threshold(np.array([5] + [0] * (BINS - 1)), 3.0) == 3.0


def test_ranges_survive_json_and_have_an_identity(model: OnnxModel, photos: list[Photo]) -> None:
    ranges = ranges_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX))[0]
    again = from_json(Ranges, json.loads(json.dumps(to_json(ranges))), "ranges.json")
    assert again == ranges
    assert again.hash == ranges.hash
    assert ranges_from_photos(model, photos[1:], CalibrationConfig(method=Method.MINMAX))[0].hash != ranges.hash
    with pytest.raises(BadArtefact, match=r"ranges\.json has an unexpected form: method is 'guess'"):
        from_json(Ranges, {**to_json(ranges), "method": "guess"}, "ranges.json")


def test_bad_calibration(model: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no photos to calibrate"):
        ranges_from_photos(model, [], CalibrationConfig())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].path.read_bytes()[:300])
    with pytest.raises(BadPhoto, match=r"broken\.jpg"):
        ranges_from_photos(model, [Photo(broken, "rose", Split.TRAIN, sha256_of_file(broken))], CalibrationConfig())


def damaged(path: Path, name: str, value: float) -> OnnxModel:
    proto = residual_network()
    for tensor in proto.graph.initializer:  # type: ignore[attr-defined]
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.flat[0] = value
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return saved(proto, path / "fp32.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(photos: list[Photo], tmp_path: Path, value: float) -> None:
    with pytest.raises(ConversionFailed, match=r"expand\.weight holds values that are not finite"):
        ranges_from_photos(damaged(tmp_path, "expand.weight", value), photos, CalibrationConfig())


def test_a_tensor_that_overflows_is_named(photos: list[Photo], tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"is not finite on a calibration photo"):
        ranges_from_photos(damaged(tmp_path, "project.bias", 3e38), photos, CalibrationConfig())
