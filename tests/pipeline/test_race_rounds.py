"""The rounds of a race: when it ends, and which networks are quantised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.race_networks import GivenNetworks, given_networks, race_config
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.types import Precision
from trtpoets.judge import race as rule
from trtpoets.pipeline.race import race

TWO = ("efficientnet_lite0", "mobilenet_v2")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> GivenNetworks:
    return given_networks(monkeypatch)


def test_the_race_ends_as_soon_as_one_network_is_left(tmp_path: Path, given: GivenNetworks) -> None:
    given.noise = {"mobilenet_v2": 30.0}
    result = race("photos", "x", race_config(*TWO, precision=Precision.FP32), engines=tmp_path)
    assert result.winner.backbone == "efficientnet_lite0"
    assert {len(own.rounds) for own in result.contestants} == {1}
    assert result.winner.rounds[0].photos < 200
    assert result.comparison is not None and result.comparison.improves
    assert not given.quantised


def test_a_network_that_loses_much_in_int8_is_replaced_by_the_next_one(tmp_path: Path, given: GivenNetworks) -> None:
    given.noise_int8 = {"mobilenet_v2": 30.0}
    result = race("photos", "x", race_config(*TWO), engines=tmp_path)
    assert result.winner.backbone == "efficientnet_lite0"
    assert [name for name, _ in given.quantised] == ["mobilenet_v2", "efficientnet_lite0"]
    in_int8 = [own.rounds[-1] for own in result.contestants]
    assert {own.precision for own in in_int8} == {Precision.INT8}
    assert in_int8[0].accuracy > in_int8[1].accuracy


def test_photos_of_calibration_do_not_count(
    tmp_path: Path, given: GivenNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last round has nearly all photos, so that most of those for calibration are among them."""
    given.noise = {"mobilenet_v2": 1.2, "efficientnet_lite0": 1.0}
    monkeypatch.setattr(rule, "PRICE", 0.0)
    result = race("photos", "x", race_config(*TWO), engines=tmp_path)
    *_, fp32, int8 = result.winner.rounds
    calibrated = sum(photo.sha256 in given.calibrated for photo in given.judged[-1][1])
    assert calibrated > 0
    assert int8.photos == fp32.photos - calibrated


def test_fp16_is_judged_by_the_answers_of_fp32(tmp_path: Path, given: GivenNetworks) -> None:
    result = race("photos", "x", race_config(*TWO, precision=Precision.FP16), engines=tmp_path)
    assert not given.quantised
    assert result.precision is Precision.FP16 and result.winner.rounds[-1].precision is Precision.FP32


def test_a_network_without_int8_is_out(tmp_path: Path, given: GivenNetworks) -> None:
    given.without_int8 = {"mobilenet_v2"}
    result = race("photos", "x", race_config(*TWO), engines=tmp_path)
    assert result.winner.backbone == "efficientnet_lite0"
    assert result.contestants[1].outcome == "failed: mobilenet_v2 has no layer for INT8"
    given.without_int8 = set(TWO)
    with raises(ConversionFailed, "TP9999"):
        race("photos", "y", race_config(*TWO), engines=tmp_path)


def test_a_network_that_gains_little_from_int8_is_out_as_quantize_would_not_recommend_it(
    tmp_path: Path, given: GivenNetworks
) -> None:
    given.share_int8 = {"mobilenet_v2": 0.6}
    result = race("photos", "x", race_config(*TWO), engines=tmp_path)
    assert result.winner.backbone == "efficientnet_lite0"
    assert "60%" in result.contestants[1].outcome
    given.share_int8 = dict.fromkeys(TWO, 0.6)
    both = race("photos", "y", race_config(*TWO), engines=tmp_path)
    assert both.int8 is not None and both.int8.share == 0.6
    assert "60%" in both.int8.doubt and "FP32" in both.int8.doubt  # the device is a CPU


def test_the_race_says_where_int8_misses_the_target_of_quantize(tmp_path: Path, given: GivenNetworks) -> None:
    """The network wins, because it answers right as often as others; but its answers change."""
    equal = race("photos", "x", race_config(*TWO), engines=tmp_path).int8
    assert equal is not None and equal.agreement == 1 and equal.drop == 0 and equal.share == 1
    assert "98 %" in equal.doubt or equal.low >= 0.98
    given.noise_int8 = dict.fromkeys(TWO, 2.0)
    changed = race("photos", "y", race_config(*TWO), engines=tmp_path).int8
    assert changed is not None
    assert changed.low < changed.agreement < 0.98
    assert f"{100 * changed.agreement:.1f} % of {changed.photos} photos" in changed.doubt
    assert "layers in float" in changed.doubt


def test_without_int8_there_is_nothing_to_say_about_it(tmp_path: Path, given: GivenNetworks) -> None:
    assert race("photos", "x", race_config(*TWO, precision=Precision.FP16), engines=tmp_path).int8 is None


def test_near_copies_are_in_one_fold(tmp_path: Path, given: GivenNetworks) -> None:
    asked = race_config("efficientnet_lite0", "resnet50", precision=Precision.FP32)
    alone = race("photos", "x", asked, engines=tmp_path).winner.rounds[0]
    given.families = tuple((2 * pair, 2 * pair + 1) for pair in range(40))
    paired = race("photos", "x", asked, engines=tmp_path, force=True).winner.rounds[0]
    assert alone.photos == paired.photos
    assert paired.high - paired.low > alone.high - alone.low
