"""Weights that Keras publishes: downloaded once, and known by their content from then on.

A file is taken for the published one where its hash is the pinned sha256, the hash that Keras publishes (MD5), or the
sha256 that was recorded when trtpoets downloaded it itself, over HTTPS. A file that merely lies in Keras's cache under
the right name is none of these: it is neither used nor replaced.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, TrtPoetsError
from trtpoets.core.files import read_json, sha256_of_file, write_bytes, write_json
from trtpoets.core.paths import cache_root, user_path
from trtpoets.core.reading import NotReadable, read_bytes
from trtpoets.train.backbones import BACKBONES, Backbone, KerasApplication
from trtpoets.train.h5_limits import TOPS, largest_weights
from trtpoets.train.weights import EmbeddedWeights

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_TIMEOUT = 60
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PublishedWeights:
    """A published file: where it lies, its bytes, and their sha256, which is the identity of the weights."""

    path: Path
    content: bytes
    sha256: str


def published_weights(backbone: Backbone, source: KerasApplication) -> PublishedWeights:
    """The published weights, from trtpoets' cache or Keras's, else downloaded.

    Raises MissingArtefact where they can't be downloaded, BadArtefact where what was downloaded is not what is pinned,
    published or recorded.
    """
    kept = _folder() / source.file
    most = largest_weights(backbone.parameters + TOPS)
    for path in (kept, _keras_cache() / source.file):
        try:
            content = read_bytes(path, most)
        except (OSError, NotReadable):
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        if _expected(source) and not _problem(source, content, sha256):
            return PublishedWeights(path, content, sha256)
        log.warning("%s is left aside: nothing shows that it is the file that Keras publishes", path)
    log.info("fetching %s", source.url)
    content = _downloaded(backbone, source, most)
    sha256 = hashlib.sha256(content).hexdigest()
    problem = _problem(source, content, sha256)
    if problem:
        raise BadArtefact(
            f"{source.url} is not the file that was expected: {problem}",
            hint=f"try again on another network; if Keras has published a new file, delete {_record(source)}",
            code="TP2017",
        )
    write_bytes(kept, content)
    write_json(_record(source), {"url": source.url, "sha256": sha256})
    return PublishedWeights(kept, content, sha256)


def weights_id(backbone: Backbone, weights: Path | None = None) -> str:
    """The sha256 of the weight file: what tells these weights from any others, known before they are loaded.

    Published weights whose sha256 is neither pinned nor recorded are downloaded. Raises BadInput when the user's file
    is not there, and what `published_weights` raises.
    """
    if weights is not None:
        weights = user_path(weights)
        if not weights.is_file():
            raise BadInput(
                f"the weights {weights} are not a file", hint="give --weights the path of a weight file", code="TP2018"
            )
        return sha256_of_file(weights)
    source = backbone.source
    if isinstance(source, EmbeddedWeights):
        return source.sha256
    return source.sha256 or _recorded(source) or published_weights(backbone, source).sha256


def _problem(source: KerasApplication, content: bytes, sha256: str) -> str:
    """Why the bytes are not the published file's, as far as that can be told; empty where nothing speaks against it."""
    if source.sha256:
        return "" if sha256 == source.sha256 else f"its sha256 is {sha256}, not {source.sha256}"
    if source.md5 and (md5 := hashlib.md5(content, usedforsecurity=False).hexdigest()) != source.md5:
        return f"its MD5 is {md5}, and Keras publishes {source.md5}"
    recorded = _recorded(source)
    if recorded and sha256 != recorded:
        return f"its sha256 is {sha256}, and that of the first download was {recorded}"
    return ""


def _expected(source: KerasApplication) -> str | None:
    return source.sha256 or source.md5 or _recorded(source)


def _folder() -> Path:
    return cache_root() / "weights"


def _record(source: KerasApplication) -> Path:
    return _folder() / f"{source.file}.json"


def _recorded(source: KerasApplication) -> str | None:
    """The sha256 of the first download; None where there was none, or its record is damaged."""
    try:
        found = read_json(_record(source), 1 << 16)
    except (TrtPoetsError, OSError):
        return None
    sha256 = found.get("sha256") if isinstance(found, dict) and found.get("url") == source.url else None
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME") or user_path("~/.keras")) / "models"


def _downloaded(backbone: Backbone, source: KerasApplication, most: int) -> bytes:
    offline = ", ".join(name for name, other in BACKBONES.items() if isinstance(other.source, EmbeddedWeights))
    hint = f"fetch {source.url} elsewhere and give it as --weights FILE; these need no download: {offline}"
    try:
        content = fetch(source.url, most)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise MissingArtefact(
            f"{backbone.name} needs the weights {source.file}, which can't be downloaded: {reason}",
            hint=hint,
            code="TP2019",
        ) from error
    if len(content) > most:
        raise BadArtefact(
            f"{source.url} has more than {most / 1e6:,.0f} MB: it is no weight file of {backbone.name}", code="TP2020"
        )
    return content


def _open(url: str) -> http.client.HTTPResponse:
    response: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=_TIMEOUT)  # noqa: S310 - of our own table
    return response


opener: Callable[[str], http.client.HTTPResponse] = _open
"""Opens an address; tests put another one here."""


def fetch(url: str, most: int) -> bytes:
    """The bytes at an HTTPS address, `most` + 1 of them where there are more. Raises OSError, HTTPException."""
    if not url.startswith("https://"):
        raise OSError(f"{url} is not fetched: it is no HTTPS address")
    with opener(url) as response:
        if not response.geturl().startswith("https://"):
            raise OSError(f"{url} leads to {response.geturl()}, which is no HTTPS address")
        content = response.read(most + 1)
        told = response.headers.get("Content-Length")
    if told and told.isdigit() and len(content) < min(int(told), most + 1):
        raise OSError(f"the connection ended after {len(content):,} of {int(told):,} bytes")
    return content
