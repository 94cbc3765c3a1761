"""Published weights: pinned, published by hash, or recorded at the first download; never just what a cache holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.backbones import keras_source
from tools.pin_weights import pin
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.train import backbones, downloaded_weights
from trtpoets.train.backbones import BACKBONES, backbone_named
from trtpoets.train.downloaded_weights import fetch, published_weights, weights_id

UNPINNED = backbone_named("mobilenet_0.25_128")
WITH_MD5 = backbone_named("mobilenet_v3_small")
UNPINNED_SOURCE, MD5_SOURCE = keras_source(UNPINNED), keras_source(WITH_MD5)


class Response(io.BytesIO):
    """What urlopen gives."""

    def __init__(self, content: bytes, url: str = "https://example.org/file.h5", length: int | None = None) -> None:
        super().__init__(content)
        self._url = url
        self.headers: Mapping[str, str] = {"Content-Length": str(len(content) if length is None else length)}

    def geturl(self) -> str:
        return self._url


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of Keras and trtpoets, without a network; gives Keras's folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    serve(monkeypatch, None)
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    def opened(url: str) -> Response:
        if content is None:
            raise OSError("Network is unreachable")
        return Response(content)

    monkeypatch.setattr(downloaded_weights, "opener", opened)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_in_the_cache_of_keras_is_not_trusted(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for backbone, source in ((UNPINNED, UNPINNED_SOURCE), (WITH_MD5, MD5_SOURCE)):
        (caches / source.file).write_bytes(b"planted")
        with pytest.raises(MissingArtefact, match="cannot be downloaded: Network is unreachable"):
            published_weights(backbone, source)
    serve(monkeypatch, b"published")
    assert published_weights(UNPINNED, UNPINNED_SOURCE).content == b"published"
    assert weights_id(UNPINNED) == sha256(b"published")
    assert (caches / UNPINNED_SOURCE.file).read_bytes() == b"planted"


def test_the_first_download_is_recorded_and_a_changed_one_refused(
    caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, b"first")
    assert weights_id(UNPINNED) == sha256(b"first")
    serve(monkeypatch, None)
    result = published_weights(UNPINNED, UNPINNED_SOURCE)
    assert (result.content, result.sha256) == (b"first", weights_id(UNPINNED))
    result.path.write_bytes(b"changed later")
    (caches / UNPINNED_SOURCE.file).write_bytes(b"first")
    assert published_weights(UNPINNED, UNPINNED_SOURCE).path == caches / UNPINNED_SOURCE.file
    (caches / UNPINNED_SOURCE.file).unlink()
    serve(monkeypatch, b"second")
    with pytest.raises(BadArtefact, match="that of the first download") as caught:
        published_weights(UNPINNED, UNPINNED_SOURCE)
    assert f"{UNPINNED_SOURCE.file}.json" in caught.value.hint


def test_the_md5_of_keras_and_the_pinned_sha256_are_checked(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, b"another file")
    with pytest.raises(BadArtefact, match=f"instead of {MD5_SOURCE.md5}, which Keras publishes"):
        published_weights(WITH_MD5, MD5_SOURCE)
    monkeypatch.setattr(
        backbones, "PINNED", MappingProxyType({MD5_SOURCE.file: sha256(b"it"), UNPINNED_SOURCE.file: "0" * 64})
    )
    assert weights_id(UNPINNED) == "0" * 64  # known without the file
    with pytest.raises(BadArtefact, match=f"its sha256 is {sha256(b'another file')} instead of "):
        published_weights(WITH_MD5, MD5_SOURCE)
    (caches / MD5_SOURCE.file).write_bytes(b"it")
    assert published_weights(WITH_MD5, MD5_SOURCE).sha256 == sha256(b"it")


def test_only_https_and_whole_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="not an HTTPS URL"):
        fetch("http://example.org/a", 10)
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(b"x", url="http://example.org/a"))
    with pytest.raises(OSError, match="not an HTTPS URL"):
        fetch("https://example.org/a", 10)
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(b"x", length=5))
    with pytest.raises(OSError, match="ended after 1 of 5 bytes"):
        fetch("https://example.org/a", 10)
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(bytes(100)))
    assert len(fetch("https://example.org/a", 10)) == 11
    assert all(keras_source(row).url.startswith("https://") for row in BACKBONES.values() if row.needs_download)


def test_a_download_larger_than_the_network(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloaded_weights, "largest_weights", lambda parameters: 10)
    serve(monkeypatch, bytes(11))
    with pytest.raises(BadArtefact, match="too large for a weight file"):
        published_weights(UNPINNED, UNPINNED_SOURCE)


def test_identities_of_other_weights(tmp_path: Path) -> None:
    lite = backbone_named("efficientnet_lite0")
    assert weights_id(lite) == lite.source.sha256
    file = tmp_path / "mine.h5"
    file.write_bytes(b"numbers")
    assert weights_id(lite, file) == sha256(b"numbers")
    with pytest.raises(BadInput, match="not a file"):
        weights_id(lite, tmp_path)


def test_the_script_that_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b"one", b"one", b"one", b"two"]
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(answers.pop(0)))
    assert pin(UNPINNED_SOURCE) == sha256(b"one")
    with pytest.raises(ValueError, match="two downloads differ"):
        pin(UNPINNED_SOURCE)
    answers[:] = [b"one", b"one"]
    with pytest.raises(ValueError, match="its MD5 is"):
        pin(MD5_SOURCE)


def test_what_is_pinned_is_a_sha256_of_a_file_in_the_table() -> None:
    files = {keras_source(row).file for row in BACKBONES.values() if row.needs_download}
    assert set(backbones.PINNED) <= files
    assert all(len(value) == 64 and set(value) <= set("0123456789abcdef") for value in backbones.PINNED.values())
