"""Writes the files of a Jetson bundle, with which the device builds, checks and runs the network.

If JetPack's TensorRT is too old for the trtpoets runtime, the bundle contains files and commands for `trtexec` instead.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.bundles.bundle_inputs import CACHE, write_shared
from trtpoets.bundles.pack import root_of
from trtpoets.bundles.trtexec_options import numbers_of, type_options
from trtpoets.bundles.vendored_runtime import copy_file, copy_template, filled, package_folder, write_runtime
from trtpoets.core.files import write_text
from trtpoets.core.formatting import joined, many, shown
from trtpoets.core.manifest import Target
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import FULL_WHITE, Precision, Resize

if TYPE_CHECKING:
    from pathlib import Path

    from trtpoets.bundles.bundle_inputs import BundleInputs

_RUNTIME = ("core", "device", "judge", "onboard")
"""The subpackages of trtpoets that run on a device."""

_COMMANDS = {
    "install": "Sets this device up: lists what is missing, and creates a Python environment in built/venv.",
    "build": "Builds the engine for this device, and checks it with the golden photos.",
    "selftest": "Runs the golden photos through the engine: exit code 0 if the scores are as expected.",
    "classify": "Classifies photos, folders, videos or a camera; prints one line of JSON per photo or frame.",
    "bench": "Measures the speed of the engine on this device.",
    "trtpoets": "Runs any of these commands by name, for use in scripts: ./trtpoets build",
}

_PACKAGES = "nvidia-jetpack python3-libnvinfer python3-venv python3-dev build-essential"
"""The Ubuntu and JetPack packages that the runtime needs."""

_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""The path of trtexec in JetPack."""

_TOP = 3
"""Number of scores of the golden photo in the README."""


@dataclass(frozen=True)
class TargetSystem:
    """The Jetson that a bundle is for. Versions and the board's title are "" if they are unknown.

    `runs_trtpoets` is whether its TensorRT is new enough for the runtime, `cache_for` the TensorRT version of the
    calibration cache, `dla` whether the board has a DLA that its TensorRT supports.
    """

    jetpack: str = ""
    ubuntu: str = ""
    python: str = ""
    cuda: str = ""
    tensorrt: str = ""
    board: str = ""
    runs_trtpoets: bool = True
    cache_for: str = ""
    dla: bool = False


def jetson_files(
    inputs: BundleInputs, folder: Path, system: TargetSystem = TargetSystem(), notes: tuple[str, ...] = ()
) -> None:
    """Write all files except the manifest into an empty folder. `notes` are warnings for the README.

    Raises StorageFailed.
    """
    write_shared(inputs, folder)
    if system.runs_trtpoets:
        write_runtime(folder / "runtime" / "trtpoets", inputs.version, _RUNTIME)
        copy_template("jetson/start.py", folder / "runtime")
        _write_commands(folder)
        (folder / "update").mkdir()
        for source in sorted((package_folder() / "onboard" / "files").iterdir()):
            if source.is_file():  # skip __pycache__, which pip creates
                copy_file(source, folder / "update")
        write_text(folder / "README.md", _readme(inputs, system, notes))
    else:
        first = inputs.golden.photos[0]
        first.pixels[None].astype(np.float32).tofile(folder / "golden" / "000.f32")
        write_text(folder / "README.md", _trtexec_readme(inputs, system, notes))


def next_on_a_jetson(name: str, archive: Path, system: TargetSystem) -> tuple[str, ...]:
    """Return the next commands: copy the archive to the device, and set it up there."""
    unpacked = quote(root_of(name, Target.JETSON))
    run = (
        f"cd {unpacked} && ./install && ./build && ./selftest" if system.runs_trtpoets else f"less {unpacked}/README.md"
    )
    on_device = f"tar -xf {quote(archive.name)} && {run}"
    return f"scp {quote(archive)} USER@JETSON:", f"ssh -t USER@JETSON {quote(on_device)}"


def _write_commands(folder: Path) -> None:
    for command, about in _COMMANDS.items():
        argument = "" if command == "trtpoets" else f"{command} "
        path = folder / command
        write_text(path, filled("jetson/command.sh", about=about, command=argument))
        path.chmod(path.stat().st_mode | 0o111)


def _readme(inputs: BundleInputs, system: TargetSystem, notes: tuple[str, ...]) -> str:
    accelerator = (
        "\nTo use the DLA instead of the GPU (FP16, one batch size): `./build --dla 0 --precision fp16 --batch 1`\n"
        if system.dla and Precision.FP16 in inputs.order
        else ""
    )
    return filled(
        "jetson/README.md",
        **_common(inputs, system, notes),
        order=joined([precision.value for precision in inputs.order]),
        packages=_PACKAGES,
        root=shlex.quote(f"/opt/{inputs.spec.name}"),
        accelerator=accelerator,
        trtexec="\n".join(_trtexec(inputs, system)),
    )


