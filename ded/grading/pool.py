"""Answers decided in worker processes (`ded.grading.worker`) that a bad one cannot hurt."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ded.grading.decision import Decision, Settings
from ded.grading.threads import in_threads

CPU_SECONDS = 5.0  # of one comparison


@dataclass(frozen=True)
class Request:
    """One answer to decide on. kind: the function of `ded.grading.worker` that decides; arguments: its own, as JSON can
    carry them; cpu_seconds: after which the decision is *error*."""

    kind: str
    arguments: dict[str, Any]
    cpu_seconds: float = CPU_SECONDS


def decide_all(requests: list[Request], settings: Settings) -> list[Decision]:
    """A decision on each request, in order, by up to `settings.workers` processes."""

    def decide(request: Request) -> Decision:
        try:
            worker = _idle.get_nowait()
        except Empty:
            worker = _Worker()
        try:
            decision = worker.decide(request)
        except BaseException:
            worker.stop()
            raise
        _idle.put(worker)
        return decision

    return in_threads(decide, requests, settings.workers, "math", settings.progress)


class _Worker:
    """A process that has imported the libraries and decides on one request at a time."""

    def __init__(self) -> None:
        folders = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(":")]
        environment = {
            "PYTHONPATH": ":".join(filter(None, folders)),
            "PYTHONHASHSEED": "0",  # decides the order in which SymPy tries things
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ded.grading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )

    def decide(self, request: Request) -> Decision:
        requests, decisions = self._process.stdin, self._process.stdout
        requests.write(json.dumps(vars(request)).encode() + b"\n")
        requests.flush()
        return Decision(*json.loads(decisions.readline()))

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


_idle: SimpleQueue[_Worker] = SimpleQueue()  # started in a second; they wait for the next call


@atexit.register
def _stop_idle() -> None:
    while not _idle.empty():
        _idle.get_nowait().stop()
