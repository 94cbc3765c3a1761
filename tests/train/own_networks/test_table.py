"""The table of the networks whose layers are not from Keras."""

from __future__ import annotations

from trtpoets.train.backbones import BACKBONES, KerasApplication
from trtpoets.train.own_networks.table import OWN_NETWORKS


def test_each_backbone_is_from_keras_or_in_this_table() -> None:
    assert set(OWN_NETWORKS) == {
        name for name, row in BACKBONES.items() if not isinstance(row.source, KerasApplication)
    }
