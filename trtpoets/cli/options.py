"""Arguments and options of the commands. An option that several commands share is defined once, here."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from trtpoets.core import manifest
from trtpoets.core import shared_options as shared
from trtpoets.core.paths import user_path
from trtpoets.core.shared_options import SharedOption
from trtpoets.core.shell_commands import DEFAULT_ENGINES
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Flavour, Precision, Resize
from trtpoets.judge.bench.bench_config import Scenario

# The sections into which --help groups the options of a command. Options without a section come first.
_PHOTOS = "Photo options"
_NETWORK = "Network options"
_TRAINING = "Training options"
_CALIBRATION = "Calibration options"
_INT8 = "INT8 options"
_ENGINE = "Engine options"
_BUILD = "Build options"
_RUNNERS = "Runner options"
_MEASUREMENT = "Measurement options"
_LIMITS = "Comparison and gate options"
_BENCH_TRAINING = "Options for --train"


class FlavourChoice(str, Enum):
    """Values of --flavour: one flavour, or every flavour that can build on this machine."""

    AUTO = "auto"
    RTX = "rtx"
    TENSORRT = "tensorrt"

    @property
    def flavour(self) -> Flavour | None:
        """The flavour; None for AUTO."""
        return None if self is FlavourChoice.AUTO else Flavour(self.value)


def _show_version(requested: bool) -> None:
    if requested:
        from trtpoets import __version__

        typer.echo(f"trtpoets {__version__}")
        raise typer.Exit


def _complete_run_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Shell completion: the names of the runs in the engines folder that start with `incomplete`."""
    engines = user_path(ctx.params.get("engines") or DEFAULT_ENGINES)
    if not engines.is_dir():
        return []
    return sorted(
        path.name
        for path in engines.iterdir()
        if path.is_dir() and path.name.startswith(incomplete) and not path.name.startswith(".")
    )


