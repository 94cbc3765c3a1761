"""Names of photos."""

from __future__ import annotations

from typing import Any


def names(items: Any) -> list[str]:
    return [item.path.name if hasattr(item, "path") else item.photo.name for item in items]
