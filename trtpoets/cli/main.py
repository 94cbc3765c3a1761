"""The command-line program. Each command parses its options, calls one library function and prints the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from trtpoets.cli import options as opt
from trtpoets.cli.adopt_command import adopt
from trtpoets.cli.application import Application
from trtpoets.cli.bottlenecks_command import bottlenecks
from trtpoets.cli.interruption import BUILT, EVALUATION, ONNX_FILES, STAGES
from trtpoets.cli.option_groups import PhotoOptions, RaceOptions, TrainingNetworkOptions, with_groups
from trtpoets.cli.race_command import race
from trtpoets.cli.retrain_command import Unfreeze, retrain, sweep
from trtpoets.cli.terminal import (
    USAGE_ERROR,
    open_page,
    progress_display,
    show_error,
    show_file,
    show_result,
    show_usage_error,
)
from trtpoets.cli.utility_commands import UTILITY_COMMANDS
from trtpoets.core.errors import Interrupted
from trtpoets.core.program import run_program
from trtpoets.core.shared_options import SECONDS, WORKSPACE
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Precision

app = Application(
    name="trtpoets",
    help="Train an image classifier on a folder of labelled photos and build TensorRT engines from it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts faster and fits 80 columns
)

ENGINES = Path("engines")


@app.command()
def demo(
    name: opt.NameOption = "demo",
    photos: opt.DemoPhotos = None,
    quick: opt.Quick = False,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Run the complete pipeline on photos of solar cells.

    The photos are licensed under CC BY-NC-SA 4.0, for non-commercial use only.
    """
    from trtpoets.pipeline.run import demo as pipeline_demo

    with progress_display(STAGES.or_repeated(force)) as progress:
        report = pipeline_demo(name, photos, quick=quick, engines=engines, force=force, progress=progress)
    show_result("report", report, as_json, page=engines / name / "report.html")


