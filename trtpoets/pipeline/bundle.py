"""A run to what is shipped: gather its artefacts, let the target's function lay them out, pack them."""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.bundles.bundle_inputs import CACHE, Parts
from trtpoets.bundles.jetson_bundle import jetson_files, next_on_a_jetson
from trtpoets.bundles.onnxruntime_bundle import onnxruntime_files
from trtpoets.bundles.pack import Bundle, archive_of, bundle_from_parts, require_replaceable, root_of
from trtpoets.bundles.precision_order import shipping_order
from trtpoets.bundles.tflite_bundle import tflite_files
from trtpoets.bundles.triton_bundle import next_with_triton, triton_files
from trtpoets.convert.int8.tensorrt_cache import cache_from_ranges
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import chosen_by, read_json, sha256_of_file, storage_errors, sweep_parts, write_json
from trtpoets.core.manifest import Target
from trtpoets.core.paths import user_path
from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.judge.evaluation_file import evaluations_from_json
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.golden_photos import golden_in
from trtpoets.pipeline.int8_advice import int8_notes
from trtpoets.pipeline.jetson_files import Jetson, jetson_named, models_for, notes_on, system_of
from trtpoets.pipeline.lineage import engines_in, onnx_in, onnx_models_in
from trtpoets.pipeline.result_status import (
    artefacts_in,
    evaluation_key,
    groups_to_judge,
    identities,
    int8_ranges,
    photos_to_judge,
)
from trtpoets.pipeline.tflite_files import tflite_parts, tflite_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trtpoets.core.types import OnnxModel

_log = logging.getLogger(__name__)

_TASK = "bundle"


