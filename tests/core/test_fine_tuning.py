"""Settings of fine-tuning and distortions: their limits, and their description in words."""

from __future__ import annotations

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.fine_tuning import Distortions, FineTuneConfig, PairedResult


@pytest.mark.parametrize("unfreeze", ["0", "-3", "some", "", "1.5", "ALL"])
def test_the_number_of_layers_is_checked(unfreeze: str) -> None:
    with raises(BadInput, "TP1121") as caught:
        FineTuneConfig(unfreeze=unfreeze)
    assert "stay frozen" in caught.value.hint


@pytest.mark.parametrize("unfreeze", ["1", "52", "all", "auto"])
def test_valid_depths(unfreeze: str) -> None:
    assert FineTuneConfig(unfreeze=unfreeze).unfreeze == unfreeze


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"epochs": float("nan")}, {"learning_rate": -1.0}])
def test_settings_must_be_above_zero(settings: dict[str, float]) -> None:
    with raises(BadInput, "TP1122"):
        FineTuneConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"random_crop": 91.0}, {"random_rotation": 181.0}, {"random_scale": -1.0}])
def test_distortions_have_limits(settings: dict[str, float]) -> None:
    option = next(iter(settings)).replace("_", "-")
    with raises(BadInput, "TP1120", option):
        Distortions(**settings)  # type: ignore[arg-type]


def test_distortions_are_described() -> None:
    assert str(Distortions()) == "none"
    assert not Distortions().any
    own = Distortions(flip_left_right=True, random_crop=10, random_rotation=7.5)
    assert str(own) == "flip, crop 10 %, rotation 7.5 degrees"
    assert own.any


@pytest.mark.parametrize(
    ("before", "after", "p", "improves"), [(0.8, 0.9, 0.01, True), (0.8, 0.9, 0.2, False), (0.9, 0.8, 0.01, False)]
)
def test_an_improvement_must_be_significant(before: float, after: float, p: float, improves: bool) -> None:
    assert PairedResult(100, 100, before, after, -0.1, 0.1, p).improves is improves
