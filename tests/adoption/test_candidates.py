"""The contracts that a trial compares."""

from __future__ import annotations

from tests.adoption.test_trial import certain
from tests.support.errors import raises
from tests.support.foreign import bgr, foreign_model
from trtpoets.adoption.candidates import candidate_contracts, geometry_candidates, pixel_candidates
from trtpoets.adoption.contract import CIFAR10, IMAGENET, PRESETS, RAW, UNIT, Geometry, Pixels
from trtpoets.adoption.contract_options import ContractOptions
from trtpoets.adoption.facts import raw_feed
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Channels, Format
from trtpoets.core.types import Resize


def test_every_plausible_kind_of_pixels_is_a_candidate() -> None:
    kinds = pixel_candidates(foreign_model(side=224), (), ContractOptions())
    assert len(kinds) == 12
    for name in ("raw", "0-1", "tf", "torch", "caffe", "minus-128"):
        for pixels in (PRESETS[name], bgr(PRESETS[name])):
            assert any(pixels.same_as(kind) for kind in kinds), name
    small = pixel_candidates(foreign_model(side=32), (), ContractOptions())
    assert any(CIFAR10.same_as(kind) for kind in small)
    grey = pixel_candidates(foreign_model(side=32, channels=1), (), ContractOptions())
    assert {kind.channels for kind in grey} == {Channels.GRAY, Channels.INVERTED_GRAY}
    only_bgr = pixel_candidates(foreign_model(side=224), (), ContractOptions(channels=Channels.BGR))
    assert {kind.channels for kind in only_bgr} == {Channels.BGR}


def test_an_integer_input_takes_photos_unchanged() -> None:
    foreign = foreign_model(format_=Format.TFLITE, dtype="int8", scale=1 / 255, zero_point=-128)
    assert pixel_candidates(foreign, (), ContractOptions()) == (raw_feed(foreign.input), bgr(raw_feed(foreign.input)))
    odd = foreign_model(format_=Format.TFLITE, dtype="int8", scale=0.0186, zero_point=-14, side=96)
    assert any(IMAGENET.same_as(kind) for kind in pixel_candidates(odd, (), ContractOptions()))


def test_options_about_an_integer_input() -> None:
    foreign = foreign_model(format_=Format.TFLITE, dtype="uint8", scale=1 / 255)
    contracts = candidate_contracts(foreign, (), ContractOptions(pixels=RAW))
    assert contracts[0].pixels == raw_feed(foreign.input)
    assert {contract.pixels for contract in contracts} == {raw_feed(foreign.input), bgr(raw_feed(foreign.input))}
    with raises(BadInput, "TP9408", "3", "1"):
        candidate_contracts(foreign_model(channels=1), (), ContractOptions(channels=Channels.BGR))


def test_facts_come_first_and_replace_nearly_equal_candidates() -> None:
    azure = Pixels((1.0,) * 3, (-124.0, -117.0, -104.0), Channels.BGR, "azure")
    kinds = pixel_candidates(foreign_model(side=224), (certain(azure),), ContractOptions())
    assert kinds[0] is azure
    assert len(kinds) == 12
    geometries = geometry_candidates((certain(geometry=Geometry(Resize.CROP, 0.887)),), ContractOptions())
    assert [geometry.text for geometry in geometries] == ["stretch", "crop", "crop 0.887", "letterbox"]


def test_rivals_of_a_certain_fact_are_tried_with_one_geometry() -> None:
    contracts = candidate_contracts(foreign_model(side=224), (certain(UNIT), certain(geometry=Geometry(Resize.CROP))))
    own = [contract for contract in contracts if contract.pixels is UNIT]
    assert len(own) == 4
    assert len(contracts) == 4 + 11
    assert {contract.geometry for contract in contracts if contract.pixels is not UNIT} == {Geometry(Resize.CROP)}
