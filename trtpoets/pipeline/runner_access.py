"""Opens runners for the artefacts of a run. Artefacts that cannot run on this machine are skipped with a reason."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.types import Classifier, Engine, OnnxModel, TfliteModel
from trtpoets.core.workspace import Workspace
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.device.runners.ort import gpu_providers
from trtpoets.pipeline.lineage import stale_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtpoets.device.runners.base import Runner

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skipped:
    """Work that could not be done on this machine, and why."""

    what: str
    why: str


def require_trusted_classifier(artefacts: Sequence[Runnable]) -> None:
    """Raise BadArtefact if the classifier, which TensorFlow would load, may have been created by someone else."""
    for artefact in artefacts:
        if isinstance(artefact, Classifier):
            require_trusted(artefact.folder, artefact.foreign)


def with_stale(space: Workspace, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `details` with the stale files of the run added to "skipped"."""
    stale = [file.to_dict() for file in stale_in(space)]
    return {**details, "skipped": [*details["skipped"], *stale]} if stale else details


def shippable_ways(artefact: Runnable) -> tuple[Way, ...]:
    """Return the ways to run an artefact: the default one, and for an ONNX file the GPU providers available here."""
    providers = gpu_providers() if isinstance(artefact, OnnxModel) else []
    return (Way.PLAIN, *(Way(provider) for provider in providers))


def entered_runner(artefact: Runnable, way: Way, stack: ExitStack) -> Runner | Skipped:
    """Return the artefact's runner, entered in `stack`; Skipped if it needs a GPU or TFLite and that is missing."""
    runner = open_runner(artefact, way=way)
    try:
        return stack.enter_context(runner)
    except (MissingDependency, RunFailed) as error:
        if isinstance(artefact, Engine):
            return Skipped(f"running {artefact.card.flavour.value} engines", error.message)
        if way is not Way.PLAIN or isinstance(artefact, TfliteModel):
            return Skipped(f"running {runner.name}", error.message)
        raise
