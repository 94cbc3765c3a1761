"""Downloads the weights that Keras, torchvision and others publish, once, and verifies their content.

A file counts as the published one if its hash equals the pinned sha256, the MD5 that Keras publishes, or the sha256
that was recorded when trtpoets downloaded it over HTTPS. The digits of a sha256 that torchvision puts into the name of
a file are compared too, but are too few to identify it. A file in Keras's cache that only has the right name is neither
used nor replaced.
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
from trtpoets.core.h5_limits import TOPS, largest_weights
from trtpoets.core.paths import cache_root, user_path
from trtpoets.core.reading import NotReadable, read_bytes
from trtpoets.train.backbones import BACKBONES, Backbone, DownloadedSource, KerasApplication
from trtpoets.train.packaged_weights import PackagedWeights, packaged_content
from trtpoets.train.weights import EmbeddedWeights

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_TIMEOUT = 60
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PublishedWeights:
    """A published weight file: its path, its content, and its sha256, which identifies the weights."""

    path: Path
    content: bytes
    sha256: str


def published_weights(backbone: Backbone, source: DownloadedSource) -> PublishedWeights:
    """Return the published weights from the cache of trtpoets, or of Keras for its own; download them if necessary.

    Raises MissingArtefact if they cannot be downloaded, BadArtefact if the download does not match the hash that is
    pinned, published or recorded.
    """
    own_copy = _folder() / source.file
    most = largest_weights(backbone.parameters + TOPS)
    cached = _cached(source, most)
    if cached is not None:
        return cached
    log.info("downloading %s", source.url)
    content = _downloaded(backbone, source, most)
    sha256 = hashlib.sha256(content).hexdigest()
    problem = _problem(source, content, sha256)
    if problem:
        raise BadArtefact(
            f"{source.url} is not the expected file: {problem}",
            hint=_hint(source),
            code="TP2017",
        )
    write_bytes(own_copy, content)
    write_json(_record(source), {"url": source.url, "sha256": sha256})
    return PublishedWeights(own_copy, content, sha256)


def is_at_hand(backbone: Backbone) -> bool:
    """Return whether the weights of a backbone are in a package here, or were downloaded and can be verified."""
    source = backbone.source
    if isinstance(source, EmbeddedWeights):
        return True
    if isinstance(source, PackagedWeights):
        try:
            packaged_content(source)
        except TrtPoetsError:
            return False
        return True
    return _cached(source, largest_weights(backbone.parameters + TOPS)) is not None


def _cached(source: DownloadedSource, most: int) -> PublishedWeights | None:
    """Return the published weights of at most `most` bytes from the cache of trtpoets or Keras; None without them."""
    own_copy = _folder() / source.file
    copies = (own_copy, _keras_cache() / source.file) if isinstance(source, KerasApplication) else (own_copy,)
    for path in copies:
        try:
            content = read_bytes(path, most)
        except (OSError, NotReadable):
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        if _expected(source) and not _problem(source, content, sha256):
            return PublishedWeights(path, content, sha256)
        log.warning("%s is not used: it can't be verified to be the file that %s publishes", path, source.publisher)
    return None


def require_weight_file(path: Path, backbone: Backbone) -> None:
    """Raise BadInput if the user's weight file does not exist."""
    if not path.is_file():
        raise BadInput(
            f"the weights {path} are not a file",
            hint=f"give the path of a weight file with --weights; in a race, with --candidate {backbone.name}=FILE",
            code="TP2018",
        )


def weights_id(backbone: Backbone, weights: Path | None = None) -> str:
    """Return the sha256 of the weight file, which identifies the weights before they are loaded.

    Published weights whose sha256 is neither pinned nor recorded are downloaded. Raises BadInput if the user's file
    does not exist, and the errors of `published_weights`.
    """
    if weights is not None:
        weights = user_path(weights)
        require_weight_file(weights, backbone)
        return sha256_of_file(weights)
    source = backbone.source
    if isinstance(source, (EmbeddedWeights, PackagedWeights)):
        return source.sha256
    return source.sha256 or _recorded(source) or published_weights(backbone, source).sha256


def _problem(source: DownloadedSource, content: bytes, sha256: str) -> str:
    """Return why the content is not that of the published file; empty if no hash contradicts it."""
    if source.sha256:
        return "" if sha256 == source.sha256 else f"its sha256 is {sha256} instead of {source.sha256}"
    if source.md5 and (md5 := hashlib.md5(content, usedforsecurity=False).hexdigest()) != source.md5:
        return f"its MD5 is {md5} instead of {source.md5}, which Keras publishes"
    if not sha256.startswith(source.sha256_start):
        return f"its sha256 is {sha256}, and {source.publisher} publishes one that starts with {source.sha256_start}"
    recorded = _recorded(source)
    if recorded and sha256 != recorded:
        return f"its sha256 is {sha256} instead of {recorded}, that of the first download"
    return ""


def _hint(source: DownloadedSource) -> str:
    """Return what to do if a download is not the expected file; only a recorded sha256 can be forgotten."""
    if source.sha256 or source.md5:
        return "try again from another network, or use --weights FILE with a file that you trust"
    return f"try again from another network; if {source.publisher} has published a new file, delete {_record(source)}"


def _expected(source: DownloadedSource) -> str | None:
    return source.sha256 or source.md5 or _recorded(source)


def _folder() -> Path:
    return cache_root() / "weights"


def _record(source: DownloadedSource) -> Path:
    return _folder() / f"{source.file}.json"


def _recorded(source: DownloadedSource) -> str | None:
    """Return the sha256 of the first download; None if there is none or its record is damaged."""
    try:
        record = read_json(_record(source), 1 << 16)
    except (TrtPoetsError, OSError):
        return None
    sha256 = record.get("sha256") if isinstance(record, dict) and record.get("url") == source.url else None
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME") or user_path("~/.keras")) / "models"


def _downloaded(backbone: Backbone, source: DownloadedSource, most: int) -> bytes:
    offline = ", ".join(name for name, other in BACKBONES.items() if isinstance(other.source, EmbeddedWeights))
    hint = f"download {source.url} elsewhere and use --weights FILE; these backbones need no download: {offline}"
    try:
        content = fetch(source.url, most)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise MissingArtefact(
            f"the weights {source.file} of {backbone.name} can't be downloaded: {reason}",
            hint=hint,
            code="TP2019",
        ) from error
    if len(content) > most:
        raise BadArtefact(
            f"{source.url} has more than {most / 1e6:,.0f} MB, which is too large for a weight file of {backbone.name}",
            code="TP2020",
        )
    return content


def _open(url: str) -> http.client.HTTPResponse:
    response: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=_TIMEOUT)  # noqa: S310 - HTTPS is checked
    return response


opener: Callable[[str], http.client.HTTPResponse] = _open
"""Opens a URL; tests replace it."""


def fetch(url: str, most: int) -> bytes:
    """Return the content of an HTTPS URL, `most` + 1 bytes if it is longer. Raises OSError, HTTPException."""
    if not url.startswith("https://"):
        raise OSError(f"{url} is not an HTTPS URL")
    with opener(url) as response:
        if not response.geturl().startswith("https://"):
            raise OSError(f"{url} redirects to {response.geturl()}, which is not an HTTPS URL")
        content = response.read(most + 1)
        length = response.headers.get("Content-Length")
    if length and length.isdigit() and len(content) < min(int(length), most + 1):
        raise OSError(f"the connection ended after {len(content):,} of {int(length):,} bytes")
    return content
