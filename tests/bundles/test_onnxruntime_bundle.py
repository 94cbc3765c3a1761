"""The bundle for ONNX Runtime: settings that its sessions take, a classifier and a self-test that run by themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fakes.gpu_onnxruntime import TENSORRT_OPTIONS
from tests.support.bundle_inputs import ORDER, measured, tiny_parts
from tests.support.bundle_programs import change_expected_scores, interrupt, run_without
from tests.support.runner_ids import runner
from tests.support.tiny import SIDE, tiny_photos
from trtpoets.bundles.bundle_inputs import BundleInputs
from trtpoets.bundles.measured import best_row, fastest_precision, where
from trtpoets.bundles.onnxruntime_bundle import onnxruntime_files, settings_from_inputs
from trtpoets.core.manifest import check_manifest, write_manifest
from trtpoets.core.serialization import to_json
from trtpoets.core.streams import BROKEN_PIPE
from trtpoets.core.types import Int8Form, OnnxModel, Precision
from trtpoets.device.runners import open_runner


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> BundleInputs:
    return tiny_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def bundle(parts: BundleInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    onnxruntime_files(parts, folder)
    write_manifest(folder, name="tiny", target="onnxruntime", version="0.1.0", model="a" * 64, order=ORDER)
    return folder


_REFUSED = ("tensorflow", "onnx", "typer", "rich", "pycuda", "tensorrt", "tensorrt_rtx")


def script(bundle: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script of the bundle where only what it asks for can be imported."""
    return run_without(_REFUSED, bundle / name, *arguments)


def test_the_scripts_use_the_runtime_of_the_bundle(bundle: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(bundle)!r}); import classify, trtpoets; print(trtpoets.__file__)"
    result = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.strip() == str(bundle / "runtime" / "trtpoets" / "__init__.py"), result.stderr


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(precision, marks=pytest.mark.slow) if precision is Precision.FP16 else precision
        for precision in ORDER
    ],
)
def test_the_self_test_passes(bundle: Path, precision: Precision) -> None:
    result = script(bundle, "selftest.py", "--precision", precision.value, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["passed"] is True
    assert (document["precision"], document["photos"], document["same_answers"]) == (precision.value, 3, 3)
    assert document["max_difference"] <= document["tolerance"]
    check_manifest(bundle)  # running left nothing behind


def test_the_self_test_detects_another_network(parts: BundleInputs, tmp_path: Path) -> None:
    onnxruntime_files(parts, tmp_path)
    change_expected_scores(tmp_path)
    write_manifest(tmp_path, name="tiny", target="onnxruntime", version="0.1.0", model="a" * 64, order=ORDER)
    result = script(tmp_path, "selftest.py")
    assert result.returncode == 3, result.stderr
    assert result.stdout.startswith("FAILED: fp32 by cpu: scores differ by at most ")


def test_a_changed_file_is_named(parts: BundleInputs, tmp_path: Path) -> None:
    onnxruntime_files(parts, tmp_path)
    write_manifest(tmp_path, name="tiny", target="onnxruntime", version="0.1.0", model="a" * 64, order=ORDER)
    content = bytearray((tmp_path / "fp32.onnx").read_bytes())
    content[200] ^= 1
    (tmp_path / "fp32.onnx").write_bytes(content)
    result = script(tmp_path, "selftest.py")
    assert (result.returncode, result.stdout) == (1, "")
    assert "fp32.onnx was changed or damaged" in result.stderr
    (tmp_path / "fp32.onnx").write_bytes(content[:300])
    result = script(tmp_path, "classify.py", tmp_path / "golden" / "000.bmp")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ONNX Runtime can't open fp32.onnx: ")
    assert "  try: run python3 selftest.py, which lists changed files" in result.stderr


def test_a_folder_is_classified_line_by_line(bundle: Path, parts: BundleInputs, tmp_path: Path) -> None:
    for number, pixels in enumerate(tiny_photos(10, seed=4)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_text("no photo")
    result = script(bundle, "classify.py", tmp_path, "--top", 2)
    assert result.returncode == 1, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["photo"]).name for line in lines] == [f"{number}.png" for number in range(10)]
    assert "is not a photo" in lines[5]["error"]
    good = [line for line in lines if "error" not in line]
    with open_runner(parts.model(Precision.FP32)) as runner:
        expected = runner.infer(np.delete(tiny_photos(10, seed=4), 5, axis=0))
    for line, row in zip(good, expected, strict=True):
        best = np.argsort(-row)[:2]
        assert line["labels"] == [parts.spec.labels[i] for i in best]
        np.testing.assert_allclose(line["scores"], row[best], atol=1e-5)


