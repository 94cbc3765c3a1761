"""Checks that a Triton server refuses requests that change it: models, shared memory, trace and log settings.

`accepted_requests(http, grpc)` sends each request that must be refused, by HTTP and gRPC. The requests change nothing
even if accepted. Needs only Python: it implements the part of HTTP/2 that one gRPC call needs.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

PROBE = "trtpoets_selftest_probe"
"""The name of a model, and of a region of shared memory, that does not exist."""

_SECONDS = 10

_REFUSED = ("restricted, expecting header", "explicit model load / unload is not allowed")
"""Triton's messages for refused requests: a key is required; models are fixed (--model-control-mode=none)."""


class Unclear(Exception):
    """It cannot be determined whether the server refuses."""


@dataclass(frozen=True)
class Request:
    """A request that must be refused: path and JSON body for HTTP, method and protobuf message for gRPC."""

    what: str
    path: str
    body: dict[str, Any]
    method: str
    message: bytes


def _field(number: int, text: str) -> bytes:
    return bytes([number << 3 | 2, len(text)]) + text.encode()


_MODEL = f"/v2/repository/models/{PROBE}"
_REGION = f"region/{PROBE}/register"
_KEY = {"key": f"/{PROBE}", "offset": 0, "byte_size": 1}
_HANDLE = {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 1}

REQUESTS = (
    Request("load a model", f"{_MODEL}/load", {}, "RepositoryModelLoad", _field(2, PROBE)),
    Request("unload a model", f"{_MODEL}/unload", {}, "RepositoryModelUnload", _field(2, PROBE)),
    Request(
        *("register shared memory", f"/v2/systemsharedmemory/{_REGION}", _KEY),
        *("SystemSharedMemoryRegister", _field(1, PROBE) + _field(2, f"/{PROBE}") + b"\x20\x01"),
    ),
    Request(
        *("register a GPU's memory", f"/v2/cudasharedmemory/{_REGION}", _HANDLE),
        *("CudaSharedMemoryRegister", _field(1, PROBE) + _field(2, "none") + b"\x20\x01"),
    ),
    Request("change trace settings", "/v2/trace/setting", {}, "TraceSetting", b""),
    Request("change log settings", "/v2/logging", {}, "LogSettings", b""),
)
"""Requests to change settings are empty: an unprotected server answers them with its settings."""


def accepted_requests(http_address: str, grpc_address: str) -> list[str]:
    """Return the requests that the server does not refuse, one line each.

    An address where nothing listens counts as refusing. Raises Unclear for a response that cannot be understood.
    """
    return _accepted_by_http(http_address) + _accepted_by_grpc(grpc_address)


def listens(address: str) -> bool:
    """Whether a server accepts connections at HOST:PORT."""
    try:
        _connected(address).close()
    except OSError:
        return False
    return True


