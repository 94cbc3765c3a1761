"""Replacements for NVIDIA's container images, to build and run the Dockerfiles without NVIDIA's registry.

A Debian 12 under the names in the FROM lines, with its Python, CUDA's headers, empty libraries with CUDA's names, and
the real Python bindings of TensorRT over such libraries. It is created by debootstrap and buildah; packages of Debian
and Python come from their mirrors, everything else stays in one folder.

Stands for the images of nvcr.io. It has not been compared with them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.stub_bindings import stub_libraries

ROOT = Path(__file__).parents[2]

TENSORRT = "10.11.0.33"
_PYTHON = "3.11"
_WHEELS = (
    *(f"tensorrt-cu12-bindings=={TENSORRT}", "nvidia-cuda-runtime-cu12==12.9.79", "nvidia-cuda-nvcc-cu12==12.9.86"),
    *("nvidia-curand-cu12==10.3.10.19", "nvidia-cuda-profiler-api-cu12==12.9.79"),
)
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_SECONDS = 900.0

NVIDIAS_ENTRYPOINT = (
    'echo "== TensorRT =="',
    'export LD_LIBRARY_PATH="/usr/local/cuda/compat/lib.real${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"',
    'if [[ $# -eq 0 ]]; then exec /bin/bash; else exec "$@"; fi',
)
"""What /opt/nvidia/nvidia_entrypoint.sh of NVIDIA's images does, where the driver is older than CUDA: it prints a
banner on stdout, sets the path of the compatible driver libraries (by /etc/shinit_v2), and becomes its arguments."""


def why_not() -> str:
    """Why images can't be built on this machine; empty if they can."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "the stand-ins are for Linux on x86-64"
    missing = [program for program in ("buildah", "debootstrap", "cc") if shutil.which(program) is None]
    if missing:
        return f"needs {' and '.join(missing)}: apt-get install buildah debootstrap gcc"
    return "" if os.geteuid() == 0 else "debootstrap and buildah need root"


