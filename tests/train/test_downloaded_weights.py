"""Published weights: pinned, published by hash, or recorded at the first download; never just what a cache holds."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.backbones import downloads, keras_source
from tests.support.errors import raises
from tools.pin_weights import pin
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.train import backbones, downloaded_weights
from trtpoets.train.backbones import BACKBONES, KerasApplication, PublishedFile, backbone_named
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
        with raises(MissingArtefact, "TP2019", "Network is unreachable"):
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
    with raises(BadArtefact, "TP2017", "first download") as caught:
        published_weights(UNPINNED, UNPINNED_SOURCE)
    assert f"{UNPINNED_SOURCE.file}.json" in caught.value.hint


def test_the_md5_of_keras_and_the_pinned_sha256_are_checked(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, b"another file")
    with raises(BadArtefact, "TP2017", "instead of", MD5_SOURCE.md5, "which Keras publishes") as caught:
        published_weights(WITH_MD5, MD5_SOURCE)
    assert "--weights FILE" in caught.value.hint  # deleting a record would not help
    monkeypatch.setattr(
        backbones, "PINNED", MappingProxyType({MD5_SOURCE.file: sha256(b"it"), UNPINNED_SOURCE.file: "0" * 64})
    )
    assert weights_id(UNPINNED) == "0" * 64  # known without the file
    with raises(BadArtefact, "TP2017", "its sha256 is", sha256(b"another file"), "instead of"):
        published_weights(WITH_MD5, MD5_SOURCE)
    (caches / MD5_SOURCE.file).write_bytes(b"it")
    assert published_weights(WITH_MD5, MD5_SOURCE).sha256 == sha256(b"it")


def test_the_digits_of_torchvision_are_checked_and_do_not_suffice(
    caches: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    googlenet = backbone_named("googlenet")
    source = googlenet.source
    assert isinstance(source, PublishedFile)
    serve(monkeypatch, b"another file")
    with raises(BadArtefact, "TP2017", sha256(b"another file"), "torchvision", "1378be20"):
        published_weights(googlenet, source)
    # A file in the cache of Keras is not read, and one of our own without a record is not used.
    (caches / source.file).write_bytes(b"planted")
    ours = tmp_path / "cache" / "weights" / source.file
    ours.parent.mkdir(parents=True)
    content = b"the file of which the digits are known"
    known = dataclasses.replace(source, sha256_start=sha256(content)[:8])
    ours.write_bytes(content)
    serve(monkeypatch, None)
    with raises(MissingArtefact, "TP2019", source.file):
        published_weights(googlenet, known)
    serve(monkeypatch, content)
    assert published_weights(googlenet, known).sha256 == sha256(content)
    serve(monkeypatch, None)
    assert published_weights(googlenet, known).path == ours


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
    assert all(source.url.startswith("https://") for source in downloads().values())


def test_a_download_larger_than_the_network(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloaded_weights, "largest_weights", lambda parameters: 10)
    serve(monkeypatch, bytes(11))
    with raises(BadArtefact, "TP2020"):
        published_weights(UNPINNED, UNPINNED_SOURCE)


def test_identities_of_other_weights(tmp_path: Path) -> None:
    lite = backbone_named("efficientnet_lite0")
    assert weights_id(lite) == lite.source.sha256
    file = tmp_path / "mine.h5"
    file.write_bytes(b"numbers")
    assert weights_id(lite, file) == sha256(b"numbers")
    with raises(BadInput, "TP2018"):
        weights_id(lite, tmp_path)


def test_the_script_that_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b"one", b"one", b"one", b"two"]
    monkeypatch.setattr(downloaded_weights, "opener", lambda url: Response(answers.pop(0)))
    assert pin(UNPINNED_SOURCE) == sha256(b"one")
    with pytest.raises(ValueError, match="two downloads differ"):
        pin(UNPINNED_SOURCE)
    answers[:] = [b"one", b"one"] * 2
    with pytest.raises(ValueError, match="its MD5 is"):
        pin(MD5_SOURCE)
    with pytest.raises(ValueError, match="starts with 1378be20"):
        pin(downloads()["googlenet"])


def test_what_is_pinned_is_a_sha256_of_a_file_in_the_table() -> None:
    assert set(backbones.PINNED) <= {source.file for source in downloads().values()}
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in backbones.PINNED.values())
    assert len(set(backbones.PINNED.values())) == len(backbones.PINNED)  # two files are never the same


def test_each_hash_has_the_right_form_and_one_file() -> None:
    sources = downloads().values()
    assert len({source.file for source in sources}) == len(sources)
    assert all(re.fullmatch("[0-9a-f]{8}|", source.sha256_start) for source in sources)
    assert all(source.sha256_start in source.url for source in sources)
    # An address at timm names a commit, not a branch, of which the content can change.
    addresses = [source.url for source in sources if source.publisher == "timm"]
    assert addresses and all(re.search("/resolve/[0-9a-f]{40}/", address) for address in addresses)
    md5s = [source.md5 for source in sources if source.md5 is not None]
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in md5s)
    assert len(set(md5s)) == len(md5s)


def test_the_hashes_are_those_of_the_installed_keras() -> None:
    """Each hash of a file with the 1,000-class layer is in the source of keras.applications."""
    modules = {
        "InceptionV3": "inception_v3",
        "ResNet50": "resnet",
        "EfficientNetB0": "efficientnet",
        **{f"EfficientNetV2B{number}": "efficientnet_v2" for number in range(4)},
        "ConvNeXtTiny": "convnext",
    }
    installed = importlib.util.find_spec("keras")  # importing it would take seconds
    assert installed is not None
    assert installed.origin is not None
    folder = Path(installed.origin).parent / "src" / "applications"
    for name, source in downloads().items():
        published = (source.md5 or source.keras_sha256) if isinstance(source, KerasApplication) else None
        if isinstance(source, KerasApplication) and published:
            text = (folder / f"{modules.get(source.function, 'mobilenet_v3')}.py").read_text(encoding="utf-8")
            assert published in text, name


def test_the_security_model_lists_how_each_download_is_identified() -> None:
    """The table of docs/explanations/security.md has each backbone that is downloaded, once, in the right row."""
    text = (Path(__file__).parents[2] / "docs" / "explanations" / "security.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (`.*?) \| (\S.*?) \|$", text.partition("## Downloaded weights")[2], re.MULTILINE))
    listed = {name: how for names, how in rows.items() for name in re.findall(r"`([^`]+)`", names)}
    v1 = {name for name in BACKBONES if re.fullmatch(r"mobilenet_[01]\..*", name)}
    how_v1 = listed.pop("mobilenet_ALPHA_PIXELS")
    expected = {}
    for name, source in downloads().items():
        if source.sha256 or source.md5:
            expected[name] = "the sha256" if source.sha256 else "the MD5"
        else:
            expected[name] = "the first eight digits" if source.sha256_start else "the sha256 of the first download"
    assert len(v1) == 16
    assert {expected.pop(name) for name in v1} == {"the sha256 of the first download"}
    assert "first download" in how_v1
    assert set(listed) == set(expected)
    assert all(listed[name].startswith(how) for name, how in expected.items())
