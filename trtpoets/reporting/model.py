"""The types of report.json, from which every page, table and sentence of a report is made.

`Documents` holds the documents that the stages of a run wrote; `report_from_documents` makes a `Report` of them. Fields
with a default may be missing in files of earlier versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trtpoets.core.fine_tuning import DistortedTraining, FineTuning
from trtpoets.core.network_notes import DistillNotes, Fidelity, FrontierPoint, KeptLayer, Parity, WorstLayer
from trtpoets.core.runner_id import TENSORFLOW, Library, RunnerId, baseline_of, baseline_text
from trtpoets.core.serialization import FLAT, OPTIONAL
from trtpoets.core.training import Accuracy, HeadConfig, TrainingDetails
from trtpoets.core.types import BatchRange, Int8Form, LayerReport, ModelSpec, Skipped
from trtpoets.judge.advice import Recommended
from trtpoets.judge.all_photos import AllPhotos, FileOnAllPhotos
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.benchmark import BenchFailure, Benchmark, Measurement, Throttling
from trtpoets.judge.bench.compare import BenchmarkComparison
from trtpoets.judge.bench.conditions import Conditions
from trtpoets.judge.bench.scenario import ScenarioOutcome
from trtpoets.judge.evaluation import ChangedAnswer, ComparisonSummary, EvaluatedPhoto
from trtpoets.judge.evaluation_file import Evaluations
from trtpoets.judge.gate import Gate
from trtpoets.judge.head_notes import HeadNotes
from trtpoets.judge.race import Race
from trtpoets.judge.sweep import Sweep
from trtpoets.judge.train_benchmark import TrainBenchmark
from trtpoets.reporting.recommendation import Recommendation

VERSION = 1
"""The version of report.json, increased when a field changes its meaning."""

Matrix = tuple[tuple[int, ...], ...]
"""A confusion matrix: rows are true labels, columns answers; or [label, answer, photos] for each cell with photos."""


@dataclass(frozen=True)
class LeftOutFile:
    """A file of the photo folder that is not used."""

    path: str
    reason: str
    remedy: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class DatasetOptions:
    """The options with which the photos were read."""

    validation_percent: float | None = None
    test_percent: float | None = None
    strict: bool | None = None
    labels: str = ""
    class_folders: bool = False


@dataclass(frozen=True)
class DatasetDocument:
    """The fields of dataset.json in a report. Groups are lists of paths; counts may exceed the listed entries."""

    folder: str | None = None
    config: DatasetOptions | None = None
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: tuple[LeftOutFile, ...] = ()
    left_out_count: int = 0
    duplicates: tuple[tuple[str, ...], ...] = ()
    duplicates_count: int = 0
    contradictions: tuple[tuple[str, ...], ...] = ()
    contradictions_count: int = 0
    families: tuple[tuple[str, ...], ...] = ()
    families_count: int = 0


@dataclass(frozen=True)
class DatasetSummary(DatasetDocument):
    """The photos of a run: `counts` by class and split, `photos` by split, and files with problems."""

    classes: int = 0
    photos: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Curves:
    """Accuracy (0..1) and cross-entropy (nats) of the training and validation photos, one value for each step."""

    steps: tuple[int, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    train_cross_entropy: tuple[float, ...] = ()
    validation_accuracy: tuple[float, ...] = ()
    validation_cross_entropy: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingSummary:
    """The training part of a report: TrainingDetails, with the curves of each step in `curves`.

    `steps` is the number of steps that were trained. `families` counts the families of near-copies. `together` is the
    accuracy if each family is in one split, `as_it_stands` the accuracy if families are not kept together, and
    `without_copies` the accuracy on the test photos that have no near-copy in another split. These three accuracies and
    `curves` are of the head on the frozen backbone; `fine_tuning` has curves of its own.
    """

    config: HeadConfig
    best_step: int
    seconds: float
    test_accuracy: float | None = None
    test_photos: int = 0
    test_groups: int | None = None
    test_accuracy_low: float | None = None
    test_accuracy_high: float | None = None
    families: int | None = field(default=None, metadata=OPTIONAL)
    families_photos: int | None = field(default=None, metadata=OPTIONAL)
    families_across_splits: int | None = field(default=None, metadata=OPTIONAL)
    together: Accuracy | None = field(default=None, metadata=OPTIONAL)
    as_it_stands: Accuracy | None = field(default=None, metadata=OPTIONAL)
    without_copies: Accuracy | None = field(default=None, metadata=OPTIONAL)
    fine_tuning: FineTuning | None = field(default=None, metadata=OPTIONAL)
    distorted: DistortedTraining | None = field(default=None, metadata=OPTIONAL)
    command: str = ""
    steps: int = 0
    curves: Curves = field(default_factory=Curves)


@dataclass(frozen=True)
class Calibration:
    """How the INT8 ranges were chosen. `asked` is the requested method, `method` the one that was used."""

    photos: int | None = None
    method: str | None = None
    percentile: float | None = None
    seed: int | None = None
    batch_size: int | None = None
    asked: str | None = None
    per_class: Mapping[str, int] = field(default_factory=dict)
    hash: str | None = None
    trials: Mapping[str, Fidelity] = field(default_factory=dict)


@dataclass(frozen=True)
class Int8Options:
    """The options with which int8.onnx was made; None where an earlier version did not record one."""

    correct_bias: bool | None = None
    correction_photos: int | None = None
    round_weights: bool | None = None
    rounding_photos: int | None = None
    judged_photos: int | None = None
    search_photos: int | None = None
    target_db: float | None = None
    target_agreement: float | None = None
    int8_share: float | None = None
    max_float_layers: int | None = None


@dataclass(frozen=True)
class Fp16Summary:
    """How fp16.onnx was made, and the differences between its scores and those of FP32."""

    nodes: int = 0
    kept_fp32: Mapping[str, str] = field(default_factory=dict)
    photos: int = 0
    largest: float = 0.0
    largest_at: str = ""
    compared: int = 0
    max_abs: float = 0.0
    mean_abs: float = 0.0
    same_answer: float = 0.0
    calibration: Calibration | None = None
    config: Int8Options | None = None


@dataclass(frozen=True)
class Int8Summary:
    """How an INT8 file was made, and how it compares with FP32.

    `products` counts MatMuls, `share` is the share of the multiply-adds in INT8. `size` is the size of the file
    relative to fp32.onnx; `islands` are the operators of the CPU form that ONNX Runtime computes in float between INT8
    layers.

    The fidelity after each step, None where it was not measured: `plain` (rounded to the nearest integers), `corrected`
    (biases), `together` (weights rounded together), `before_head` (the last layer not yet refitted) and `final` (the
    file as written). `before_distillation` is the fidelity before the network was distilled; None if it was not
    distilled or the distilled network was not kept.
    """

    convolutions: int = 0
    convolutions_int8: int = 0
    products: int = 0
    products_int8: int = 0
    pairs: int = 0
    multiply_adds: int = 0
    share: float = 0.0
    in_float: Mapping[str, str] = field(default_factory=dict)
    equalised: int = 0
    rounded: int = 0
    plain: Fidelity | None = None
    corrected: Fidelity | None = None
    together: Fidelity | None = None
    final: Fidelity | None = None
    steps: tuple[KeptLayer, ...] = ()
    layers_db: Mapping[str, float] = field(default_factory=dict)
    before_head: Fidelity | None = None
    kept_fp32: Mapping[str, str] = field(default_factory=dict)
    frontier: tuple[FrontierPoint, ...] = ()
    distilled: DistillNotes | None = field(default=None, metadata=OPTIONAL)
    before_distillation: Fidelity | None = field(default=None, metadata=OPTIONAL)
    histograms: tuple[WorstLayer, ...] = ()
    head: HeadNotes | None = field(default=None, metadata=OPTIONAL)
    recommended: Recommended | None = None
    calibration: Calibration | None = None
    config: Int8Options | None = None
    size: float | None = field(default=None, metadata=OPTIONAL)
    islands: tuple[str, ...] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class TfliteSummary:
    """int8.tflite: its size relative to fp32.tflite, and the recommendation of `bundle`, None without one."""

    size: float
    recommended: Recommended | None = None


@dataclass(frozen=True)
class Quantisation:
    """The notes of the files with a reduced precision; None where there is no file.

    `int8_cpu` is int8.cpu.onnx, `int8_tflite` is int8.tflite.
    """

    fp16: Fp16Summary | None = field(default=None, metadata=OPTIONAL)
    int8: Int8Summary | None = field(default=None, metadata=OPTIONAL)
    int8_cpu: Int8Summary | None = field(default=None, metadata=OPTIONAL)
    int8_tflite: TfliteSummary | None = field(default=None, metadata=OPTIONAL)

    def advice_on(self, runner: RunnerId) -> Recommended | None:
        """Return the recommendation about the INT8 file that a runner runs, as it is or built into an engine."""
        if runner.library is Library.TFLITE:
            notes: Int8Summary | TfliteSummary | None = self.int8_tflite
        else:
            notes = self.int8_cpu if runner.form is Int8Form.CPU else self.int8
        return notes.recommended if notes else None


@dataclass(frozen=True)
class EngineEntry:
    """An engine of the run: its card, its runner and its file name.

    `bytes` is the size of the engine, `seconds` the time of the build.
    """

    runner: RunnerId = field(metadata=FLAT)
    flavour: str
    targets: tuple[str, ...]
    bytes: int
    sha256: str
    seconds: float
    file: str = ""
    tensorrt_version: str = ""
    cuda_version: str | None = None
    driver_version: str | None = None
    gpu: str | None = None
    compute_capability: str | None = None
    platform: str | None = None
    batch: BatchRange | None = None
    workspace_mib: int | None = None
    onnx_sha256: str | None = None
    calibration_hash: str | None = None
    preprocess_hash: str | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None
    multiprocessors: int | None = None
    memory_gib: int | None = None
    board: str | None = None
    layers: LayerReport | None = None
    command: str = ""
    typing: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file name; the name of the runner if an earlier version did not record the file name."""
        return self.file or self.runner.name