class Images:
    """Images and containers in one folder, which must be empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._containers: dict[str, str] = {}

    def stand_in(self, names: Sequence[str]) -> None:
        """Create the base image under these names. Skips the test if packages can't be downloaded."""
        root = self._folder / "base"
        packages = "--include=ca-certificates,python3,python3-numpy"
        run = _run("debootstrap", "--variant=minbase", packages, "bookworm", root)
        if run.returncode:
            pytest.skip(f"no Debian from here: {run.stdout.strip().splitlines()[-1]}")
        _add_cuda_and_tensorrt(root, self._folder)
        container = self._buildah("from", "scratch")
        self._buildah("copy", "-q", container, root, "/")
        self._buildah("commit", "-q", "--format", "docker", container, names[0])
        self._buildah("tag", *names)
        shutil.rmtree(root)

    def build(self, name: str, dockerfile: Path, target: str) -> None:
        """Build a stage of a Dockerfile of this repository, like `docker build`."""
        config = self._folder / "pip.conf"
        config.write_text(_pip_config())
        mounts = [f"--volume={config}:/etc/pip.conf:ro", "--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
        options = ["--isolation=chroot", "--format=docker", "--pull-never", *mounts, f"--target={target}"]
        self._buildah("bud", *options, "-f", dockerfile, "-t", name, ROOT)
        self._containers[name] = self._buildah("from", "--pull-never", name)

    def settings(self, name: str) -> dict[str, object]:
        """The configuration of an image: User, Entrypoint, Cmd, Healthcheck..."""
        value: dict[str, object] = json.loads(self._buildah("inspect", "--type=image", name))["Docker"]["config"]
        return value

    def run(
        self, name: str, *command: str, user: str = "", at: str = "", mounts: Sequence[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of an image, as its user and in its folder unless others are given."""
        options = [f"--volume={mount}" for mount in mounts] + [f"--env={key}={environment[key]}" for key in environment]
        options += [f"--user={user}"] * bool(user) + [f"--workingdir={at}"] * bool(at)
        return _run(*self._storage(), "run", "--isolation=chroot", *options, self._containers[name], "--", *command)

    def remove(self) -> None:
        """Unmount and delete everything."""
        self._buildah("rm", "--all")
        self._buildah("rmi", "--all", "--force")

    def _storage(self) -> list[str]:
        return ["buildah", f"--root={self._folder / 'images'}", f"--runroot={self._folder / 'run'}"]

    def _buildah(self, *words: str | Path) -> str:
        done = _run(*self._storage(), *words)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout.strip()


def libcuda(folder: Path) -> Path:
    """A driver for a container: `libcuda.c` and all other functions that `Images.stand_in` lists, which fail."""
    own = (ROOT / "tests" / "fake_libcuda.c").read_text()
    known = set(re.findall(r"^int (cu\w+)\(", own, re.MULTILINE))
    rest = [line for line in (folder / "cuda.c").read_text().splitlines() if line.split("(")[0].split()[1] not in known]
    (folder / "driver.c").write_text("\n".join([own, *rest]))
    return _compiled(folder / "driver.c", folder / "libcuda.so.1", "-pthread")


def _add_cuda_and_tensorrt(root: Path, folder: Path) -> None:
    entrypoint = root / "opt/nvidia/nvidia_entrypoint.sh"
    entrypoint.parent.mkdir(parents=True)
    entrypoint.write_text("\n".join(["#!/bin/bash", *NVIDIAS_ENTRYPOINT, ""]))
    entrypoint.chmod(0o755)
    wheels = folder / "wheels"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={_PYTHON}", f"--dest={wheels}"]
    got = _run(sys.executable, "-m", "pip", "download", *options, *_WHEELS)
    if got.returncode:
        pytest.skip(f"no wheels from here: {got.stderr.strip().splitlines()[-1]}")
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            wanted = [name for name in packed.namelist() if re.match(r"nvidia/\w+/include/|tensorrt_bindings/", name)]
            packed.extractall(wheels, wanted)
    cuda, libraries = root / "usr/local/cuda", root / _LIBRARIES
    for headers in wheels.glob("nvidia/*/include"):
        shutil.copytree(headers, cuda / "include", dirs_exist_ok=True)
    for name in ("bin", "lib64/stubs"):
        (cuda / name).mkdir(parents=True)
    (cuda / "bin/nvcc").write_text("#!/bin/sh\n")  # pycuda locates CUDA by the path of nvcc
    (cuda / "bin/nvcc").chmod(0o755)
    include = cuda / "include"
    (folder / "cuda.c").write_text(_functions("cu[A-Z]", include / "cuda.h", include / "cudaProfiler.h"))
    (folder / "curand.c").write_text(_functions("curand[A-Z]", include / "curand.h"))
    _compiled(folder / "cuda.c", cuda / "lib64/stubs/libcuda.so", "-Wl,-soname,libcuda.so.1")
    _compiled(folder / "curand.c", libraries / "libcurand.so.10", "-Wl,-soname,libcurand.so.10")
    (cuda / "lib64/libcurand.so").symlink_to(f"/{_LIBRARIES}/libcurand.so.10")
    for library in stub_libraries("10").glob("*.so.10"):
        shutil.copy(library, libraries)
    packages = root / f"usr/local/lib/python{_PYTHON}/dist-packages"
    shutil.copytree(wheels / "tensorrt_bindings", packages / "tensorrt")
    about = packages / f"tensorrt-{TENSORRT}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {TENSORRT}\n")
    shutil.rmtree(wheels)


def _functions(start: str, *headers: Path) -> str:
    """C code with every function that the headers declare, under the names for the linker; each one fails."""
    names: set[str] = set()
    for header in headers:
        text = header.read_text()
        names |= set(re.findall(rf"\b({start}\w*)\s*\(", text))
        names |= set(re.findall(rf"^#\s*define\s+{start}\w*\s+({start}\w+)\s*$", text, re.MULTILINE))
    return "".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(names))


def _compiled(source: Path, library: Path, *options: str) -> Path:
    done = _run("cc", "-shared", "-fPIC", "-w", *options, "-o", library, source)
    assert done.returncode == 0, done.stderr
    return library


def _pip_config() -> str:
    """The package index and trusted hosts of pip on this machine."""
    stdout = _run(sys.executable, "-m", "pip", "config", "list").stdout
    result = dict(re.findall(r"^(?:global|:env:)\.(cert|index-url|trusted-host|proxy)='(.*)'$", stdout, re.MULTILINE))
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in result.items())


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