def printable(text: str) -> str:
    """Return the start of a server's message with unprintable characters replaced."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _accepted_by_http(address: str) -> list[str]:
    accepted = []
    for request in REQUESTS:
        status, message = _http_response(address, request)
        if status not in (401, 403) and not any(text in message for text in _REFUSED):
            accepted.append(f"HTTP: {request.what} ({request.path}): {status} {printable(message)}".rstrip())
    return accepted


def _http_response(address: str, request: Request) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=_SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", request.path, json.dumps(request.body), headers)
        response = connection.getresponse()
        return response.status, response.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unclear(f"{address} does not answer {request.path}: {error}") from error
    finally:
        connection.close()


def _accepted_by_grpc(address: str) -> list[str]:
    if not listens(address):
        return []
    accepted = []
    for request in REQUESTS:
        try:
            status, message = grpc_status(address, request.method, request.message)
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise Unclear(f"{address} does not answer {request.method} by gRPC: {error}") from error
        # 7 and 16 are refusals of a proxy. Triton refuses with 14 and a message.
        if status not in (7, 16) and not any(text in message for text in _REFUSED):
            accepted.append(f"gRPC: {request.what} ({request.method}): status {status} {printable(message)}".rstrip())
    return accepted


_CONTINUATION, _DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 9, 0, 1, 3, 4, 6, 7
_ACK = _END_STREAM = 1
_END_HEADERS, _PADDED, _PRIORITY = 4, 8, 32
_MAX_FRAME, _MAX_FRAMES = 1 << 20, 1000

_HUFFMAN = dict(
    zip(
        "-0123456789acgprstu",
        (
            *(
                "010110",
                "00000",
                "00001",
                "00010",
                "011001",
                "011010",
                "011011",
                "011100",
                "011101",
                "011110",
                "011111",
            ),
            *("00011", "00100", "100110", "101011", "101100", "01000", "01001", "101101"),
        ),
    )
)
"""Huffman codes (RFC 7541, appendix B) of the characters in "grpc-status" and its values; proxies may use them."""


def grpc_status(address: str, method: str, message: bytes) -> tuple[int, str]:
    """Return the status of one call of Triton's inference service, and its message if it is not compressed.

    Raises OSError; ValueError, IndexError or struct.error if the response is not gRPC.
    """
    with _connected(address) as connection:
        path = f"/inference.GRPCInferenceService/{method}"
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": address}
        fields.update({"te": "trailers", "content-type": "application/grpc"})
        # Each field is a literal with a new name, neither indexed nor compressed (RFC 7541, 6.2.2).
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        data = struct.pack(">BI", 0, len(message)) + message
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, block)
            + _frame(_DATA, _END_STREAM, 1, data)
        )
        return _grpc_response(connection)


def _grpc_response(connection: socket.socket) -> tuple[int, str]:
    headers: dict[str, str] = {}
    block = b""
    for _ in range(_MAX_FRAMES):
        kind, flags, stream, payload = _received(connection)
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            (code,) = struct.unpack_from(">I", payload, 4 if kind == _GOAWAY else 0)
            raise ValueError(f"the connection was closed with HTTP/2 error {code}")
        elif kind in (_HEADERS, _CONTINUATION) and stream == 1:
            block += _unpadded(kind, flags, payload)
            if flags & _END_HEADERS:
                headers.update(_fields(block))
                block = b""
        if "grpc-status" in headers:
            return int(headers["grpc-status"]), headers.get("grpc-message", "")
    raise ValueError("the response has no grpc-status")


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _received(connection: socket.socket) -> tuple[int, int, int, bytes]:
    head = _exactly(connection, 9)
    size = int.from_bytes(head[:3], "big")
    if size > _MAX_FRAME:
        raise ValueError("the response is not HTTP/2")
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream & 0x7FFFFFFF, _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ValueError("the connection was closed before the response was complete")
        content += part
    return content


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    padding = 0
    if kind == _HEADERS and flags & _PADDED:
        padding, payload = payload[0], payload[1:]
    if kind == _HEADERS and flags & _PRIORITY:
        payload = payload[5:]
    return payload[: len(payload) - padding]


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _fields(block: bytes) -> dict[str, str]:
    """Decode the literal fields with literal names in a header block, which the first gRPC status fields are."""
    headers, at = {}, 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # indexed field
            _, at = _integer(block, at, 7)
            continue
        if first & 0xE0 == 0x20:  # dynamic table size update
            _, at = _integer(block, at, 5)
            continue
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        name, at = ("", at) if index else _string(block, at)
        value, at = _string(block, at)
        headers[name] = value
    return headers


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    prefix_max = (1 << bits) - 1
    value, at, shift = block[at] & prefix_max, at + 1, 0
    if value < prefix_max:
        return value, at
    while True:
        value, shift, at = value + ((block[at] & 0x7F) << shift), shift + 7, at + 1
        if not block[at - 1] & 0x80:
            return value, at


def _string(block: bytes, at: int) -> tuple[str, int]:
    compressed = block[at] & 0x80
    size, at = _integer(block, at, 7)
    raw, at = block[at : at + size], at + size
    if not compressed:
        return raw.decode("utf-8", "replace"), at
    known = ["grpc-status", *map(str, range(17))]
    return next((text for text in known if _compressed(text) == raw), ""), at


def _compressed(text: str) -> bytes:
    bits = "".join(_HUFFMAN[letter] for letter in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
