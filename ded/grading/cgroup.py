"""A limit on the memory of all that runs in a sandbox together, where the machine lends a cgroup.

It holds for what the kernel counts (Linux, admin-guide/cgroup-v2 and cgroup-v1/memory): pages of
all processes, files in scratch space, buffers, tables. Version 1: below our own memory cgroup, as
root. Version 2: below our own or the nearest one above it that gives its children the memory
controller and lets us write, as root or in a user's session that systemd delegates.
"""

import functools
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

PREFIX = "ded-"
# by controllers, as systemd does
MOUNTS = {"memory": "/sys/fs/cgroup/memory", "": "/sys/fs/cgroup"}
_numbers = itertools.count()


class Cgroup:
    """One of our own below `home`; OSError where that cannot be.

    joined: a file descriptor; a process that writes "0" to it is in, and so are its children.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self.folder.mkdir()
        version_2 = (self.folder / "memory.max").exists()
        # moving one thread, as version 1 can, takes no lock
        entrance = "cgroup.procs" if version_2 else "tasks"
        events = "memory.events" if version_2 else "memory.oom_control"
        self._mib = 0
        try:  # there are no events without a memory controller
            self._events = os.open(self.folder / events, os.O_RDONLY)
            self.joined = os.open(self.folder / entrance, os.O_WRONLY)
        except OSError:
            self.folder.rmdir()
            raise

    def limit(self, mib: int) -> None:
        """Hold all that is in it to so much memory, and to no swap."""
        if mib == self._mib:
            return
        self._mib, v1 = mib, "memory.limit_in_bytes"
        # version 1 wants the sum with swap above the other, whether that grows or shrinks
        for name in ("memory.swap.max", "memory.max", v1, "memory.memsw.limit_in_bytes", v1):
            with suppress(OSError):
                (self.folder / name).write_text("0" if "swap" in name else str(mib << 20))

    def killed(self) -> int:
        """How many processes the limit has killed so far."""
        words = os.pread(self._events, 4096, 0).split()
        return int(words[words.index(b"oom_kill") + 1])

    def close(self) -> None:
        """Remove it, when what was in it has ended; `home` removes what is left by a grader that
        was killed."""
        os.close(self.joined)
        os.close(self._events)
        for _ in range(500):
            with suppress(OSError):
                return self.folder.rmdir()
            time.sleep(0.001)


@functools.cache
def home() -> tuple[Path | None, str]:
    """(where ours may be made, "") or (None, why nowhere). Tried out once."""
    why = ""
    for folder in _candidates():
        for stale in folder.glob(f"{PREFIX}*-*"):
            if not os.path.exists(f"/proc/{stale.name.split('-')[1]}"):
                with suppress(OSError):
                    stale.rmdir()
        try:
            with closing(Cgroup(folder)) as group:
                group.killed()  # ValueError where the kernel does not count them
                subprocess.run(["sh", "-c", "echo 0 2>&-"], stdout=group.joined, check=True)
            return folder, ""
        except (OSError, ValueError, subprocess.CalledProcessError) as failure:
            why = why or f"{folder} cannot be used: {failure}"
    return None, why or "no memory cgroup here"


def _candidates() -> Iterator[Path]:
    """Where our own cgroups with memory lie, and those above."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if mount := MOUNTS.get(controllers):
                folder = Path(mount + path)
                above = (folder, *folder.parents)
                yield from (each for each in above if each.is_relative_to(mount))
