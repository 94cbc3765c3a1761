"""What later stages and --json learn from the card of int8.onnx."""

from pathlib import Path

from tests.support.small_networks import spec
from trtpoets.core.network_notes import Fidelity, FrontierPoint
from trtpoets.core.serialization import to_json
from trtpoets.core.types import OnnxModel, Precision
from trtpoets.core.workspace import Workspace, card_of, seal_card
from trtpoets.pipeline.int8_advice import with_frontier


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
