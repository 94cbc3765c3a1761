"""The Triton bundle: configurations against Triton's schema, scripts with fakes of its programs and protocol."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")

from tests.fakes.triton_server import FakeTriton, read_config, serving, serving_grpc
from tests.support import real_triton
from tests.support.bundle_inputs import ORDER, measured, tiny_parts
from tests.support.bundle_programs import change_expected_scores
from tests.support.tiny import SIDE, tiny_photos
from trtpoets.bundles.bundle_inputs import BundleInputs
from trtpoets.bundles.triton_bundle import model_name, triton_files
from trtpoets.core.manifest import check_manifest, write_manifest
from trtpoets.core.types import BatchRange, Engine, EngineCard, Flavour, Precision
from trtpoets.device.runners import open_runner

CONFIGS = [
    *(f"model_repository/tiny_onnx_{item.value}/tiny_onnx_{item.value}/config.pbtxt" for item in ORDER),
    *(f"model_repository/tiny_onnx_{item.value}/tiny_onnx_{item.value}/configs/cpu.pbtxt" for item in ORDER),
    *(f"to_build/tiny_tensorrt_{item.value}/config.pbtxt" for item in ORDER),
]


def path_of(model: str) -> Path:
    """A model in the repository that holds it alone."""
    return Path("model_repository", model, model)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> BundleInputs:
    return tiny_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def bundle(parts: BundleInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(parts, tmp_path_factory.mktemp("bundle"))


def filled(parts: BundleInputs, folder: Path) -> Path:
    triton_files(parts, folder)
    write_manifest(folder, name="tiny", target="triton", version="0.1.0", model="a" * 64, order=ORDER)
    return folder


def engine_of(parts: BundleInputs, folder: Path, flavour: Flavour = Flavour.TENSORRT, **more: Any) -> Engine:
    path = folder / f"fp16.{flavour.value}.engine"
    path.write_bytes(b"a plan")
    card = EngineCard(
        flavour=flavour,
        precision=Precision.FP16,
        tensorrt_version="10.11.0",
        cuda_version="12.9",
        driver_version="575",
        gpu="Paper GPU",
        compute_capability="8.6",
        targets=("sm86",),
        platform="linux_x86_64",
        batch=more.pop("batch", BatchRange(1, 4, 16)),
        workspace_mib=1024,
        onnx_sha256="b" * 64,
        calibration_hash=None,
        preprocess_hash=parts.spec.preprocess.hash,
        engine_sha256="c" * 64,
        engine_bytes=6,
        build_seconds=1.0,
        spec=parts.spec,
        **more,
    )
    return Engine(path, card)


@pytest.mark.parametrize("path", CONFIGS)
def test_configurations_match_tritons_schema(bundle: Path, path: str) -> None:
    from tritonclient.grpc import model_config_pb2 as schema

    config = read_config(bundle / path)
    folder = (bundle / path).parent
    folder = folder.parent if folder.name == "configs" else folder
    assert config.name == folder.name
    assert config.backend == ("tensorrt" if "tensorrt" in path else "onnxruntime")
    ((given,), (asked,)) = (config.input, config.output)
    assert (given.name, given.data_type, list(given.dims)) == ("photos", schema.TYPE_UINT8, [SIDE, SIDE, 3])
    assert (asked.name, asked.data_type, list(asked.dims)) == ("scores", schema.TYPE_FP32, [3])
    assert (folder / asked.label_filename).read_text().splitlines() == ["ant", "bee", "cow"]
    assert config.max_batch_size == 32
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 512
    assert config.version_policy.latest.num_versions == 1
    (group,) = config.instance_group
    cpu = "cpu.pbtxt" in path
    assert group.kind == (schema.ModelInstanceGroup.KIND_CPU if cpu else schema.ModelInstanceGroup.KIND_GPU)
    assert [item.batch_size for item in config.model_warmup] == [1, 8, 32]
    for item in config.model_warmup:
        sample = item.inputs["photos"]
        raw = (folder / "warmup" / sample.input_data_file).read_bytes()
        assert sample.data_type == schema.TYPE_UINT8
        assert len(raw) == np.prod(sample.dims) == SIDE * SIDE * 3
    assert bool(config.optimization.execution_accelerators.gpu_execution_accelerator) == ("onnx" in path and not cpu)


@pytest.mark.parametrize("precision", ORDER)
def test_tensorrt_is_asked_for_the_precision_of_the_file(
    bundle: Path, parts: BundleInputs, precision: Precision
) -> None:
    config = read_config(bundle / path_of(f"tiny_onnx_{precision.value}") / "config.pbtxt")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert set(accelerator.parameters) <= ACCELERATOR_PARAMETERS
    assert accelerator.parameters["precision_mode"] == precision.name
    assert accelerator.parameters["trt_profile_max_shapes"] == f"photos:32x{SIDE}x{SIDE}x3"
    assert config.optimization.graph.level == (2 if precision is Precision.INT8 else 0)


ACCELERATOR_PARAMETERS = {
    *("precision_mode", "max_workspace_size_bytes", "trt_profile_min_shapes", "trt_profile_opt_shapes"),
    *("trt_profile_max_shapes", "trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix"),
}
"""Keys that Triton's ONNX Runtime backend knows; it refuses a model with another (its onnxruntime.cc)."""


