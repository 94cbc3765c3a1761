"""Opens runners for the artefacts of a run. Artefacts that cannot run on this machine are skipped with a reason."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from trtpoets.convert.int8.integer_reference import integer_reference
from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.onnx_file import check_onnx
from trtpoets.core.types import Classifier, Engine, Int8Form, OnnxModel, Skipped, TfliteModel
from trtpoets.core.workspace import Workspace
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.device.runners.ort import OnnxRuntimeRunner, gpu_providers
from trtpoets.pipeline.lineage import stale_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.device.runners.base import Runner


def require_trusted_classifier(artefacts: Sequence[Runnable]) -> None:
    """Raise BadArtefact if the classifier, which TensorFlow would load, may have been created by someone else."""
    for artefact in artefacts:
        if isinstance(artefact, Classifier):
            require_trusted(artefact.folder, artefact.foreign)


def with_stale(space: Workspace, skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Return `skipped` and the files of the run that were not made from the classifier as it is now."""
    return (*skipped, *(stale.skipped for stale in stale_in(space)))


def shippable_ways(artefact: Runnable) -> tuple[Way, ...]:
    """Return the ways to run an artefact: the default one, and for an ONNX file the GPU providers available here.

    The CPU form of INT8 has no other: GPU providers fuse TensorRT's form.
    """
    on_gpu = isinstance(artefact, OnnxModel) and artefact.form is Int8Form.TENSORRT
    providers = gpu_providers() if on_gpu else []
    return (Way.PLAIN, *(Way(provider) for provider in providers))


def judged_runner(artefact: Runnable, way: Way = Way.PLAIN) -> Runner:
    """Return the runner that judges an artefact, not entered yet.

    ONNX Runtime on the CPU runs int8.onnx in integers, as TensorRT does: its Q/DQ graph is slow, and its answers depend
    on the session. The runner's name and identity are those of the file.
    """
    if isinstance(artefact, OnnxModel) and artefact.has_pairs and way is Way.PLAIN:
        reference = integer_reference(check_onnx(artefact.path))
        return OnnxRuntimeRunner(artefact, content=reference.SerializeToString())
    return open_runner(artefact, way=way)


def entered_runner(artefact: Runnable, way: Way, stack: ExitStack) -> Runner | Skipped:
    """Return the artefact's runner, entered in `stack`; Skipped if it needs a GPU or TFLite and that is missing."""
    runner = judged_runner(artefact, way)
    try:
        return stack.enter_context(runner)
    except (MissingDependency, RunFailed) as error:
        if isinstance(artefact, Engine):
            return Skipped(f"running {artefact.card.flavour.value} engines", error.message)
        if way is not Way.PLAIN or isinstance(artefact, TfliteModel):
            return Skipped(f"running {runner.name}", error.message)
        raise
