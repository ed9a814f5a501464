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

# by controllers, as systemd does
MOUNTS = {"memory": "/sys/fs/cgroup/memory", "": "/sys/fs/cgroup"}
# a command in a cgroup, named by its folder; to move one thread, as version 1 can, takes no lock
_JOIN = '{ echo 0 >"$0/tasks" || echo 0 >"$0/cgroup.procs"; } 2>/dev/null; exec "$@"'
_numbers = itertools.count()


class Cgroup:
    """One of our own below `home`; OSError where that cannot be.

    join: the beginning of a command that is to run in it.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / f"ded-{os.getpid()}-{next(_numbers)}"
        self.folder.mkdir()
        self.join = ["/bin/sh", "-c", _JOIN, str(self.folder)]
        self._mib = 0

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
        """How many processes the limit has killed so far; OSError without a memory controller."""
        version_2 = (self.folder / "memory.max").exists()
        events = self.folder / ("memory.events" if version_2 else "memory.oom_control")
        words = events.read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def close(self) -> None:
        """Remove it, when what was in it has ended."""
        for _ in range(500):
            with suppress(OSError):
                return self.folder.rmdir()
            time.sleep(0.001)


@functools.cache
def home() -> tuple[Path | None, str]:
    """(where ours may be made, "") or (None, why nowhere). Tried out once."""
    why = ""
    for folder in _candidates():
        for stale in folder.glob("ded-*-*"):  # of graders that were killed
            if not os.path.exists(f"/proc/{stale.name.split('-')[1]}"):
                with suppress(OSError):
                    stale.rmdir()
        try:
            with closing(Cgroup(folder)) as group:
                group.killed()  # ValueError where the kernel does not count them
                inside = subprocess.check_output([*group.join, "cat", "/proc/self/cgroup"])
            if group.folder.name.encode() in inside:
                return folder, ""
            why = why or f"{folder} lets no process in"
        except (OSError, ValueError) as failure:
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
