"""Every name that the adapter and the runner use exists in the real Python bindings of each version, or is probed.

The bindings come from NVIDIA's wheels, over empty libraries (`stub_bindings.py`); the names are read from our source
(`tensorrt_names.py`). 8.5 was never published as a wheel: it is 8.6 without the names that its sources do not have.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.bindings import committed_listings
from tests.fakes.stub_bindings import LISTED, VERSIONS, classes_of, described, listing_of
from tests.fakes.tensorrt_builder import fake_library
from tests.fakes.tensorrt_runtime import Context, Engine
from tests.support.sources import nodes_of
from tests.support.tensorrt_names import MODULE, Findings, Touch, findings_in, parsed
from trtpoets.device.tensorrt_messages import NO_DRIVER

DEVICE = Path(__file__).parents[2] / "trtpoets" / "device"
_BUILD = ("build_child.py", "tensorrt_build.py", "tensorrt_config.py", "layer_inspector.py", "layer_precision.py")
FILES = [
    *sorted(DEVICE.glob("tensorrt_*.py")),
    DEVICE / "runners" / "trt.py",
    *(DEVICE / "build" / name for name in _BUILD),
]
EVERY = ("8.5", *VERSIONS)

GUARDED = {
    "has_monitor": ("module.IProgressMonitor", "IBuilderConfig.progress_monitor"),
    "has_optimization_level": ("IBuilderConfig.builder_optimization_level",),
    "has_version_compatible": ("BuilderFlag.VERSION_COMPATIBLE", "Runtime.engine_host_code_allowed"),
    "has_hardware_compatible": (
        *("module.HardwareCompatibilityLevel", "HardwareCompatibilityLevel.AMPERE_PLUS"),
        "IBuilderConfig.hardware_compatibility_level",
    ),
    "weakly_typed_for_int8": ("BuilderFlag.INT8", "Builder.platform_has_fast_fp16", "Builder.platform_has_fast_int8"),
    "weakly_typed_for_dla": (
        *("BuilderFlag.FP16", "BuilderFlag.OBEY_PRECISION_CONSTRAINTS"),
        *("ILayer.precision", "ILayer.set_output_type", "ILayer.reset_precision", "ILayer.reset_output_type"),
    ),
    "strongly_typed": ("NetworkDefinitionCreationFlag.STRONGLY_TYPED",),
    "targets": (
        *("module.ComputeCapability", "ComputeCapability.SM86"),
        *("IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"),
    ),
    "IRuntimeCache": (
        *("module.IRuntimeCache", "module.CudaGraphStrategy", "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE"),
        *("ICudaEngine.create_runtime_config", "IRuntimeConfig.cuda_graph_strategy"),
        *("IRuntimeConfig.create_runtime_cache", "IRuntimeConfig.set_runtime_cache"),
        *("IRuntimeCache.serialize", "IRuntimeCache.deserialize"),
    ),
    "shares_memory": (
        *("ICudaEngine.device_memory_size_v2", "IExecutionContext.set_device_memory"),
        *("module.ExecutionContextAllocationStrategy", "ExecutionContextAllocationStrategy.USER_MANAGED"),
    ),
    "ParserError.node_operator": ("ParserError.node_name", "ParserError.node_operator"),
}
"""What is used only behind a probe: where the probe says yes, all of it must be there."""

GUARDED_CALLS = {"ICudaEngine.create_execution_context": "IRuntimeCache"}
"""Calls with arguments that not every version takes, and the probe before them."""

OURS = (
    r"built\.logger|(engine\.card|model|request)\.precision|node\.name|owners\.update|read_header\(path\)\.metadata|"
    r"Precision\.\w+|(.*\.)?(precision|flavour)\.value|(self|self\.identity|engine|gpu|expected|.*spec)\.name|.*\.nbytes"
    r"|error\.code|np\.dtype|photos\.(dtype|shape)|built\.engine|cuda\.device_memory|self\._session\.set_shape"
    r"|self\.(_found|_contexts)\.clear"
)
"""Expressions of ours whose last word some class of TensorRT happens to have too."""


def has(classes: dict[str, Any], name: str) -> bool:
    owner, member = name.split(".")
    return member in classes if owner == MODULE else member in classes.get(owner, {}).get("members", ())


def probes_of(version: str) -> dict[str, Any]:
    """What the adapter's probes answer; for 8.5 by hand, since nothing of it can be asked."""
    if version == "8.5":
        later = ("has_optimization_level", "has_version_compatible", "has_hardware_compatible")
        answers = {**described("8.6")["probes"], **dict.fromkeys(later, False)}
    else:
        answers = dict(described(version)["probes"])
    answers["ParserError.node_operator"] = has(classes_of(version), "ParserError.node_operator")
    return answers


