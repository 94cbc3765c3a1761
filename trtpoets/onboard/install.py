"""The `install` command: checks a device, and creates the Python environment of the commands.

TensorRT, CUDA and the rest of JetPack are installed by apt and never by pip: the environment uses the system's
packages. Only numpy, Pillow and pycuda may be installed by pip.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import trtpoets
from trtpoets.core.child_environment import child_environment
from trtpoets.core.errors import BadInput, MissingDependency, RunFailed
from trtpoets.core.files import atomic_file, storage_errors
from trtpoets.core.optional import installed
from trtpoets.core.own_files import remove_folder
from trtpoets.core.shell_commands import quote
from trtpoets.core.signatures import write_signers
from trtpoets.device.capability import version_of
from trtpoets.device.doctor import doctor
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.system import System
from trtpoets.onboard.bundle_findings import OLDEST, TOOLS, compiler_problem, findings_of, lacking
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.update.releases import Releases

_NUMPY, _OLDEST_NUMPY = "numpy>=1.24,<2", (1, 24)
"""pycuda needs the numpy version it was compiled with or a later one; the system's packages on Jetsons need numpy 1."""

_BY_PIP = ("pycuda", *OLDEST)


@dataclass(frozen=True)
class Installation:
    """The findings, and the commands that were run (in a dry run: would be run).

    `lacking` names required findings that are missing and that the commands do not install.
    """

    findings: tuple[Finding, ...]
    commands: tuple[str, ...]
    venv: Path
    lacking: tuple[str, ...]


def install(bundle: Bundle, *, venv: Path | None = None, pip: bool = True, dry_run: bool = False) -> Installation:
    """Check this device, and create the Python environment `venv` (default: built/venv) with the system's packages.

    If something is missing that only apt can install, nothing is done. Without `pip` nothing is downloaded. Existing
    files are not changed. Raises BadInput inside another environment, RunFailed if a command fails, StorageFailed,
    Busy.
    """
    diagnosis = doctor(training=False)
    venv = Path(os.path.abspath(venv)) if venv else bundle.built / "venv"  # noqa: PTH100 - links stay as they are
    findings = findings_of(bundle, diagnosis)
    missing = lacking(findings)
    wanted = _wanted([finding.what for finding in missing]) if pip else []
    findings += tuple(_compiler(wanted, diagnosis.system))
    stuck = [finding.what for finding in findings if finding in missing and not (pip and finding.what in _BY_PIP)]
    stuck += [finding.what for finding in findings if finding.what == "compiler"]
    commands = _commands(venv, wanted)
    lines = tuple(" ".join(map(quote, command)) for command in commands)
    if dry_run or stuck:
        return Installation(findings, lines, venv, tuple(stuck))
    if not (venv / "bin" / "python").exists() and sys.prefix != sys.base_prefix:
        raise BadInput(
            f"{sys.executable} is in another virtual environment, whose packages the new one could not use",
            hint="use the system's Python: deactivate, or PATH=/usr/bin:$PATH ./install",
            code="TP7017",
        )
    with bundle.writing():
        for command in commands:
            fresh = not venv.exists()
            try:
                _run(command, diagnosis.system)
            except (RunFailed, KeyboardInterrupt):
                if fresh:  # an incomplete environment would be used the next time
                    remove_folder(venv)
                raise
        _link(bundle, venv)
        _write_launcher(bundle, venv)
    findings, still = _seen_from(venv)
    return Installation(findings, lines, venv, still)


def set_signers(keys: Path, root: Path | None, *, dry_run: bool) -> None:
    """Make the updates of `root` accept only bundles that are signed with one of these public keys.

    Raises BadInput if `keys` contains no public key or `root` is None; StorageFailed.
    """
    if root is None:
        raise BadInput("--signers needs --root, the folder of the releases", hint="add --root /opt/NAME", code="TP7018")
    if not dry_run:
        write_signers(keys, Releases(root).signers)


def python_outside(bundle: Bundle, venv: Path | None) -> Path | None:
    """The Python to continue with if this one belongs to the bundle's environment and `venv` is another one.

    It is that of `venv` if it exists, else the base Python. None: continue with this one.
    """
    here = Path(sys.prefix).resolve()
    if venv is None or here != (bundle.built / "venv").resolve() or here == venv.resolve():
        return None
    other, base = venv / "bin" / "python", Path(sys.executable).resolve()
    if other.exists():
        return other
    return base if here not in base.parents else None


