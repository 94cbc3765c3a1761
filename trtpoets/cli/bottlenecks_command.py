"""The command `bottlenecks`, which computes features before a training, in shards on many machines."""

from __future__ import annotations

from typing import Annotated

import typer

from trtpoets.cli import options as opt
from trtpoets.cli.interruption import FEATURES
from trtpoets.cli.option_groups import NetworkOptions, with_groups
from trtpoets.cli.terminal import progress_display, show_result

_SHARDS = "Shard options"

ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="i/n",
        help="Compute only shard i of n, from 1/n to n/n; auto/n: i is the number of the task in a Slurm array "
        "(--array=1-n) or in an indexed Job of Kubernetes.",
        rich_help_panel=_SHARDS,
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Compute nothing, but name the shards that are not complete; exit code 1 if there are any.",
        rich_help_panel=_SHARDS,
    ),
]


@with_groups
def bottlenecks(
    photos: opt.Photos,
    *,
    backbone: opt.Backbone = "efficientnet_lite0",
    weights: opt.Weights = None,
    network: NetworkOptions,
    labels: opt.Labels = None,
    class_folders: opt.ClassFolders = False,
    shard: ShardOption = None,
    check: Check = False,
    as_json: opt.Json = False,
) -> None:
    """Compute the features of your photos, on one or many machines.

    retrain, run and sweep use what is stored in the cache. Machines that share the photos and the cache
    (TRTPOETS_CACHE) can compute one shard each, at the same time.
    """
    from trtpoets.pipeline.bottlenecks import bottlenecks as pipeline_bottlenecks
    from trtpoets.pipeline.bottlenecks import check_shards
    from trtpoets.pipeline.shards import shard_from_option
    from trtpoets.pipeline.stage_options import require_unused, retrain_config

    config = retrain_config(
        backbone, weights, network.resize, network.device, labels=labels, class_folders=class_folders
    )
    if check:
        require_unused("with --check", {"--shard": shard, "--workers": network.workers or None})
        with progress_display() as progress:
            states = check_shards(photos, config, progress=progress)
        show_result("shards", states, as_json)
        return
    own_shard = None if shard is None else shard_from_option(shard)
    with progress_display(FEATURES) as progress:
        result = pipeline_bottlenecks(
            photos,
            config,
            shard=own_shard,
            progress=progress,
            workers=network.workers,
        )
    show_result("bottlenecks", result, as_json)
