"""The program: parse, one call, print. The only place that prints results or exits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trtpoets.core.errors import BadInput, TrtPoetsError
from trtpoets.core.spec import Flavour, Precision, Resize
from trtpoets.terminal import show_error, showing

app = typer.Typer(
    name="trtpoets",
    help="From a folder of labelled photos to a verified TensorRT engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is faster, and reads better in 80 columns
)

Name = Annotated[str, typer.Argument(help="The name of a run: a folder under engines/.")]
NameOption = Annotated[str, typer.Option("--name", "-n", help="What to call it: a folder under engines/.")]
Photos = Annotated[Path, typer.Argument(help="A folder of folders of photos; a folder's name is its label.")]
Engines = Annotated[Path, typer.Option("--engines", help="Where runs are kept.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of tables.")]
Force = Annotated[bool, typer.Option("--force", help="Do it again even if nothing changed.")]
Batch = Annotated[str, typer.Option("--batch", help="Batch sizes of the engine, least:best:most.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="Compute capability to build for, as sm86 (RTX; repeatable)."),
]
FlavourOption = Annotated[str, typer.Option("--flavour", help="rtx, tensorrt, or auto: all that can build here.")]
Backbone = Annotated[str, typer.Option("--backbone", help="The pretrained network: see trtpoets models.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="A file of weights instead of the published ones.")]
DeviceOption = Annotated[str, typer.Option("--device", help="Where the frozen base runs: cpu, gpu, or auto.")]
ResizeOption = Annotated[Resize, typer.Option("--resize", help="How photos become square.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unreadable photo is an error, not a warning.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Training steps.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the head's training and of the calibration photos.")]

ENGINES = Path("engines")


@app.command()
def demo(
    name: NameOption = "demo",
    photos: Annotated[Path | None, typer.Option(help="Where the photos are written.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="60 photos a class.")] = False,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Run the whole road on photos of solar cells.

    The photos are CC BY-NC-SA 4.0: not for commercial use."""
    from trtpoets.pipeline.run import demo as work

    with showing() as progress:
        report = work(name, photos, quick=quick, engines=engines, force=force, progress=progress)
    _show("report", report, as_json, page=engines / name / "report.html")


@app.command()
def run(
    photos: Photos,
    name: NameOption,
    backbone: Backbone = "efficientnet_lite0",
    weights: Weights = None,
    resize: ResizeOption = Resize.STRETCH,
    device: DeviceOption = "auto",
    steps: Steps = 4000,
    seed: Seed = 0,
    strict: Strict = False,
    flavour: FlavourOption = "auto",
    targets: Targets = None,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Take photos to engines and a report; go on where it stopped.

    The stages: retrain, export, quantize, build, evaluate, bench, report."""
    from trtpoets.pipeline.options import retrain_config, run_config
    from trtpoets.pipeline.run import run as work

    retraining = retrain_config(backbone, weights, resize, device, strict=strict, steps=steps, seed=seed)
    config = run_config(retraining, _flavour(flavour), targets or [], seed)
    with showing() as progress:
        report = work(photos, name, config, engines=engines, force=force, progress=progress)
    _show("report", report, as_json, page=engines / name / "report.html")


@app.command()
def retrain(
    photos: Photos,
    name: NameOption,
    backbone: Backbone = "efficientnet_lite0",
    weights: Weights = None,
    resize: ResizeOption = Resize.STRETCH,
    device: DeviceOption = "auto",
    validation: Annotated[float, typer.Option(help="Percent of the photos to choose the best step by.")] = 10,
    test: Annotated[float, typer.Option(help="Percent of the photos kept for the final judgement.")] = 10,
    strict: Strict = False,
    steps: Steps = 4000,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos a step.")] = 100,
    learning_rate: Annotated[float | None, typer.Option(help="Of the optimizer; its own default if not given.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adam.")] = None,
    l2: Annotated[float | None, typer.Option(help="Weight decay of the head.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="0 to below 1.")] = None,
    class_weights: Annotated[bool | None, typer.Option(help="Rare labels count more.")] = None,
    early_stop: Annotated[int | None, typer.Option(help="Stop after so many steps without a better one.")] = None,
    seed: Seed = 0,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Retrain the head of a pretrained network on your photos."""
    from trtpoets.pipeline.options import retrain_config
    from trtpoets.pipeline.retrain import retrain as work

    head = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "l2": l2,
        "label_smoothing": label_smoothing,
        "class_weights": class_weights,
        "early_stop": early_stop,
    }
    config = retrain_config(
        backbone,
        weights,
        resize,
        device,
        validation=validation,
        test=test,
        strict=strict,
        steps=steps,
        seed=seed,
        **head,
    )
    with showing() as progress:
        work(photos, name, config, engines=engines, force=force, progress=progress)
    _show("training", _document(engines, name, "training"), as_json)


