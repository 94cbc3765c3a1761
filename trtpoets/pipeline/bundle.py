"""Creates bundles: collects the artefacts of a run, lays them out for the target, and packs them."""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.bundles.bundle_inputs import CACHE, BundleInputs
from trtpoets.bundles.jetson_bundle import jetson_files, next_on_a_jetson
from trtpoets.bundles.onnxruntime_bundle import onnxruntime_files
from trtpoets.bundles.pack import BundleResult, archive_of, require_replaceable, root_of, write_bundle
from trtpoets.bundles.precision_order import shipping_order, why_not_cpu_form
from trtpoets.bundles.tflite_bundle import tflite_files
from trtpoets.bundles.triton_bundle import next_with_triton, triton_files
from trtpoets.convert.int8.tensorrt_cache import cache_from_ranges
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import chosen_by, read_json, sha256_of_file, storage_errors, sweep_parts, write_json
from trtpoets.core.manifest import Target
from trtpoets.core.paths import user_path
from trtpoets.core.progress import PARTS, Progress, silent
from trtpoets.core.shell_commands import quote
from trtpoets.core.types import Int8Form, Precision
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.pipeline.artefacts import ENGINES, writing
from trtpoets.pipeline.golden_photos import golden_in
from trtpoets.pipeline.int8_advice import int8_notes
from trtpoets.pipeline.jetson_files import JetsonTarget, jetson_named, models_for, notes_on, system_of
from trtpoets.pipeline.lineage import cpu_form_in, engines_in, onnx_in, onnx_models_in
from trtpoets.pipeline.result_status import evaluation_of, int8_ranges
from trtpoets.pipeline.tflite_files import NOT_EVALUATED, tflite_parts, tflite_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trtpoets.core.types import OnnxModel

_log = logging.getLogger(__name__)

