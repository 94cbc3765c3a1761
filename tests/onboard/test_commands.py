"""The commands of a bundle on the fake device: build, checks, measurements; in Python 3.8 and this one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import board_bundle as paper
from tests.fakes.board_bundle import PYTHONS, Board, as_json, paper_bundle
from tests.support import tiny
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed, MissingArtefact, RunFailed, StorageFailed
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Precision, Resize
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.benchmark_file import read_benchmark
from trtpoets.onboard import bench_command, resources
from trtpoets.onboard.bundle_options import parser
from trtpoets.onboard.installed_bundle import check_bundle_name, engine_in, open_bundle, runner_in
from trtpoets.onboard.resources import require_room
from trtpoets.onboard.result_lines import bench_lines

COMMANDS: dict[str, Any] = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr, assignment]

REFUSED = "refuse: IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (no implementation for conv)"


@pytest.fixture(params=PYTHONS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path, request.param)


@pytest.fixture
def here(tmp_path: Path) -> Board:
    return Board(tmp_path)


def record_of(bundle: Path) -> Any:
    return json.loads((bundle / "built" / "build.json").read_text())


# Building


def test_build_and_selftest(board: Board, bundle: Path) -> None:
    result = board.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    (engine,) = as_json(result)
    assert engine["path"] == str(bundle / "built" / "int8.tensorrt.engine")
    assert (engine["card"]["precision"], engine["card"]["calibration_hash"]) == ("int8", "c" * 64)
    record = record_of(bundle)
    assert (record["engine"], len(record["attempts"])) == ("int8.tensorrt.engine", 1)
    assert record["attempts"][0]["verdict"]["passed"] is True
    # Again: nothing to do, and the same words as in a workspace.
    again = board.run(bundle, "trtpoets", "build", "tiny", "--json")
    assert as_json(again) == [engine]
    assert "build built/" not in again.stderr
    found = as_json(board.run(bundle, "selftest", "--json"))
    assert (found["runner"], found["verdict"]["passed"], found["verdict"]["same_answers"]) == ("tensorrt-int8", True, 4)
    assert 0 < found["latency"]["median_ms"] <= found["latency"]["worst_ms"]
    assert "one photo at a time" in found["latency"]["conditions"]


def test_the_next_precision_is_used_and_reported(board: Board, bundle: Path) -> None:
    board.behave(int8="wrong", fp16=REFUSED)
    result = board.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    assert as_json(result)[0]["card"]["precision"] == "fp32"
    assert "warning: int8 can't be used: its scores differ from the golden ones by up to" in result.stderr
    assert "; next: fp16\n" in result.stderr
    assert "warning: fp16 can't be used: TensorRT 10.3.0 could not build" in result.stderr
    assert "no implementation for conv; next: fp32\n" in result.stderr
    attempts = record_of(bundle)["attempts"]
    assert [each["precision"] for each in attempts] == ["int8", "fp16", "fp32"]
    assert [bool(each["problem"]) for each in attempts] == [True, True, False]
    # What is not to be run does not lie about.
    engines = sorted(path.name for path in (bundle / "built").glob("*.engine"))
    assert engines == ["fp32.tensorrt.engine"]
    text = board.run(bundle, "build")
    assert "int8: not here: its scores differ" in text.stdout
    assert "fp32: " in text.stdout


def test_an_engine_that_ends_its_process_is_left_for_the_next(here: Board, bundle: Path) -> None:
    here.behave(int8="dies")
    result = here.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    assert as_json(result)[0]["card"]["precision"] == "fp16"
    assert "int8 can't be used: int8.tensorrt.engine does not run: its process was ended by SIGABRT" in result.stderr


def test_what_a_device_lacks_is_not_brought_by_pip(here: Board, bundle: Path, tmp_path: Path) -> None:
    with (tmp_path / "site" / "sitecustomize.py").open("a") as site:
        site.write("\nimport sys\n\nsys.modules['pycuda'] = sys.modules['pycuda.driver'] = None\n")
    result = here.run(bundle, "build")
    assert result.returncode == 1
    assert "pycuda" in result.stderr
    assert result.stderr.endswith("try: show what is missing and how to install it: ./install --dry-run\n")
    with (tmp_path / "site" / "sitecustomize.py").open("a") as site:
        site.write("sys.modules['onnxruntime'] = None\n")
    result = here.run(bundle, "selftest", "--runner", "onnxruntime")
    assert result.stderr.endswith("try: pip install onnxruntime\n")


@pytest.mark.slow
def test_strict_keeps_the_engine_and_exits_3(here: Board, bundle: Path) -> None:
    here.behave(int8="segfault")
    result = here.run(bundle, "build", "--strict")
    assert result.returncode == 3
    assert "Error: int8 was expected, but fp16 was built: " in result.stderr
    assert "SIGSEGV" in result.stderr
    assert here.run(bundle, "selftest").returncode == 0


def test_nothing_builds(here: Board, bundle: Path) -> None:
    here.behave(int8=REFUSED, fp16=REFUSED, fp32="wrong")
    result = here.run(bundle, "build", "--json")
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert "Error: no engine can be built on this device: int8: TensorRT" in result.stderr
    assert "; fp32: its scores differ from the golden ones" in result.stderr
    assert "Traceback" not in last
    assert here.run(bundle, "selftest").returncode == 1
    assert not (bundle / "built" / "build.json").exists()


@pytest.mark.slow
def test_a_build_that_fails_leaves_the_engine_that_was_there(here: Board, bundle: Path) -> None:
    assert here.run(bundle, "build", "--precision", "fp16").returncode == 0
    here.behave(int8=REFUSED)
    assert here.run(bundle, "build", "--precision", "int8").returncode == 1
    found = as_json(here.run(bundle, "selftest", "--json"))
    assert found["runner"] == "tensorrt-fp16"


@pytest.mark.slow
def test_other_options_and_force_build_again(here: Board, bundle: Path) -> None:
    def built(*words: str) -> tuple[int, bool]:
        result = here.run(bundle, "build", "--json", *words)
        return as_json(result)[0]["card"]["batch"]["maximum"], "build built/" in result.stderr

    assert built() == (32, True)
    assert built("--timeout", "50") == (32, False)
    assert built("--force") == (32, True)
    assert built("--batch", "4") == (4, True)


@pytest.mark.slow
def test_precisions_are_tried_in_the_order_given(here: Board, bundle: Path) -> None:
    here.behave(fp32=REFUSED)
    result = here.run(bundle, "build", "--json", "--precision", "fp32", "--precision", "fp16")
    assert as_json(result)[0]["card"]["precision"] == "fp16"
    assert [each["precision"] for each in record_of(bundle)["attempts"]] == ["fp32", "fp16"]
    result = here.run(bundle, "selftest", "--precision", "int8")
    assert result.returncode == 1
    assert "the engine here is fp16, not int8" in result.stderr


def test_a_dry_run_writes_nothing(board: Board, bundle: Path) -> None:
    result = board.run(bundle, "build", "--dry-run", "--json")
    assert result.returncode == 0, result.stderr
    plans = as_json(result)
    assert [plan["precision"] for plan in plans] == ["int8", "fp16", "fp32"]
    assert [plan["opset"] for plan in plans] == [17, 17, 17]
    assert not any(plan["current"] or plan["problems"] for plan in plans)
    assert not list((bundle / "built").glob("*.engine"))
    text = board.run(bundle, "build", "--dry-run", "--dla", "0")
    assert text.returncode == 1
    assert "problem: " in text.stdout


@pytest.mark.slow
def test_two_builds_at_once(here: Board, bundle: Path) -> None:
    here.behave(int8="slow")
    first = subprocess.Popen([bundle / "build"], env=here.variables, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        here.use(bundle / "built" / "venv")
        lock = bundle / "built" / ".lock"
        while not (lock.is_file() and lock.read_text()):
            assert first.poll() is None, first.stderr.read()
        result = here.run(bundle, "build")
        assert result.returncode == 1
        assert f"another trtpoets (process {lock.read_text()}) is working on {bundle}" in result.stderr
    finally:
        first.kill()
        first.wait()
        assert first.stderr is not None
        first.stderr.close()


@pytest.mark.slow
def test_jetpack_5s_tensorrt(board: Board, bundle: Path) -> None:
    board.environment["PAPER_TENSORRT"] = "8.5.2"
    result = board.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    assert as_json(result)[0]["card"]["tensorrt_version"] == "8.5.2"
    assert board.run(bundle, "selftest").returncode == 0


NOT_ON_A_DEVICE = "onnx onnxruntime typer click rich tensorflow keras jinja2"


@pytest.mark.parametrize(
    "version", ["8.5.2", pytest.param("8.6.2", marks=pytest.mark.slow), pytest.param("10.3.0", marks=pytest.mark.slow)]
)
def test_a_parser_s_refusal_leads_to_the_next_precision_without_onnx(here: Board, bundle: Path, version: str) -> None:
    here.environment.update(PAPER_TENSORRT=version, PAPER_LACKS=NOT_ON_A_DEVICE)
    here.behave(int8="unknown operator", fp16=REFUSED)
    result = here.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    node = "a QuantizeLinear node" if version.startswith("8.") else "node 'conv' (Conv)"  # 8.x tells a number only
    assert f"can't parse the network: {node}: Plugin not found; next: fp16\n" in result.stderr
    assert as_json(result)[0]["card"]["precision"] == "fp32"


# What a device has too little of


def test_too_little_disk_or_memory(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_bundle(bundle).onnx(Precision.INT8)
    require_room(model, bundle / "built")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:     300000 kB\nSwapFree:          0 kB\n")
    with pytest.raises(BuildFailed, match=r"292 MiB of memory are free, but building .* needs 400 or more") as caught:
        require_room(model, bundle / "built", tmp_path)
    assert "add swap" in caught.value.hint
    usage = shutil.disk_usage(bundle)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: usage._replace(free=31 << 20))
    with pytest.raises(StorageFailed, match=r"31 MiB are free at .*, but an engine of int8.onnx needs 32"):
        require_room(model, bundle / "built")


@pytest.mark.parametrize(
    ("cuda", "environment", "mib"),
    [
        ("11.4", {}, 1400),  # JetPack 5
        ("11.4", {"CUDA_MODULE_LOADING": "LAZY"}, 1400),  # CUDA ignores it
        ("11.8", {}, 400),
        ("12.6", {}, 400),
        ("12.6", {"CUDA_MODULE_LOADING": "EAGER"}, 1400),
        (None, {}, 400),
    ],
)
def test_libraries_take_more_where_cuda_loads_all_kernels(
    cuda: str | None,
    environment: dict[str, str],
    mib: int,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resources.library_mib(cuda, environment) == mib

    def version() -> str:
        if cuda is None:
            raise RunFailed("no NVIDIA driver here")
        return cuda

    monkeypatch.setattr(resources.libcuda, "cuda_version", version)
    monkeypatch.delenv("CUDA_MODULE_LOADING", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:     300000 kB\nSwapFree:          0 kB\n")
    with pytest.raises(BuildFailed, match=rf"needs {mib:,} or more"):
        require_room(open_bundle(bundle).onnx(Precision.INT8), bundle / "built", tmp_path)


# Bundles that are not whole


def test_every_file_is_checked(bundle: Path) -> None:
    whole = open_bundle(bundle)
    for name in [*whole.manifest.files, "manifest.json"]:
        path = bundle / name
        content = path.read_bytes()
        place = len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BadArtefact) as caught:
            open_bundle(bundle)
        assert path.name in caught.value.message or name == "manifest.json"
        path.write_bytes(content)
    open_bundle(bundle)


@pytest.mark.parametrize("command", ["build", "selftest", "bench", "classify", "install"])
def test_every_command_checks_the_manifest(here: Board, bundle: Path, command: str) -> None:
    (bundle / "labels.txt").write_text("something else\n")
    result = here.run(bundle, command, *(["photo.jpg"] if command == "classify" else []))
    assert result.returncode == 1
    assert "labels.txt was changed or damaged" in result.stderr


@pytest.mark.parametrize("name", ["runtime/trtpoets/onboard/commands.py", "manifest.json"])
def test_a_runtime_that_is_damaged_is_not_started(board: Board, bundle: Path, name: str) -> None:
    (bundle / name).write_text("{ no Python, and no JSON")
    result = board.run(bundle, "selftest")
    assert result.returncode == 1
    assert result.stderr == f"Error: {bundle / name} was changed or damaged\n  try: copy the bundle here again\n"


def test_a_bundle_that_can_t_be_written_to(here: Board, bundle: Path) -> None:
    here.use(bundle.parent / "venv")
    here.environment["PATH"] = f"{bundle.parent}/venv/bin:{os.environ['PATH']}"
    (bundle / "built").write_text("in the way")
    result = subprocess.run([bundle / "build"], env=here.variables, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"can't write {bundle}/built/.lock" in result.stderr
    assert result.stderr.endswith("move it, or choose another folder\n")  # and no option that a bundle has not


@pytest.mark.slow
def test_an_engine_of_another_bundle_is_not_run(here: Board, bundle: Path) -> None:
    assert here.run(bundle, "build").returncode == 0
    engine_in(open_bundle(bundle))
    engine = bundle / "built" / "int8.tensorrt.engine"
    engine.write_bytes(engine.read_bytes() + b"x")
    result = here.run(bundle, "selftest")
    assert "is not the engine that its card describes" in result.stderr
    assert "trtpoets build built" not in result.stderr
    record = record_of(bundle)
    (bundle / "built" / "build.json").write_text(json.dumps({**record, "bundle": "0" * 64}))
    with pytest.raises(MissingArtefact, match="was built from another bundle"):
        engine_in(open_bundle(bundle))
    (bundle / "built" / "build.json").write_text(json.dumps({**record, "engine": "../int8.tensorrt.engine"}))
    with pytest.raises(BadArtefact, match="names an engine in another folder"):
        engine_in(open_bundle(bundle))
    (bundle / "built" / "build.json").write_text("[]")
    with pytest.raises(BadArtefact, match="is damaged"):
        engine_in(open_bundle(bundle))
    assert here.run(bundle, "build").returncode == 0  # whatever it was, a build puts it right
    assert here.run(bundle, "selftest").returncode == 0


def test_names_and_precisions_that_are_not_there(bundle: Path, tmp_path: Path) -> None:
    found = open_bundle(bundle)
    check_bundle_name(found, None)
    check_bundle_name(found, "tiny")
    with pytest.raises(BadInput, match="this bundle is tiny, not flowers") as wrong:
        check_bundle_name(found, "flowers")
    assert wrong.value.hint == "give tiny, or leave the name out"
    only = open_bundle(paper_bundle(tmp_path / "small" / "tiny-jetson", [Precision.FP16]))
    with pytest.raises(BadInput, match="this bundle has no int8"):
        runner_in(only, "onnxruntime", Precision.INT8)
    with pytest.raises(MissingArtefact, match="has no engine yet"):
        runner_in(only)
    with pytest.raises(MissingArtefact, match="is not a bundle"):
        open_bundle(tmp_path)


# Self-test and bench


def test_scores_that_are_not_the_golden_ones_fail_the_selftest(here: Board, bundle: Path) -> None:
    """The golden scores are the fake GPU's; the ONNX file computes others."""
    pytest.importorskip("onnxruntime")
    result = here.run(bundle, "selftest", "--runner", "onnxruntime", "--json")
    assert result.returncode == 3
    assert as_json(result)["verdict"]["passed"] is False
    assert "Error: onnxruntime-int8: its scores differ from the golden ones" in result.stderr


