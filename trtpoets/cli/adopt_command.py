"""The command `adopt`, and its options, some of which `run --model` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtpoets.cli import options as opt
from trtpoets.cli.terminal import progress_display, show_result

ENGINES = Path("engines")

_PREPROCESSING = "Preprocessing options"

Model = Annotated[
    Path,
    typer.Argument(help="ONNX, TFLite or Keras file, SavedModel, frozen TensorFlow graph, or a folder with one."),
]
AdoptedPhotos = Annotated[
    Path | None,
    typer.Option("--photos", help="Folder of labelled photos, to find the preprocessing and for measurements."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option("--labels", help="Text file with one label per line; default: metadata, or a file beside the model."),
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="Pixel values: raw (0..255), 0-1, tf (-1..1), torch (ImageNet statistics), caffe (BGR minus means), clip, "
        "cifar or minus-128.",
        rich_help_panel=_PREPROCESSING,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", help="Mean to subtract, R,G,B, after --scale.", rich_help_panel=_PREPROCESSING),
]
Std = Annotated[
    str | None,
    typer.Option("--std", help="Standard deviation to divide by, R,G,B.", rich_help_panel=_PREPROCESSING),
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale", help="Factor of pixels of 0..255, for example 1/255 for 0..1.", rich_help_panel=_PREPROCESSING
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels", help="Order of the channels: rgb, bgr, gray or inverted-gray.", rich_help_panel=_PREPROCESSING
    ),
]
AdoptedResize = Annotated[
    str | None,
    typer.Option(
        "--resize", help="How photos are resized: stretch, crop or letterbox.", rich_help_panel=_PREPROCESSING
    ),
]
Crop = Annotated[
    float | None,
    typer.Option(
        "--crop",
        help="With --resize crop: share of the shorter side that is kept, for example 0.875.",
        rich_help_panel=_PREPROCESSING,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="Height and width in pixels, 224 or 48x192, for a file that accepts any size.",
        rich_help_panel=_PREPROCESSING,
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Open a file that contains Python code or uses files; it can do anything."),
]


def adopt(
    model: Model,
    name: opt.NameOption,
    photos: AdoptedPhotos = None,
    labels: LabelsFile = None,
    class_folders: opt.ClassFolders = False,
    preprocess: PreprocessOption = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    channels: ChannelsOption = None,
    resize: AdoptedResize = None,
    crop: Crop = None,
    size: Size = None,
    allow_code: AllowCode = False,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Make a run of a classifier that another program wrote.

    The preprocessing is read from the file, its metadata and its producer, and checked with labelled photos. If it is
    not certain, the candidates are listed.
    """
    from trtpoets.pipeline.adopt import adopt as pipeline_adopt
    from trtpoets.pipeline.stage_options import adopt_config

    config = adopt_config(
        labels=labels,
        class_folders=class_folders,
        size=size,
        allow_code=allow_code,
        preprocess=preprocess,
        mean=mean,
        std=std,
        scale=scale,
        channels=channels,
        resize=resize,
        crop=crop,
    )
    with progress_display() as progress:
        adoption = pipeline_adopt(
            model, name, photos=photos, config=config, engines=engines, force=force, progress=progress
        )
    show_result("adoption", adoption, as_json)