def allowed(name: str, probes: dict[str, Any]) -> bool:
    """Whether a name may be missing: the probe before it says no."""
    return any(name in names and not probes[probe] for probe, names in GUARDED.items())


@functools.cache
def trees() -> dict[str, ast.Module]:
    return parsed(FILES)


@functools.cache
def findings(version: str) -> Findings:
    return findings_in(trees(), classes_of(version))


def missing(touches: set[Touch], version: str) -> list[str]:
    classes, probes = classes_of(version), probes_of(version)
    return sorted(
        f"{touch.place}: {touch.owner}.{touch.member}"
        for touch in touches
        if not touch.probed
        and not has(classes, f"{touch.owner}.{touch.member}")
        and not allowed(f"{touch.owner}.{touch.member}", probes)
    )


@pytest.mark.parametrize("version", EVERY)
def test_what_is_touched_is_there(version: str) -> None:
    result = findings(version)
    assert len(result.touches) > 90, "the reader of our code has lost its way"
    assert not missing(result.touches, version)


@pytest.mark.parametrize("version", EVERY)
def test_calls_fit_the_signatures(version: str) -> None:
    misfits = findings(version).misfits
    probes = probes_of(version)
    behind_probes = {name for name, probe in GUARDED_CALLS.items() if not probes[probe]}
    assert not {text for text in misfits if not any(f" {name} does not take" in text for name in behind_probes)}


@pytest.mark.parametrize("version", EVERY)
def test_probes_that_say_yes_are_right(version: str) -> None:
    classes = classes_of(version)
    for probe, names in GUARDED.items():
        if probes_of(version)[probe]:
            assert [name for name in names if not has(classes, name)] == [], probe


def test_every_probe_is_needed() -> None:
    """Each probe fails somewhere, and each name behind one is missing somewhere."""
    answers = {version: probes_of(version) for version in EVERY}
    for probe, names in GUARDED.items():
        assert any(answers[version][probe] for version in EVERY), probe
        assert not all(answers[version][probe] for version in EVERY), probe
        for name in names:
            assert not all(has(classes_of(version), name) for version in EVERY), name


def test_no_attribute_escapes_the_reader() -> None:
    """An attribute with a name of TensorRT's whose class is unknown would not be checked."""
    classes = [classes_of(version) for version in EVERY]
    members = {
        member
        for class_name in classes
        for name in LISTED
        if name in class_name
        for member in class_name[name]["members"]
    }
    resolved = set().union(*(findings(version).resolved for version in EVERY))
    escaped = {
        ast.unparse(node)
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in members and id(node) not in resolved
    }
    assert not {text for text in escaped if not re.fullmatch(OURS, text)}


def test_nothing_else_touches_tensorrt() -> None:
    """Only the files that are analysed here use a library's module."""
    elsewhere = [
        f"{path.name}:{node.lineno}"
        for path in DEVICE.parent.rglob("*.py")
        if path not in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and node.attr == "module" and ast.unparse(node).endswith("library.module")
    ]
    assert not elsewhere