def bundle(
    name: str,
    target: Target | str,
    *,
    precisions: Sequence[Precision] = (),
    jetpack: str = "",
    board: str = "",
    out: Path | str | None = None,
    sign: Path | str | None = None,
    engines: Path | str = ENGINES,
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Write a bundle to engines/<name>/bundles/<name>-<target>/, or to `out`, and beside it the same as .tar.zst.

    `target` is "jetson", "triton", "onnxruntime" or "tflite". `precisions` are those that go in; all that there are
    unless given. `jetpack` and `board` name a Jetson: what it can't do is left out with a warning, and files are
    rewritten where its TensorRT reads only older ones. `sign` is a private key of ssh's: with its signature, devices
    that were set up with the public key take the bundle, and no other. `force` replaces a bundle that was changed or
    built in; files of the user's are never replaced.

    Raises MissingArtefact where a precision was not exported, BadInput for a Jetson that is not known or can do nothing
    of what is asked, for a run without test photos, and for a place where something else lies; StorageFailed.
    """
    if target not in list(Target):
        raise BadInput(
            f"bundles are for {', '.join(each.value for each in Target)}, not for {target}",
            "--for jetson",
            code="TP8010",
        )
    target, jetson = Target(target), jetson_named(jetpack, board)
    if (jetpack or board) and target is not Target.JETSON:
        raise BadInput(
            f"--jetpack and --board are of a Jetson, not of {target.value}", hint="--for jetson", code="TP8011"
        )
    space = Workspace(Path(engines), name)
    sign = None if sign is None else user_path(sign)
    folder = space.bundles / root_of(name, target) if out is None else user_path(out).absolute()
    if folder.name in ("", ".."):
        raise BadInput(
            f"--out {out} is no name for a new folder", hint="for example: --out FOLDER/flowers", code="TP8012"
        )
    with writing(space), nullcontext() if out is None else chosen_by(folder.parent, "--out FOLDER"):
        for path in (folder, archive_of(folder)):
            sweep_parts(path.parent.resolve(), path.name)  # which the user may have named by a link
        require_replaceable(folder, force)
        onnx_in(space, Precision.FP32)
        _require_current(space)
        progress(_TASK, 0, PARTS)
        with storage_errors(space.folder), _scratch(space) as scratch:
            layout = _layout(space, target, precisions, jetson, scratch, progress)
            progress(_TASK, 3 * PARTS // 4, PARTS)
            for warning in layout.warnings:
                _log.warning("%s", warning)
            made = bundle_from_parts(
                layout.parts,
                target,
                folder,
                layout.fill,
                jetpack=jetson.jetpack.version if jetson.jetpack else "",
                board=jetson.board.name if jetson.board else "",
                created=partial(_created, space),
                sign=sign,
                warnings=layout.warnings,
                next_commands=layout.then(folder),
            )
        progress(_TASK, PARTS, PARTS)
    return made


@dataclass(frozen=True)
class _Layout:
    """What goes into a bundle, the function that lays it out, and the commands to go on with where it then lies."""

    parts: Parts
    fill: Callable[[Path], None]
    then: Callable[[Path], tuple[str, ...]]
    warnings: tuple[str, ...]


def _layout(
    space: Workspace,
    target: Target,
    precisions: Sequence[Precision],
    jetson: Jetson,
    scratch: Path,
    progress: Progress,
) -> _Layout:
    if target is Target.JETSON:
        return _for_jetson(space, precisions, jetson, scratch, progress)
    if target is Target.TFLITE:
        return _for_tflite(space, precisions, progress)
    parts, warnings = _parts(space, _wanted(space, precisions), progress)
    if target is Target.TRITON:
        return _Layout(parts, partial(triton_files, parts), next_with_triton, warnings)
    return _Layout(parts, partial(onnxruntime_files, parts), _selftest, warnings)


def _for_jetson(
    space: Workspace, precisions: Sequence[Precision], jetson: Jetson, scratch: Path, progress: Progress
) -> _Layout:
    """Without the precisions that the Jetson gains nothing from, and with files as its TensorRT reads them."""
    asked = _wanted(space, precisions)
    useless = {each: why for each in asked if (why := jetson.useless(each))}
    left = tuple(each for each in asked if each not in useless)
    if not left:
        raise BadInput(
            f"nothing is left to ship: {'; '.join(useless.values())}", hint="add: --precision fp16", code="TP8013"
        )
    parts, more = _parts(space, left, progress)
    models = models_for(jetson, parts.models, parts.golden, scratch)
    warnings = (
        *(f"{each.value} is left out: {why}" for each, why in useless.items()),
        *more,
        *notes_on(jetson, parts.models, models),
    )
    ready = replace(parts, models=models, calibration_cache=_cache(space, left, jetson, scratch))
    system = system_of(jetson)
    return _Layout(
        ready,
        lambda folder: jetson_files(ready, folder, system, warnings),
        lambda out: next_on_a_jetson(space.name, archive_of(out), system),
        warnings,
    )


def _for_tflite(space: Workspace, precisions: Sequence[Precision], progress: Progress) -> _Layout:
    """TFLite files are made here where they are not up to date."""
    wanted = tflite_wanted(precisions)
    parts, warnings = _parts(space, (Precision.FP32,), progress)
    ready, models, more = tflite_parts(space, parts, wanted, progress)
    return _Layout(
        ready,
        lambda folder: tflite_files(ready, folder, models),
        lambda out: (*_selftest(out), space.command("evaluate")),
        (*warnings, *more),
    )


def _created(space: Workspace, content: str) -> int:
    """When this content was first bundled, in seconds since 1970; later than everything that was bundled before.

    Kept with the run, so that the same content gives the same bundle.
    """
    ledger = space.folder / "bundled.json"
    known = read_json(ledger) if ledger.is_file() else {}
    if not isinstance(known, dict) or not all(isinstance(each, int) for each in known.values()):
        raise BadArtefact(f"{ledger} is damaged", hint=f"rm {_quoted(ledger)}", code="TP8014")
    if content not in known:
        known[content] = max([int(time.time()), *(1 + each for each in known.values())])
        write_json(ledger, known)
    return int(known[content])


def _selftest(out: Path) -> tuple[str, ...]:
    """From where the user is, and leaving them there: what comes next is pasted after it."""
    return (f"python3 {_quoted(out / 'selftest.py')}",)


def _quoted(path: Path) -> str:
    return quote(path)


def _require_current(space: Workspace) -> None:
    """Raise MissingArtefact where an ONNX file is there that is not of the classifier as it is now."""
    for precision in Precision:
        if card_of(space.onnx(precision)).is_file():
            onnx_in(space, precision)


def _wanted(space: Workspace, precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """The precisions asked for, or all that there are. Raises MissingArtefact for one that is not."""
    for precision in precisions:
        onnx_in(space, precision)
    asked = precisions or [model.precision for model in onnx_models_in(space)]
    return tuple(each for each in Precision if each in asked)


def _parts(space: Workspace, wanted: tuple[Precision, ...], progress: Progress) -> tuple[Parts, tuple[str, ...]]:
    """The artefacts of a run, and warnings about them."""
    from trtpoets import __version__

    models = onnx_models_in(space)
    golden = golden_in(space, models)
    progress(_TASK, PARTS // 4, PARTS)
    known = identities(space, artefacts_in(space))
    photos = photos_to_judge(space)
    details = open_card(space.evaluation, evaluation_key(known, photos, groups_to_judge(space, photos)))
    evaluation = None if details is None else evaluations_from_json(details, space.evaluation)
    order, against = shipping_order(wanted, int8_notes(space).advised_against, evaluation)
    warnings = [f"{each.value} comes last: {why}" for each, why in against.items()]
    if evaluation is None:
        warnings.append(f"the files as they are now were not evaluated: {space.command('evaluate')}")
    parts = Parts(
        spec=models[0].spec,
        models=tuple(model for model in models if model.precision in wanted),
        engines=tuple(each for each in engines_in(space) if each.card.precision in wanted),
        golden=replace(golden, expected={p.value: golden.expected[p.value] for p in Precision if p in wanted}),
        order=order,
        model_sha256=sha256_of_file(space.onnx(Precision.FP32)),
        version=__version__,
        measured=_measured(space, models),
    )
    progress(_TASK, 2 * PARTS // 4, PARTS)
    return parts, tuple(warnings)


def _cache(space: Workspace, wanted: tuple[Precision, ...], jetson: Jetson, scratch: Path) -> bytes | None:
    """The ranges for `trtexec --calib` with fp32.onnx; None where either is not there, or TensorRT takes none."""
    ranges = int8_ranges(space) if Precision.INT8 in wanted else None
    if ranges is None or not {Precision.FP32, Precision.INT8} <= set(wanted) or not jetson.cache_for:
        return None
    path, known, in_float = scratch / CACHE, ranges, int8_notes(space).in_float
    cache_from_ranges(onnx_in(space, Precision.FP32), known, path, jetson.cache_for, in_float)
    return path.read_bytes()


def _measured(space: Workspace, models: Sequence[OnnxModel]) -> Mapping[str, Any] | None:
    """What was benched, where it was of the ONNX files as they are now."""
    found = open_card(space.benchmark)
    known = set((found or {}).get("artefacts", {}).values())
    return found if {sha256_of_file(model.path) for model in models} <= known else None


@contextmanager
def _scratch(space: Workspace) -> Iterator[Path]:
    """A folder in the workspace for what is needed for a while; what a killed process leaves of it is swept away."""
    with tempfile.TemporaryDirectory(prefix=".scratch.part-", dir=space.folder) as folder:
        yield Path(folder)
