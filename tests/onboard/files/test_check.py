"""The check of a bundle before any of its programs runs: with Python alone."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from pathlib import Path

import pytest

import trtpoets.onboard

SCRIPT = Path(str(trtpoets.onboard.__file__)).parent / "files" / "check.py"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "golden").mkdir(parents=True)
    files = {"labels.txt": b"ant\n", "golden/0.bmp": b"BM"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": sums}))
    return folder


def checked(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The error of the program; empty if there is none."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(bundle)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as ended:
        return str(ended.code).replace(str(bundle), "")
    return ""


def test_an_intact_bundle_is_accepted(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(bundle, monkeypatch) == ""
    (bundle / "manifest.json.sig").write_text("a signature is compared by its own program")
    assert checked(bundle, monkeypatch) == ""


def test_each_difference_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "extra.py").touch()
    assert checked(bundle, monkeypatch) == "Error: /extra.py is not in the manifest"
    (bundle / "extra.py").unlink()
    (bundle / "golden" / "0.bmp").write_bytes(b"MB")
    assert checked(bundle, monkeypatch) == "Error: /golden/0.bmp was changed or damaged"
    (bundle / "golden" / "0.bmp").unlink()
    assert checked(bundle, monkeypatch) == "Error: /golden/0.bmp is missing"


def test_links_are_not_followed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "labels.txt").rename(bundle.parent / "labels.txt")
    (bundle / "labels.txt").symlink_to(bundle.parent / "labels.txt")
    assert checked(bundle, monkeypatch) == "Error: /labels.txt is not in the manifest"


@pytest.mark.parametrize("text", ["", "[]", '{"files": []}', "{}"])
def test_other_files_are_no_manifest(bundle: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    assert "is not a manifest" in checked(bundle, monkeypatch)
