"""How fast what runs here is, on the golden photos: measured as in a workspace, with the same benchmark.json."""

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

    Returns what built/benchmark.json holds, in the shape of a workspace's. The baseline is TensorFlow there; here it is
    what there is: ONNX Runtime's FP32, or the widest engine. "baseline" names it. With `compare`, an older
    benchmark.json, what changed since is in it, under "compared".

    Raises MissingArtefact where nothing can be measured, BadInput for an older benchmark beside another baseline, and
    Interrupted on Ctrl-C, after writing what was measured until then.
    """
    before = read_benchmark(compare) if compare is not None else None
    with bundle.writing():
        artefacts = _artefacts(bundle)
        baseline = open_runner(artefacts[0]).name
        if before is not None and before.baseline != baseline:
            raise BadInput(
                f"{compare} was measured beside {before.baseline}, and here is {baseline}",
                hint="compare with a benchmark of this device: built/benchmark.json",
                code="TP7001",
            )
        if len(artefacts) == 1:
            log.warning("%s is all that can be measured here: there is nothing to compare it with", baseline)
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
            artefacts={each.path.name: sha256_of_file(each.path) for each in artefacts},
            before=before,
        )


def _artefacts(bundle: Bundle) -> list[OnnxModel | Engine]:
    """What can be measured, the baseline first: an ONNX file, then engines from the widest precision on."""
    found: list[OnnxModel | Engine] = []
    widest = [precision for precision in Precision if precision in bundle.manifest.order]
    if installed(_ONNXRUNTIME):
        found.append(bundle.onnx(widest[0]))
    current = {sha256_of_file(bundle.onnx(precision).path) for precision in widest}
    built = [load_engine(path) for path in sorted(bundle.built.glob("*.engine")) if card_of(path).is_file()]
    found += in_order(engine for engine in built if engine.card.onnx_sha256 in current)
    if not found:
        raise MissingArtefact(
            f"{bundle.folder} has no engine yet", hint=f"build it: {quote(bundle.folder / 'build')}", code="TP7002"
        )
    return found
