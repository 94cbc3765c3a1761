"""The program: parse, one call, print. The only place that prints results or exits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trtpoets.cli import options as given
from trtpoets.cli.look_commands import COMMANDS
from trtpoets.cli.terminal import USAGE_ERROR, open_page, show_error, show_file, show_result, show_usage_error, showing
from trtpoets.core.program import run_program
from trtpoets.core.types import Precision, Resize

app = given.Program(
    name="trtpoets",
    help="From a folder of labelled photos to TensorRT engines, judged on held-out photos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is faster, and reads better in 80 columns
)

ENGINES = Path("engines")


@app.command()
def demo(
    name: given.NameOption = "demo",
    photos: Annotated[Path | None, typer.Option(help="Where the photos are written.")] = None,
    quick: given.Quick = False,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Run the whole road on photos of solar cells.

    The photos are CC BY-NC-SA 4.0: not for commercial use.
    """
    from trtpoets.pipeline.run import demo as work

    with showing() as progress:
        report = work(name, photos, quick=quick, engines=engines, force=force, progress=progress)
    show_result("report", report, as_json, page=engines / name / "report.html")


@app.command()
def run(
    photos: given.Photos,
    name: given.NameOption,
    backbone: given.Backbone = "efficientnet_lite0",
    weights: given.Weights = None,
    resize: given.ResizeOption = Resize.STRETCH,
    device: given.DeviceOption = "auto",
    steps: given.Steps = 4000,
    seed: given.Seed = 0,
    validation_percent: given.ValidationPercent = 10,
    test_percent: given.TestPercent = 10,
    strict: given.Strict = False,
    labels: given.Labels = None,
    class_folders: given.ClassFolders = False,
    flavour: given.FlavourOption = given.FlavourChoice.AUTO,
    targets: given.Targets = None,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Take photos to engines and a report; go on where it stopped.

    The stages: retrain, export, quantize, build, evaluate, bench, report.
    """
    from trtpoets.pipeline.run import run as work
    from trtpoets.pipeline.stage_options import retrain_config, run_config

    retraining = retrain_config(
        backbone,
        weights,
        resize,
        device,
        validation_percent=validation_percent,
        test_percent=test_percent,
        strict=strict,
        labels=labels,
        class_folders=class_folders,
        steps=steps,
        seed=seed,
    )
    config = run_config(retraining, flavour.flavour, targets or [], seed)
    with showing() as progress:
        report = work(photos, name, config, engines=engines, force=force, progress=progress)
    show_result("report", report, as_json, page=engines / name / "report.html")


@app.command()
def retrain(
    photos: given.Photos,
    name: given.NameOption,
    backbone: given.Backbone = "efficientnet_lite0",
    weights: given.Weights = None,
    resize: given.ResizeOption = Resize.STRETCH,
    device: given.DeviceOption = "auto",
    validation_percent: given.ValidationPercent = 10,
    test_percent: given.TestPercent = 10,
    strict: given.Strict = False,
    labels: given.Labels = None,
    class_folders: given.ClassFolders = False,
    steps: given.Steps = 4000,
    batch_size: given.BatchSize = 100,
    learning_rate: given.LearningRate = None,
    optimizer: given.OptimizerOption = None,
    l2: given.L2 = None,
    label_smoothing: given.LabelSmoothing = None,
    class_weights: given.ClassWeights = None,
    early_stop: given.EarlyStop = None,
    seed: given.Seed = 0,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Retrain the head of a pretrained network on your photos."""
    from trtpoets.pipeline.retrain import retrain as work
    from trtpoets.pipeline.retrain import training_of
    from trtpoets.pipeline.stage_options import retrain_config

    config = retrain_config(
        backbone,
        weights,
        resize,
        device,
        validation_percent=validation_percent,
        test_percent=test_percent,
        strict=strict,
        labels=labels,
        class_folders=class_folders,
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
    with showing() as progress:
        work(photos, name, config, engines=engines, force=force, progress=progress)
    show_result("training", training_of(name, engines=engines), as_json)


@app.command()
def pretrained(
    backbone: Annotated[str, typer.Argument(help="The network: see trtpoets models.")],
    name: given.NameOption,
    photos: Annotated[Path | None, typer.Option(help="Folder of folders to calibrate with and measure on.")] = None,
    weights: given.Weights = None,
    labels: given.Labels = None,
    class_folders: given.ClassFolders = False,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Make a 1,000-class ImageNet classifier, without training."""
    from trtpoets.pipeline.pretrained import pretrained as work
    from trtpoets.pipeline.stage_options import photos_config

    with showing() as progress:
        classifier = work(
            backbone,
            name,
            photos=photos,
            weights=weights,
            config=photos_config(labels, class_folders),
            engines=engines,
            force=force,
            progress=progress,
        )
    show_result("classifier", classifier, as_json)


@app.command()
def export(
    name: given.Name,
    opset: given.Opset = 17,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Export the classifier to ONNX; hold it against TensorFlow."""
    from trtpoets.pipeline.export import export as work

    with showing() as progress:
        model = work(name, opset=opset, engines=engines, force=force, progress=progress)
    show_result("onnx", [model], as_json)


@app.command()
def quantize(
    name: given.Name,
    precisions: given.NarrowPrecisions = None,
    method: given.Method = None,
    photos: Annotated[int, typer.Option("--photos", min=1, help="How many training photos to calibrate with.")] = 256,
    int8_share: given.Int8Share = 0.95,
    max_fp16_layers: given.MaxFp16Layers = None,
    refit_head: given.RefitHead = True,
    seed: given.Seed = 0,
    calibration_cache: given.CalibrationCache = None,
    tensorrt: given.CacheVersion = "10.3.0",
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Write FP16 and INT8 ONNX files; calibrate on training photos."""
    from trtpoets.pipeline import calibration_cache_export as caches
    from trtpoets.pipeline.quantize import quantize as work
    from trtpoets.pipeline.stage_options import calibration_config, int8_config

    chosen = tuple(precisions or (Precision.FP16, Precision.INT8))
    config = calibration_config(photos, method, seed)
    int8: dict[str, Any] = {"int8": int8_config(int8_share, max_fp16_layers), "refit_head": refit_head}
    caches.check_cache(calibration_cache, tensorrt)
    with showing() as progress:
        models = work(
            name, precisions=chosen, calibration=config, **int8, engines=engines, force=force, progress=progress
        )
        if calibration_cache is not None:
            caches.calibration_cache(name, calibration_cache, tensorrt=tensorrt, engines=engines)
    show_result("onnx", models, as_json)


@app.command()
def build(
    model: Annotated[str, typer.Argument(help="The name of a run, or an ONNX file that trtpoets wrote.")],
    precisions: given.Precisions = None,
    flavour: given.FlavourOption = given.FlavourChoice.AUTO,
    targets: given.Targets = None,
    batch: given.Batch = "1:8:32",
    workspace: given.WorkspaceMib = 1024,
    optimization_level: given.OptimizationLevel = None,
    version_compatible: given.VersionCompatible = False,
    hardware_compatible: given.HardwareCompatible = False,
    dla: given.Dla = None,
    timeout: given.Timeout = None,
    dry_run: given.DryRun = False,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Build TensorRT engines from the ONNX files."""
    from trtpoets.device.build.build_plan import require_possible
    from trtpoets.pipeline.build import build as work
    from trtpoets.pipeline.build import plan_build
    from trtpoets.pipeline.stage_options import batch_range

    options: dict[str, Any] = {
        "precisions": tuple(precisions or Precision),
        "flavour": flavour.flavour,
        "targets": tuple(targets or ()),
        "batch": batch_range(batch),
        "workspace_mib": workspace,
        "optimization_level": optimization_level,
        "version_compatible": version_compatible,
        "hardware_compatible": hardware_compatible,
        "dla_core": dla,
        "timeout_seconds": timeout,
        "engines": engines,
    }
    if dry_run:
        plans = plan_build(model, **options)
        show_result("plans", plans, as_json)
        require_possible(plans)
        return
    with showing() as progress:
        built = work(model, **options, force=force, progress=progress)
    show_result("engines", built, as_json)


@app.command()
def evaluate(
    name: given.Name,
    max_drop: given.MaxDrop = None,
    min_agreement: given.MinAgreement = None,
    allow_undecided: given.AllowUndecided = False,
    runners: given.GateRunners = None,
    engines: given.Engines = ENGINES,
    force: given.Force = False,
    as_json: given.Json = False,
) -> None:
    """Judge every runner on held-out photos, beside TensorFlow."""
    from trtpoets.pipeline.evaluate import evaluate as work
    from trtpoets.pipeline.evaluate import require_gate
    from trtpoets.pipeline.stage_options import gate_config

    gate = gate_config(max_drop, min_agreement, runners, allow_undecided)
    with showing() as progress:
        evaluation = work(name, gate, engines=engines, force=force, progress=progress)
    show_result("evaluation", evaluation, as_json)
    if gate:
        require_gate(name, evaluation, engines)


@app.command()
def bench(
    name: given.Name,
    batches: given.Batches = None,
    seconds: given.Seconds = 2.0,
    threads: given.Threads = 0,
    xla: given.Xla = False,
    keras: given.Keras = False,
    cpu: given.OnCpu = False,
    scenario: given.ScenarioOption = None,
    target_qps: given.TargetQps = 0.0,
    loadgen: given.LoadGen = False,
    compare: given.Compare = None,
    fail_below: given.FailBelow = None,
    max_p99: given.MaxP99 = None,
    train: given.BenchTrain = False,
    learning_rates: given.LearningRates = None,
    weights: given.Weights = None,
    engines: given.Engines = ENGINES,
    as_json: given.Json = False,
) -> None:
    """Measure every runner's speed beside TensorFlow's."""
    from trtpoets.pipeline.bench import bench as work
    from trtpoets.pipeline.bench import require_limits, require_speed
    from trtpoets.pipeline.stage_options import bench_config, require_unused

    if train:
        from trtpoets.pipeline.bench_train import bench_train, train_bench_config

        speed: dict[str, object] = {"--batch": batches, "--threads": threads, "--xla": xla, "--keras": keras}
        speed |= {"--cpu": cpu, "--scenario": scenario, "--target-qps": target_qps, "--loadgen": loadgen}
        require_unused("--train", speed | {"--compare": compare, "--fail-below": fail_below, "--max-p99": max_p99})
        rates = train_bench_config(learning_rates)
        with showing() as progress:
            found = bench_train(name, rates, weights=weights, engines=engines, progress=progress)
        show_result("train benchmark", found, as_json)
        return
    require_unused("a benchmark without --train", {"--learning-rate": learning_rates, "--weights": weights})
    more = {"xla": xla, "keras": keras, "cpu": cpu, "target_qps": target_qps, "loadgen": loadgen}
    require_limits(fail_below, max_p99)
    config = bench_config(batches, seconds, threads, scenario=scenario, max_p99=max_p99, **more)
    with showing() as progress:
        benchmark = work(name, config, compare=compare, engines=engines, progress=progress)
    show_result("benchmark", benchmark, as_json)
    require_speed(name, benchmark, fail_below, max_p99, engines)


@app.command()
def recommend(
    name: given.Name,
    max_drop: given.DropLimit = None,
    max_p99: given.LatencyLimit = None,
    batches: given.BatchLimit = None,
    engines: given.Engines = ENGINES,
    as_json: given.Json = False,
) -> None:
    """Pick what to ship, from what was measured.

    Exit 3 if nothing fits.
    """
    from trtpoets.pipeline.recommend import recommend as work
    from trtpoets.pipeline.recommend import require_fit

    found = work(name, max_drop=max_drop, max_p99=max_p99, batches=batches or (), engines=engines)
    show_result("recommendation", found, as_json)
    require_fit(name, found, engines)


@app.command()
def report(
    name: given.Name,
    open_it: given.OpenPage = False,
    markdown: given.Markdown = False,
    engines: given.Engines = ENGINES,
    as_json: given.Json = False,
) -> None:
    """Write what was measured: report.json, report.html, report.md."""
    from trtpoets.pipeline.report import report as work

    value = work(name, engines=engines)
    page = engines / name / "report.html"
    if markdown:
        show_file(page.with_suffix(".md"))
    else:
        show_result("report", value, as_json, page=page)
    if open_it:
        open_page(page)


@app.command()
def bundle(
    name: given.Name,
    target: given.Target,
    precisions: given.BundlePrecisions = None,
    jetpack: given.JetPack = "",
    board: given.Board = "",
    out: given.BundleOut = None,
    sign: given.Sign = None,
    engines: given.Engines = ENGINES,
    force: given.ReplaceBundle = False,
    as_json: given.Json = False,
) -> None:
    """Pack what a Jetson, Triton, ONNX Runtime or TFLite needs."""
    from trtpoets.pipeline.bundle import bundle as work

    told: dict[str, Any] = {"precisions": tuple(precisions or ()), "jetpack": jetpack, "board": board, "out": out}
    told["sign"] = sign
    with showing() as progress:
        made = work(name, target, **told, engines=engines, force=force, progress=progress)
    show_result("bundle", made, as_json)


for command in COMMANDS:
    app.command()(command)


@app.callback()
def program(version: given.Version = False) -> None:
    """From a folder of labelled photos to TensorRT engines, judged on held-out photos."""


def main() -> None:
    """Run the program. What the user can mend ends in two lines and exit 1; wrong usage in 2; bugs in a traceback."""
    sys.exit(run_program(_answered, show_error))


def _answered() -> int:
    """The exit code of the program's command."""
    try:
        code = app(standalone_mode=False)
    except USAGE_ERROR as error:
        show_usage_error(error)
        return 2
    except typer.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0
