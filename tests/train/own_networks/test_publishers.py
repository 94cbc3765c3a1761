"""The references of `tests.support.torch_networks` are the networks of torchvision and timm, if these are installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.support.torch_networks import TorchNetwork, googlenet, mobilenet_v4, regnet


def torchvision(name: str, **options: Any) -> Any:
    """A network of torchvision that gives features, and all of its tensors."""
    return getattr(pytest.importorskip("torchvision").models, name)(weights=None, **options)


def timm(name: str) -> Any:
    """A network of timm."""
    return pytest.importorskip("timm").create_model(name, pretrained=False)


PUBLISHED: dict[str, tuple[Callable[[], tuple[TorchNetwork, str]], Callable[[], Any], str]] = {
    "googlenet": (googlenet, lambda: torchvision("googlenet", init_weights=False), "fc"),
    **{
        name: (partial(regnet, name), partial(torchvision, name), "fc")
        for name in ("regnet_x_400mf", "regnet_x_800mf", "regnet_y_400mf", "regnet_y_800mf")
    },
    **{
        f"mobilenet_v4_{size}": (
            partial(mobilenet_v4, f"mobilenet_v4_{size}"),
            partial(timm, f"mobilenetv4_{size}"),
            "classifier",
        )
        for size in ("conv_small", "conv_medium")
    },
}
"""For each backbone: our reference, the network of its publisher, and the module of its 1,000-class layer."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reference_is_the_published_network(name: str) -> None:
    """All tensors have the names and shapes of the publisher, and features are equal to 1e-5 of the largest."""
    torch = pytest.importorskip("torch")
    make, publisher, head = PUBLISHED[name]
    reference, output = make()
    network = publisher().eval()
    network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in reference.tensors.items()})
    setattr(network, head, torch.nn.Identity())
    photos = np.random.default_rng(2).normal(0, 1, (2, reference.size, reference.size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(photos.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(reference.run(output, photos), expected, atol=1e-5 * np.abs(expected).max())
