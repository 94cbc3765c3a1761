"""A bundle for a Jetson: what the device needs to build, check and run the network by itself.

Where JetPack's TensorRT is too old for the runtime, the files and the commands for `trtexec` instead.
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

    from trtpoets.bundles.bundle_inputs import Parts

_RUNTIME = ("core", "device", "judge", "onboard")
"""The folders of this package that run on a device."""

_COMMANDS = {
    "install": "Sets this device up: says what is missing, and makes a Python environment in built/venv.",
    "build": "Builds the engine for this device, and proves it by the golden photos.",
    "selftest": "Sends the golden photos through the engine: exit code 0 when the scores are those expected.",
    "classify": "Says what photos, a folder of them, a video or a camera show: one JSON line each.",
    "bench": "Measures how fast the engine is on this device.",
    "trtpoets": "Any of these commands by its name, as scripts call it: ./trtpoets build",
}

_PACKAGES = "nvidia-jetpack python3-libnvinfer python3-venv python3-dev build-essential zstd"
"""What the runtime needs of Ubuntu and of JetPack."""

_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""Where JetPack puts it."""

_TOP = 3
"""How many scores of a golden photo are told."""


@dataclass(frozen=True)
class System:
    """What the bundle is for, as far as it was told: versions and the board's title are empty where it was not.

    `runs_trtpoets` says whether its TensorRT is new enough for the runtime, `cache_for` whose calibration cache it is,
    `dla` whether board and TensorRT have a DLA.
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


def jetson_files(parts: Parts, folder: Path, system: System = System(), notes: tuple[str, ...] = ()) -> None:
    """Write everything but the manifest into an empty folder. `notes` are what the README shall warn of.

    Raises StorageFailed.
    """
    write_shared(parts, folder)
    if system.runs_trtpoets:
        write_runtime(folder / "runtime" / "trtpoets", parts.version, _RUNTIME)
        copy_template("jetson/start.py", folder / "runtime")
        _write_commands(folder)
        (folder / "update").mkdir()
        for source in sorted((package_folder() / "onboard" / "files").iterdir()):
            if source.is_file():  # pip compiles what it installs, into __pycache__
                copy_file(source, folder / "update")
        write_text(folder / "README.md", _readme(parts, system, notes))
    else:
        first = parts.golden.photos[0]
        first.pixels[None].astype(np.float32).tofile(folder / "golden" / "000.f32")
        write_text(folder / "README.md", _trtexec_readme(parts, system, notes))


def next_on_a_jetson(name: str, archive: Path, system: System) -> tuple[str, ...]:
    """The commands to go on with, here and on the device."""
    unpacked = quote(root_of(name, Target.JETSON))
    run = (
        f"cd {unpacked} && ./install && ./build && ./selftest" if system.runs_trtpoets else f"less {unpacked}/README.md"
    )
    there = f"zstd -dc {quote(archive.name)} | tar -x && {run}"
    return f"scp {quote(archive)} USER@JETSON:", f"ssh -t USER@JETSON {quote(there)}"


def _write_commands(folder: Path) -> None:
    for command, about in _COMMANDS.items():
        said = "" if command == "trtpoets" else f"{command} "
        path = folder / command
        write_text(path, filled("jetson/command.sh", about=about, command=said))
        path.chmod(path.stat().st_mode | 0o111)


def _readme(parts: Parts, system: System, notes: tuple[str, ...]) -> str:
    accelerator = (
        "\nThe DLA leaves the GPU free; it takes FP16, one batch size: `./build --dla 0 --precision fp16 --batch 1`\n"
        if system.dla and Precision.FP16 in parts.order
        else ""
    )
    return filled(
        "jetson/README.md",
        **_common(parts, system, notes),
        order=joined([precision.value for precision in parts.order]),
        packages=_PACKAGES,
        root=shlex.quote(f"/opt/{parts.spec.name}"),
        accelerator=accelerator,
        trtexec="\n".join(_trtexec(parts, system)),
    )


def _trtexec_readme(parts: Parts, system: System, notes: tuple[str, ...]) -> str:
    preprocess = parts.spec.preprocess
    check = [
        f"{_TRTEXEC} --loadEngine=built/{each.value}.engine --shapes={parts.shape(1)} "
        "--loadInputs=photos:golden/000.f32 --dumpOutput"
        for each in parts.order
    ]
    best = np.argsort(-parts.golden.expected[parts.order[0].value].scores[0], kind="stable")[:_TOP]
    expected = []
    for each in parts.order:
        found = parts.golden.expected[each.value]
        scores = " | ".join(f"{found.scores[0][place]:.4f}" for place in best)
        expected.append(f"| {each.value} | {scores} | {found.tolerance:g} |")
    kept = (
        f"The middle of a photo is kept: the largest box of that shape, times {preprocess.crop_fraction:g} of its side."
        if preprocess.resize is Resize.CROP
        else "A photo is stretched to that size, bilinear with antialiasing, after turning it upright."
    )
    if preprocess.white != FULL_WHITE:
        kept += f" In 16-bit photos the value {preprocess.white} becomes 255."
    return filled(
        "jetson/trtexec.md",
        **_common(parts, system, notes),
        trtexec="\n".join(_trtexec(parts, system)),
        check="\n".join(check),
        columns=" | ".join(_cell(parts.spec.labels[place]) for place in best),
        dashes="---|" * len(best),
        expected="\n".join(expected),
        resize=kept,
        height=preprocess.height,
        width=preprocess.width,
        count=len(parts.spec.labels),
    )


def _common(parts: Parts, system: System, notes: tuple[str, ...]) -> dict[str, str]:
    spec, preprocess = parts.spec, parts.spec.preprocess
    rows = [f"| `{each.value}.onnx` | the network in {each.value.upper()} |" for each in parts.order]
    if parts.calibration_cache is not None:
        rows.append(
            f"| `{CACHE}` | ranges for `trtexec --int8 --calib` with `fp32.onnx`, TensorRT {system.cache_for} |"
        )
    rows.append("| `model.json`, `labels.txt` | what it answers to |")
    folder = root_of(spec.name, Target.JETSON)
    return {
        "name": _cell(spec.name),
        "archive": shlex.quote(f"{folder}.tar.zst"),
        "folder": shlex.quote(folder),
        "network": (
            f"{spec.backbone}, {many(len(spec.labels), 'label')}, photos of {preprocess.height} × {preprocess.width}; "
            f"made by trtpoets {parts.version}."
        ),
        "system": _said(system),
        "notes": "".join(f"\n> {note}\n" for note in notes),
        "files": "\n".join(rows),
    }


def _said(system: System) -> str:
    board = f" on a {system.board}" if system.board else ""
    if not system.jetpack:
        return f"JetPack 5.1 or later (TensorRT 8.5 or later){board}"
    found = f"Ubuntu {system.ubuntu}, Python {system.python}, CUDA {system.cuda}, TensorRT {system.tensorrt}"
    return f"JetPack {system.jetpack} ({found}){board}"


def _trtexec(parts: Parts, system: System) -> list[str]:
    """The command that builds each precision; for both kinds of TensorRT where it is not known which it is."""
    if system.tensorrt:
        return [_build(parts, each, system.tensorrt) for each in parts.order]
    lines = ["# JetPack 5.1 to 6.0 (TensorRT 8.5 and 8.6)"]
    lines += [_build(parts, each, "8.5") for each in parts.order]
    lines += ["# JetPack 6.1 to 7.2.1 (TensorRT 10)"]
    return lines + [_build(parts, each, "10.3") for each in parts.order]


def _build(parts: Parts, precision: Precision, tensorrt: str) -> str:
    types = type_options(parts.model(precision), tensorrt)
    workspace = "--workspace=1024" if numbers_of(tensorrt) < (8, 4) else "--memPoolSize=workspace:1024"
    words = [types, parts.trtexec_shapes(), workspace, f"--saveEngine=built/{precision.value}.engine"]
    return " ".join([_TRTEXEC, f"--onnx={precision.value}.onnx", *filter(None, words)])


def _cell(text: str) -> str:
    """A name of the user's in a line of Markdown."""
    return shown(" ".join(text.splitlines())).replace("|", "\\|")
