"""The page as a reader's program sees it: whole HTML, nothing from elsewhere, nothing let through, readable colours."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from tests.support.all_photos import all_photos
from tests.support.errors import raises
from tests.support.pages import HOSTILE, Reader, read
from tests.support.races import race_result
from tests.support.report_documents import documents, report_of
from tests.support.runner_ids import runner
from trtpoets.core.errors import MissingDependency
from trtpoets.core.runner_id import INT8_FOR_CPUS
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Photo
from trtpoets.reporting.html import _tiles, page_from_report
from trtpoets.reporting.model import Report


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
        "onnxruntime-int8 answers 3 of 30 test photos differently from TensorFlow: 3 right answers lost, 0 won",
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
    assert "onnxruntime-fp16 1 ratio 2.5 2 -20.0% ±3.0% slower" in text
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


def test_changed_answers_are_shown_once(photos: dict[str, Photo]) -> None:
    content = documents(photos=list(photos.values()))
    narrow = content["evaluation"]["evaluations"][-1]
    content["evaluation"]["evaluations"].append({**narrow, **runner("rtx-int8").row()})
    content["evaluation"]["evaluations"].insert(1, {**narrow, **runner("tflite-int8").row()})
    text = read(content, photos).text.replace("\u00a0", " ")
    assert "rtx-int8 answers 3 of 30 test photos differently from TensorFlow: " in text
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
    first = "trtpoets pretrained efficientnet_lite0 <span>--name</span> insects"  # no line ends within --name
    assert f"<code>{first}\ntrtpoets report insects</code>" in page
    assert not reader.all("figure")


def test_a_long_name_breaks_after_an_underscore() -> None:
    content = documents()
    content["race"] = to_json(race_result())
    page = page_from_report(report_of(content))
    assert '<th scope="row" class="name">mobilenet_<wbr>v2' in page


def test_a_report_of_nothing() -> None:
    assert "No classifier yet." in read({}).text


@pytest.mark.parametrize(
    "missing", ["dataset", "training", "parity", "quantisation", "evaluation", "benchmark", "engines"]
)
def test_each_part_may_be_missing(missing: str) -> None:
    content = documents()
    del content[missing]
    assert "Skipped" in read(content).text


def test_the_same_report_gives_the_same_page(photos: dict[str, Photo]) -> None:
    report = report_of(documents(photos=list(photos.values())))
    assert page_from_report(report, photos) == page_from_report(report, photos)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with raises(MissingDependency, "TP1050", "is needed for", package) as caught:
        read(documents())
    assert caught.value.hint == "pip install 'trtpoets[report]'"


def figure(report: Report, what: str) -> tuple[str, str]:
    """The value and the note of a key figure."""
    (found,) = [figure for figure in _tiles(report) if figure.what == what]
    return found.value, found.note


def test_the_agreement_is_that_of_the_file_that_runs_here_on_all_photos() -> None:
    content = documents()
    assert figure(report_of(content), "INT8 agreement") == (
        "90.0 %",
        "int8.onnx: same answers as TensorFlow, 74.4–96.5 % on 30 test photos",
    )
    outside = "400 photos outside calibration, by cross-fitted heads"
    result = all_photos(600, calibration=200, changed=4)
    (int8,) = result.files
    cpu = replace(int8, file="int8.cpu.onnx", agreement=0.5, agreement_low=0.4, agreement_high=0.6)
    content["evaluation"]["all_photos"] = to_json(replace(result, files=(cpu, int8)))
    report = report_of(content)
    assert figure(report, "INT8 agreement") == (
        "99.0 %",
        f"int8.onnx: same answers as fp32.onnx, 97.3–99.6 % on {outside}",
    )
    assert figure(report, "FP16 agreement")[1].startswith("fp16.onnx: same answers as TensorFlow, ")
    content["evaluation"]["evaluations"][2] |= INT8_FOR_CPUS.row()
    report = report_of(content)
    assert figure(report, "INT8 agreement") == (
        "50.0 %",
        f"int8.cpu.onnx: same answers as fp32.onnx, 40.0–60.0 % on {outside}",
    )
    text = [sentence.text for sentence in report.verdict if sentence.about == "precision"]
    assert [", int8.cpu.onnx gives" in text[1], ", int8.onnx gives" in text[2]] == [True, True]
    assert text[3].startswith("INT8 for CPUs, int8.cpu.onnx, gives the same answer as TensorFlow for 90.0 % of 30 test")
    content["evaluation"]["evaluations"][2] |= {**runner("rtx-int8").row(), "form": "tensorrt"}
    value, note = figure(report_of(content), "INT8 agreement")
    assert (value, note[:39]) == ("99.0 %", "int8.onnx (as rtx-int8): same answers a")


def test_wide_tables_scroll_in_a_box_of_their_own(photos: dict[str, Photo]) -> None:
    """Items of a grid are as wide as their content unless their least width is 0, and would be cut off."""
    labels = [f"class {number:02} {'x' * 31}" for number in range(30)]
    page = page_from_report(report_of(documents(labels, 4)))
    assert len(re.findall("<table", page)) == len(re.findall(r'<div class="scroll"><table', page)) > 5
    assert ".pair > * { min-width: 0; }" in page
    assert re.search(r"\.scroll \{\s*overflow-x: auto;", page)
