"""The content of report.json as types."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.support.report_documents import documents, report_of
from trtpoets.core.original import Answers, Channels, Format, Layout, Original, OriginalInput, OriginalOutput
from trtpoets.core.runner_id import ORIGINAL, TENSORFLOW
from trtpoets.core.serialization import from_json, to_json
from trtpoets.reporting import model


def test_a_report_is_read_as_it_was_written() -> None:
    report = report_of(documents())
    document = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert document["version"] == model.VERSION and document["schema_version"] == 1
    assert from_json(model.Report, document, "report.json") == report


def test_a_report_of_an_earlier_version_lacks_what_is_newer() -> None:
    report = from_json(model.Report, {"version": 1, "name": "flowers", "labels": ["a", "b"]}, "report.json")
    assert (report.name, report.labels, report.engines, report.gate) == ("flowers", ("a", "b"), (), None)
    assert report.quantisation == model.Quantisation()
    assert report.baseline_text == "TensorFlow"


def test_the_baseline_of_an_adopted_classifier_is_the_original() -> None:
    report = report_of(documents())
    assert report.spec is not None and report.baseline == TENSORFLOW
    input_ = OriginalInput("x", "float32", Layout.NCHW)
    output = OriginalOutput("y", "float32", 3, Answers.LOGITS)
    original = Original(Format.ONNX, "a.onnx", "a" * 64, "", input_, output, Channels.RGB)
    adopted = replace(report, spec=replace(report.spec, original=original))
    assert (adopted.baseline, adopted.baseline_text) == (ORIGINAL, "the original file")


def test_an_engine_without_a_file_name_has_that_of_its_runner() -> None:
    first, second = report_of(documents()).engines
    assert (first.name, second.name) == ("fp16.rtx.engine", "int8.rtx.engine")
    assert replace(first, file="").name == "rtx-fp16"
