"""Workers of a Ray cluster: computes bottlenecks and trials of fine-tuning with Ray Core, on one machine or on several.

Ray places the tasks, transports their results and repeats the tasks of a worker that died. Each task computes some
batches with the function that threads of this process would apply (`train.workers`), or one trial, so the results are
the same. The network travels with the function; only the photos must be readable on every node, at the same path.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import uuid
from collections import deque
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from trtpoets import __version__
from trtpoets.core.errors import BadInput, RunFailed, TrtPoetsError, first_line
from trtpoets.core.images import usable_cores
from trtpoets.core.optional import installed, needs
from trtpoets.pipeline.extractors import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from trtpoets.train.workers import Workers

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "ray"
_REMOTE = "ray://"

_ITEMS = 16
"""Number of items in a task: with batches of 4 photos a task takes about 0.3 s, and Ray needs 1 ms for it."""

_TASKS_PER_CORE = 4
"""Number of tasks per core of the cluster that are submitted ahead of the results."""

_RETRIES = 5
"""How often a task is repeated on another worker if its worker dies."""

_SECONDS_TO_ANSWER = 10.0
"""How long `require_workers` waits for the head of a cluster to accept a connection."""

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables with a proxy through which Ray may reach a cluster that does not accept connections itself."""


_CONNECTIONS = 3
"""How often a connection to a cluster is tried whose server aborts it."""


class NodeVersions(NamedTuple):
    """What a node of a cluster has installed, and whether it can read the folder of the photos."""

    host: str
    python: str
    trtpoets: str
    onnxruntime: str
    sees_folder: bool


class ChosenWorkers:
    """The workers that the value `name` of `--workers` stands for, and the `device` of the base, which they compute.

    Their name and the device are checked at once; that they can be reached when `require` is called for the first time,
    which a command does before it reads photos or computes anything. A command whose result is up to date does not
    call it.
    """

    def __init__(self, name: str, device: Device) -> None:
        """Raise BadInput for a name that stands for no workers, and for a GPU, on which they do not compute."""
        if name and device is Device.GPU:
            raise BadInput(
                f"--workers {name} computes on CPUs, not on a GPU", hint="use --device cpu, or omit it", code="TP8327"
            )
        if name and name != LOCAL:
            _address_in(name)
        self.name = name
        self.device = Device.CPU if name else device
        self._checked = False

    def require(self) -> None:
        """Raise BadInput or MissingDependency if the workers cannot be reached."""
        if not self._checked:
            require_workers(self.name)
            self._checked = True

    @contextmanager
    def connected(self, folder: Path) -> Iterator[Workers | None]:
        """Yield the workers, which read the photos in `folder`: see `workers_named`."""
        self.require()
        with workers_named(self.name, folder) as workers:
            yield workers


