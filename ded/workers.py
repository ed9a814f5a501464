"""Workers: processes with one job at a time, that end with whom they work for; and those that
notebooks share which run side by side.

What a worker imports and loads is then paid once, not by each notebook again. Jobs wait at one
socket for the next that is free, in the order in which they came. A worker that dies takes its job
with it and no other, and another takes its place.
"""

import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import Client, Connection
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import cloudpickle

from ded import spent
from ded.errors import WorkerDiedError

DOOR = "DED_WORKERS"  # variable that names the socket of the shared ones
LOOK = 0.05  # seconds between two looks
n_side_by_side = 1  # workers on this machine, this process among them
SERVE = "import sys; from ded import workers; workers.serve(*sys.argv[1:])"


def ours() -> dict[str, str]:
    """The environment's variables that are ded's and hold for a worker as they do here."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("DED_")}
    variables.pop(DOOR, None)  # a worker asks no other
    return variables


def start(parent: int, n: int, variables: Mapping[str, str]) -> None:
    """In a new worker, one of n: variables of its environment, and an end when the parent has gone
    (SIGKILL)."""
    global n_side_by_side
    n_side_by_side = n
    os.environ.update(variables)
    spent.in_worker()
    end_unless(lambda: os.getppid() == parent)
    warnings.filterwarnings("ignore", category=FutureWarning)


def end_unless(alive: Callable[[], bool], group: bool = False) -> None:
    """Ends this process, or its whole process group, once `alive()` is false: when its parent has
    gone, say, killed without a word."""

    def watch() -> None:
        while alive():
            time.sleep(0.5)
        if group:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def shared(n: int, variables: Mapping[str, str]) -> Iterator[None]:
    """n workers for all processes that are started meanwhile; variables: of the environment that
    they start with."""
    environment, ended = os.environ | variables, threading.Event()
    processes: dict[int, subprocess.Popen] = {}

    def keep(place: int, door: socket.socket) -> None:
        command = [sys.executable, "-c", SERVE, str(door.fileno()), str(os.getpid()), str(n)]
        # in a session of its own: an interrupt is for this process, which then ends it
        how: dict[str, Any] = {"env": environment, "start_new_session": True}
        while not ended.wait(LOOK):
            processes[place] = subprocess.Popen(command, pass_fds=[door.fileno()], **how)
            processes[place].wait()

    place_for = (
        "/tmp" if len(gettempdir()) > 70 else None
    )  # a socket's path may have some 100 letters
    with (
        TemporaryDirectory(prefix="ded-workers-", dir=place_for) as folder,
        socket.socket(socket.AF_UNIX) as door,
    ):
        door.bind(f"{folder}/door")
        door.listen()
        threads = [threading.Thread(target=keep, args=[place, door]) for place in range(n)]
        for thread in threads:
            thread.start()
        os.environ[DOOR] = f"{folder}/door"
        try:
            yield
        finally:
            del os.environ[DOOR]
            ended.set()
            for thread in threads:
                while thread.is_alive():
                    for process in [*processes.values()]:
                        process.kill()
                    thread.join(LOOK)


def call(function: Callable, *arguments: Any) -> Any:
    """function(*arguments) in the next shared worker that is free. What it printed is printed here,
    what it raised is raised; WorkerDiedError where the worker died."""
    job = cloudpickle.dumps((function, arguments))
    with _taken(pickle.dumps((job, ours(), sys.path))) as worker:
        try:
            printed, result, error, way = pickle.loads(worker.recv_bytes())
        except (EOFError, OSError) as gone:
            raise WorkerDiedError("its worker was killed; was memory short?") from gone
    if printed:
        print(printed, end="", file=sys.stderr)
    if error is not None:
        raise error from RuntimeError(way)
    return result


def _taken(job: bytes) -> Connection:
    """The connection to the worker that has taken the job, once its turn has come."""
    while True:
        worker = Client(os.environ[DOOR])
        with suppress(EOFError, OSError):  # who opened was about to end, for its client was killed
            worker.send_bytes(job)
            worker.recv_bytes()
            return worker


def serve(door: str, parent: str, n: str) -> None:
    """A shared worker, one of n: one job after the other, in the order in which they came."""
    start(int(parent), int(n), {})
    with socket.socket(fileno=int(door)) as queue:
        while True:
            client, _ = queue.accept()
            with Connection(client.detach()) as connection, suppress(EOFError, OSError):
                _answer(connection)


def _answer(client: Connection) -> None:
    """Does the job that the client sends, in its environment. The client's end is this process's
    too: what it waits for must not hold up the next."""
    job, variables, sys.path[:] = pickle.loads(client.recv_bytes())
    client.send_bytes(b"taken")
    for name in ours():
        del os.environ[name]
    os.environ.update(variables)
    done = threading.Event()

    def watch() -> None:
        client.poll(None)  # it sends nothing more: it has gone
        if not done.is_set():
            os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    result, fault, way = None, None, ""
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(printed):
        try:
            function, arguments = pickle.loads(job)
            result = function(*arguments)
        except Exception as error:
            fault, way = error, traceback.format_exc()
    done.set()
    client.send_bytes(cloudpickle.dumps((printed.getvalue(), result, fault, way)))
    watcher.join()
