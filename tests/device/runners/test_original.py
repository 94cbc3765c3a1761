"""The runner of an adopted file in its own framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.onnx.wrapping import spec_for
from tests.support.errors import raises
from tests.support.foreign_onnx import colour_classifier
from tests.support.tiny import tiny_photos
from trtpoets.adoption.loaded import load_foreign
from trtpoets.adoption.onnx import read_onnx_classifier
from trtpoets.core.errors import MissingArtefact, RunFailed
from trtpoets.core.original import Channels, Format
from trtpoets.core.types import Classifier
from trtpoets.device.runners import original
from trtpoets.device.runners.original import OriginalRunner

_COLOURS = np.array([(40, 40, 40), (100, 60, 40), (200, 180, 160)], np.uint8)


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("adopted")
    path = colour_classifier(folder / "net.onnx")
    return load_foreign(path).write(spec_for(read_onnx_classifier(path)), folder / "classifier")


def test_photos_become_scores(adopted: Classifier) -> None:
    photos = np.broadcast_to(_COLOURS[:, None, None], (3, 16, 16, 3))
    with OriginalRunner(adopted) as runner:
        scores = runner.infer(np.ascontiguousarray(photos))
    assert (runner.name, runner.spec) == ("original", adopted.spec)
    assert scores.shape == (3, 5)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scores.argmax(axis=1), [0, 1, 2])


def test_channels_are_those_of_the_file(adopted: Classifier) -> None:
    assert adopted.spec.original is not None
    swapped = replace(
        adopted, spec=replace(adopted.spec, original=replace(adopted.spec.original, channels=Channels.BGR))
    )
    photos = tiny_photos(4)
    with OriginalRunner(swapped) as bgr, OriginalRunner(adopted) as rgb:
        np.testing.assert_array_equal(bgr.infer(photos[..., ::-1].copy()), rgb.infer(photos))
        assert not np.array_equal(bgr.infer(photos), rgb.infer(photos))


def test_it_runs_only_inside_a_with_block(adopted: Classifier) -> None:
    runner = OriginalRunner(adopted)
    with pytest.raises(RunFailed):
        runner.infer(tiny_photos(1))
    with runner:
        runner.infer(tiny_photos(1))
    with pytest.raises(RunFailed):
        runner.infer(tiny_photos(1))


def test_a_file_that_is_gone(adopted: Classifier, tmp_path: Path) -> None:
    with (
        raises(MissingArtefact, "TP4115", "net.onnx") as caught,
        OriginalRunner(replace(adopted, folder=tmp_path)),
    ):
        pass
    assert caught.value.code == "TP4115"


@pytest.mark.parametrize("format_", [Format.TFLITE, Format.ONNX])
def test_a_tflite_file_must_be_trusted_before_it_is_opened(
    format_: Format, adopted: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter can write outside of its memory; ONNX Runtime checks the file."""
    assert adopted.spec.original is not None
    spec = replace(adopted.spec, original=replace(adopted.spec.original, format=format_))
    checked: list[tuple[Path, object]] = []

    class StopError(Exception):
        """The network would be opened now."""

    def opened(*arguments: object) -> None:
        raise StopError

    monkeypatch.setattr(original, "require_trusted", lambda *arguments: checked.append(arguments))
    monkeypatch.setattr(original, "onnx_or_tflite_network", opened)
    classifier = Classifier(adopted.folder, spec, "someone else")
    with pytest.raises(StopError), OriginalRunner(classifier):
        pass
    assert checked == ([(adopted.folder, "someone else")] if format_ is Format.TFLITE else [])
