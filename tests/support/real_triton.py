"""A real Triton server on the CPU: the one in the package nvidia-pytriton.

It has no ONNX Runtime backend, so its Python backend runs the ONNX file; everything else is Triton's own code:
configurations, warm-up, batching, labels, protocols.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MODEL = """
import os
import numpy as np
import onnxruntime
import triton_python_backend_utils as utils
class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    def execute(self, requests):
        print("batch of", len(requests), flush=True)
        return [self.answer(request) for request in requests]
    def answer(self, request):
        photos = np.from_dlpack(utils.get_input_tensor_by_name(request, "photos"))
        (scores,) = self.session.run(["scores"], {"photos": photos})
        return utils.InferenceResponse([utils.Tensor.from_dlpack("scores", scores)])
"""

_STARTS_WITHIN = 60.0


def why_not() -> str:
    """Why there is no real Triton on this machine; empty if there is one."""
    folder = _server()
    if folder is None:
        return "no Triton: pip install --no-deps nvidia-pytriton"
    if not _stub(folder).is_file():
        return f"this nvidia-pytriton is not for Python {sys.version_info.major}.{sys.version_info.minor}"
    asked = subprocess.run([folder / "bin" / "tritonserver", "--help"], capture_output=True, timeout=30, check=False)
    return "" if b"--model-repository" in asked.stdout + asked.stderr else f"it does not start: {asked.stderr[:200]!r}"


def _server() -> Path | None:
    spec = importlib.util.find_spec("pytriton")  # it is not imported: only its files are needed
    return Path(spec.origin).parent / "tritonserver" if spec and spec.origin else None


def _stub(folder: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "python_backend_stubs" / version / "triton_python_backend_stub"


@contextmanager
def serving(bundle: Path, scratch: Path, *arguments: str) -> Iterator[tuple[str, str, Path]]:
    """Run `serve` of a changed copy of the bundle: the addresses of HTTP and gRPC, and the server's log."""
    folder = _server()
    assert folder is not None
    backends = Path(shutil.copytree(folder / "backends", scratch / "backends"))
    shutil.copy(_stub(folder), backends / "python")
    served = Path(shutil.copytree(bundle, scratch / "served"))
    for config in served.glob("model_repository/*/*/**/*.pbtxt"):
        config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
    for version in served.glob("model_repository/*/*/1"):
        (version / "model.py").write_text(_MODEL)
    ports = _free_ports(2)
    options = f"--backend-directory={backends} --http-port={ports[0]} --grpc-port={ports[1]} --allow-metrics=false"
    bound = "--http-address=127.0.0.1 --grpc-address=127.0.0.1"
    (scratch / "bin").mkdir()
    program = scratch / "bin" / "tritonserver"
    # What the copied stub does not find by itself: the libraries of the package, and a libpython of no system folder.
    libraries = f"{folder.parents[1] / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    command = f'exec env LD_LIBRARY_PATH={libraries} {folder}/bin/tritonserver {options} {bound} "$@"'
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    path = f"{scratch / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    log = scratch / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [served / "serve", *arguments], stdout=out, stderr=out, env={**os.environ, "PATH": path}
        )
        try:
            url = f"127.0.0.1:{ports[0]}"
            _wait(server, url, log)
            yield url, f"127.0.0.1:{ports[1]}", log
        finally:
            server.terminate()  # Triton ends the processes of its backend, and then itself
            server.wait(timeout=40)


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in taken]
    for item in taken:
        item.close()
    return ports


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{url}/v2/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"Triton is not ready\n{log.read_text(errors='replace')[-4000:]}")
