"""Whether a Triton refuses what would let a client change it: models, shared memory, trace and logging settings.

`openings(http, grpc)` sends each request that must be refused, by HTTP and by gRPC, in a form that changes nothing
where it is not. Needs nothing but Python: HTTP/2 is spoken here as far as one gRPC call takes.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

PROBE = "trtpoets_selftest_probe"
"""A model, and a region of shared memory, that there is not."""

_SECONDS = 10

_REFUSED = ("restricted, expecting header", "explicit model load / unload is not allowed")
"""What Triton says when it refuses: the request needs a key; its models are fixed (--model-control-mode=none)."""


class Unclear(Exception):
    """Why it can't be told whether the server refuses."""


@dataclass(frozen=True)
class Request:
    """One request that must be refused: by HTTP a path and a JSON body, by gRPC a method and a protobuf message."""

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
"""An empty change of settings changes nothing, and an open server answers it with the settings."""


def openings(http_address: str, grpc_address: str) -> list[str]:
    """What the server does not refuse, one line each; an address at which nothing listens refuses everything.

    Raises Unclear when something answers that can't be understood.
    """
    return _http_openings(http_address) + _grpc_openings(grpc_address)


def listens(address: str) -> bool:
    """Whether anything takes connections at HOST:PORT."""
    try:
        _connected(address).close()
    except OSError:
        return False
    return True


def printable(text: str) -> str:
    """The start of what a server said, fit for a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:200])


def _http_openings(address: str) -> list[str]:
    found = []
    for request in REQUESTS:
        status, said = _asked(address, request)
        if status not in (401, 403) and not any(words in said for words in _REFUSED):
            found.append(f"HTTP: {request.what} ({request.path}): {status} {printable(said)}".rstrip())
    return found


def _asked(address: str, request: Request) -> tuple[int, str]:
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


def _grpc_openings(address: str) -> list[str]:
    if not listens(address):
        return []
    found = []
    for request in REQUESTS:
        try:
            status, said = grpc_status(address, request.method, request.message)
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise Unclear(f"{address} does not answer {request.method} by gRPC: {error}") from error
        # 7 and 16: a proxy refuses. Triton's own refusal is 14 with its reason.
        if status not in (7, 16) and not any(words in said for words in _REFUSED):
            found.append(f"gRPC: {request.what} ({request.method}): status {status} {printable(said)}".rstrip())
    return found


_CONTINUATION, _DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 9, 0, 1, 3, 4, 6, 7
_ACK = _END_STREAM = 1
_END_HEADERS, _PADDED, _PRIORITY = 4, 8, 32
_MOST_FRAME, _MOST_FRAMES = 1 << 20, 1000

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
"""The codes (RFC 7541, appendix B) of what the name grpc-status and its values are spelt with; proxies use them."""


def grpc_status(address: str, method: str, message: bytes) -> tuple[int, str]:
    """The status of one call of Triton's inference service, and its message where it is sent in plain.

    Raises OSError, or ValueError, IndexError and struct.error where the answer is not gRPC's.
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
        return _answer(connection)


def _answer(connection: socket.socket) -> tuple[int, str]:
    found: dict[str, str] = {}
    block = b""
    for _ in range(_MOST_FRAMES):
        kind, flags, stream, payload = _received(connection)
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            (code,) = struct.unpack_from(">I", payload, 4 if kind == _GOAWAY else 0)
            raise ValueError(f"the connection was ended, HTTP/2 error {code}")
        elif kind in (_HEADERS, _CONTINUATION) and stream == 1:
            block += _unpadded(kind, flags, payload)
            if flags & _END_HEADERS:
                found.update(_fields(block))
                block = b""
        if "grpc-status" in found:
            return int(found["grpc-status"]), found.get("grpc-message", "")
    raise ValueError("no status comes")


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _received(connection: socket.socket) -> tuple[int, int, int, bytes]:
    head = _exactly(connection, 9)
    size = int.from_bytes(head[:3], "big")
    if size > _MOST_FRAME:
        raise ValueError("the answer is not HTTP/2")
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream & 0x7FFFFFFF, _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ValueError("the connection was closed before the answer was whole")
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
    """The literal fields of a header block whose names are spelt out: gRPC's own are, when they come first."""
    found, at = {}, 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # a field of a table
            _, at = _integer(block, at, 7)
            continue
        if first & 0xE0 == 0x20:  # a new size of the table
            _, at = _integer(block, at, 5)
            continue
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        name, at = ("", at) if index else _string(block, at)
        value, at = _string(block, at)
        found[name] = value
    return found


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at, shift = block[at] & most, at + 1, 0
    if value < most:
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
    spelt = ["grpc-status", *map(str, range(17))]
    return next((each for each in spelt if _compressed(each) == raw), ""), at


def _compressed(text: str) -> bytes:
    bits = "".join(_HUFFMAN[letter] for letter in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
