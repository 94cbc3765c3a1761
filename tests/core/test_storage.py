"""Errors of local and network disks in every call: a message that names the path, and no damaged files."""

from __future__ import annotations

import errno
import faulthandler
import io
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.failing_disk import CALLS, ERRORS, failing
from tests.onboard.update.update_kills import small_bundle
from tests.support.errors import raises
from tests.train.test_feature_cache import names, opened, rows_of
from trtpoets.core import program
from trtpoets.core.errors import Busy, StorageFailed, TrtPoetsError
from trtpoets.core.files import (
    atomic_file,
    atomic_folder,
    read_json,
    sha256_of_folder,
    sync,
    temporary_file,
    temporary_folder,
    write_bytes,
    write_json,
)
from trtpoets.core.program import run_program
from trtpoets.core.serialization import to_json
from trtpoets.core.storage import error_in_text, storage_errors, storage_failure, stray_failure
from trtpoets.core.workspace import Workspace, open_card, seal_card
from trtpoets.device.build import build_child
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.update.releases import Releases
from trtpoets.pipeline.artefacts import writing
from trtpoets.train.feature_cache import feature_caches_in, prune_feature_caches

Operation = Callable[[Path], object]


def reported_errors(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[TrtPoetsError]:
    """Return the errors that a program reports when it runs `work`. A bug is raised."""
    calls: list[TrtPoetsError] = []
    for name in ("prepare_streams", "interrupt_on_signals"):
        monkeypatch.setattr(program, name, lambda: None)

    def worked() -> int:
        work()
        return 0

    assert run_program(worked, calls.append) == len(calls)
    return calls


def a_run(folder: Path) -> None:
    space = Workspace(folder / "engines", "flowers")
    with writing(space):
        write_bytes(space.folder / "fp32.onnx", b"network")
        seal_card(space.folder / "fp32.onnx.json", key="k", files=[space.folder / "fp32.onnx"], details={})
        with atomic_folder(space.classifier) as part:
            (part / "model.json").write_bytes(b"{}")
        open_card(space.folder / "fp32.onnx.json", "k")
        sha256_of_folder(space.classifier)
        with atomic_file(space.report) as part:
            part.write_bytes(b"{}")
        read_json(space.report)


def a_store(folder: Path) -> None:
    opened(folder / "cache").append(names(1, 2), rows_of(1, 2))
    opened(folder / "cache").fill(names(1, 2), rows_of(1, 2))


def pruning(folder: Path) -> None:
    prune_feature_caches(folder / "cache")
    feature_caches_in(folder / "cache")


def temporary(folder: Path) -> None:
    with temporary_file() as stream:
        stream.write(b"x")
    with temporary_folder() as inside:
        (inside / "a").write_bytes(b"x")


BUNDLES: list[Bundle] = []


def releases(folder: Path) -> None:
    there = Releases(folder / "root")
    with there.writing():
        there.unsettled()
        for bundle in BUNDLES:
            there.undo(there.switch(there.add(bundle)))
            there.switch(bundle.identity[:16])
            there.settle()
        there.prune()


OPERATIONS: list[Operation] = [a_run, a_store, pruning, temporary, releases]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(call: str, operation: Operation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    if operation is releases:
        BUNDLES[:] = [small_bundle(tmp_path / "bundles" / word, word) for word in ("old", "new")]
    for number in ERRORS[:2] if operation is releases else ERRORS:
        folder = tmp_path / errno.errorcode[number]
        folder.mkdir()
        if operation is pruning:
            a_store(folder)

        def fail(number: int = number, folder: Path = folder) -> None:
            with failing(call, number, tmp_path):
                operation(folder)

        for error in reported_errors(fail, monkeypatch):
            assert error.hint
            if isinstance(error, Busy):  # SMB reports a lock that is held as EACCES
                assert call == "flock" and number == errno.EACCES
                continue
            assert str(tmp_path) in error.message, error.message
            assert os.strerror(number) in error.message or "trtpoets" in error.message, error.message
        operation(folder)  # the failure has left nothing that makes the next attempt fail
    logging.getLogger("trtpoets").handlers.clear()


UNABLE = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@pytest.mark.parametrize(
    ("call", "errors"),
    [
        ("fsync", UNABLE),
        ("fchmod", (*UNABLE, errno.EPERM, errno.EACCES)),
        ("chmod", (*UNABLE, errno.EPERM, errno.EACCES)),
        ("flock", (*UNABLE, errno.ENOLCK)),
        ("utime", ERRORS),
    ],
)
def test_operations_that_a_disk_need_not_support(call: str, errors: tuple[int, ...], tmp_path: Path) -> None:
    for number in errors:
        folder = tmp_path / errno.errorcode[number]
        with failing(call, number, tmp_path):
            a_run(folder)
            a_store(folder)
        assert read_json(folder / "engines" / "flowers" / "report.json") == {}


def test_a_disk_that_fails_is_not_taken_for_one_without_fsync(tmp_path: Path) -> None:
    for number in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE):
        with failing("fsync", number, tmp_path), raises(StorageFailed, "TP1085", os.strerror(number)):
            write_json(tmp_path / "a.json", {})
        assert not (tmp_path / "a.json").exists()
        with failing("fsync", number, tmp_path), pytest.raises(OSError, match=os.strerror(number)):
            sync(tmp_path)


def test_a_folder_that_can_not_be_replaced_is_as_it_was(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as part:
        (part / "a").write_text("old")
    renames = 2  # of the old folder, and of the new one
    with (
        failing("replace", errno.EIO, tmp_path, [renames]),
        raises(StorageFailed, "TP1085", "model", "Input/output error"),
        atomic_folder(tmp_path / "model") as part,
    ):
        (part / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "old"


@pytest.mark.parametrize("call", ["replace", "fsync", "write"])
def test_a_file_that_can_not_be_replaced_is_as_it_was(call: str, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", "old")
    with failing(call, errno.EDQUOT, tmp_path), raises(StorageFailed, "TP1085", "Disk quota exceeded") as caught:
        write_json(tmp_path / "a.json", "new")
    assert "free some space" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and read_json(tmp_path / "a.json") == "old"


# Unexpected errors, and errors of libraries


def test_the_file_that_failed_is_named(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "a.jpg"
    error = OSError(errno.EIO, "Input/output error", str(photo))
    result = storage_failure(error, tmp_path / "engines" / "x.json")
    assert result is not None and result.message == f"can't use {photo}: Input/output error"
    stray = stray_failure(error)
    assert stray is not None and stray.message == result.message
    with raises(StorageFailed, "TP1085", "write", "x.json", "Input"), storage_errors(tmp_path / "x.json"):
        raise OSError(errno.EIO, "Input/output error", str(tmp_path / ".x.json.part-1"))


def test_errors_that_are_not_of_a_disk(tmp_path: Path) -> None:
    for error in (BrokenPipeError(errno.EPIPE, ""), OSError("no number"), OSError(errno.EBADF, "")):
        assert storage_failure(error, tmp_path) is None
        assert stray_failure(error) is None
    # These are bugs where no code expects them, and keep their traceback.
    assert stray_failure(FileNotFoundError(errno.ENOENT, "", str(tmp_path))) is None
    assert stray_failure(ConnectionRefusedError(errno.ECONNREFUSED, "")) is None


def test_errors_of_a_disk_in_messages_of_libraries(tmp_path: Path) -> None:
    words = "Unable to synchronously create file (unable to open file: errno = 28, error message = 'No space left')"
    result = storage_failure(OSError(words), tmp_path / "a.keras")
    assert result is not None and "No space left on device" in result.message
    error = error_in_text("{{node x}} /saved_model/variables; Read-only file system")
    assert error is not None and error.errno == errno.EROFS
    assert error_in_text("the graph has a loop") is None


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, "error"), (errno.ENOENT, "bug")])
def test_a_build_whose_disk_fails(number: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> dict[str, object]:
        raise OSError(number, os.strerror(number), "/disk/fp32.onnx")

    answers: list[dict[str, Any]] = []

    @contextmanager
    def replies() -> Iterator[Callable[[Any], None]]:
        yield lambda answer: answers.append(to_json(answer))

    order = json.dumps({"task": "build", "flavour": "rtx", "memory_bytes": 1 << 30})
    monkeypatch.setattr("sys.stdin", io.StringIO(order + "\n"))
    monkeypatch.setattr(build_child, "_TASKS", {"build": build})
    for name in ("limit_memory", "_end_with_parent", "ignore_until_parent_ends"):
        monkeypatch.setattr(build_child, name, lambda *_: None)
    monkeypatch.setattr(build_child, "replies", replies)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(faulthandler, "enable", lambda: None)
    build_child.main()
    (answer,) = answers
    assert list(answer) == [kind]
    if kind == "error":
        assert answer["error"]["kind"] == "StorageFailed" and "/disk/fp32.onnx" in answer["error"]["message"]


# The folder of temporary files


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of TMPDIR, for tests that make it full."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_a_full_tmpdir_is_named(full: Path) -> None:
    reason = "No space left on device"
    with failing("open", errno.ENOSPC, Path("/")), raises(StorageFailed, "TP1058", full, reason) as caught:
        temporary_file()
    assert "export TMPDIR=FOLDER" in caught.value.hint


def test_a_tmpdir_that_fills_up_is_named(full: Path) -> None:
    refused = raises(StorageFailed, "TP1085", f"{full}/", "No space left on device")
    with refused as caught, temporary_folder() as folder, failing("io.open", errno.ENOSPC, full):
        (folder / "network.onnx").write_bytes(b"")
    assert "export TMPDIR=FOLDER" in caught.value.hint and list(full.iterdir()) == []
    with (
        pytest.raises(OSError, match="No such file"),  # an error in another folder is raised as it is
        temporary_folder(),
    ):
        (full.parent / "absent").read_bytes()


def test_a_library_that_fills_tmpdir(full: Path) -> None:
    """Temporary files with Python's names, such as those of TensorFlow's converter."""
    result = stray_failure(OSError(errno.ENOSPC, "No space left on device", str(full / "tmpab12cd34" / "model")))
    assert result is not None and "export TMPDIR=FOLDER" in result.hint and str(full) in result.message


def test_an_unused_tmpdir_is_reported(full: Path, caplog: pytest.LogCaptureFixture) -> None:
    with failing("open", errno.ENOSPC, full):
        temporary_file().close()
        temporary_file().close()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and f"TMPDIR is {full}, which can't be used (No space left on device)" in messages[0]
