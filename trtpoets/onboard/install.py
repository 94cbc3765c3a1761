"""Setting a device up: what is missing and the line that installs it, and an environment for Python.

TensorRT, CUDA and the rest of JetPack come by apt from the device's own system, and are never installed by pip: the
environment sees the system's packages. What may come by pip is numpy, Pillow and pycuda.
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
"""What pycuda is compiled against runs with no older numpy; Jetsons' own packages are for numpy 1."""

_BY_PIP = ("pycuda", *OLDEST)


@dataclass(frozen=True)
class Installation:
    """What was found, and the commands that were run, or in a dry run would be.

    `lacking` names what is required, not there, and not mended by the commands.
    """

    findings: tuple[Finding, ...]
    commands: tuple[str, ...]
    venv: Path
    lacking: tuple[str, ...]


def install(bundle: Bundle, *, venv: Path | None = None, pip: bool = True, dry_run: bool = False) -> Installation:
    """Check this device, and make the Python environment `venv` (default: built/venv), which sees TensorRT.

    Where something is missing that only apt can bring, nothing is done. Without `pip` nothing is fetched. What is there
    already is left as it is. Raises BadInput inside another environment, RunFailed where a command
    fails, StorageFailed, Busy.
    """
    diagnosis = doctor(training=False)
    venv = Path(os.path.abspath(venv)) if venv else bundle.built / "venv"  # noqa: PTH100 - links stay as they are
    findings = findings_of(bundle, diagnosis)
    missing = lacking(findings)
    wanted = _wanted([each.what for each in missing]) if pip else []
    findings += tuple(_compiler(wanted, diagnosis.system))
    stuck = [each.what for each in findings if each in missing and not (pip and each.what in _BY_PIP)]
    stuck += [each.what for each in findings if each.what == "compiler"]
    commands = _commands(venv, wanted)
    told = tuple(" ".join(map(quote, command)) for command in commands)
    if dry_run or stuck:
        return Installation(findings, told, venv, tuple(stuck))
    if not (venv / "bin" / "python").exists() and sys.prefix != sys.base_prefix:
        raise BadInput(
            f"{sys.executable} is in an environment of its own, whose packages another would not see",
            hint="use the system's Python: deactivate, or PATH=/usr/bin:$PATH ./install",
            code="TP7017",
        )
    with bundle.writing():
        for command in commands:
            fresh = not venv.exists()
            try:
                _run(command, diagnosis.system)
            except (RunFailed, KeyboardInterrupt):
                if fresh:  # half an environment would pass for one the next time
                    remove_folder(venv)
                raise
        _link(bundle, venv)
        _write_launcher(bundle, venv)
    findings, still = _seen_from(venv)
    return Installation(findings, told, venv, still)


def set_signers(keys: Path, root: Path | None, *, dry_run: bool) -> None:
    """From now on the updates of `root` take only bundles that one of these public keys signed.

    Raises BadInput for what holds no public key, or without `root`; StorageFailed.
    """
    if root is None:
        raise BadInput("--signers is of the updates in a folder", hint="add: --root /opt/NAME", code="TP7018")
    if not dry_run:
        write_signers(keys, Releases(root).signers)


def python_outside(bundle: Bundle, venv: Path | None) -> Path | None:
    """The Python to go on with where this one is of the bundle's environment, and `venv` is to be another one.

    That is the other one's where it is made already, else the one that both are made from. None: go on with this one.
    """
    here = Path(sys.prefix).resolve()
    if venv is None or here != (bundle.built / "venv").resolve() or here == venv.resolve():
        return None
    there, base = venv / "bin" / "python", Path(sys.executable).resolve()
    if there.exists():
        return there
    return base if here not in base.parents else None


def require_ready(found: Installation) -> None:
    """Raise MissingDependency where something is lacking, with the line that brings it."""
    if found.lacking:
        first = next(each for each in found.findings if each.what == found.lacking[0])
        raise MissingDependency(
            f"not ready: {', '.join(found.lacking)}; {first.what}: {first.found}",
            hint=first.hint or "trtpoets doctor",
            code="TP7019",
        )


def _wanted(missing: list[str]) -> list[str]:
    """What pip is asked for."""
    wanted = ["{}>={}.{}".format(what, *OLDEST[what]) for what in OLDEST if what in missing]
    if "pycuda" not in missing:
        return wanted
    if version_of(installed(["numpy"]).get("numpy", "")) < _OLDEST_NUMPY:
        wanted = [_NUMPY, *(each for each in wanted if not each.startswith("numpy"))]
    return ["pycuda", *wanted]


def _compiler(wanted: list[str], system: System) -> list[Finding]:
    problem = compiler_problem(system) if "pycuda" in wanted else ""
    return [Finding("compiler", State.MISSING, f"not there: {problem}", "installing pycuda", TOOLS)] if problem else []


def _commands(venv: Path, wanted: list[str]) -> list[list[str]]:
    python = venv / "bin" / "python"
    commands = []
    if not python.exists():
        commands.append([sys.executable, "-m", "venv", "--system-site-packages", str(venv)])
    if wanted:
        commands.append([str(python), "-m", "pip", "install", *wanted])
    return commands


def _run(command: list[str], system: System) -> None:
    """Run a command, its words on stderr. Raises RunFailed."""
    cuda = Path(system.nvcc).parent if system.nvcc else None
    # What pycuda's setup looks for: the compiler on PATH, headers and the driver's stub library beside it.
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
            f"{' '.join(map(quote, command))} ended with code {code}: its last lines are above",
            hint="see whether there is room, df -h, and venv: sudo apt install -y python3-venv"
            if "venv" in command
            else "without a network: install what is missing by hand, then ./install --no-pip",
            code="TP7020",
        )


def _link(bundle: Bundle, venv: Path) -> None:
    """The commands look for their Python in built/venv, wherever it really is."""
    usual = bundle.built / "venv"
    if usual.resolve() != venv.resolve():
        part = bundle.built / f".venv.part-{os.getpid()}"
        with storage_errors(usual):
            part.unlink(missing_ok=True)
            part.symlink_to(venv, target_is_directory=True)
            if usual.is_dir() and not usual.is_symlink():  # the bundle's own, which nothing uses any more
                old = bundle.built / f".venv.part-old-{os.getpid()}"
                usual.replace(old)
                part.replace(usual)
                remove_folder(old)
            else:
                part.replace(usual)


def _write_launcher(bundle: Bundle, venv: Path) -> None:
    """`trtpoets` in the environment runs the bundle's."""
    launcher = venv / "bin" / "trtpoets"
    with atomic_file(launcher) as part:
        part.write_text(f'#!/bin/sh\nexec {shlex.quote(str(bundle.folder / "trtpoets"))} "$@"\n', encoding="utf-8")
    with storage_errors(launcher, "make executable"):
        launcher.chmod(0o755)


def _seen_from(venv: Path) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What the environment's Python finds, and what it lacks."""
    command = [str(venv / "bin" / "python"), "-m", "trtpoets.onboard", "install", "--dry-run", "--no-pip", "--json"]
    runtime = Path(trtpoets.__file__).parents[1]  # where -m looks for packages
    environment = child_environment()
    told = subprocess.run(command, stdout=subprocess.PIPE, env=environment, cwd=runtime, check=False).stdout
    try:
        value = json.loads(told)
        findings = tuple(Finding(**{**each, "state": State(each["state"])}) for each in value["findings"])
        return findings, tuple(value["lacking"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailed(
            f"the Python in {venv} does not answer",
            hint=f"delete it, and ./install again: rm -r {quote(venv)}",
            code="TP7021",
        ) from error