@pytest.mark.slow  # starts two programs
def test_threshold_and_missing_photo(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "black.png")
    result = script(bundle, "classify.py", tmp_path / "black.png", "--threshold", 1.1)
    assert (result.returncode, json.loads(result.stdout)["labels"]) == (0, [])
    result = script(bundle, "classify.py", tmp_path / "none.png")
    assert result.returncode == 1
    assert "can't be read" in json.loads(result.stdout)["error"]


@pytest.mark.slow
def test_other_settings(bundle: Path, tmp_path: Path) -> None:
    settings = json.loads((bundle / "settings.json").read_text())
    settings["cpu"]["precision"] = "fp16"
    (tmp_path / "mine.json").write_text(json.dumps(settings))
    result = script(bundle, "selftest.py", "--settings", tmp_path / "mine.json", "--json")
    assert json.loads(result.stdout)["precision"] == "fp16"
    for text, item in (("{", "is not JSON"), ("{}", "has no settings for cpu"), ("[1]", "has no settings for cpu")):
        (tmp_path / "mine.json").write_text(text)
        result = script(bundle, "selftest.py", "--settings", tmp_path / "mine.json")
        assert result.returncode == 1
        assert item in result.stderr


def test_a_closed_pipe_is_not_an_error(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "black.png")
    reading, writing = os.pipe()
    os.close(reading)  # before the program writes, which `| head` does at a time that nothing determines
    command = [sys.executable, str(bundle / "classify.py"), str(tmp_path)]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (BROKEN_PIPE, "")  # as with trtpoets itself


def test_an_unavailable_provider_is_an_error(bundle: Path, tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "black.png")
    result = script(bundle, "classify.py", tmp_path / "black.png", "--provider", "tensorrt")
    assert (result.returncode, result.stdout) == (1, "")
    assert "TensorrtExecutionProvider can't be loaded here; CPUExecutionProvider would run" in result.stderr


def test_measurements_decide_the_precision(parts: BundleInputs) -> None:
    rows = [
        ("onnxruntime-fp32", 1, 200.0, True),
        ("onnxruntime-fp32", 8, 220.0, True),
        ("onnxruntime-int8", 16, 500.0, True),
        ("onnxruntime-int8", 32, 900.0, False),
        ("onnxruntime-tensorrt-fp16", 4, 4000.0, True),
    ]
    fast = replace(parts, measured=measured(rows, threads=2))
    settings = to_json(settings_from_inputs(fast))
    assert (settings["cpu"]["precision"], settings["cpu"]["batch"]) == ("int8", 16)
    assert settings["cpu"]["why"] == "measured: 500 photos/s at batch 16, on 2 cores of Paper CPU, 2026-11-23"
    assert settings["cpu"]["session"]["intra_op_num_threads"] == 2
    assert fast.measured
    with_gpu = {**fast.measured, "conditions": {**fast.measured["conditions"], "gpus": [{"name": "Paper GPU"}]}}
    assert where(replace(fast, measured=with_gpu)) == "on 2 cores of Paper CPU and a Paper GPU, 2026-11-23"
    assert (settings["tensorrt"]["precision"], settings["tensorrt"]["batch"]) == ("fp16", 4)
    assert (settings["cuda"]["precision"], settings["cuda"]["why"]) == ("fp16", "not measured: not by this provider")
    advised_against = replace(fast, order=(Precision.FP16, Precision.FP32, Precision.INT8))
    assert to_json(settings_from_inputs(advised_against))["cpu"]["precision"] == "fp32"
    server = replace(parts, measured=measured(rows, scenario="server"))
    assert best_row(server, runner("onnxruntime-fp32")) is None


