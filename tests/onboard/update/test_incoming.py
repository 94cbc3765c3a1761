"""Archives of bundles that arrive on a device."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.onboard.update.test_update_command import QUICK, word
from tests.support.errors import raises
from tests.support.signed_bundles import entry, packed, signed_bundle
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import sha256_of_file
from trtpoets.core.manifest import check_manifest
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.update import incoming as incoming_module
from trtpoets.onboard.update.incoming import incoming
from trtpoets.onboard.update.update_command import update


def test_an_archive_with_its_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        incoming_module, "open_bundle", lambda folder: Bundle(folder, check_manifest(folder), tiny_spec())
    )
    archive, root = packed(signed_bundle(tmp_path / "new", "new")), tmp_path / "device"
    with incoming(archive, sha256_of_file(archive)) as bundle:
        update(bundle, root, QUICK)
    assert not bundle.folder.exists() and word(root) == "new"
    with incoming(tmp_path / "new", None) as bundle:
        assert bundle.folder == tmp_path / "new"
    with raises(BadArtefact, "TP7041", archive, sha256_of_file(archive), "0" * 64), incoming(archive, "0" * 64):
        pass
    with raises(BadInput, "TP7040", "'abc'"), incoming(archive, "abc"):
        pass
    with raises(BadInput, "TP7035"), incoming(tmp_path / "new", "0" * 64):
        pass
    with raises(BadInput, "TP7037"), incoming(tmp_path / "none", None):
        pass
    with raises(BadInput, "TP7036"), incoming(Path("/dev/zero"), None):
        pass
    archive.write_bytes(archive.read_bytes()[:40])
    with raises(BadArtefact, "TP7039"), incoming(archive, None):
        pass


@pytest.mark.parametrize(
    "add",
    [
        entry("../evil"),
        entry("/tmp/evil"),
        entry("b/../../evil"),
        entry("other/file"),
        entry("b/built/venv/bin/python"),
        entry("b/link", tarfile.SYMTYPE, "/etc"),
        entry("b/hard", tarfile.LNKTYPE, "/etc/passwd"),
        entry("b/fifo", tarfile.FIFOTYPE),
        entry("b/sparse", tarfile.GNUTYPE_SPARSE),
        entry("b"),
    ],
)
def test_what_no_archive_of_a_bundle_holds(tmp_path: Path, add: Callable[[tarfile.TarFile], None]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        entry("b/manifest.json")(tar)
        add(tar)
    with raises(BadArtefact, "TP7042"), incoming(tmp_path / "x.tar", None):
        pass
    assert not (tmp_path / "evil").exists()