def test_the_schema_rejects_unknown_fields(tmp_path: Path) -> None:
    from google.protobuf import text_format

    (tmp_path / "config.pbtxt").write_text('name: "x" max_batch: 3')
    with pytest.raises(text_format.ParseError, match="max_batch"):
        read_config(tmp_path / "config.pbtxt")


def test_measurements_decide_the_batching(parts: BundleInputs, tmp_path: Path) -> None:
    rows = [
        ("onnxruntime-fp32", 1, 200.0, True),
        ("onnxruntime-fp32", 8, 190.0, True),
        ("onnxruntime-tensorrt-fp32", 1, 1000.0, True),
        ("onnxruntime-tensorrt-fp32", 16, 8000.0, True),
        ("tensorrt-int8", 64, 9000.0, True),
    ]
    folder = filled(replace(parts, measured=measured(rows)), tmp_path)
    gpu = read_config(folder / "model_repository/tiny_onnx_fp32/tiny_onnx_fp32/config.pbtxt").dynamic_batching
    assert (list(gpu.preferred_batch_size), gpu.max_queue_delay_microseconds) == ([16], 500)
    cpu = read_config(folder / "model_repository/tiny_onnx_fp32/tiny_onnx_fp32/configs/cpu.pbtxt").dynamic_batching
    assert (list(cpu.preferred_batch_size), cpu.max_queue_delay_microseconds) == ([], 2500)
    plan = read_config(folder / "to_build/tiny_tensorrt_int8/config.pbtxt").dynamic_batching
    assert list(plan.preferred_batch_size) == [8]  # 64 is more than the plan takes
    text = (folder / "README.md").read_text()
    assert "on 2 cores of Paper CPU, 2026-11-23, in one process, without Triton and without a network" in text
    assert "| onnxruntime-tensorrt-fp32 | 16 | 8,000 | 2.00 | 1 | 1 | 2 |" in text
    assert "| onnxruntime-fp32 | 1 | 200 | 5.00 | 1 | 8 | 72 |" in text


def test_capacity_uses_the_concurrent_throughput(parts: BundleInputs, tmp_path: Path) -> None:
    """As the offline scenario measures an engine, and as Triton runs two instances; other outcomes do not count."""
    rows = [("tensorrt-int8", 4, 4000.0, True), ("onnxruntime-fp32", 1, 200.0, True)]
    known = {"scenario": "offline", "batch": 4, "metric": "photos_per_s", "valid": True, "under_way": 2}
    outcomes = [
        {**known, "runner": "tensorrt-int8", "value": 6000.0},
        {**known, "runner": "tensorrt-int8", "value": 90000.0, "valid": False},
        {**known, "runner": "onnxruntime-fp32", "value": 500.0, "under_way": 1},
    ]
    values = {**measured(rows, scenario="offline"), "outcomes": outcomes}
    text = (filled(replace(parts, measured=values), tmp_path) / "README.md").read_text()
    assert "| tensorrt-int8 | 4 | 6,000 | 1.00 | 1 | 1 | 3 |" in text
    assert "| onnxruntime-fp32 | 1 | 200 | 5.00 | 1 | 8 | 72 |" in text


