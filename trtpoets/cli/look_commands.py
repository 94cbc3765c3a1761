"""The commands that only look: at a run, a photo, a file, this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trtpoets.cli import options as given
from trtpoets.cli.terminal import show_answers, show_result, show_until_interrupt, showing


def tensorboard(
    name: given.AnyName = None,
    port: given.Port = None,
    engines: given.Engines = Path("engines"),
    as_json: given.Json = False,
) -> None:
    """Show the trainings of a run, or of all, until Ctrl-C."""
    from trtpoets.pipeline.tensorboard import tensorboard as work

    show_until_interrupt("board", work(name, port=port, engines=engines), as_json)


def label(
    model: Annotated[str, typer.Argument(help="The name of a run, or an engine file.")],
    photos: Annotated[list[Path], typer.Argument(help="Files, folders, patterns; -: a photo or paths on stdin.")],
    top: given.Top = 5,
    trust: given.Trust = False,
    strict: given.StrictLabels = False,
    engines: given.Engines = Path("engines"),
    as_json: given.Json = False,
) -> None:
    """Say what photos show, through the best runner here.

    A photo that can't be read is named on stderr. Exit 1 if none could.
    """
    from trtpoets.pipeline.label import label_stream as work

    with showing(again="answers that were printed are complete") as progress:
        told: dict[str, Any] = {"stdin": sys.stdin.buffer, "progress": progress}
        show_answers(work(model, photos, top=top, trust=trust, strict=strict, engines=engines, **told), as_json)


def models(as_json: given.Json = False) -> None:
    """List the pretrained networks."""
    from trtpoets.pipeline.pretrained import models as work

    show_result("models", work(), as_json)


def cache(
    prune: given.Prune = False,
    older_than: given.OlderThan = 0,
    as_json: given.Json = False,
) -> None:
    """List, or prune, what can be computed again."""
    from trtpoets.pipeline.cache import cache as work
    from trtpoets.pipeline.cache import prune_cache

    show_result("cache", prune_cache(older_than) if prune else work(), as_json)


def inspect(
    file: Annotated[Path, typer.Argument(help="Engine, ONNX or TFLite file, card, model.json or calibration cache.")],
    as_json: given.Json = False,
) -> None:
    """Say what a file holds; needs no GPU and no TensorRT."""
    from trtpoets.pipeline.inspect import inspect as work

    show_result("inspection", work(file), as_json)


def trust(
    name: Annotated[str, typer.Argument(help="The name of a run.")],
    engines: given.Engines = Path("engines"),
    as_json: given.Json = False,
) -> None:
    """Mark a run that others made as trusted: its files may run code.

    Its classifier, engines and TFLite files are opened from then on. For a run of an earlier trtpoets too.
    """
    from trtpoets.pipeline.trust import trust as work

    show_result("trusted", work(name, engines=engines), as_json)


def doctor(as_json: given.Json = False) -> None:
    """Say what this machine can do, and how to mend the rest."""
    from trtpoets.device.doctor import doctor as work

    show_result("doctor", work(), as_json)


COMMANDS = (tensorboard, label, models, cache, inspect, trust, doctor)
"""In the order in which help lists them."""
