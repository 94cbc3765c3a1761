"""Updates of a device: build, test, switch; undone if they fail; killed at every step."""

from __future__ import annotations

import configparser
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.board_bundle import PYTHONS, Board, as_json, paper_bundle, python_3_8
from tests.onboard.update.update_kills import small_bundle
from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed, Busy, GateFailed, MissingArtefact
from trtpoets.core.manifest import write_manifest
from trtpoets.core.types import Precision
from trtpoets.onboard.bundle_options import parser
from trtpoets.onboard.installed_bundle import Bundle, open_bundle
from trtpoets.onboard.update import update_command as update_module
from trtpoets.onboard.update.releases import Releases
from trtpoets.onboard.update.update_command import Options, Updated, recover, rollback, update

REPOSITORY = Path(__file__).parents[3]
QUICK = Options(health_seconds=0)


def word(root: Path) -> str:
    return (root / "current" / "word").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A device whose current release is "old"."""
    update(small_bundle(tmp_path / "old", "old"), tmp_path / "device", QUICK)
    return tmp_path / "device"


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_a_fleets_device_from_bundle_to_bundle(python: str, tmp_path: Path) -> None:
    """The complete programs over the fake TensorRT, with a clock in 1970."""
    board = Board(tmp_path, python)
    board.environment["PAPER_CLOCK"] = "0"
    root = tmp_path / "device"
    board.use(root / "venv")
    old, new = paper_bundle(tmp_path / "old"), paper_bundle(tmp_path / "new", seed=1)
    first = as_json(board.run(old, "trtpoets", "update", "--root", str(root), "--json"))
    assert (first["previous"], first["changed"]) == ("", True)
    board.behave(int8="wrong")
    words = ["update", "--root", str(root), "--json", "--restart", f"echo restarted >> {tmp_path}/restarts"]
    refused = board.run(new, "trtpoets", *words, "--strict")
    assert refused.returncode == 3
    assert "build --strict" in refused.stderr and "[TP7050]" in refused.stderr
    assert as_json(board.run(root / "current", "selftest", "--json"))["runner"] == "tensorrt-int8"
    assert not (tmp_path / "restarts").exists()
    result = board.run(new, "trtpoets", *words)
    assert result.returncode == 0, result.stderr
    assert as_json(result) == {
        "current": open_bundle(new).identity[:16],
        "previous": first["current"],
        "changed": True,
        "pruned": [],
    }
    assert as_json(board.run(root / "current", "selftest", "--json"))["runner"] == "tensorrt-fp16"
    assert (tmp_path / "restarts").read_text() == "restarted\n"
    back = board.run(root / "current", "trtpoets", "rollback", "--root", str(root))
    assert back.stdout.startswith(f"current: {first['current']}\n"), back.stderr
    assert board.run(root / "current", "trtpoets", "recover", "--root", str(root)).returncode == 0


@pytest.mark.slow
def test_killed_at_every_step(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        [python_3_8() or sys.executable, "-m", "tests.onboard.update.update_kills", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    steps = json.loads(result.stdout)
    assert steps["update"] > 20
    assert min(steps.values()) >= 3


def test_a_new_release_beside_the_old(root: Path, tmp_path: Path) -> None:
    old = Releases(root).current
    result = update(small_bundle(tmp_path / "new", "new"), root, QUICK)
    assert (result.previous, result.changed, result.pruned, word(root)) == (old, True, (), "new")
    assert (root / "previous" / "word").read_text() == "old"
    assert (root / "current").is_symlink()
    again = update(open_like(tmp_path / "new"), root, QUICK)
    assert again == Updated(result.current, old, changed=False)
    third = update(small_bundle(tmp_path / "third", "third"), root, QUICK)
    assert third.pruned == (old,)
    assert sorted(path.name for path in (root / "releases").iterdir()) == sorted([result.current, third.current])


def open_like(folder: Path) -> Bundle:
    from trtpoets.core.manifest import check_manifest

    return Bundle(folder, check_manifest(folder), tiny_spec())


def test_a_release_that_fails_its_selftest_is_never_current(root: Path, tmp_path: Path) -> None:
    old = Releases(root).current
    with raises(BuildFailed, "TP7051", "selftest", "code 1", old):
        update(small_bundle(tmp_path / "ill", "ill", ill=True), root, QUICK)
    assert word(root) == "old"


@pytest.mark.slow  # a variant of a release that fails its self-test
def test_a_release_whose_health_check_fails_is_undone(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = Releases(root).current
    health = f"test $(cat {root}/current/word) = old"
    options = Options(restart=f"cat {root}/current/word >> {tmp_path}/restarts", health=health, health_seconds=0)
    with raises(GateFailed, "TP7048", old):
        update(small_bundle(tmp_path / "new", "new"), root, options)
    assert word(root) == "old"
    assert Releases(root).previous == ""
    assert (tmp_path / "restarts").read_text() == "newold"
    assert not (root / "update.json").exists()


def test_a_health_check_that_hangs_is_a_failure(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(update_module, "_MIN_SECONDS", 0.2)
    with caplog.at_level(logging.WARNING), raises(GateFailed, "TP7048"):
        update(small_bundle(tmp_path / "new", "new"), root, Options(health="sleep 60; true", health_seconds=0))
    assert "sleep 60; true took longer than 0.2 s" in caplog.text
    assert word(root) == "old"


@pytest.mark.slow  # a variant of a health check that passes
def test_a_health_check_is_repeated_until_it_passes(root: Path, tmp_path: Path) -> None:
    health = f"test -e {tmp_path}/up || {{ touch {tmp_path}/up; false; }}"
    assert update(small_bundle(tmp_path / "new", "new"), root, Options(health=health, health_seconds=20)).changed
    assert word(root) == "new"


def test_the_first_release_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    with raises(GateFailed, "TP7048", "nothing"):
        update(small_bundle(tmp_path / "new", "new"), tmp_path / "device", Options(health="false", health_seconds=0))
    assert not (tmp_path / "device" / "current").is_symlink()
    with raises(MissingArtefact, "TP7046", "current"):
        recover(tmp_path / "device")
    with raises(MissingArtefact, "TP7046", "previous"):
        rollback(tmp_path / "device")


def test_child_processes_of_a_killed_update_end(root: Path, tmp_path: Path) -> None:
    """A build that continued would lock the release for the next update."""
    new = small_bundle(tmp_path / "new", "new")
    (new.folder / "manifest.json").unlink()
    (new.folder / "trtpoets").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    manifest = write_manifest(
        new.folder, name="tiny", target="jetson", version="0.1.0", model="0" * 64, order=[Precision.FP32]
    )
    child = os.fork()
    if not child:
        update(replace(new, manifest=manifest), root, QUICK)
        os._exit(0)
    pid = tmp_path / "pid"
    while not (pid.is_file() and pid.read_text().strip()):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    status = Path("/proc", pid.read_text().strip(), "status")
    for _ in range(500):
        if not status.exists() or "zombie" in status.read_text():
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the build goes on")


def test_two_updates_at_once(root: Path, tmp_path: Path) -> None:
    with Releases(root).writing(), raises(Busy, "TP1023", os.getpid(), "the releases in"):
        update(small_bundle(tmp_path / "new", "new"), root, QUICK)
    assert word(root) == "old"


def test_rollback_goes_there_and_back(root: Path, tmp_path: Path) -> None:
    update(small_bundle(tmp_path / "new", "new"), root, QUICK)
    rollback(root)
    assert word(root) == "old"
    rollback(root)
    assert word(root) == "new"
    (root / "previous" / "built" / "engine").unlink()
    (root / "previous" / "trtpoets").write_text("#!/bin/sh\nexit 3\n")
    with raises(GateFailed, "TP7050", "build", "code 3"):
        rollback(root)
    assert word(root) == "new"


def test_boot_after_a_switch_that_was_cut_short(root: Path, tmp_path: Path) -> None:
    update(small_bundle(tmp_path / "new", "new"), root, QUICK)
    releases = Releases(root)
    assert recover(root).changed is False
    with releases.writing():
        releases.switch(releases.previous)
    assert recover(root).changed is True
    assert word(root) == "old"
    with releases.writing():
        releases.switch(releases.previous)
    (root / "current" / "built" / "engine").unlink()  # the new release does not work
    result = recover(root)
    assert (result.changed, word(root)) == (True, "old")


@pytest.mark.slow  # two updates
def test_a_release_that_was_damaged_is_copied_again(root: Path, tmp_path: Path) -> None:
    update(small_bundle(tmp_path / "new", "new"), root, QUICK)
    (root / "current" / "word").write_text("rot")
    (root / "current" / "trtpoets").write_text("#!/bin/sh\nexit 1\n")
    assert update(open_like(tmp_path / "new"), root, QUICK).changed is False
    assert word(root) == "new"
    assert (root / "previous" / "word").read_text() == "old"


def test_folders_that_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with raises(BadInput, "TP7044", "current"):
        update(small_bundle(tmp_path / "new", "new"), tmp_path, QUICK)
    (tmp_path / "current").rmdir()
    (tmp_path / "update.json").write_text("[]")
    with raises(BadArtefact, "TP7045", "update.json"):
        recover(tmp_path)


# Many devices

FILES = REPOSITORY / "trtpoets" / "onboard" / "files"


def fleet(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run fleet.sh with an ssh that runs the command here; $HOST is the name of the host."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir(exist_ok=True)
    ssh.write_text(
        '#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\n'
        '[ "$1" = -- ] || exit 254\nHOST=$2; export HOST\nshift\n'
        '[ "$HOST" != down ] || exit 255\nexec sh -c "$2"\n'
    )
    ssh.chmod(0o755)
    environment = {**os.environ, "PATH": f"{ssh.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    command = ["sh", str(FILES / "fleet.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """The archive of a bundle whose program records its arguments, and fails on the host "ill"."""
    folder = tmp_path / "it's-jetson"
    folder.mkdir()
    (folder / "trtpoets").write_text(
        f'#!/bin/sh\necho "$HOST" "$@" >> {tmp_path}/calls\n[ "$HOST" != ill ] || exit 1\ncd "$(dirname "$0")"\n'
        f"if [ -e built/venv ]; then readlink built/venv > {tmp_path}/venv-seen; fi\n"
    )
    (folder / "trtpoets").chmod(0o755)
    archive = tmp_path / "it.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, folder.name], check=True)
    return archive


def test_a_fleet(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "ro ot's"
    words = ["--", "--restart", "echo 'it is' up"]
    result = fleet(tmp_path, str(packed), str(root), "one", "two", *words)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{host} update --root {root} --restart echo 'it is' up" for host in ("one", "two")
    ]
    assert not (tmp_path / "venv-seen").exists()
    (root / "venv").mkdir(parents=True)
    assert fleet(tmp_path, str(packed), str(root), "one").returncode == 0
    assert (tmp_path / "venv-seen").read_text() == f"{root}/venv\n"
    assert not list(tmp_path.glob("tmp.*")), "what was unpacked is still there"


def test_names_of_hosts_are_passed_unchanged(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host name is expanded, split or read as an option of ssh; at least one is needed."""
    monkeypatch.chdir(tmp_path)
    hosts = ["*", "-oProxyCommand=x", "a b", "$HOME"]
    result = fleet(tmp_path, str(packed), str(tmp_path / "root"), *hosts, "--", "--keep", "*")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{host} update --root {tmp_path}/root --keep *" for host in hosts
    ]
    assert [line for line in result.stderr.splitlines() if line.endswith("updated")] == [
        f"== {host}: updated" for host in hosts
    ]
    nobody = fleet(tmp_path, str(packed), str(tmp_path / "root"), "--", "--restart")
    assert (nobody.returncode, nobody.stderr) == (2, "Error: no host is named\n")


