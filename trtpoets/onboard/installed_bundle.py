"""Opens and checks the bundle of a command, and reads what was built from it on this device."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import trtpoets
from trtpoets.core.authenticity import KEY_VARIABLE
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.files import locked, read_json, sha256_of_file, sweep_parts, write_json
from trtpoets.core.manifest import BUILT, MANIFEST, Manifest, check_manifest
from trtpoets.core.onnx_metadata import read_verified_onnx
from trtpoets.core.own_files import require_no_link
from trtpoets.core.paths import user_path
from trtpoets.core.reading import read_text
from trtpoets.core.serialization import parsed, to_json
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import Engine, ModelSpec, OnnxModel, Photo, Precision, Split
from trtpoets.device.build.engine import load_engine
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.base import Runner
from trtpoets.judge.golden import Golden, read_golden
from trtpoets.onboard.build_record import Attempt, BuildOptions, BuildRecord

FOLDER_VARIABLE = "TRTPOETS_BUNDLE"
"""Environment variable with the path of the bundle, for a runtime outside of it."""

RELEASES = "releases"
"""Name of the folder of all releases on a device with updates."""

ENGINE, ONNXRUNTIME = "engine", "onnxruntime"
RUNNERS = (ENGINE, ONNXRUNTIME)
"""Values of --runner: the engine that was built on this device, or ONNX Runtime if it is installed."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle on a device. Files that the device creates are in `built`."""

    folder: Path
    manifest: Manifest
    spec: ModelSpec

    @property
    def built(self) -> Path:
        """The folder of engines, timing caches and logs."""
        return self.folder / BUILT

    @property
    def identity(self) -> str:
        """sha256 of the manifest, which covers all files of the bundle."""
        return sha256_of_file(self.folder / MANIFEST)

    @property
    def golden(self) -> Golden:
        """The golden photos with their scores. Raises BadArtefact."""
        return read_golden(self.folder / "golden", self.spec)

    def onnx(self, precision: Precision) -> OnnxModel:
        """The ONNX file of a precision. Raises BadInput if the bundle has none, BadArtefact."""
        path = self.folder / onnx_name(precision)
        if path.name not in self.manifest.files:
            available = ", ".join(listed.value for listed in self.manifest.order)
            raise BadInput(f"this bundle has no {precision.value}", hint=f"give one of {available}", code="TP7022")
        model = read_verified_onnx(path)
        if model.precision is not precision or model.spec != self.spec:
            raise BadArtefact(
                f"{path} contains {model.spec.name} in {model.precision.value}, or has another preprocessing",
                hint="make the bundle again: trtpoets bundle NAME --for jetson",
                code="TP7023",
            )
        return model

    def golden_files(self) -> tuple[Photo, ...]:
        """The golden photos as files with their labels."""
        return tuple(
            Photo(self.folder / "golden" / photo.file, photo.label, Split.TEST, photo.sha256)
            for photo in self.golden.photos
        )

    def onnx_models(self) -> Iterator[OnnxModel]:
        """The ONNX files in the order in which they are tried."""
        return (self.onnx(precision) for precision in self.manifest.order)

    @property
    def record(self) -> Path:
        """The file that records the engine, the attempts and the bundle. It is written last."""
        return self.built / "build.json"

    @property
    def benchmark(self) -> Path:
        """The results of `bench`."""
        return self.built / "benchmark.json"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock `built` for writing, and delete temporary files of killed builds. Raises Busy if it is locked.

        `built` may not be a symbolic link: StorageFailed.
        """
        require_no_link(self.built)
        with locked(self.built / ".lock", str(self.folder), hint="wait until it has finished") as held:
            if held:
                sweep_parts(self.built)
            yield


def onnx_name(precision: Precision) -> str:
    """The name of a precision's ONNX file in a bundle."""
    return f"{precision.value}.onnx"


