"""Opens the runners of a run's artefacts; what cannot run on this machine is skipped with its reason."""

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
    """Something that could not be done here, and why."""

    what: str
    why: str


def require_trusted_classifier(artefacts: Sequence[Runnable]) -> None:
    """Raise BadArtefact where the classifier, which TensorFlow would open, is not known to be this user's."""
    for each in artefacts:
        if isinstance(each, Classifier):
            require_trusted(each.folder, each.foreign)


def with_stale(space: Workspace, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """`details` with the files that were left out because they are not of the classifier that is there now."""
    stale = [each.to_dict() for each in stale_in(space)]
    return {**details, "skipped": [*details["skipped"], *stale]} if stale else details


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
