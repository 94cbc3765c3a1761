"""Train an image classifier on a folder of labelled photos and build TensorRT engines from it.

Every command of the program is a function in this package, with the same name and options:

    import trtpoets
    report = trtpoets.run("photos", "flowers")

Importing this package is fast: TensorFlow and other large packages are imported only when a function needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trtpoets.core.errors import TrtPoetsError
    from trtpoets.device.doctor import doctor
    from trtpoets.pipeline.adopt import adopt
    from trtpoets.pipeline.bench import bench
    from trtpoets.pipeline.bottlenecks import bottlenecks
    from trtpoets.pipeline.build import build, plan_build
    from trtpoets.pipeline.bundle import bundle
    from trtpoets.pipeline.cache import cache, prune_cache
    from trtpoets.pipeline.evaluate import evaluate
    from trtpoets.pipeline.export import export
    from trtpoets.pipeline.inspect import inspect
    from trtpoets.pipeline.label import label, label_stream
    from trtpoets.pipeline.pretrained import models, pretrained
    from trtpoets.pipeline.quantize import quantize
    from trtpoets.pipeline.race import race
    from trtpoets.pipeline.recommend import recommend
    from trtpoets.pipeline.report import report
    from trtpoets.pipeline.retrain import retrain
    from trtpoets.pipeline.run import demo, run
    from trtpoets.pipeline.sweep import sweep
    from trtpoets.pipeline.tensorboard import tensorboard
    from trtpoets.pipeline.trust import trust

_MODULES = {
    "TrtPoetsError": "trtpoets.core.errors",
    "adopt": "trtpoets.pipeline.adopt",
    "bench": "trtpoets.pipeline.bench",
    "bottlenecks": "trtpoets.pipeline.bottlenecks",
    "build": "trtpoets.pipeline.build",
    "bundle": "trtpoets.pipeline.bundle",
    "cache": "trtpoets.pipeline.cache",
    "demo": "trtpoets.pipeline.run",
    "doctor": "trtpoets.device.doctor",
    "evaluate": "trtpoets.pipeline.evaluate",
    "export": "trtpoets.pipeline.export",
    "inspect": "trtpoets.pipeline.inspect",
    "label": "trtpoets.pipeline.label",
    "label_stream": "trtpoets.pipeline.label",
    "models": "trtpoets.pipeline.pretrained",
    "plan_build": "trtpoets.pipeline.build",
    "pretrained": "trtpoets.pipeline.pretrained",
    "prune_cache": "trtpoets.pipeline.cache",
    "quantize": "trtpoets.pipeline.quantize",
    "race": "trtpoets.pipeline.race",
    "recommend": "trtpoets.pipeline.recommend",
    "report": "trtpoets.pipeline.report",
    "retrain": "trtpoets.pipeline.retrain",
    "run": "trtpoets.pipeline.run",
    "sweep": "trtpoets.pipeline.sweep",
    "tensorboard": "trtpoets.pipeline.tensorboard",
    "trust": "trtpoets.pipeline.trust",
}

__all__ = [
    "TrtPoetsError",
    "adopt",
    "bench",
    "bottlenecks",
    "build",
    "bundle",
    "cache",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "label",
    "label_stream",
    "models",
    "plan_build",
    "pretrained",
    "prune_cache",
    "quantize",
    "race",
    "recommend",
    "report",
    "retrain",
    "run",
    "sweep",
    "tensorboard",
    "trust",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'trtpoets' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
