"""The Jetson that a bundle is for."""

from __future__ import annotations

import pytest

from trtpoets.core.errors import BadInput
from trtpoets.core.types import Precision
from trtpoets.device.jetson.jetpack import JETPACKS
from trtpoets.pipeline.jetson_files import JetsonTarget, jetson_named, system_of


def test_nothing_is_known_without_names() -> None:
    jetson = jetson_named("", "")
    assert jetson == JetsonTarget(None, None)
    assert (jetson.chips, jetson.runs_trtpoets, jetson.useless(Precision.INT8)) == ((), True, "")
    assert system_of(jetson).jetpack == ""


@pytest.mark.parametrize("jetpack", JETPACKS, ids=lambda jetpack: jetpack.version)
def test_the_system_is_that_of_the_jetpack(jetpack: object) -> None:
    from trtpoets.device.jetson.jetpack import JetPack

    assert isinstance(jetpack, JetPack)
    jetson = JetsonTarget(jetpack, None)
    system = system_of(jetson)
    assert (system.jetpack, system.tensorrt, system.python) == (jetpack.version, jetpack.tensorrt, jetpack.python)
    assert len(jetson.chips) == len(jetpack.chips)
    assert bool(jetson.cache_for) == (int(jetpack.tensorrt.split(".")[0]) <= 10)
    assert not system.dla, "no board is known"


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(BadInput):
        jetson_named("99", "")
    with pytest.raises(BadInput):
        jetson_named("", "no such board")
