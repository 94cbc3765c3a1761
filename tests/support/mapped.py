"""Arrays that are mapped from a file, however small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trtpoets.train import row_file
from trtpoets.train.row_file import empty_rows, is_mapped


def mapped_copy(rows: np.ndarray, folder: Path) -> np.ndarray:
    """A copy of an array that is mapped from a file, as large arrays are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_file, "IN_MEMORY", -1)
        copy = empty_rows(len(rows), rows.shape[1], rows.dtype.type, folder)
    copy[:] = rows
    assert is_mapped(copy)
    return copy
