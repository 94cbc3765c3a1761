"""The command `race`, and its options, which `retrain` and `run` have for `--backbone auto`."""

from __future__ import annotations

from typing import Annotated

import typer

from trtpoets.cli import options as opt
from trtpoets.cli.terminal import progress_display, show_result
from trtpoets.core.shell_commands import DEFAULT_ENGINES
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Precision, Resize

_RACE = "Options for --backbone auto"

Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar="NAME[=FILE]",
        help="Network in the race, with a weights file or without (repeatable); default: all that need no download.",
        rich_help_panel=_RACE,
    ),
]
MaxMs = Annotated[
    float | None,
    typer.Option(help="Milliseconds that a network may take for one photo.", rich_help_panel=_RACE),
]
RaceBoard = Annotated[
    str | None,
    typer.Option(
        "--board",
        help="Jetson module, or t4, for which times are estimated; default: measured on this machine's CPU.",
        rich_help_panel=_RACE,
    ),
]
RacePrecision = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="Precision that will be deployed; default: the fastest of the device.",
        rich_help_panel=_RACE,
    ),
]


def race(
    photos: opt.Photos,
    name: opt.NameOption,
    candidates: Candidates = None,
    max_ms: MaxMs = None,
    board: RaceBoard = None,
    precision: RacePrecision = None,
    workers: opt.WorkersOption = "",
    resize: opt.ResizeOption = Resize.STRETCH,
    device: opt.DeviceOption = "auto",
    validation_percent: opt.ValidationPercent = 10,
    test_percent: opt.TestPercent = 10,
    strict: opt.Strict = False,
    labels: opt.Labels = None,
    class_folders: opt.ClassFolders = False,
    steps: opt.Steps = HeadConfig.steps,
    batch_size: opt.BatchSize = HeadConfig.batch_size,
    learning_rate: opt.LearningRate = None,
    optimizer: opt.OptimizerOption = None,
    l2: opt.L2 = None,
    label_smoothing: opt.LabelSmoothing = None,
    class_weights: opt.ClassWeights = None,
    early_stop: opt.EarlyStop = None,
    seed: opt.Seed = 0,
    engines: opt.Engines = DEFAULT_ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Find the best pretrained network for your photos.

    All networks are judged on a few photos, the better half on more, and the one that would be chosen in the precision
    that will be deployed. The fastest network wins that is less than 0.5 points below the best one.
    `retrain --backbone auto` does this first.
    """
    from trtpoets.judge.race import AUTO_BACKBONE
    from trtpoets.pipeline.race import race as pipeline_race
    from trtpoets.pipeline.stage_options import race_config, retrain_config

    config = retrain_config(
        AUTO_BACKBONE,
        None,
        resize,
        device,
        validation_percent=validation_percent,
        test_percent=test_percent,
        strict=strict,
        labels=labels,
        class_folders=class_folders,
        race=race_config(AUTO_BACKBONE, candidates, max_ms, board, precision),
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        l2=l2,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        early_stop=early_stop,
    )
    with progress_display() as progress:
        result = pipeline_race(photos, name, config, engines=engines, force=force, progress=progress, workers=workers)
    show_result("race", result, as_json)
