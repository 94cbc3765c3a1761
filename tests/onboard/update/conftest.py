"""Keys, and a device that accepts only bundles that were signed with one of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trtpoets.onboard.install import set_signers


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two keys, "ours" and "theirs"."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@pc", "-f", folder / name], check=True
        )
    return folder


@pytest.fixture
def root(tmp_path: Path, keys: Path) -> Path:
    """A device that accepts only bundles that were signed with "ours"."""
    set_signers(keys / "ours.pub", tmp_path / "device", dry_run=False)
    return tmp_path / "device"
