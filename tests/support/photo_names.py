"""Names of photos."""

from __future__ import annotations

from typing import Any


def names(found: Any) -> list[str]:
    return [each.path.name if hasattr(each, "path") else each.photo.name for each in found]
