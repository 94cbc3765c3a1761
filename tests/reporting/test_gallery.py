"""Photos on the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.pages import read
from tests.support.report_documents import documents, report_of
from trtpoets.core.files import sha256_of_file
from trtpoets.core.types import Photo
from trtpoets.reporting import gallery
from trtpoets.reporting.html import page_from_report


def test_pictures_show_photos_of_this_run_only(photos: dict[str, Photo], tmp_path: Path) -> None:
    content = documents(photos=list(photos.values()))
    stranger = tmp_path / "private.jpg"
    Image.new("RGB", (32, 32)).save(stranger)
    evaluation = content["evaluation"]["evaluations"][0]
    evaluation["mistakes"] = [{**answer, "path": str(stranger)} for answer in evaluation["mistakes"]]
    next(iter(photos.values())).path.unlink()
    reader = read(content, photos)
    assert "private.jpg" in reader.text
    # Three changed answers and twelve right ones, one of which is gone; no mistake.
    assert len(reader.all("img")) == 3 + 12 - 1


def test_pictures_are_bounded(photos: dict[str, Photo], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 900, 3), dtype=np.uint8)
    for photo in photos.values():
        Image.fromarray(noise).save(photo.path, quality=95)
    photos = {path: replace(photo, sha256=sha256_of_file(photo.path)) for path, photo in photos.items()}
    page = page_from_report(report_of(documents(photos=list(photos.values()))), photos)
    assert page.count("data:image") > 12
    assert len(page) < 700_000
    monkeypatch.setattr(gallery, "_BUDGET", 60_000)
    page = page_from_report(report_of(documents(photos=list(photos.values()))), photos)
    assert 1 <= page.count("data:image") < 12
    assert "0001.jpg" in page
