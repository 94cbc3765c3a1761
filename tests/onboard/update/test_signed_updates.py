"""Signed bundles, devices that require signatures, older bundles, and archives with their sha256."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import trtpoets
from tests.onboard.update.test_update_command import QUICK, fleet, word
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.signed_bundles import packed, sealed, signed_bundle
from trtpoets.core.errors import BadArtefact, BadInput, MissingDependency
from trtpoets.core.files import sha256_of_file
from trtpoets.core.manifest import MANIFEST, SIGNATURE, check_manifest, read_manifest
from trtpoets.core.signatures import sign_file, verify_file, write_signers
from trtpoets.core.types import Precision
from trtpoets.onboard.install import set_signers
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.update.incoming import incoming
from trtpoets.onboard.update.update_command import Options, update

needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


# Signatures


@needs_ssh_keygen
def test_a_device_with_a_key_accepts_only_bundles_signed_with_it(root: Path, tmp_path: Path, keys: Path) -> None:
    result = update(signed_bundle(tmp_path / "old", "old", keys / "ours"), root, QUICK)
    assert result.changed and word(root) == "old" and (root / "current" / SIGNATURE).is_file()
    (tmp_path / "ran").unlink()
    unsigned = signed_bundle(tmp_path / "unsigned", "unsigned")
    foreign = signed_bundle(tmp_path / "foreign", "foreign", keys / "theirs")
    # A signed bundle whose files and manifest were changed, with the signature of the original manifest.
    changed = signed_bundle(tmp_path / "changed", "changed", keys / "ours")
    signature = (changed.folder / SIGNATURE).read_bytes()
    (changed.folder / "word").write_text("evil")
    changed = sealed(changed.folder)
    (changed.folder / SIGNATURE).write_bytes(signature)
    for code, bundle in (("TP1076", unsigned), ("TP1077", foreign), ("TP1077", changed)):
        with raises(BadArtefact, code, bundle.folder):
            update(bundle, root, QUICK)
    assert word(root) == "old"
    assert not (tmp_path / "ran").exists(), "a program of a bundle that was refused was run"
    assert [path.name for path in (root / "releases").iterdir()] == [result.current]


@needs_ssh_keygen
def test_a_signature_for_another_purpose_is_refused(tmp_path: Path, keys: Path) -> None:
    (tmp_path / "file").write_text("text")
    write_signers(keys / "ours.pub", tmp_path / "signers")
    command: list[str | Path] = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", keys / "ours", tmp_path / "file"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    with raises(BadArtefact, "TP1077"):
        verify_file(tmp_path / "file", tmp_path / "signers")
    (tmp_path / "file.sig").unlink()
    sign_file(tmp_path / "file", keys / "ours")
    verify_file(tmp_path / "file", tmp_path / "signers")


@needs_ssh_keygen
def test_signers(tmp_path: Path, keys: Path) -> None:
    write_signers(keys / "ours.pub", tmp_path / "signers")
    text = (tmp_path / "signers").read_text()
    assert text.startswith('trtpoets namespaces="trtpoets" ssh-ed25519 AAAA') and "ours@pc" not in text
    (tmp_path / "two").write_text("# whose\n\n" + text + (keys / "theirs.pub").read_text())
    write_signers(tmp_path / "two", tmp_path / "signers")
    assert len((tmp_path / "signers").read_text().splitlines()) == 2
    (tmp_path / "signers").chmod(0o666)
    with raises(BadArtefact, "TP1082"):
        verify_file(tmp_path / "two", tmp_path / "signers")
    (tmp_path / "bad").write_text("")
    with raises(BadInput, "TP1080", tmp_path / "bad"):
        write_signers(tmp_path / "bad", tmp_path / "signers")
    (tmp_path / "bad").write_text("somebody ssh-ed25519 AAAA")
    with raises(BadInput, "TP1081", "'somebody ssh-ed25519 AAAA'"):
        write_signers(tmp_path / "bad", tmp_path / "signers")
    with raises(BadInput, "TP1079"):
        write_signers(keys / "ours", tmp_path / "signers")
    with raises(BadInput, "TP1078"):
        write_signers(tmp_path / "none", tmp_path / "signers")
    with raises(BadInput, "TP7018"):
        set_signers(keys / "ours.pub", None, dry_run=False)
    with raises(BadInput, "TP1075"):
        sign_file(tmp_path / "two", tmp_path / "bad")
    with raises(BadInput, "TP1074"):
        sign_file(tmp_path / "two", tmp_path / "none")


def test_where_there_is_no_ssh_keygen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "allowed_signers").write_text("x")
    bundle = signed_bundle(tmp_path / "new", "new")
    (bundle.folder / SIGNATURE).write_text("x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises(MissingDependency, "TP1083"):
        update(bundle, tmp_path / "device", QUICK)


@needs_ssh_keygen
def test_bundle_signs(tmp_path: Path, keys: Path) -> None:
    space = bundle_run(tmp_path)
    first = trtpoets.bundle("tiny", "jetson", engines=space.engines, sign=keys / "ours")
    write_signers(keys / "ours.pub", tmp_path / "signers")
    verify_file(first.folder / MANIFEST, tmp_path / "signers")
    check_manifest(first.folder)
    again = trtpoets.bundle("tiny", "jetson", engines=space.engines, sign=keys / "ours")
    assert again.archive_sha256 == first.archive_sha256
    with incoming(first.archive, first.archive_sha256.upper()) as bundle:
        verify_file(bundle.folder / MANIFEST, tmp_path / "signers")
    # A changed bundle is newer than all before it, whatever the clock says; an unchanged one keeps its time.
    ledger = json.loads((space.folder / "bundled.json").read_text())
    (space.folder / "bundled.json").write_text(json.dumps(dict.fromkeys(ledger, 1 << 33) | {"0" * 64: 1 << 34}))
    less = trtpoets.bundle("tiny", "jetson", engines=space.engines, precisions=[Precision.FP32], force=True)
    assert less.manifest.created == (1 << 34) + 1
    assert trtpoets.bundle("tiny", "jetson", engines=space.engines, force=True).manifest.created == 1 << 33


# Older bundles


def test_an_older_bundle_needs_an_option(tmp_path: Path) -> None:
    root = tmp_path / "device"
    update(signed_bundle(tmp_path / "new", "new", created=2000), root, QUICK)
    for name, created in (("old", 1999), ("ancient", 0)):
        with raises(BadInput, "TP7049", "on 1970-01-01 at 00:33:20 UTC") as caught:
            update(signed_bundle(tmp_path / name, name, created=created), root, QUICK)
        assert "--allow-downgrade" in caught.value.hint
    assert word(root) == "new" and (tmp_path / "ran").read_text().split() == ["new"] * 3
    update(signed_bundle(tmp_path / "again", "again", created=2000), root, QUICK)
    assert word(root) == "again"
    update(Bundle(tmp_path / "old", read_manifest(tmp_path / "old"), None), root, Options(downgrade=True))  # type: ignore[arg-type]
    assert word(root) == "old"


@pytest.mark.parametrize("created", [-1, "soon", 1.5, True, 1 << 50])
def test_times_of_nonsense(tmp_path: Path, created: object) -> None:
    folder = signed_bundle(tmp_path / "new", "new", created=5).folder
    value = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**value, "created": created}))
    with raises(BadArtefact, "TP1029"):
        read_manifest(folder)


# Fleets


@needs_ssh_keygen
def test_a_fleet_runs_nothing_that_is_not_signed(root: Path, tmp_path: Path, keys: Path) -> None:
    good = signed_bundle(tmp_path / "it's-good", "good", keys / "ours")
    result = fleet(tmp_path, str(packed(good)), str(root), "one")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "ran").read_text() == "good\n"
    (tmp_path / "ran").unlink()

    def unsigned(bundle: Bundle) -> None:
        (bundle.folder / SIGNATURE).unlink()

    def computed_anew(bundle: Bundle) -> None:
        signature = (bundle.folder / SIGNATURE).read_bytes()
        (bundle.folder / "word").write_text("other")
        sealed(bundle.folder)
        (bundle.folder / SIGNATURE).write_bytes(signature)

    damage: dict[str, Callable[[Bundle], object]] = {
        "is not signed": unsigned,
        "ould not verify signature|incorrect signature": computed_anew,
        "was changed or damaged": lambda bundle: (bundle.folder / "word").write_text("other"),
        "is not in the manifest": lambda bundle: (bundle.folder / "more").write_text("evil"),
        "is missing": lambda bundle: (bundle.folder / "word").unlink(),
        r"python is not in the manifest": lambda bundle: (
            (bundle.folder / "built").mkdir(),
            (bundle.folder / "built" / "python").write_text("evil"),
        ),
    }

    for number, (problem, change) in enumerate(damage.items()):
        bundle = signed_bundle(tmp_path / f"bad{number}", "evil", keys / "ours")
        change(bundle)
        result = fleet(tmp_path, str(packed(bundle)), str(root), "one")
        assert result.returncode == 1 and re.search(problem, result.stderr), result.stderr
    assert not (tmp_path / "ran").exists()


def test_a_fleet_with_a_sha256_and_strange_hosts(tmp_path: Path) -> None:
    archive = packed(signed_bundle(tmp_path / "new", "new"))
    wrong = fleet(tmp_path, "-s", "0" * 64, str(archive), str(tmp_path / "device"), "one")
    assert wrong.returncode == 1 and "was expected" in wrong.stderr and not (tmp_path / "ran").exists()
    right = fleet(tmp_path, "-k", "-s", sha256_of_file(archive), str(archive), str(tmp_path / "device"), "*", "-oX=1")
    assert right.returncode == 0, right.stderr
    assert "== *: updated" in right.stderr and "== -oX=1: updated" in right.stderr
