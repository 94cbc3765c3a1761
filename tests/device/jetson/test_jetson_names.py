"""Names of JetPack releases and Jetson modules are recognised, or refused with the nearest name."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.device.jetson.jetpack import BOARDS, JETPACKS
from trtpoets.device.jetson.jetson_names import find_board, find_jetpack


@pytest.mark.parametrize(
    ("text", "version"),
    [
        *(
            (text, "6.2")
            for text in ("36.4.3", "R36.4.3", "r36.4.3", "L4T 36.4.3", "l4t-36.4.3", "JetPack 6.2", "v6.2")
        ),
        *((text, "6.2") for text in ("jetpack6.2", "JP6.2", "jp 6.2.0", " 6.2 ", "6.2+b77", "36.4.3-20250107174145")),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "6.2"),
        ("6.2.1", "6.2.1"),
        ("36.4.7", "6.2.1"),
        ("r36.4", "6.1"),
        ("r36.4.0", "6.1"),
        ("R36.3", "6.0"),
        ("6.0 DP", "6.0"),
        ("JetPack 6.0 GA", "6.0"),
        ("R32.7.1", "4.6.1"),
        ("35.4.1", "5.1.2"),
        ("nvidia-jetpack 5.1.2", "5.1.2"),
        ("38.2", "7.0"),
        *((jetpack.version, jetpack.version) for jetpack in JETPACKS),
    ],
)
def test_names_of_jetpacks(text: str, version: str, caplog: pytest.LogCaptureFixture) -> None:
    assert find_jetpack(text).version == version
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "version"),
    [("6.2.9", "6.2.2"), ("JetPack 5.1.7", "5.1.5"), ("7.2.5", "7.2.2"), ("R36.5.1", "6.2.2"), ("35.6.4", "5.1.5")],
)
def test_a_newer_patch_release_is_the_last_known_with_a_warning(
    text: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert find_jetpack(text).version == version
    assert f"JetPack {version}, the last known" in caplog.text


@pytest.mark.parametrize("text", ["6", "R36", "5.3", "9.9", "99.1", "36.1", "", "six", "6.2 or so", "4.5.1", "l4t 6.2"])
def test_other_jetpacks_are_refused(text: str) -> None:
    with raises(BadInput, "TP4070", "4.6"):
        find_jetpack(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((board.name, board.name) for board in BOARDS),
        *((board.title, board.name) for board in BOARDS),
        *((board.title.upper().replace(" ", "_"), board.name) for board in BOARDS),
        *((f"NVIDIA {board.title} Developer Kit", board.name) for board in BOARDS),
        *((f"{board.title} 8GB", board.name) for board in BOARDS),
        ("thor", "agx-thor"),
        ("Jetson T5000", "agx-thor"),
        ("jetson-orin-nano-devkit", "orin-nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "orin-nano"),
        ("orinnano", "orin-nano"),
        ("Orin AGX", "agx-orin"),
        ("Orin NX 16GB", "orin-nx"),
        ("AGX Orin 64 GB", "agx-orin"),
        ("jetson nano 2gb b01", "nano"),
        ("Jetson TX2 NX", "tx2"),
        ("tx2i", "tx2"),
        ("nvidia,p3768-0000+p3767-0005", "orin-nano"),
        ("p3767-0000", "orin-nx"),
        ("P3668", "xavier-nx"),
        ("p3701-0005", "agx-orin"),
    ],
)
def test_names_of_modules(text: str, name: str) -> None:
    assert find_board(text).name == name


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("orin", ["orin-nano", "orin-nx", "agx-orin"]),
        ("Jetson Xavier", ["xavier-nx", "agx-xavier"]),
        ("nx", ["xavier-nx", "orin-nx"]),
        ("p3767", ["orin-nano", "orin-nx"]),
    ],
)
def test_a_name_of_several_boards_lists_them(text: str, names: list[str]) -> None:
    with raises(BadInput, "TP4072") as caught:
        find_board(text)
    assert caught.value.hint == f"give {' or '.join(f'--board {name}' for name in names)}"


@pytest.mark.parametrize(
    ("text", "near"),
    [("nona", "nano"), ("oren-nano", "orin-nano"), ("Xaver NX", "xavier-nx"), ("tx3", "tx2"), ("agx thr", "agx-thor")],
)
def test_an_unknown_module_suggests_the_nearest(text: str, near: str) -> None:
    with raises(BadInput, "TP4071", "nano") as caught:
        find_board(text)
    assert caught.value.hint == f"give --board {near}"


@given(st.text(max_size=30))
@settings(max_examples=30)  # each compares a text with all names
def test_any_text_is_understood_or_refused(text: str) -> None:
    for understand in (find_jetpack, find_board):
        try:
            understand(text)
        except BadInput:
            continue
