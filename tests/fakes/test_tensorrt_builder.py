"""Complete builds with every version of TensorRT, against a fake that enforces its rules; and tests of the fake."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.bindings import committed_listings
from tests.fakes.tensorrt_builder import VERSIONS, fake_library
from tests.fakes.tensorrt_builder import log as build_log
from tests.support.errors import raises
from tests.support.tiny import tiny_graph
from trtpoets.core.errors import BadArtefact, BuildFailed
from trtpoets.core.types import BatchRange, Flavour, Precision
from trtpoets.device.build.layer_inspector import inspect_engine
from trtpoets.device.build.tensorrt_build import build_engine, machine_of
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt
from trtpoets.device.tensorrt_messages import Messages, new_logger, new_recorder


def request(precision: Precision, workspace: int = 1 << 28, **more: Any) -> BuildRequest:
    return BuildRequest(precision, 16, 16, BatchRange(1, 2, 4), (), workspace, None, **more)


def refused(
    version: str, content: bytes, asked: BuildRequest, code: str, *values: str, behaviour: str = "ok"
) -> BuildFailed:
    """Return the error of a build, which must have this code and a message with these values."""
    with raises(BuildFailed, code, *values) as caught:
        build_engine(fake_library(version, behaviour), content, asked, lambda _: True, Messages())
    return caught.value


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_precision_with_every_version(version: str, precision: Precision) -> None:
    steps: list[float] = []
    messages = Messages()
    content = tiny_graph(precision).SerializeToString()
    library = fake_library(version)
    built = build_engine(library, content, request(precision), lambda done: steps.append(done) is None, messages)
    assert built.engine == b"engine of a fake" and messages.errors == []
    eight, ten = version.startswith("8."), version.startswith("10.")
    weak = eight or (ten and precision is Precision.INT8)
    flags = {Precision.FP32: None, Precision.FP16: ["FP16"], Precision.INT8: ["INT8", "FP16"]}[precision]
    assert build_log.get("flags") == (flags if weak else None)
    assert build_log["network"] == (0b11 if ten and not weak else 0b1)
    types = {Precision.FP32: "FP32 alone", Precision.FP16: "FP16 allowed", Precision.INT8: "INT8 and FP16 allowed"}
    assert built.typing == (f"weakly typed, {types[precision]}" if weak else "strongly typed")
    assert bool(steps) is not eight, "8.x reports no progress"
    layers = inspect_engine(library, built.engine, request(precision), built.logger)
    assert bool(layers.layers) is (version != "rtx")
    del built
    gc.collect()
    assert "broken" not in build_log


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_operator(version: str) -> None:
    """8.x reports only the number of the node."""
    reason = "node 'conv' (Conv): creator && \"Plugin not found, are the plugin name, version, and namespace correct?\""
    content = tiny_graph().SerializeToString()
    error = refused(version, content, request(Precision.FP32), "TP4051", reason, behaviour="unknown operator")
    assert error.hint.startswith("this TensorRT does not support the operator; export it again")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reason_comes_through_the_recorder(version: str) -> None:
    reason = "Tactic Selection: no tactics to implement the operation within workspace limit"
    error = refused(version, b"onnx", request(Precision.FP32, workspace=1 << 20), "TP4050", reason)
    assert error.hint == "use a larger workspace with --workspace 4"


def test_an_int8_network_without_its_flag_is_refused() -> None:
    """Otherwise the builds above would not prove that the flag is set."""
    content = tiny_graph(Precision.INT8).SerializeToString()
    refused("8.6", content, request(Precision.FP32), "TP4050", "Int8 precision has not been set to ON")


def test_an_empty_file_is_no_network() -> None:
    """Parsers accept it as a network without inputs."""
    with raises(BadArtefact, "TP4052", "[]"):
        build_engine(fake_library("10.3"), b"", request(Precision.FP32), lambda _: True, Messages())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_machine_has(version: str) -> None:
    machine = machine_of(fake_library(version, cores=2), Messages())
    eight, ten = version.startswith("8."), version.startswith("10.")
    assert (machine.dla_cores, machine.fast_fp16, machine.fast_int8) == (2, eight or None, eight or ten or None)


@pytest.mark.parametrize("version", VERSIONS)
def test_fakes_have_exactly_the_members_of_their_version(version: str) -> None:
    module, listings = fake_library(version).module, committed_listings()
    everything = {name for listing in listings.values() for name in listing}
    for name in everything:
        fake = getattr(module, name, None)
        if fake is None:
            continue
        assert name in listings[version], f"{version} has no {name}"
        every_member = {member for listing in listings.values() for member in listing.get(name, ())}
        assert {member for member in every_member if hasattr(fake, member)} == listings[version][name], name


class Bench:
    """A builder with all that belongs to it, up to the point where a rule can be broken."""

    def __init__(self, version: str, library: TensorRt | None = None) -> None:
        self.library = library or fake_library(version)
        self.module = self.library.module
        self.messages = Messages()
        self.logger = new_logger(self.library, self.messages)
        self.builder = self.module.Builder(self.logger)
        self.network = self.builder.create_network(1 if version != "10.3" else 3)
        self.config = self.builder.create_builder_config()
        self.profile = self.builder.create_optimization_profile()

    def parse(self) -> bool:
        return bool(self.module.OnnxParser(self.network, self.logger).parse(b"onnx"))

    def of_another(self) -> None:
        self.builder.build_serialized_network(self.network, Bench("10.3", self.library).config)

    def strong_with_flags(self) -> None:
        self.parse()
        self.config.set_flag(self.module.BuilderFlag.FP16)
        self.profile.set_shape("photos", (1,), (1,), (1,))
        self.config.add_optimization_profile(self.profile)
        self.builder.build_serialized_network(self.network, self.config)

    def recorder_dies(self) -> None:
        self.parse()
        self.builder.error_recorder = new_recorder(self.library, Messages())
        gc.collect()
        self.builder.build_serialized_network(self.network, self.config)

    def recorder_first(self) -> None:
        self.builder.error_recorder = new_recorder(self.library, self.messages)
        self.parse()

    def uninitialised(self) -> None:
        kind = type("Logger", (self.module.ILogger,), {"__init__": lambda self: None})
        self.module.Builder(kind())


BROKEN: list[tuple[str, Callable[[Bench], Any], type[Exception], str]] = [
    ("10.3", lambda on: on.builder.create_network(1 << 7), AssertionError, "bits that no flag has"),
    ("10.3", Bench.of_another, AssertionError, "a network or configuration of another builder"),
    ("10.3", Bench.strong_with_flags, AssertionError, "take no precision flags"),
    ("10.3", Bench.recorder_dies, AssertionError, "a recorder is freed before its builder"),
    ("rtx", Bench.recorder_first, AssertionError, "crashes when a builder with a recorder parses"),
    ("10.3", Bench.uninitialised, TypeError, "must be called when overriding __init__"),
    ("10.3", lambda on: on.config.set_memory_pool_limit(0, 1 << 30), TypeError, "int is no MemoryPoolType"),
    ("10.3", lambda on: on.config.set_flag(0), TypeError, "int is no BuilderFlag"),
    ("8.5", lambda on: setattr(on.config, "builder_optimization_level", 3), AttributeError, "no attribute"),
    ("8.6", lambda on: setattr(on.config, "progress_monitor", None), AttributeError, "no attribute"),
    ("11.0", lambda on: on.module.BuilderFlag.FP16, AttributeError, "FP16"),
    ("11.0", lambda on: on.builder.platform_has_fast_fp16, AttributeError, "platform_has_fast_fp16"),
    ("10.3", lambda on: on.config.set_compute_capability, AttributeError, "set_compute_capability"),
    ("10.3", lambda on: on.config.reset(), AssertionError, "IBuilderConfig.reset is used"),
    ("10.3", lambda on: on.module.OnnxParser(on.builder, on.logger), TypeError, "Builder is no INetworkDefinition"),
    ("10.3", lambda on: on.profile.set_shape("photos", (1,), (1,)), TypeError, "missing 1 required"),
]


@pytest.mark.parametrize(("version", "breaks", "kind", "text"), BROKEN, ids=[text for *_, text in BROKEN])
def test_broken_rules_are_reported(
    version: str, breaks: Callable[[Bench], Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        breaks(Bench(version))


def test_what_is_refused_without_an_exception() -> None:
    on = Bench("10.3")
    on.profile.set_shape("photos", (4, 16, 16, 3), (2, 16, 16, 3), (8, 16, 16, 3))
    assert on.config.add_optimization_profile(on.profile) == -1, "they don't rise"
    assert on.parse() and not on.parse(), "a network is parsed into once"
    assert not on.builder.is_network_supported(on.network, on.config)
    assert on.builder.build_serialized_network(on.network, on.config) is None, "no profile"
    assert on.messages.sentence() == (
        "Network has dynamic or shape inputs, but no optimization profile has been defined"
    )
    old = Bench("8.6")
    old.network = old.builder.create_network(0)
    assert not old.parse(), "8.x needs an explicit batch"


class Stage:
    """A module of TensorRT-RTX, real or fake, and what scenarios need of it."""

    def __init__(self, library: TensorRt) -> None:
        self.module, self.messages = library.module, Messages()
        self.library = library
        self.logger = new_logger(library, self.messages)
        self.builder = self.module.Builder(self.logger)
        self.network = self.builder.create_network(1)
        self.parser = self.module.OnnxParser(self.network, self.logger)
        self.config = self.builder.create_builder_config()
        self.content = tiny_graph().SerializeToString()

    def profile(self, *batches: int) -> int:
        profile = self.builder.create_optimization_profile()
        if batches:
            profile.set_shape("photos", *((batch, 16, 16, 3) for batch in batches))
        return int(self.config.add_optimization_profile(profile))

    def build(self) -> tuple[bool, bool]:
        supported = self.builder.is_network_supported(self.network, self.config)
        return supported, self.builder.build_serialized_network(self.network, self.config) is not None

    def parsed(self) -> bool:
        return bool(self.parser.parse(self.content)) and self.profile(1, 2, 4) == 0

    def bare(self, name: str) -> Any:
        return type("Bare", (getattr(self.module, name),), {"__init__": lambda self: None})()

    def watched(self, answer: Any) -> tuple[bool, bool]:
        base = self.module.IProgressMonitor
        names = {
            "phase_start": lambda self, name, parent, steps: None,
            "step_complete": lambda self, name, step: answer,
            "phase_finish": lambda self, name: None,
        }
        self.parsed()
        self.config.progress_monitor = type("Watch", (base,), names)()
        return self.build()

    def limited(self, size: int) -> tuple[bool, bool]:
        self.parsed()
        self.config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, size)
        return self.build()

    def recorded(self) -> tuple[bool, str]:
        self.parser.parse(self.content)
        self.builder.error_recorder = new_recorder(self.library, self.messages)
        built = self.builder.build_serialized_network(self.network, self.config)
        return built is None, self.messages.sentence()

    def targets(self, count: int, *names: str) -> list[bool]:
        self.config.num_compute_capabilities = count
        kinds = self.module.ComputeCapability
        return [self.config.set_compute_capability(getattr(kinds, name), place) for place, name in enumerate(names)]

    def tensors(self) -> Any:
        self.parser.parse(self.content)
        network = self.network
        ends = [network.get_input(0), network.get_output(0)]
        return network.num_inputs, network.num_outputs, [(end.name, tuple(end.shape)) for end in ends]


SCENARIOS: dict[str, Callable[[Stage], Any]] = {
    "a builder without a logger": lambda on: on.module.Builder(None),
    "a logger that is not initialised": lambda on: on.module.Builder(on.bare("ILogger")),
    "a recorder that is not initialised": lambda on: setattr(on.builder, "error_recorder", on.bare("IErrorRecorder")),
    "a flag that is a number": lambda on: on.config.set_flag(0),
    "a pool that is a number": lambda on: on.config.set_memory_pool_limit(0, 1 << 30),
    "a parser of a builder": lambda on: on.module.OnnxParser(on.builder, on.logger),
    "a misspelt option": lambda on: setattr(on.config, "optimisation_level", 3),
    "a method that is set": lambda on: setattr(on.config, "set_flag", 3),
    "a number that is read only": lambda on: setattr(on.builder, "num_DLA_cores", 3),
    "what 10.x has": lambda on: on.builder.platform_has_fast_fp16,
    "a flag that 10.x has": lambda on: on.module.BuilderFlag.INT8,
    "a profile without shapes": lambda on: on.profile(),
    "a profile that does not rise": lambda on: on.profile(4, 2, 8),
    "two profiles": lambda on: (on.profile(1, 1, 1), on.profile(1, 2, 4)),
    "a shape too few": lambda on: on.profile(1, 2),
    "a file that is parsed": lambda on: (on.parser.parse(on.content), on.parser.num_errors, on.parser.get_error(0)),
    "what a file holds": Stage.tensors,
    "a file that is parsed twice": lambda on: (on.parser.parse(on.content), on.parser.parse(on.content)),
    "an empty file": lambda on: (on.parser.parse(b""), on.network.num_inputs, on.network.num_outputs),
    "an empty network": lambda on: (on.profile(1, 2, 4), on.build()),
    "a network without a profile": lambda on: (on.parser.parse(on.content), on.build()),
    "a network with an empty profile": lambda on: (on.parser.parse(on.content), on.profile(), on.build()),
    "a network": lambda on: (on.parsed(), on.build()),
    "a build that is watched": lambda on: on.watched(True),
    "a build that is cancelled": lambda on: on.watched(False),
    "a build whose monitor answers nothing": lambda on: on.watched(None),
    "a workspace of 1 MiB": lambda on: on.limited(1 << 20),
    "a workspace of 16 MiB": lambda on: on.limited(16 << 20),
    "a reason that is recorded": Stage.recorded,
    "targets": lambda on: (on.parsed(), on.targets(2, "SM80", "SM86"), on.build()),
    "no target": lambda on: on.targets(1, "NONE"),
    "fewer targets than said": lambda on: (on.parsed(), on.targets(2, "SM86"), on.build()),
    "less than no targets": lambda on: on.targets(-1),
    "an engine for later versions": lambda on: (
        on.parsed(), on.config.set_flag(on.module.BuilderFlag.VERSION_COMPATIBLE), on.build()
    ),
}  # fmt: skip


def outcome(scenario: Callable[[Stage], Any], library: TensorRt) -> Any:
    try:
        return scenario(Stage(library))
    except (AttributeError, TypeError, ValueError) as error:
        return type(error).__name__


@pytest.mark.parametrize("what", SCENARIOS)
def test_the_fake_does_what_the_real_one_does(what: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    scenario = SCENARIOS[what]
    assert outcome(scenario, fake_library("rtx")) == outcome(scenario, load_tensorrt(Flavour.RTX))
