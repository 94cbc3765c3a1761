"""What the tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.photos import photo_folder
from tests.support.report_documents import LABELS
from trtpoets.core.files import sha256_of_file
from trtpoets.core.types import Photo, Split


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Photo]:
    folder = photo_folder(tmp_path, dict.fromkeys(LABELS, 10))
    result = [Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))]
    return {str(photo.path): photo for photo in result}