def _trtexec_readme(inputs: BundleInputs, system: TargetSystem, notes: tuple[str, ...]) -> str:
    preprocess = inputs.spec.preprocess
    check = [
        f"{_TRTEXEC} --loadEngine=built/{precision.value}.engine --shapes={inputs.shape(1)} "
        "--loadInputs=photos:golden/000.f32 --dumpOutput"
        for precision in inputs.order
    ]
    best = np.argsort(-inputs.golden.expected[inputs.order[0].value].scores[0], kind="stable")[:_TOP]
    expected = []
    for precision in inputs.order:
        golden = inputs.golden.expected[precision.value]
        scores = " | ".join(f"{golden.scores[0][index]:.4f}" for index in best)
        expected.append(f"| {precision.value} | {scores} | {golden.tolerance:g} |")
    resize = (
        f"Photos are cropped to the centre: the largest box of that shape, times {preprocess.crop_fraction:g} of its "
        "side."
        if preprocess.resize is Resize.CROP
        else "Photos are turned upright, then stretched to that size, bilinear with antialiasing."
    )
    if preprocess.white != FULL_WHITE:
        resize += f" In 16-bit photos the value {preprocess.white} becomes 255."
    return filled(
        "jetson/trtexec.md",
        **_common(inputs, system, notes),
        trtexec="\n".join(_trtexec(inputs, system)),
        check="\n".join(check),
        columns=" | ".join(_cell(inputs.spec.labels[index]) for index in best),
        dashes="---|" * len(best),
        expected="\n".join(expected),
        resize=resize,
        height=preprocess.height,
        width=preprocess.width,
        count=len(inputs.spec.labels),
    )


def _common(inputs: BundleInputs, system: TargetSystem, notes: tuple[str, ...]) -> dict[str, str]:
    spec, preprocess = inputs.spec, inputs.spec.preprocess
    rows = [f"| `{item.value}.onnx` | the network in {item.value.upper()} |" for item in inputs.order]
    if inputs.calibration_cache is not None:
        rows.append(
            f"| `{CACHE}` | ranges for `trtexec --int8 --calib` with `fp32.onnx`, TensorRT {system.cache_for} |"
        )
    rows.append("| `model.json`, `labels.txt` | preprocessing and labels of the network |")
    folder = root_of(spec.name, Target.JETSON)
    return {
        "name": _cell(spec.name),
        "archive": shlex.quote(f"{folder}.tar"),
        "folder": shlex.quote(folder),
        "network": (
            f"{spec.backbone}, {many(len(spec.labels), 'label')}, photos of {preprocess.height} × {preprocess.width}; "
            f"created by trtpoets {inputs.version}."
        ),
        "system": _system_text(system),
        "notes": "".join(f"\n> {note}\n" for note in notes),
        "files": "\n".join(rows),
    }


def _system_text(system: TargetSystem) -> str:
    board = f" on a {system.board}" if system.board else ""
    if not system.jetpack:
        return f"JetPack 5.1 or later (TensorRT 8.5 or later){board}"
    versions = f"Ubuntu {system.ubuntu}, Python {system.python}, CUDA {system.cuda}, TensorRT {system.tensorrt}"
    return f"JetPack {system.jetpack} ({versions}){board}"


def _trtexec(inputs: BundleInputs, system: TargetSystem) -> list[str]:
    """Return the build command of each precision; for TensorRT 8 and for 10 if the version is unknown."""
    if system.tensorrt:
        return [_build(inputs, precision, system.tensorrt) for precision in inputs.order]
    lines = ["# JetPack 5.1 to 6.0 (TensorRT 8.5 and 8.6)"]
    lines += [_build(inputs, precision, "8.5") for precision in inputs.order]
    lines += ["# JetPack 6.1 to 7.2.1 (TensorRT 10)"]
    return lines + [_build(inputs, precision, "10.3") for precision in inputs.order]


def _build(inputs: BundleInputs, precision: Precision, tensorrt: str) -> str:
    types = type_options(inputs.model(precision), tensorrt)
    workspace = "--workspace=1024" if numbers_of(tensorrt) < (8, 4) else "--memPoolSize=workspace:1024"
    words = [types, inputs.trtexec_shapes(), workspace, f"--saveEngine=built/{precision.value}.engine"]
    return " ".join([_TRTEXEC, f"--onnx={precision.value}.onnx", *filter(None, words)])


def _cell(text: str) -> str:
    """Return `text`, which the user chose, escaped for a cell of a Markdown table."""
    return shown(" ".join(text.splitlines())).replace("|", "\\|")