@pytest.mark.parametrize("precision", ORDER)
def test_one_precision_alone(parts: BundleInputs, tmp_path: Path, precision: Precision) -> None:
    alone = replace(parts, models=(parts.model(precision),), order=(precision,))
    folder = filled(alone, tmp_path)
    assert [path.name for path in (folder / "model_repository").iterdir()] == [f"tiny_onnx_{precision.value}"]
    result = (folder / "serve").read_text() + (folder / "measure").read_text() + (folder / "kserve.yaml").read_text()
    assert set(re.findall(r"tiny_onnx_(\w+)", result)) == {precision.value}


def test_missing_measurements_are_reported(bundle: Path) -> None:
    assert "There are no measurements to plan with" in (bundle / "README.md").read_text()


def test_a_tensorrt_engine_becomes_a_plan(parts: BundleInputs, tmp_path: Path) -> None:
    engines = (
        engine_of(parts, tmp_path, Flavour.RTX),
        engine_of(parts, tmp_path, dla_core=0),
        engine_of(parts, tmp_path, batch=BatchRange(4, 4, 16)),
        engine_of(parts, tmp_path),
    )
    (tmp_path / "out").mkdir()
    folder = filled(replace(parts, engines=engines[:3]), tmp_path / "out")
    assert not list(folder.rglob("model.plan"))  # TensorRT-RTX's, a DLA's, one that refuses a single photo
    (tmp_path / "with").mkdir()
    folder = filled(replace(parts, engines=engines), tmp_path / "with")
    (plan,) = folder.rglob("model.plan")
    assert plan.relative_to(folder) == path_of("tiny_tensorrt_fp16") / "1" / "model.plan"
    assert plan.read_bytes() == b"a plan"
    assert not (folder / "to_build/tiny_tensorrt_fp16").exists()
    config = read_config(plan.parent.parent / "config.pbtxt")
    assert (config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)) == (16, [4])
    text = (folder / "README.md").read_text()
    assert (
        "| `tiny_tensorrt_fp16` | built for Paper GPU with TensorRT 10.11.0; Triton must use the same version |" in text
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("My Flowers!", "my_flowers"), ("花", "model"), ("2 cats", "model_2_cats"), ("x" * 99, "x" * 40), ("a--", "a")],
)
def test_model_names_are_valid_in_urls(parts: BundleInputs, tmp_path: Path, name: str, expected: str) -> None:
    named = replace(parts, spec=replace(parts.spec, name=name))
    assert model_name(named, "onnx", Precision.INT8) == f"{expected}_onnx_int8"
    folder = filled(named, tmp_path)
    assert read_config(folder / path_of(f"{expected}_onnx_int8") / "config.pbtxt")
    service = kserve(folder)["metadata"]["name"]
    assert service == expected.replace("_", "-")


def test_a_label_is_a_line(parts: BundleInputs, tmp_path: Path) -> None:
    folder = filled(replace(parts, spec=replace(parts.spec, labels=("ant\nhill", "b\re", "cow"))), tmp_path)
    for path in (folder / "labels.txt", folder / path_of("tiny_onnx_fp32") / "labels.txt"):
        assert path.read_text() == "ant hill\nb e\ncow\n"