def require_workers(name: str) -> None:
    """Raise now what would keep `workers_named` from connecting, so that it is known before the photos are read.

    Checked are the name, that Ray is installed, and that the head of a cluster accepts connections. Raises BadInput,
    MissingDependency.
    """
    if not name:
        return
    address = None if name == LOCAL else _address_in(name)
    with needs("ray", reason="--workers ray"):
        import ray  # noqa: F401 - only whether it is there
    if address is None or any(os.environ.get(proxy) for proxy in _PROXIES):
        return
    try:
        socket.create_connection(address, timeout=_SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise BadInput(
            f"no connection to the Ray cluster at {name}: {first_line(error)}",
            hint="start the cluster, ray start --head, or give the address of its head",
            code="TP8328",
        ) from error


@contextmanager
def workers_named(name: str, folder: Path) -> Iterator[Workers | None]:
    """Yield the workers that `--workers` names; None for an empty name, which stands for this process.

    "ray" starts Ray on this machine and ends it afterwards; "ray://HOST:PORT" connects to a cluster, whose nodes must
    have the same versions and must be able to read `folder`. Raises BadInput, MissingDependency.
    """
    if not name:
        yield None
        return
    if name != LOCAL:
        _address_in(name)
    with needs("ray", reason="--workers ray"):
        import ray
    _connect(ray, name)
    try:
        workers = RayWorkers(ray)
        if name != LOCAL:
            require_equal_nodes(_versions_of_nodes(ray, str(folder)), name, folder)
        yield workers
    finally:
        ray.shutdown()


class RayWorkers:
    """The workers of the cluster to which `ray` is connected."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def map(self, function: Callable[[T], R], items: Sequence[T], *, long: bool = False) -> Generator[R, None, None]:
        """Yield `function(item)` in the order of `items`. Raises RunFailed if tasks are lost."""
        ray = self._ray
        placement = "SPREAD" if long else "DEFAULT"
        task = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy=placement)(_results)
        name, reference = uuid.uuid4().hex, ray.put(function)
        size = 1 if long else _ITEMS
        groups = (items[start : start + size] for start in range(0, len(items), size))
        ahead = _TASKS_PER_CORE * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        pending = deque(task.remote([reference], name, group) for group in islice(groups, ahead))
        try:
            while pending:
                results = _result_of(ray, pending[0])
                pending.popleft()
                pending.extend(task.remote([reference], name, group) for group in islice(groups, 1))
                for result in results:
                    if isinstance(result, TrtPoetsError):
                        raise result
                    yield result
        finally:
            for left in pending:
                with suppress(Exception):  # the connection may be lost
                    if ray.is_initialized():  # else Ray would start a cluster here
                        ray.cancel(left, force=True)


_functions: dict[str, Callable[[Any], Any]] = {}


def _results(reference: Sequence[Any], name: str, items: Sequence[Any]) -> list[Any]:
    """Return the results of the items, in a worker process. An error that the user can fix is the last result."""
    import ray

    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # workers compute on processors, also on nodes with GPUs
    if name not in _functions:
        _functions.clear()
        _functions[name] = ray.get(reference[0])
    results: list[Any] = []
    for item in items:
        try:
            results.append(_functions[name](item))
        except TrtPoetsError as error:
            return [*results, error]
    return results


def _result_of(ray: Any, reference: Any) -> list[Any]:
    try:
        results: list[Any] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from error
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise RunFailed(
            f"the Ray cluster has lost a task: {_reason(error)}",
            hint="run the same command again: what was computed is stored",
            code="TP8321",
        ) from error
    return results


def _reason(error: Exception) -> str:
    """Return why a task was lost: of an error of gRPC its details, which are not in its first line."""
    details = re.search(r'details = "(.+)"', str(error))
    return details[1] if details else first_line(error)


def _address_in(name: str) -> tuple[str, int]:
    """Return host and port of a cluster. Raises BadInput."""
    try:
        parts = urlsplit(name)
        if name.startswith(_REMOTE) and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:  # the port is not a number, or too large
        pass
    raise BadInput(
        f"--workers must be ray, or the address of a cluster as ray://HOST:PORT, not {name!r}",
        hint="give --workers ray, or --workers ray://HOST:10001",
        code="TP8320",
    )


def _connect(ray: Any, name: str) -> None:
    """Start Ray here, or connect to a cluster. Raises BadInput."""
    if ray.is_initialized():
        raise BadInput(
            "this process is already connected to a Ray cluster",
            hint="call ray.shutdown() before, or leave out workers",
            code="TP8322",
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if name == LOCAL:
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        else:
            _connect_to_cluster(ray, name)
    except Exception as error:  # Ray raises Exception itself, for example if a node takes too long to start
        ray.shutdown()
        what = "Ray cannot be started here" if name == LOCAL else f"no connection to the Ray cluster at {name}"
        raise BadInput(
            f"{what}: {first_line(error)}",
            hint="show the reason: ray start --head"
            if name == LOCAL
            else f"run the same command again; if it fails again, check the cluster: ray status; {_VERSIONS}",
            code="TP8323",
        ) from error


def _connect_to_cluster(ray: Any, name: str) -> None:
    """Connect to a cluster; again if its process for this connection ends while it starts, as gRPC crashes at times."""
    for left in reversed(range(_CONNECTIONS)):
        try:
            ray.init(name, log_to_driver=False, logging_level="ERROR")
        except ConnectionAbortedError:
            if not left:
                raise
            ray.shutdown()
        else:
            return


_VERSIONS = "all nodes and this machine need the same versions of Python, Ray, trtpoets and onnxruntime"


def _versions_of_nodes(ray: Any, folder: str) -> list[NodeVersions]:
    """Ask every node of the cluster that has processors."""

    def versions() -> tuple[str, ...]:  # nested, so that it is sent as code: trtpoets may be missing there
        import os
        import platform
        from importlib import metadata

        found = []
        for package in ("trtpoets", "onnxruntime"):
            try:
                module = __import__("trtpoets") if package == "trtpoets" else None
                found.append(module.__version__ if module else metadata.version(package))
            except Exception:  # noqa: BLE001 - whatever keeps it from being imported there
                found.append("")
        return (platform.node(), platform.python_version(), *found, "yes" if os.path.isdir(folder) else "")  # noqa: PTH112

    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    answers = [
        ray.remote(num_cpus=0, max_retries=0)(versions)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
    ]
    found = []
    for reference in answers:
        host, python, trtpoets, onnxruntime, sees_folder = _result_of(ray, reference)
        found.append(NodeVersions(host, python, trtpoets, onnxruntime, bool(sees_folder)))
    return found


def require_equal_nodes(
    nodes: Sequence[NodeVersions], name: str, folder: Path, own: Mapping[str, str] | None = None
) -> None:
    """Raise BadInput if a node has other versions than this machine (`own`), or cannot read the photos."""
    mine = own or {
        "python": platform.python_version(),
        "trtpoets": __version__,
        "onnxruntime": installed(("onnxruntime",)).get("onnxruntime", ""),
    }
    if not nodes:
        raise BadInput(f"the Ray cluster at {name} has no node with a processor", hint="ray status", code="TP8324")
    for node in nodes:
        for package, version in mine.items():
            theirs = getattr(node, package)
            if theirs != version:
                raise BadInput(
                    f"node {node.host} of the Ray cluster has {package} {theirs or 'not installed'}, but this machine "
                    f"has {version}",
                    hint=f"{_VERSIONS}: pip install {package}=={version}"
                    if package != "python"
                    else f"{_VERSIONS}: create the environment of the nodes with Python {version}",
                    code="TP8325",
                )
        if not node.sees_folder:
            raise BadInput(
                f"node {node.host} of the Ray cluster does not have the folder {folder}",
                hint="put the photos on a disk that all nodes share, at the same path",
                code="TP8326",
            )
