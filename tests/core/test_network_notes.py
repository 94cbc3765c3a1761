"""Measurements of a converted network, as cards store them."""

from __future__ import annotations

import json
from pathlib import Path

from trtpoets.core.network_notes import Fidelity, KeptLayer, Parity, WorstLayer
from trtpoets.core.serialization import from_json, to_json

FIDELITY = Fidelity(40, 31.25, 44.5, 0.975, 0.01)


def test_notes_are_read_as_they_were_written() -> None:
    notes = (
        Parity(20, 1e-6, 1e-8, Path("daisy/1.jpg"), 20),
        Parity(20, 1e-6, 1e-8, None),
        KeptLayer("conv_3", 2.5, 0.9, FIDELITY),
        WorstLayer("conv_3", 12.0, "relu_2", 4.5, 6.0, (0.5, 0.25, 0.25)),
    )
    for note in notes:
        assert from_json(type(note), json.loads(json.dumps(to_json(note))), "the card") == note


def test_a_note_of_an_earlier_version_has_no_number_of_equal_answers() -> None:
    document = dict(to_json(Parity(20, 1e-6, 1e-8, None, 19)))
    del document["same_answers"]
    assert from_json(Parity, document, "the card").same_answers is None


def test_the_distance_decides_before_the_agreement() -> None:
    nearer, agreeing = Fidelity(40, 20.0, 30.0, 0.9, 0.005), Fidelity(40, 35.0, 50.0, 1.0, 0.02)
    assert max((FIDELITY, nearer, agreeing), key=lambda fidelity: fidelity.rank) is nearer
    assert max((Fidelity(40, 0.0, 0.0, 0.9, 0.01), FIDELITY), key=lambda fidelity: fidelity.rank) is FIDELITY


def test_the_reason_to_keep_a_layer_names_gain_and_total() -> None:
    assert KeptLayer("conv_3", 2.46, 0.9, FIDELITY).why == "in FP32 it gains 2.5 dB, to 31.2 dB in total"