_TASK = "bundle"
"""Name of the progress."""


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
) -> BundleResult:
    """Write a bundle to engines/<name>/bundles/<name>-<target>/, or to `out`, and an archive (.tar) next to it.

    `target` is "jetson", "triton", "onnxruntime" or "tflite". `precisions` are those to pack, by default all available
    ones. `jetpack` and `board` name a Jetson: precisions without benefit there are left out with a warning, and files
    are rewritten if its TensorRT needs an older opset. `sign` is an SSH private key; devices that were set up with its
    public key accept only bundles with its signature. `force` replaces a bundle that was changed or that contains built
    engines; files of the user are never replaced.

    Raises MissingArtefact if a precision was not exported; BadInput for an unknown Jetson, for one that supports none
    of the precisions, for a run without test photos, and if `out` contains anything other than a bundle; StorageFailed.
    """
    target, jetson = _target_named(target), jetson_named(jetpack, board)
    if (jetpack or board) and target is not Target.JETSON:
        given = " and ".join(option for option, value in (("--jetpack", jetpack), ("--board", board)) if value)
        raise BadInput(
            f"{given} would have no effect on a bundle for {target.value}, only for jetson",
            hint="give --for jetson",
            code="TP8011",
        )
    space = Workspace(Path(engines), name)
    sign = None if sign is None else user_path(sign)
    folder = _folder_of(space, target, out)
    with writing(space), nullcontext() if out is None else chosen_by(folder.parent, "--out FOLDER"):
        for path in (folder, archive_of(folder)):
            sweep_parts(path.parent.resolve(), path.name)  # resolved, because `out` may be below a link
        require_replaceable(folder, force)
        onnx_in(space, Precision.FP32)
        _require_current(space)
        progress(_TASK, 0, PARTS)
        with storage_errors(space.folder), _scratch(space) as scratch:
            layout = _layout(space, target, precisions, jetson, scratch, progress)
            progress(_TASK, 3 * PARTS // 4, PARTS)
            for warning in layout.warnings:
                _log.warning("%s", warning)
            result = write_bundle(
                layout.parts,
                target,
                folder,
                layout.fill,
                jetpack=jetson.jetpack.version if jetson.jetpack else "",
                board=jetson.board.name if jetson.board else "",
                created=partial(_created, space),
                sign=sign,
                warnings=layout.warnings,
                next_commands=layout.next_commands(folder),
            )
        progress(_TASK, PARTS, PARTS)
    return result


def _target_named(target: Target | str) -> Target:
    """Return the target with this name. Raises BadInput."""
    if target not in list(Target):
        raise BadInput(
            f"the bundle target must be one of {', '.join(member.value for member in Target)}, not {target}",
            hint="give --for jetson",
            code="TP8010",
        )
    return Target(target)


def _folder_of(space: Workspace, target: Target, out: Path | str | None) -> Path:
    """Return the folder of a bundle. Raises BadInput if `out` has no name of its own, such as "/"."""
    folder = space.bundles / root_of(space.name, target) if out is None else user_path(out).absolute()
    if folder.name in ("", ".."):
        raise BadInput(
            f"--out {out} does not name a new folder", hint="give for example --out FOLDER/flowers", code="TP8012"
        )
    return folder


@dataclass(frozen=True)
class _Layout:
    """The inputs of a bundle, the function that fills its folder with them, and its warnings.

    `next_commands` is a function that returns, for the folder of the bundle, the commands to run next.
    """

    parts: BundleInputs
    fill: Callable[[Path], None]
    next_commands: Callable[[Path], tuple[str, ...]]
    warnings: tuple[str, ...]


def _layout(
    space: Workspace,
    target: Target,
    precisions: Sequence[Precision],
    jetson: JetsonTarget,
    scratch: Path,
    progress: Progress,
) -> _Layout:
    """Return the layout of a bundle for `target`. `scratch` is a folder for temporary files."""
    if target is Target.JETSON:
        return _for_jetson(space, precisions, jetson, scratch, progress)
    if target is Target.TFLITE:
        return _for_tflite(space, precisions, progress)
    parts, warnings = _parts(space, _wanted(space, precisions), progress, target is Target.ONNXRUNTIME)
    warnings = (*warnings, *_fixed_batch_warnings(parts))
    if target is Target.TRITON:
        _require_any_batch(parts)
        return _Layout(parts, partial(triton_files, parts), next_with_triton, warnings)
    return _Layout(parts, partial(onnxruntime_files, parts), _selftest_command, warnings)


def _fixed_batch_warnings(parts: BundleInputs) -> list[str]:
    """Return the warning about a fixed batch, if the network has one."""
    size = parts.fixed_batch
    return [f"the network takes batches of exactly {size} photos: fewer are filled up with copies"] if size else []


def _require_any_batch(parts: BundleInputs) -> None:
    """Raise BadInput for a network with a fixed batch: Triton forms batches of any size."""
    size = parts.fixed_batch
    if size:
        raise BadInput(
            f"the network takes batches of exactly {size} photos, and Triton forms batches of any size",
            hint="use another server with --for onnxruntime, or export the network with a dynamic batch and adopt it",
            code="TP8202",
        )


def _for_jetson(
    space: Workspace, precisions: Sequence[Precision], jetson: JetsonTarget, scratch: Path, progress: Progress
) -> _Layout:
    """Return the layout of a bundle for a Jetson, without precisions that have no benefit there.

    ONNX files are rewritten if the Jetson's TensorRT needs it. Raises BadInput if no precision has a benefit.
    """
    requested = _wanted(space, precisions)
    useless = {precision: why for precision in requested if (why := jetson.useless(precision))}
    useful = tuple(precision for precision in requested if precision not in useless)
    if not useful:
        raise BadInput(
            f"no precision is left to pack: {'; '.join(useless.values())}", hint="add --precision fp16", code="TP8013"
        )
    parts, parts_warnings = _parts(space, useful, progress)
    models = models_for(jetson, parts.models, parts.golden, scratch)
    warnings = (
        *(f"{precision.value} is left out: {why}" for precision, why in useless.items()),
        *parts_warnings,
        *_fixed_batch_warnings(parts),
        *notes_on(jetson, parts.models, models),
    )
    ready = replace(parts, models=models, calibration_cache=_calibration_cache(space, useful, jetson, scratch))
    system = system_of(jetson)
    return _Layout(
        ready,
        lambda folder: jetson_files(ready, folder, system, warnings),
        lambda out: next_on_a_jetson(space.name, archive_of(out), system),
        warnings,
    )


def _for_tflite(space: Workspace, precisions: Sequence[Precision], progress: Progress) -> _Layout:
    """Return the layout of a bundle with TFLite files, which are written if they are not up to date."""
    wanted = tflite_wanted(precisions)
    parts, _ = _parts(space, (Precision.FP32,), progress)  # the warnings are about ONNX files, which are not packed
    ready = tflite_parts(space, parts, wanted, progress)
    return _Layout(
        ready.inputs,
        lambda folder: tflite_files(ready.inputs, folder, ready.models, ready.recommended),
        lambda out: (*_selftest_command(out), space.command("evaluate")),
        ready.warnings,
    )


def _created(space: Workspace, content: str) -> int:
    """Return when the content with the hash `content` was first bundled, in seconds since 1970.

    The time is later than those of all other contents that the run bundled before. The times are kept in bundled.json,
    so that the same content gives the same bundle. Raises BadArtefact if that file is damaged.
    """
    file = space.folder / "bundled.json"
    times = read_json(file) if file.is_file() else {}
    if not isinstance(times, dict) or not all(isinstance(seconds, int) for seconds in times.values()):
        raise BadArtefact(f"{file} is damaged", hint=f"rm {quote(file)}", code="TP8014")
    if content not in times:
        times[content] = max([int(time.time()), *(1 + seconds for seconds in times.values())])
        write_json(file, times)
    return int(times[content])


def _selftest_command(out: Path) -> tuple[str, ...]:
    """Return the self-test command. It does not change the working folder, so that further commands can follow."""
    return (f"python3 {quote(out / 'selftest.py')}",)


def _require_current(space: Workspace) -> None:
    """Raise MissingArtefact if there is an ONNX file that was not made from the present classifier."""
    for precision, form in (*((item, Int8Form.TENSORRT) for item in Precision), (Precision.INT8, Int8Form.CPU)):
        if card_of(space.onnx(precision, form)).is_file():
            onnx_in(space, precision, form)


def _wanted(space: Workspace, precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """Return the requested precisions, by default all available ones. Raises MissingArtefact."""
    for precision in precisions:
        onnx_in(space, precision)
    requested = precisions or [model.precision for model in onnx_models_in(space)]
    return tuple(precision for precision in Precision if precision in requested)


def _parts(
    space: Workspace, wanted: tuple[Precision, ...], progress: Progress, with_cpu_form: bool = False
) -> tuple[BundleInputs, tuple[str, ...]]:
    """Return the artefacts of a run for a bundle, and warnings about them.

    With INT8 and `with_cpu_form`, int8.cpu.onnx is one of them where it exists.
    """
    from trtpoets import __version__

    models = onnx_models_in(space)
    golden = golden_in(space, models)
    cpu_form = cpu_form_in(space) if with_cpu_form and Precision.INT8 in wanted else None
    progress(_TASK, PARTS // 4, PARTS)
    packed = tuple(model for model in models if model.precision in wanted)
    built = tuple(engine for engine in engines_in(space) if engine.card.precision in wanted)
    evaluation = evaluation_of(space, (*packed, *([] if cpu_form is None else [cpu_form]), *built))
    order, against = shipping_order(wanted, int8_notes(space).advised_against, evaluation)
    warnings = [f"{precision.value} comes last: {why}" for precision, why in against.items()]
    against_cpu_form = ""
    if cpu_form is not None:
        against_cpu_form = why_not_cpu_form(int8_notes(space, Int8Form.CPU).advised_against, evaluation)
        warnings += [f"{cpu_form.path.name} is not the default on CPUs: {against_cpu_form}"] if against_cpu_form else []
    if evaluation is None:
        warnings.append(NOT_EVALUATED.format(space.command("evaluate")))
    parts = BundleInputs(
        spec=models[0].spec,
        models=packed,
        engines=built,
        golden=replace(
            golden,
            expected={p.value: golden.expected[p.value] for p in Precision if p in wanted},
            cpu_form=None if cpu_form is None else golden.cpu_form,
        ),
        order=order,
        model_sha256=sha256_of_file(space.onnx(Precision.FP32)),
        version=__version__,
        measured=_measured(space, [*models, *([] if cpu_form is None else [cpu_form])]),
        cpu_form=cpu_form,
        against_cpu_form=against_cpu_form,
    )
    progress(_TASK, 2 * PARTS // 4, PARTS)
    return parts, tuple(warnings)


def _calibration_cache(
    space: Workspace, wanted: tuple[Precision, ...], jetson: JetsonTarget, scratch: Path
) -> bytes | None:
    """Return the calibration cache for `trtexec --calib` with fp32.onnx, or None.

    It is None if FP32 or INT8 is not packed, there are no ranges, or the Jetson's TensorRT has no calibration caches.
    """
    ranges = int8_ranges(space) if Precision.INT8 in wanted else None
    if ranges is None or not {Precision.FP32, Precision.INT8} <= set(wanted) or not jetson.cache_for:
        return None
    path, in_float = scratch / CACHE, int8_notes(space).in_float
    cache_from_ranges(onnx_in(space, Precision.FP32), ranges, path, jetson.cache_for, in_float)
    return path.read_bytes()


def _measured(space: Workspace, models: Sequence[OnnxModel]) -> Mapping[str, Any] | None:
    """Return the details of the benchmark's card if it measured these ONNX files, else None."""
    details = open_card(space.benchmark)
    measured = set((details or {}).get("artefacts", {}).values())
    return details if {sha256_of_file(model.path) for model in models} <= measured else None


@contextmanager
def _scratch(space: Workspace) -> Iterator[Path]:
    """Yield a temporary folder in the workspace. If the process is killed, the next command deletes it."""
    with tempfile.TemporaryDirectory(prefix=".scratch.part-", dir=space.folder) as folder:
        yield Path(folder)
