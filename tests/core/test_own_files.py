"""Symbolic links, hard links and other users' files in place of trtpoets' files are never changed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.onboard.update.update_kills import small_bundle
from tests.support.errors import raises
from tests.train.test_feature_cache import names, opened, rows_of
from trtpoets.core.errors import StorageFailed, TrtPoetsError
from trtpoets.core.files import atomic_file, atomic_folder, locked, sweep_parts, write_bytes, write_json, write_text
from trtpoets.core.own_files import open_folder, open_own, require_no_link, write_own
from trtpoets.core.workspace import Workspace
from trtpoets.onboard.update.releases import Releases
from trtpoets.onboard.update.update_command import Options, update
from trtpoets.pipeline.artefacts import writing
from trtpoets.pipeline.cache import prune_cache
from trtpoets.pipeline.extractors import onnx_in_cache
from trtpoets.train.feature_cache import feature_caches_in, prune_feature_caches

SECRET = "somebody's only copy"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of someone else's, elsewhere."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "thesis.txt").write_text(SECRET)
    return folder


def as_before(foreign: Path) -> bool:
    """Whether nothing was added to the folder, taken from it, or changed."""
    files = sorted(path.name for path in foreign.rglob("*"))
    return files == ["thesis.txt"] and (foreign / "thesis.txt").read_text() == SECRET


def put(kind: str, path: Path, foreign: Path) -> None:
    """Something that is not trtpoets's at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    thesis = foreign / "thesis.txt"
    if kind == "link":
        path.symlink_to(thesis)
    elif kind == "link to a folder":
        path.symlink_to(foreign)
    elif kind == "link to nothing":
        path.symlink_to(foreign / "new.txt")
    elif kind == "hard link":
        path.hardlink_to(thesis)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "notes":
        path.write_text(SECRET)
    elif kind == "device":
        path.symlink_to("/dev/full")


KINDS = ["link", "link to a folder", "link to nothing", "hard link", "pipe", "socket", "folder", "notes", "device"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *((kind, "TP1053") for kind in ("link", "link to a folder", "link to nothing", "device")),
        ("hard link", "TP1052"),
        *((kind, "TP1054") for kind in ("pipe", "socket", "folder")),
        ("notes", "TP1024"),
    ],
)
def test_a_lock_with_another_content(kind: str, code: str, tmp_path: Path, foreign: Path) -> None:
    space = Workspace(tmp_path / "engines", "flowers")
    put(kind, space.lock, foreign)
    with raises(StorageFailed, code, space.lock) as caught, writing(space):
        pass
    assert caught.value.hint
    assert as_before(foreign)
    if kind == "notes":
        assert space.lock.read_text() == SECRET


