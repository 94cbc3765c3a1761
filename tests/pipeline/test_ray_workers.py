"""Ray as the driver of bottlenecks: the same bytes, on a real local cluster too."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.conftest import small_config
from tests.support.errors import raises
from tests.support.photos import photo_folder
from trtpoets import __version__
from trtpoets.core.errors import BadInput, MissingDependency, RunFailed
from trtpoets.pipeline.bottlenecks import bottlenecks
from trtpoets.pipeline.extractors import Device
from trtpoets.pipeline.race import race
from trtpoets.pipeline.ray_workers import (
    ChosenWorkers,
    NodeVersions,
    RayWorkers,
    require_equal_nodes,
    require_workers,
    workers_named,
)
from trtpoets.pipeline.retrain import RetrainConfig, retrain
from trtpoets.pipeline.sweep import sweep

ROOT = Path(__file__).parent.parent.parent


def test_this_process_is_the_default(tmp_path: Path) -> None:
    with workers_named("", tmp_path) as workers:
        assert workers is None


@pytest.mark.parametrize(
    "name",
    ["dask", "http://head:10001", "RAY", "ray://", "ray://head", "ray://:10001", "ray://head:x", "ray://h:99999"],
)
def test_other_workers_are_refused(name: str, tmp_path: Path) -> None:
    with raises(BadInput, "TP8320", repr(name)), workers_named(name, tmp_path):
        pass
    with raises(BadInput, "TP8320", repr(name)):
        require_workers(name)


def test_workers_compute_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    assert ChosenWorkers("", Device.GPU).device is Device.GPU
    assert ChosenWorkers("ray", Device.AUTO).device is Device.CPU
    with raises(BadInput, "TP8327", "ray://head:10001"):
        ChosenWorkers("ray://head:10001", Device.GPU)
    with raises(BadInput, "TP8320", "dask"):
        ChosenWorkers("dask", Device.AUTO)


def test_workers_are_reached_for_once_and_not_before_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("trtpoets.pipeline.ray_workers.require_workers", asked.append)
    monkeypatch.setattr("trtpoets.pipeline.ray_workers.workers_named", lambda *_: nullcontext())
    workers = ChosenWorkers("ray://head:10001", Device.AUTO)
    assert asked == []
    workers.require()
    for _ in range(2):
        with workers.connected(tmp_path):
            assert asked == ["ray://head:10001"]


COMMANDS: list[Callable[..., object]] = [
    bottlenecks,
    lambda photos, **options: retrain(photos, "mine", **options),
    lambda photos, **options: race(photos, "mine", **options),
    lambda photos, **options: sweep(photos, "mine", **options),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_workers_are_checked_before_photos_are_read(
    command: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtpoets.train.folders.photo_files._check", lambda *_: pytest.fail("a photo was read"))
    photos = photo_folder(tmp_path / "photos", {"roses": 2, "tulips": 2})
    monkeypatch.chdir(tmp_path)
    without_proxy(monkeypatch)
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with raises(BadInput, "TP8320", "'dask'"):
        command(photos, workers="dask")
    with raises(BadInput, "TP8327", "ray"):
        command(photos, config=RetrainConfig(device=Device.GPU), workers="ray")
    closed = closed_cluster()
    with raises(BadInput, "TP8328", closed):
        command(photos, workers=closed)


def test_a_result_that_is_up_to_date_needs_no_cluster(
    exported: Path, small_photos: Path, small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that can't be read is tried by each command, and does not count as work."""
    without_proxy(monkeypatch)
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr("trtpoets.train.folders.readings._SETTLED_NS", 0)
    photos = Path(shutil.copytree(small_photos, tmp_path / "photos"))
    (photos / "ant" / "broken.jpg").write_bytes(b"no photo")
    engines = Path(shutil.copytree(exported, tmp_path / "engines"))
    config, closed = small_config(small_weights).retrain, closed_cluster()
    trained = retrain(photos, "small", config, engines=engines)
    monkeypatch.setattr("trtpoets.pipeline.retrain.network_from_backbone", lambda *_: pytest.fail("it was computed"))
    assert retrain(photos, "small", config, engines=engines, workers=closed) == trained
    other = replace(config, head=replace(config.head, steps=50))
    with raises(BadInput, "TP8328", closed):
        retrain(photos, "small", other, engines=engines, workers=closed)
    read: list[Path] = []
    monkeypatch.setattr("trtpoets.train.folders.photo_files._check", lambda _, path: read.append(path))
    with raises(BadInput, "TP8328", closed):
        retrain(photos, "small", config, engines=engines, workers=closed, force=True)
    shutil.copy(next((photos / "ant").iterdir()), photos / "ant" / "new.jpg")
    with raises(BadInput, "TP8328", closed):
        retrain(photos, "small", config, engines=engines, workers=closed)
    assert read == []