def bundle_here() -> Bundle:
    """The bundle of this program, or the one given by $TRTPOETS_BUNDLE, after checking all files.

    Raises MissingArtefact, or BadArtefact that names the file.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    # Links are resolved once: `current` may be switched while this program runs.
    folder = user_path(named).resolve() if named else Path(trtpoets.__file__).resolve().parents[2]
    if folder.parent.name == RELEASES:
        # One key per device: the users of updates and of the service may have no home folder or different ones.
        os.environ.setdefault(KEY_VARIABLE, str(folder.parent.parent / "key"))
    return open_bundle(folder)


def open_bundle(folder: Path) -> Bundle:
    """The bundle in a folder, checked. Raises MissingArtefact, or BadArtefact that names the file."""
    manifest = check_manifest(folder)
    path = folder / "model.json"
    if path.name not in manifest.files:
        raise BadArtefact(
            f"{folder} is not a bundle for a device: it has no model.json",
            hint="make it with --for jetson",
            code="TP7024",
        )
    return Bundle(folder, manifest, ModelSpec.from_json(read_text(path), str(path)))


def check_bundle_name(bundle: Bundle, name: str | None) -> None:
    """Raise BadInput if a given name is not the bundle's. Scripts may give it, as for the commands of trtpoets."""
    if name not in (None, bundle.manifest.name):
        raise BadInput(
            f"this bundle is {bundle.manifest.name}, not {name}",
            hint=f"give {bundle.manifest.name}, or leave the name out",
            code="TP7025",
        )


def seal_record(bundle: Bundle, engine: str, attempts: Sequence[Attempt], asked: BuildOptions | None) -> None:
    """Record which engine in the folder `built` is used. `asked` are the options of the build."""
    write_json(bundle.record, to_json(BuildRecord(bundle.identity, engine, asked, tuple(attempts))))


def read_record(bundle: Bundle) -> BuildRecord:
    """What was built. Raises MissingArtefact where nothing was, or from another bundle; BadArtefact."""
    if not bundle.record.is_file():
        raise MissingArtefact(
            f"{bundle.folder} has no engine yet", hint=f"build it: {quote(bundle.folder / 'build')}", code="TP7026"
        )
    try:
        record = parsed(BuildRecord, read_json(bundle.record))
    except ValueError as error:
        raise BadArtefact(
            f"{bundle.record} is damaged: {error}",
            hint=f"build again: {quote(bundle.folder / 'build')} --force",
            code="TP7027",
        ) from error
    if record.bundle != bundle.identity:
        raise MissingArtefact(
            f"{bundle.built} was built from another bundle",
            hint=f"build again: {quote(bundle.folder / 'build')}",
            code="TP7028",
        )
    return record


def engine_in(bundle: Bundle) -> Engine:
    """The engine to run. Raises MissingArtefact, or BadArtefact when it was changed, or not built here by this user."""
    name = read_record(bundle).engine
    if Path(name).name != name:
        raise BadArtefact(f"{bundle.record} names an engine in another folder", hint="./build --force", code="TP7029")
    engine = load_engine(bundle.built / name)
    if engine.foreign:
        raise BadArtefact(
            f"there is no proof that this user built {engine.path} on this device: {engine.foreign}",
            hint=f"build it, as the user who runs it: {quote(bundle.folder / 'build')}",
            code="TP7030",
        )
    return engine


def runner_in(
    bundle: Bundle, runner: str = ENGINE, precision: Precision | None = None, wait: Wait | None = None
) -> tuple[Runner, Precision]:
    """The runner of the engine, or of an ONNX file with ONNX Runtime, not entered yet, and its precision.

    `wait` is how threads wait for the GPU with an engine.
    The ONNX file is that of `precision`, or of the first in the manifest's order. Raises MissingArtefact, BadArtefact,
    BadInput for another precision than the engine's.
    """
    if runner == ONNXRUNTIME:
        model = bundle.onnx(precision or bundle.manifest.order[0])
        return open_runner(model), model.precision
    engine = engine_in(bundle)
    built = engine.card.precision
    if precision not in (None, built):
        raise BadInput(
            f"the engine here is {built.value}, not {precision.value}",
            hint=f"build it: {quote(bundle.folder / 'build')} --precision {precision.value}",
            code="TP7031",
        )
    return open_runner(engine, wait=wait), built
