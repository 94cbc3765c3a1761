"""What is known about the preprocessing before a trial."""

from __future__ import annotations

from tests.support.foreign import foreign_model
from trtpoets.adoption.contract import RAW, Pixels
from trtpoets.adoption.foreign import FixedPixels
from trtpoets.adoption.known import known_facts
from trtpoets.core.original import Channels, Evidence, Source


def test_graph_and_sibling_do_not_know_the_channels() -> None:
    fixed = FixedPixels(RAW, Evidence("pixels", Source.SIBLING, "its int8 file has the input scale 1"))
    (fact,) = known_facts(foreign_model(), fixed)
    assert fact.pixels == RAW
    assert not fact.channels_known
    caffe = Pixels((1, 1, 1), (-1.0, -2.0, -3.0), Channels.BGR)
    (fact,) = known_facts(foreign_model(), FixedPixels(caffe, fixed.evidence))
    assert fact.channels_known