@dataclass(frozen=True)
class RunnerEntry:
    """The library and the variants that identify a runner."""

    runner: RunnerId = field(metadata=FLAT)


@dataclass(frozen=True)
class Intervals:
    """The 95 % intervals of a runner's accuracy and agreement, shares 0..1; None for an unknown interval."""

    accuracy: tuple[float, float] | None = field(default=None, metadata=OPTIONAL)
    agreement: tuple[float, float] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Samples:
    """Photos for the gallery: mistakes and right answers of `runner`.

    `changed` are the photos that other runners answer differently, by the name of the runner.
    """

    runner: str | None = None
    mistakes: tuple[EvaluatedPhoto, ...] = ()
    right: tuple[EvaluatedPhoto, ...] = ()
    changed: Mapping[str, tuple[ChangedAnswer, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Accuracies:
    """The evaluations of a run by the name of the runner. `accuracy` and `agreement` are shares 0..1.

    The mistakes and right answers of `samples` are those of the first runner, the baseline. `recall` and
    `recall_intervals` have None for a label without photos.
    """

    test_photos: int = 0
    test_groups: int = 0
    accuracy: Mapping[str, float] = field(default_factory=dict)
    agreement: Mapping[str, float] = field(default_factory=dict)
    top5_accuracy: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Intervals] = field(default_factory=dict)
    comparison: Mapping[str, ComparisonSummary] = field(default_factory=dict)
    recall: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    recall_intervals: Mapping[str, Mapping[str, tuple[float, float] | None]] = field(default_factory=dict)
    confusion: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)