def test_where_nothing_was_measured(parts: BundleInputs) -> None:
    settings = to_json(settings_from_inputs(parts))
    assert [settings[item]["precision"] for item in ("cpu", "cuda", "tensorrt")] == ["fp32", "fp16", "int8"]
    assert {item["batch"] for item in settings.values()} == {8}
    assert fastest_precision(parts, "", ()) == (Precision.INT8, "not measured: nothing was benched")
    assert where(parts) == "nowhere"


@pytest.mark.slow  # writes a bundle for each precision
@pytest.mark.parametrize(
    "precision", [ORDER[0], *(pytest.param(precision, marks=pytest.mark.slow) for precision in ORDER[1:])]
)
def test_one_precision_alone(parts: BundleInputs, tmp_path: Path, precision: Precision) -> None:
    onnxruntime_files(replace(parts, models=(parts.model(precision),), order=(precision,)), tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert {setting["precision"] for setting in settings.values()} == {precision.value}
    write_manifest(tmp_path, name="tiny", target="onnxruntime", version="0.1.0", model="a" * 64, order=(precision,))
    assert script(tmp_path, "selftest.py").returncode == 0
    other = script(
        tmp_path, "selftest.py", "--precision", next(setting.value for setting in ORDER if setting is not precision)
    )
    assert other.returncode == 1
    assert f"  try: it has {precision.value}" in other.stderr


def test_tensorrt_gets_the_options_of_the_file(parts: BundleInputs) -> None:
    providers = to_json(settings_from_inputs(parts))["tensorrt"]["providers"]
    flags = {}
    for precision, (tensorrt, cuda, cpu) in providers.items():
        assert (tensorrt[0], cuda[0], cpu[0]) == (
            *("TensorrtExecutionProvider", "CUDAExecutionProvider"),
            "CPUExecutionProvider",
        )
        options = tensorrt[1]
        flags[precision] = {word for word in ("trt_fp16_enable", "trt_int8_enable") if options.get(word)}
        assert options["trt_profile_opt_shapes"] == f"photos:8x{SIDE}x{SIDE}x3"
        assert options["trt_profile_max_shapes"] == f"photos:32x{SIDE}x{SIDE}x3"
        assert set(options) <= TENSORRT_OPTIONS
    assert flags == {"fp32": set(), "fp16": {"trt_fp16_enable"}, "int8": {"trt_fp16_enable", "trt_int8_enable"}}
    names = [provider[0][1]["trt_engine_cache_prefix"] for provider in providers.values()]
    assert len(set(names)) == 3


def test_the_readme_lists_the_chosen_precisions(bundle: Path) -> None:
    text = (bundle / "README.md").read_text()
    assert "| `cpu` | fp32 | not measured: nothing was benched |" in text
    assert f"uint8 `(N, {SIDE}, {SIDE}, 3)`" in text
    assert "@" not in text.replace("@sha", "")


def test_ctrl_c_ends_the_classifier_without_a_traceback(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "black.png")
    code, error = interrupt(bundle / "classify.py", tmp_path / "black.png", tmp_path / "photos")
    assert code == 130
    assert error == "Error: interrupted [TP1071]\n  try: run the same command again\n"


@pytest.mark.parametrize("program", ["classify.py", "selftest.py"])
def test_ctrl_c_while_numpy_is_imported_is_one_line(bundle: Path, tmp_path: Path, program: str) -> None:
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    # The tests may run in the background, where SIGINT is ignored.
    code = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"sys.argv = [{program!r}]; runpy.run_path({str(bundle / program)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: interrupted\n")


