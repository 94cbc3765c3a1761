"""How the files of a run are judged."""

from pathlib import Path

import numpy as np

from tests.support.quantised_networks import with_pairs
from tests.support.small_networks import SIZE, residual_network, saved
from trtpoets.convert.int8.placement import placement_from_onnx
from trtpoets.core.types import OnnxModel, Precision
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.base import Runner
from trtpoets.pipeline.runner_access import judged_runner

PHOTOS = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


def scores(runner: Runner) -> np.ndarray:
    with runner:
        return runner.infer(PHOTOS)


def test_int8_is_judged_in_integers_under_the_name_of_its_file(tmp_path: Path) -> None:
    network = residual_network()
    placement = placement_from_onnx(network)
    int8 = saved(with_pairs(network, placement, dict.fromkeys(placement.tensors, 4.0)), tmp_path / "a", Precision.INT8)
    judged, plain = judged_runner(int8), open_runner(int8)
    assert judged.identity == plain.identity
    one_by_one = judged_runner(int8)
    with one_by_one:
        rows = np.concatenate([one_by_one.infer(PHOTOS[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(scores(judged), rows, err_msg="integers do not depend on the batch")
    np.testing.assert_allclose(rows, scores(plain), atol=0.02)


def test_other_files_run_as_they_are(tmp_path: Path) -> None:
    fp32: OnnxModel = saved(residual_network(), tmp_path / "fp32.onnx")
    np.testing.assert_array_equal(scores(judged_runner(fp32)), scores(open_runner(fp32)))
