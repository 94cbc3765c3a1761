"""All questions, in the order in which they are asked: each explains what may fail in the next."""

from __future__ import annotations

from dataclasses import dataclass

BUILD_SECONDS = 3600.0
"""A small board takes half an hour for the INT8 engine of a large network."""


@dataclass(frozen=True)
class Question:
    """One question: `function` of `module` answers it within `timeout` seconds. `goal` is what counts as met."""

    id: str
    text: str
    module: str
    function: str
    goal: str = ""
    timeout: float = 300.0


MACHINE = Question("machine", "Which machine is it?", "machine", "look")
"""Asked before all others, and kept beside the answers."""

HARNESS: tuple[Question, ...] = (
    Question(
        "primary-context",
        "Is the GPU taken through its primary context, which other libraries share?",
        "harness",
        "primary_context",
        "one context for all, and the thread as before afterwards",
    ),
    Question("subject", "What do the questions about the harness run?", "harness", "subject_ready", "", BUILD_SECONDS),
    Question(
        "capture",
        "Is a batch captured as a CUDA graph, and does the graph answer as plain enqueues do?",
        "harness",
        "capture",
        "captured, with equal scores",
    ),
    Question(
        "recapture",
        "Are the scores right when batch sizes change, and each is captured anew?",
        "harness",
        "recapture",
        "equal scores at every size",
    ),
    Question(
        "leaks",
        "Does memory leak, on the GPU or on the host?",
        "harness",
        "leaks",
        "less than 1 MiB of the GPU, and 16 MiB of the host",
        900.0,
    ),
    Question(
        "bare-loop",
        "How much does `infer` take beside the same work by hand, at batch 1, 8 and 32?",
        "pace",
        "bare_loop",
        "within 5 % at each",
    ),
    Question(
        "copies-in-graph",
        "What do copies inside the CUDA graph save?",
        "pace",
        "copies_in_graph",
    ),
    Question("two-slots", "What do two slots save, where copies overlap computing?", "pace", "two_slots"),
    Question("waiting", "How do AUTO, SPIN and BLOCKING differ in latency and processor time?", "pace", "waiting"),
    Question("clocks", "How long does the clock rise after the GPU was idle?", "sensors", "clocks"),
    Question(
        "nvml",
        "Does NVML know the GPU that CUDA uses by its PCI bus id?",
        "sensors",
        "nvml_by_bus_id",
        "the same name in both",
    ),
    Question("energy-step", "How often does the energy counter change?", "sensors", "energy_step"),
    Question(
        "builder-memory",
        "How much memory does the process that builds take, beside what it may?",
        "engines",
        "builder_memory",
        "less than its limit, and than the room that is asked for",
        BUILD_SECONDS,
    ),
)

ENGINES: tuple[Question, ...] = (
    *(
        Question(
            f"{flavour}-{precision}",
            f"Does {title} build {precision.upper()} for this GPU and answer rightly, and how fast?",
            "engines",
            f"{flavour}_{precision}",
            "scores as ONNX Runtime's or the bundle's, nothing leaks"
            + (", most layers in INT8" if (flavour, precision) == ("tensorrt", "int8") else ""),
            BUILD_SECONDS,
        )
        for flavour, title in (("rtx", "TensorRT-RTX"), ("tensorrt", "TensorRT"))
        for precision in ("fp32", "fp16", "int8")
    ),
    Question(
        "rtx-current",
        "Does TensorRT-RTX build for ComputeCapability.CURRENT? A refusal is an answer.",
        "engines",
        "rtx_current",
        "",
        BUILD_SECONDS,
    ),
    Question(
        "tensorrt-int8-typing",
        "INT8 weakly and strongly typed: which share of layers is in INT8, and how fast is each?",
        "engines",
        "int8_typing",
        "weakly typed, most layers in INT8",
        BUILD_SECONDS,
    ),
    Question(
        "timing-cache",
        "Is a second build with the timing cache faster?",
        "engines",
        "timing_cache",
        "at most 0.7 times as long",
        BUILD_SECONDS,
    ),
    Question(
        "version-compatible",
        "Does a version-compatible engine load and answer?",
        "engines",
        "version_compatible",
        "equal scores",
        BUILD_SECONDS,
    ),
    Question(
        "trtexec",
        "Does trtexec measure the same file alike?",
        "trtexec",
        "beside_trtexec",
        "within 5 % of its GPU compute time",
        BUILD_SECONDS,
    ),
)

QUESTIONS = HARNESS + ENGINES


def question_of(name: str) -> Question:
    """The question of an id. Raises KeyError."""
    return {each.id: each for each in QUESTIONS}[name]
