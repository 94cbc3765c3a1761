"""The Dockerfiles, built and run over stand-ins for NVIDIA's images. It takes minutes, root and buildah."""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.board import site
from tests.fakes.board_bundle import paper_bundle
from tests.fakes.container_images import ROOT, TENSORRT, Images, libcuda, why_not
from tests.support.bundle_run import bundle_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be built")]

SOMEBODY = "1234:1234"
BUILT = (
    ("trtpoets", "Dockerfile", "trtpoets"),
    ("trtpoets-l4t", "Dockerfile.l4t", "trtpoets"),
    ("trtpoets-serve", "Dockerfile", "serve"),
)
OURS = ("trtpoets", "trtpoets-l4t")


def bases() -> list[str]:
    """What the FROM lines ask for."""
    names = []
    for dockerfile in ROOT.glob("Dockerfile*"):
        text = dockerfile.read_text()
        values = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
        for name in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
            names.append(string.Template(name).substitute(values))
    return sorted(set(names))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def images(folder: Path) -> Iterator[Images]:
    result = Images(folder)
    try:
        result.stand_in(bases())
        for name, dockerfile, stage in BUILT:
            result.build(name, ROOT / dockerfile, stage)
        yield result
    finally:
        result.remove()


@pytest.fixture(scope="module")
def driver(images: Images, folder: Path) -> str:
    return f"{libcuda(folder)}:/usr/lib/x86_64-linux-gnu/libcuda.so.1:ro"


def given_to_somebody(top: Path) -> Path:
    for path in (top, *top.rglob("*")):
        os.chown(path, 1234, 1234)
    return top


def health(images: Images, name: str) -> list[str]:
    check = images.settings(name)["Healthcheck"]
    assert isinstance(check, dict) and check["Test"][0] == "CMD"
    return list(check["Test"][1:])


@pytest.mark.parametrize("name", OURS)
def test_its_user_can_run_it_and_no_more(images: Images, name: str) -> None:
    assert images.settings(name)["Entrypoint"] == ["docker-entrypoint"]
    path = images.run(name, "docker-entrypoint", "/bin/sh", "-c", "echo $LD_LIBRARY_PATH").stdout
    assert path.startswith("/usr/local/cuda/compat/")
    assert "bundle" in images.run(name, "docker-entrypoint", "--help").stdout
    assert "bundle" in images.run(name, "trtpoets", "--help").stdout
    assert images.run(name, "id", "-u").stdout == "10001\n"
    document = json.loads(images.run(name, "trtpoets", "doctor", "--json").stdout)
    values = {part["what"]: part for part in document["parts"]}
    assert (values["TensorRT"]["state"], values["TensorRT"]["found"]) == ("ready", TENSORRT)
    assert "--gpus all" in values["NVIDIA GPU"]["hint"]
    assert images.run(name, "sh", "-c", "command -v gcc g++ cc nm").stdout == ""
    left = images.run(name, "sh", "-c", "ls -A /tmp /src /constraints.txt /root/.cache", user="0:0")
    assert left.stdout == "/tmp:\n"
    changeable = "find /opt/trtpoets -not -type l \\( -not -user root -o -perm /022 \\)"
    assert images.run(name, "sh", "-c", changeable).stdout == ""


@pytest.mark.parametrize("name", OURS)
def test_health_is_whether_cuda_starts(images: Images, driver: str, name: str) -> None:
    ill = images.run(name, *health(images, name))
    assert (ill.returncode, "libcuda.so.1" in ill.stderr) == (1, True), ill.stderr
    well = images.run(name, *health(images, name), mounts=[driver])
    assert well.returncode == 0, well.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_bundle_is_built_and_tested_in_it(images: Images, name: str, folder: Path) -> None:
    """By whom `--user` names, over a TensorRT of paper."""
    bundle = given_to_somebody(paper_bundle(folder / f"bundle-{name}"))
    paper = folder / "paper"
    site(paper)
    mounts = [f"{bundle}:/work", f"{paper}:/paper:ro", f"{ROOT}:/repository:ro"]

    def run(*command: str) -> tuple[int, str]:
        done = images.run(name, *command, user=SOMEBODY, mounts=mounts, PYTHONPATH="/paper:/repository")
        return done.returncode, done.stdout + done.stderr

    assert run(*health(images, name))[0] == 1
    code, result = run("./build")
    assert (code, "golden photos: 4 of 4" in result) == (0, True), result
    code, result = run(*health(images, name))
    assert (code, "tensorrt-int8: passed" in result) == (0, True), result
    assert (bundle / "built" / "int8.tensorrt.engine").stat().st_uid == 1234


def test_a_workspace_is_measured_where_it_lies(images: Images, folder: Path) -> None:
    """A run remembers where its photos are, so the folder has to have its own name in the container."""
    here = str(given_to_somebody(bundle_run(folder / "workspace").folder.parents[1]))
    command = ("trtpoets", "bench", "tiny", "--seconds", "0.2")
    done = images.run("trtpoets", *command, user=SOMEBODY, at=here, mounts=[f"{here}:{here}"])
    assert (done.returncode, "onnxruntime-int8" in done.stdout, "can't be read" in done.stdout) == (0, True, False)
    assert done.stderr.count("telemetry") == 0


def test_serving_is_not_healthy_without_a_server(images: Images) -> None:
    settings = images.settings("trtpoets-serve")
    assert (settings["User"], settings["Cmd"], settings["WorkingDir"]) == ("1000:1000", ["/bundle/serve"], "/bundle")
    assert images.run("trtpoets-serve", *health(images, "trtpoets-serve")).returncode == 1
