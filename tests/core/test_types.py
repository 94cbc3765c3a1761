"""JSON and hashes of the shared types."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact
from trtpoets.core.types import ModelSpec, Preprocess, Resize, canonical_json

PREPROCESS = Preprocess(224, 192, (1 / 128, 0.5, 2.0), (-1.0, 0.0, 3.25), Resize.CROP, 0.875)
SPEC = ModelSpec("flowers", "mobilenet_v2", PREPROCESS, ("daisy", "rosé 🌹"), "sha")


def test_model_json_comes_back_the_same() -> None:
    assert ModelSpec.from_json(SPEC.to_json(), "model.json") == SPEC


@given(st.lists(st.text(), max_size=5), st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 4096))
def test_any_model_json_comes_back_the_same(labels: list[str], scale: float, height: int) -> None:
    spec = replace(SPEC, labels=tuple(labels), preprocess=replace(PREPROCESS, height=height, scale=(scale, 1.0, -0.5)))
    assert ModelSpec.from_json(spec.to_json(), "model.json") == spec


def test_the_hash_sees_everything_that_decides_the_pixels() -> None:
    changed = [
        PREPROCESS,
        replace(PREPROCESS, height=225),
        replace(PREPROCESS, width=193),
        replace(PREPROCESS, scale=(1 / 127, 0.5, 2.0)),
        replace(PREPROCESS, offset=(-1.0, 0.0, 3.0)),
        replace(PREPROCESS, resize=Resize.STRETCH),
        replace(PREPROCESS, crop_fraction=1.0),
    ]
    assert len({item.hash for item in changed}) == len(changed)


def test_an_edited_preprocessing_is_refused() -> None:
    value = json.loads(SPEC.to_json())
    value["preprocess"]["offset"] = [0, 0, 0]
    with raises(BadArtefact, "TP1095", "model.json"):
        ModelSpec.from_json(json.dumps(value), "model.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"preprocess_hash": ""}'])
def test_other_json_is_refused(text: str) -> None:
    with raises(BadArtefact, "TP1094", "x/model.json"):
        ModelSpec.from_json(text, "x/model.json")


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert canonical_json({"b": 1, "a": (2, "ü")}) == canonical_json({"a": [2, "ü"], "b": 1}) == '{"a":[2,"ü"],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("inf"))
