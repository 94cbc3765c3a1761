"""Evaluations in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtpoets.core.errors import BadArtefact
from trtpoets.judge.bench.benchmark_file import benchmark_from_card
from trtpoets.judge.evaluation_file import evaluations_from_json


@pytest.mark.parametrize("read", [evaluations_from_json, benchmark_from_card])
def test_the_hint_for_a_damaged_result_names_its_run_in_its_folder(read: Callable[[Any, Path], Any]) -> None:
    verb = "evaluate flowers --force" if read is evaluations_from_json else "bench flowers"
    damaged = {"evaluations": 3, "measurements": 3}
    for folder, option in (("my runs", " --engines 'my runs'"), ("engines", "")):
        with pytest.raises(BadArtefact) as caught:
            read(damaged, Path(folder, "flowers", "result.json"))
        assert caught.value.hint == f"measure again: trtpoets {verb}{option}"
