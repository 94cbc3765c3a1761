"""Signatures of files with OpenSSH, and files of allowed signers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, BadInput, MissingDependency
from trtpoets.core.signatures import sign_file, verify_file, write_signers

needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHf0Rk1TlqoqHM3aH4PqYVm0EPbAjQXWkY2bLw4mYH1T me@pc"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "bundle_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@needs_ssh
def test_a_signed_file_is_accepted_and_a_changed_one_is_not(key: Path, tmp_path: Path) -> None:
    file, signers = tmp_path / "manifest.json", tmp_path / "signers"
    file.write_text("{}")
    write_signers(key.with_suffix(".pub"), signers)
    with raises(BadArtefact, "TP1076"):
        verify_file(file, signers)
    assert sign_file(file, key) == tmp_path / "manifest.json.sig"
    verify_file(file, signers)
    file.write_text("{ }")
    with raises(BadArtefact, "TP1077"):
        verify_file(file, signers)


@needs_ssh
def test_a_key_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("a")
    with raises(BadInput, "TP1074"):
        sign_file(file, tmp_path / "absent")
    with raises(BadInput, "TP1075"):
        sign_file(file, file)


def test_public_keys_become_allowed_signers(tmp_path: Path) -> None:
    source, out = tmp_path / "k.pub", tmp_path / "signers"
    source.write_text(f"# ours\n\n{PUBLIC}\n")
    write_signers(source, out)
    kind, text = PUBLIC.split()[:2]
    assert out.read_text() == f'trtpoets namespaces="trtpoets" {kind} {text}\n'
    assert out.stat().st_mode & 0o777 == 0o644
    write_signers(out, tmp_path / "again")
    assert (tmp_path / "again").read_text() == out.read_text()


@pytest.mark.parametrize(
    ("text", "code", "value"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "TP1079", ""),
        ("# nothing\n", "TP1080", ""),
        ("other ssh-ed25519 AAAA", "TP1081", "'other ssh-ed25519 AAAA'"),
        ("hello", "TP1081", "'hello'"),
    ],
)
def test_other_files_are_not_keys(tmp_path: Path, text: str, code: str, value: str) -> None:
    (tmp_path / "k").write_text(text)
    with raises(BadInput, code, value or tmp_path / "k") as caught:
        write_signers(tmp_path / "k", tmp_path / "out")
    assert caught.value.hint and not (tmp_path / "out").exists()


def test_signers_that_others_may_write_are_refused(tmp_path: Path) -> None:
    signers = tmp_path / "signers"
    signers.write_text("x")
    signers.chmod(0o666)
    with raises(BadArtefact, "TP1082") as caught:
        verify_file(tmp_path / "a", signers)
    assert caught.value.hint == f"chmod 644 {signers}"


def test_without_ssh_keygen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises(MissingDependency, "TP1083"):
        sign_file(tmp_path / "a", tmp_path / "a")
