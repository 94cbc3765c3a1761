"""The command build of a bundle."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fakes.board_bundle import Board, as_json
from tests.support.build_records import record_of

REFUSED = "refuse: IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (no implementation for conv)"


def test_build_and_selftest(board: Board, bundle: Path) -> None:
    result = board.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    (engine,) = as_json(result)
    assert engine["path"] == str(bundle / "built" / "int8.tensorrt.engine")
    assert (engine["card"]["precision"], engine["card"]["calibration_hash"]) == ("int8", "c" * 64)
    record = record_of(bundle)
    assert (record["engine"], len(record["attempts"])) == ("int8.tensorrt.engine", 1)
    assert record["attempts"][0]["verdict"]["passed"] is True
    # The second build has nothing to do. Its arguments are those of the command for a workspace.
    again = board.run(bundle, "trtpoets", "build", "tiny", "--json")
    assert as_json(again) == [engine]
    assert "build built/" not in again.stderr
    actual = as_json(board.run(bundle, "selftest", "--json"))
    assert (actual["runner"], actual["verdict"]["passed"], actual["verdict"]["same_answers"]) == (
        "tensorrt-int8",
        True,
        4,
    )
    assert 0 < actual["latency"]["median_ms"] <= actual["latency"]["worst_ms"]
    assert "one photo at a time" in actual["latency"]["conditions"]


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
    assert [attempt["precision"] for attempt in attempts] == ["int8", "fp16", "fp32"]
    assert [bool(attempt["problem"]) for attempt in attempts] == [True, True, False]
    # Engines that must not be run are deleted.
    engines = sorted(path.name for path in (bundle / "built").glob("*.engine"))
    assert engines == ["fp32.tensorrt.engine"]
    text = board.run(bundle, "build")
    assert "int8: not here: its scores differ" in text.stdout
    assert "fp32: " in text.stdout


@pytest.mark.slow  # a variant of the test before
def test_an_engine_that_ends_its_process_is_left_for_the_next(here: Board, bundle: Path) -> None:
    here.behave(int8="dies")
    result = here.run(bundle, "build", "--json")
    assert result.returncode == 0, result.stderr
    assert as_json(result)[0]["card"]["precision"] == "fp16"
    assert "int8 can't be used: int8.tensorrt.engine does not run: its process was ended by SIGABRT" in result.stderr


@pytest.mark.slow
def test_strict_keeps_the_engine_and_exits_3(here: Board, bundle: Path) -> None:
    here.behave(int8="segfault")
    result = here.run(bundle, "build", "--strict")
    assert result.returncode == 3
    assert "Error: int8 " in result.stderr and "fp16" in result.stderr and "[TP7003]" in result.stderr
    assert "SIGSEGV" in result.stderr
    assert here.run(bundle, "selftest").returncode == 0


@pytest.mark.slow  # builds three engines
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
    result = as_json(here.run(bundle, "selftest", "--json"))
    assert result["runner"] == "tensorrt-fp16"


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
    assert [attempt["precision"] for attempt in record_of(bundle)["attempts"]] == ["fp32", "fp16"]
    result = here.run(bundle, "selftest", "--precision", "int8")
    assert result.returncode == 1
    assert "engine here is fp16" in result.stderr and "int8" in result.stderr and "[TP7031]" in result.stderr


@pytest.mark.slow  # test_build_plan.py has the plans
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
        assert f"process {lock.read_text()}" in result.stderr and f"{bundle} [TP1023]" in result.stderr
    finally:
        first.kill()
        first.wait()
        assert first.stderr is not None
        first.stderr.close()


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
    node = "a QuantizeLinear node" if version.startswith("8.") else "node 'conv' (Conv)"  # 8.x reports no name
    assert f"can't parse the network: {node}: Plugin not found; next: fp16\n" in result.stderr
    assert as_json(result)[0]["card"]["precision"] == "fp32"
