"""Opens the runners of a run's artefacts; what cannot run on this machine is skipped with its reason."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from trtpoets.core.authenticity import require_trusted
from trtpoets.core.errors import MissingDependency, RunFailed
from trtpoets.core.types import Classifier, Engine, OnnxModel, Skipped, TfliteModel
from trtpoets.core.workspace import Workspace
from trtpoets.device.runners import Runnable, Way, open_runner
from trtpoets.device.runners.ort import gpu_providers
from trtpoets.pipeline.lineage import stale_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtpoets.device.runners.base import Runner

_log = logging.getLogger(__name__)


def require_trusted_classifier(artefacts: Sequence[Runnable]) -> None:
    """Raise BadArtefact where the classifier, which TensorFlow would open, is not known to be this user's."""
    for each in artefacts:
        if isinstance(each, Classifier):
            require_trusted(each.folder, each.foreign)


def with_stale(space: Workspace, skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Return `skipped` and the files of the run that were not made from the classifier as it is now."""
    return (*skipped, *(stale.skipped for stale in stale_in(space)))


def shippable_ways(artefact: Runnable) -> tuple[Way, ...]:
    """The plain way to run an artefact, and for an ONNX file those that drive a GPU here."""
    more = gpu_providers() if isinstance(artefact, OnnxModel) else []
    return (Way.PLAIN, *(Way(provider) for provider in more))


def entered_runner(artefact: Runnable, way: Way, stack: ExitStack) -> Runner | Skipped:
    """The artefact's runner, entered in `stack`; or why it, needing a GPU or TFLite, can't be entered here."""
    runner = open_runner(artefact, way=way)
    try:
        return stack.enter_context(runner)
    except (MissingDependency, RunFailed) as error:
        if isinstance(artefact, Engine):
            return Skipped(f"running {artefact.card.flavour.value} engines", error.message)
        if way is not Way.PLAIN or isinstance(artefact, TfliteModel):
            return Skipped(f"running {runner.name}", error.message)
        raise