@app.command()
def pretrained(
    backbone: Annotated[str, typer.Argument(help="The network: see trtpoets models.")],
    name: NameOption,
    photos: Annotated[Path | None, typer.Option(help="Folder of folders to calibrate with and measure on.")] = None,
    weights: Weights = None,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a 1,000-class ImageNet classifier, without training."""
    from trtpoets.pipeline.pretrained import pretrained as work

    with showing() as progress:
        classifier = work(
            backbone, name, photos=photos, weights=weights, engines=engines, force=force, progress=progress
        )
    _show("classifier", classifier, as_json)


@app.command()
def export(
    name: Name,
    opset: Annotated[
        int, typer.Option(min=13, max=21, help="ONNX operator set; 17 suits TensorRT 8.4 and later.")
    ] = 17,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Export the classifier to ONNX, and prove it against TensorFlow."""
    from trtpoets.pipeline.convert import export as work

    with showing() as progress:
        model = work(name, opset=opset, engines=engines, force=force, progress=progress)
    _show("onnx", [model], as_json)


@app.command()
def quantize(
    name: Name,
    precisions: Annotated[
        list[Precision] | None, typer.Option("--precision", help="fp16 or int8 (repeatable; default both).")
    ] = None,
    method: Annotated[str | None, typer.Option(help="How ranges are read: minmax, entropy or percentile.")] = None,
    photos: Annotated[int, typer.Option("--photos", min=1, help="How many training photos to calibrate with.")] = 256,
    seed: Seed = 0,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write FP16 and INT8 ONNX files, calibrated on training photos."""
    from trtpoets.pipeline.convert import quantize as work
    from trtpoets.pipeline.options import calibration_config

    chosen = tuple(precisions or (Precision.FP16, Precision.INT8))
    config = calibration_config(photos, method, seed)
    with showing() as progress:
        models = work(name, precisions=chosen, calibration=config, engines=engines, force=force, progress=progress)
    _show("onnx", models, as_json)


@app.command()
def build(
    model: Annotated[str, typer.Argument(help="The name of a run, or an ONNX file that trtpoets wrote.")],
    precisions: Annotated[
        list[Precision] | None, typer.Option("--precision", help="fp32, fp16 or int8 (repeatable; default all).")
    ] = None,
    flavour: FlavourOption = "auto",
    targets: Targets = None,
    batch: Batch = "1:8:32",
    workspace: Annotated[int, typer.Option(help="Memory that TensorRT may use while building, in MiB.")] = 1024,
    timeout: Annotated[float | None, typer.Option(help="Give up after so many seconds.")] = None,
    engines: Engines = ENGINES,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Build TensorRT engines from the ONNX files."""
    from trtpoets.pipeline.build import build as work
    from trtpoets.pipeline.options import batch_range

    with showing() as progress:
        built = work(
            model,
            precisions=tuple(precisions or Precision),
            flavour=_flavour(flavour),
            targets=targets or [],
            batch=batch_range(batch),
            workspace_mib=workspace,
            timeout_seconds=timeout,
            engines=engines,
            force=force,
            progress=progress,
        )
    _show("engines", built, as_json)


@app.command()
def evaluate(name: Name, engines: Engines = ENGINES, force: Force = False, as_json: Json = False) -> None:
    """Judge every runner on held-out photos, beside TensorFlow."""
    from trtpoets.pipeline.judge import evaluate as work

    with showing() as progress:
        evaluation = work(name, engines=engines, force=force, progress=progress)
    _show("evaluation", evaluation, as_json)


@app.command()
def bench(
    name: Name,
    batches: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Repeatable; default 1 and 8.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measure at least so long, each.")] = 2.0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of every runner; 0: its own choice.")] = 0,
    engines: Engines = ENGINES,
    as_json: Json = False,
) -> None:
    """Measure every runner's speed beside TensorFlow's."""
    from trtpoets.pipeline.judge import bench as work
    from trtpoets.pipeline.options import bench_config

    with showing() as progress:
        benchmark = work(name, bench_config(batches, seconds, threads), engines=engines, progress=progress)
    _show("benchmark", benchmark, as_json)


@app.command()
def report(name: Name, engines: Engines = ENGINES, as_json: Json = False) -> None:
    """Write report.json and report.html of what was measured."""
    from trtpoets.pipeline.ship import report as work

    _show("report", work(name, engines=engines), as_json, page=engines / name / "report.html")


@app.command()
def label(
    name: Name,
    photos: Annotated[list[Path], typer.Argument(help="Photo files.")],
    top: Annotated[int, typer.Option(min=1, help="How many labels a photo.")] = 5,
    engines: Engines = ENGINES,
    as_json: Json = False,
) -> None:
    """Say what photos show, through the best runner here."""
    from trtpoets.pipeline.label import label as work

    _show("answers", work(name, photos, top=top, engines=engines), as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """List the pretrained networks."""
    from trtpoets.pipeline.pretrained import models as work

    _show("models", work(), as_json)


@app.command()
def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Delete stores of bottlenecks.")] = False,
    older_than: Annotated[float, typer.Option(min=0, help="With --prune: only those unused for so many days.")] = 0,
    as_json: Json = False,
) -> None:
    """List, or prune, what can be computed again."""
    from trtpoets.pipeline.cache import cache as work
    from trtpoets.pipeline.cache import prune_cache

    _show("cache", prune_cache(older_than) if prune else work(), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, and how to mend the rest."""
    from trtpoets.device.doctor import doctor as work

    _show("doctor", work(), as_json)


def _flavour(word: str) -> Flavour | None:
    try:
        return None if word == "auto" else Flavour(word)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not rtx, tensorrt or auto", param_hint="--flavour") from None


def _document(engines: Path, name: str, what: str) -> Any:
    from trtpoets.core.workspace import Workspace, open_card

    return open_card(getattr(Workspace(engines, name), what))


def _show(what: str, value: Any, as_json: bool, page: Path | None = None) -> None:
    from trtpoets.ship.tables import print_json, print_table

    if as_json:
        print_json(value)
        return
    print_table(what, value)
    if page is not None:
        typer.echo(f"\nThe whole report: {page}")


def _version(wanted: bool) -> None:
    if wanted:
        from trtpoets import __version__

        typer.echo(f"trtpoets {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """From a folder of labelled photos to a verified TensorRT engine."""


def main() -> None:
    """Run the program. What the user can mend ends in two lines and exit 1; wrong usage in 2; bugs in a traceback."""
    try:
        app()
    except TrtPoetsError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        show_error(BadInput("interrupted; what was finished is kept", hint="the same command goes on from here"))
        sys.exit(130)
