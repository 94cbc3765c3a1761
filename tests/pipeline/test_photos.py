"""Photos are used only if they are unchanged since the dataset was read."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtpoets
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.report_documents import LABELS, documents, report_of
from tests.support.small_networks import residual_network, saved
from tests.support.tiny import tiny_photo_files, tiny_spec
from trtpoets.convert.int8.calibration import CalibrationConfig, calibration_from_photos
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.convert.precision import fp16_from_onnx
from trtpoets.core import images
from trtpoets.core.errors import BadInput, BadPhoto, PhotoChanged
from trtpoets.core.images import changed_photos, photo_batches, photo_bytes, photo_to_array
from trtpoets.core.runner_id import TENSORFLOW
from trtpoets.core.types import Photo, Split
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench.benchmark import BenchFailure, Benchmark
from trtpoets.judge.bench.meter import Meter
from trtpoets.judge.evaluation import scores_from_runner
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.golden import golden_photos
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.photos import verified_photos
from trtpoets.reporting.gallery import Galleries, galleries_from_report
from trtpoets.train.near_copies.thumbnails import ThumbnailCache

PREPROCESS = tiny_spec().preprocess


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return tiny_photo_files(tmp_path / "photos", 6)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return bundle_run(tmp_path)


def recoloured(photo: Photo) -> None:
    """Other colours under the same name."""
    with Image.open(photo.path) as image:
        image.load()
        Image.fromarray(255 - np.asarray(image.convert("RGB"))).save(photo.path, image.format)


def test_decoded_bytes_are_the_hashed_bytes(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is opened once, so that replacing it during the check has no effect."""
    expected = photo_to_array(photos[0].path, PREPROCESS)
    contents = iter([photos[0].path.read_bytes(), photos[1].path.read_bytes()])
    monkeypatch.setattr(images, "read_photo", lambda path: next(contents))
    assert np.array_equal(photo_to_array(photos[0], PREPROCESS), expected)
    with raises(PhotoChanged, "TP1014", "0.png"), photo_bytes(photos[0]):
        pass


def test_changed_photos_are_those_with_other_bytes_or_none(photos: list[Photo]) -> None:
    photos[4].path.touch()
    assert changed_photos(photos) == []
    recoloured(photos[1])
    photos[3].path.unlink()
    assert changed_photos(photos) == [photos[1], photos[3]]
    with raises(PhotoChanged, "TP1014", "1.png"):
        list(photo_batches(photos[:3], PREPROCESS, 2))
    assert photo_batches([photo.path for photo in photos[:3]], PREPROCESS, 2)  # a path has nothing to be held against


def evaluated(photos: list[Photo], folder: Path) -> Any:
    with FakeRunner(tiny_spec()) as runner:
        return scores_from_runner(runner, photos)


CONFIG = CalibrationConfig(photos=6)

READERS: dict[str, Callable[[list[Photo], Path], Any]] = {  # "ranges" counts all changed photos first
    "evaluate": evaluated,
    "golden photos": lambda photos, _: golden_photos(photos, PREPROCESS),
    "thumbnails": lambda photos, folder: ThumbnailCache(folder / "thumbnails", PREPROCESS).of(photos),
    "ranges": lambda photos, folder: (
        calibration_from_photos(saved(residual_network(), folder / "x"), photos, CONFIG).by_method
    ),
    "fp16": lambda photos, folder: fp16_from_onnx(saved(residual_network(), folder / "x"), photos, folder / "out"),
    "comparer": lambda photos, folder: Int8Evaluator(saved(residual_network(), folder / "x"), photos, ()).search_photos,
}


@pytest.mark.parametrize("reader", READERS)
def test_all_readers_refuse_changed_photos(photos: list[Photo], tmp_path: Path, reader: str) -> None:
    recoloured(photos[2])
    with raises(BadInput, "TP3018" if reader == "ranges" else "TP1014", photos[2].path):
        READERS[reader](photos, tmp_path)


def test_a_photo_changed_during_a_measurement_is_a_failure(photos: list[Photo]) -> None:
    paths = [photo.path for photo in photos]
    (pixels,) = photo_batches(photos, PREPROCESS, len(photos))
    with FakeRunner(tiny_spec()) as runner:
        meter = Meter(runner, pixels, 2, paths)
        meter.round(0.0, 1, 1.0)
        assert meter.fault == ""
        for photo in photos:
            recoloured(photo)
        meter.round(0.01, 1, 1.0)
    assert meter.fault == "a photo file was changed while it was measured"


