"""What later stages and --json learn from the card of int8.onnx."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.all_photos import counted, scored, scores
from tests.support.small_networks import spec
from trtpoets.core.network_notes import Fidelity, FrontierPoint
from trtpoets.core.serialization import to_json
from trtpoets.core.types import OnnxModel, Precision
from trtpoets.core.workspace import Workspace, card_of, seal_card
from trtpoets.judge.all_photos import all_photos_from_scores
from trtpoets.judge.cross_fit import CrossFitConfig
from trtpoets.judge.gate import gate_from_all_photos
from trtpoets.pipeline.int8_advice import TARGET, ComparedWithFp32, recommended_by_comparison, with_frontier

REFIT = "; N photos do not count because the last layer was refitted on them"


def test_the_document_of_int8_has_the_frontier(tmp_path: Path) -> None:
    space = Workspace(tmp_path, "flowers")
    models = [OnnxModel(space.onnx(precision), precision, spec()) for precision in (Precision.FP16, Precision.INT8)]
    for model in models:
        model.path.parent.mkdir(exist_ok=True)
        model.path.write_bytes(b"a network")
    points = [FrontierPoint(0, 0.99, 0.56, Fidelity(128, 24.0, 27.0, 0.96, 0.01))]
    seal_card(
        card_of(models[1].path), key="k", files=[models[1].path], details={"notes": {"frontier": to_json(points)}}
    )
    fp16, int8 = with_frontier("flowers", models, tmp_path)
    assert (fp16["precision"], int8["precision"]) == ("fp16", "int8")
    assert "frontier" not in fp16
    assert int8["frontier"] == to_json(points)


def test_an_earlier_card_has_no_frontier(tmp_path: Path) -> None:
    model = OnnxModel(Workspace(tmp_path, "flowers").onnx(Precision.INT8), Precision.INT8, spec())
    (document,) = with_frontier("flowers", [model], tmp_path)
    assert document["frontier"] == []


@pytest.mark.parametrize(
    ("refit", "calibration", "text"),
    [
        (0, 64, ""),
        (0, 280, "; calibrating with fewer photos leaves enough of them: {} --photos 64"),
        (300, 64, REFIT + "; with them there are enough: {} --no-refit-head"),
        (20, 64, REFIT + "; with them there are more, but still too few: {} --no-refit-head"),
        (
            20,
            280,
            f"{REFIT}; with them and fewer photos for calibration there are enough: {{}} --no-refit-head --photos 64",
        ),
    ],
)
def test_too_few_photos_because_of_the_refit_name_the_option(
    tmp_path: Path, refit: int, calibration: int, text: str
) -> None:
    """100 photos without a changed answer can't tell whether 98 % stay, about 190 could."""
    photos = counted(100 + refit + calibration, folds=False)
    rows = np.arange(len(photos.truth))
    file = replace(scored(photos, calibration), refit=(rows < calibration + refit) if refit else None)
    result = all_photos_from_scores(scores(photos.truth), [file], photos, CrossFitConfig(), "photos")
    gate = gate_from_all_photos(result, TARGET)
    assert gate is not None
    space = Workspace(tmp_path, "small")
    (on_photos,) = result.files
    comparison = ComparedWithFp32(on_photos.photos, gate, on_photos.refit_photos)
    assert (comparison.photos, comparison.refit_photos) == (100, refit)
    calibrated = [str(number) for number in range(calibration)]
    advised = recommended_by_comparison(space, comparison, calibrated, Precision.FP16)
    assert advised.precision is Precision.FP16
    expected = text.replace("N", str(refit)).format("trtpoets quantize small")
    assert advised.why.endswith(f"{expected} --engines {tmp_path}" if text else ")")
    assert ("--no-refit-head" in advised.why) == bool(refit)
    assert ("--photos" in advised.why) == ("--photos" in text)
