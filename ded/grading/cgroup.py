"""A limit on the memory of all that runs in a sandbox together, where the machine lends a cgroup.

It holds for what the kernel counts (Linux, admin-guide/cgroup-v2 and cgroup-v1/memory): pages of
all processes, files in scratch space, buffers, tables. Version 1: below our own memory cgroup, as
root. Version 2: below our own or the nearest one above it that gives its children the memory
controller and lets us write, as root or in a user's session that systemd delegates.
"""

import atexit
import functools
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

PREFIX = "ded-"
_numbers = itertools.count()
_in_use: set[Path] = set()


class Cgroup:
    """One of our own below `home`; OSError where that cannot be.

    joined: a file descriptor; a process that writes "0" to it is in, and so are its children.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        _in_use.add(self.folder)
        self._mib = 0
        try:
            self.folder.mkdir()
            version_2 = (self.folder / "memory.max").exists()
            # moving one thread of version 1 takes no lock; this one has no other
            entrance = "cgroup.procs" if version_2 else "tasks"
            self._events = self.folder / ("memory.events" if version_2 else "memory.oom_control")
            self.killed()  # or there is no memory controller
            self.joined = os.open(self.folder / entrance, os.O_WRONLY)
        except OSError:
            _in_use.discard(self.folder)
            raise

    def limit(self, mib: int) -> None:
        """Hold all that is in it to so much memory, and to no swap."""
        if mib == self._mib:
            return
        self._mib, v1 = mib, "memory.limit_in_bytes"
        # version 1 wants the sum with swap above the other, whether that grows or shrinks
        names = ("memory.swap.max", "memory.max", v1, "memory.memsw.limit_in_bytes", v1)
        for name in names:
            with suppress(OSError), open(self.folder / name, "r+") as file:
                file.write("0" if "swap" in name else str(mib << 20))

    def killed(self) -> int:
        """How many processes the limit has killed so far."""
        words = self._events.read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def close(self) -> None:
        """It goes when the last process in it has gone: now, or with a later one, or at the end."""
        os.close(self.joined)
        _in_use.discard(self.folder)
        sweep(self.folder.parent)


def sweep(home: Path) -> bool:
    """Remove what lies in `home` and no longer has a user: ours, or of a process that was killed.
    Returns whether nothing more waits to be removed.
    """
    done = True
    for folder in home.glob(f"{PREFIX}*-*"):
        pid = folder.name.split("-")[1]
        if folder not in _in_use and (
            pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}")
        ):
            try:
                folder.rmdir()
            except OSError:  # what ran in it is about to end
                done = False
    return done


@functools.cache
def home() -> tuple[Path | None, str]:
    """(where ours may be made, "") or (None, why nowhere). Tried out once."""
    why = ""
    for folder in _candidates():
        try:
            sweep(folder)
            group = Cgroup(folder)
            try:
                out: Any = {"stdout": group.joined, "stderr": subprocess.DEVNULL}
                subprocess.run(["sh", "-c", "echo 0"], check=True, **out)
            finally:
                group.close()
        except (OSError, ValueError, subprocess.CalledProcessError) as failure:
            sweep(folder)
            why = why or f"{folder} cannot be used: {failure}"
            continue
        atexit.register(_last_sweep, folder)
        return folder, ""
    return None, why or "no memory cgroup here"


def _candidates() -> Iterator[Path]:
    """The mounted folders of our own cgroups with memory, and in version 2 those above."""
    own = {}  # {controllers: path}; version 2 names none
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own["memory" if "memory" in controllers.split(",") else controllers] = path
    for line in Path("/proc/self/mountinfo").read_text().splitlines() if own else ():
        place, _, kind = line.partition(" - ")
        root, mount = place.split()[3:5]
        version_2 = kind.startswith("cgroup2 ")
        path = own.get("" if version_2 else "memory", "..")
        if version_2 or (kind.startswith("cgroup ") and "memory" in kind.split()[-1].split(",")):
            inside = os.path.relpath(path, root)
            if not inside.startswith(".."):
                folder = Path(mount, inside)
                above = [each for each in folder.parents if each.is_relative_to(mount)]
                yield from (folder, *(above if version_2 else ()))


def _last_sweep(folder: Path) -> None:
    for _ in range(100):
        if sweep(folder):
            return
        time.sleep(0.01)
