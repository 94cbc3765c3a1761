"""The power modes of a Jetson."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.machines import jetson_files, system, write
from tests.support.machines import NANO


@pytest.mark.parametrize(
    ("names", "fastest"),
    [
        ("15W 25W MAXN_SUPER 7W", 2),  # Orin Nano, JetPack 6.2
        ("15W 7W", 0),  # Orin Nano, before
        ("MAXN_SUPER 10W 15W 25W 40W", 0),  # Orin NX 16GB, JetPack 6.2
        ("MAXN 15W 30W 50W", 0),  # AGX Orin
        ("MAXN MAXN_SUPER 15W", 1),
        ("MAXN_SUPER MAXN 15W", 0),
        (
            (
                "MODE_15W_2CORE MODE_15W_4CORE MODE_15W_6CORE MODE_10W_2CORE MODE_10W_4CORE MODE_10W_DESKTOP "
                "MODE_20W_2CORE MODE_20W_4CORE MODE_20W_6CORE"
            ),  # Xavier NX
            8,
        ),
        ("120W MAXN 90W 70W", 1),
        ("custom", None),
    ],
)
def test_the_fastest_mode_is_found_by_its_name(tmp_path: Path, names: str, fastest: int | None) -> None:
    files = jetson_files("36 4.3", *NANO, "3.10", mode="pmode:0010")
    text = "".join(f"< POWER_MODEL ID={number} NAME={name} >\n" for number, name in enumerate(names.split()))
    root = write(tmp_path, {**files, "etc/nvpmodel.conf": text + "< POWER_MODEL ID=10 NAME=last >\n"})
    jetson = system(root).jetson
    assert jetson
    assert (jetson.full_power.number if jetson.full_power else None) == fastest
    assert jetson.power_mode == "last"
