"""The arguments and options that several commands share: one spelling and one explanation each."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from trtpoets.core import manifest
from trtpoets.core.paths import user_path
from trtpoets.core.types import Flavour, Precision, Resize
from trtpoets.judge.bench.bench_config import Scenario

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Program(typer.Typer):
    """Commands that take ~ in every argument and option that is a path: shells leave `--engines=~/runs` as it is."""

    def command(self, *args: Any, **options: Any) -> Callable[[_Function], _Function]:
        """As Typer's; the function gets its paths expanded."""
        register = super().command(*args, **options)

        def add(function: _Function) -> _Function:
            @wraps(function)
            def expanding(**given: Any) -> Any:
                return function(**{name: _expanded(value) for name, value in given.items()})

            register(expanding)
            return function

        return add


def _expanded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_expanded(each) for each in value]
    return user_path(value) if isinstance(value, Path) else value


class FlavourChoice(str, Enum):
    """A flavour, or all that can build here."""

    AUTO = "auto"
    RTX = "rtx"
    TENSORRT = "tensorrt"

    @property
    def flavour(self) -> Flavour | None:
        """The flavour; None for all."""
        return None if self is FlavourChoice.AUTO else Flavour(self.value)


def _show_version(wanted: bool) -> None:
    if wanted:
        from trtpoets import __version__

        typer.echo(f"trtpoets {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")]
