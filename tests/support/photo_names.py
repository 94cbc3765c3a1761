"""Names of photos."""

from __future__ import annotations

from typing import Any


def names(found: Any) -> list[str]:
    return [item.path.name if hasattr(item, "path") else item.photo.name for item in found]
