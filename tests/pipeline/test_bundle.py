"""`bundle`: atomic and reproducible output that never replaces files of the user."""

from __future__ import annotations

import compileall
import errno
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtpoets
from tests.cli.test_main import call_main
from tests.support.bundle_run import bundle_run, evaluated
from tests.support.errors import raises
from tests.support.runner_ids import runner
from trtpoets.bundles.pack import BundleResult
from trtpoets.bundles.precision_order import shipping_order
from trtpoets.core.errors import BadInput, Busy, MissingArtefact, StorageFailed
from trtpoets.core.files import locked, sha256_of_file
from trtpoets.core.manifest import MANIFEST, Target, check_manifest
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.device.runners import open_runner
from trtpoets.judge.evaluation import evaluation_from_scores
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.golden import read_golden
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.lineage import onnx_models_in

FP32, FP16, INT8 = Precision


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.core.files.os.fsync", lambda _: None)


@pytest.fixture
def space(tiny_space: Workspace) -> Workspace:
    return tiny_space


@pytest.fixture(scope="module")
def run_with_a_bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the run that was bundled for a Jetson, and the hash of the archive."""
    engines = Path(shutil.copytree(tiny_run / "engines", tmp_path_factory.mktemp("bundled") / "engines"))
    return engines, bundled(Workspace(engines, "tiny")).archive_sha256


def bundled(space: Workspace, target: Target = Target.JETSON, **options: Any) -> BundleResult:
    return trtpoets.bundle(space.name, target, engines=space.engines, **options)


def unpacked(archive: Path, into: Path) -> list[tarfile.TarInfo]:
    members = []
    with tarfile.open(archive) as tar:
        for member in tar:
            members.append(member)
            tar.extract(member, into)
    return members


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(space: Workspace) -> list[str]:
    return [p.name for p in space.engines.rglob(".*") if ".part-" in p.name]


def test_folder_archive_and_manifest_agree(space: Workspace, tmp_path: Path) -> None:
    result = bundled(space)
    assert result.folder == space.bundles / "tiny-jetson"
    assert check_manifest(result.folder) == result.manifest
    assert result.manifest.model == sha256_of_file(space.onnx(FP32))
    assert result.manifest.order == (INT8, FP16, FP32)
    assert (result.manifest.name, result.manifest.target, result.manifest.version) == (
        "tiny",
        "jetson",
        trtpoets.__version__,
    )
    assert result.archive_sha256 == sha256_of_file(result.archive)
    members = unpacked(result.archive, tmp_path / "there")
    assert tree(tmp_path / "there" / "tiny-jetson") == tree(result.folder)
    assert result.sizes == {path: len(content) for path, content in tree(result.folder).items()}
    assert members[0].name == f"tiny-jetson/{MANIFEST}"
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 315532800)}
    assert {m.mode for m in members} == {0o644, 0o755}
    assert result.warnings == ()
    for precision in Precision:
        assert (result.folder / f"{precision.value}.onnx").read_bytes() == space.onnx(precision).read_bytes()


@pytest.mark.parametrize("target", [Target.TRITON, Target.ONNXRUNTIME])
def test_jetson_options_are_rejected_for_other_targets(target: Target, space: Workspace) -> None:
    result = bundled(space, target)
    assert check_manifest(result.folder) == result.manifest
    assert (result.manifest.target, result.manifest.jetpack) == (target.value, "")
    assert "int8.cache" not in result.manifest.files
    selftest = {Target.TRITON: "selftest.py", Target.ONNXRUNTIME: f"{result.folder}/selftest.py"}[target]
    assert result.next[-1] == f"python3 {selftest}"
    with raises(BadInput, "TP8011", target.value, "--board") as caught:
        bundled(space, target, board="orin-nano")
    assert "--jetpack" not in caught.value.message


def test_the_archive_is_reproducible(space: Workspace, tmp_path: Path) -> None:
    first = bundled(space)
    elsewhere = Workspace(shutil.copytree(space.engines, tmp_path / "other" / "place"), "tiny")
    shutil.rmtree(elsewhere.bundles)
    for path in elsewhere.engines.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    # By a copy of the package that was compiled, as pip compiles what it installs.
    package = Path(trtpoets.__file__).parent
    site = tmp_path / "site"
    shutil.copytree(package, site / "trtpoets", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for folder in ("onboard", "bundles"):
        compileall.compile_dir(site / "trtpoets" / folder, quiet=2)
    assert (site / "trtpoets" / "onboard" / "files" / "__pycache__").is_dir()
    # In another process, which hashes and lists in another order, with another umask and another clock zone.
    code = (
        "import os, sys, trtpoets\nfrom trtpoets.core.manifest import Target\nos.umask(0o077)\n"
        "print(trtpoets.bundle('tiny', Target.JETSON, engines=sys.argv[1], out=sys.argv[2]).archive_sha256)"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, str(elsewhere.engines), str(tmp_path / "out" / "any name")],
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONHASHSEED": "7", "TZ": "Pacific/Auckland", "LC_ALL": "C"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert second.stdout.strip() == first.archive_sha256
    assert (tmp_path / "out" / "any name").stat().st_mode & 0o077 == 0
    assert (tmp_path / "out" / "any name" / "build").stat().st_mode & 0o100


def test_the_target_may_be_a_string(space: Workspace) -> None:
    assert trtpoets.bundle("tiny", "jetson", engines=space.engines).manifest.target == "jetson"
    with raises(BadInput, "TP8010", "jetson, triton, onnxruntime, tflite", "toaster"):
        trtpoets.bundle("tiny", "toaster", engines=space.engines)


def test_golden_photos_are_kept_for_the_next_bundle(space: Workspace) -> None:
    first = bundled(space)
    golden = read_golden(first.folder / "golden")
    assert [photo.label for photo in golden.photos][:3] == ["ant", "bee", "cow"]
    assert list(golden.expected) == ["fp32", "fp16", "int8"]
    stamp = (space.golden / "golden.json").stat().st_mtime_ns
    bundled(space)
    assert (space.golden / "golden.json").stat().st_mtime_ns == stamp
    shutil.rmtree(space.golden)
    assert bundled(space).archive_sha256 == first.archive_sha256


def test_only_the_precisions_asked_for_go_in(space: Workspace) -> None:
    result = bundled(space, precisions=[INT8])
    assert [p.name for p in result.folder.glob("*.onnx")] == ["int8.onnx"]
    assert list(read_golden(result.folder / "golden").expected) == ["int8"]
    assert result.manifest.order == (INT8,)
    assert result.manifest.model == sha256_of_file(space.onnx(FP32))
    assert "int8.cache" not in result.manifest.files  # it is for fp32.onnx


def test_an_unchanged_bundle_is_replaced(space: Workspace) -> None:
    bundled(space)
    result = bundled(space, precisions=[FP16])
    assert [p.name for p in result.folder.glob("*.onnx")] == ["fp16.onnx"]
    assert leftovers(space) == []


def test_a_changed_bundle_is_replaced_only_with_force(space: Workspace) -> None:
    result = bundled(space)
    (result.folder / "build").write_text("#!/bin/sh\necho mine\n")
    with raises(BadInput, "TP6006", "/build was changed") as caught:
        bundled(space)
    assert caught.value.hint == "replace it with --force"
    assert "mine" in (result.folder / "build").read_text()
    bundled(space, force=True)
    check_manifest(result.folder)


def test_built_engines_are_deleted_only_with_force(space: Workspace) -> None:
    result = bundled(space)
    (result.folder / "built" / "pycache-0").mkdir(parents=True)
    bundled(space)
    (result.folder / "built").mkdir()
    (result.folder / "built" / "fp16.engine").write_bytes(b"hours of work")
    with raises(BadInput, "TP6007", "/built"):
        bundled(space)
    bundled(space, force=True)
    assert not (result.folder / "built").exists()


@pytest.mark.parametrize("force", [False, True])
def test_files_of_the_user_are_never_deleted(force: bool, space: Workspace, tmp_path: Path) -> None:
    result = bundled(space)
    (result.folder / "notes.txt").write_text("mine")
    with raises(BadInput, "TP6005", "notes.txt"):
        bundled(space, force=force)
    assert (result.folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("kind", "code", "refused"), [("folder", "TP6003", "out"), ("archive", "TP6001", "out.tar")])
def test_other_files_and_folders_are_not_replaced(
    kind: str, code: str, refused: str, force: bool, space: Workspace, tmp_path: Path
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    if kind == "folder":
        shutil.copytree(mine, out)
    else:
        with tarfile.open(tmp_path / "out.tar", "w") as backup:
            backup.add(mine, "photos")
    before = {p: p.read_bytes() for p in [*tmp_path.glob("out*"), *mine.iterdir()] if p.is_file()}
    with raises(BadInput, code, tmp_path / refused) as caught:
        bundled(space, out=out, force=force)
    assert "--out FOLDER" in caught.value.hint
    assert {p: p.read_bytes() for p in before} == before


def test_an_empty_folder_may_become_a_bundle(space: Workspace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = bundled(space, out=tmp_path / "out")
    check_manifest(tmp_path / "out")
    assert result.archive == tmp_path / "out.tar"


@pytest.mark.parametrize("out", ["/", "..", "a/.."])
def test_out_must_name_a_folder(out: str, space: Workspace) -> None:
    with raises(BadInput, "TP8012"):
        bundled(space, out=out)


def test_out_may_be_relative(space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundled(space, out="x").folder == tmp_path / "x"


STEPS = {
    "golden": "trtpoets.pipeline.golden_photos.write_golden",
    "cache": "trtpoets.pipeline.bundle.cache_from_ranges",
    "copy": "trtpoets.bundles.bundle_inputs.shutil.copyfile",
    "golden of the bundle": "trtpoets.bundles.bundle_inputs.write_golden",
    "runtime": "trtpoets.bundles.jetson_bundle.write_runtime",
    "readme": "trtpoets.bundles.jetson_bundle.write_text",
    "manifest": "trtpoets.core.manifest.write_json",
    "archive": "trtpoets.bundles.pack.tarfile.TarFile.addfile",
}
"""Where a bundle is written, in the order in which that happens."""


@pytest.mark.parametrize(
    ("failure", "step"),
    [
        ("full", "golden"),
        ("full", "archive"),
        ("interrupt", "copy"),
        *(pytest.param("full", step, marks=pytest.mark.slow) for step in STEPS if step not in ("golden", "archive")),
        *(pytest.param("interrupt", step, marks=pytest.mark.slow) for step in STEPS if step != "copy"),
    ],
)
def test_a_failed_write_keeps_the_old_bundle(
    step: str, failure: str, run_with_a_bundle: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, old = run_with_a_bundle
    space = Workspace(Path(shutil.copytree(engines, tmp_path / "engines")), "tiny")
    before = tree(space.bundles)
    shutil.rmtree(space.golden)
    error = OSError(errno.ENOSPC, "No space left on device") if failure == "full" else KeyboardInterrupt()

    def stop(*args: Any, **kwargs: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(STEPS[step], stop)
        full = raises(StorageFailed, "TP1085", "No space left on device")
        with full if failure == "full" else pytest.raises(KeyboardInterrupt):
            bundled(space, precisions=[FP32, INT8])
    assert tree(space.bundles) == before
    assert leftovers(space) == []
    assert bundled(space).archive_sha256 == old


def test_leftovers_of_a_killed_process_are_deleted(space: Workspace, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, trtpoets\nimport trtpoets.bundles.pack as module\n"
        "from trtpoets.core.manifest import Target\n"
        "module._pack = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "trtpoets.bundle('tiny', Target.JETSON, engines=sys.argv[1], out=sys.argv[2])"
    )
    out = tmp_path / "usb" / "out"
    command = [sys.executable, "-c", code, str(space.engines), str(out)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    stranger = out.parent / ".thesis.part-1"
    stranger.mkdir()
    assert any(p.name.startswith(".out.part-") for p in out.parent.iterdir())
    result = bundled(space, out=out)
    check_manifest(out)
    assert sorted(p.name for p in out.parent.iterdir()) == [".thesis.part-1", "out", "out.tar"]
    assert leftovers(space) == []
    assert result.warnings == ()


def test_concurrent_bundles_of_one_run_are_rejected(space: Workspace) -> None:
    with locked(space.lock, "tiny"), raises(Busy, "TP1023", os.getpid(), "tiny"):
        bundled(space)


def test_missing_onnx_files_raise_with_a_hint(space: Workspace) -> None:
    card_of(space.onnx(FP32)).unlink()
    with raises(MissingArtefact, "TP8027", "fp32.onnx", "does not exist") as caught:
        bundled(space)
    assert caught.value.hint == space.command("export")


def test_a_missing_precision_raises_with_a_hint(space: Workspace) -> None:
    space.onnx(INT8).unlink()
    with raises(MissingArtefact, "TP8027", "int8.onnx", "does not exist") as caught:
        bundled(space, precisions=[INT8])
    assert caught.value.hint == space.command("quantize")


@pytest.mark.parametrize(
    ("precision", "target", "hint"),
    [
        (FP32, Target.JETSON, "export"),
        (FP32, Target.TFLITE, "export"),
        (FP16, Target.TRITON, "quantize"),
        (FP16, Target.TFLITE, "quantize"),  # tolerances come from it
        (INT8, Target.JETSON, "quantize"),
    ],
)
def test_stale_files_are_not_packed(precision: Precision, target: Target, hint: str, space: Workspace) -> None:
    path = space.onnx(precision)
    details = {**(open_card(card_of(path)) or {}), "made_from": "what was there before"}
    seal_card(card_of(path), key="k", files=[path], details=details)
    with raises(
        MissingArtefact, "TP8057" if precision is FP32 else "TP8058", path.name, "was made from an earlier"
    ) as caught:
        bundled(space, target)
    assert caught.value.hint == space.command(hint)
    assert not space.bundles.exists()


def test_a_bundle_needs_photos(space: Workspace) -> None:
    space.dataset.unlink()
    with raises(BadInput, "TP8033", "tiny"):
        bundled(space)


def test_a_bundle_needs_test_photos(space: Workspace) -> None:
    details = dict(open_card(space.dataset) or {})
    photos = [{**photo, "split": "train"} for photo in details["photos"]]
    seal_card(space.dataset, key="photos", files=[], details={**details, "photos": photos})
    for precision in (Precision.FP16, Precision.INT8):  # made with these photos
        values = {**(open_card(card_of(space.onnx(precision))) or {}), "dataset": dataset_in(space).hash}
        seal_card(card_of(space.onnx(precision)), key="k", files=[space.onnx(precision)], details=values)
    with raises(BadInput, "TP5043"):
        bundled(space)
    assert not space.bundles.exists()


def test_a_stale_evaluation_is_a_warning(space: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    space.evaluation.unlink()
    result = bundled(space)
    assert result.warnings == (f"the present files were not evaluated: {space.command('evaluate')}",)
    assert result.warnings[0] in caplog.text


def test_a_file_that_is_not_packed_makes_no_evaluation_stale(space: Workspace) -> None:
    """As int8.tflite, which `bundle --for tflite` adds to a run that was evaluated before."""
    details = open_card(space.evaluation) or {}
    judged = {**details["judged"], "artefacts": [*details["judged"]["artefacts"], "a file that is gone"]}
    seal_card(space.evaluation, key="with another file", files=[], details={**details, "judged": judged})
    assert bundled(space).warnings == ()
    without = [sha256 for sha256 in judged["artefacts"] if sha256 != sha256_of_file(space.onnx(FP16))]
    seal_card(space.evaluation, key="k", files=[], details={**details, "judged": {**judged, "artefacts": without}})
    assert bundled(space, precisions=(FP32, INT8)).warnings == ()
    assert bundled(space).warnings == (f"the present files were not evaluated: {space.command('evaluate')}",)


def test_int8_comes_last_if_quantize_recommends_fp16(tmp_path: Path) -> None:
    recommended = {"precision": "fp16", "why": "it answers like TensorFlow on 90 %"}
    result = bundled(bundle_run(tmp_path, recommended=recommended))
    assert result.manifest.order == (FP16, FP32, INT8)
    assert result.warnings == ("int8 comes last: quantize advises against it: it answers like TensorFlow on 90 %",)
    assert result.warnings[0] in (result.folder / "README.md").read_text()


def evaluation_of(space: Workspace, wrong: Precision) -> Evaluations:
    """A real evaluation of 720 made-up scores, of which those of one precision are the same for all photos."""
    photos = tuple(dataset_in(space).photos) * 20
    models = onnx_models_in(space)
    labels = models[0].spec.labels
    right = np.array([[label == photo.label for label in labels] for photo in photos], np.float32)
    scores = {open_runner(model).name: right.copy() for model in models}
    scores[f"onnxruntime-{wrong.value}"][:] = [1, 0, 0]
    reference = scores["onnxruntime-fp32"]
    return Evaluations(
        tuple(
            evaluation_from_scores(runner(name), score, photos, labels, None if score is reference else reference)
            for name, score in scores.items()
        )
    )


def test_a_precision_that_fails_the_gate_comes_last(space: Workspace) -> None:
    evaluated(space, to_json(evaluation_of(space, INT8)))
    result = bundled(space)
    assert result.manifest.order == (FP16, FP32, INT8)
    assert result.warnings == ("int8 comes last: it failed the gate on the test photos",)


def test_of_two_failing_precisions_the_wider_comes_first(space: Workspace) -> None:
    details = evaluation_of(space, FP16)
    order, against = shipping_order(tuple(Precision), "so", details)
    assert order == (FP32, FP16, INT8)
    assert set(against) == {FP16, INT8}
    assert shipping_order((FP16, FP32), "", None) == ((FP16, FP32), {})


def test_measurements_of_other_files_are_not_packed(space: Workspace) -> None:
    from trtpoets.pipeline.bundle import _measured

    models = onnx_models_in(space)
    artefacts = {model.path.name: sha256_of_file(model.path) for model in models}
    seal_card(space.benchmark, key="b", files=[], details={"artefacts": artefacts})
    assert _measured(space, models) == {"artefacts": artefacts}
    seal_card(space.benchmark, key="b", files=[], details={"artefacts": {**artefacts, "fp16.onnx": "other"}})
    assert _measured(space, models) is None


def test_an_onnxruntime_bundle_checks_itself(space: Workspace) -> None:
    bundle = bundled(space, Target.ONNXRUNTIME)
    check_manifest(bundle.folder)
    result = subprocess.run(
        [sys.executable, "selftest.py"], cwd=bundle.folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "passed" in result.stdout
    check_manifest(bundle.folder)  # it left nothing beside what it came with


def test_the_command(space: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("bundle", "tiny", "--for", "jetson", "--engines", str(space.engines))
    monkeypatch.setattr(sys, "argv", ["trtpoets", *arguments, "--json"])
    assert call_main(monkeypatch, *arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["folder"] == str(space.bundles / "tiny-jetson")
    assert document["manifest"]["order"] == ["int8", "fp16", "fp32"]
    assert call_main(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert document["archive_sha256"] in shown
    assert "\n  scp " in shown
    assert shown.startswith("tiny for jetson; to be tried in this order: int8, fp16, fp32\n")
    elsewhere = ("bundle", "tiny", "--for", "onnxruntime", "--engines", str(space.engines))
    assert call_main(monkeypatch, *elsewhere) == 0
    assert capsys.readouterr().out.startswith("tiny for onnxruntime: ")  # its providers decide, not an order
    assert call_main(monkeypatch, *arguments, "--jetpack", "9.9") == 1
    err = capsys.readouterr().err
    assert "'9.9'" in err and "4.6," in err and "[TP4070]" in err
    assert call_main(monkeypatch, "bundle", "tiny", "--for", "toaster") == 2