@dataclass(frozen=True)
class BenchmarkSummary:
    """The fields of benchmark.json in a report, except measurements and failures; all None without a benchmark."""

    config: BenchConfig | None = field(default=None, metadata=OPTIONAL)
    photos: int | None = field(default=None, metadata=OPTIONAL)
    conditions: Conditions | None = field(default=None, metadata=OPTIONAL)
    incomplete: str | None = field(default=None, metadata=OPTIONAL)
    artefacts: Mapping[str, str] | None = field(default=None, metadata=OPTIONAL)
    outcomes: tuple[ScenarioOutcome, ...] | None = field(default=None, metadata=OPTIONAL)
    compared: BenchmarkComparison | None = field(default=None, metadata=OPTIONAL)
    machine: Throttling | None = field(default=None, metadata=OPTIONAL)
    stopped: Mapping[str, int] | None = field(default=None, metadata=OPTIONAL)
    timed_out: Mapping[str, int] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Sentence:
    """A sentence of the verdict.

    `about` is its subject: "ship", "accuracy", "precision", "gate", "recommended", "speed" or "engines".
    """

    about: str
    text: str


@dataclass(frozen=True)
class Report(Accuracies):
    """The content of report.json, which `trtpoets.report` returns.

    The unit of a time is in the name of its field. `absent` are the stages that have not run. `commands` are the
    recorded commands of each stage, `engines_folder` the folder of all runs if it is not the default one.
    """

    version: int = VERSION
    name: str = ""
    backbone: str = ""
    labels: tuple[str, ...] = ()
    spec: ModelSpec | None = None
    dataset: DatasetSummary | None = None
    training: TrainingSummary | None = None
    train_benchmark: TrainBenchmark | None = None
    parity: Parity | None = None
    opset: int | None = None
    quantisation: Quantisation = field(default_factory=Quantisation)
    runners: Mapping[str, RunnerEntry] = field(default_factory=dict)
    gate: Gate | None = None
    engines: tuple[EngineEntry, ...] = ()
    benchmarks: tuple[Measurement, ...] = ()
    benchmark: BenchmarkSummary = field(default_factory=BenchmarkSummary)
    failures: tuple[BenchFailure, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    absent: tuple[Skipped, ...] = ()
    conditions: Conditions | None = None
    command: str | None = None
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    engines_folder: str | None = None
    recommendation: Recommendation | None = None
    verdict: tuple[Sentence, ...] = ()
    schema_version: int = 1
    rounded: Parity | None = field(default=None, metadata=OPTIONAL)
    all_photos: AllPhotos | None = field(default=None, metadata=OPTIONAL)
    sweep: Sweep | None = field(default=None, metadata=OPTIONAL)
    race: Race | None = field(default=None, metadata=OPTIONAL)

    @property
    def baseline(self) -> RunnerId:
        """The runner of the classifier itself, with which the others are compared."""
        return TENSORFLOW if self.spec is None else baseline_of(self.spec)

    @property
    def baseline_text(self) -> str:
        """The baseline as sentences name it: "TensorFlow" or "the original file"."""
        return baseline_text(self.baseline)

    def on_all_photos(self, runner: RunnerId) -> FileOnAllPhotos | None:
        """Return the comparison on all photos of the file that a runner runs; None where it was not measured."""
        return self.all_photos.of_runner(runner) if self.all_photos else None


@dataclass(frozen=True)
class Documents:
    """The documents that the stages of a run wrote; None for a stage that has not run."""

    spec: ModelSpec | None = None
    dataset: DatasetDocument | None = None
    training: TrainingDetails | None = None
    train_benchmark: TrainBenchmark | None = None
    sweep: Sweep | None = None
    race: Race | None = None
    parity: Parity | None = None
    rounded: Parity | None = None
    opset: int | None = None
    quantisation: Quantisation = field(default_factory=Quantisation)
    evaluation: Evaluations | None = None
    benchmark: Benchmark | None = None
    engines: tuple[EngineEntry, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    command: str | None = None
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    engines_folder: str | None = None