@app.command()
@with_groups
def run(
    photos: opt.Photos,
    name: opt.NameOption,
    *,
    model: opt.ModelToAdopt = None,
    backbone: opt.BackboneOrAuto = "efficientnet_lite0",
    weights: opt.Weights = None,
    race: RaceOptions,
    network: TrainingNetworkOptions,
    steps: opt.Steps = HeadConfig.steps,
    unfreeze: Unfreeze = None,
    seed: opt.Seed = 0,
    photo: PhotoOptions,
    flavour: opt.FlavourOption = opt.FlavourChoice.AUTO,
    targets: opt.Targets = None,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Run the complete pipeline: from photos to engines and report.

    The stages are retrain, export, quantize, build, evaluate, bench and report. Stages that are up to date are
    skipped, so an interrupted run continues where it stopped.
    """
    from trtpoets.pipeline.run import run as pipeline_run
    from trtpoets.pipeline.stage_options import (
        fine_tune_config,
        race_config,
        require_unused,
        retrain_config,
        run_config,
    )

    if model is not None:
        require_unused("with --model", {"--workers": network.workers})
    retraining_config = retrain_config(
        backbone,
        weights,
        network.resize,
        network.device,
        **vars(photo),
        steps=steps,
        seed=seed,
        fine_tuning=fine_tune_config(unfreeze, seed=seed),
        race=race_config(backbone, **vars(race)),
    )
    config = run_config(retraining_config, flavour.flavour, targets or [], seed, model)
    with progress_display(STAGES.or_repeated(force)) as progress:
        report = pipeline_run(
            photos, name, config, engines=engines, force=force, progress=progress, workers=network.workers
        )
    show_result("report", report, as_json, page=engines / name / "report.html")


app.command()(retrain)
app.command()(sweep)
app.command()(bottlenecks)
app.command()(race)


@app.command()
def pretrained(
    backbone: opt.PretrainedBackbone,
    name: opt.NameOption,
    photos: opt.PretrainedPhotos = None,
    weights: opt.Weights = None,
    labels: opt.Labels = None,
    class_folders: opt.ClassFolders = False,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Create a 1,000-class ImageNet classifier, without training."""
    from trtpoets.pipeline.pretrained import pretrained as pipeline_pretrained
    from trtpoets.pipeline.stage_options import photos_config

    with progress_display() as progress:
        classifier = pipeline_pretrained(
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
    name: opt.Name,
    opset: opt.Opset = 17,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Export the classifier to ONNX and compare it with TensorFlow."""
    from trtpoets.pipeline.export import export as pipeline_export

    with progress_display() as progress:
        model = pipeline_export(name, opset=opset, engines=engines, force=force, progress=progress)
    show_result("onnx", [model], as_json)


@app.command()
def quantize(
    name: opt.Name,
    precisions: opt.QuantizePrecisions = None,
    method: opt.Method = None,
    photos: opt.CalibrationPhotos = None,
    int8_share: opt.Int8Share = None,
    max_fp16_layers: opt.MaxFp16Layers = None,
    refit_head: opt.RefitHead = True,
    cpu_form: opt.CpuForm = False,
    distill: opt.Distill = False,
    seed: opt.CalibrationSeed = 0,
    calibration_cache: opt.CalibrationCache = None,
    tensorrt: opt.CacheVersion = "10.3.0",
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Write FP16 and calibrated INT8 ONNX files."""
    from trtpoets.pipeline import calibration_cache_export as caches
    from trtpoets.pipeline.int8_advice import with_frontier
    from trtpoets.pipeline.quantize import quantize as pipeline_quantize
    from trtpoets.pipeline.stage_options import calibration_config, distill_config, int8_config

    config: dict[str, Any] = {
        "precisions": tuple(precisions or (Precision.FP16, Precision.INT8)),
        "calibration": calibration_config(photos, method, seed),
        "int8": int8_config(int8_share, max_fp16_layers),
        "refit_head": refit_head,
        "cpu_form": cpu_form,
        "distill": distill_config(distill, seed),
    }
    caches.check_cache(calibration_cache, tensorrt)
    with progress_display(ONNX_FILES.or_repeated(force)) as progress:
        models = pipeline_quantize(name, **config, engines=engines, force=force, progress=progress)
        if calibration_cache is not None:
            caches.calibration_cache(name, calibration_cache, tensorrt=tensorrt, engines=engines)
    show_result("onnx", with_frontier(name, models, engines) if as_json else models, as_json)


@app.command()
def build(
    model: opt.NameOrOnnxFile,
    precisions: opt.BuildPrecisions = None,
    flavour: opt.FlavourOption = opt.FlavourChoice.AUTO,
    targets: opt.Targets = None,
    batch: opt.Batch = None,
    workspace: opt.WorkspaceMib = WORKSPACE.default,
    optimization_level: opt.OptimizationLevel = None,
    version_compatible: opt.VersionCompatible = False,
    hardware_compatible: opt.HardwareCompatible = False,
    dla: opt.Dla = None,
    timeout: opt.Timeout = None,
    dry_run: opt.DryRun = False,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Build TensorRT engines from the ONNX files."""
    from trtpoets.device.build.build_plan import require_possible
    from trtpoets.pipeline.build import build as pipeline_build
    from trtpoets.pipeline.build import plan_build
    from trtpoets.pipeline.stage_options import batch_range

    options: dict[str, Any] = {
        "precisions": tuple(precisions or Precision),
        "flavour": flavour.flavour,
        "targets": tuple(targets or ()),
        "batch": None if batch is None else batch_range(batch),
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
    with progress_display(BUILT.or_repeated(force)) as progress:
        built_engines = pipeline_build(model, **options, force=force, progress=progress)
    show_result("engines", built_engines, as_json)


@app.command()
def evaluate(
    name: opt.Name,
    max_drop: opt.MaxDrop = None,
    min_agreement: opt.MinAgreement = None,
    allow_undecided: opt.AllowUndecided = False,
    runners: opt.GateRunners = None,
    folds: opt.Folds = 10,
    engines: opt.Engines = ENGINES,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Measure the accuracy of every runner and the cost of INT8."""
    from trtpoets.judge.cross_fit import CrossFitConfig
    from trtpoets.pipeline.evaluate import evaluate as pipeline_evaluate
    from trtpoets.pipeline.evaluate import require_gate
    from trtpoets.pipeline.stage_options import gate_config

    gate, cross = gate_config(max_drop, min_agreement, runners, allow_undecided), CrossFitConfig(folds)
    with progress_display(EVALUATION.or_repeated(force)) as progress:
        evaluation = pipeline_evaluate(name, gate, engines=engines, force=force, progress=progress, cross=cross)
    show_result("evaluation", evaluation, as_json)
    if gate:
        require_gate(name, evaluation, engines)


@app.command()
def bench(
    name: opt.Name,
    batches: opt.BenchBatches = None,
    seconds: opt.Seconds = SECONDS.default,
    threads: opt.Threads = 0,
    xla: opt.Xla = False,
    keras: opt.Keras = False,
    cpu: opt.Cpu = False,
    qdq_on_cpu: opt.QdqOnCpu = False,
    scenario: opt.ScenarioOption = None,
    target_qps: opt.TargetQps = 0.0,
    loadgen: opt.LoadGen = False,
    compare: opt.Compare = None,
    fail_below: opt.FailBelow = None,
    max_p99: opt.MaxP99 = None,
    train: opt.BenchTrain = False,
    learning_rates: opt.LearningRates = None,
    unfreeze: opt.BenchUnfreeze = None,
    weights: opt.BenchWeights = None,
    engines: opt.Engines = ENGINES,
    as_json: opt.Json = False,
) -> None:
    """Measure the speed of every runner, relative to TensorFlow."""
    from trtpoets.pipeline.bench import bench as pipeline_bench
    from trtpoets.pipeline.bench import require_limits, require_speed
    from trtpoets.pipeline.stage_options import bench_config, require_unused

    if train:
        from trtpoets.pipeline.bench_train import bench_train, train_bench_config

        unused: dict[str, object] = {"--batch": batches, "--threads": threads, "--xla": xla, "--keras": keras}
        unused |= {
            "--seconds": seconds != SECONDS.default,
            "--cpu": cpu,
            "--qdq-on-cpu": qdq_on_cpu,
            "--scenario": scenario,
            "--target-qps": target_qps,
            "--loadgen": loadgen,
        }
        require_unused(
            "with --train", unused | {"--compare": compare, "--fail-below": fail_below, "--max-p99": max_p99}
        )
        train_config = train_bench_config(learning_rates, unfreeze)
        with progress_display() as progress:
            train_benchmark = bench_train(name, train_config, weights=weights, engines=engines, progress=progress)
        show_result("train benchmark", train_benchmark, as_json)
        return
    training_options = {"--learning-rate": learning_rates, "--unfreeze": unfreeze, "--weights": weights}
    require_unused("without --train", training_options, "--train")
    require_limits(fail_below, max_p99)
    config = bench_config(
        batches,
        seconds,
        threads,
        scenario=scenario,
        max_p99=max_p99,
        target_qps=target_qps,
        loadgen=loadgen,
        xla=xla,
        keras=keras,
        cpu=cpu,
        qdq_on_cpu=qdq_on_cpu,
    )
    with progress_display() as progress:
        benchmark = pipeline_bench(name, config, compare=compare, engines=engines, progress=progress)
    show_result("benchmark", benchmark, as_json)
    require_speed(name, benchmark, fail_below, max_p99, engines)


@app.command()
def recommend(
    name: opt.Name,
    max_drop: opt.DropLimit = None,
    max_p99: opt.LatencyLimit = None,
    batches: opt.BatchLimit = None,
    engines: opt.Engines = ENGINES,
    as_json: opt.Json = False,
) -> None:
    """Recommend which runner to deploy, from the measurements.

    The exit code is 3 if no runner meets the limits.
    """
    from trtpoets.pipeline.recommend import recommend as pipeline_recommend
    from trtpoets.pipeline.recommend import require_fit

    limits: dict[str, Any] = {"max_drop": max_drop, "max_p99": max_p99, "batches": batches or ()}
    recommendation = pipeline_recommend(name, **limits, engines=engines)
    show_result("recommendation", recommendation, as_json)
    require_fit(name, recommendation, engines)


@app.command()
def report(
    name: opt.Name,
    open_in_browser: opt.OpenPage = False,
    markdown: opt.Markdown = False,
    engines: opt.Engines = ENGINES,
    as_json: opt.Json = False,
) -> None:
    """Write the report: report.json, report.html and report.md."""
    from trtpoets.pipeline.report import report as pipeline_report

    document = pipeline_report(name, engines=engines)
    page = engines / name / "report.html"
    if markdown:
        show_file(page.with_suffix(".md"))
    else:
        show_result("report", document, as_json, page=page)
    if open_in_browser:
        open_page(page)


@app.command()
def bundle(
    name: opt.Name,
    target: opt.Target,
    precisions: opt.BundlePrecisions = None,
    jetpack: opt.JetPack = "",
    board: opt.Board = "",
    out: opt.BundleOut = None,
    sign: opt.Sign = None,
    engines: opt.Engines = ENGINES,
    force: opt.ReplaceBundle = False,
    as_json: opt.Json = False,
) -> None:
    """Create a bundle for Jetson, Triton, ONNX Runtime or TFLite."""
    from trtpoets.pipeline.bundle import bundle as pipeline_bundle

    options: dict[str, Any] = {
        "precisions": tuple(precisions or ()),
        "jetpack": jetpack,
        "board": board,
        "out": out,
        "sign": sign,
    }
    with progress_display() as progress:
        bundle_result = pipeline_bundle(name, target, **options, engines=engines, force=force, progress=progress)
    show_result("bundle", bundle_result, as_json)


for command in (adopt, *UTILITY_COMMANDS):
    app.command()(command)


@app.callback()
def program(version: opt.Version = False) -> None:
    """Train an image classifier on a folder of labelled photos and build TensorRT engines from it."""


def main() -> None:
    """Run the program and exit.

    An error that the user can fix prints its message and hint and exits with 1 (3 or 4 for gates). Wrong usage exits
    with 2. A bug keeps its traceback.
    """
    sys.exit(run_program(_run_command, show_error))


def _run_command() -> int:
    """Parse sys.argv, run the command and return its exit code."""
    try:
        code = app(standalone_mode=False)
    except USAGE_ERROR as error:
        show_usage_error(error)
        return 2
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == Interrupted.exit_code:  # newer versions of Typer return it instead
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0