def require_ready(installation: Installation) -> None:
    """Raise MissingDependency, with the command that installs it, if something is missing."""
    if installation.lacking:
        first = next(finding for finding in installation.findings if finding.what == installation.lacking[0])
        raise MissingDependency(
            f"not ready: {', '.join(installation.lacking)}; {first.what}: {first.found}",
            hint=first.hint or "trtpoets doctor",
            code="TP7019",
        )


def _wanted(missing: list[str]) -> list[str]:
    """The packages that pip installs."""
    wanted = ["{}>={}.{}".format(what, *OLDEST[what]) for what in OLDEST if what in missing]
    if "pycuda" not in missing:
        return wanted
    if version_of(installed(["numpy"]).get("numpy", "")) < _OLDEST_NUMPY:
        wanted = [_NUMPY, *(package for package in wanted if not package.startswith("numpy"))]
    return ["pycuda", *wanted]


def _compiler(wanted: list[str], system: System) -> list[Finding]:
    problem = compiler_problem(system) if "pycuda" in wanted else ""
    return [Finding("compiler", State.MISSING, f"missing: {problem}", "installing pycuda", TOOLS)] if problem else []


def _commands(venv: Path, wanted: list[str]) -> list[list[str]]:
    python = venv / "bin" / "python"
    commands = []
    if not python.exists():
        commands.append([sys.executable, "-m", "venv", "--system-site-packages", str(venv)])
    if wanted:
        commands.append([str(python), "-m", "pip", "install", *wanted])
    return commands


def _run(command: list[str], system: System) -> None:
    """Run a command with its output on stderr. Raises RunFailed."""
    cuda = Path(system.nvcc).parent if system.nvcc else None
    # pycuda's setup needs the compiler on PATH, the headers and the driver's stub library.
    more: Mapping[str, str] = {
        "PATH": f"{cuda}/bin:{os.environ.get('PATH', '')}",
        "CPATH": f"{cuda}/include",
        "LIBRARY_PATH": f"{cuda}/lib64:{cuda}/lib64/stubs",
    }
    environment = child_environment(more if cuda else None)
    environment.pop("PYTHONPATH", None)
    code = subprocess.run(command, stdout=sys.stderr.fileno(), env=environment, check=False).returncode
    if code:
        raise RunFailed(
            f"{' '.join(map(quote, command))} failed with code {code}: see its output above",
            hint="check the free space (df -h) and install venv: sudo apt install -y python3-venv"
            if "venv" in command
            else "without a network: install the missing packages by hand, then ./install --no-pip",
            code="TP7020",
        )


def _link(bundle: Bundle, venv: Path) -> None:
    """Make built/venv, where the commands look for Python, a link to `venv`."""
    usual = bundle.built / "venv"
    if usual.resolve() != venv.resolve():
        part = bundle.built / f".venv.part-{os.getpid()}"
        with storage_errors(usual):
            part.unlink(missing_ok=True)
            part.symlink_to(venv, target_is_directory=True)
            if usual.is_dir() and not usual.is_symlink():  # the bundle's own environment, which is replaced
                old = bundle.built / f".venv.part-old-{os.getpid()}"
                usual.replace(old)
                part.replace(usual)
                remove_folder(old)
            else:
                part.replace(usual)


def _write_launcher(bundle: Bundle, venv: Path) -> None:
    """Write a program `trtpoets` in the environment that runs the bundle's."""
    launcher = venv / "bin" / "trtpoets"
    with atomic_file(launcher) as part:
        part.write_text(f'#!/bin/sh\nexec {shlex.quote(str(bundle.folder / "trtpoets"))} "$@"\n', encoding="utf-8")
    with storage_errors(launcher, "make executable"):
        launcher.chmod(0o755)


def _seen_from(venv: Path) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings of the environment's Python, and the names of the missing ones."""
    command = [str(venv / "bin" / "python"), "-m", "trtpoets.onboard", "install", "--dry-run", "--no-pip", "--json"]
    runtime = Path(trtpoets.__file__).parents[1]  # where -m looks for packages
    environment = child_environment()
    output = subprocess.run(command, stdout=subprocess.PIPE, env=environment, cwd=runtime, check=False).stdout
    try:
        value = json.loads(output)
        findings = tuple(Finding(**{**row, "state": State(row["state"])}) for row in value["findings"])
        return findings, tuple(value["lacking"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailed(
            f"the Python in {venv} does not work",
            hint=f"delete it and run ./install again: rm -r {quote(venv)}",
            code="TP7021",
        ) from error