@pytest.fixture(scope="module")
def two_forms(parts: BundleInputs, tmp_path_factory: pytest.TempPathFactory) -> BundleInputs:
    """The same bundle with a CPU form, whose scores are those of the FP32 network."""
    path = tmp_path_factory.mktemp("form") / "int8.cpu.onnx"
    path.write_bytes(parts.model(Precision.FP32).path.read_bytes())
    form = OnnxModel(path, Precision.INT8, parts.spec, Int8Form.CPU)
    golden = replace(parts.golden, cpu_form=parts.golden.expected["fp32"])
    return replace(parts, cpu_form=form, golden=golden)


def test_int8_on_the_cpu_is_the_file_for_cpus(two_forms: BundleInputs, tmp_path: Path) -> None:
    onnxruntime_files(two_forms, tmp_path)
    write_manifest(tmp_path, name="tiny", target="onnxruntime", version="0.1.0", model="a" * 64, order=ORDER)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert {name: item["files"]["int8"] for name, item in settings.items()} == {
        "cpu": "int8.cpu.onnx",
        "cuda": "int8.onnx",
        "tensorrt": "int8.onnx",
    }
    assert {item["files"]["fp32"] for item in settings.values()} == {"fp32.onnx"}
    assert (settings["cpu"]["precision"], settings["tensorrt"]["precision"]) == ("int8", "int8")
    assert (tmp_path / "int8.onnx").is_file()
    readme = (tmp_path / "README.md").read_text()
    assert "| `cpu` | int8 | not measured: nothing was benched | `int8.cpu.onnx`, `fp16.onnx`, `fp32.onnx` |" in readme
    assert "`int8.cpu.onnx` for the CPU provider" in readme
    result = script(tmp_path, "selftest.py", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["max_difference"] < 1e-5, "compared with the scores of this file"
    (tmp_path / "int8.cpu.onnx").write_bytes(b"another file")
    changed = script(tmp_path, "selftest.py")
    assert changed.returncode == 1
    assert "int8.cpu.onnx was changed or damaged" in changed.stderr


def test_the_file_for_cpus_is_judged_by_itself(two_forms: BundleInputs) -> None:
    def chosen(parts: BundleInputs) -> dict[str, str]:
        return {name: item.precision.value for name, item in settings_from_inputs(parts).items()}

    only_tensorrt = replace(two_forms, against_cpu_form="quantize advises against it")
    assert chosen(only_tensorrt) == {"cpu": "fp32", "cuda": "fp16", "tensorrt": "int8"}
    only_cpu = replace(two_forms, order=(Precision.FP16, Precision.FP32, Precision.INT8))
    assert chosen(only_cpu) == {"cpu": "int8", "cuda": "fp16", "tensorrt": "fp16"}
    rows = [
        ("onnxruntime-fp32", 8, 220.0, True),
        ("onnxruntime-int8", 8, 500.0, True),
        ("onnxruntime-int8-cpu", 4, 300.0, True),
    ]
    settings = settings_from_inputs(replace(two_forms, measured=measured(rows)))
    assert (settings["cpu"].precision, settings["cpu"].batch) == (Precision.INT8, 4)
    assert settings["cpu"].why.startswith("measured: 300 photos/s at batch 4"), "not the time of the other file"
    rows[2] = ("onnxruntime-int8-cpu", 4, 200.0, True)
    assert chosen(replace(two_forms, measured=measured(rows)))["cpu"] == "fp32"


def test_int8_alone_has_both_files(two_forms: BundleInputs) -> None:
    alone = replace(two_forms, models=(two_forms.model(Precision.INT8),), order=(Precision.INT8,))
    against = replace(alone, against_cpu_form="it failed the gate on all photos")
    for parts in (alone, against):
        assert {item.precision for item in settings_from_inputs(parts).values()} == {Precision.INT8}
