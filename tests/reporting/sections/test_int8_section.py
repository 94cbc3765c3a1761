"""The page's section on INT8: what the notes hold is shown, what they lack is left out, nothing is made up."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.pages import HOSTILE, Reader
from tests.support.report_documents import documents, measurement, report_of
from trtpoets.reporting import plots
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.sections.int8_section import int8_section


def fidelity(decibels: float, agreement: float) -> dict[str, Any]:
    return {
        "photos": 128,
        "features_db": decibels,
        "scores_db": decibels + 3,
        "agreement": agreement,
        "distance": 0.01,
    }


def kept(layer: str) -> dict[str, Any]:
    """A layer that the sensitivity analysis kept in FP32."""
    return {"layer": layer, "gain_db": 1.0, "share": 0.99, "fidelity": fidelity(20.0, 0.98)}


def point(layers: int, share: float, time: float, decibels: float) -> dict[str, Any]:
    """A mix that the search tried."""
    return {"layers": layers, "share": share, "time": time, "fidelity": fidelity(decibels, 0.98)}


def seen(layer: str, decibels: float, limit: float, top: float) -> dict[str, Any]:
    """The histogram of what a layer reads, half of it zeros."""
    return {
        "layer": layer,
        "db": decibels,
        "tensor": f"{layer} in",
        "limit": limit,
        "top": top,
        "shares": [0.5, 0.375, 0.1, 0.02, 0.005, 0.0, 0.0, 1e-6],
    }


def full() -> dict[str, Any]:
    """Documents of a run whose quantisation noted everything."""
    content = documents()
    content["quantisation"]["int8"] |= {
        "plain": fidelity(9.3, 0.92),
        "corrected": fidelity(17.0, 0.96),
        "together": fidelity(18.5, 0.97),
        "equalised": 31,
        "rounded": 52,
        "final": fidelity(23.4, 1.0),
        "steps": [kept("node 0"), kept("node 1")],
        "frontier": [point(0, 0.995, 0.56, 18.5), point(1, 0.98, 0.575, 21.0), point(2, 0.97, 0.6, 23.4)],
        "head": {"kept": False, "why": "it answers less often like FP32"},
        "recommended": {"precision": "int8", "why": "on 128 validation photos it agrees"},
        "histograms": [
            seen("node 1", 22.25, limit=1.5, top=6.0),
            seen("block", 30.5, limit=8.0, top=4.0),
        ],
        "layers_db": {"stem": 200.0, "node 0": 41.0, "block": 30.5, "node 1": 22.25, "top": 23.4},
    }
    content["quantisation"]["int8"]["calibration"]["trials"] = {
        "minmax": fidelity(10.4, 0.95),
        "percentile": fidelity(17.0, 0.96),
    }
    return content


def text_of(documents: dict[str, Any]) -> str:
    return Reader(page_from_report(report_of(documents))).text.replace("\u00a0", " ")


def test_all_notes_are_shown() -> None:
    text = text_of(full())
    parts = [
        "99.1 % of the multiply-adds, in 51 of 52 convolutions and 0 of 1 MatMul; 9 layers stayed in float.",
        "The channels of 31 tensors were equalised and the weights of 52 layers were rounded jointly (GPTQ)",
        "60 training photos of 3 classes (ant 20, bee 20 and cow 20), by the method entropy. None of them is a test",
        "minmax 95.0 % (10.4 dB) and percentile 96.0 % (17.0 dB)",
        "The last layer was refitted to the INT8 features; the result was not kept: it answers less often like FP32.",
        "quantize advises INT8: on 128 validation photos it agrees.",
        "Compared with FP32 on 128 validation photos",
        "Q/DQ pairs only 9.3 dB 12.3 dB 92.0 %",
        "biases corrected 17.0 dB 20.0 dB 96.0 %",
        "weights rounded by GPTQ 18.5 dB 21.5 dB 97.0 %",
        "and the 2 worst layers kept in float 23.4 dB 26.4 dB 100 %",
        "signal to quantisation noise, dB",
        "9 layers in float, and why",
        "node 8: why",
    ]
    place = text.index("INT8: 99.1")
    for part in parts:
        assert part in text[place:], part
        place = text.index(part, place)


def test_the_last_row_is_what_was_written() -> None:
    content = full()
    notes = content["quantisation"]["int8"]
    notes |= {"steps": [], "together": notes["corrected"], "final": notes["corrected"]}
    section = int8_section(report_of(content))
    assert section is not None
    assert [row.cells[0] for row in section.rows] == ["Q/DQ pairs only", "biases corrected"]
    notes["final"] = notes["plain"]
    section = int8_section(report_of(content))
    assert section is not None
    assert section.rows[-1].cells == ["as written", *section.rows[0].cells[1:]]


def test_distillation_and_what_it_changed() -> None:
    content = full()
    notes = content["quantisation"]["int8"]
    notes["distilled"] = {"kept": True, "why": "it is closer", "steps": 250, "photos": 224}
    notes["before_distillation"] = fidelity(20.5, 0.95)
    text = text_of(content)
    assert (
        "trained towards the features of FP32 (250 steps on 224 training photos, without labels); the result was"
        in text
    )
    assert "kept: it is closer." in text
    assert "and the 2 worst layers kept in float 20.5 dB 23.5 dB 95.0 % distilled 23.4 dB 26.4 dB 100 %" in text
    notes["distilled"] = {"kept": False, "why": "too few photos"}
    del notes["before_distillation"]
    text = text_of(content)
    assert "The network was to be distilled from FP32, but is as before: too few photos." in text
    assert "distilled 23.4" not in text


def test_the_plot_can_be_read_without_seeing() -> None:
    report = report_of(full())
    section = int8_section(report)
    assert section is not None
    picture, alt, caption = section.plots[0]
    assert alt.endswith("of 4 layers, in the network's order: lowest 22.2 dB at node 1, 23.4 dB at the end")
    assert "Hollow" in caption
    assert "currentColor" in picture
    assert not re.search(r"#[0-9a-f]{6}", picture)


def test_the_frontier_names_every_mix() -> None:
    section = int8_section(report_of(full()))
    assert section is not None
    picture, alt, caption = section.plots[2]
    assert alt.startswith(
        "The mixes that the search tried: 0 layers in float: 99.5 % in INT8, 0.56 of FP16's time, 18.5"
    )
    assert alt.endswith("2 layers in float: 97.0 % in INT8, 0.60 of FP16's time, 23.4 dB, agreement 98.0 %")
    assert "with 2 layers in float and 97.0 % of the multiply-adds in INT8" in caption
    assert picture.count("var(--second)") == 2, "the circle around the last mix: its shape and its place"
    assert not re.search(r"#[0-9a-f]{6}", picture)
    content = full()
    content["quantisation"]["int8"]["frontier"] = [point(0, 0.995, 0.56, 26.0)]
    alone = int8_section(report_of(content))
    assert alone is not None and len(alone.plots) == 2, "a search that kept no layer in float has no frontier"


def test_the_histograms_can_be_read_without_seeing() -> None:
    section = int8_section(report_of(full()))
    assert section is not None
    picture, alt, caption = section.plots[1]
    assert alt == (
        "Magnitudes that 2 layers read on the calibration photos: node 1 (22.2 dB) reads up to 6, clipped at 1.5; "
        "block (30.5 dB) reads up to 4, not clipped"
    )
    assert "larger values are clipped to it" in caption
    assert ">node 1<" in picture
    assert picture.count("var(--second)") == 1, "only one of the two is cut"
    assert picture.count("var(--accent)") == 2
    assert not re.search(r"#[0-9a-f]{6}", picture)


def test_a_range_that_is_cut_at_once_and_one_bin_alone() -> None:
    picture = plots.histograms_plot([("all of it is cut", 1e-9, 1.0, [0.5, 0.5]), ("one value", 2.0, 2.0, [1.0, 0.0])])
    assert [picture.count("var(--second)"), picture.count("var(--accent)")] == [1, 1]


def test_hollow_dots_are_the_layers_in_float() -> None:
    def dots(hollow: list[bool]) -> int:
        picture = plots.layers_plot([10.0, 20.0, 15.0], hollow)
        return len(re.findall(r"<use [^>]*var\(--second\)", picture))

    assert [dots([False] * 3), dots([True, False, True]), dots([True] * 3)] == [0, 2, 3]


@pytest.mark.parametrize(
    "word",
    [
        "plain",
        "corrected",
        "together",
        "equalised",
        "rounded",
        "final",
        "layers_db",
        "histograms",
        "calibration",
        "head",
        "recommended",
    ],
)
def test_what_was_not_noted_is_left_out(word: str) -> None:
    content = full()
    del content["quantisation"]["int8"][word]
    text = text_of(content)
    assert "INT8: 99.1 % of the multiply-adds" in text
    gone = {
        "plain": "Q/DQ pairs only",
        "corrected": "biases corrected",
        "together": "weights rounded by GPTQ 18.5",
        "equalised": "equalised",
        "rounded": "rounded jointly (GPTQ)",
        "final": "and 2 layers left",
        "layers_db": "Hollow",
        "histograms": "larger values are clipped",
        "calibration": "by the method",
        "head": "A last layer",
        "recommended": "quantize advises",
    }
    assert gone[word] not in text


def test_notes_of_before_give_no_table_and_no_plot() -> None:
    section = int8_section(report_of(documents()))
    assert section is not None
    assert section.rows == []
    assert list(section.plots) == []
    assert int8_section(report_of({})) is None


def test_onnx_runtimes_speed_is_no_engines() -> None:
    content = full()
    assert "says nothing about that of an INT8 engine" not in text_of(content)
    content["benchmark"]["measurements"].append(measurement("onnxruntime-int8", 1, 20.0, 0.5))
    assert "the speed of onnxruntime-int8 says nothing about that of an INT8 engine." in text_of(content)


def test_the_file_for_cpus_has_a_paragraph() -> None:
    content = full()
    assert "INT8 has two files" not in text_of(content)
    notes = content["quantisation"]["int8"]
    own = {**notes, "share": 0.9999, "size": 0.282, "islands": [], "head": None}
    own["recommended"] = {"precision": "fp32", "why": "it agrees on 95 %, 98 are asked for"}
    content["quantisation"] = {**content["quantisation"], "int8": {**notes, "size": 1.01}, "int8_cpu": own}
    text = text_of(content)
    assert "int8.cpu.onnx is for ONNX Runtime on CPUs, which computes >99.9 % of its multiply-adds in integers" in text
    assert (
        "no operator between them is computed in float. It has 28 % of the size of fp32.onnx, int8.onnx 101 %" in text
    )
    assert "For CPUs quantize advises FP32: it agrees on 95 %, 98 are asked for." in text
    verdict = " ".join(sentence.text for sentence in report_of(content).verdict)
    assert "quantize advises FP32 instead of int8.cpu.onnx: it agrees on 95 %" in verdict
    own["islands"] = ["norm"]
    assert "; 1 operator between them is computed in float" in text_of(content)


@pytest.mark.parametrize(
    ("steps", "circle", "why"),
    [
        (0, "with 0 layers in float", "does not recommend the file with them either"),
        (2, "with 2 layers in float", "recommends the file with them, and not without"),
    ],
)
def test_the_search_for_cpus_is_drawn(steps: int, circle: str, why: str) -> None:
    content = full()
    notes = content["quantisation"]["int8"]
    own = {**notes, "steps": notes["steps"][:steps]}
    content["quantisation"] = {**content["quantisation"], "int8_cpu": own}
    section = int8_section(report_of(content))
    assert section is not None
    picture, alt, caption = section.plots[3]
    assert alt.startswith("The mixes that the search tried for int8.cpu.onnx: 0 layers in float: 99.5 % in INT8, 18.5")
    assert "FP16" not in alt and "up to 2 layers in float" in caption
    assert circle in caption and why in caption
    assert picture.count("var(--second)") == 2, "the circle: its shape and its place"
    own["recommended"] = {"precision": "fp32", "why": "of an earlier version"}
    section = int8_section(report_of(content))
    assert section is not None and ("recommends the file" in section.plots[3][2]) is False
    own["frontier"] = own["frontier"][:1]
    alone = int8_section(report_of(content))
    assert alone is not None and len(alone.plots) == 3


def test_the_tflite_file_has_a_paragraph() -> None:
    content = full()
    assert "int8.tflite" not in text_of(content)
    advice = {"precision": "fp32", "why": "it agrees on 97 %, 98 are asked for"}
    content["quantisation"] = {**content["quantisation"], "int8_tflite": {"size": 0.278, "recommended": advice}}
    text = text_of(content)
    assert "int8.tflite is for TFLite; it has 28 % of the size of fp32.tflite." in text
    assert "For TFLite bundle advises FP32: it agrees on 97 %, 98 are asked for." in text
    verdict = " ".join(sentence.text for sentence in report_of(content).verdict)
    assert "bundle advises FP32 instead of int8.tflite: it agrees on 97 %" in verdict


def test_nothing_in_float_and_many_classes() -> None:
    content = full()
    notes = content["quantisation"]["int8"]
    notes["in_float"] = {}
    notes["calibration"]["per_class"] = {f"class {i}": 1 + i % 2 for i in range(100)}
    text = text_of(content)
    assert "none stayed in float" in text
    assert "150 training photos of 100 classes (1 to 2 each)" in text
    assert "in float, and why" not in text


def test_names_of_layers_and_classes_are_text() -> None:
    content = full()
    notes = content["quantisation"]["int8"]
    notes["in_float"] = dict.fromkeys(HOSTILE, "<b>why</b>")
    notes["layers_db"] = {name: float(i) for i, name in enumerate(HOSTILE)}
    notes["histograms"] = [seen(name, 9.0, 1.0, 2.0) for name in HOSTILE]
    notes["calibration"]["per_class"] = dict.fromkeys(HOSTILE, 2)
    page = page_from_report(report_of(content))
    page.encode("utf-8")
    reader = Reader(page)
    assert not reader.all("script")
    assert not reader.all("img")
    assert "<b>why</b>" in reader.text
