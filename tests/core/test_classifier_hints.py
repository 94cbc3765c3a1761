"""Hints about a classifier are commands for its kind: trained or adopted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.adoption.onnx.networks import plain
from tests.adoption.onnx.wrapping import spec_for
from tests.support.tiny import tiny_spec
from tests.test_hints import commands_in, parsed
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.classifier_hints import convert_otherwise, make_again
from trtpoets.core.original import Format
from trtpoets.core.shell_commands import filled
from trtpoets.core.types import ModelSpec


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return spec_for(read_onnx_classifier(plain(tmp_path_factory.mktemp("foreign") / "net.onnx")))


def of_format(spec: ModelSpec, format_: Format) -> ModelSpec:
    assert spec.original is not None
    return replace(spec, original=replace(spec.original, format=format_))


def test_a_classifier_is_made_again_as_it_was_made(adopted: ModelSpec) -> None:
    for spec, verb in ((tiny_spec(), "retrain"), (adopted, "adopt")):
        (words,) = commands_in(filled(make_again(spec), "a b"))
        assert words[0] == verb
        assert parsed(words)["name"] == "a b"
        assert parsed(words)["force"]


@pytest.mark.parametrize("format_", Format)
def test_no_hint_for_an_adopted_classifier_is_about_training_or_the_opset(format_: Format, adopted: ModelSpec) -> None:
    hint = filled(convert_otherwise(of_format(adopted, format_), "trtpoets export NAME --opset 15"), "a b")
    verbs = [words[0] for words in commands_in(hint)]
    assert verbs == (["adopt", "doctor"] if format_.is_tensorflow else ["doctor"])
    assert all(parsed(words) is not None for words in commands_in(hint))
    assert convert_otherwise(tiny_spec(), "the hint for a trained one") == "the hint for a trained one"
