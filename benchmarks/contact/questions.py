"""The questions, in an order in which each helps to explain failures of later ones."""

from __future__ import annotations

from dataclasses import dataclass

BUILD_SECONDS = 3600.0
"""Time limit for builds: a small board needs half an hour for the INT8 engine of a large network."""


@dataclass(frozen=True)
class Question:
    """A question, answered by `function` of `module` within `timeout` seconds. `goal` describes the expected result.

    `arguments` are those of the function after the inputs.
    """

    id: str
    text: str
    module: str
    function: str
    goal: str = ""
    timeout: float = 300.0
    arguments: tuple[str, ...] = ()


MACHINE = Question("machine", "Which machine is it?", "machine", "describe_machine")
"""Runs before all others; its answer is recorded with the others."""

HARNESS: tuple[Question, ...] = (
    Question(
        "primary-context",
        "Does trtpoets use the primary context of the GPU, which other libraries share?",
        "harness",
        "primary_context",
        "one context for all, and no context left on the thread",
    ),
    Question(
        "subject", "Which engine do the questions about the runtime use?", "harness", "subject_ready", "", BUILD_SECONDS
    ),
    Question(
        "capture",
        "Is a batch captured as a CUDA graph, with the same scores as without a graph?",
        "harness",
        "capture",
        "captured, with equal scores",
    ),
    Question(
        "recapture",
        "Are the scores correct when batch sizes change and graphs are captured again?",
        "harness",
        "recapture",
        "equal scores at every size",
    ),
    Question(
        "leaks",
        "Does memory leak, on the GPU or on the host?",
        "harness",
        "leaks",
        "less than 1 MiB on the GPU and 16 MiB on the host",
        900.0,
    ),
    Question(
        "bare-loop",
        "How long does `infer` take relative to the bare CUDA calls, at batch 1, 8 and 32?",
        "pace",
        "bare_loop",
        "at most 5 % more at each",
    ),
    Question(
        "copies-in-graph",
        "How much time do copies inside the CUDA graph save?",
        "pace",
        "copies_in_graph",
    ),
    Question("two-slots", "How much faster are two slots, which overlap copies and computation?", "pace", "two_slots"),
    Question("waiting", "How do AUTO, SPIN and BLOCKING differ in latency and CPU time?", "pace", "waiting"),
    Question("clocks", "How long does the GPU clock rise after idling?", "sensors", "clocks"),
    Question(
        "nvml",
        "Does NVML find the GPU that CUDA uses by its PCI bus id?",
        "sensors",
        "nvml_by_bus_id",
        "the same name in both",
    ),
    Question("energy-step", "How often does the energy counter change?", "sensors", "energy_step"),
    Question(
        "builder-memory",
        "How much memory does the build process use, relative to its limit?",
        "engines",
        "builder_memory",
        "less than its limit and than the required free memory",
        BUILD_SECONDS,
    ),
)

ENGINES: tuple[Question, ...] = (
    *(
        Question(
            f"{flavour}-{precision}",
            f"Does {title} build {precision.upper()} for this GPU, with correct scores, and how fast?",
            "engines",
            "engines",
            "scores equal to ONNX Runtime or the bundle, no memory leak"
            + (", most layers in INT8" if (flavour, precision) == ("tensorrt", "int8") else ""),
            BUILD_SECONDS,
            (flavour, precision),
        )
        for flavour, title in (("rtx", "TensorRT-RTX"), ("tensorrt", "TensorRT"))
        for precision in ("fp32", "fp16", "int8")
    ),
    Question(
        "rtx-current",
        "Does TensorRT-RTX build for ComputeCapability.CURRENT? A refusal counts as an answer.",
        "engines",
        "rtx_current",
        "",
        BUILD_SECONDS,
    ),
    Question(
        "tensorrt-int8-typing",
        "Which share of layers is INT8 when weakly and strongly typed, and how fast is each?",
        "engines",
        "int8_typing",
        "most layers in INT8 when weakly typed",
        BUILD_SECONDS,
    ),
    Question(
        "timing-cache",
        "Is a second build with the timing cache faster?",
        "engines",
        "timing_cache",
        "at most 0.7 times the duration",
        BUILD_SECONDS,
    ),
    Question(
        "version-compatible",
        "Does a version-compatible engine load and give the same scores?",
        "engines",
        "version_compatible",
        "equal scores",
        BUILD_SECONDS,
    ),
    Question(
        "trtexec",
        "Does trtexec measure the same speed for the same engine?",
        "trtexec",
        "beside_trtexec",
        "within 5 % of its GPU compute time",
        BUILD_SECONDS,
    ),
)

QUESTIONS = HARNESS + ENGINES


def question_of(name: str) -> Question:
    """Return the question with an id. Raises KeyError."""
    return {question.id: question for question in QUESTIONS}[name]
