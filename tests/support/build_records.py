"""The record of the build in a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def record_of(bundle: Path) -> Any:
    return json.loads((bundle / "built" / "build.json").read_text())
