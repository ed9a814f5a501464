"""The command lines that start a sandbox's supervisor, behind bubblewrap's walls or behind none."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

ENVIRONMENT = {
    "PATH": "/nowhere",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # all that a program sees; the seed keeps the order of sets the same
_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64")  # C's, and no programs
_NAMESPACES = (
    "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try "
    "--as-pid-1 --die-with-parent --new-session --cap-drop ALL"
)
_AS_ROOT = "--cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_KILL"
_AS_USER = "--unshare-user --uid 65534 --gid 65534"


def python() -> str:
    """The path of a Python that needs no virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def supervisor(isolated: bool, uid: int) -> list[str]:
    """The command that runs inside.py. uid: of the programs, -1 to keep our own."""
    source = resources.files("ded.grading").joinpath("inside.py").read_text(encoding="utf-8")
    return [python(), "-S", "-s", "-P", "-c", source, str(int(isolated)), str(uid)]


def bubblewrap(bwrap: str, writable: bool, scratch: int) -> list[str]:
    """The bubblewrap command line up to the program to start. scratch: MiB of space in a writable
    sandbox.

    Root makes the namespaces as root and each program becomes an unused uid (root is exempt from
    the process limit); anyone else gets a user namespace, where that limit starts afresh.
    """
    command = [bwrap, *_NAMESPACES.split()]
    command += (_AS_ROOT if os.geteuid() == 0 else _AS_USER).split()
    for folder in ("/usr", *map(str, reversed(Path(python()).parents[:-1]))):  # readable here
        command += ["--perms", "0755", "--dir", folder]
    for folder in _LIBRARIES:
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    command += ["--ro-bind", python(), python()]
    for folder in (f"{sys.base_prefix}/lib", f"{sys.base_prefix}/lib64"):
        if sys.base_prefix != "/usr" and os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    command += ["--proc", "/proc", "--dev", "/dev"]
    if writable:
        for folder in ("/tmp", "/dev/shm"):
            command += ["--perms", "1777", "--size", str(scratch << 20), "--tmpfs", folder]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
