"""The user's key, the HMAC of cards, and artefacts that are not opened without trust."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trtpoets
from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu
from tests.onboard.update.update_kills import small_bundle
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.photos import make_photo
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.cli import main
from trtpoets.convert.onnx_export import serve_signature
from trtpoets.core import authenticity, paths
from trtpoets.core.authenticity import hmac_of, key_file, why_foreign
from trtpoets.core.errors import BadArtefact, MissingArtefact, StorageFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.manifest import write_manifest
from trtpoets.core.types import Classifier, Flavour, Precision, hash_of
from trtpoets.core.workspace import Workspace, card_of, open_card, read_card, seal_card
from trtpoets.device.build.engine import load_engine
from trtpoets.device.build.foreign_engine import engine_from_file
from trtpoets.device.runners import Way, open_runner
from trtpoets.judge.bench.bench_child import artefact_from_description, description_from_artefact
from trtpoets.onboard.installed_bundle import bundle_here, engine_in, seal_record
from trtpoets.pipeline.artefacts import classifier_in
from trtpoets.pipeline.inspect import CardFacts


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key of this test's own, not made yet."""
    monkeypatch.setenv("TRTPOETS_KEY", str(tmp_path / "home" / "key"))
    return tmp_path / "home" / "key"


def another_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From now on this is another user, or another machine."""
    monkeypatch.setenv("TRTPOETS_KEY", str(tmp_path / "another" / "key"))


def recomputed(card: Path, **changes: Any) -> None:
    """Change a card as an attacker does who knows how trtpoets computes seals, and not the key."""
    value = {**json.loads(card.read_text()), **changes}
    del value["seal"]
    tag = value.pop("hmac", None)
    value["files"] = {name: sha256_of_file(card.parent / name) for name in value["files"]}
    sealed = {**value, "seal": hash_of(value)}
    card.write_text(json.dumps(sealed if tag is None else {**sealed, "hmac": tag}))


def without_tag(card: Path) -> None:
    """Make it a card of an earlier version, which had no HMAC."""
    value = json.loads(card.read_text())
    del value["hmac"]
    card.write_text(json.dumps(value))


# The key


def test_the_key_is_created_once_and_is_private(key: Path) -> None:
    tag = hmac_of(hash_of({"a": 1}))
    status = key.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600 and len(key.read_text()) == 65
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert hmac_of(hash_of({"a": 1})) == tag != hmac_of(hash_of({"a": 2}))
    assert key.stat().st_mtime_ns == status.st_mtime_ns
    assert [path.name for path in key.parent.iterdir()] == ["key"]


def test_processes_that_start_together_use_one_key(key: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: hmac_of("x"), range(16)))) == 1


def test_checking_creates_no_key(key: Path) -> None:
    assert why_foreign("x", "0" * 64) == authenticity.OTHER_HMAC
    assert why_foreign("x", None) == authenticity.NO_HMAC
    assert not key.parent.exists()


@pytest.mark.parametrize(
    ("damage", "problem", "hint"),
    [
        (lambda key: key.chmod(0o640), "other users may read or write the key .* mode 640", "chmod 600 "),
        (lambda key: key.write_text("short"), "64 hexadecimal digits were expected", "rm "),
        (lambda key: (key.rename(key.with_name("k")), key.symlink_to("k")), "is a symbolic link", "rm "),
        (lambda key: (key.unlink(), os.mkfifo(key, 0o600)), "is not a regular file", "set TRTPOETS_KEY"),
        (lambda key: (key.unlink(), key.mkdir()), "is not a regular file", "set TRTPOETS_KEY"),
    ],
)
def test_a_key_that_cannot_be_used(key: Path, damage: Callable[[Path], object], problem: str, hint: str) -> None:
    tag = hmac_of("x")
    damage(key)
    calls: list[Callable[[], object]] = [lambda: hmac_of("x"), lambda: why_foreign("x", tag)]
    for call in calls:
        with pytest.raises((BadArtefact, StorageFailed), match=problem) as caught:
            call()
        assert caught.value.hint.startswith(hint)


def test_a_key_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRTPOETS_KEY", str(tmp_path / "file" / "key"))
    with raises(StorageFailed, "TP1003", "Not a directory") as caught:
        hmac_of("x")
    assert "TRTPOETS_KEY" in caught.value.hint


@pytest.mark.parametrize("data", [None, __file__])
def test_the_key_without_a_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, data: str | None
) -> None:
    for name in ("TRTPOETS_KEY", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    if data is None:
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    else:
        monkeypatch.setenv("XDG_DATA_HOME", data)
    monkeypatch.setattr(paths, "temporary_root", lambda: tmp_path)
    monkeypatch.setattr(paths, "_warned_data", set())
    assert key_file() == key_file() == tmp_path / f"trtpoets-data-{os.getuid()}" / "key"
    (message,) = caplog.messages
    assert "set TRTPOETS_KEY to a file" in message
    # What another user may have put there is not taken.
    (tmp_path / f"trtpoets-data-{os.getuid()}").chmod(0o777)
    with raises(StorageFailed, "TP1056"):
        key_file()


def test_the_default_path_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRTPOETS_KEY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert key_file() == tmp_path / "trtpoets" / "key"


# Cards


def test_a_card_is_this_users_until_anything_in_it_changes(tmp_path: Path, key: Path) -> None:
    (tmp_path / "a").write_text("1")
    card = card_of(tmp_path / "a")
    seal_card(card, key="k", files=[tmp_path / "a"], details={"n": 1})
    assert read_card(card).foreign == ""
    recomputed(card, details={"n": 2})
    assert read_card(card).foreign == authenticity.OTHER_HMAC
    assert open_card(card, "k") == {"n": 2} and open_card(card, "k", own=True) is None
    without_tag(card)
    assert read_card(card).foreign == authenticity.NO_HMAC


def test_a_card_copied_to_another_machine_is_foreign(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("1")
    card = card_of(tmp_path / "a")
    seal_card(card, key="k", files=[tmp_path / "a"], details={})
    another_key(monkeypatch, tmp_path)
    assert read_card(card).foreign == authenticity.OTHER_HMAC
    hmac_of("now there is a key")
    assert read_card(card).foreign == authenticity.OTHER_HMAC


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.none(), st.text(max_size=70), st.integers(), st.booleans(), st.lists(st.integers(), max_size=2)))
def test_an_invented_hmac_is_refused(tag: object) -> None:
    assert why_foreign(hash_of({"x": 1}), tag)


# Engines


def test_changed_engine_bytes_with_a_recomputed_card(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    engine = paper_engine(tmp_path)
    engine.path.write_bytes(b"plan of a paper network\x80\xff and more")
    details = json.loads(card_of(engine.path).read_text())["details"]
    recomputed(card_of(engine.path), details={**details, "engine_sha256": sha256_of_file(engine.path)})
    make_photo(0, 0).save(tmp_path / "a.png")
    with raises(BadArtefact, "TP4042", "HMAC of another key"):
        trtpoets.label(str(engine.path), [tmp_path / "a.png"])
    # Nor by the way of the processes that measure and prove engines.
    for item in (load_engine(engine.path), artefact_from_description(description_from_artefact(engine))):
        with raises(BadArtefact, "TP1001"):
            open_runner(item).__enter__()
    assert "new engine" not in gpu.journal
    facts = trtpoets.inspect(card_of(engine.path)).facts
    assert isinstance(facts, CardFacts)
    assert (facts.files, facts.foreign) == ({engine.path.name: "intact"}, authenticity.OTHER_HMAC)
    assert engine_from_file(engine.path, trust=True).card.batch.optimum == 4, "its card is intact, and tells"


def test_an_engine_of_an_earlier_version_says_what_to_do(tmp_path: Path, key: Path) -> None:
    engine = paper_engine(tmp_path)
    without_tag(card_of(engine.path))
    with raises(BadArtefact, "TP4042", "earlier version"):
        engine_from_file(engine.path)
    with pytest.raises(BadArtefact) as caught:
        open_runner(load_engine(engine.path)).__enter__()
    assert caught.value.hint == f"if you made it or trust its author: trtpoets trust tiny --engines {tmp_path}"


def test_a_foreign_runtime_cache_is_not_deserialised(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    with open_runner(engine):
        pass
    (cache,) = engine.path.parent.glob("*.runtime-cache")
    cache.write_bytes(b"kernels of somebody's")
    recomputed(card_of(cache))
    with open_runner(engine) as runner:
        assert gpu.cache_in is None
        runner.infer(tiny_photos(1))


# Classifiers


@pytest.fixture
def space(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A run whose SavedModel and Keras file were replaced, the card recomputed; nothing may load them."""

    def loaded() -> None:
        raise AssertionError("TensorFlow was asked for")

    for module in ("device.runners.tf", "device.runners.keras", "convert.onnx_export", "convert.tflite_export"):
        monkeypatch.setattr(f"trtpoets.{module}.tensorflow", loaded)
    space = bundle_run(tmp_path)
    another_key(monkeypatch, tmp_path)
    return space


