"""A result of `race`."""

from __future__ import annotations

from trtpoets.core.fine_tuning import PairedResult
from trtpoets.core.types import Precision
from trtpoets.judge.race import Contestant, Race, RaceConfig, RaceRound


def race_result(estimated: bool = False) -> Race:
    """A race that mobilenet_v2 won because it is faster; one network was too slow, one had no weights."""

    def judged(photos: int, accuracy: float, precision: Precision = Precision.FP32) -> RaceRound:
        return RaceRound(photos, precision, accuracy, accuracy - 0.02, accuracy + 0.02, accuracy - 0.03)

    last = Precision.INT8
    return Race(
        photos="p" * 64,
        config=RaceConfig(max_ms=20.0),
        precision=last,
        device="Jetson Orin Nano" if estimated else "this machine's CPU (2 cores)",
        estimated=estimated,
        contestants=(
            Contestant(
                "efficientnet_lite0",
                224,
                "out in round 2",
                "e",
                None,
                12.5,
                (judged(250, 0.8), judged(1600, 0.88, last)),
                True,
            ),
            Contestant(
                "mobilenet_v2", 224, "chosen", "m", None, 9.0, (judged(250, 0.79), judged(1600, 0.876, last)), True
            ),
            Contestant("mobilenet_0.25_128", 128, "out in round 1", "s", "/w/small.h5", 1.0, (judged(250, 0.6),)),
            Contestant("resnet50", 224, "too slow", "r", None, 60.0),
            Contestant("inception_v3", 299, "failed: the weights i.h5 are not a file"),
        ),
        chosen=1,
        why="mobilenet_v2 is right on 87.6 % and efficientnet_lite0 on 88.0 % of 1,600 photos",
        seconds=200.0,
        next="trtpoets retrain photos --backbone mobilenet_v2 --name cells",
        command="trtpoets race photos --name cells",
        comparison=PairedResult(1600, 1590, 0.88, 0.876, -0.015, 0.007, 0.5),
    )
