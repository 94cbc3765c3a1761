"""Signs files and verifies signatures with OpenSSH: `ssh-keygen -Y sign` and, on the device, `ssh-keygen -Y verify`.

A signature covers one file and the namespace "trtpoets", so a signature made for another purpose is not valid.
"""

from __future__ import annotations

import re
import stat
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Iterator, Sequence

from trtpoets.core.errors import BadArtefact, BadInput, MissingDependency
from trtpoets.core.files import write_text
from trtpoets.core.reading import open_regular, read_text
from trtpoets.core.shell_commands import quote

NAMESPACE = "trtpoets"

SIGNER = "trtpoets"
"""The principal of every key in the file of allowed signers."""

SUFFIX = ".sig"
"""Suffix that ssh-keygen appends to the name of a signed file."""

_KEY_TYPE = re.compile(r"(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)\S+$")
_VERIFY_SECONDS = 60.0
_SIGN_HINT = "sign it on the machine that makes it: trtpoets bundle NAME --for jetson --sign FILE"


def sign_file(path: Path, key: Path) -> Path:
    """Sign a file with a private SSH key; returns the path of the signature, `<path>.sig`.

    ssh-keygen asks for the passphrase of the key, if it has one. Raises BadInput for an invalid key, MissingDependency.
    """
    if not key.is_file():
        raise BadInput(f"there is no key {key}", hint="create one: ssh-keygen -t ed25519 -f bundle_key", code="TP1074")
    command = ["-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(path)]
    done = _ssh_keygen(command, stdin=None, seconds=None)
    signature = path.with_name(path.name + SUFFIX)
    if done.returncode or not signature.is_file():
        raise BadInput(
            f"ssh-keygen can't sign with {key}: {_reason(done)}",
            hint="give a private key of SSH",
            code="TP1075",
        )
    return signature


def verify_file(path: Path, signers: Path) -> None:
    """Raise BadArtefact unless `<path>.sig` is a signature of the file with a key of the allowed signers.

    Raises MissingDependency if there is no ssh-keygen.
    """
    _require_protected(signers)
    signature = path.with_name(path.name + SUFFIX)
    if not signature.is_file() or signature.is_symlink():
        raise BadArtefact(
            f"{path.parent} is not signed, but this device accepts only bundles signed with a key in {signers}",
            hint=_SIGN_HINT,
            code="TP1076",
        )
    command = ["-Y", "verify", "-n", NAMESPACE, "-I", SIGNER, "-f", str(signers), "-s", str(signature)]
    done = _ssh_keygen(command, stdin=path, seconds=_VERIFY_SECONDS)
    if done.returncode:
        raise BadArtefact(
            f"the signature of {path} is not from a key in {signers}, or the file was changed: {_reason(done)}",
            hint=_SIGN_HINT,
            code="TP1077",
        )


def write_signers(source: Path, out: Path) -> None:
    """Write a file of allowed signers from a file of public keys (*.pub), or from another file of allowed signers.

    Raises BadInput if the source is neither, StorageFailed.
    """
    try:
        text = read_text(source)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{source} can't be read as public keys: {error}", hint="give the *.pub file of the key", code="TP1078"
        ) from error
    if "PRIVATE KEY" in text:
        public = source.with_name(f"{source.name}.pub")
        raise BadInput(f"{source} is a private key, not a public key", hint=f"give {quote(public)}", code="TP1079")
    lines = list(_signer_lines(text.splitlines()))
    if not lines:
        raise BadInput(
            f"{source} contains no public key", hint="give the *.pub file of the key that signs bundles", code="TP1080"
        )
    write_text(out, "\n".join(lines) + "\n")
    out.chmod(0o644)


def _signer_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a file of allowed signers for these lines of public keys or signers. Raises BadInput."""
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if _KEY_TYPE.match(words[0]) and len(words) > 1:
            yield f'{SIGNER} namespaces="{NAMESPACE}" {words[0]} {words[1]}'
        elif SIGNER in words[0].split(",") and any(map(_KEY_TYPE.match, words[1:])):
            yield line.strip()
        else:
            raise BadInput(
                f"{line[:60]!r} is neither a public key nor an entry for the principal {SIGNER}",
                hint="give the *.pub file of the key that signs bundles",
                code="TP1081",
            )


def _require_protected(signers: Path) -> None:
    """Raise BadArtefact if other users can change this file, which lists whose code the device runs."""
    status = signers.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
        raise BadArtefact(
            f"{signers} is not a regular file, or other users may write to it",
            hint=f"chmod 644 {quote(signers)}",
            code="TP1082",
        )


def _ssh_keygen(
    arguments: Sequence[str], stdin: Path | None, seconds: float | None
) -> subprocess.CompletedProcess[str]:
    """Run ssh-keygen, with the file `stdin` as its input. Raises MissingDependency; BadArtefact after `seconds`."""
    try:
        with nullcontext() if stdin is None else open_regular(stdin) as content:
            return subprocess.run(
                ["ssh-keygen", *arguments],  # noqa: S607 - found by PATH
                stdin=subprocess.DEVNULL if content is None else content,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=seconds,
            )
    except FileNotFoundError as error:
        raise MissingDependency(
            "signatures need ssh-keygen, which is missing",
            hint="sudo apt install -y openssh-client",
            code="TP1083",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BadArtefact("ssh-keygen did not answer", hint="run the command again", code="TP1084") from error


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why ssh-keygen failed: the last line of its output, because warnings come first."""

    lines = (done.stderr + done.stdout).strip().splitlines()
    if any("unknown option" in line or "Unsupported operation" in line for line in lines):
        return "this ssh-keygen is older than OpenSSH 8.1"
    return lines[-1] if lines else f"ssh-keygen ended with code {done.returncode}"
