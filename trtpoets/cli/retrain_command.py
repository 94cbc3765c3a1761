"""The commands `retrain`, with its options for fine-tuning and distortions, and `sweep`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trtpoets.cli import options as opt
from trtpoets.cli.interruption import FINE_TUNING, HEAD, SWEEP
from trtpoets.cli.option_groups import (
    HeadOptions,
    NetworkOptions,
    PhotoOptions,
    RaceOptions,
    TrainingNetworkOptions,
    with_groups,
)
from trtpoets.cli.terminal import progress_display, show_result
from trtpoets.core.fine_tuning import MAX_DEGREES, MAX_PERCENT, FineTuneConfig
from trtpoets.core.shell_commands import DEFAULT_ENGINES
from trtpoets.core.training import HeadConfig

_FINE_TUNING = "Fine-tuning options"
_DISTORTIONS = "Distortion options"

Unfreeze = Annotated[
    str | None,
    typer.Option(
        "--unfreeze",
        metavar="N|all|auto",
        help="Train the last N layers of the backbone too, after the head; auto: short trials choose N. The result is "
        "kept if it is better than the frozen backbone on the validation photos by more than chance.",
        rich_help_panel=_FINE_TUNING,
    ),
]
FineTuningEpochs = Annotated[
    float | None,
    typer.Option(
        help=f"Passes over the photos, at least {FineTuneConfig.least_steps} steps; default: {FineTuneConfig.epochs}.",
        rich_help_panel=_FINE_TUNING,
    ),
]
FineTuningRate = Annotated[
    float | None,
    typer.Option(
        help=f"Learning rate of the last layer and the head; default: {FineTuneConfig.learning_rate}.",
        rich_help_panel=_FINE_TUNING,
    ),
]
AutoDistortions = Annotated[
    bool,
    typer.Option(
        "--auto-distortions",
        help="Try distortions for the head, and keep those that help by more than chance.",
        rich_help_panel=_DISTORTIONS,
    ),
]
FlipLeftRight = Annotated[
    bool | None,
    typer.Option(
        "--flip-left-right/--no-flip-left-right",
        help="Mirror half of the training photos.",
        show_default=False,
        rich_help_panel=_DISTORTIONS,
    ),
]


def _amount(most: float, text: str) -> Any:
    return typer.Option(min=0, max=most, help=text, rich_help_panel=_DISTORTIONS)


RandomCrop = Annotated[
    float | None, _amount(MAX_PERCENT, "Margin in percent from which a box is cut out at a random place.")
]
RandomScale = Annotated[float | None, _amount(MAX_PERCENT, "Enlarge photos by up to this many percent.")]
RandomBrightness = Annotated[
    float | None, _amount(MAX_PERCENT, "Multiply pixels by up to this many percent more or less.")
]
RandomRotation = Annotated[float | None, _amount(MAX_DEGREES, "Turn photos by up to this many degrees to either side.")]


@with_groups
def retrain(
    photos: opt.Photos,
    name: opt.NameOption,
    *,
    backbone: opt.BackboneOrAuto = "efficientnet_lite0",
    weights: opt.Weights = None,
    race: RaceOptions,
    network: TrainingNetworkOptions,
    photo: PhotoOptions,
    head: HeadOptions,
    unfreeze: Unfreeze = None,
    fine_tuning_epochs: FineTuningEpochs = None,
    fine_tuning_rate: FineTuningRate = None,
    flip_left_right: FlipLeftRight = None,
    random_crop: RandomCrop = None,
    random_scale: RandomScale = None,
    random_brightness: RandomBrightness = None,
    random_rotation: RandomRotation = None,
    auto_distortions: AutoDistortions = False,
    seed: opt.Seed = 0,
    engines: opt.Engines = DEFAULT_ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Train a new head for a pretrained network on your photos.

    With --backbone auto a race between networks chooses it. With --unfreeze the last layers of the network are trained
    after the head.
    """
    from trtpoets.pipeline.retrain import race_of, training_of
    from trtpoets.pipeline.retrain import retrain as pipeline_retrain
    from trtpoets.pipeline.stage_options import fine_tune_config, head_distortions, race_config, retrain_config

    distortions = {
        "flip_left_right": flip_left_right,
        "random_crop": random_crop,
        "random_scale": random_scale,
        "random_brightness": random_brightness,
        "random_rotation": random_rotation,
    }
    fine_tuning = fine_tune_config(
        unfreeze, epochs=fine_tuning_epochs, learning_rate=fine_tuning_rate, seed=seed, **distortions
    )
    config = retrain_config(
        backbone,
        weights,
        network.resize,
        network.device,
        **vars(photo),
        **vars(head),
        seed=seed,
        fine_tuning=fine_tuning,
        distortions=head_distortions(fine_tuning, auto_distortions, **distortions),
        try_distortions=auto_distortions,
        race=race_config(backbone, **vars(race)),
    )
    with progress_display(FINE_TUNING if unfreeze else HEAD) as progress:
        pipeline_retrain(
            photos,
            name,
            config,
            engines=engines,
            force=force,
            progress=progress,
            workers=network.workers,
        )
    raced = None if as_json else race_of(name, config, engines=engines)
    if raced is not None:
        show_result("race", raced, as_json)
    show_result("training", training_of(name, engines=engines), as_json)


@with_groups
def sweep(
    photos: opt.Photos,
    name: opt.NameOption,
    *,
    backbone: opt.Backbone = "efficientnet_lite0",
    weights: opt.Weights = None,
    network: NetworkOptions,
    photo: PhotoOptions,
    steps: opt.Steps = HeadConfig.steps,
    batch_size: opt.BatchSize = HeadConfig.batch_size,
    class_weights: opt.ClassWeights = None,
    seed: opt.Seed = 0,
    engines: opt.Engines = DEFAULT_ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Compare 32 settings of the training on your photos.

    These are learning rates, optimizers, penalties and label smoothings. One is recommended if it beats the default by
    more than chance, on photos that took no part in the choice.
    """
    from trtpoets.pipeline.stage_options import retrain_config
    from trtpoets.pipeline.sweep import sweep as pipeline_sweep

    config = retrain_config(
        backbone,
        weights,
        network.resize,
        network.device,
        **vars(photo),
        steps=steps,
        batch_size=batch_size,
        class_weights=class_weights,
        seed=seed,
    )
    with progress_display(SWEEP) as progress:
        result = pipeline_sweep(
            photos, name, config, engines=engines, force=force, progress=progress, workers=network.workers
        )
    show_result("sweep", result, as_json)