def test_a_foreign_classifier_is_not_loaded(space: Workspace, tmp_path: Path) -> None:
    make_photo(0, 0).save(tmp_path / "a.png")
    for precision in Precision:
        space.onnx(precision).unlink()
    calls: tuple[Callable[[], object], ...] = (
        lambda: trtpoets.label("tiny", [tmp_path / "a.png"], engines=space.engines),
        lambda: trtpoets.export("tiny", engines=space.engines),
        lambda: trtpoets.evaluate("tiny", engines=space.engines, force=True),
        lambda: trtpoets.bench("tiny", engines=space.engines),
        lambda: open_runner(classifier_in(space), way=Way.KERAS).__enter__(),
        lambda: open_runner(classifier_in(space), way=Way.XLA).__enter__(),
        lambda: open_runner(artefact_from_description(description_from_artefact(classifier_in(space)))).__enter__(),
        lambda: serve_signature(classifier_in(space)),
    )
    for call in calls:
        with raises(BadArtefact, "TP1001") as caught:
            call()
        assert caught.value.hint.endswith(f"trtpoets trust tiny --engines {space.engines}")


def test_onnx_files_of_others_need_no_trust(space: Workspace, tmp_path: Path) -> None:
    make_photo(0, 0).save(tmp_path / "a.png")
    (answer,) = trtpoets.label("tiny", [tmp_path / "a.png"], engines=space.engines)
    assert answer.runner == "onnxruntime-fp32"


