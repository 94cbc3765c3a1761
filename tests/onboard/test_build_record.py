"""built/build.json: the engine of a bundle, and the precisions that were tried."""

from __future__ import annotations

import json

from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Flavour, Precision
from trtpoets.onboard.build_record import Attempt, BuildOptions, BuildRecord


def test_a_record_is_read_as_it_was_written() -> None:
    attempts = (Attempt(Precision.INT8, "TensorRT could not build it", "try fp16"), Attempt(Precision.FP16))
    options = BuildOptions(Flavour.TENSORRT, precisions=(Precision.INT8, Precision.FP16))
    for asked in (options, None):
        record = BuildRecord("b" * 64, "fp16.tensorrt.engine", asked, attempts)
        assert from_json(BuildRecord, json.loads(json.dumps(to_json(record))), "build.json") == record


def test_an_attempt_without_a_problem_is_the_engine_to_run() -> None:
    document = to_json(Attempt(Precision.FP16))
    assert document["problem"] == "" and document["verdict"] is None
