"""A small Jetson bundle, and a way to run its programs on the fake device (`board.py`) in this Python or Python 3.8."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.board import site
from tests.support.tiny import tiny_onnx, tiny_photos, tiny_spec
from trtpoets.bundles.bundle_inputs import BundleInputs
from trtpoets.bundles.jetson_bundle import jetson_files
from trtpoets.core.manifest import write_manifest
from trtpoets.core.types import Precision
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.golden import GoldenPhoto, _bmp, golden_from_runners

ORDER = (Precision.INT8, Precision.FP16, Precision.FP32)


@functools.cache
def python_3_8() -> str | None:
    """A Python 3.8 with numpy and Pillow: $TRTPOETS_PYTHON38, or python3.8 on PATH. None if there is none."""
    result = os.environ.get("TRTPOETS_PYTHON38") or shutil.which("python3.8")
    if result is None:
        return None
    asked = subprocess.run(
        [result, "-c", "import sys, numpy, PIL; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result if asked.stdout.strip() == "(3, 8)" else None


def _pythons() -> list[Any]:
    """Python 3.8, which devices have, and this Python in the slow tests; only this Python if there is no 3.8."""
    this, older = pytest.param(sys.executable, id="this"), python_3_8()
    if older is None:
        reason = "needs a Python 3.8 with numpy and Pillow: $TRTPOETS_PYTHON38, or python3.8 on PATH"
        return [this, pytest.param("", id="3.8", marks=pytest.mark.skip(reason))]
    return [pytest.param(older, id="3.8"), pytest.param(sys.executable, id="this", marks=pytest.mark.slow)]


PYTHONS = _pythons()


def paper_bundle(folder: Path, order: Sequence[Precision] = ORDER, name: str = "tiny", seed: int = 0) -> Path:
    """A bundle of the tiny network, made by the product's functions. Its golden scores are those of the fake GPU."""
    import hashlib

    spec = tiny_spec()
    result = folder.parent / f".{folder.name}-onnx"
    models = tuple(tiny_onnx(result / f"{precision.value}.onnx", precision) for precision in order)
    photos = []
    for number, pixels in enumerate(tiny_photos(4, seed)):
        digest = hashlib.sha256(_bmp(pixels)).hexdigest()
        photos.append(GoldenPhoto(f"{number:03}.bmp", spec.labels[number % 3], digest, "0" * 64, pixels))
    golden = golden_from_runners(photos, {precision: FakeRunner(spec) for precision in Precision})
    parts = BundleInputs(spec, models, (), golden, tuple(order), "0" * 64, "0.1.0")
    folder.mkdir(parents=True)
    jetson_files(parts, folder)
    write_manifest(folder, name=name, target="jetson", version="0.1.0", model="0" * 64, order=order)
    return folder


class Board:
    """Runs the programs of bundles with a Python and the fake GPU."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.python = python
        self._path = site(folder / "site")
        self.environment = {"PAPER_BOARD": "{}"}

    def behave(self, **behaviours: str) -> None:
        """Set how builds of precisions behave: see `board.py`."""
        self.environment["PAPER_BOARD"] = json.dumps(behaviours)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a program."""
        path = Path(self.python).parent
        return {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": self._path, **self.environment}

    def use(self, venv: Path) -> None:
        """Create a folder that is accepted as an environment of this Python."""
        python = venv / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/sh\nexec {self.python} "$@"\n')
        python.chmod(0o755)

    def run(self, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of a bundle; returns its result with stdout and stderr as text."""
        if not (bundle / "built" / "venv").exists():
            self.use(bundle / "built" / "venv")
        return subprocess.run(
            [bundle / words[0], *words[1:]],
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def as_json(result: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that a program wrote to stdout; fails with its stderr if it is not JSON."""
    try:
        return json.loads(result.stdout)
    except ValueError:
        raise AssertionError(result.stdout + result.stderr) from None
