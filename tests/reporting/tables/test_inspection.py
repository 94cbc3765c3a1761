"""The result of `inspect` as tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.tiny import tiny_spec
from trtpoets.core.types import Precision, TfliteModel
from trtpoets.pipeline.inspect_foreign import OtherFacts
from trtpoets.reporting.tables.inspection import inspection_parts


def inspected(kind: str, facts: Any, *, ours: bool = True) -> list[Any]:
    description = SimpleNamespace(
        kind=kind, facts=facts, of_ours=ours, path=Path("x/a\x1b"), bytes=1234, sha256="f" * 64
    )
    return list(inspection_parts(description))


def test_the_file_is_described_first_and_hashed_last() -> None:
    ((title, columns, rows),) = inspected("model", tiny_spec())
    assert (title, columns) == ("", ["", ""])
    assert rows[0] == ("file", r"x/a\x1b")
    assert rows[1][0] == "is" and rows[1][1].endswith("1,234 bytes")
    assert rows[-1] == ("sha256", "f" * 64)
    values = dict(rows)
    assert values["labels"] == "ant, bee, cow"
    assert values["photos"].startswith("16×16, stretch, rule ")


def test_of_many_labels_the_first_are_shown() -> None:
    spec = replace(tiny_spec(), labels=tuple(f"label {number}" for number in range(1050)))
    ((_, _, rows),) = inspected("model", spec)
    assert dict(rows)["labels"].endswith("label 19 and 1,030 more")


def test_a_calibration_cache_lists_its_tensors() -> None:
    facts = SimpleNamespace(tensorrt="10.16", algorithm="EntropyCalibration2", scales={"photos": 1 / 127, "a": 0.5})
    first, (title, columns, rows) = inspected("calibration-cache", facts)
    assert dict(first[2])["for"] == "TensorRT 10.16"
    assert (title, columns) == ("Tensors", ["tensor", "scale>", "saturates at>"])
    assert rows[1] == ("a", "0.5", "63.5")
    facts.scales = {f"t{number}": 1.0 for number in range(30)}
    assert inspected("calibration-cache", facts)[1][2][-1] == ("… and 10 more", "", "")


def test_a_file_of_another_program_has_a_remedy() -> None:
    facts = OtherFacts("a zip archive", "unzip it", {"entries": "3"})
    ((_, _, rows),) = inspected("zip", facts, ours=False)
    values = dict(rows)
    assert values["is"] == "a zip archive, 1,234 bytes"
    assert (values["entries"], values["next"]) == ("3", "unzip it")


def test_a_tflite_file_has_its_precision() -> None:
    ((_, _, rows),) = inspected("tflite", TfliteModel(Path("a.tflite"), Precision.INT8, tiny_spec()))
    assert dict(rows)["precision"] == "int8"
