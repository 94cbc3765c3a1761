"""The decision about a contract, and how often a wrong contract is accepted."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.foreign import ColourNetwork, bgr, colour_photos, foreign_model
from trtpoets.adoption.candidates import candidate_contracts
from trtpoets.adoption.contract import IMAGENET, RAW, SIGNED, UNIT, Contract, Geometry, Pixels
from trtpoets.adoption.contract_options import ContractOptions, contract_options
from trtpoets.adoption.decide import decide
from trtpoets.adoption.facts import Fact, nearly_same, raw_feed
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.trial import Trial, TrialRow, try_contracts
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Channels, Evidence, Format, Source
from trtpoets.core.types import Photo, Resize, Split

STRETCH, CROP = Geometry(Resize.STRETCH), Geometry(Resize.CROP)
FOREIGN = foreign_model(side=224)


def fact(
    pixels: Pixels | None = None,
    geometry: Geometry | None = None,
    *,
    source: Source = Source.METADATA,
    certain: bool = True,
    channels_known: bool = True,
) -> Fact:
    text = f"a source states {pixels.text if pixels else ''}{geometry.text if geometry else ''}"
    return Fact(
        Evidence("pixels" if pixels else "resize", source, text),
        pixels,
        geometry,
        certain,
        channels_known=channels_known,
    )


def likely(pixels: Pixels) -> Fact:
    return fact(pixels, source=Source.PRODUCER, certain=False)


def trial_of(counts: dict[tuple[Pixels, Geometry], int], photos: int = 40) -> Trial:
    """Contracts with so many right answers, of the first photos each; two classes in turn."""
    rows = [
        TrialRow(Contract(pixels, geometry), tuple(number < count for number in range(photos)))
        for (pixels, geometry), count in counts.items()
    ]
    truth = tuple(number % 2 for number in range(photos))
    return Trial(tuple(sorted(rows, key=lambda row: -row.count)), truth, 5, max(1, len(rows) - 1))


def test_options_win_without_facts_and_against_them() -> None:
    options = contract_options(preprocess="tf", resize="crop")
    decision = decide(FOREIGN, (), None, options)
    assert decision.contract == Contract(SIGNED, CROP)
    assert [evidence.source for evidence in decision.evidence] == [Source.OPTION, Source.OPTION]
    assert not decision.warnings
    decision = decide(FOREIGN, (fact(UNIT),), None, options)
    assert decision.contract.pixels == SIGNED
    assert "but a source states 0..1, RGB" in decision.warnings[0]


def test_options_that_the_photos_contradict_are_followed_with_a_warning() -> None:
    trial = trial_of({(UNIT, STRETCH): 38, (SIGNED, STRETCH): 10, (RAW, STRETCH): 9})
    decision = decide(FOREIGN, (), trial, contract_options(preprocess="tf"))
    assert decision.contract.pixels == SIGNED
    assert "significantly fewer than the 38 of 40 with 0..1, RGB, stretch" in decision.warnings[0]
    assert "--preprocess 0-1 --resize stretch" in decision.warnings[0]
    assert not [
        line for line in decide(FOREIGN, (), trial, contract_options(preprocess="0-1")).warnings if "fewer" in line
    ]


def test_certain_facts_need_no_photos() -> None:
    decision = decide(FOREIGN, (fact(IMAGENET), fact(geometry=CROP)))
    assert decision.contract == Contract(IMAGENET, CROP)
    assert {evidence.source for evidence in decision.evidence} == {Source.METADATA}
    assert not decision.warnings


def test_facts_that_agree_nearly_are_one() -> None:
    inception = Pixels((1 / 128,) * 3, (-1.0,) * 3, name="-1..1")
    decision = decide(FOREIGN, (fact(inception, source=Source.PRODUCER), fact(SIGNED, source=Source.GRAPH)))
    assert decision.contract.pixels == SIGNED  # the more reliable source
    assert [evidence.source for evidence in decision.evidence][:2] == [Source.GRAPH, Source.PRODUCER]


def test_facts_that_disagree_stop() -> None:
    with raises(BadInput, "TP9432", "disagree") as caught:
        decide(FOREIGN, (fact(SIGNED), fact(UNIT, source=Source.PRODUCER)))
    listed = "\n".join(caught.value.details)
    assert "--preprocess tf" in listed
    assert "--preprocess 0-1" in listed


def test_a_certain_fact_that_the_photos_contradict_stops() -> None:
    trial = trial_of({(UNIT, STRETCH): 38, (SIGNED, STRETCH): 10, (RAW, STRETCH): 9})
    with raises(BadInput, "TP9433", "contradict") as caught:
        decide(FOREIGN, (fact(SIGNED),), trial)
    assert "-1..1, RGB, stretch 10 of 40" in caught.value.message
    assert "38 of 40 with 0..1, RGB, stretch" in caught.value.message
    near = trial_of({(UNIT, STRETCH): 38, (SIGNED, STRETCH): 36, (RAW, STRETCH): 9})
    assert decide(FOREIGN, (fact(SIGNED),), near).contract.pixels == SIGNED


def test_nothing_known_stops_and_lists_the_candidates() -> None:
    with raises(BadInput, "TP9430", "nothing states", "flowers.onnx") as caught:
        decide(FOREIGN, ())
    first, *rows = caught.value.details
    assert first.startswith("Candidates") and rows[0].split("  ")[0] == "0..255, RGB" and len(rows) == 12
    assert all(re.search(r"  --preprocess [a-z0-9-]+", row) and len(row) <= 78 for row in rows)
    assert str(caught.value).splitlines() == [caught.value.message, first, *rows]
    words = shlex.split(caught.value.hint[caught.value.hint.index("trtpoets adopt") :])
    assert words[:5] == ["trtpoets", "adopt", "models/flowers.onnx", "--name", "NAME"]
    assert "\n" not in caught.value.message


def test_likely_facts_stop_without_photos_and_are_listed_first() -> None:
    with raises(BadInput, "TP9431", "not certain", "ImageNet statistics") as caught:
        decide(FOREIGN, (likely(IMAGENET), likely(SIGNED)))
    listed = "\n".join(caught.value.details)
    assert listed.index("--preprocess torch") < listed.index("--preprocess tf") < listed.index("--preprocess raw")


def test_a_likely_fact_is_confirmed_by_photos() -> None:
    counts = {(IMAGENET, STRETCH): 38, (UNIT, STRETCH): 10, (SIGNED, STRETCH): 12, (bgr(IMAGENET), STRETCH): 38}
    decision = decide(FOREIGN, (likely(IMAGENET), likely(SIGNED)), trial_of(counts))
    assert decision.contract.pixels == IMAGENET
    assert {Source.PRODUCER, Source.TRIAL} <= {evidence.source for evidence in decision.evidence}
    # Another likely choice answers equally well, another contract better, or there are few photos.
    for changes, photos in (({(SIGNED, STRETCH): 38}, 40), ({(bgr(IMAGENET), STRETCH): 39}, 40), ({}, 12)):
        changed = {key: min(count, photos) for key, count in {**counts, **changes}.items()}
        with raises(BadInput, "TP9435", "do not distinguish"):
            decide(FOREIGN, (likely(IMAGENET), likely(SIGNED)), trial_of(changed, photos))


def test_equally_good_contracts_are_not_distinguished() -> None:
    trial = trial_of({(UNIT, STRETCH): 47, (SIGNED, STRETCH): 47, (RAW, STRETCH): 13}, 62)
    with raises(BadInput, "TP9435", "distinguish 0..1, RGB from -1..1, RGB (47 of 62)") as caught:
        decide(FOREIGN, (), trial)
    assert "0..255" not in caught.value.message
    assert "more photos of this kind may not distinguish them" in caught.value.message


def test_the_number_of_photos_that_is_needed() -> None:
    trial = trial_of({(UNIT, STRETCH): 38, (SIGNED, STRETCH): 35}, 40)
    with raises(BadInput, "TP9435", "0..1, RGB", "-1..1, RGB", "38 of 40", "35 of 40") as caught:
        decide(FOREIGN, (), trial)
    needed = int(re.search(r"about (\d+) photos", caught.value.message).group(1))  # type: ignore[union-attr]
    assert 41 <= needed <= 400


def test_a_trial_alone_decides_if_it_is_clear() -> None:
    trial = trial_of({(UNIT, CROP): 38, (UNIT, STRETCH): 37, (SIGNED, STRETCH): 12, (RAW, STRETCH): 9})
    decision = decide(FOREIGN, (), trial)
    assert decision.contract.pixels == UNIT
    texts = [evidence.text for evidence in decision.evidence if evidence.source is Source.TRIAL]
    assert "next best with other pixel values: 12" in texts[-1]
    assert "do not distinguish" in decision.warnings[0]
    assert "--resize decides" in decision.warnings[0]


def test_likely_values_that_the_photos_refute_are_listed_in_one_warning() -> None:
    trial = trial_of({(UNIT, STRETCH): 38, (SIGNED, STRETCH): 12, (IMAGENET, STRETCH): 11, (RAW, STRETCH): 9})
    facts = (likely(SIGNED), likely(IMAGENET), likely(RAW), likely(SIGNED))
    decision = decide(FOREIGN, facts, trial)
    assert decision.contract.pixels == UNIT
    texts = [item.evidence.text for item in facts[:3]]
    assert [text for text in decision.warnings if "decided otherwise" in text] == [
        f"the photos decided otherwise, but it was likely that {'; or that '.join(texts)}"
    ]


def test_photos_of_other_classes_decide_nothing() -> None:
    trial = trial_of({(UNIT, STRETCH): 21, (SIGNED, STRETCH): 19}, 40)
    with raises(BadInput, "TP9434", "chance"):
        decide(FOREIGN, (), trial)
    decision = decide(FOREIGN, (fact(UNIT),), trial)
    assert "no more than by chance" in decision.warnings[-1]


def test_the_channels_of_a_fact_about_values() -> None:
    values = fact(RAW, source=Source.SIBLING, channels_known=False)
    decision = decide(FOREIGN, (values,))
    assert decision.contract.pixels == RAW
    assert "--channels bgr" in decision.warnings[0]
    assert decide(FOREIGN, (values,), None, ContractOptions(channels=Channels.BGR)).contract.pixels == bgr(RAW)
    decision = decide(FOREIGN, (fact(UNIT),), None, ContractOptions(channels=Channels.BGR))
    assert decision.contract.pixels.same_as(bgr(UNIT))
    assert "--channels states bgr, but a source states 0..1, RGB" in decision.warnings[0]
    kinds = {one.pixels for one in candidate_contracts(FOREIGN, (fact(UNIT),), ContractOptions(channels=Channels.BGR))}
    assert {kind.channels for kind in kinds} == {Channels.BGR}
    known = fact(bgr(RAW), source=Source.PRODUCER)
    assert decide(FOREIGN, (values, known)).contract.pixels == bgr(RAW)
    clear = trial_of({(bgr(RAW), STRETCH): 38, (RAW, STRETCH): 12})
    assert decide(FOREIGN, (values,), clear).contract.pixels == bgr(RAW)
    near = trial_of({(bgr(RAW), STRETCH): 38, (RAW, STRETCH): 36})
    decision = decide(FOREIGN, (values,), near)
    assert decision.contract.pixels == RAW
    assert "do not distinguish the order of the channels (RGB 36, BGR 38 of 40 photos)" in decision.warnings[0]


def test_geometry_is_assumed_without_photos() -> None:
    decision = decide(FOREIGN, (fact(UNIT),))
    assert decision.contract.geometry == STRETCH
    assert decision.evidence[-1].source is Source.ASSUMED
    assert "stretch is assumed" in decision.warnings[0]
    crop = fact(geometry=CROP, source=Source.PRODUCER, certain=False)
    decision = decide(FOREIGN, (fact(UNIT), crop))
    assert decision.contract.geometry == CROP
    assert "likely, not certain" in decision.warnings[0]


def test_geometry_of_a_trial() -> None:
    clear = trial_of({(UNIT, CROP): 38, (UNIT, STRETCH): 10})
    decision = decide(FOREIGN, (fact(UNIT),), clear)
    assert decision.contract.geometry == CROP
    assert not decision.warnings
    letterbox = Geometry(Resize.LETTERBOX)
    near = trial_of({(UNIT, letterbox): 23, (UNIT, CROP): 22, (UNIT, STRETCH): 21}, 28)
    decision = decide(FOREIGN, (fact(UNIT),), near)
    assert decision.contract.geometry == CROP  # the best of the usual ones
    assert "do not distinguish crop (22 of 28) from letterbox (23) and stretch (21)" in decision.warnings[0]
    with raises(BadInput, "TP9436", "resizing") as caught:
        decide(FOREIGN, (fact(UNIT), fact(geometry=STRETCH)), clear)
    assert [line.split("  ")[-1] for line in caught.value.details[1:]] == [
        "--preprocess 0-1 --resize stretch",
        "--preprocess 0-1 --resize crop",
    ]


def test_integer_input() -> None:
    foreign = foreign_model(
        Path("m.tflite"), format_=Format.TFLITE, dtype="int8", scale=1 / 255, zero_point=-128, side=96
    )
    decision = decide(foreign, (), None, contract_options(preprocess="raw", resize="crop"))
    assert decision.contract.pixels == raw_feed(foreign.input)
    with pytest.raises(BadInput) as caught:
        decide(foreign, ())
    assert any("--preprocess raw --channels bgr" in line for line in caught.value.details)


# How often a wrong contract is accepted

KINDS = (UNIT, SIGNED, IMAGENET, RAW, bgr(UNIT), bgr(RAW))
GEOMETRIES = (STRETCH, CROP)


def simulated(random: np.random.Generator, photos: int, shares: Sequence[float], alike: float) -> Trial:
    """A trial whose kinds have these shares of right answers; `alike` is how much their answers depend on the photo."""
    truth = random.integers(0, 5, photos)
    difficulty = random.random(photos)
    rows = []
    for pixels, share in zip(KINDS, shares, strict=True):
        own = random.random(photos)
        of_kind = np.where(random.random(photos) < alike, difficulty, own)
        for geometry in GEOMETRIES:
            moved = np.where(random.random(photos) < 0.9, of_kind, random.random(photos))
            rows.append(TrialRow(Contract(pixels, geometry), tuple((moved < share).tolist())))
    order = sorted(rows, key=lambda row: -row.count)
    return Trial(tuple(order), tuple(truth.tolist()), 5, len(rows) - 1)


def outcomes(seed: int, runs: int, facts: tuple[Fact, ...], shares: Sequence[float], alike: float) -> Counter[str]:
    """How often the first kind, which is the right one, another, or none is accepted, for 5 to 300 photos."""
    random = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    for run in range(runs):
        trial = simulated(random, (5, 10, 20, 40, 80, 160, 300)[run % 7], shares, alike)
        try:
            pixels = decide(FOREIGN, facts, trial).contract.pixels
        except BadInput:
            counts["stopped"] += 1
        else:
            counts["right" if nearly_same(pixels, KINDS[0]) else "wrong"] += 1
    return counts


SHARES = {
    "equally good": (0.8,) * 6,
    "one as good": (0.9, 0.9, 0.3, 0.2, 0.3, 0.2),
    "slightly worse": (0.8, 0.76, 0.7, 0.6, 0.7, 0.2),
    "all are bad": (0.3, 0.3, 0.25, 0.2, 0.2, 0.2),
}
FACTS: dict[str, tuple[Fact, ...]] = {
    "no facts": (),
    "likely facts": (likely(SIGNED), likely(UNIT), likely(IMAGENET)),
    "wrong channels are likely": (likely(bgr(UNIT)), likely(UNIT)),
}


@pytest.mark.parametrize("alike", [0.0, 0.8])
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("facts", FACTS)
def test_wrong_contracts_are_seldom_accepted(facts: str, shares: str, alike: float) -> None:
    counts = outcomes(1, 42, FACTS[facts], SHARES[shares], alike)
    assert counts["wrong"] <= 3, counts  # of 42: at most 5 % are expected


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.9])
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("facts", FACTS)
def test_wrong_contracts_are_accepted_at_most_at_the_error_level(facts: str, shares: str, alike: float) -> None:
    counts = outcomes(2, 700, FACTS[facts], SHARES[shares], alike)
    assert counts["wrong"] <= 0.05 * 700, counts


def test_clear_contracts_are_accepted() -> None:
    random = np.random.default_rng(5)
    shares = (0.95, 0.3, 0.3, 0.2, 0.4, 0.2)
    for photos in (40, 80, 160):
        decision = decide(FOREIGN, (), simulated(random, photos, shares, 0.5))
        assert nearly_same(decision.contract.pixels, UNIT)


def accepted(foreign: ForeignModel, true: Pixels, folder: Path, count: int, noise: float) -> Pixels | None:
    folder.mkdir()
    photos, truth = colour_photos(folder, count, size=(20, 16), noise=noise)
    trial = try_contracts(ColourNetwork(true), foreign, photos, truth, candidate_contracts(foreign, ()))
    try:
        return decide(foreign, (), trial).contract.pixels
    except BadInput:
        return None


@pytest.mark.parametrize("true", [RAW, UNIT, bgr(SIGNED)], ids=lambda pixels: pixels.text)
def test_networks(tmp_path: Path, true: Pixels) -> None:
    """A network accepts its own contract, or the trial stops; photos of few classes and noisy ones stop it."""
    foreign = foreign_model()
    for number, (count, noise) in enumerate(((3, 10), (12, 40), (30, 90), (40, 20))):
        pixels = accepted(foreign, true, tmp_path / str(number), count, noise)
        assert pixels is None or nearly_same(pixels, true), (count, noise)


def searched(
    monkeypatch: pytest.MonkeyPatch, folder: Path, random: np.random.Generator, count: int, shares: Sequence[float]
) -> Pixels | None:
    """The pixels accepted after a whole search, in which each kind answers with its share of right answers."""
    contracts = candidate_contracts(FOREIGN, ())
    kinds = list(dict.fromkeys(contract.pixels for contract in contracts))
    photos = [Photo(folder / f"{number}.png", "", Split.TEST, f"{number:064}") for number in range(count)]
    truth = [number % 5 for number in range(count)]
    place = {photo.path: number for number, photo in enumerate(photos)}
    right = random.random((len(kinds), count, 4)) < np.asarray(shares)[:, None, None]
    geometries = list(dict.fromkeys(contract.geometry for contract in contracts))

    def run(
        self: Any, geometry: Geometry, active: list[Contract], start: int, stop: int, rows: dict[Contract, list[bool]]
    ) -> None:
        self._digests.setdefault(geometry, []).extend([geometry.text.encode()] * (stop - start))
        for contract in active:
            numbers = [place[photo.path] for photo in self._photos[start:stop]]
            answers = right[kinds.index(contract.pixels), numbers, geometries.index(geometry)]
            rows[contract] += [bool(answer) for answer in answers]

    monkeypatch.setattr("trtpoets.adoption.trial._Taker._run", run)
    trial = try_contracts(ColourNetwork(UNIT), FOREIGN, photos, truth, contracts)
    try:
        return decide(FOREIGN, (), trial).contract.pixels
    except BadInput:
        return None


SEARCHES = {
    "equally good": (0.8,) * 12,
    "some are worse": (0.7, 0.7, 0.7, 0.6, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2),
    "one is almost as good": (0.9, 0.85, *(0.2,) * 10),
}


@pytest.mark.parametrize("shares", SEARCHES)
def test_a_search_seldom_accepts_a_wrong_contract(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shares: str) -> None:
    counts = search_outcomes(monkeypatch, tmp_path, shares, 8)
    assert counts["wrong"] <= 1, counts


@pytest.mark.slow
@pytest.mark.parametrize("shares", SEARCHES)
def test_a_search_accepts_a_wrong_contract_at_most_at_the_error_level(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shares: str
) -> None:
    counts = search_outcomes(monkeypatch, tmp_path, shares, 300)
    assert counts["wrong"] <= 0.05 * 300, counts


def search_outcomes(monkeypatch: pytest.MonkeyPatch, folder: Path, shares: str, runs: int) -> Counter[str]:
    random = np.random.default_rng(11)
    counts: Counter[str] = Counter()
    for run in range(runs):
        pixels = searched(monkeypatch, folder, random, (10, 30, 80, 300)[run % 4], SEARCHES[shares])
        right = candidate_contracts(FOREIGN, ())[0].pixels
        counts["stopped" if pixels is None else "right" if nearly_same(pixels, right) else "wrong"] += 1
    return counts
