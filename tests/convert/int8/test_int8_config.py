"""The settings of INT8 quantisation are checked."""

from __future__ import annotations

import pytest

from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.core.errors import BadInput


@pytest.mark.parametrize(
    "wrong", [{"int8_share": 1.5}, {"search_photos": 0}, {"max_float_layers": -1}, {"target_agreement": -0.1}]
)
def test_invalid_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Int8Config(**wrong)  # type: ignore[arg-type]
