"""The `bench` command: measures the runners of this device on the golden photos and writes built/benchmark.json."""

from __future__ import annotations

import logging
from pathlib import Path

from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.optional import installed
from trtpoets.core.progress import Progress, silent
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import Engine, OnnxModel, Precision
from trtpoets.core.workspace import card_of
from trtpoets.device.build.engine import in_order, load_engine
from trtpoets.device.runners import open_runner
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.benchmark import Benchmark, benchmark_from_artefacts
from trtpoets.judge.bench.benchmark_file import read_benchmark, write_benchmark
from trtpoets.onboard.installed_bundle import Bundle

log = logging.getLogger(__name__)

_ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu")


def bench(
    bundle: Bundle, config: BenchConfig, *, compare: Path | None = None, progress: Progress = silent
) -> Benchmark:
    """Measure the engines that were built here on the golden photos, and ONNX Runtime where it is installed.

    Returns the content of built/benchmark.json, which has the same structure as that of a run. Instead of TensorFlow,
    the baseline is ONNX Runtime in FP32, or else the engine of the widest precision; "baseline" names it. With
    `compare`, an older benchmark.json, the changes are under "compared".

    Raises MissingArtefact if nothing can be measured, BadInput if the older benchmark has another baseline, and
    Interrupted on Ctrl-C, after writing the results so far.
    """
    before = read_benchmark(compare) if compare is not None else None
    with bundle.writing():
        artefacts = _artefacts(bundle)
        baseline = open_runner(artefacts[0]).name
        if before is not None and before.baseline != baseline:
            raise BadInput(
                f"{compare} has the baseline {before.baseline}, but the baseline here is {baseline}",
                hint="compare with a benchmark of this device: built/benchmark.json",
                code="TP7001",
            )
        if len(artefacts) == 1:
            log.warning("only %s can be measured on this device: there is nothing to compare it with", baseline)
        photos, logs = bundle.golden_files(), bundle.built / "loadgen"
        measured = benchmark_from_artefacts(
            artefacts, photos, config, progress, logs=logs, baseline=baseline, prepared=True
        )
        return write_benchmark(
            bundle.benchmark,
            measured,
            key=bundle.identity,
            name=bundle.spec.name,
            again="./bench",
            artefacts={artefact.path.name: sha256_of_file(artefact.path) for artefact in artefacts},
            before=before,
        )


def _artefacts(bundle: Bundle) -> list[OnnxModel | Engine]:
    """The artefacts to measure, the baseline first: an ONNX file, then the engines from the widest precision on."""
    artefacts: list[OnnxModel | Engine] = []
    widest = [precision for precision in Precision if precision in bundle.manifest.order]
    if installed(_ONNXRUNTIME):
        artefacts.append(bundle.onnx(widest[0]))
    current = {sha256_of_file(bundle.onnx(precision).path) for precision in widest}
    built = [load_engine(path) for path in sorted(bundle.built.glob("*.engine")) if card_of(path).is_file()]
    artefacts += in_order(engine for engine in built if engine.card.onnx_sha256 in current)
    if not artefacts:
        raise MissingArtefact(
            f"{bundle.folder} has no engine yet", hint=f"build it: {quote(bundle.folder / 'build')}", code="TP7002"
        )
    return artefacts