def without_proxy(patch: pytest.MonkeyPatch) -> None:
    for proxy in ("grpc_proxy", "https_proxy", "http_proxy"):
        patch.delenv(proxy, raising=False)


def closed_cluster() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return f"ray://127.0.0.1:{port}"


def test_a_cluster_that_answers_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_workers(f"ray://127.0.0.1:{server.getsockname()[1]}")
    require_workers("ray")
    require_workers("")


@pytest.mark.parametrize("aborted", [2, 3])
def test_a_connection_that_the_cluster_aborts_is_tried_three_times(
    aborted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def init(name: str, **_: object) -> None:
        calls.append(name)
        if calls.count(name) <= aborted:
            raise ConnectionAbortedError("Initialization failure from server")

    stub = ModuleType("ray")
    monkeypatch.setattr(stub, "is_initialized", lambda: False, raising=False)
    monkeypatch.setattr(stub, "init", init, raising=False)
    monkeypatch.setattr(stub, "shutdown", lambda: calls.append("shutdown"), raising=False)
    monkeypatch.setitem(sys.modules, "ray", stub)
    monkeypatch.setattr("trtpoets.pipeline.ray_workers._versions_of_nodes", lambda *_: [])
    monkeypatch.setattr("trtpoets.pipeline.ray_workers.require_equal_nodes", lambda *_: None)
    cluster = "ray://127.0.0.1:9"
    expected = raises(BadInput, "TP8323", cluster, "Initialization failure") if aborted == 3 else nullcontext()
    with expected, workers_named(cluster, tmp_path):
        pass
    assert calls == [cluster, "shutdown"] * 3


@pytest.mark.parametrize("kind", [Exception, RuntimeError, ConnectionError, TimeoutError])
@pytest.mark.parametrize("name", ["ray", "ray://127.0.0.1:9"])
def test_ray_that_does_not_start_is_refused_with_its_reason(
    kind: type[Exception], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    class Ray(ModuleType):
        def is_initialized(self) -> bool:
            return False

        def init(self, *_arguments: object, **_options: object) -> None:
            raise kind("The current node timed out during startup.\nThis could happen.")

        def shutdown(self) -> None:
            ended.append(True)

    monkeypatch.setitem(sys.modules, "ray", Ray("ray"))
    with raises(BadInput, "TP8323", "timed out during startup"), workers_named(name, tmp_path):
        pass
    assert ended == [True]


class _LostCluster(ModuleType):
    """A Ray whose connection is lost at the first result; `cancelled` has the tasks that were cancelled afterwards."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.cancelled: list[object] = []
        self.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=LookupError)

    def remote(self, **_options: object) -> Callable[[object], object]:
        return lambda _function: SimpleNamespace(remote=lambda *_arguments: object())

    def put(self, value: object) -> object:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def get(self, _reference: object) -> object:
        raise ConnectionError('GRPC connection failed: <RPC that terminated with:\n\tdetails = "the head is gone"\n>')

    def is_initialized(self) -> bool:
        return False

    def cancel(self, task: object, *, force: bool) -> None:
        self.cancelled.append((task, force))


def test_a_lost_connection_is_told_with_its_reason_and_starts_no_other_cluster() -> None:
    """Ray connects by itself when a task is cancelled without a connection, and starts a cluster if there is none."""
    ray = _LostCluster()
    with raises(RunFailed, "TP8321", "the head is gone"):
        list(RayWorkers(ray).map(slow_square, range(100)))
    assert ray.cancelled == []


def test_a_cluster_behind_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setenv("grpc_proxy", "http://proxy:3128")
    require_workers(closed_cluster())


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency) as caught, workers_named("ray", tmp_path):
        pass
    assert "trtpoets[ray]" in caught.value.hint
    with pytest.raises(MissingDependency):
        require_workers("ray")


OWN = {"python": "3.11.4", "trtpoets": "1.2.0", "onnxruntime": "1.20.0"}
SAME = NodeVersions("node-1", "3.11.4", "1.2.0", "1.20.0", True)


@pytest.mark.parametrize(
    ("node", "code", "values"),
    [
        (SAME._replace(host="node-7", python="3.10.2"), "TP8325", ("node-7", "3.10.2", "3.11.4")),
        (SAME._replace(trtpoets="1.1.0"), "TP8325", ("node-1", "trtpoets", "1.1.0", "1.2.0")),
        (SAME._replace(trtpoets=""), "TP8325", ("trtpoets", "not installed")),
        (SAME._replace(onnxruntime="1.19.0"), "TP8325", ("onnxruntime", "1.19.0")),
        (SAME._replace(sees_folder=False), "TP8326", ("node-1", "/photos")),
    ],
)
def test_nodes_that_differ_are_refused(node: NodeVersions, code: str, values: tuple[str, ...]) -> None:
    require_equal_nodes([SAME, SAME], "ray://head:10001", Path("/photos"), OWN)
    with raises(BadInput, code, *values):
        require_equal_nodes([SAME, node], "ray://head:10001", Path("/photos"), OWN)


def test_a_cluster_without_processors() -> None:
    with raises(BadInput, "TP8324", "ray://head:10001"):
        require_equal_nodes([], "ray://head:10001", Path("/photos"))


def slow_square(item: int) -> np.ndarray:
    """A function of a module, as the workers import it."""
    time.sleep(0.02)
    return np.full(10, item, np.float32) ** 2


def process_of(item: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def fails_at_40(item: int) -> int:
    if item == 40:
        raise BadInput("item 40", code="TP0000")
    return item


PROGRAM = """
import sys
from pathlib import Path
from tests.pipeline.test_ray_workers import slow_square
from trtpoets.cli.terminal import progress_display
from trtpoets.core.errors import TrtPoetsError
from trtpoets.pipeline.ray_workers import workers_named

try:
    with progress_display(), workers_named(sys.argv[1], Path(sys.argv[2])) as workers:
        for result in workers.map(slow_square, range(int(sys.argv[3]))):
            print(int(result[0]), flush=True)
except TrtPoetsError as error:
    print(error.code, error.message, flush=True)
    sys.exit(error.exit_code)
"""


def program(*arguments: object) -> subprocess.Popen[str]:
    """A program that is connected to Ray by itself, because a process connects only once to a cluster."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two nodes on this machine, each with one processor; yields its address for clients."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'trtpoets[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "ray_client_server_port": 20123})
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        yield "ray://127.0.0.1:20123"
        nodes.shutdown()


@pytest.mark.slow
def test_a_local_ray_gives_the_same_results_and_ends(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'trtpoets[ray]'")
    with workers_named("ray", tmp_path) as workers:
        assert workers is not None
        results = list(workers.map(slow_square, range(100)))
        assert [result.tobytes() for result in results] == [slow_square(item).tobytes() for item in range(100)]
        collected = []
        with raises(BadInput, "TP0000", "item 40"):
            collected += list(workers.map(fails_at_40, range(100)))
        assert list(workers.map(fails_at_40, range(0))) == []
        with raises(BadInput, "TP8322"), workers_named("ray", tmp_path):
            pass
    assert not ray.is_initialized()


@pytest.mark.slow
def test_two_nodes_and_a_worker_that_is_killed(cluster: str, tmp_path: Path) -> None:
    with workers_named(cluster, tmp_path) as workers:
        assert workers is not None
        processes = workers.map(process_of, range(320))
        first = next(processes)
        os.kill(first, signal.SIGKILL)
        remaining = list(processes)
    assert len(remaining) == 319
    assert len({first, *remaining}) >= 3  # one on each node, and one in place of the killed one


@pytest.mark.slow
def test_nodes_of_the_cluster_are_checked(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises(BadInput, "TP8326", tmp_path / "gone"), workers_named(cluster, tmp_path / "gone"):
        pass
    monkeypatch.setattr("trtpoets.pipeline.ray_workers.__version__", "9.9")
    with raises(BadInput, "TP8325", "trtpoets", __version__, "9.9"), workers_named(cluster, tmp_path):
        pass
    monkeypatch.undo()
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    with pytest.raises(BadInput) as caught, workers_named(cluster, tmp_path):
        pass
    assert "3.99.1" in caught.value.message and caught.value.code in ("TP8323", "TP8325")


@pytest.mark.slow
def test_a_cluster_that_cannot_be_reached(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'trtpoets[ray]'")
    with raises(BadInput, "TP8323", "ray://127.0.0.1:9"), workers_named("ray://127.0.0.1:9", tmp_path):
        pass


@pytest.mark.slow
def test_ctrl_c_ends_the_program_and_leaves_no_task(cluster: str, tmp_path: Path) -> None:
    running = program(cluster, tmp_path, 100_000)
    assert running.stdout is not None
    assert running.stdout.readline().strip() == "0"
    started = time.monotonic()
    running.send_signal(signal.SIGINT)
    *_, last = running.stdout.read().splitlines()
    assert running.wait(60) == 130
    assert "TP9001" in last  # a number may be before it, without the end of its line
    assert time.monotonic() - started < 60
    again = program(cluster, tmp_path, 20)
    output, _ = again.communicate(timeout=120)
    assert [int(line) for line in output.split()] == [number**2 for number in range(20)]
    assert platform.python_version()
