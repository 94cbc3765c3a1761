"""Golden photos: chosen by their hashes, the same bytes everywhere, with tolerances that the network itself sets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.photos import photo_folder
from tests.support.tiny import tiny_onnx, tiny_spec
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.images import photo_to_array
from trtpoets.core.types import Photo, Precision, Resize, Split
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.device.runners.ort import OnnxRuntimeRunner
from trtpoets.judge.golden import (
    COUNT,
    Golden,
    check_scores_against,
    golden_from_runners,
    golden_photos,
    read_golden,
    write_golden,
)

SPEC = tiny_spec()
FP32, FP16, INT8 = Precision


def photos_in(folder: Path, counts: dict[str, int]) -> list[Photo]:
    photo_folder(folder, counts)
    return [
        Photo(path, path.parent.name, Split.TEST, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*.jpg"))
    ]


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return photos_in(tmp_path / "photos", {"ant": 9, "bee": 8, "cow": 2})


def moved(by: float) -> FakeRunner:
    """A runner whose first score is `by` above a third, and its second below."""
    row = np.array([1 / 3 + by, 1 / 3 - by, 1 / 3], np.float32)
    return FakeRunner(SPEC, lambda photos: np.tile(row, (len(photos), 1)))


def golden_of(photos: list[Photo], **moves: float) -> Golden:
    runners = {Precision(word): moved(by) for word, by in moves.items()}
    return golden_from_runners(golden_photos(photos, SPEC.preprocess), runners)


def test_labels_take_turns_and_the_order_of_photos_does_not_matter(photos: list[Photo]) -> None:
    chosen = golden_photos(photos, SPEC.preprocess)
    assert [item.label for item in chosen] == ["ant", "bee", "cow"] * 2 + ["ant", "bee"] * 3
    assert len(chosen) == COUNT
    again = golden_photos(photos[::-1], SPEC.preprocess)
    assert [item.sha256 for item in again] == [item.sha256 for item in chosen]
    assert {item.source for item in chosen} <= {photo.sha256 for photo in photos}


def test_few_photos_are_all_taken_and_none_is_an_error(photos: list[Photo]) -> None:
    assert len(golden_photos(photos[:3], SPEC.preprocess)) == 3
    with raises(BadInput, "TP5043"):
        golden_photos([], SPEC.preprocess)


@pytest.mark.parametrize("resize", Resize)
def test_pixels_are_what_the_network_saw_when_it_was_judged(
    photos: list[Photo], resize: Resize, tmp_path: Path
) -> None:
    rule = replace(SPEC.preprocess, resize=resize, crop_fraction=0.8)
    chosen = golden_photos(photos, rule)
    write_golden(golden_from_runners(chosen, {FP32: moved(0.1)}), tmp_path)
    paths = {photo.sha256: photo.path for photo in photos}
    for item in read_golden(tmp_path).photos:
        assert np.array_equal(item.pixels, photo_to_array(paths[item.source], rule))


def test_a_photo_that_was_replaced_is_reported(photos: list[Photo]) -> None:
    photos[0].path.write_bytes(photos[1].path.read_bytes())
    with raises(BadInput, "TP1014"):
        golden_photos(photos[:1], SPEC.preprocess)


def test_what_was_written_is_read_bit_by_bit(photos: list[Photo], tmp_path: Path) -> None:
    models = {p: tiny_onnx(tmp_path / f"{p.value}.onnx", p) for p in Precision}
    chosen = golden_photos(photos, SPEC.preprocess)
    golden = golden_from_runners(chosen, {p: OnnxRuntimeRunner(m) for p, m in models.items()})
    write_golden(golden, tmp_path / "a")
    read = read_golden(tmp_path / "a")
    assert [(photo.label, photo.source) for photo in read.photos] == [(photo.label, photo.source) for photo in chosen]
    for precision in Precision:
        assert np.array_equal(read.expected[precision.value].scores, golden.expected[precision.value].scores)
        assert check_scores_against(read, precision, golden.expected[precision.value].scores).max_difference == 0
    write_golden(read, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_pixels_are_stored_as_they_are(photos: list[Photo], tmp_path: Path) -> None:
    """No compression whose bytes depend on the library that wrote them: pictures are reproducible as they are."""
    write_golden(golden_of(photos, fp32=0.1), tmp_path)
    pixels = read_golden(tmp_path).photos[0].pixels
    content = (tmp_path / "000.bmp").read_bytes()
    assert content.startswith(b"BM")
    assert pixels[::-1, :, ::-1].tobytes() == content[-pixels.size :]


def test_tolerances_follow_from_what_moves_the_scores(photos: list[Photo]) -> None:
    expected = golden_of(photos, fp32=0.1, fp16=0.11, int8=0.15).expected
    assert expected["fp16"].tolerance == pytest.approx(0.03, rel=0.01)
    assert expected["fp32"].tolerance == pytest.approx(0.03, rel=0.01)
    assert "TF32" in expected["fp32"].reason
    assert expected["int8"].tolerance == pytest.approx(0.15, rel=0.01)
    assert "up to 0.05; 3 times that" in expected["int8"].reason


def test_another_way_to_compute_int8_tells_better_than_fp32(photos: list[Photo]) -> None:
    chosen = golden_photos(photos, SPEC.preprocess)
    golden = golden_from_runners(chosen, {FP32: moved(0.0), INT8: moved(0.15)}, {INT8: moved(0.14)})
    assert golden.expected["int8"].tolerance == pytest.approx(0.03, rel=0.01)
    assert "computed in another way" in golden.expected["int8"].reason


def test_tolerances_have_a_floor_and_a_ceiling(photos: list[Photo]) -> None:
    expected = golden_of(photos, fp32=0.0, fp16=0.0, int8=0.33).expected
    assert expected["fp32"].tolerance == expected["fp16"].tolerance == 0.005
    assert expected["int8"].tolerance == 0.5


def test_int8_in_integers_and_in_float_is_the_same_network(photos: list[Photo], tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "int8.onnx", INT8)
    chosen = golden_photos(photos, SPEC.preprocess)
    fp32 = OnnxRuntimeRunner(tiny_onnx(tmp_path / "fp32.onnx"))
    golden = golden_from_runners(chosen, {FP32: fp32, INT8: OnnxRuntimeRunner(model)})
    with OnnxRuntimeRunner(model, as_written=True) as runner:
        verdict = check_scores_against(golden, INT8, runner.infer(golden.pixels))
    assert verdict.passed
    assert verdict.same_answers == verdict.photos == len(chosen)


def test_a_check_reports_the_worst_photo(photos: list[Photo]) -> None:
    golden = golden_of(photos, fp32=0.1, fp16=0.11)
    scores = golden.expected["fp16"].scores.copy()
    near = check_scores_against(golden, FP16, scores + np.float32(0.02))
    assert near.passed
    assert near.same_answers == near.photos == COUNT
    scores[5] = [0, 1, 0]
    far = check_scores_against(golden, FP16, scores)
    assert not far.passed
    assert (far.worst, far.same_answers) == ("005.bmp", COUNT - 1)
    assert far.max_difference == pytest.approx(1 - (1 / 3 - 0.11), abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_fail(photos: list[Photo], value: float) -> None:
    golden = golden_of(photos, fp32=0.1)
    scores = golden.expected["fp32"].scores.copy()
    scores[2, 1] = value
    verdict = check_scores_against(golden, FP32, scores)
    assert (verdict.passed, verdict.worst) == (False, "002.bmp")
    assert 1 < verdict.max_difference < np.inf  # JSON has no other numbers


def test_scores_of_other_photos_or_precisions_are_refused(photos: list[Photo]) -> None:
    golden = golden_of(photos, fp32=0.1)
    with raises(BadInput, "TP5046", "(12, 3)", "(2, 3)"):
        check_scores_against(golden, FP32, np.zeros((2, 3), np.float32))
    with raises(BadArtefact, "TP5045", "fp32", "int8"):
        check_scores_against(golden, INT8, np.zeros((12, 3), np.float32))


def edited(folder: Path, change: Any) -> None:
    value = json.loads((folder / "golden.json").read_text())
    change(value)
    (folder / "golden.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("change", "code", "value"),
    [
        (lambda value: value.pop("photos"), "TP5044", "photos"),
        (lambda value: value["photos"].clear(), "TP5044", "0 photos"),
        (lambda value: value["photos"].pop(), "TP5044", "11 photos"),
        (lambda value: value["expected"].update(int4=value["expected"]["fp32"]), "TP5044", "'int4'"),
        (lambda value: value["expected"]["fp32"].update(tolerance=2), "TP5044", "tolerance"),
        (lambda value: value["expected"]["fp32"].update(scores=[1, 2]), "TP5044", "scores[0]"),
        (lambda value: value["photos"][0].update(file="../000.bmp"), "TP5044", "'../000.bmp'"),
        (lambda value: value["photos"][3].update(sha256="0"), "TP5048", "003.bmp"),
        (lambda value: value["photos"][3].update(file="none.bmp"), "TP5047", "none.bmp"),
    ],
)
def test_a_damaged_index_is_one_sentence(
    photos: list[Photo], tmp_path: Path, change: Any, code: str, value: str
) -> None:
    write_golden(golden_of(photos, fp32=0.1), tmp_path)
    edited(tmp_path, change)
    with raises(BadArtefact, code, value):
        read_golden(tmp_path)


def test_a_damaged_photo_is_named(photos: list[Photo], tmp_path: Path) -> None:
    write_golden(golden_of(photos, fp32=0.1), tmp_path)
    content = bytearray((tmp_path / "004.bmp").read_bytes())
    content[100] ^= 1
    (tmp_path / "004.bmp").write_bytes(content)
    with raises(BadArtefact, "TP5048", "004.bmp"):
        read_golden(tmp_path)


def test_no_index_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact):
        read_golden(tmp_path)
