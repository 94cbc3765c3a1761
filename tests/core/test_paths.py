"""~ in paths, and the cache folder if the default one can't be used."""

from __future__ import annotations

import inspect
import logging
import os
import tempfile
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import trtpoets
from tests.support.errors import raises
from trtpoets.cli.main import app
from trtpoets.core import paths
from trtpoets.core.errors import BadInput, StorageFailed, TrtPoetsError
from trtpoets.core.files import atomic_file, chosen_by, temporary_file, temporary_folder
from trtpoets.core.paths import cache_root, user_path
from trtpoets.onboard.bundle_options import parser
from trtpoets.onboard.classify.sources import source_of

NOBODY = "~no-such-user-of-trtpoets/x"

FUNCTIONS = [name for name in trtpoets.__all__ if name != "TrtPoetsError"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_home_is_expanded(home: Path) -> None:
    assert user_path("~/x") == home / "x" and user_path(Path("~/x")) == home / "x"
    assert user_path("a/~/x") == Path("a/~/x") and user_path("./~") == Path("~")
    (home / "~literal").touch()
    assert user_path("~literal") == Path("~literal"), "a file of that name is meant"
    with raises(BadInput, "TP1055", "no user 'no-such-user-of-trtpoets'"):
        user_path(NOBODY)


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    with raises(BadInput, "TP1055", "HOME is not set"):
        user_path("~/x")


def is_path(hint: Any) -> bool:
    return hint is Path or any(map(is_path, get_args(hint)))


def named(name: str) -> dict[str, Any]:
    """What a function is called with when only the paths matter."""
    some: dict[str, Any] = {
        "model": "nothing",
        "name": "nothing",
        "photos": "photos",
        "backbone": "mobilenet_v2",
        "file": "x",
    }
    parameters = inspect.signature(getattr(trtpoets, name)).parameters
    needed = {
        key: some[key] for key, parameter in parameters.items() if parameter.default is parameter.empty and key in some
    }
    if name == "label":
        needed["photos"] = ["x.png"]
    more: dict[str, dict[str, Any]] = {"bundle": {"target": "jetson"}, "demo": {"quick": True}}
    return {**needed, **more.get(name, {})}


PATHS = [
    (name, key)
    for name in FUNCTIONS
    for key, parameter in inspect.signature(getattr(trtpoets, name)).parameters.items()
    if "Path" in str(parameter.annotation)
]


@pytest.mark.parametrize(("name", "key"), PATHS)
def test_every_path_of_a_public_function(name: str, key: str, home: Path) -> None:
    """Each function reports the unknown home folder, so each one expands ~."""
    if (name, key) == ("demo", "photos"):
        pytest.importorskip("elpv_dataset")
    given: Any = [NOBODY] if key == "photos" and name in ("label", "label_stream") else NOBODY
    with raises(BadInput, "TP1055", "no user 'no-such-user-of-trtpoets'"):
        called = getattr(trtpoets, name)(**{**named(name), key: given})
        if inspect.isgenerator(called):
            next(called)


@pytest.mark.parametrize(("name", "model"), [("build", f"{NOBODY}.onnx"), ("label", f"{NOBODY}.engine")])
def test_a_file_in_the_place_of_a_name(name: str, model: str, home: Path) -> None:
    with raises(BadInput, "TP1055", "no user"):
        getattr(trtpoets, name)(**{**named(name), "model": model})


@pytest.mark.parametrize("info", app.registered_commands, ids=lambda info: str(info.callback.__name__))
def test_every_path_of_the_program(info: Any, home: Path) -> None:
    function = info.callback
    hints = get_type_hints(function, include_extras=False)
    names = [name for name, hint in hints.items() if is_path(hint)]
    for name in names:
        with raises(BadInput, "TP1055", "no user"):
            function(**{name: Path(NOBODY)})
        with raises(BadInput, "TP1055", "no user"):
            function(**{name: [Path(NOBODY)]})


def test_every_path_of_a_bundles_program(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = parser().parse_args(["update", "--root", "~/releases"])
    assert given.root == home / "releases"
    assert parser().parse_args(["bench", "--compare", "~/b.json"]).compare == home / "b.json"
    assert parser().parse_args(["install", "--venv", "~/v"]).venv == home / "v"
    with pytest.raises(SystemExit):
        parser().parse_args(["update", "--root", NOBODY])
    assert "there is no user 'no-such-user-of-trtpoets' here" in capsys.readouterr().err
    (home / "photo.png").touch()
    assert source_of("~/photo.png").path == home / "photo.png"


# The cache


@pytest.fixture
def no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing that names a cache folder, and temporary files in a folder of the test's."""
    for name in ("TRTPOETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "_warned", set())
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary


def test_the_cache_where_home_can_not_be_written(
    no_choice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        result = cache_root()
        assert cache_root() == result
    assert result == no_choice / f"trtpoets-cache-{os.getuid()}" and result.stat().st_mode & 0o777 == 0o700
    (message,) = [record.getMessage() for record in caplog.records]
    assert "can't be written" in message and "set TRTPOETS_CACHE" in message and str(result) in message


def test_the_cache_without_a_home(no_choice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    assert cache_root().parent == no_choice


def test_a_temporary_cache_is_private(no_choice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    shared = no_choice / f"trtpoets-cache-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    assert cache_root() != shared and cache_root().stat().st_mode & 0o077 == 0


def test_the_cache_that_was_chosen(no_choice: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == home / ".cache" / "trtpoets"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_root() == home / "xdg" / "trtpoets"
    monkeypatch.setenv("TRTPOETS_CACHE", "~/mine")
    assert cache_root() == home / "mine"


# What an error of writing names


def failure_at(path: Path) -> TrtPoetsError:
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_text("a file where a folder should be")
    with pytest.raises(StorageFailed) as caught, atomic_file(path):
        pass
    return caught.value


def test_an_error_names_the_setting_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTPOETS_CACHE", str(tmp_path / "cache"))
    assert failure_at(tmp_path / "engines" / "a" / "x").hint.endswith("--engines DIR")
    assert failure_at(tmp_path / "cache" / "b" / "x").hint.endswith("set TRTPOETS_CACHE")
    with chosen_by(tmp_path / "out", "--out FOLDER"):
        assert failure_at(tmp_path / "out" / "c" / "x").hint.endswith("--out FOLDER")
        assert failure_at(tmp_path / "engines" / "d" / "x").hint.endswith("--engines DIR")


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(StorageFailed) as caught, temporary_folder():
        pass
    assert "TMPDIR" in caught.value.hint
    with raises(StorageFailed, "TP1058"):
        temporary_file()


def test_a_full_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(StorageFailed) as caught, temporary_folder():
        pass
    assert "set TMPDIR" in caught.value.hint
