"""The settings of distillation."""

from __future__ import annotations

from typing import Any

import pytest

from trtpoets.convert.int8.distill.training import DistillConfig
from trtpoets.core.errors import BadInput


@pytest.mark.parametrize("settings", [{"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": 2.0}])
def test_impossible_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="distillation needs"):
        DistillConfig(**settings)
