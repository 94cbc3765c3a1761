"""Recommends which runner, precision and batch size of a run to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import ENGINES
from trtpoets.pipeline.report_documents import report_documents
from trtpoets.pipeline.result_status import (
    require_current,
)
from trtpoets.reporting.document import report_from_documents
from trtpoets.reporting.near_misses import require_recommended
from trtpoets.reporting.recommendation import Limits, recommendation_from_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def recommend(
    name: str,
    *,
    max_drop: float | None = None,
    max_p99: float | None = None,
    batches: Sequence[int] = (),
    engines: Path | str = ENGINES,
) -> Mapping[str, Any]:
    """Which runner, precision and batch size to ship, of what was evaluated and benched in engines/<name>/.

    `max_drop` is in percentage points of accuracy, `max_p99` in ms, `batches` are the sizes to choose from. Returns
    what `recommendation_from_report` gives; where nothing fits its "chosen" is None, and `require_fit` raises. Raises
    MissingArtefact where a measurement is missing, or of other files than those that are there now.
    """
    limits = Limits(max_drop, max_p99, tuple(batches))
    space = Workspace(Path(engines), name)
    require_current(space)
    return recommendation_from_report(report_from_documents(report_documents(space)), limits)


def require_fit(name: str, found: Mapping[str, Any], engines: Path | str = ENGINES) -> None:
    """Raise GateFailed when what `recommend` returned has nothing that fits, MissingArtefact when it can't tell."""
    require_recommended(found, name, Path(engines))
