"""The networks of inverted residuals: their shapes; `tests/train/test_networks.py` compares them with the table."""

from __future__ import annotations

import pytest

from trtpoets.train.own_networks.inverted_residuals import EFFICIENTNET_LITE0, MOBILENET_V2, Description


@pytest.mark.parametrize(("description", "blocks"), [(EFFICIENTNET_LITE0, 16), (MOBILENET_V2, 17)])
def test_blocks(description: Description, blocks: int) -> None:
    assert sum(stage.repeats for stage in description.stages) == blocks
    assert all(stage.width % 8 == 0 for stage in description.stages)