def _shared(option: SharedOption[Any], section: str | None = None, **settings: Any) -> Any:
    """The Typer option of an option that the programs of a bundle have too."""
    limits: dict[str, Any] = {"min": option.least, "max": option.most}
    return typer.Option(option.flag, help=option.help, rich_help_panel=section, **limits, **settings)


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]
Name = Annotated[
    str, typer.Argument(help="Name of the run: a folder in the engines folder.", autocompletion=_complete_run_name)
]
OptionalName = Annotated[
    str | None, typer.Argument(help="Name of the run; default: all runs.", autocompletion=_complete_run_name)
]
NameOrOnnxFile = Annotated[
    str,
    typer.Argument(help="Name of the run, or an ONNX file written by trtpoets.", autocompletion=_complete_run_name),
]
NameOrEngine = Annotated[
    str, typer.Argument(help="Name of the run, or an engine file.", autocompletion=_complete_run_name)
]
Port = Annotated[int | None, typer.Option(help="TCP port; default: 6006, or the next free port.")]
NameOption = Annotated[str, typer.Option("--name", "-n", help="Name of the run: its folder in the engines folder.")]
ModelToAdopt = Annotated[
    Path | None, typer.Option("--model", help="Classifier file to adopt, as trtpoets adopt does, instead of training.")
]
Photos = Annotated[Path, typer.Argument(help="Folder of labelled photos: class folders, split folders, or a CSV file.")]
PretrainedBackbone = Annotated[str, typer.Argument(help="Pretrained network; trtpoets models lists them.")]
PretrainedPhotos = Annotated[
    Path | None, typer.Option("--photos", help="Folder of labelled photos for calibration and measurements.")
]
DemoPhotos = Annotated[Path | None, typer.Option("--photos", help="Folder to write the photos to.")]
Engines = Annotated[Path, typer.Option("--engines", help="Folder that contains the runs.")]
Json = Annotated[bool, _shared(shared.JSON)]
Force = Annotated[bool, _shared(shared.FORCE)]
Batch = Annotated[str | None, _shared(shared.BATCH_RANGE, _ENGINE)]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="Compute capability to build for, for example sm86 (TensorRT-RTX only; repeatable).",
        rich_help_panel=_ENGINE,
    ),
]
FlavourOption = Annotated[
    FlavourChoice,
    typer.Option(
        "--flavour",
        help="TensorRT library to build with; auto: every one that can build on this machine.",
        rich_help_panel=_ENGINE,
    ),
]
Backbone = Annotated[
    str,
    typer.Option("--backbone", help="Pretrained network; trtpoets models lists them.", rich_help_panel=_NETWORK),
]
BackboneOrAuto = Annotated[
    str,
    typer.Option(
        "--backbone",
        help="Pretrained network; trtpoets models lists them. auto: a race between networks chooses it.",
        rich_help_panel=_NETWORK,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights file to use instead of the published weights.", rich_help_panel=_NETWORK),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help="Device that runs the frozen backbone: cpu, gpu or auto.", rich_help_panel=_NETWORK),
]


def _workers(computed: str) -> Any:
    return typer.Option(
        "--workers",
        metavar="ray|ray://HOST:PORT",
        help=f"Who computes {computed}: ray starts Ray on this machine, ray://HOST:PORT is a Ray cluster; "
        "default: this process.",
        show_default=False,
        rich_help_panel=_NETWORK,
    )


WorkersOption = Annotated[str, _workers("the features of photos")]
TrainingWorkersOption = Annotated[str, _workers("the features of photos and the trials of --unfreeze auto")]
ResizeOption = Annotated[
    Resize,
    typer.Option(
        "--resize", help="How photos are fitted to the square input of the network.", rich_help_panel=_NETWORK
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Fail at an unreadable photo instead of warning.", rich_help_panel=_PHOTOS),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="CSV file with the labels; default: detected in the photo folder.", rich_help_panel=_PHOTOS
    ),
]
ClassFolders = Annotated[
    bool,
    typer.Option(
        "--class-folders",
        help="Treat every folder in PHOTOS as a class, even one named train or images.",
        rich_help_panel=_PHOTOS,
    ),
]
ValidationPercent = Annotated[
    float,
    typer.Option(help="Percentage of the photos used for validation during training.", rich_help_panel=_PHOTOS),
]
TestPercent = Annotated[
    float, typer.Option(help="Percentage of the photos reserved for the test split.", rich_help_panel=_PHOTOS)
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Number of training steps.", rich_help_panel=_TRAINING)]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", help="Random seed of the head's training and of the calibration photos.", rich_help_panel=_TRAINING
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Batch size of the head's training.", rich_help_panel=_TRAINING)]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help=f"Learning rate of the optimizer; default: {HeadConfig.learning_rate}.", rich_help_panel=_TRAINING
    ),
]
OptimizerOption = Annotated[
    str | None, typer.Option(help="Optimizer: sgd or adam; default: adam.", rich_help_panel=_TRAINING)
]
L2 = Annotated[
    float | None,
    typer.Option(help=f"L2 penalty on the head's weights; default: {HeadConfig.l2}.", rich_help_panel=_TRAINING),
]
LabelSmoothing = Annotated[
    float | None,
    typer.Option(help="Label smoothing, from 0 to below 1; default: 0.", rich_help_panel=_TRAINING),
]
ClassWeights = Annotated[
    bool | None,
    typer.Option(help="Weight the loss so that every class counts equally.", rich_help_panel=_TRAINING),
]
EarlyStop = Annotated[
    int | None,
    typer.Option(help="Stop after this many steps without a better validation result.", rich_help_panel=_TRAINING),
]
Opset = Annotated[int, typer.Option(min=13, max=18, help="ONNX opset version; 17 works with TensorRT 8.4 and later.")]
QuantizePrecisions = Annotated[
    list[Precision] | None,
    typer.Option("--precision", help="Precision to write: fp16 or int8 (repeatable; default: both)."),
]
CalibrationPhotos = Annotated[
    int | None,
    typer.Option(
        "--photos",
        min=1,
        help="Number of training photos for calibration; default: a quarter of them, from 32 to 128.",
        rich_help_panel=_CALIBRATION,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How activation ranges are chosen: minmax, entropy, percentile, mse, features, equalised, or auto "
        "(default), which tries all and keeps the best.",
        rich_help_panel=_CALIBRATION,
    ),
]
CalibrationSeed = Annotated[
    int,
    typer.Option("--seed", help="Random seed for selecting the calibration photos.", rich_help_panel=_CALIBRATION),
]
CalibrationCache = Annotated[
    Path | None,
    typer.Option(
        help="Also write the INT8 ranges to this file, as a calibration cache for trtexec --calib.",
        rich_help_panel=_CALIBRATION,
    ),
]
CacheVersion = Annotated[
    str,
    typer.Option(
        "--tensorrt",
        help="TensorRT version that reads the calibration cache: 8 to 10.",
        rich_help_panel=_CALIBRATION,
    ),
]
Int8Share = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Minimum fraction of the multiply-adds that run in INT8. Default: 0.95, or less if an agreement of "
        "98 % with FP32 needs it.",
        rich_help_panel=_INT8,
    ),
]
MaxFp16Layers = Annotated[
    int | None,
    typer.Option(
        "--max-fp16-layers",
        "--max-float-layers",
        min=0,
        help="Maximum number of layers that are not INT8 but stay in FP16 or FP32; default: no limit.",
        rich_help_panel=_INT8,
    ),
]
RefitHead = Annotated[
    bool,
    typer.Option(
        "--refit-head/--no-refit-head",
        help="Refit the last layer to the INT8 features, and keep it if validation improves.",
        rich_help_panel=_INT8,
    ),
]
CpuForm = Annotated[
    bool,
    typer.Option(
        "--cpu-form",
        help="Also write int8.cpu.onnx, INT8 for ONNX Runtime on CPUs, with the ranges of int8.onnx.",
        rich_help_panel=_INT8,
    ),
]
Distill = Annotated[
    bool,
    typer.Option(
        "--distill",
        help="Also train weights and scales of int8.onnx towards FP32's features on the calibration photos, without "
        "labels; kept if validation improves. Minutes on a CPU.",
        rich_help_panel=_INT8,
    ),
]
BuildPrecisions = Annotated[
    list[Precision] | None,
    typer.Option(
        "--precision",
        help="Precision to build: fp32, fp16 or int8 (repeatable; default: all).",
        rich_help_panel=_ENGINE,
    ),
]
OptimizationLevel = Annotated[int | None, _shared(shared.OPTIMIZATION_LEVEL, _ENGINE)]
VersionCompatible = Annotated[bool, _shared(shared.VERSION_COMPATIBLE, _ENGINE)]
HardwareCompatible = Annotated[
    bool,
    typer.Option(
        "--hardware-compatible",
        help="Build an engine for every GPU from Ampere on (needs TensorRT 8.6 or later).",
        rich_help_panel=_ENGINE,
    ),
]
Dla = Annotated[int | None, _shared(shared.DLA, _ENGINE)]
WorkspaceMib = Annotated[int, _shared(shared.WORKSPACE, _BUILD)]
Timeout = Annotated[float | None, _shared(shared.TIMEOUT, _BUILD)]
DryRun = Annotated[bool, _shared(shared.DRY_RUN, _BUILD)]
MaxDrop = Annotated[
    float | None,
    typer.Option(help="Gate: maximum loss of accuracy, in percentage points. Exit code 3 if it fails, 4 if undecided."),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(help="Gate: minimum agreement with TensorFlow, in percent. Exit codes as for --max-drop."),
]
AllowUndecided = Annotated[
    bool,
    typer.Option("--allow-undecided", help="Exit with 0 and a warning if there are too few photos to decide a gate."),
]
GateRunners = Annotated[
    list[str] | None,
    typer.Option("--runner", help="Runner that the gate applies to (repeatable; default: FP16 and INT8)."),
]
Folds = Annotated[
    int, typer.Option(help="Folds of all photos, each classified by a head trained without it; 0: test photos only.")
]
BenchBatches = Annotated[list[int] | None, _shared(shared.BENCH_BATCH, _MEASUREMENT)]
Seconds = Annotated[float, _shared(shared.SECONDS, _MEASUREMENT)]
ScenarioOption = Annotated[Scenario | None, _shared(shared.SCENARIO, _MEASUREMENT, show_choices=False)]
TargetQps = Annotated[float, _shared(shared.TARGET_QPS, _MEASUREMENT)]
LoadGen = Annotated[bool, _shared(shared.LOADGEN, _MEASUREMENT)]
Threads = Annotated[int, _shared(shared.THREADS, _RUNNERS)]
Xla = Annotated[bool, typer.Option("--xla", help="Also measure TensorFlow with XLA.", rich_help_panel=_RUNNERS)]
Keras = Annotated[
    bool, typer.Option("--keras", help="Also measure the predict method of Keras.", rich_help_panel=_RUNNERS)
]
Cpu = Annotated[
    bool,
    typer.Option(
        "--cpu", help="Also measure TensorFlow on the CPU, if it uses a GPU by default.", rich_help_panel=_RUNNERS
    ),
]
QdqOnCpu = Annotated[
    bool,
    typer.Option(
        "--qdq-on-cpu",
        help="Also measure int8.onnx on a machine without a GPU, where ONNX Runtime does not fuse it.",
        rich_help_panel=_RUNNERS,
    ),
]
Compare = Annotated[Path | None, _shared(shared.COMPARE, _LIMITS)]
FailBelow = Annotated[
    float | None,
    typer.Option(
        "--fail-below",
        help="Gate: minimum speed-up of the fastest runner over TensorFlow. Exit code 3 if it fails.",
        rich_help_panel=_LIMITS,
    ),
]
MaxP99 = Annotated[float | None, _shared(shared.MAX_P99, _LIMITS)]
BenchTrain = Annotated[
    bool,
    typer.Option(
        "--train",
        help="Measure training instead: bottlenecks, fine-tuning, head training and learning rates.",
        rich_help_panel=_BENCH_TRAINING,
    ),
]
LearningRates = Annotated[
    list[float] | None,
    typer.Option(
        "--learning-rate",
        help="Learning rate to try (repeatable; default: 0.0001, 0.0003, 0.001 and 0.01).",
        rich_help_panel=_BENCH_TRAINING,
    ),
]
BenchUnfreeze = Annotated[
    str | None,
    typer.Option(
        "--unfreeze", metavar="N|all", help="Last layers to fine-tune; default: all.", rich_help_panel=_BENCH_TRAINING
    ),
]
BenchWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="Weights file to use instead of the published weights.", rich_help_panel=_BENCH_TRAINING
    ),
]
DropLimit = Annotated[
    float | None, typer.Option("--max-drop", help="Maximum loss of accuracy, in percentage points; default: 0.5.")
]
LatencyLimit = Annotated[float | None, typer.Option("--max-p99", help="Maximum p99 latency, in ms.")]
BatchLimit = Annotated[
    list[int] | None,
    typer.Option("--batch", min=1, help="Batch size to consider (repeatable; default: all that were measured)."),
]
OpenPage = Annotated[bool, typer.Option("--open", help="Open report.html in the browser.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the report as Markdown, for a pull request.")]
Target = Annotated[manifest.Target, typer.Option("--for", help="Deployment target.")]
BundlePrecisions = Annotated[
    list[Precision] | None,
    typer.Option("--precision", help="Precision to pack: fp32, fp16 or int8 (repeatable; default: all available)."),
]
JetPack = Annotated[
    str,
    typer.Option(
        "--jetpack",
        help="JetPack version of the Jetson, for example 5.1.2, or its L4T version, for example R35.4.1; default: "
        "any from 5.1 on.",
    ),
]
Board = Annotated[str, typer.Option("--board", help="Jetson module, for example orin-nano or 'Jetson Orin Nano'.")]
BundleOut = Annotated[
    Path | None, typer.Option("--out", help="Folder to write the bundle to; default: engines/NAME/bundles/.")
]
Sign = Annotated[
    Path | None, typer.Option(help="SSH private key to sign the bundle with; devices can require its signature.")
]
ReplaceBundle = Annotated[
    bool, typer.Option("--force", help="Replace a bundle that was changed or contains built engines.")
]
LabelPhotos = Annotated[
    list[Path],
    typer.Argument(help="Photo files, folders or glob patterns; -: a photo or a list of paths on standard input."),
]
Top = Annotated[int, typer.Option(min=1, help="Number of labels to print for each photo.")]
StrictLabels = Annotated[bool, typer.Option("--strict", help="Stop at the first photo that can't be read.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Open files that you did not create here; such files can execute code.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Delete cached bottlenecks.")]
OlderThan = Annotated[float, typer.Option(min=0, help="With --prune: delete only those unused for this many days.")]
InspectedFile = Annotated[
    Path, typer.Argument(help="Engine, ONNX or TFLite file, card, model.json or calibration cache.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Use only 60 photos per class.")]