Name = Annotated[str, typer.Argument(help="The name of a run: a folder under engines/.")]
AnyName = Annotated[str | None, typer.Argument(help="The name of a run; all under engines/ without one.")]
Port = Annotated[int | None, typer.Option(help="Where it answers; default 6006 or the next that is free.")]
NameOption = Annotated[str, typer.Option("--name", "-n", help="What to call it: a folder under engines/.")]
Photos = Annotated[
    Path, typer.Argument(help="A folder of labelled photos: class folders, split folders, or a CSV file.")
]
Engines = Annotated[Path, typer.Option("--engines", help="Where runs are kept.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of tables.")]
Force = Annotated[bool, typer.Option("--force", help="Do it again even if nothing changed.")]
Batch = Annotated[str, typer.Option("--batch", help="Batch sizes of the engine, least:best:most.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="Compute capability to build for, as sm86 (RTX; repeatable)."),
]
FlavourOption = Annotated[FlavourChoice, typer.Option("--flavour", help="auto: all that can build here.")]
Backbone = Annotated[str, typer.Option("--backbone", help="The pretrained network: see trtpoets models.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="A file of weights instead of the published ones.")]
DeviceOption = Annotated[str, typer.Option("--device", help="Where the frozen base runs: cpu, gpu, or auto.")]
ResizeOption = Annotated[Resize, typer.Option("--resize", help="How photos become square.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unreadable photo is an error, not a warning.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="The CSV file with the labels; default: found.")]
ClassFolders = Annotated[
    bool, typer.Option("--class-folders", help="Every folder in PHOTOS is a class, also train or images.")
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Training steps.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the head's training and of the calibration photos.")]
ValidationPercent = Annotated[float, typer.Option(help="Percent of the photos to choose the best step by.")]
TestPercent = Annotated[float, typer.Option(help="Percent of the photos kept for the final judgement.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Photos a step.")]
LearningRate = Annotated[float | None, typer.Option(help="Of the optimizer; its own default if not given.")]
OptimizerOption = Annotated[str | None, typer.Option(help="sgd or adam.")]
L2 = Annotated[float | None, typer.Option(help="Weight decay of the head.")]
LabelSmoothing = Annotated[float | None, typer.Option(help="0 to below 1.")]
ClassWeights = Annotated[bool | None, typer.Option(help="Rare labels count more.")]
EarlyStop = Annotated[int | None, typer.Option(help="Stop after so many steps without a better one.")]
Opset = Annotated[int, typer.Option(min=13, max=18, help="ONNX operator set; 17 suits TensorRT 8.4 and later.")]
CalibrationCache = Annotated[Path | None, typer.Option(help="Also write INT8 ranges here, for trtexec --calib.")]
CacheVersion = Annotated[str, typer.Option("--tensorrt", help="Who reads that file: TensorRT 8 to 10.")]
Method = Annotated[
    str | None,
    typer.Option(help="Of ranges: auto (the best of all), minmax, entropy, percentile, mse, features or equalised."),
]
Int8Share = Annotated[float, typer.Option(min=0, max=1, help="Least share of multiply-adds that stays INT8.")]
RefitHead = Annotated[
    bool, typer.Option("--refit-head/--no-refit-head", help="Fit the last layer to INT8; kept where it helps.")
]
MaxFp16Layers = Annotated[int | None, typer.Option(min=0, help="Most layers that may stay out of INT8.")]
NarrowPrecisions = Annotated[
    list[Precision] | None, typer.Option("--precision", help="fp16 or int8 (repeatable; default both).")
]
Precisions = Annotated[
    list[Precision] | None, typer.Option("--precision", help="fp32, fp16 or int8 (repeatable; default all).")
]
Target = Annotated[manifest.Target, typer.Option("--for", help="Whom it is for.")]
BundlePrecisions = Annotated[
    list[Precision] | None, typer.Option("--precision", help="fp32, fp16 or int8 (repeatable; default what there is).")
]
JetPack = Annotated[
    str, typer.Option("--jetpack", help="A Jetson's, as 5.1.2 or L4T's R35.4.1; default: any from 5.1 on.")
]
Board = Annotated[str, typer.Option("--board", help="A Jetson's, as orin-nano or 'Jetson Orin Nano'.")]
BundleOut = Annotated[Path | None, typer.Option("--out", help="The folder to write; default engines/NAME/bundles/.")]
Sign = Annotated[Path | None, typer.Option(help="A private key of ssh's: devices can ask for its signature.")]
ReplaceBundle = Annotated[bool, typer.Option("--force", help="Replace a bundle that was changed or built in.")]
MaxDrop = Annotated[
    float | None,
    typer.Option(help="A gate: points of accuracy that may be lost. Exit 3 if it fails, 4 if it cannot tell."),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(help="A gate: percent of answers like TensorFlow's. Exit 3 and 4 likewise."),
]
AllowUndecided = Annotated[
    bool, typer.Option("--allow-undecided", help="A gate whose photos are too few to tell exits 0, with a warning.")
]
GateRunners = Annotated[
    list[str] | None, typer.Option("--runner", help="What the gate judges (repeatable; default FP16 and INT8).")
]
DropLimit = Annotated[
    float | None, typer.Option("--max-drop", help="Points of accuracy that may be lost; default 0.5.")
]
LatencyLimit = Annotated[float | None, typer.Option("--max-p99", help="Most ms that 99 of 100 inferences may take.")]
BatchLimit = Annotated[list[int] | None, typer.Option("--batch", min=1, help="Repeatable; default all measured.")]
WorkspaceMib = Annotated[int, typer.Option(help="Memory that TensorRT may use while building, in MiB.")]
OptimizationLevel = Annotated[
    int | None, typer.Option(min=0, max=5, help="0 builds quickly, 5 for speed; default: TensorRT's own.")
]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="Later versions of TensorRT shall run it too (8.6 on).")
]
HardwareCompatible = Annotated[
    bool, typer.Option("--hardware-compatible", help="Any GPU from Ampere on shall run it (TensorRT 8.6 on).")
]
Dla = Annotated[int | None, typer.Option("--dla", help="A Jetson's DLA core; what it lacks runs on the GPU.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be built, and whether it can here.")]
Timeout = Annotated[float | None, typer.Option(help="Give up after so many seconds.")]
Batches = Annotated[list[int] | None, typer.Option("--batch", min=1, help="Repeatable; default 1 and 8.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="Measure at least so long, each.")]
Xla = Annotated[bool, typer.Option("--xla", help="Also TensorFlow compiled by XLA.")]
OnCpu = Annotated[bool, typer.Option("--cpu", help="Also TensorFlow on the CPU, where it uses a GPU.")]
Keras = Annotated[bool, typer.Option("--keras", help="Also Keras' predict, as people call it.")]
ScenarioOption = Annotated[
    Scenario | None,
    typer.Option("--scenario", help="MLPerf's: single-stream, multi-stream, offline, or server.", show_choices=False),
]
TargetQps = Annotated[float, typer.Option("--target-qps", min=0, help="Photos a second that a server is asked for.")]
LoadGen = Annotated[bool, typer.Option("--loadgen", help="Let MLPerf's LoadGen judge too; its logs are kept.")]
Compare = Annotated[Path | None, typer.Option("--compare", help="An older benchmark.json: what changed since.")]
FailBelow = Annotated[
    float | None, typer.Option("--fail-below", help="A gate: the fastest, in times TensorFlow. Exit 3 if it fails.")
]
MaxP99 = Annotated[
    float | None, typer.Option("--max-p99", min=0, help="A gate, or a server's bound, in ms. Exit 3 if it fails.")
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads of every runner; 0: its own choice.")]
BenchTrain = Annotated[bool, typer.Option("--train", help="Training instead: bottlenecks, head, learning rates.")]
LearningRates = Annotated[list[float] | None, typer.Option("--learning-rate", help="With --train (repeatable).")]
StrictLabels = Annotated[bool, typer.Option("--strict", help="Stop at the first photo that can't be read.")]
Trust = Annotated[bool, typer.Option("--trust", help="Open what you did not make here: it may run code.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Show the page in the browser.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print it as Markdown, for a pull request.")]
Top = Annotated[int, typer.Option(min=1, help="How many labels a photo.")]
OlderThan = Annotated[float, typer.Option(min=0, help="With --prune: only those unused for so many days.")]
Prune = Annotated[bool, typer.Option("--prune", help="Delete stores of bottlenecks.")]
Quick = Annotated[bool, typer.Option("--quick", help="60 photos a class.")]