def test_trust_is_permanent(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    engine = paper_engine(space.engines, file="fp16.tensorrt.engine")
    without_tag(card_of(engine.path))
    assert trtpoets.trust("tiny", engines=space.engines) == (space.classifier, engine.path)
    assert classifier_in(space) == Classifier(space.classifier, tiny_spec())
    assert load_engine(engine.path) == engine
    assert trtpoets.trust("tiny", engines=space.engines) == ()
    with pytest.raises(SystemExit) as caught:
        main.app(["trust", "tiny", "--engines", str(space.engines), "--json"])
    assert caught.value.code == 0 and json.loads(capsys.readouterr().out) == []


def test_trust_covers_all_cards_or_none(space: Workspace) -> None:
    engine = paper_engine(space.engines, file="fp16.tensorrt.engine")
    engine.path.write_bytes(b"changed")
    with raises(BadArtefact, "TP8045"):
        trtpoets.trust("tiny", engines=space.engines)
    assert classifier_in(space).foreign
    shutil.rmtree(space.folder)
    with raises(MissingArtefact, "TP8044"):
        trtpoets.trust("tiny", engines=space.engines)


def test_label_with_trust_opens_the_classifier(
    space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photo(0, 0).save(tmp_path / "a.png")
    for precision in Precision:
        space.onnx(precision).unlink()
    with pytest.raises(AssertionError, match="TensorFlow was asked for"):
        trtpoets.label("tiny", [tmp_path / "a.png"], trust=True, engines=space.engines)


# Devices


def test_a_device_that_is_updated_has_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_bundle(tmp_path / "releases" / "new", "new").folder
    (folder / "manifest.json").unlink()
    (folder / "model.json").write_text(tiny_spec().to_json())
    write_manifest(folder, name="tiny", target="jetson", version="0", model="0" * 64, order=[Precision.FP32])
    monkeypatch.setenv("TRTPOETS_BUNDLE", str(folder))
    assert key_file() != tmp_path / "key"
    bundle_here()
    assert key_file() != tmp_path / "key", "what the user chose counts"
    monkeypatch.delenv("TRTPOETS_KEY")
    bundle_here()
    assert key_file() == tmp_path / "key"


def test_an_engine_that_came_with_a_bundle_is_not_run(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest does not cover built/, so an archive may contain an engine, its card and the record of a build."""
    bundle = small_bundle(tmp_path / "bundle", "new")
    engine = paper_engine(bundle.folder)
    engine.path.parent.rename(bundle.built)
    seal_record(bundle, engine.path.name, [], None)
    assert engine_in(bundle).path == bundle.built / engine.path.name
    another_key(monkeypatch, tmp_path)
    with raises(BadArtefact, "TP7030") as caught:
        engine_in(bundle)
    assert caught.value.hint == f"build it, as the user who runs it: {bundle.folder}/build"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_created_by_root_belongs_to_the_folders_owner(tmp_path: Path, key: Path) -> None:
    key.parent.mkdir(mode=0o700)
    os.chown(key.parent, 12345, 12345)
    tag = hmac_of("x")
    assert key.stat().st_uid == 12345 and hmac_of("x") == tag
