"""Writes the report of a run: report.json, report.html and report.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.files import write_json, write_text
from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import ENGINES, dataset_in, has_dataset, writing
from trtpoets.pipeline.report_documents import report_documents
from trtpoets.reporting.document import report_from_documents
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report

if TYPE_CHECKING:
    from collections.abc import Mapping


def report(name: str, *, engines: Path | str = ENGINES) -> Mapping[str, Any]:
    """Write engines/<name>/report.json, report.html and report.md from what the stages left; returns the first."""
    space = Workspace(Path(engines), name)
    with writing(space):
        documents = report_documents(space)
        value = report_from_documents(documents)
        write_json(space.report, value)
        write_text(space.page, page_from_report(value, _sample_photos(space)))
        write_text(space.markdown, markdown_from_report(value))
    return value


def _sample_photos(space: Workspace) -> Mapping[str, Photo]:
    """Test photos by path, for the page's gallery."""
    if not has_dataset(space):
        return {}
    return {str(photo.path): photo for photo in dataset_in(space).in_split(Split.TEST)}
