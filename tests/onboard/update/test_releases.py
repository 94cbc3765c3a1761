"""Releases on a device."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.onboard.update.test_update_command import QUICK
from tests.support.signed_bundles import sealed, signed_bundle
from trtpoets.onboard.update.releases import Releases
from trtpoets.onboard.update.update_command import update


def test_a_release_is_named_after_the_manifest_that_lies_in_it(tmp_path: Path) -> None:
    """A release whose files and manifest were both changed is not accepted under its name."""
    root = tmp_path / "device"
    bundle = signed_bundle(tmp_path / "new", "new")
    update(bundle, root, QUICK)
    release = root / "releases" / Releases(root).current
    (release / "word").write_text("evil")
    shutil.rmtree(release / "built")
    sealed(release)
    with Releases(root).writing():
        Releases(root).add(bundle)
    assert (release / "word").read_text() == "new"
