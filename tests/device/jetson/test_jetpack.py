"""The table of JetPacks."""

from __future__ import annotations

from tests.support.machines import AGX, NANO
from trtpoets.device.jetson.jetpack import CHIPS, JETPACKS, chip_of, has_dla, jetpack_of


def test_the_table_of_jetpacks() -> None:
    assert [each.l4t for each in JETPACKS] == sorted(each.l4t for each in JETPACKS)
    assert len({each.version for each in JETPACKS}) == len(JETPACKS)
    assert all(chip in CHIPS for each in JETPACKS for chip in each.chips)
    assert [each.version for each in JETPACKS if not each.runs_trtpoets][-1] == "5.0.2"
    assert jetpack_of((36, 1)) is None and jetpack_of((99, 0)) is None
    assert chip_of("nvidia,tegra2340\0nvidia,other") is None
    assert has_dla(CHIPS["tegra234"], AGX[0]) and not has_dla(CHIPS["tegra234"], NANO[0])
