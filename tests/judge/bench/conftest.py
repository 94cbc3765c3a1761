"""What the tests of benchmarks share."""

from pathlib import Path

import pytest

from tests.support.benchmarks import photos_in
from trtpoets.core.types import Photo


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return photos_in(tmp_path)
