"""Triton's HTTP protocol over ONNX Runtime: inference protocol v2, its binary data extension and readiness, and the
requests that change a server, by HTTP and gRPC, which are refused like by Triton or left open.

It checks requests as Triton does (sizes, shapes, types, largest batch, from config.pbtxt) and serves the models
of a repository.

Stands for tritonserver. A slow test serves the same bundles with the real server of nvidia-pytriton
(`tests/support/real_triton.py`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = "Inference-Header-Content-Length"


def read_config(path: Path) -> Any:
    """Parse a config.pbtxt with Triton's own schema: an unknown field is an error."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


class Refused(Exception):
    """The error for Triton's status 400."""


class FakeTriton:
    """Serves the given models from a bundle's repositories. `requests` has the batch size of each request.

    `left_open` has the paths (HTTP) and methods (gRPC) that are not refused; `mode_none` refuses like Triton with fixed
    models, without any restriction of protocols.
    """

    def __init__(
        self, repository: Path, models: list[str], left_open: Collection[str] = (), mode_none: bool = False
    ) -> None:
        import onnxruntime

        self.configs = {name: read_config(repository / name / name / "config.pbtxt") for name in models}
        self.sessions = {
            name: onnxruntime.InferenceSession(
                repository / name / name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
            )
            for name in models
        }
        self.requests: list[int] = []
        self.left_open, self.mode_none = left_open, mode_none
        self.probed: list[str] = []

    def controlled(self, request: str) -> tuple[int, str]:
        """The HTTP status and error for a request that would change the server."""
        self.probed.append(request)
        if self.mode_none and ("/load" in request or "/unload" in request or "RepositoryModel" in request):
            return 503, "explicit model load / unload is not allowed if polling is enabled"
        if request in self.left_open:
            return (400, "failed to load it") if "/load" in request else (200, "")
        kind = "API" if request.startswith("/") else "protocol"
        return 403, f"This {kind} is restricted, expecting header 'triton-admin-key'"

    def infer(self, model: str, head: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        if model not in self.sessions:
            raise Refused(f"Request for unknown model: '{model}' is not found")
        config = self.configs[model]
        (given,), (wanted,) = head["inputs"], config.input
        batch, *shape = given["shape"]
        if given["name"] != wanted.name or "TYPE_" + given["datatype"] != "TYPE_UINT8":
            raise Refused(f"unexpected input {given}")
        if shape != list(wanted.dims) or not 1 <= batch <= config.max_batch_size:
            raise Refused(f"unexpected shape for input 'photos': {given['shape']}")
        if given["parameters"]["binary_data_size"] != len(raw) or len(raw) != np.prod(given["shape"]):
            raise Refused("unexpected total byte size")
        self.requests.append(batch)
        photos = np.frombuffer(raw, np.uint8).reshape(given["shape"])
        (scores,) = self.sessions[model].run(["scores"], {"photos": photos})
        output: dict[str, Any] = {"name": "scores", "datatype": "FP32", "shape": list(scores.shape)}
        (asked,) = head.get("outputs") or [{"name": "scores"}]
        if asked.get("parameters", {}).get("binary_data"):
            content = scores.tobytes()
            return {
                "model_name": model,
                "outputs": [{**output, "parameters": {"binary_data_size": len(content)}}],
            }, content
        return {"model_name": model, "outputs": [{**output, "data": [float(item) for item in scores.ravel()]}]}, b""


@contextmanager
def serving(triton: FakeTriton) -> Iterator[str]:
    """Yield its address while it serves."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            _, version, models, model, ready = self.path.split("/")
            assert (version, models, ready) == ("v2", "models", "ready")
            self.send_response(200 if model in triton.sessions else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            raw = b""
            try:
                if self.path.startswith("/v2/models/"):
                    (head, raw), status = self.answer(body), 200
                else:
                    status, error = triton.controlled(self.path)
                    head = json.dumps({"error": error} if error else {}).encode()
            except Refused as refused:
                head, raw, status = json.dumps({"error": str(refused)}).encode(), b"", 400
            self.send_response(status)
            self.send_header("Content-Length", str(len(head) + len(raw)))
            if raw:
                self.send_header(LENGTH, str(len(head)))
            self.end_headers()
            self.wfile.write(head + raw)

        def answer(self, body: bytes) -> tuple[bytes, bytes]:
            _, version, models, model, infer = self.path.split("/")
            assert (version, models, infer) == ("v2", "models", "infer")
            split = int(self.headers[LENGTH])
            result, raw = triton.infer(model, json.loads(body[:split]), body[split:])
            return json.dumps(result).encode(), raw

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving_grpc(triton: FakeTriton) -> Iterator[str]:
    """Yield its gRPC address while it serves the methods that change a server."""
    import grpc

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            service, _, method = details.method.rpartition("/")
            assert service == "/inference.GRPCInferenceService"

            def answer(message: bytes, context: Any) -> bytes:
                status, error = triton.controlled(method)
                if status != 200:
                    context.abort(grpc.StatusCode.UNAVAILABLE, error)
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
