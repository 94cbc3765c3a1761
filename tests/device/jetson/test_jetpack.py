"""The table of JetPacks."""

from __future__ import annotations

from tests.support.machines import AGX, NANO
from trtpoets.device.jetson.jetpack import CHIPS, JETPACKS, chip_of, has_dla, jetpack_of


def test_the_table_of_jetpacks() -> None:
    assert [jetpack.l4t for jetpack in JETPACKS] == sorted(jetpack.l4t for jetpack in JETPACKS)
    assert len({jetpack.version for jetpack in JETPACKS}) == len(JETPACKS)
    assert all(chip in CHIPS for jetpack in JETPACKS for chip in jetpack.chips)
    assert [jetpack.version for jetpack in JETPACKS if not jetpack.runs_trtpoets][-1] == "5.0.2"
    assert jetpack_of((36, 1)) is None and jetpack_of((99, 0)) is None
    assert chip_of("nvidia,tegra2340\0nvidia,other") is None
    assert has_dla(CHIPS["tegra234"], AGX[0]) and not has_dla(CHIPS["tegra234"], NANO[0])