MISTAKES = [
    ("builder.create_network(", "builder.create_net(", "Builder.create_net"),
    ("parser.parse(onnx)", "parser.parse_from_path(onnx)", "OnnxParser.parse_from_path"),
    ("parser.get_error(index)", "parser.get_error('one')", "OnnxParser.get_error does not take"),
    ("module.Runtime(logger)", "module.Runtime()", "Runtime.__init__ does not take"),
    ("(network, config) if supported", "(config, network) if supported", "Builder.build_serialized_network does not"),
    ("config.set_timing_cache(cache, False)", "config.set_timing_cache(cache)", "set_timing_cache does not take"),
    ("config.DLA_core = core", "config.dla_core = core", "IBuilderConfig.dla_core"),
    ("(network, config)\n    engine", "(network)\n    engine", "Builder.is_network_supported does not take"),
    ("def report_error(self, code: Any, text: str)", "def report_error(self, text: str)", "overridden with other"),
    ("builder.error_recorder = new_rec", "builder.num_DLA_cores = new_rec", "Builder.num_DLA_cores can't be set"),
    ("self._context.execute_async_v3", "self._context.execute_async_v2_", "IExecutionContext.execute_async_v2_"),
]


@pytest.mark.parametrize(("right", "wrong", "finding"), MISTAKES, ids=[finding for _, _, finding in MISTAKES])
def test_the_reader_finds_mistakes(right: str, wrong: str, finding: str) -> None:
    sources = {path.name: path.read_text() for path in FILES}
    assert sum(right in text for text in sources.values()) == 1, "the example of a mistake is out of date"
    changed = {name: ast.parse(text.replace(right, wrong)) for name, text in sources.items()}
    result = findings_in(changed, classes_of("10.3"))
    assert finding in "\n".join([*missing(result.touches, "10.3"), *result.misfits])


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != "rtx"])
def test_a_library_that_does_not_start(version: str) -> None:
    """Over empty libraries, the real constructors raise as they do if CUDA does not start."""
    failure = described(version)["failures"]
    title = f"TensorRT {described(version)['version']}"
    reason = "no usable CUDA driver (it gave no reason)"
    assert (
        failure["build"]
        == failure["look"]
        == (
            f"BuildFailed: {title} can't build here: {reason} (build on a machine with an NVIDIA GPU, or without one "
            "with --flavour rtx)"
        )
    )
    assert failure["run"] == f"RunFailed: {title} can't run here: {reason} (check nvidia-smi)"
    assert NO_DRIVER not in str(failure)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_classes_work_over_the_real_ones(version: str) -> None:
    subclass = described(version)["subclasses"]
    assert (subclass["errors"], subclass["warnings"]) == (["an error", "no room"], ["a warning"])
    assert subclass["recorded"] == [True, 1, "no room", False] and subclass["code"] and subclass["cleared"] == 0
    if probes_of(version)["has_monitor"]:
        assert subclass["goes_on"] is True and subclass["told"] == [0.5]


@pytest.mark.parametrize("version", EVERY)
def test_the_listing_that_fakes_keep_to_is_true(version: str) -> None:
    assert committed_listings()[version] == listing_of(version), "make it again: python -m tests.fakes.stub_bindings"


@pytest.mark.parametrize("version", EVERY)
def test_fakes_take_what_the_real_ones_take(version: str) -> None:
    """Methods of the fakes have as many parameters as an overload of the real ones."""
    classes = classes_of(version)
    fakes = {**vars(fake_library(version).module), "IExecutionContext": Context, "ICudaEngine": Engine}
    wrong = []
    for name, fake in fakes.items():
        for method, overloads in classes.get(name, {}).get("methods", {}).items():
            member = vars(fake).get(method)
            if inspect.isfunction(member):
                parameters = [*inspect.signature(member).parameters.values()][1:]
                needed = sum(item.default is inspect.Parameter.empty for item in parameters)
                least = min(sum(not has_default for *_, has_default in item["parameters"]) for item in overloads)
                most = max(len(item["parameters"]) for item in overloads)
                if needed > most or len(parameters) < least:
                    wrong.append(f"{name}.{method} takes {needed} to {len(parameters)}, not {least} to {most}")
    assert not wrong
