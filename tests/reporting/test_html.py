"""The page as a reader's program sees it: whole HTML, nothing from elsewhere, nothing let through, readable colours."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import asdict

import pytest
from typer.main import get_command

from tests.support.pages import HOSTILE, Reader, read
from tests.support.report_documents import documents, measurement, report_of, train_benchmark
from tests.support.runner_ids import runner
from trtpoets.cli.main import app
from trtpoets.core.errors import MissingDependency
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Photo
from trtpoets.judge.bench.benchmark import BenchConfig
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import GateConfig, gate_from_evaluations
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.sections.provenance import commands_from_report


def test_one_file_that_needs_nothing_else(photos: dict[str, Photo]) -> None:
    page = page_from_report(report_of(documents(photos=list(photos.values()))), photos)
    reader = Reader(page)
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert not re.search(r"@import|<link|<iframe|https?://(?!www\.w3\.org/)", page)
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in reader.all("img"))
    assert not re.search(r'\bon\w+="', page)
    assert len(page.encode()) < 2_000_000


def test_it_can_be_read_without_seeing(photos: dict[str, Photo]) -> None:
    reader = read(documents(photos=list(photos.values())), photos)
    assert reader.all("html") == [{"lang": "en"}]
    assert len(reader.all("h1")) == 1
    pictures = reader.all("img")
    assert pictures
    assert all(image["alt"] for image in pictures)
    figures = reader.all("figure")
    assert len(figures) == 6
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    labels = " ".join(str(figure["aria-label"]) for figure in figures)
    assert "tensorflow 93.3" in labels
    assert "onnxruntime-fp16 250 at batch 1" in labels
    ids = [str(attributes["id"]) for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids


def test_the_verdict_comes_first_and_every_part_is_there(photos: dict[str, Photo]) -> None:
    text = read(documents(photos=list(photos.values())), photos).text.replace("\u00a0", " ")
    parts = [
        "Classifies ant, bee and cow, with the backbone efficientnet_lite0.",
        "Gained Fastest here, one photo at a time: onnxruntime-fp16",
        "Lost FP16 gives the same answer",
        "Ship Of what ran on this machine, ship fp16.onnx through onnxruntime",
        "Accuracy The classifier is right on 93.3 % of 30 held-out photos",
        "Filled: the Pareto front, onnxruntime-fp16.",
        "Measured on 30 photos",
        "78.7–98.2 %",
        "Each runner ran in its own process",
        "2.50×",
        "2 mistakes in 30 photos",
        "Mistakes with the highest scores",
        "Right answers",
        "trained for 400 steps in 2.5 s; step 200",
        "300 photos of 3 classes",
        "1 file was left out",
        "ant/broken.jpg: it is empty",
        "1 group of equal photos",
        "differ from TensorFlow's by at most 3.0 × 10⁻⁷ on 30 photos",
        "softmax (it needs the range) stayed FP32",
        "99.1 % of the multiply-adds, in 51 of 52 convolutions and 0 of 1 MatMul",
        "9 layers stayed in float",
        "60 training photos of 3 classes (ant 20, bee 20 and cow 20), by the method entropy",
        "Answers that INT8 changed",
        "onnxruntime-int8 answers 3 of 30 test photos differently from TensorFlow in FP32: 3 right answers lost, 0 won",
        "FP32: ant 87 % INT8: bee 87 % is ant",
        "9 layers in float, and why",
        "node 5: why",
        "fp16.rtx.engine",
        "e" * 64,
        "no NVIDIA driver here",
        "a processor, 2 usable cores",
        (
            "trtpoets retrain photos --name insects --backbone efficientnet_lite0 --resize stretch --steps 400 "
            "--batch-size 100 --learning-rate 0.0003 --optimizer adam --l2 0.01 --label-smoothing 0.0 --seed 3"
        ),
        "trtpoets export insects",
        "trtpoets bench insects",
    ]
    place = 0
    for part in parts:
        assert part in text[place:], part
        place = text.index(part, place)


def test_clocks_intervals_and_spreads_are_shown_where_they_were_measured() -> None:
    content = documents()
    text = read(content).text
    assert "Three clocks" not in text
    assert "round by round" not in text
    assert "INVALID" not in text
    content["benchmark"]["measurements"][3] |= {"valid": False, "speedup": None, "reason": "too busy"}
    text = read(content).text
    assert "onnxruntime-fp16 8 25.0 INVALID 320" in text
    assert "Not valid: 1 of 4 measurements onnxruntime-fp16 at batch 8: too busy" in text
    content = documents()
    rows = content["benchmark"]["measurements"]
    rows[1] |= {
        "speedup_low": 2.4,
        "speedup_high": 2.6,
        "p99_ms": 4.9,
        "quantiles_ms": [3.5 + 0.1 * i for i in range(21)],
        "end_to_end": {"count": 64, "p50_ms": 7.25, "p90_ms": 8.0, "p99_ms": None},
        "device": {
            "count": 64,
            "p50_ms": 1.5,
            "p90_ms": 1.6,
            "p99_ms": None,
            "h2d_ms": 0.25,
            "compute_ms": 1.125,
            "d2h_ms": 0.125,
            "enqueue_ms": 0.0625,
            "graph": False,
        },
    }
    reader = read(content)
    assert "2.50× 2.40–2.60" in reader.text
    assert "round by round" in reader.text
    assert "Three clocks, ms (medians)" in reader.text
    assert "onnxruntime-fp16 1 4.00 7.25 0.25 1.12 0.12 0.06" in reader.text
    assert "Loading, first inference, peak memory runner" in reader.text
    assert "onnxruntime-fp16 1 1.00 12.0 321 Mistakes" in reader.text  # no sensor, no GPU: no columns for them
    rows[1] |= {"joules_per_photo": 0.0021}
    text = read(content).text
    assert "peak memory, energy above idle runner" in text
    assert "onnxruntime-fp16 1 1.00 12.0 321 2.1" in text
    assert "trtexec before version 11" in reader.text
    assert "as long as computing" not in reader.text
    rows[1]["device"] |= {"enqueue_ms": 1.0, "d2h_ms": 1.2}
    text = read(content).text
    assert "onnxruntime-fp16 at batch 1: queueing takes about as long as computing; a CUDA graph or a larger" in text
    assert "onnxruntime-fp16 at batch 1: copying takes as long as computing" in text
    labels = " ".join(str(figure["aria-label"]) for figure in reader.all("figure")).replace("\u00a0", " ")
    assert "onnxruntime-fp16 median 4.00 ms, p90 4.40, p99 4.90" in labels


def test_what_else_a_benchmark_says_is_shown() -> None:
    content = documents()
    plain = read(content).text
    assert "MLPerf's offline" not in plain
    assert "SHA-256 of the measured files" not in plain
    outcome = {"scenario": "offline", "runner": "onnxruntime-fp16", "batch": 8, "metric": "photos_per_s"}
    change = {"runner": "onnxruntime-fp16", "batch": 1, "by": "speedup", "before": 2.5, "now": 2.0}
    content["benchmark"] |= {
        "incomplete": "after 3 rounds of 20",
        "artefacts": {"fp16.onnx": "a" * 64},
        "machine": {
            "cpu_throttled": 3,
            "gpu": {
                "1": {
                    "sm_mhz_least": 1410.0,
                    "temperature_c_most": 71.0,
                    "power_w_most": None,
                    "throttled": ["heat", "power"],
                }
            },
        },
        "outcomes": [
            {**outcome, "value": 320.0, "valid": True, "reason": "", "loadgen": None},
            {
                **outcome,
                "runner": "tensorflow",
                "value": 90.0,
                "valid": False,
                "reason": "too busy",
                "loadgen": {"value": 95.0, "valid": True, "why": "the machine was faster then"},
            },
        ],
        "compared": {
            "changes": [{**change, "change": -0.2, "noise": 0.03, "verdict": "slower"}],
            "conditions": [{"what": "kernel", "before": "6.1", "now": "6.2"}],
            "missing": ["rtx-int8 at batch 1"],
        },
    }
    state = {"sm_mhz": 345.0, "sm_mhz_most": 1980.0, "power_w": 71.2, "power_limit_w": 700.0, "temperature_c": 31}
    content["benchmark"]["conditions"] |= {"gpu_state": [{**state, "throttled": [], "processes": 1}]}
    text = read(content).text
    assert "GPU 0 at the start 345 of 1,980 MHz, 71 of 700 W, 31 °C, 1 other process on it" in text
    assert "The benchmark was interrupted after 3 rounds of 20" in text
    assert "MLPerf's offline scenario: photos/s" in text
    assert "onnxruntime-fp16 8 320 VALID" in text
    assert "tensorflow 8 90 INVALID 95 VALID too busy; the machine was faster then" in text
    assert "onnxruntime-fp16 1 × TF 2.5 2 -20.0% ±3.0% slower" in text
    assert "before now rtx-int8 at batch 1 measured not measured kernel 6.1 6.2" in text
    assert f"fp16.onnx {'a' * 64}" in text
    assert "cores throttled by heat 3 times" in text
    assert "GPU, batch 1 1,410 MHz at least, 71 °C at most, throttled: heat and power" in text


def test_the_health_of_a_folder_and_how_it_was_trained() -> None:
    content = documents()
    assert "uneven" not in read(content).text
    content["dataset"]["counts"]["cow"] = {"train": 20, "validation": 3, "test": 2}
    content["dataset"]["config"] = {"validation_percent": 10, "test_percent": 20, "strict": True}
    content["engines"][0]["targets"] = ["sm89", "sm86"]
    content["training"]["config"] |= {"learning_rate": 0.01, "class_weights": True, "early_stop": None, "l2": 0.0}
    content["benchmark"]["config"] = {"batches": [1, 4], "min_seconds": 0.5, "threads": 2, "xla": False, "keras": True}
    text = read(content).text
    assert "Classes are uneven: ant has 4.0 times the photos of cow; --class-weights" in text
    assert "Fewer than 10 test photos, which is too few for the recall of a class: cow." in text
    options = (
        "--validation-percent 10 --test-percent 20 --strict --steps 400 --batch-size 100 --learning-rate 0.01 "
        "--optimizer adam --l2 0.0 --label-smoothing 0.0 --class-weights"
    )
    assert f"--backbone efficientnet_lite0 --resize stretch {options} --seed 3" in text
    assert "trtpoets build insects --precision fp16 --flavour rtx --target sm86 --target sm89 --batch 1:8:32 " in text
    assert "trtpoets build insects --precision int8 --flavour rtx --batch 1:8:32 trtpoets evaluate" in text
    assert "trtpoets bench insects --batch 1 --batch 4 --seconds 0.5 --keras --threads 2 trtpoets report" in text


def test_the_commands_on_the_page_are_commands() -> None:
    content = documents()
    content |= {"opset": 17, "train_benchmark": train_benchmark()}
    content["train_benchmark"]["config"] = {"learning_rates": [0.001, 0.01]}
    content["quantisation"]["int8"] |= {
        "calibration": {"asked": "auto", "photos": 64, "seed": 3, "method": "mse"},
        "config": {"int8_share": 0.9, "max_float_layers": 4},
        "head": {"kept": True, "why": "it helps"},
    }
    for card in content["engines"]:
        card |= {"workspace_mib": 512, "optimization_level": 3, "version_compatible": True, "dla_core": 0}
    evaluations = from_json(Evaluations, content["evaluation"], "x").evaluations
    config = GateConfig(max_drop=0.5, min_agreement=98, runners=("onnxruntime-fp16",))
    content["evaluation"]["gate"] = to_json(gate_from_evaluations(evaluations, config))
    server = BenchConfig(batches=(4,), scenario="server", target_qps=50, max_p99_ms=20, loadgen=True, cpu=True)
    content["benchmark"]["config"] = asdict(server)
    commands = commands_from_report(report_of(content))
    assert commands[1:] == [
        "trtpoets export insects --opset 17",
        (
            "trtpoets quantize insects --precision fp16 --precision int8 --method auto --photos 64 --int8-share 0.9 "
            "--max-fp16-layers 4 --refit-head --seed 3"
        ),
        (
            "trtpoets build insects --precision fp16 --precision int8 --flavour rtx --batch 1:8:32 --workspace 512 "
            "--optimization-level 3 --version-compatible --dla 0"
        ),
        "trtpoets evaluate insects --max-drop 0.5 --min-agreement 98 --runner onnxruntime-fp16",
        (
            "trtpoets bench insects --batch 4 --seconds 2.0 --cpu --scenario server --target-qps 50 --max-p99 20 "
            "--loadgen --threads 0"
        ),
        "trtpoets bench insects --train --learning-rate 0.001 --learning-rate 0.01",
        "trtpoets report insects",
    ]
    there = get_command(app).commands  # type: ignore[attr-defined]
    for command in commands:
        words = shlex.split(command)
        options = {option for parameter in there[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, command


def test_learning_rates_beside_each_other() -> None:
    content = documents()
    assert "Learning rates" not in read(content).text
    content["train_benchmark"] = train_benchmark()
    reader = read(content)
    text = reader.text.replace("\u00a0", " ")
    assert "measured with 64 photos: 200 on the CPU (190 to 210) and 2,000 on the GPU (1,900 to 2,100)." in text
    assert "0.001 has the lowest cross-entropy on the validation photos, 0.500; 0.01 comes within 5 %." in text
    assert "0.001 cpu 100 80.0 % 0.500 2.0 s" in text
    assert "1000 cpu – – diverged –" in text
    assert "training on a GPU TensorFlow finds no GPU on this machine" in text
    labels = [str(figure["aria-label"]) for figure in reader.all("figure")]
    assert "validation cross-entropy by learning rate; at the end 0.001 0.500, 0.01 0.500" in labels


def test_many_batch_sizes_are_a_click_away() -> None:
    content = documents()
    names = ("tensorflow", "onnxruntime-fp32", "rtx-fp16", "tflite-int8")
    rows = [measurement(name, batch, 1.0 * batch) for batch in (1, 2, 4, 8, 16) for name in names]
    content["benchmark"]["measurements"] = rows
    reader = read(content)
    assert "The other batch sizes" in reader.text
    assert "photos in a batch" in reader.text


def test_changed_answers_are_shown_once(photos: dict[str, Photo]) -> None:
    content = documents(photos=list(photos.values()))
    narrow = content["evaluation"]["evaluations"][-1]
    content["evaluation"]["evaluations"].append({**narrow, **runner("rtx-int8").row()})
    content["evaluation"]["evaluations"].insert(1, {**narrow, **runner("tflite-int8").row()})
    text = read(content, photos).text.replace("\u00a0", " ")
    assert "rtx-int8 answers 3 of 30 test photos differently from TensorFlow in FP32" in text
    assert "Of 30 photos, these runners differ from TensorFlow: tflite-int8 3 and onnxruntime-int8 3." in text
    del content["quantisation"]["int8"]
    text = read(content, photos).text.replace("\u00a0", " ")
    assert "Answers that INT8 changed" not in text
    assert "differ from TensorFlow: tflite-int8 3, onnxruntime-int8 3 and rtx-int8 3." in text


def test_names_are_text_and_nothing_else() -> None:
    content = documents(HOSTILE, per_class=6)
    content["spec"]["name"] = HOSTILE[0]
    content["dataset"] |= {"folder": "a b'; rm -rf <~>", "left_out": [{"path": HOSTILE[1], "reason": HOSTILE[2]}]}
    content["skipped"] = [{"what": HOSTILE[0], "why": HOSTILE[1]}]
    content["command"] = None
    page = page_from_report(report_of(content))
    page.encode("utf-8")
    reader = Reader(page)
    assert not reader.all("script")
    assert not reader.all("img")
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert "emoji \U0001f33c" in reader.text
    assert r"not utf \xff" in reader.text
    assert "trtpoets retrain 'a b'\"'\"'; rm -rf <~>'" in reader.text


def test_two_thousand_classes_fit() -> None:
    labels = tuple(f"class {i:04}" for i in range(2000))
    page = page_from_report(report_of(documents(labels, per_class=1)))
    assert len(page) < 150_000
    text = Reader(page).text
    assert "Classifies 2,000 classes" in text
    assert "The 30 classes with the lowest recall, of 2,000." in text
    assert "The 30 smallest classes; 1,970 more are not shown." in text
    assert "Most often confused" in text


def test_a_pretrained_network_without_photos() -> None:
    content = documents()
    reader = read({"spec": content["spec"], "parity": content["parity"]})
    assert "Nothing was measured yet." in reader.text
    assert "its head was not trained here" in reader.text
    page = page_from_report(report_of({"spec": content["spec"]}))
    assert "<code>trtpoets pretrained efficientnet_lite0 --name insects\ntrtpoets report insects</code>" in page
    assert not reader.all("figure")


def test_a_report_of_nothing() -> None:
    assert "No classifier yet." in read({}).text


@pytest.mark.parametrize(
    "missing", ["dataset", "training", "parity", "quantisation", "evaluation", "benchmark", "engines"]
)
def test_each_part_may_be_missing(missing: str) -> None:
    content = documents()
    del content[missing]
    assert "Skipped" in read(content).text


def test_invalid_and_missing_numbers_are_reported() -> None:
    content = documents()
    content["benchmark"]["measurements"] = [
        measurement("tensorflow", 1, 10.0, 1.0, p99_ms=12.0),
        measurement("onnxruntime-int8", 1, 2.0, valid=False, reason="wrong: 3 % right", p90_ms=None),
    ]
    text = read(content).text
    assert "Not valid: 1 of 2 measurements onnxruntime-int8 at batch 1: wrong: 3" in text
    assert "too few inferences were timed for that percentile" in text


def test_the_same_report_gives_the_same_page(photos: dict[str, Photo]) -> None:
    report = report_of(documents(photos=list(photos.values())))
    assert page_from_report(report, photos) == page_from_report(report, photos)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=f"needs {package}") as caught:
        read(documents())
    assert caught.value.hint == "pip install 'trtpoets[report]'"
