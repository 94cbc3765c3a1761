"""The page as a reader's program sees it: whole HTML, nothing from elsewhere, nothing let through, readable colours."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from tests.support.photos import photo_folder
from tests.support.report_documents import LABELS, documents, measurement, report_of, train_benchmark
from tests.support.runner_ids import runner
from trtpoets.cli.main import app
from trtpoets.core.errors import MissingDependency
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Photo, Split
from trtpoets.judge.bench.benchmark import BenchConfig
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import GateConfig, gate_from_evaluations
from trtpoets.reporting import gallery, plots, speed_plots
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.sections.provenance import commands_from_report

_VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects text, attributes and ids; complains about elements that don't match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(found: dict[str, Any], photos: dict[str, Photo] | None = None) -> Reader:
    return Reader(page_from_report(report_of(found), photos))


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Photo]:
    folder = photo_folder(tmp_path, dict.fromkeys(LABELS, 10))
    made = [Photo(path, path.parent.name, Split.TEST, sha256_of_file(path)) for path in sorted(folder.rglob("*.jpg"))]
    return {str(photo.path): photo for photo in made}


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
    found = documents()
    text = read(found).text
    assert "Three clocks" not in text
    assert "round by round" not in text
    assert "INVALID" not in text
    found["benchmark"]["measurements"][3] |= {"valid": False, "speedup": None, "reason": "too busy"}
    text = read(found).text
    assert "onnxruntime-fp16 8 25.0 INVALID 320" in text
    assert "Not valid: 1 of 4 measurements onnxruntime-fp16 at batch 8: too busy" in text
    found = documents()
    rows = found["benchmark"]["measurements"]
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
    reader = read(found)
    assert "2.50× 2.40–2.60" in reader.text
    assert "round by round" in reader.text
    assert "Three clocks, ms (medians)" in reader.text
    assert "onnxruntime-fp16 1 4.00 7.25 0.25 1.12 0.12 0.06" in reader.text
    assert "Loading, first inference, peak memory runner" in reader.text
    assert "onnxruntime-fp16 1 1.00 12.0 321 Mistakes" in reader.text  # no sensor, no GPU: no columns for them
    rows[1] |= {"joules_per_photo": 0.0021}
    text = read(found).text
    assert "peak memory, energy above idle runner" in text
    assert "onnxruntime-fp16 1 1.00 12.0 321 2.1" in text
    assert "trtexec before version 11" in reader.text
    assert "as long as computing" not in reader.text
    rows[1]["device"] |= {"enqueue_ms": 1.0, "d2h_ms": 1.2}
    text = read(found).text
    assert "onnxruntime-fp16 at batch 1: queueing takes about as long as computing; a CUDA graph or a larger" in text
    assert "onnxruntime-fp16 at batch 1: copying takes as long as computing" in text
    labels = " ".join(str(figure["aria-label"]) for figure in reader.all("figure")).replace("\u00a0", " ")
    assert "onnxruntime-fp16 median 4.00 ms, p90 4.40, p99 4.90" in labels


def test_what_else_a_benchmark_says_is_shown() -> None:
    found = documents()
    plain = read(found).text
    assert "MLPerf's offline" not in plain
    assert "SHA-256 of the measured files" not in plain
    outcome = {"scenario": "offline", "runner": "onnxruntime-fp16", "batch": 8, "metric": "photos_per_s"}
    change = {"runner": "onnxruntime-fp16", "batch": 1, "by": "speedup", "before": 2.5, "now": 2.0}
    found["benchmark"] |= {
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
    found["benchmark"]["conditions"] |= {"gpu_state": [{**state, "throttled": [], "processes": 1}]}
    text = read(found).text
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
    found = documents()
    assert "uneven" not in read(found).text
    found["dataset"]["counts"]["cow"] = {"train": 20, "validation": 3, "test": 2}
    found["dataset"]["config"] = {"validation_percent": 10, "test_percent": 20, "strict": True}
    found["engines"][0]["targets"] = ["sm89", "sm86"]
    found["training"]["config"] |= {"learning_rate": 0.01, "class_weights": True, "early_stop": None, "l2": 0.0}
    found["benchmark"]["config"] = {"batches": [1, 4], "min_seconds": 0.5, "threads": 2, "xla": False, "keras": True}
    text = read(found).text
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
    found = documents()
    found |= {"opset": 17, "train_benchmark": train_benchmark()}
    found["train_benchmark"]["config"] = {"learning_rates": [0.001, 0.01]}
    found["quantisation"]["int8"] |= {
        "calibration": {"asked": "auto", "photos": 64, "seed": 3, "method": "mse"},
        "config": {"int8_share": 0.9, "max_float_layers": 4},
        "head": {"kept": True, "why": "it helps"},
    }
    for card in found["engines"]:
        card |= {"workspace_mib": 512, "optimization_level": 3, "version_compatible": True, "dla_core": 0}
    evaluations = from_json(Evaluations, found["evaluation"], "x").evaluations
    config = GateConfig(max_drop=0.5, min_agreement=98, runners=("onnxruntime-fp16",))
    found["evaluation"]["gate"] = to_json(gate_from_evaluations(evaluations, config))
    server = BenchConfig(batches=(4,), scenario="server", target_qps=50, max_p99_ms=20, loadgen=True, cpu=True)
    found["benchmark"]["config"] = asdict(server)
    commands = commands_from_report(report_of(found))
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
    found = documents()
    assert "Learning rates" not in read(found).text
    found["train_benchmark"] = train_benchmark()
    reader = read(found)
    text = reader.text.replace("\u00a0", " ")
    assert "measured with 64 photos: 200 on the CPU (190 to 210) and 2,000 on the GPU (1,900 to 2,100)." in text
    assert "0.001 has the lowest cross-entropy on the validation photos, 0.500; 0.01 comes within 5 %." in text
    assert "0.001 cpu 100 80.0 % 0.500 2.0 s" in text
    assert "1000 cpu – – diverged –" in text
    assert "training on a GPU TensorFlow finds no GPU on this machine" in text
    labels = [str(figure["aria-label"]) for figure in reader.all("figure")]
    assert "validation cross-entropy by learning rate; at the end 0.001 0.500, 0.01 0.500" in labels


def test_many_batch_sizes_are_a_click_away() -> None:
    found = documents()
    names = ("tensorflow", "onnxruntime-fp32", "rtx-fp16", "tflite-int8")
    rows = [measurement(name, batch, 1.0 * batch) for batch in (1, 2, 4, 8, 16) for name in names]
    found["benchmark"]["measurements"] = rows
    reader = read(found)
    assert "The other batch sizes" in reader.text
    assert "photos in a batch" in reader.text


def test_changed_answers_are_shown_once(photos: dict[str, Photo]) -> None:
    found = documents(photos=list(photos.values()))
    narrow = found["evaluation"]["evaluations"][-1]
    found["evaluation"]["evaluations"].append({**narrow, **runner("rtx-int8").row()})
    found["evaluation"]["evaluations"].insert(1, {**narrow, **runner("tflite-int8").row()})
    text = read(found, photos).text.replace("\u00a0", " ")
    assert "rtx-int8 answers 3 of 30 test photos differently from TensorFlow in FP32" in text
    assert "Of 30 photos, these runners differ from TensorFlow: tflite-int8 3 and onnxruntime-int8 3." in text
    del found["quantisation"]["int8"]
    text = read(found, photos).text.replace("\u00a0", " ")
    assert "Answers that INT8 changed" not in text
    assert "differ from TensorFlow: tflite-int8 3, onnxruntime-int8 3 and rtx-int8 3." in text


def test_pictures_show_photos_of_this_run_only(photos: dict[str, Photo], tmp_path: Path) -> None:
    found = documents(photos=list(photos.values()))
    stranger = tmp_path / "private.jpg"
    Image.new("RGB", (32, 32)).save(stranger)
    evaluation = found["evaluation"]["evaluations"][0]
    evaluation["mistakes"] = [{**answer, "path": str(stranger)} for answer in evaluation["mistakes"]]
    next(iter(photos.values())).path.unlink()
    reader = read(found, photos)
    assert "private.jpg" in reader.text
    # Three changed answers and twelve right ones, one of which is gone; no mistake.
    assert len(reader.all("img")) == 3 + 12 - 1


def test_pictures_are_bounded(photos: dict[str, Photo], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 900, 3), dtype=np.uint8)
    for photo in photos.values():
        Image.fromarray(noise).save(photo.path, quality=95)
    photos = {path: replace(photo, sha256=sha256_of_file(photo.path)) for path, photo in photos.items()}
    page = page_from_report(report_of(documents(photos=list(photos.values()))), photos)
    assert page.count("data:image") > 12
    assert len(page) < 700_000
    monkeypatch.setattr(gallery, "_BUDGET", 60_000)
    page = page_from_report(report_of(documents(photos=list(photos.values()))), photos)
    assert 1 <= page.count("data:image") < 12
    assert "0001.jpg" in page


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    'quo\'te & "co"',
    "emoji \U0001f33c",
    "not utf \udcff",
    "x" * 3000,
    "$a_1$ \\frac",
)


def test_names_are_text_and_nothing_else() -> None:
    found = documents(HOSTILE, per_class=6)
    found["spec"]["name"] = HOSTILE[0]
    found["dataset"] |= {"folder": "a b'; rm -rf <~>", "left_out": [{"path": HOSTILE[1], "reason": HOSTILE[2]}]}
    found["skipped"] = [{"what": HOSTILE[0], "why": HOSTILE[1]}]
    found["command"] = None
    page = page_from_report(report_of(found))
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
    found = documents()
    reader = read({"spec": found["spec"], "parity": found["parity"]})
    assert "Nothing was measured yet." in reader.text
    assert "its head was not trained here" in reader.text
    page = page_from_report(report_of({"spec": found["spec"]}))
    assert "<code>trtpoets pretrained efficientnet_lite0 --name insects\ntrtpoets report insects</code>" in page
    assert not reader.all("figure")


def test_a_report_of_nothing() -> None:
    assert "No classifier yet." in read({}).text


@pytest.mark.parametrize(
    "missing", ["dataset", "training", "parity", "quantisation", "evaluation", "benchmark", "engines"]
)
def test_each_part_may_be_missing(missing: str) -> None:
    found = documents()
    del found[missing]
    assert "Skipped" in read(found).text


def test_invalid_and_missing_numbers_are_told() -> None:
    found = documents()
    found["benchmark"]["measurements"] = [
        measurement("tensorflow", 1, 10.0, 1.0, p99_ms=12.0),
        measurement("onnxruntime-int8", 1, 2.0, valid=False, reason="wrong: 3 % right", p90_ms=None),
    ]
    text = read(found).text
    assert "Not valid: 1 of 2 measurements onnxruntime-int8 at batch 1: wrong: 3" in text
    assert "too few inferences were timed for that percentile" in text


def test_the_same_report_gives_the_same_page(photos: dict[str, Photo]) -> None:
    report = report_of(documents(photos=list(photos.values())))
    assert page_from_report(report, photos) == page_from_report(report, photos)


POINTS = [
    speed_plots.Point("tensorflow", 9.0, 8.0, 10.0, 0.9, 0.8, 0.95),
    speed_plots.Point("x", 3.0, 2.5, 3.5, 0.88, 0.8, 0.95),
    speed_plots.Point("y", 4.0, 3.5, 70.0, 0.87, 0.8, 0.95),
]


def test_plots_take_the_pages_colours() -> None:
    pictures = [
        plots.accuracy_plot([("tensorflow", 0.9, 0.8, 0.95)]),
        speed_plots.throughput_plot([("a", 1, 10.0), ("a", 8, 20.0), ("b", 1, 12.0), ("b", 32, 50.0)]),
        speed_plots.throughput_plot([("a", 1, 10.0), ("tensorflow", 8, 20.0), ("b", 2, 12.0), ("b", 32, 50.0)]),
        speed_plots.tradeoff_plot(POINTS),
        speed_plots.latency_plot(
            [("tensorflow", {0: 1, 5: 2, 25: 3, 50: 4, 75: 5, 90: 6, 95: 7, 100: 9}), ("b", {50: 1, 99: 2})]
        ),
        plots.histograms_plot([("a layer", 0.5, 1.0, [0.5, 0.4, 0.1, 0.0]), ("x" * 99, 2.0, 1.0, [1.0, 0.0])]),
        plots.rates_plot("accuracy", {f"{rate}": ([50, 100], [0.5, 0.6]) for rate in range(5)}),
        plots.curves_plot("accuracy", [0, 10], {"train": [0.1, 0.9], "validation": [0.1, 0.8]}, 10),
    ]
    for picture in pictures:
        Reader(picture)
        assert not re.search(r"#[0-9a-f]{6}", picture)
        assert {"currentColor", "var(--accent)", "var(--line)"} <= set(
            re.findall(r"currentColor|var\(--\w+\)", picture)
        )
        assert not re.search(r"<svg[^>]* (width|height)=", picture)
        assert "font-family" not in picture
        for name in re.findall(r'(?:url\(|href=")#([^)"]+)', picture):
            assert f'id="{name}"' in picture


def luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_can_be_told_apart(mode: int) -> None:
    css = (files("trtpoets.reporting") / "templates" / "page.css").read_text()
    block = re.findall(r":root \{([^}]*)\}", css)[mode]
    colours = {}
    for name, value in re.findall(r"--(\w+): #([0-9a-f]{3,6});", block):
        digits = value if len(value) == 6 else "".join(2 * digit for digit in value)
        colours[name] = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    for name in ("ink", "soft", "accent", "second", "bad"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    assert contrast(colours["soft"], colours["card"]) >= 4.5
    share = float(re.findall(r"color-mix\(.*\* (\d+)%\)", css)[0]) / 100
    for tone in ("accent", "bad"):
        deepest = share * colours[tone] + (1 - share) * colours["card"]
        assert contrast(colours["ink"], deepest) >= 4.5, tone


def test_nothing_beats_those_on_the_front() -> None:
    assert [each.name for each in speed_plots.pareto(POINTS)] == ["x", "tensorflow"]
    twin = POINTS[1]._replace(name="twin", median=3.5)
    assert "twin" not in [each.name for each in speed_plots.pareto([*POINTS, twin])]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=f"needs {package}") as caught:
        read(documents())
    assert caught.value.hint == "pip install 'trtpoets[report]'"
