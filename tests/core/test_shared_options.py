"""Options that the command line and the programs of a bundle have in common."""

from __future__ import annotations

from typing import Any

from trtpoets.core import shared_options
from trtpoets.core.shared_options import BATCH_RANGE, OPTIMIZATION_LEVEL, SharedOption
from trtpoets.core.types import BatchRange

OPTIONS: dict[str, SharedOption[Any]] = {
    name: option for name, option in vars(shared_options).items() if isinstance(option, SharedOption)
}


def test_options_are_spelled_and_described_alike() -> None:
    assert len(OPTIONS) > 10
    for name, option in OPTIONS.items():
        assert option.flag.startswith("--") and option.flag == option.flag.lower(), name
        assert option.help.endswith("."), name
        assert option.help[0].isupper(), name


def test_defaults_are_within_their_limits() -> None:
    checked = 0
    for name, option in OPTIONS.items():
        if option.default is not None and option.least is not None:
            assert option.default >= option.least, name
            checked += 1
    assert checked >= 3
    assert (OPTIMIZATION_LEVEL.least, OPTIMIZATION_LEVEL.most) == (0, 5)


def test_the_help_names_the_default_batch_range_of_engines() -> None:
    default = BatchRange()
    assert f"default: {default.minimum}:{default.optimum}:{default.maximum}," in BATCH_RANGE.help