@pytest.mark.slow
def test_bench_as_in_a_workspace(board: Board, bundle: Path) -> None:
    assert board.run(bundle, "build").returncode == 0
    result = board.run(bundle, "bench", "tiny", "--batch", "1", "--seconds", "0.1", "--json", "--max-p99", "0.000001")
    assert result.returncode == 3, result.stderr
    assert "Error: " in result.stderr
    found = as_json(result)
    rows = {row["runner"]: row for row in found["measurements"]}
    assert rows["tensorrt-int8"]["p50_ms"] > 0
    assert rows[found["baseline"]]["speedup"] in (1.0, None)
    assert found["photos"] == 4
    saved = read_benchmark(bundle / "built" / "benchmark.json")
    assert to_json(saved) == found
    assert re.search(r"^tensorrt-int8 +1 ", "\n".join(bench_lines(saved)), re.MULTILINE)


@pytest.mark.slow
def test_golden_photos_are_not_cropped_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The network of this bundle uses the centre of a photo, and a golden photo is already cropped."""
    whole = tiny_spec()
    spec = replace(whole, preprocess=replace(whole.preprocess, resize=Resize.CROP, crop_fraction=0.5))
    framed = tiny_photos(4)
    framed[:, 0] = 255
    monkeypatch.setattr(tiny, "tiny_spec", lambda: spec)
    monkeypatch.setattr(paper, "tiny_spec", lambda: spec)
    monkeypatch.setattr(paper, "tiny_photos", lambda *_: framed)
    made = open_bundle(paper.paper_bundle(tmp_path / "tiny-jetson", [Precision.FP32]))
    monkeypatch.setattr(bench_command, "installed", lambda _: {"onnxruntime": "1"})
    monkeypatch.setattr(
        benchmark, "_CHILD", (sys.executable, "-m", "tests.fakes.failing_runners", '{"fp32": "framed"}')
    )
    found = bench_command.bench(made, BenchConfig(batches=(1,), min_seconds=0.1))
    assert found.failures == ()
    assert len(found.measurements) == 1


@pytest.mark.slow
def test_a_benchmark_beside_another_baseline_is_not_compared(here: Board, bundle: Path, tmp_path: Path) -> None:
    assert here.run(bundle, "build").returncode == 0
    (tmp_path / "old.json").write_text('{"measurements": [], "conditions": {}, "config": {}}')
    result = here.run(bundle, "bench", "--compare", str(tmp_path / "old.json"))
    assert result.returncode == 1
    assert "has the baseline tensorflow, but the baseline here is " in result.stderr


def test_nothing_to_bench(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_command, "installed", lambda _: {})
    with pytest.raises(MissingArtefact, match="has no engine yet"):
        bench_command.bench(open_bundle(bundle), BenchConfig())


# The program


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_a_terminal(command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = (parser() if command is None else COMMANDS[command]).format_help().splitlines()
    assert max(map(len, lines)) <= 80


def test_usage_errors_exit_2(board: Board, bundle: Path) -> None:
    assert board.run(bundle, "trtpoets").returncode == 2
    assert board.run(bundle, "build", "--precision", "int4").returncode == 2
    assert board.run(bundle, "trtpoets", "--version").stdout == "trtpoets 0.1.0\n"


def test_the_options_are_those_of_trtpoets() -> None:
    from typer.main import get_command

    from trtpoets.cli.main import app

    theirs = get_command(app).commands  # type: ignore[attr-defined]
    extra = {"build": {"--strict"}, "bench": set()}
    for name in ("build", "bench"):
        words = {word for action in COMMANDS[name]._actions for word in action.option_strings if word.startswith("--")}
        known = {word for parameter in theirs[name].params for word in parameter.opts}
        assert words - extra[name] - {"--help"} <= known, name
    build = {action.dest: action.default for action in COMMANDS["build"]._actions}
    defaults = {parameter.name: parameter.default for parameter in theirs["build"].params}
    assert (build["batch"], build["workspace"]) == (defaults["batch"], defaults["workspace"])


@pytest.mark.slow
def test_the_doctor(here: Board, bundle: Path) -> None:
    result = here.run(bundle, "trtpoets", "doctor")
    assert result.returncode == 0
    assert "TensorRT: 10.3.0" in result.stdout


@pytest.mark.parametrize("python", PYTHONS)
def test_the_runtime_needs_only_numpy(python: str, bundle: Path, tmp_path: Path) -> None:
    """Pillow, TensorRT and pycuda are imported when needed. `benchmarks/runtime_start.py` measures the import."""
    program = """
import sys
import trtpoets.onboard.commands
files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
print(*{name.split(".")[0] for name, file in files.items() if "site-packages" in file})
"""
    environment = {**os.environ, "PYTHONPATH": str(bundle / "runtime"), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert set(told.stdout.split()) - {"_virtualenv", "_distutils_hack", "sitecustomize"} == {"numpy"}
