"""A trial of contracts with labelled photos."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.errors import raises
from tests.support.foreign import COLOURS, ColourNetwork, bgr, colour_photos, foreign_model
from trtpoets.adoption.candidates import candidate_contracts
from trtpoets.adoption.contract import CAFFE, IMAGENET, RAW, SIGNED, UNIT, Contract, Geometry, Pixels
from trtpoets.adoption.facts import Fact
from trtpoets.adoption.trial import MAX_PHOTOS, Trial, TrialRow, try_contracts
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Channels, Evidence, Source
from trtpoets.core.types import Resize


def certain(pixels: Pixels | None = None, geometry: Geometry | None = None) -> Fact:
    return Fact(Evidence("pixels", Source.METADATA, "a file says so"), pixels, geometry)


@pytest.mark.parametrize("true", [RAW, UNIT, SIGNED, bgr(UNIT), CAFFE], ids=lambda pixels: pixels.text)
def test_the_right_contract_is_best(tmp_path: Path, true: Pixels) -> None:
    photos, truth = colour_photos(tmp_path, 40, noise=30)
    foreign = foreign_model()
    trial = try_contracts(ColourNetwork(true), foreign, photos, truth, candidate_contracts(foreign, ()))
    assert trial.photos == 40
    counts = {row.contract.pixels.text: row.count for row in reversed(trial.rows) if row.photos == 40}
    assert counts[true.text] == max(counts.values())
    assert all(len(line) <= 80 for line in trial.table.splitlines())
    assert true.text in trial.table


def test_equal_pixels_are_run_once(tmp_path: Path) -> None:
    photos, truth = colour_photos(tmp_path, 10, size=(16, 16))
    foreign = foreign_model()
    network = ColourNetwork(UNIT)
    geometries = (Geometry(), Geometry(Resize.CROP), Geometry(Resize.LETTERBOX))
    trial = try_contracts(network, foreign, photos, truth, [Contract(UNIT, geometry) for geometry in geometries])
    assert network.photos == 10
    assert len(trial.rows) == 3
    assert trial.rivals == 1


def test_lost_contracts_are_given_up(tmp_path: Path) -> None:
    photos, truth = colour_photos(tmp_path, 60, noise=10)
    foreign = foreign_model()
    network = ColourNetwork(RAW)
    contracts = candidate_contracts(foreign, ())
    trial = try_contracts(network, foreign, photos, truth, contracts)
    lost = [row for row in trial.rows if row.photos < trial.photos]
    assert {row.contract.pixels.text for row in lost} >= {UNIT.text, SIGNED.text, IMAGENET.text}
    assert all(trial.is_better(trial.best, row) for row in lost)
    assert network.photos < len(contracts) * len(photos) / 2


def test_geometry(tmp_path: Path) -> None:
    """The colour is in the middle of wide photos, and the borders show the colour of another class."""
    photos, truth = colour_photos(tmp_path, 40, size=(48, 16), noise=10)
    for photo, label in zip(photos, truth, strict=True):
        image = np.array(Image.open(photo.path))
        image[:, :16] = image[:, 32:] = COLOURS[(label + 1) % 5]
        Image.fromarray(image).save(photo.path)
    changed = [replace(photo, sha256=hashlib.sha256(photo.path.read_bytes()).hexdigest()) for photo in photos]
    foreign = foreign_model()
    for facts in ((), (certain(UNIT),)):
        trial = try_contracts(ColourNetwork(UNIT), foreign, changed, truth, candidate_contracts(foreign, facts))
        assert trial.best.contract.geometry.resize is Resize.CROP
        assert trial.best.contract.pixels.channels is Channels.RGB
        stretch = next(row for row in trial.rows if row.contract == Contract(UNIT, Geometry()))
        assert trial.is_better(trial.best, stretch)


def test_slow_networks_are_tried_on_fewer_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, truth = colour_photos(tmp_path, 10, noise=30)
    contracts = [Contract(pixels, Geometry()) for pixels in (UNIT, SIGNED)]
    foreign = foreign_model()
    assert try_contracts(ColourNetwork(UNIT), foreign, photos * 10, truth * 10, contracts[:1]).photos == 72
    monkeypatch.setattr("trtpoets.adoption.trial._SECONDS", 0)
    assert try_contracts(ColourNetwork(UNIT), foreign, photos * 10, truth * 10, contracts).photos == 72


def test_photos_are_taken_in_turn_from_each_class(tmp_path: Path) -> None:
    photos, truth = colour_photos(tmp_path, 10)
    many, labels = photos * 40, truth * 40
    labels[:300] = [0] * 300
    foreign = foreign_model()
    trial = try_contracts(ColourNetwork(UNIT), foreign, many, labels, [Contract(UNIT, Geometry())])
    assert trial.photos <= MAX_PHOTOS
    assert np.min(np.bincount(trial.truth[:20])) == 4
    with raises(BadInput, "TP9421", "10"):
        try_contracts(ColourNetwork(UNIT), foreign, photos, [-1] * 10, [Contract(UNIT, Geometry())])


def test_answers_that_are_no_numbers_are_wrong(tmp_path: Path) -> None:
    class Broken(ColourNetwork):
        def infer(self, values: np.ndarray) -> np.ndarray:
            return np.full((len(values), 5), np.nan, np.float32)

    photos, truth = colour_photos(tmp_path, 5)
    trial = try_contracts(Broken(UNIT), foreign_model(), photos, truth, [Contract(UNIT, Geometry())])
    assert trial.best.count == 0
    assert not trial.is_above_chance(trial.best)


def test_a_file_that_accepts_any_size_needs_one(tmp_path: Path) -> None:
    photos, truth = colour_photos(tmp_path, 5)
    contracts = [Contract(UNIT, Geometry())]
    with raises(BadInput, "TP9420"):
        try_contracts(ColourNetwork(UNIT), foreign_model(side=0), photos, truth, contracts)
    trial = try_contracts(ColourNetwork(UNIT), foreign_model(side=0), photos, truth, contracts, size=(8, 12))
    assert trial.photos == 5


def rows(truth: list[int], **right: list[int]) -> Trial:
    kinds = {"raw": RAW, "unit": UNIT, "signed": SIGNED, "caffe": CAFFE}
    trial_rows = [TrialRow(Contract(kinds[name], Geometry()), tuple(map(bool, flags))) for name, flags in right.items()]
    return Trial(tuple(sorted(trial_rows, key=lambda row: -row.count)), tuple(truth), 5, max(1, len(trial_rows) - 1))


def test_few_photos_prove_nothing() -> None:
    trial = rows([0, 1] * 5, raw=[1] * 10, unit=[0] * 4 + [1] * 6)
    assert not trial.is_better(trial.rows[0], trial.rows[1])
    assert trial.photos_needed(*trial.rows) is not None
    clear = rows([0, 1] * 10, raw=[1] * 20, unit=[0] * 10 + [1] * 10)
    assert clear.is_better(clear.rows[0], clear.rows[1])
    assert rows([0, 1], raw=[1, 0], unit=[1, 0]).photos_needed(*rows([0, 1], raw=[1, 0], unit=[1, 0]).rows) is None


def test_one_class_proves_nothing() -> None:
    """A network that always answers with the class of nearly all photos is right, but for no good reason."""
    truth = [0] * 95 + [1, 2, 3, 4, 4]
    constant, true = [1] * 95 + [0] * 5, [1] * 60 + [0] * 35 + [1] * 5
    trial = rows(truth, raw=constant, unit=true)
    assert trial.best.contract.pixels is RAW
    assert not trial.is_better(trial.rows[0], trial.rows[1])
    assert not trial.is_above_chance(trial.best)
