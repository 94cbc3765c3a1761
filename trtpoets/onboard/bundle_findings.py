"""Checks a device for a bundle: the doctor's findings, and those that depend on the bundle."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.onnx_metadata import read_header
from trtpoets.core.optional import installed
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Flavour
from trtpoets.device.capability import opset_ceiling, version_of
from trtpoets.device.doctor import Diagnosis
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.system import System
from trtpoets.device.jetson.jetpack import JetPack
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.resources import require_room

OLDEST = {"numpy": (1, 17), "pillow": (8, 0)}
"""Oldest supported versions: numpy's random generators and Pillow's `formats` argument are needed."""

_PARTS = ("Python", "system", "Jetson", "power", "NVIDIA GPU", "CUDA", "TensorRT", "pycuda")
"""The doctor's findings that are relevant for running engines."""

REQUIRED = ("NVIDIA GPU", "TensorRT", "pycuda", *OLDEST)
"""Findings that are required for building and running engines; the build itself checks memory, disk and opset."""

TOOLS = "sudo apt install -y build-essential python3-dev python3-venv nvidia-jetpack"


def findings_of(bundle: Bundle, diagnosis: Diagnosis) -> tuple[Finding, ...]:
    """The findings that are relevant for this bundle on this machine, in the order of their dependencies."""
    pack = diagnosis.system.jetson.jetpack if diagnosis.system.jetson else None
    parts = {part.what: part for part in diagnosis.parts}
    return (
        *(parts[what] for what in _PARTS if what in parts),
        *_packages(),
        *_jetpack(bundle, pack),
        _operators(bundle, diagnosis),
        _room(bundle),
    )


def lacking(findings: tuple[Finding, ...]) -> list[Finding]:
    """The required findings that are missing."""
    return [
        finding for finding in findings if finding.what in REQUIRED and finding.state in (State.MISSING, State.IDLE)
    ]


def compiler_problem(system: System) -> str:
    """The missing tools that are needed to compile pycuda, as text; empty if all are available."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    tools = {
        "g++": shutil.which("g++"),
        "Python's headers": header.is_file(),
        "nvcc": system.nvcc or shutil.which("nvcc"),
        "ensurepip": importlib.util.find_spec("ensurepip"),
    }
    return ", ".join(tool for tool, available in tools.items() if not available)


def _packages() -> Iterator[Finding]:
    versions = installed(OLDEST)
    for package, oldest in OLDEST.items():
        wanted = "{}.{}".format(*oldest)
        if package not in versions:
            yield Finding(package, State.MISSING, "not installed", "everything", f"pip install '{package}>={wanted}'")
        elif version_of(versions[package]) < oldest:
            problem = f"{versions[package]}, but {wanted} or later is needed"
            yield Finding(package, State.MISSING, problem, "everything", f"pip install '{package}>={wanted}'")
        else:
            yield Finding(package, State.READY, versions[package], "everything")


def _jetpack(bundle: Bundle, here: JetPack | None) -> Iterator[Finding]:
    """Yield a finding if the bundle was made for another JetPack, which may still work: see the other findings."""
    wanted = bundle.manifest.jetpack
    if wanted and here is not None and here.version != wanted:
        problem = f"this bundle was made for JetPack {wanted}, but JetPack {here.version} is installed"
        again = command("bundle", bundle.manifest.name, "--for", "jetson", "--jetpack", here.version)
        yield Finding("JetPack", State.DOUBTFUL, problem, "the right operators", f"make one for it: {again}")


def _operators(bundle: Bundle, diagnosis: Diagnosis) -> Finding:
    """Whether the installed TensorRT supports the opset of the ONNX files."""
    what, serves = "operators", "building engines"
    opset = max(read_header(model.path).opset for model in bundle.onnx_models())
    version = diagnosis.software.tensorrt.version
    ceiling = opset_ceiling(Flavour.TENSORRT, version) if version else None
    if ceiling is not None and opset > ceiling:
        problem = f"ONNX opset {opset}, but TensorRT {version} supports up to {ceiling}"
        again = command("export", bundle.manifest.name, "--opset", min(ceiling, 17), "--force")
        return Finding(what, State.MISSING, problem, serves, f"on the PC: {again}, quantize, and bundle again")
    return Finding(what, State.READY, f"ONNX opset {opset}", serves)


def _room(bundle: Bundle) -> Finding:
    try:
        for model in bundle.onnx_models():
            require_room(model, bundle.built)
    except TrtPoetsError as error:
        return Finding("room", State.DOUBTFUL, error.message, "building engines", error.hint)
    return Finding("room", State.READY, "disk and memory suffice", "building engines")
