"""Measures the speed of every artefact of a run."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import baseline_of
from trtpoets.core.types import Classifier, Engine, Skipped, TfliteModel
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.device.runners import Runnable, Way
from trtpoets.judge.bench.benchmark import BenchConfig, Benchmark, benchmark_from_artefacts
from trtpoets.judge.bench.benchmark_file import benchmark_from_card, read_benchmark, write_benchmark
from trtpoets.judge.bench.compare import compared
from trtpoets.judge.bench.speed_gate import require_limits, require_speed
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.photos import require_photos
from trtpoets.pipeline.recorded_commands import bench_command
from trtpoets.pipeline.result_status import (
    artefacts_in,
    benchmark_key,
    identities,
    photos_to_judge,
)
from trtpoets.pipeline.runner_access import (
    entered_runner,
    require_trusted_classifier,
    shippable_ways,
    with_stale,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["bench", "require_limits", "require_speed"]

_log = logging.getLogger(__name__)


def bench(
    name: str,
    config: BenchConfig | None = None,
    *,
    compare: Path | str | None = None,
    engines: Path | str = ENGINES,
    force: bool = True,
    progress: Progress = silent,
) -> Benchmark:
    """Measure every runner on the test photos, each in a process of its own, the classifier as the baseline.

    Returns the content of engines/<name>/benchmark.json. Measures anew unless `force` is False and nothing changed.
    With `compare`, an older benchmark.json, its `compared` is what changed since.
    Raises Interrupted on Ctrl-C, after writing what was measured until then, marked incomplete.
    """
    config = config or BenchConfig()
    before = read_benchmark(user_path(compare)) if compare is not None else None
    space = Workspace(Path(engines), name)
    with writing(space):
        artefacts = artefacts_in(space)
        photos = photos_to_judge(space)
        contents = identities(space, artefacts)
        key = benchmark_key(contents, photos, config)
        details = None if force else open_card(space.benchmark, key)
        known = None if details is None else benchmark_from_card(details, space.benchmark)
        if known is not None and not known.incomplete:
            known = replace(known, skipped=with_stale(space, known.skipped))
            return known if before is None else replace(known, compared=compared(before, known))
        require_photos(space, photos)
        require_trusted_classifier(artefacts)
        able, skipped = _able(artefacts)
        classifier = artefacts[0]
        assert isinstance(classifier, Classifier)
        _require_possible(classifier, config)
        measured = benchmark_from_artefacts(
            able, photos, config, progress, _ways(able, config), space.loadgen, baseline_of(classifier.spec).name
        )
        # Each runner has a process of its own, and a photo that changed is its failure there.
        if measured.failures or not all(row.valid for row in measured.measurements):
            require_photos(space, photos)
        result = write_benchmark(
            space.benchmark,
            measured,
            key=key,
            name=name,
            again=bench_command(space, config, compare),
            artefacts=dict(zip(map(_name, artefacts), contents, strict=True)),
            skipped=tuple(dict.fromkeys(skipped)),
            before=before,
        )
        return replace(result, skipped=with_stale(space, result.skipped))


def _ways(artefacts: Sequence[Runnable], config: BenchConfig) -> dict[int, tuple[Way, ...]]:
    """The ways to run each artefact, by its place: those that can be shipped, and those asked for to compare with."""
    asked = {Way.CPU: config.cpu, Way.XLA: config.xla, Way.KERAS: config.keras}
    beside = tuple(way for way, wanted in asked.items() if wanted)
    return {
        place: (*shippable_ways(artefact), *(beside if isinstance(artefact, Classifier) else ()))
        for place, artefact in enumerate(artefacts)
    }


def _require_possible(classifier: Classifier, config: BenchConfig) -> None:
    """Raise BadInput for ways to run the classifier that its original does not have."""
    original = classifier.spec.original
    if original is None:
        return
    asked = {"--keras": config.keras}
    if not original.format.is_tensorflow:
        asked |= {"--xla": config.xla, "--cpu": config.cpu}
    option = next((name for name, wanted in asked.items() if wanted), None)
    if option is not None:
        raise BadInput(
            f"{option} needs a classifier that trtpoets trained, and {classifier.spec.name} was adopted from "
            f"{original.file}",
            hint=f"leave {option} out",
            code="TP9506",
        )


def _name(artefact: Runnable) -> str:
    return (artefact.folder if isinstance(artefact, Classifier) else artefact.path).name


def _able(artefacts: Sequence[Runnable]) -> tuple[list[Runnable], list[Skipped]]:
    """Leave out the engines and TFLite files that can't be entered here, with their reasons."""
    able: list[Runnable] = []
    skipped: list[Skipped] = []
    for artefact in artefacts:
        with ExitStack() as stack:
            found = entered_runner(artefact, Way.PLAIN, stack) if isinstance(artefact, (Engine, TfliteModel)) else None
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            able.append(artefact)
    return able, skipped