@pytest.mark.parametrize("content", ["", "123", "4194304", "\0\0\0"])
def test_a_lock_as_it_was_left(content: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(content)
    with locked(tmp_path / "lock", "flowers"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_another_users_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock belongs to a third user, neither this one nor the owner of the folder."""
    (tmp_path / "lock").write_text("")
    owner, third = os.getuid(), os.getuid() + 1
    real = os.fstat

    def changed_owner(handle: int) -> os.stat_result:
        result = list(real(handle))
        result[4] = third if os.path.samestat(real(handle), (tmp_path / "lock").stat()) else owner
        return os.stat_result(result)

    monkeypatch.setattr(os, "fstat", changed_owner)
    with raises(StorageFailed, "TP1051", "lock", third):
        locked(tmp_path / "lock", "flowers").__enter__()
    # A disk without owners: SMB, FAT, NFS that makes everybody nobody.
    monkeypatch.setattr(os, "geteuid", lambda: third + 1)
    monkeypatch.setattr(os, "fstat", real)
    with locked(tmp_path / "lock", "flowers"):
        pass


def test_engines_that_the_user_has_linked(tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    (tmp_path / "engines").symlink_to(tmp_path / "big disk")
    space = Workspace(tmp_path / "engines", "flowers")
    with writing(space):
        write_json(space.report, {})
    assert (tmp_path / "big disk" / "flowers" / "report.json").is_file()


@pytest.mark.parametrize("inside", ["", "classifier", "golden", "bundles", "logs", "loadgen"])
def test_a_run_that_is_a_link(inside: str, tmp_path: Path, foreign: Path) -> None:
    (foreign / ".x.part-abcd1234").write_text("swept if this were a run")
    space = Workspace(tmp_path / "engines", "flowers")
    link = space.folder / inside
    put("link to a folder", link, foreign)
    with raises(StorageFailed, "TP1053") as caught, writing(space):
        write_json(space.report, {})
    assert caught.value.hint.endswith(f"rm {link}")
    assert (foreign / ".x.part-abcd1234").is_file()
    (foreign / ".x.part-abcd1234").unlink()
    assert as_before(foreign)


def test_sweeping_takes_only_its_own(tmp_path: Path, foreign: Path) -> None:
    run = tmp_path / "run"
    (run / ".model.part-abcd_123").mkdir(parents=True)
    (run / ".model.part-abcd_123" / "inside").symlink_to(foreign)
    (run / ".model.part-abcd_123.old").mkdir()
    (run / ".a.json.part-12345678").write_text("half")
    (run / ".current.part-4711").symlink_to(foreign)
    (run / ".0123.part-old").mkdir()
    kept = [".notes.part-two.txt", ".part-abc", "x.part-abcd1234", ".a.part-ABCDEFGH", ".a.part-abcd1234.bak"]
    for name in kept:
        (run / name).write_text(SECRET)
    sweep_parts(run)
    assert sorted(path.name for path in run.iterdir()) == sorted(kept)
    assert as_before(foreign)


def test_sweeping_goes_through_no_link(tmp_path: Path, foreign: Path) -> None:
    (tmp_path / "link").symlink_to(foreign)
    (foreign / ".a.part-12345678").write_text("another program's")
    sweep_parts(tmp_path / "link")
    sweep_parts(tmp_path / "absent")
    assert (foreign / ".a.part-12345678").is_file()


def test_sweeping_leaves_other_users_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a.part-12345678").write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(os, "fstat", lambda handle: os.stat_result([0] * 4 + [os.getuid() + 1] + [0] * 5))
    sweep_parts(tmp_path)
    assert (tmp_path / ".a.part-12345678").is_file()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "hard link", "device"])
def test_what_is_replaced_whole_replaces_the_link(kind: str, tmp_path: Path, foreign: Path) -> None:
    put(kind, tmp_path / "report.json", foreign)
    write_text(tmp_path / "report.json", "new")
    assert (tmp_path / "report.json").read_text() == "new" and not (tmp_path / "report.json").is_symlink()
    assert as_before(foreign)


def test_a_folder_is_not_replaced_where_a_link_is(tmp_path: Path, foreign: Path) -> None:
    put("link to a folder", tmp_path / "classifier", foreign)
    with raises(StorageFailed, "TP1053"), atomic_folder(tmp_path / "classifier"):
        raise AssertionError("nothing is to be written")
    assert as_before(foreign) and [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_temporary_file_that_was_replaced(kind: str, tmp_path: Path, foreign: Path) -> None:
    with pytest.raises(StorageFailed), atomic_file(tmp_path / "a.engine") as part:
        part.unlink()
        put(kind, part, foreign)
        write_own(part, b"engine")
    with pytest.raises(StorageFailed), atomic_file(tmp_path / "a.engine") as part:
        part.unlink()
        put(kind, part, foreign)
    assert as_before(foreign)
    assert not (tmp_path / "a.engine").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_files_are_opened_for_this_process_alone(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"12")
    for handle in (open_own(tmp_path / "a", os.O_RDONLY), open_folder(tmp_path)):
        assert not os.get_inheritable(handle)
        os.close(handle)
    require_no_link(tmp_path / "absent", tmp_path / "a")


# Stores


@pytest.mark.parametrize("kind", ["link to a folder", "link to nothing", "notes", "pipe"])
def test_a_store_that_is_not_a_folder(kind: str, tmp_path: Path, foreign: Path) -> None:
    put(kind, opened(tmp_path / "cache").path, foreign)
    with pytest.raises(StorageFailed):
        opened(tmp_path / "cache").append(names(1), rows_of(1))
    assert feature_caches_in(tmp_path / "cache") == prune_feature_caches(tmp_path / "cache") == ()
    assert as_before(foreign)
    assert os.path.lexists(opened(tmp_path / "cache").path)


@pytest.mark.parametrize("file", ["index", "features", "lock"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "hard link", "pipe", "folder"])
def test_an_entry_of_a_store_that_is_not_a_file(kind: str, file: str, tmp_path: Path, foreign: Path) -> None:
    opened(tmp_path).append(names(1), rows_of(1))
    store = opened(tmp_path).path
    path = tmp_path / f".{store.name}.lock" if file == "lock" else store / file
    path.unlink()
    put(kind, path, foreign)
    with pytest.raises(StorageFailed):
        opened(tmp_path).append(names(2), rows_of(2))
    if file != "lock":
        assert opened(tmp_path).path.is_dir()
    assert as_before(foreign)


def test_reading_a_store_through_a_link_is_refused(tmp_path: Path, foreign: Path) -> None:
    opened(tmp_path / "theirs").append(names(1), rows_of(1))
    (tmp_path / "ours").mkdir()
    opened(tmp_path / "ours").path.symlink_to(opened(tmp_path / "theirs").path)
    with raises(StorageFailed, "TP1053"):
        opened(tmp_path / "ours").fill(names(1), rows_of(1))
    assert prune_feature_caches(tmp_path / "ours") == ()
    assert len(feature_caches_in(tmp_path / "theirs")) == 1


def test_a_cache_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRTPOETS_CACHE may be a link, but not the folder that trtpoets creates in it."""
    (tmp_path / "big disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "big disk")
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    opened(tmp_path / "cache" / "bottlenecks").append(names(1), rows_of(1))
    assert len(prune_cache()) == 1
    (tmp_path / "cache" / "bottlenecks").rename(tmp_path / "elsewhere")
    opened(tmp_path / "elsewhere").append(names(1), rows_of(1))
    (tmp_path / "cache" / "bottlenecks").symlink_to(tmp_path / "elsewhere")
    with raises(StorageFailed, "TP1053"):
        prune_cache()
    assert len(feature_caches_in(tmp_path / "elsewhere")) == 1


def test_exported_bases_go_through_no_link(tmp_path: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    put("link to a folder", tmp_path / "cache" / "extractors", foreign)
    backbone = SimpleNamespace(name="mobilenet", preprocess=SimpleNamespace(hash="0123"))
    network = SimpleNamespace(backbone=backbone, model=None, weights_id="4567")
    with raises(StorageFailed, "TP1053"):
        onnx_in_cache(network)  # type: ignore[arg-type]
    assert as_before(foreign)


def foreign_index(folder: Path) -> None:
    """Another program's folder with an index of JSON that says nearly the same."""
    folder.mkdir()
    (folder / "index").write_text(json.dumps({"format": 1, "key": "mine", "width": 7}) + "\n")
    (folder / "features").write_text("mine too")
    (folder / "thesis.txt").write_text(SECRET)


def renamed(cache: Path) -> None:
    opened(cache).append(names(1), rows_of(1))
    opened(cache).path.rename(cache / "my copy of a store")


def with_notes(cache: Path) -> None:
    opened(cache).append(names(1), rows_of(1))
    (opened(cache).path / "notes.txt").write_text(SECRET)


def with_a_linked_file(cache: Path) -> None:
    opened(cache).append(names(1), rows_of(1))
    (opened(cache).path / "features").rename(cache / "features")
    (opened(cache).path / "features").symlink_to(cache / "features")


@pytest.mark.parametrize(
    ("make", "pruned", "left"),
    [
        (lambda cache: foreign_index(cache / "photos"), 0, {"photos/index", "photos/features", "photos/thesis.txt"}),
        (lambda cache: foreign_index(cache / ("a" * 32)), 0, {f"{'a' * 32}/thesis.txt", f"{'a' * 32}/index"}),
        (renamed, 0, {"my copy of a store/index", "my copy of a store/features"}),
        (with_notes, 1, {f"{opened(Path('x')).path.name}/notes.txt"}),
        (with_a_linked_file, 0, {"features"}),
        (lambda cache: (cache / "index").write_text(SECRET), 0, {"index"}),
    ],
)
def test_pruning_deletes_only_stores(
    make: Callable[[Path], object], pruned: int, left: set[str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    make(cache)
    assert len(prune_feature_caches(cache)) == pruned
    assert left <= {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}


# On a device


def released(tmp_path: Path, root: Path) -> Releases:
    update(small_bundle(tmp_path / "old", "old"), root, Options(health_seconds=0))
    return Releases(root)


def test_a_device_whose_root_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert released(tmp_path, tmp_path / "root").current


@pytest.mark.parametrize("place", ["releases", ".update.lock"])
def test_links_in_a_devices_root(place: str, tmp_path: Path, foreign: Path) -> None:
    root = tmp_path / "root"
    put("link to a folder" if place == "releases" else "link", root / place, foreign)
    with raises(TrtPoetsError, "TP1053"):
        released(tmp_path, root)
    assert as_before(foreign)


def test_pruning_releases_deletes_only_releases(tmp_path: Path, foreign: Path) -> None:
    releases = released(tmp_path, tmp_path / "root")
    with releases.writing():
        old = "0" * 16
        (releases.folder / old).mkdir()
        (releases.folder / old / "manifest.json").write_text("{}")
        (releases.folder / ("1" * 16)).symlink_to(foreign)
        (releases.folder / ("2" * 16)).mkdir()
        (releases.folder / ("2" * 16) / "thesis.txt").write_text(SECRET)
        (releases.folder / "backup").mkdir()
        assert releases.prune() == (old,)
    assert as_before(foreign)
    assert {path.name for path in releases.folder.iterdir()} == {releases.current, "1" * 16, "2" * 16, "backup"}


def test_a_release_whose_built_folder_is_a_link(tmp_path: Path, foreign: Path) -> None:
    releases = released(tmp_path, tmp_path / "root")
    built = releases.path(releases.current) / "built"
    for path in built.iterdir():
        path.unlink()
    built.rmdir()
    built.symlink_to(foreign)
    with pytest.raises(TrtPoetsError):
        update(small_bundle(tmp_path / "again", "old"), tmp_path / "root", Options(health_seconds=0))
    assert as_before(foreign)
