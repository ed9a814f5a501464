"""Jobs on the nodes of a Ray cluster, over a store that they share (docs/scaling.md).

Each job is a Ray task, which holds the CPUs and GPUs that it is promised. Before the first one,
each node shows that it runs this ded and sees this store, its locks included. What is lost with a
node runs again on another; what is lost with this process ends: Ray ends the tasks of a driver that
has gone.
"""

import os
import socket
import uuid
import warnings
from collections.abc import Generator
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import Timeout

from ded import spent, store
from ded.errors import JobError
from ded.options import Cluster

RETRIES = 3  # of a job whose node or worker dies
PATIENCE = 10.0  # seconds for an address to answer, and for jobs to end that are told to
LOOK = 30.0  # seconds without a result, after which is looked whether a node is there for the rest
ABSENT = (
    "n_jobs asks for Ray, which is not installed: pip install 'ded[ray]', here and on each node"
)


def run(cluster: Cluster, tasks: dict[str, tuple], environment: dict[str, str]) -> Generator[Any]:
    """What each named task (function, arguments, named arguments) returns, as they end, in any
    order.

    JobError before any work where the cluster does not answer, cannot hold a job, or has a node
    with another ded or store. What a task raises is raised here; whenever the iterator is closed,
    the tasks that are under way are stopped.
    """
    ray = connect(cluster)
    here = str(Path.cwd()), _code()
    options: dict[str, Any] = {
        "num_cpus": cluster.cpus_per_job,
        "num_gpus": cluster.gpus_per_job,
        "max_retries": RETRIES,
        "runtime_env": {"env_vars": environment | _store() | cluster.environment},
    }
    remote = ray.remote(_work).options(**options)
    waiting = {remote.remote(*here, task): name for name, task in tasks.items()}
    try:
        while waiting:
            ended, _ = ray.wait(list(waiting), timeout=LOOK)
            if not ended:
                _check_room(ray, cluster)
            for reference in ended:
                yield _result(ray, reference, waiting.pop(reference))
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE)


def connect(cluster: Cluster) -> Any:
    """Ray's module, connected and its nodes looked at. JobError for what `run` names."""
    if not find_spec("ray"):
        raise JobError(ABSENT)
    import ray

    if not ray.is_initialized():
        _check_address(cluster.address)
        try:
            ray.init(cluster.address, log_to_driver=False, logging_level="WARNING")
        except (OSError, RuntimeError, ValueError) as error:
            raise JobError(
                f"n_jobs: no Ray cluster answers at {cluster.address!r} ({error!s:.160}); "
                "start one (ray start --head), or set its address"
            ) from error
    for node in _check_room(ray, cluster):
        _check_node(node["NodeID"], node["NodeManagerHostname"])
    return ray


def _check_address(address: str) -> None:
    """JobError where nobody listens: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        mend = "start one there (ray start --head), or set another address"
        raise JobError(f"n_jobs: no Ray cluster answers at {address!r} ({error}); {mend}") from None


def _check_room(ray: Any, cluster: Cluster) -> list[dict[str, Any]]:
    """The nodes that are up. JobError where none of them is large enough for a job."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = {"CPU": cluster.cpus_per_job, "GPU": cluster.gpus_per_job}
    sizes = [{kind: node["Resources"].get(kind, 0) for kind in asked} for node in nodes]
    if not any(all(size[kind] >= asked[kind] for kind in asked) for size in sizes):
        there = "; ".join(f"{size['CPU']:g} CPUs, {size['GPU']:g} GPUs" for size in sizes)
        wants = f"a job wants {asked['CPU']:g} CPUs and {asked['GPU']:g} GPUs of one node"
        mend = "lower n_jobs.cpus_per_job or gpus_per_job, or add such a node"
        raise JobError(f"n_jobs: {wants}, and the cluster's have {there or 'gone'}; {mend}")
    return nodes


@cache
def _check_node(node: str, name: str) -> None:
    """JobError where a node has another ded, working directory or store than this process, or takes
    a lock of the store that is held here."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = f"node-{uuid.uuid4().hex[:8]}"
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    look = ray.remote(_fault).options(
        num_cpus=0, scheduling_strategy=there, runtime_env={"env_vars": _store()}
    )
    with (held := store.lock(token)):
        try:
            fault = ray.get(look.remote(str(Path.cwd()), _code(), token))
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            fault = ""  # it has gone meanwhile, and no job will run there
        except ray.exceptions.RayError as error:
            fault = f"it cannot run ded: {error}"
    Path(held.lock_file).unlink(missing_ok=True)
    if fault:
        raise JobError(f"n_jobs: node {name}: {fault}")


def _fault(folder: str, code: str, token: str) -> str:
    """On a node: what sets it apart from the process that asks, "" for nothing."""
    if code != _code():
        return "it has another version of ded; install the same on all nodes"
    shared = "must lie on a file system that all nodes share"
    if not Path(folder).is_dir():
        return f"it has no folder {folder}: the working directory {shared}"
    if not (store.root() / "locks" / f"{token}.lock").exists():
        return f"it sees another store than this machine: {store.root()} {shared} (DED_STORE)"
    try:
        with store.lock(token).acquire(timeout=0):
            return f"locks in {store.root()} do not hold across machines: see docs/scaling.md"
    except Timeout:
        return ""


def _work(folder: str, code: str, task: tuple) -> Any:
    """On a node: what the task returns. A node that came later is looked at here."""
    if code != _code():
        raise JobError("the node has another version of ded; install the same on all nodes")
    os.chdir(folder)
    spent.in_worker()
    warnings.filterwarnings("ignore", category=FutureWarning)
    function, arguments, named = task
    return function(*arguments, **named)


def _result(ray: Any, reference: Any, job: str) -> Any:
    """What a task returned. What it raised has its own note, and the loss of its node gets one."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        error.add_note(f"{job} failed {RETRIES + 1} times, with its worker or node: {error!r}")
        raise


def _store() -> dict[str, str]:
    return {"DED_STORE": str(store.root().absolute())}


@cache
def _code() -> str:
    """A hash of the package's source: the version alone does not tell two commits apart."""
    folder = Path(__file__).parent
    files = sorted(folder.rglob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