def kserve(folder: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    service: dict[str, Any] = yaml.safe_load((folder / "kserve.yaml").read_text())
    return service


def test_kserve_scales_by_queue_length(bundle: Path) -> None:
    result = kserve(bundle)
    assert (result["apiVersion"], result["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = result["spec"]["predictor"]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("concurrency", 16)
    assert predictor["minReplicas"] < predictor["maxReplicas"]
    model = predictor["model"]
    assert model["modelFormat"] == {"name": "triton"}
    repository = bundle / model["storageUri"].partition("/tiny/")[2]
    assert [path.name for path in repository.iterdir()] == ["tiny_onnx_int8"]  # what is there is served
    assert model["args"] == [
        "--model-control-mode=none",
        "--http-restricted-api=model-repository,shared-memory,trace,logging:triton-admin-key=$(TRITON_ADMIN_KEY)",
        "--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:triton-admin-key=$(TRITON_ADMIN_KEY)",
        "--strict-readiness=true",
    ]
    (key,) = model["env"]
    assert (key["name"], set(key["valueFrom"])) == ("TRITON_ADMIN_KEY", {"secretKeyRef"})
    assert result["metadata"]["labels"] == {"networking.kserve.io/visibility": "cluster-local"}


def program(folder: Path, name: str, text: str) -> None:
    """A program of NVIDIA's, stood in for."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def run(command: list[Any], programs: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = f"{programs}:{os.environ['PATH']}" if programs else os.environ["PATH"]
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": path},
    )


def served(folder: Path, tmp_path: Path, *arguments: str, **environment: str) -> list[str]:
    """The arguments that `serve` gives to Triton, without those that every start has."""
    program(tmp_path / "bin", "tritonserver", 'printf "%s\\n" "$@"')
    given = [f"{name}={value}" for name, value in environment.items()]
    options = run(["env", *given, folder / "serve", *arguments], tmp_path / "bin").stdout.split("\n")[:-1]
    mode, http, grpc, *rest = options
    assert mode == "--model-control-mode=none"
    restricted = re.fullmatch(r"--http-restricted-api=([\w,-]+):triton-admin-key=(\w+)", http)
    assert restricted
    assert set(restricted[1].split(",")) == {"model-repository", "shared-memory", "trace", "logging"}
    assert grpc == f"--grpc-restricted-protocol={restricted[1]}:triton-admin-key={restricted[2]}"
    assert restricted[2] == environment.get("TRITON_ADMIN_KEY", restricted[2])
    assert len(restricted[2]) == 64 or "TRITON_ADMIN_KEY" in environment
    address = environment.get("LISTEN", "127.0.0.1")
    assert rest[:3] == [f"--http-address={address}", f"--grpc-address={address}", "--strict-readiness=true"]
    return rest[3:]


def test_serve_loads_only_the_requested_models(parts: BundleInputs, tmp_path: Path) -> None:
    (tmp_path / "b c").mkdir()
    folder = filled(parts, tmp_path / "b c")
    repository = f"--model-repository={folder}/model_repository"
    assert served(folder, tmp_path) == [f"{repository}/tiny_onnx_int8"]
    assert served(folder, tmp_path, "--cpu") == ["--model-config-name=cpu", f"{repository}/tiny_onnx_fp32"]
    two = ["tiny_onnx_fp16", "tiny_onnx_int8"]
    assert served(folder, tmp_path, *two, LISTEN="0.0.0.0") == [f"{repository}/{item}" for item in two]
    assert served(folder, tmp_path, TRITON_ADMIN_KEY="secret") == [f"{repository}/tiny_onnx_int8"]
    (folder / "built/tiny_tensorrt_int8/tiny_tensorrt_int8").mkdir(parents=True)
    assert served(folder, tmp_path) == [f"--model-repository={folder}/built/tiny_tensorrt_int8"]


def test_every_start_has_a_new_key(bundle: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "tritonserver", 'printf "%s\\n" "$@"')
    assert len({run([bundle / "serve"], tmp_path / "bin").stdout for _ in range(3)}) == 3


def test_serve_rejects_unknown_models(bundle: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "tritonserver", "echo started")
    result = run([bundle / "serve", "tiny_onnx_int8", "a b"], tmp_path / "bin")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("a b is not a model of this bundle; its models are:\ntiny_onnx_fp16\n")


@pytest.mark.parametrize(
    "place", ["README.md", "docs", "Dockerfile", "Dockerfile.l4t", "trtpoets/bundles", "bundle"], ids=str
)
def test_ports_are_published_only_to_localhost(bundle: Path, place: str) -> None:
    """And nowhere may a client load a model."""
    folder = bundle if place == "bundle" else Path(__file__).parents[2] / place
    files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        published = re.findall(r"(?:-p|--publish)[= ]+(\S*:|)(?=\d+:\d+)", text)
        if path.name == "docker.md":  # the sentence that says what not to do
            published.remove("")
        assert set(published) <= {"127.0.0.1:"}, path
        assert "--model-control-mode=explicit" not in text, path
        assert "--load-model" not in text, path
    assert list(folder.rglob("*compose*")) == []


def test_plans_are_built_atomically(parts: BundleInputs, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    folder = filled(parts, tmp_path / "b")
    build = 'echo "$@"\nfor each; do case $each in --saveEngine=*) echo plan > "${each#*=}";; esac; done'
    program(tmp_path / "bin", "trtexec", build)
    result = run([folder / "build-plans"], tmp_path / "bin")
    assert result.returncode == 0, result.stderr
    repository = folder / "built"
    assert sorted(path.name for path in repository.iterdir() if path.is_dir()) == [
        f"tiny_tensorrt_{name}" for name in ("fp16", "fp32", "int8")
    ]
    assert (repository / "tiny_tensorrt_int8" / "tiny_tensorrt_int8" / "1" / "model.plan").read_text() == "plan\n"
    assert read_config(repository / "tiny_tensorrt_int8" / "tiny_tensorrt_int8" / "config.pbtxt").backend == "tensorrt"
    text = (folder / "built" / "tiny_tensorrt_int8.log").read_text()
    assert "--onnx=model_repository/tiny_onnx_int8/tiny_onnx_int8/1/model.onnx --int8 --fp16 --minShapes" in text
    told_of_fp16 = (folder / "built" / "tiny_tensorrt_fp16.log").read_text()
    assert "--onnx=model_repository/tiny_onnx_fp16/tiny_onnx_fp16/1/model.onnx --stronglyTyped --min" in told_of_fp16
    assert f"--optShapes=photos:8x{SIDE}x{SIDE}x3" in text
    check_manifest(folder)
    program(tmp_path / "bin", "trtexec", "echo no GPU; exit 7")
    result = run([folder / "build-plans", "int8"], tmp_path / "bin")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no GPU\ntiny_tensorrt_int8: trtexec failed" in result.stderr
    assert (
        repository / "tiny_tensorrt_int8" / "tiny_tensorrt_int8" / "1" / "model.plan"
    ).read_text() == "plan\n"  # the old one still serves
    (folder / "built" / "notes.txt").write_text("logs and unfinished plans are no models")
    runpy.run_path(str(folder / "selftest.py"))["check_files"]()


@pytest.mark.parametrize(
    "place",
    [
        "model_repository/tiny_onnx_int8/tiny_onnx_int8/1/model.py",
        "model_repository/tiny_onnx_int8/other/config.pbtxt",
        "model_repository/tiny_onnx_int8/tiny_onnx_int8/configs/gpu.pbtxt",
        "model_repository/tiny_onnx_int8/tiny_onnx_int8/libtriton_own.so",
        "built/tiny_tensorrt_int8/tiny_tensorrt_int8/1/model.py",
        "built/own/own/1/model.py",
        "runtime/trtpoets/own.py",
        "note.txt",
    ],
)
def test_the_self_test_names_files_that_are_not_of_the_bundle(parts: BundleInputs, tmp_path: Path, place: str) -> None:
    """Triton would run model.py of a model whose configuration, which may be changed, has the backend "python"."""
    folder = filled(parts, tmp_path)
    configuration = folder / "model_repository" / "tiny_onnx_int8" / "tiny_onnx_int8" / "config.pbtxt"
    configuration.write_text(configuration.read_text().replace("onnxruntime", "python"))
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("import os")
    result = run([sys.executable, "-I", "-S", folder / "selftest.py"])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith(
        f"Error: {folder} contains files that its manifest does not list: {place}; delete them\n"
    )


def test_the_self_test_names_links_and_counts_what_it_does_not_name(parts: BundleInputs, tmp_path: Path) -> None:
    folder = filled(parts, tmp_path)
    check_files = runpy.run_path(str(folder / "selftest.py"))["check_files"]
    (folder / "model_repository" / "own").symlink_to("/tmp")
    with pytest.raises(Exception, match="does not list: model_repository/own;"):
        check_files()
    for number in range(7):
        (folder / f"{number}\x1b.txt").write_text("")
    with pytest.raises(Exception, match=r"does not list: 0\?\.txt, .*4\?\.txt \(and 3 more\);"):
        check_files()


def test_the_self_test_accepts_a_new_version_of_a_model(
    parts: BundleInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = filled(parts, tmp_path)
    version = folder / "model_repository" / "tiny_onnx_int8" / "tiny_onnx_int8" / "2"
    version.mkdir()
    (version / "model.onnx").write_text("a newer network")
    runpy.run_path(str(folder / "selftest.py"))["check_files"]()
    assert capsys.readouterr().err == f"note: {version}/model.onnx is a version that was added to the bundle\n"


def test_measure_runs_perf_analyzer(bundle: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "perf_analyzer", 'echo "$@"')
    result = run([bundle / "measure", "tiny_onnx_fp16", "server:8001"], tmp_path / "bin")
    lines = result.stdout.splitlines()
    assert [line.rpartition("--measurement-interval=5000 ")[2] for line in lines] == [
        "--concurrency-range=1",
        "--concurrency-range=8:128:8",
        "--request-rate-range=100:500:100 --request-distribution=poisson",
    ]
    (data,) = {word.partition("=")[2] for word in lines[0].split() if word.startswith("--input-data=")}
    assert [path.name for path in (bundle / data).iterdir()] == ["photos"]  # a file for each input, by its name
    assert lines[0].startswith("-m tiny_onnx_fp16 -u server:8001 -i grpc -b 1 ")


def self_test(bundle: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """The self-test, where Python has nothing but its own (-S: no site-packages)."""
    return run([sys.executable, "-I", "-S", bundle / "selftest.py", *arguments])


def test_the_self_test_checks_every_ready_model(bundle: Path) -> None:
    triton = FakeTriton(bundle / "model_repository", ["tiny_onnx_int8", "tiny_onnx_fp32"])
    with serving(triton) as url, serving_grpc(triton) as grpc:
        result = self_test(bundle, "--url", url, "--grpc", grpc)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(":")[1] for line in lines[:2]] == [" tiny_onnx_fp32", " tiny_onnx_int8"]
    assert result.stdout.count("3 of 3 predictions agree") == 2
    assert lines[2:] == [
        f"passed: loading models, shared memory, trace and log settings are refused by {protocol}"
        for protocol in ("HTTP", "gRPC")
    ]
    assert triton.requests == [1] * 6
    assert triton.probed == [*HTTP_REQUESTS, *GRPC_REQUESTS]
    check_manifest(bundle)
    assert not list(bundle.rglob("__pycache__"))


def test_ctrl_c_ends_the_self_test_in_one_line(bundle: Path) -> None:
    program = str(bundle / "selftest.py")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        # The tests may run in the background, where SIGINT is ignored.
        code = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code += f"sys.argv = [{program!r}, '--url', {url!r}]; runpy.run_path({program!r}, run_name='__main__')"
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (130, "", "Error: interrupted\n")


HTTP_REQUESTS = (
    "/v2/repository/models/trtpoets_selftest_probe/load",
    "/v2/repository/models/trtpoets_selftest_probe/unload",
    "/v2/systemsharedmemory/region/trtpoets_selftest_probe/register",
    "/v2/cudasharedmemory/region/trtpoets_selftest_probe/register",
    "/v2/trace/setting",
    "/v2/logging",
)
GRPC_REQUESTS = (
    *("RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryRegister", "CudaSharedMemoryRegister"),
    *("TraceSetting", "LogSettings"),
)


@pytest.mark.parametrize("left_open", [*HTTP_REQUESTS, *GRPC_REQUESTS])
def test_the_self_test_fails_if_clients_can_change_the_server(bundle: Path, left_open: str) -> None:
    triton = FakeTriton(bundle / "model_repository", ["tiny_onnx_fp16"], left_open=[left_open])
    with serving(triton) as url, serving_grpc(triton) as grpc:
        result = self_test(bundle, "--url", url, "--grpc", grpc)
    assert result.returncode == 3, result.stdout + result.stderr
    (failed,) = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
    assert f"({left_open}): " in failed
    assert "now every client can change it" in result.stderr


def test_a_triton_with_fixed_models_refuses_to_load_and_is_open_for_the_rest(bundle: Path) -> None:
    everything = [*HTTP_REQUESTS, *GRPC_REQUESTS]
    triton = FakeTriton(bundle / "model_repository", ["tiny_onnx_fp16"], left_open=everything, mode_none=True)
    with serving(triton) as url, serving_grpc(triton) as grpc:
        result = self_test(bundle, "--url", url, "--grpc", grpc)
    failed = re.findall(r"FAILED: .* \((\S+)\): ", result.stdout)
    assert (result.returncode, failed) == (3, [*HTTP_REQUESTS[2:], *GRPC_REQUESTS[2:]])


def test_a_missing_grpc_endpoint_is_reported(bundle: Path) -> None:
    triton = FakeTriton(bundle / "model_repository", ["tiny_onnx_fp16"])
    with serving(triton) as url:
        result = self_test(bundle, "--url", url, "--grpc", "127.0.0.1:9")
        other = self_test(bundle, "--url", url, "--grpc", url)  # something listens, and does not speak gRPC
    assert (result.returncode, result.stdout.count("passed: ")) == (0, 2)
    assert result.stderr == "note: nothing listens at 127.0.0.1:9; if gRPC is elsewhere, use --grpc HOST:PORT\n"
    assert other.returncode == 1
    assert other.stderr.startswith(f"Error: {url} does not answer RepositoryModelLoad by gRPC: ")


def test_a_status_of_grpc_is_read_from_what_a_proxy_compressed(bundle: Path) -> None:
    """By the examples of RFC 7541, C.6; and with padding, priority, tables and continued blocks."""
    module = runpy.run_path(str(bundle / "refusals.py"))
    assert (module["_compressed"]("302").hex(), module["_compressed"]("307").hex()) == ("6402", "640eff")
    name = module["_compressed"]("grpc-status")
    literal = bytes([0x40, 0x80 | len(name)]) + name + bytes([0x80 | 2]) + module["_compressed"]("14")
    assert module["_fields"](b"\x88\x3f\xe1\x1f\x5f\x01x" + literal)["grpc-status"] == "14"
    assert module["_unpadded"](1, 8 | 32, b"\x02" + b"12345" + literal + b"00") == literal


def test_the_self_test_detects_another_network(parts: BundleInputs, tmp_path: Path) -> None:
    triton_files(parts, tmp_path)
    change_expected_scores(tmp_path)
    write_manifest(tmp_path, name="tiny", target="triton", version="0.1.0", model="a" * 64, order=ORDER)
    with serving(FakeTriton(tmp_path / "model_repository", ["tiny_onnx_fp32"])) as url:
        result = self_test(tmp_path, "--url", url)
    assert (result.returncode, result.stdout[:28]) == (3, "FAILED: tiny_onnx_fp32: scor"), result.stderr


def test_the_self_test_names_a_file_that_was_changed(
    parts: BundleInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = filled(parts, tmp_path)
    module = runpy.run_path(str(folder / "selftest.py"))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        if path.suffix in (".pbtxt", ".yaml"):  # people tune them
            module["check_files"]()
            assert capsys.readouterr().err == f"note: {path} was changed since the bundle was created\n"
        else:
            with pytest.raises(module["SelftestError"], match=f"^{path} was changed or damaged"):
                module["check_files"]()
        path.write_bytes(whole)
    module["check_files"]()
    (folder / "labels.txt").unlink()
    result = run([sys.executable, "-I", "-S", folder / "selftest.py"])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: {folder}/labels.txt is missing\n"


def test_a_missing_server_or_model_is_an_error(bundle: Path) -> None:
    result = run([sys.executable, "-I", bundle / "selftest.py", "--url", "127.0.0.1:9"])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: no Triton server answers at 127.0.0.1:9: ")
    with serving(FakeTriton(bundle / "model_repository", [])) as url:
        nothing = run([sys.executable, "-I", bundle / "selftest.py", "--url", url])
        unknown = run([sys.executable, "-I", bundle / "selftest.py", "--url", url, "--model", "tiny_onnx_int8"])
    message = f"Error: {url} serves no model of this bundle; start it with ./serve\n"
    assert (nothing.returncode, nothing.stderr) == (1, message)
    assert unknown.returncode == 1
    assert "unknown model: 'tiny_onnx_int8'" in unknown.stderr


def test_the_client_classifies_a_folder(bundle: Path, parts: BundleInputs, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    for number, pixels in enumerate(tiny_photos(10, seed=4)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_text("no photo")
    triton = FakeTriton(bundle / "model_repository", ["tiny_onnx_fp16"])
    with serving(triton) as url:
        asked = ["--url", url, "--model", "tiny_onnx_fp16", "--batch", 4, "--top", 1, tmp_path]
        result = run([sys.executable, bundle / "client.py", *asked])
        refused = run([sys.executable, bundle / "client.py", "--url", url, "--model", "other", tmp_path / "1.png"])
    assert result.returncode == 1, result.stderr  # for the file that is not a photo
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["photo"]).name for line in lines] == [f"{number}.png" for number in range(10)]
    assert triton.requests == [4, 3, 2]
    good = [line for line in lines if "error" not in line]
    with open_runner(parts.model(Precision.FP16)) as runner:
        expected = runner.infer(np.delete(tiny_photos(10, seed=4), 5, axis=0))
    assert [line["labels"] for line in good] == [[parts.spec.labels[i]] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose([line["scores"][0] for line in good], expected.max(axis=1), atol=1e-3)
    assert refused.returncode == 1
    assert "does not answer for other" in refused.stderr
    nobody = run([sys.executable, bundle / "client.py", "--url", "127.0.0.1:9", "--model", "x", tmp_path / "1.png"])
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("Error: 127.0.0.1:9 does not answer for x: ")
    check_manifest(bundle)


@pytest.mark.slow
def test_a_real_triton_serves_it(parts: BundleInputs, tmp_path: Path) -> None:
    """Configurations, warm-up from the golden photo, batches, labels, self-test and client, by Triton itself."""
    if reason := real_triton.why_not():
        pytest.skip(reason)
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    (tmp_path / "b").mkdir()
    (tmp_path / "scratch").mkdir()
    folder = filled(parts, tmp_path / "b")
    pixels = parts.golden.pixels
    for number, photo in enumerate(pixels):
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
    loaded = ["tiny_onnx_fp32", "tiny_onnx_int8"]
    with real_triton.serving(folder, tmp_path / "scratch", "--cpu", *loaded) as (url, grpc, log):
        warm = log.read_text()
        assert [warm.count(f"batch of {size}\n") for size in (1, 8, 32)] == [2, 2, 2]
        tested = run([sys.executable, "-I", folder / "selftest.py", "--url", url, "--grpc", grpc])
        inline = {"parameters": {"config": "{}", "file:1/model.py": "aW1wb3J0IG9z"}}
        for asked in ("other/load", f"{loaded[0]}/load", f"{loaded[0]}/unload"):
            attack = urllib.request.Request(f"http://{url}/v2/repository/models/{asked}", json.dumps(inline).encode())
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(attack, timeout=10)
        options = ["--url", url, "--model", "tiny_onnx_fp32", "--top", 1]
        answered = run([sys.executable, folder / "client.py", *options, *sorted(tmp_path.glob("*.png"))])
        with InferenceServerClient(url) as client:
            config = client.get_model_config("tiny_onnx_fp32")
            sent = InferInput("photos", list(pixels.shape), "UINT8")
            sent.set_data_from_numpy(pixels)
            classes = client.infer("tiny_onnx_fp32", [sent], outputs=[InferRequestedOutput("scores", class_count=1)])
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert [line.split(":")[1].strip() for line in tested.stdout.splitlines()[:2]] == loaded
    assert tested.stdout.count("trace and log settings are refused by ") == 2
    assert answered.returncode == 0, answered.stderr
    best = [parts.spec.labels[i] for i in parts.golden.expected["fp32"].scores.argmax(axis=1)]
    assert [json.loads(line)["labels"] for line in answered.stdout.splitlines()] == [[item] for item in best]
    assert [row[0].decode().split(":")[2] for row in classes.as_numpy("scores")] == best
    assert config["dynamic_batching"]["preferred_batch_size"] == [8]
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 512
