"""The command `race`."""

from __future__ import annotations

from trtpoets.cli import options as opt
from trtpoets.cli.interruption import RACE
from trtpoets.cli.option_groups import HeadOptions, NetworkOptions, PhotoOptions, RaceOptions, with_groups
from trtpoets.cli.terminal import progress_display, show_result
from trtpoets.core.shell_commands import DEFAULT_ENGINES


@with_groups
def race(
    photos: opt.Photos,
    name: opt.NameOption,
    *,
    race: RaceOptions,
    network: NetworkOptions,
    photo: PhotoOptions,
    head: HeadOptions,
    seed: opt.Seed = 0,
    engines: opt.Engines = DEFAULT_ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Find the best pretrained network for your photos.

    All networks are judged on a few photos, those that may still win on more, and the one that would be chosen in the
    precision that will be deployed. The fastest network wins that is less than 0.5 points below the best one.
    `retrain --backbone auto` does this first.
    """
    from trtpoets.judge.race import AUTO_BACKBONE
    from trtpoets.pipeline.race import race as pipeline_race
    from trtpoets.pipeline.stage_options import race_config, retrain_config

    asked = race_config(AUTO_BACKBONE, **vars(race))
    config = retrain_config(
        AUTO_BACKBONE, None, network.resize, network.device, **vars(photo), race=asked, seed=seed, **vars(head)
    )
    with progress_display(RACE) as progress:
        result = pipeline_race(
            photos, name, config, engines=engines, force=force, progress=progress, workers=network.workers
        )
    show_result("race", result, as_json)
