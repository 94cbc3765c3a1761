"""The table of these networks: which function builds each, and how PyTorch's files name its variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from trtpoets.train.own_networks.googlenet import googlenet
from trtpoets.train.own_networks.inverted_residuals import (
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
    EFFICIENTNET_LITE2,
    MOBILENET_V2,
    inverted_residuals,
)
from trtpoets.train.own_networks.mobilenet_v4 import CONV_MEDIUM, CONV_SMALL, mobilenet_v4
from trtpoets.train.own_networks.regnet import (
    REGNET_X_400MF,
    REGNET_X_800MF,
    REGNET_Y_400MF,
    REGNET_Y_800MF,
    regnet,
)
from trtpoets.train.own_networks.torch_names import TorchNames, layer_of_lite, layer_of_mobilenet_v2

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class OwnNetwork:
    """A network whose layers are in this folder.

    `build` takes a name, the height and the width of photos in pixels.
    """

    build: Callable[[str, int, int], keras.Model]
    torch_names: TorchNames = field(repr=False)


OWN_NETWORKS: Mapping[str, OwnNetwork] = MappingProxyType(
    {
        **{
            name: OwnNetwork(partial(inverted_residuals, description), TorchNames("_fc", layer_of=layer_of_lite))
            for name, description in (
                ("efficientnet_lite0", EFFICIENTNET_LITE0),
                ("efficientnet_lite1", EFFICIENTNET_LITE1),
                ("efficientnet_lite2", EFFICIENTNET_LITE2),
            )
        },
        "mobilenet_v2": OwnNetwork(
            partial(inverted_residuals, MOBILENET_V2), TorchNames("classifier.1", layer_of=layer_of_mobilenet_v2)
        ),
        "googlenet": OwnNetwork(googlenet, TorchNames("fc", unused=("aux1", "aux2"))),
        **{
            name: OwnNetwork(partial(regnet, shape), TorchNames("fc"))
            for name, shape in (
                ("regnet_x_400mf", REGNET_X_400MF),
                ("regnet_x_800mf", REGNET_X_800MF),
                ("regnet_y_400mf", REGNET_Y_400MF),
                ("regnet_y_800mf", REGNET_Y_800MF),
            )
        },
        **{
            name: OwnNetwork(partial(mobilenet_v4, stages), TorchNames("classifier"))
            for name, stages in (("mobilenet_v4_conv_small", CONV_SMALL), ("mobilenet_v4_conv_medium", CONV_MEDIUM))
        },
    }
)
"""The networks by the name of their backbone."""