def test_evaluate_refuses_photos_with_other_colours(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, one is named, and the hint reads them again; also when they change after the first look."""
    tests = dataset_in(space).in_split(Split.TEST)
    before = space.evaluation.read_bytes()

    def late(*_: Any) -> Any:
        for photo in tests[:2]:
            recoloured(photo)
        return evaluated(list(tests), space.folder)

    monkeypatch.setattr("trtpoets.pipeline.evaluate._evaluated", late)
    hint = space.command("pretrained", "none", "--photos", dataset_in(space).folder)
    for number in (2, len(tests)):
        with raises(BadInput, "TP8030", number, len(tests), tests[0].path) as e:
            trtpoets.evaluate("tiny", engines=space.engines, force=True)
        assert e.value.hint == hint
        for photo in tests[2:]:
            recoloured(photo)
    assert space.evaluation.read_bytes() == before


def test_an_evaluation_keeps_the_hashes_of_what_was_judged(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.pipeline.evaluate._evaluated", lambda *_: Evaluations(()))
    trtpoets.evaluate("tiny", engines=space.engines, force=True)
    tests = dataset_in(space).in_split(Split.TEST)
    assert (open_card(space.evaluation) or {})["judged"]["photo_sha256"] == [photo.sha256 for photo in tests]


def test_bench_counts_photos_that_changed_meanwhile(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = dataset_in(space).in_split(Split.TEST)

    def measured(*_: Any) -> Benchmark:
        recoloured(tests[1])
        return Benchmark((), (BenchFailure(TENSORFLOW, None, "it could not decode"),))

    monkeypatch.setattr("trtpoets.pipeline.bench.benchmark_from_artefacts", measured)
    monkeypatch.setattr("trtpoets.pipeline.bench._runnable", lambda _, artefacts, config: (artefacts, []))
    with raises(BadInput, "TP8030", "1", len(tests)):
        trtpoets.bench("tiny", engines=space.engines)


def test_other_photo_errors_are_raised_unchanged(space: Workspace) -> None:
    error = BadPhoto("something else")
    with pytest.raises(BadPhoto) as caught, verified_photos(space, dataset_in(space).photos):
        raise error
    assert caught.value is error


def pictures(galleries: Galleries) -> int:
    return sum(bool(tile.picture) for other in galleries.others for tile in other.tiles)


def test_the_page_does_not_show_changed_photos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = [replace(photo, label=LABELS[i % 3]) for i, photo in enumerate(tiny_photo_files(tmp_path / "p", 30))]
    report = report_of(documents(photos=results))
    shown = {str(photo.path): photo for photo in results}
    with caplog.at_level(logging.WARNING):
        before = pictures(galleries_from_report(report, shown))
        assert caplog.text == ""
        recoloured(results[0])
        recoloured(results[1])
        after = pictures(galleries_from_report(report, shown))
    assert 0 < after < before
    assert f"2 photos of the page changed after they were evaluated, for example {results[1].path}" in caplog.text
    assert f"trtpoets evaluate {report.name} --force" in caplog.text


DECODERS = {"photo_to_array", "photo_batches", "read_photo", "bytes_to_array", "photo_bytes"}
WITHOUT_A_HASH = {
    "core/images.py": "the reader itself",
    "train/folders/photo_files.py": "makes the hashes",
    "pipeline/photo_arguments.py": "photos of the command line, for label",
    "onboard/classify/classify_command.py": "photos of the command line",
    "judge/golden.py": "golden photos, by the hash in golden.json",
    "judge/bench/meter.py": "holds the pixels against verified ones, outside of the clock",
}


def test_dataset_photos_are_read_only_with_verification() -> None:
    """A decoder is given Photo objects, no paths, but in the modules that have no hash to hold against."""
    package = Path(trtpoets.__file__).parent
    result = set()
    for path in package.rglob("*.py"):
        name = str(path.relative_to(package))
        if name in WITHOUT_A_HASH or "templates" in name:
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if any(decoder in text for decoder in DECODERS) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DECODERS:
                given = ast.unparse(node.args[0])
                if "path" in given or node.func.id in ("read_photo", "bytes_to_array"):
                    result.add(f"{name}: {ast.unparse(node)}")
    assert not result
