"""Results of a bundle's commands as lines of text."""

from __future__ import annotations

from pathlib import Path

from trtpoets.device.doctor.findings import Finding, State
from trtpoets.onboard.classify.classify_command import Count
from trtpoets.onboard.install import Installation
from trtpoets.onboard.result_lines import count_line, finding_lines, install_lines, update_lines
from trtpoets.onboard.update.update_command import Updated

READY = Finding("numpy", State.READY, "1.26", "everything", "pip install numpy")
MISSING = Finding("pycuda", State.MISSING, "not installed", "engines", "pip install pycuda")


def test_only_problems_have_their_hint() -> None:
    assert list(finding_lines([READY, MISSING])) == [
        "ready     numpy: 1.26",
        "missing   pycuda: not installed",
        "          try: pip install pycuda",
    ]


def test_commands_of_an_installation() -> None:
    done = Installation((READY,), ("pip install pycuda",), Path("venv"), ())
    assert list(install_lines(done, dry_run=False))[1:] == ["done      pip install pycuda", "ready: ./build"]
    assert list(install_lines(done, dry_run=True))[1:] == ["to run    pip install pycuda"]
    lacking = Installation((READY,), ("pip install pycuda",), Path("venv"), ("TensorRT",))
    assert list(install_lines(lacking, dry_run=False))[1:] == ["to run    pip install pycuda"]


def test_counts_of_photos() -> None:
    assert count_line(Count(1234)) == "1,234 classified\n"
    full = count_line(Count(5, 3, 2))
    assert full.startswith("5 classified, 3 ") and full.endswith(", 2 frames dropped\n")


def test_releases() -> None:
    assert list(update_lines(Updated("b", "a", True, ("x",)))) == ["current: b", "before: a", "deleted: x"]
    assert list(update_lines(Updated("b", "", False))) == ["current: b (as before)", "before: nothing"]
