"""Commands that are not stages of the pipeline: they show a run, a photo, a file or this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from trtpoets.cli import options as opt
from trtpoets.cli.interruption import LABELS
from trtpoets.cli.terminal import progress_display, show_labelled_photos, show_result, show_until_interrupt

ENGINES = Path("engines")


def tensorboard(
    name: opt.OptionalName = None,
    port: opt.Port = None,
    engines: opt.Engines = ENGINES,
    as_json: opt.Json = False,
) -> None:
    """Start TensorBoard on the training logs; stop it with Ctrl-C."""
    from trtpoets.pipeline.tensorboard import tensorboard as pipeline_tensorboard

    show_until_interrupt("board", pipeline_tensorboard(name, port=port, engines=engines), as_json)


def label(
    model: opt.NameOrEngine,
    photos: opt.LabelPhotos,
    top: opt.Top = 5,
    trust: opt.Trust = False,
    strict: opt.StrictLabels = False,
    engines: opt.Engines = ENGINES,
    as_json: opt.Json = False,
) -> None:
    """Classify photos with the best runner on this machine.

    Photos that can't be read are listed on stderr. The exit code is 1 if no photo could be classified.
    """
    from trtpoets.pipeline.label import label_stream

    with progress_display(LABELS) as progress:
        results = label_stream(
            model,
            photos,
            top=top,
            trust=trust,
            strict=strict,
            engines=engines,
            stdin=sys.stdin.buffer,
            progress=progress,
        )
        show_labelled_photos(results, as_json)


def models(as_json: opt.Json = False) -> None:
    """List the pretrained networks."""
    from trtpoets.pipeline.pretrained import models as pipeline_models

    show_result("models", pipeline_models(), as_json)


def cache(
    prune: opt.Prune = False,
    older_than: opt.OlderThan = 0,
    as_json: opt.Json = False,
) -> None:
    """List or delete the cached bottlenecks."""
    from trtpoets.pipeline.cache import cache as pipeline_cache
    from trtpoets.pipeline.cache import prune_cache

    show_result("cache", prune_cache(older_than) if prune else pipeline_cache(), as_json)


def inspect(
    file: opt.InspectedFile,
    as_json: opt.Json = False,
) -> None:
    """Show what a file contains; needs no GPU and no TensorRT."""
    from trtpoets.pipeline.inspect import inspect as pipeline_inspect

    show_result("inspection", pipeline_inspect(file), as_json)


def trust(
    name: opt.Name,
    engines: opt.Engines = ENGINES,
    as_json: opt.Json = False,
) -> None:
    """Trust the files of a run that someone else created.

    Classifiers, engines and TFLite files can execute code when they are opened, so trtpoets opens only those that you
    created, or that you trust with this command. Runs of earlier trtpoets versions need it too.
    """
    from trtpoets.pipeline.trust import trust as pipeline_trust

    show_result("trusted", pipeline_trust(name, engines=engines), as_json)


def doctor(as_json: opt.Json = False) -> None:
    """Check this machine and show how to fix what is missing."""
    from trtpoets.device.doctor import doctor as device_doctor

    show_result("doctor", device_doctor(), as_json)


UTILITY_COMMANDS = (tensorboard, label, models, cache, inspect, trust, doctor)
"""The commands, in the order in which `trtpoets --help` lists them."""
