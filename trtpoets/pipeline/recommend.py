"""Recommends which runner, precision and batch size of a run to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import ENGINES
from trtpoets.pipeline.report_documents import report_documents
from trtpoets.pipeline.result_status import require_current
from trtpoets.reporting.document import report_from_documents
from trtpoets.reporting.near_misses import require_recommended
from trtpoets.reporting.recommendation import Limits, Recommendation, recommendation_from_report

if TYPE_CHECKING:
    from collections.abc import Sequence


def recommend(
    name: str,
    *,
    max_drop: float | None = None,
    max_p99: float | None = None,
    batches: Sequence[int] = (),
    engines: Path | str = ENGINES,
) -> Recommendation:
    """Return which runner, precision and batch size to deploy, from the measurements in engines/<name>/.

    `max_drop` is in percentage points of accuracy, `max_p99` in ms, `batches` are the sizes to choose from. If no
    runner meets the limits, `chosen` is None, and `require_fit` raises GateFailed. Raises MissingArtefact if a
    measurement is missing or is not up to date with the files of the run.
    """
    limits = Limits(max_drop, max_p99, tuple(batches))
    space = Workspace(Path(engines), name)
    require_current(space)
    return recommendation_from_report(report_from_documents(report_documents(space)), limits)


def require_fit(name: str, recommendation: Recommendation, engines: Path | str = ENGINES) -> None:
    """Raise GateFailed if no runner meets the limits, MissingArtefact if there are too few measurements to decide."""
    require_recommended(recommendation, name, Path(engines))
