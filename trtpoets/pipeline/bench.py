"""Measures the speed of every artefact of a run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.onnx_metadata import fixed_batch
from trtpoets.core.paths import user_path
from trtpoets.core.progress import Progress, silent
from trtpoets.core.runner_id import baseline_of
from trtpoets.core.types import Classifier, Engine, Int8Form, ModelSpec, OnnxModel, Skipped, TfliteModel
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.device.gpu.libcuda import detect
from trtpoets.device.runners import Runnable, Way
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.judge.bench.benchmark import BASELINE, BenchConfig, Benchmark, benchmark_from_artefacts
from trtpoets.judge.bench.benchmark_file import benchmark_from_card, read_benchmark, write_benchmark
from trtpoets.judge.bench.compare import compared
from trtpoets.judge.bench.scenario import BATCHES_TO_TRY
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

    from trtpoets.core.types import Photo


__all__ = ["bench", "require_limits", "require_speed"]


def bench(
    name: str,
    config: BenchConfig | None = None,
    *,
    compare: Path | str | None = None,
    engines: Path | str = ENGINES,
    force: bool = True,
    progress: Progress = silent,
) -> Benchmark:
    """Measure every runner on the test photos, each in a process of its own, with the classifier as the baseline.

    Returns the content of engines/<name>/benchmark.json. Without `force`, an existing benchmark is returned if nothing
    changed. `compare` is the path of an older benchmark.json, with which the result is compared. Raises Interrupted on
    Ctrl-C, after writing the measurements made so far, marked as incomplete.
    """
    config = config or BenchConfig()
    older = read_benchmark(user_path(compare)) if compare is not None else None
    space = Workspace(Path(engines), name)
    with writing(space):
        artefacts = artefacts_in(space)
        config = _for_fixed_batch(config, artefacts)
        photos = photos_to_judge(space)
        hashes = identities(space, artefacts)
        existing = None if force else _existing(space, hashes, photos, config)
        if existing is not None:
            existing = replace(existing, skipped=with_stale(space, existing.skipped))
            return existing if older is None else replace(existing, compared=compared(older, existing))
        require_photos(space, photos)
        require_trusted_classifier(artefacts)
        runnable, skipped = _runnable(space, artefacts, config)
        specs = [artefact.spec for artefact in artefacts if isinstance(artefact, Classifier)]
        for spec in specs:
            _require_possible(spec, config)
        measured = benchmark_from_artefacts(
            runnable,
            photos,
            config,
            progress,
            _ways(runnable, config),
            space.loadgen,
            baseline_of(specs[0]).name if specs else BASELINE,
        )
        # A photo that changed makes a runner fail in its process.
        if measured.failures or not all(row.valid for row in measured.measurements):
            require_photos(space, photos)
        result = write_benchmark(
            space.benchmark,
            measured,
            key=benchmark_key(hashes, photos, config),
            name=name,
            again=bench_command(space, config, compare),
            artefacts=dict(zip(map(_name, artefacts), hashes, strict=True)),
            skipped=tuple(dict.fromkeys(skipped)),
            before=older,
        )
        return replace(result, skipped=with_stale(space, result.skipped))


def _existing(
    space: Workspace, hashes: Sequence[str], photos: Sequence[Photo], config: BenchConfig
) -> Benchmark | None:
    """Return the complete benchmark of these artefacts and photos, or None.

    If `config` allows measuring to end early (`ratio_within`), a benchmark with all rounds is also accepted: it is more
    precise than requested.
    """
    details = open_card(space.benchmark, benchmark_key(hashes, photos, config))
    if details is None and config.ratio_within:
        details = open_card(space.benchmark, benchmark_key(hashes, photos, _all_rounds(config)))
    benchmark = None if details is None else benchmark_from_card(details, space.benchmark)
    return None if benchmark is None or benchmark.incomplete else benchmark


def _for_fixed_batch(config: BenchConfig, artefacts: Sequence[Runnable]) -> BenchConfig:
    """Return `config` with batch sizes that networks with a fixed batch can run: by default, exactly the fixed batch.

    Single-stream and multi-stream keep the number of photos of their queries. Raises BadInput if the requested batch
    sizes are not multiples of the fixed batch.
    """
    sizes = {fixed_batch(artefact.path) for artefact in artefacts if isinstance(artefact, OnnxModel)} - {0}
    scenario = config.scenario
    if not sizes or scenario in (Scenario.SINGLE_STREAM.value, Scenario.MULTI_STREAM.value):
        return config
    size = max(sizes)
    chosen = not config.wall_seconds and config.batches not in (BenchConfig.batches, BATCHES_TO_TRY)
    if not chosen:  # by the user: the sizes of a benchmark with a time limit are those of `run`
        return replace(config, batches=(size,))
    other = [batch for batch in config.batches if batch % size]
    if other:
        raise BadInput(
            f"the network takes batches of exactly {size} photos, and {other[0]} is not a multiple of {size}",
            hint=f"give --batch {size}",
            code="TP8201",
        )
    return config


def _all_rounds(config: BenchConfig) -> BenchConfig:
    """Return `config` without early ends and with at least the default warm-up, as `trtpoets bench` measures."""
    return replace(
        config,
        ratio_within=BenchConfig.ratio_within,
        wall_seconds=BenchConfig.wall_seconds,
        warmup_seconds=max(config.warmup_seconds, BenchConfig.warmup_seconds),
        min_count=max(config.min_count, BenchConfig.min_count),
    )


def _ways(artefacts: Sequence[Runnable], config: BenchConfig) -> dict[int, tuple[Way, ...]]:
    """Return the ways to run each artefact, by its index: those that can be shipped, and those to compare with."""
    requested = {Way.CPU: config.cpu, Way.XLA: config.xla, Way.KERAS: config.keras}
    compared_ways = tuple(way for way, wanted in requested.items() if wanted)
    return {
        index: (*shippable_ways(artefact), *(compared_ways if isinstance(artefact, Classifier) else ()))
        for index, artefact in enumerate(artefacts)
    }


def _require_possible(spec: ModelSpec, config: BenchConfig) -> None:
    """Raise BadInput for ways to run the classifier that its original does not have."""
    original = spec.original
    if original is None:
        return
    impossible = {"--keras": config.keras}
    if not original.format.is_tensorflow:
        impossible |= {"--xla": config.xla, "--cpu": config.cpu}
    option = next((name for name, requested in impossible.items() if requested), None)
    if option is not None:
        raise BadInput(
            f"{option} needs a classifier that trtpoets trained, and {spec.name} was adopted from {original.file}",
            hint=f"leave {option} out",
            code="TP8048",
        )


def _name(artefact: Runnable) -> str:
    return (artefact.folder if isinstance(artefact, Classifier) else artefact.path).name


def _runnable(
    space: Workspace, artefacts: Sequence[Runnable], config: BenchConfig
) -> tuple[list[Runnable], list[Skipped]]:
    """Return the artefacts to measure on this machine, and those that are skipped, with reasons.

    Engines and TFLite files are skipped if they cannot run here, and int8.onnx is skipped without a GPU
    (`_int8_on_cpu`).
    """
    runnable: list[Runnable] = []
    skipped: list[Skipped] = []
    for artefact in artefacts:
        if isinstance(artefact, OnnxModel) and artefact.has_pairs and not config.qdq_on_cpu and not detect().gpus:
            skipped.append(_int8_on_cpu(space, artefacts))
            continue
        with ExitStack() as stack:
            entered = (
                entered_runner(artefact, Way.PLAIN, stack) if isinstance(artefact, (Engine, TfliteModel)) else None
            )
        if isinstance(entered, Skipped):
            skipped.append(entered)
        else:
            runnable.append(artefact)
    return runnable, skipped


def _int8_on_cpu(space: Workspace, artefacts: Sequence[Runnable]) -> Skipped:
    """Return why int8.onnx is not measured on a machine without a GPU, and what to do instead."""
    forms = [artefact.form for artefact in artefacts if isinstance(artefact, OnnxModel)]
    instead = (
        "int8.cpu.onnx is INT8 for CPUs and is measured"
        if Int8Form.CPU in forms
        else f"INT8 for CPUs is int8.cpu.onnx: {space.command('quantize', '--cpu-form')}"
    )
    return Skipped(
        "measuring onnxruntime-int8",
        "on a CPU, ONNX Runtime computes the Q/DQ pairs of int8.onnx, which TensorRT fuses with the layers, so that "
        f"its time is not that of INT8; {instead}. To measure it anyway: "
        f"{space.command('bench', '--qdq-on-cpu')}",
    )
