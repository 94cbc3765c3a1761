"""The order in which a device tries the precisions."""

from __future__ import annotations

from tests.support.report_documents import LABELS, evaluations
from tests.support.runner_ids import runner
from trtpoets.bundles.precision_order import shipping_order, why_not_cpu_form, why_not_tflite
from trtpoets.core.serialization import from_json
from trtpoets.core.types import Precision
from trtpoets.judge.evaluation_file import Evaluations

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def test_the_lowest_precision_comes_first() -> None:
    assert shipping_order((FP32, FP16, INT8), "", None) == ((INT8, FP16, FP32), {})
    assert shipping_order((FP32,), "", None) == ((FP32,), {})


def test_advice_against_int8_puts_it_last() -> None:
    order, reasons = shipping_order((FP32, FP16, INT8), "it loses answers", None)
    assert order == (FP16, FP32, INT8)
    assert reasons == {INT8: "quantize advises against it: it loses answers"}
    assert shipping_order((FP32, FP16), "it loses answers", None) == ((FP16, FP32), {})


def test_a_precision_that_fails_the_gate_comes_last() -> None:
    results, _ = evaluations(LABELS, 10)
    judged = from_json(Evaluations, {"evaluations": results, "skipped": []}, "evaluation.json")
    order, reasons = shipping_order((FP32, FP16, INT8), "", judged)
    assert order in ((INT8, FP16, FP32), (FP16, FP32, INT8))
    assert set(reasons) == ({INT8} if order[-1] is INT8 else set())


def test_the_file_for_cpus_has_its_own_gate() -> None:
    assert why_not_cpu_form("", None) == ""
    assert why_not_cpu_form("it loses answers", None) == "quantize advises against it: it loses answers"
    results, _ = evaluations(LABELS, 10)
    for_cpus = [{**row, "form": "cpu"} if row["runner"] == "onnxruntime-int8" else row for row in results]
    judged, other = (
        from_json(Evaluations, {"evaluations": rows, "skipped": []}, "evaluation.json") for rows in (for_cpus, results)
    )
    assert why_not_cpu_form("", judged) in ("", "it failed the gate on the test photos")
    assert bool(why_not_cpu_form("", judged)) == (INT8 in shipping_order((FP32, INT8), "", other)[1])
    assert shipping_order((FP32, INT8), "", judged) == ((INT8, FP32), {}), "another file"


def test_the_tflite_file_has_its_own_gate() -> None:
    assert why_not_tflite("", None) == ""
    assert why_not_tflite("it loses answers", None) == "it loses answers"
    results, _ = evaluations(LABELS, 10)
    narrow = next(row for row in results if row["runner"] == "onnxruntime-int8")
    tflite = {**narrow, **runner("tflite-int8").row()}
    judged, other = (
        from_json(Evaluations, {"evaluations": rows, "skipped": []}, "evaluation.json")
        for rows in ([*(row for row in results if row is not narrow), tflite], results)
    )
    assert bool(why_not_tflite("", judged)) == (INT8 in shipping_order((FP32, INT8), "", other)[1])
    assert why_not_tflite("", other) == "", "another file"
