"""Writes the report of a run: report.json, report.html and report.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.files import write_json, write_text
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import ENGINES, dataset_in, has_dataset, writing
from trtpoets.pipeline.report_documents import report_documents
from trtpoets.reporting.document import report_from_documents
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtpoets.reporting.model import Report


def report(name: str, *, engines: Path | str = ENGINES) -> Report:
    """Write engines/<name>/report.json, report.html and report.md. Returns the content of report.json."""
    space = Workspace(Path(engines), name)
    with writing(space):
        value = report_from_documents(report_documents(space))
        write_json(space.report, to_json(value))
        write_text(space.page, page_from_report(value, _sample_photos(space)))
        write_text(space.markdown, markdown_from_report(value))
    return value


def _sample_photos(space: Workspace) -> Mapping[str, Photo]:
    """Return the test photos by path, for the gallery of the page."""
    if not has_dataset(space):
        return {}
    return {str(photo.path): photo for photo in dataset_in(space).in_split(Split.TEST)}
