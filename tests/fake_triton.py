"""Triton's HTTP protocol over ONNX Runtime: inference protocol v2, its binary data extension and repository index.

It holds a request to what Triton holds it to (sizes, shapes, types, the largest batch, as config.pbtxt has them), and
serves the ONNX models of a repository. For what can't be had here: the server itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = "Inference-Header-Content-Length"


def read_config(path: Path) -> Any:
    """A config.pbtxt by Triton's own schema: a field that there is not is an error."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


class Refused(Exception):
    """What Triton answers with status 400."""


class FakeTriton:
    """Serves the models that are named, from a repository. `requests` holds the batch size of each."""

    def __init__(self, repository: Path, models: list[str]) -> None:
        import onnxruntime

        self.configs = {name: read_config(repository / name / "config.pbtxt") for name in models}
        self.sessions = {
            name: onnxruntime.InferenceSession(
                repository / name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
            )
            for name in models
        }
        self.requests: list[int] = []

    def index(self, asked: dict[str, Any]) -> list[dict[str, str]]:
        assert asked == {"ready": True}
        return [{"name": name, "version": "1", "state": "READY"} for name in self.sessions]

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
        return {"model_name": model, "outputs": [{**output, "data": [float(each) for each in scores.ravel()]}]}, b""


@contextmanager
def serving(triton: FakeTriton) -> Iterator[str]:
    """Its address, as long as it serves."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                head, raw = self.answer(body)
                status = 200
            except Refused as refused:
                head, raw, status = json.dumps({"error": str(refused)}).encode(), b"", 400
            self.send_response(status)
            self.send_header("Content-Length", str(len(head) + len(raw)))
            if raw:
                self.send_header(LENGTH, str(len(head)))
            self.end_headers()
            self.wfile.write(head + raw)

        def answer(self, body: bytes) -> tuple[bytes, bytes]:
            if self.path == "/v2/repository/index":
                return json.dumps(triton.index(json.loads(body))).encode(), b""
            _, version, models, model, infer = self.path.split("/")
            assert (version, models, infer) == ("v2", "models", "infer")
            split = int(self.headers[LENGTH])
            found, raw = triton.infer(model, json.loads(body[:split]), body[split:])
            return json.dumps(found).encode(), raw

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