def test_a_fleet_stops_at_the_first_that_fails(packed: Path, tmp_path: Path) -> None:
    result = fleet(tmp_path, str(packed), str(tmp_path / "root"), "one", "ill", "two")
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, "Error: not updated: ill")
    assert [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()] == ["one", "ill"]
    result = fleet(tmp_path, "-k", str(packed), str(tmp_path / "root"), "down", "ill", "two")
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, "Error: not updated: down ill")
    assert "== two: updated" in result.stderr


def test_a_fleet_that_is_called_wrongly(packed: Path, tmp_path: Path) -> None:
    usage = fleet(tmp_path, str(packed))
    assert usage.returncode == 2
    assert "fleet.sh [-k] [-s SHA256] ARCHIVE ROOT HOST..." in usage.stderr
    assert fleet(tmp_path, "none.tar", "/root", "host").returncode == 1
    packed.write_bytes(packed.read_bytes()[:50])
    assert fleet(tmp_path, str(packed), str(tmp_path / "root"), "one").returncode == 1
    assert not (tmp_path / "calls").exists()


def test_the_unit_of_systemd(tmp_path: Path) -> None:
    text = (FILES / "trtpoets.service").read_text()
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string(text)
    assert unit["Service"]["ExecStart"].startswith("/opt/flowers/current/classify camera")
    assert unit["Service"]["ExecStartPre"].endswith("trtpoets recover --root /opt/flowers")
    service = unit["Service"]
    # nvarguscamerasrc connects to /tmp/argus_socket (as in `docker run -v /tmp/argus_socket:/tmp/argus_socket`).
    assert service.get("PrivateTmp", "no") == "no" and "InaccessiblePaths" not in service
    assert "/tmp" in service["ReadWritePaths"].split() or service.get("ProtectSystem") != "strict"
    assert "PrivateDevices" not in service
    assert set(service["SupplementaryGroups"].split()) >= {"video", "render"}
    assert "nvargus-daemon.service" in unit["Unit"]["After"].split()
    words = unit["Service"]["ExecStart"].split()[1:]
    given = parser().parse_args(["classify", *words])
    assert (given.sources, given.patience) == (["camera"], 60.0)
    if shutil.which("systemd-analyze"):
        (tmp_path / "flowers.service").write_text(
            text.replace("/opt/flowers/current/classify", "/bin/true").replace(
                "/opt/flowers/current/trtpoets", "/bin/true"
            )
        )
        result = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / "flowers.service")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "flowers.service" not in result.stderr, result.stderr
