"""What runs inside the sandbox: a supervisor that starts one process a run and reports what became
of it.

Not imported by the package: `ded.grading.sandbox` hands this file's text to a bare Python inside
the isolation, where it is process 1 of its own PID namespace, so that no signal from a program
reaches it. It reads jobs from stdin, writes results to stdout, and knows no expected output. All
untrusted code, compiling included, happens in a forked child; the child itself reads its program
and input, so that the supervisor's memory, which the next child inherits, holds none of them.
Assertions are a process that reads what they are only after it has forked one for the program.

argv: the uid for programs ("-1" to keep our own), the seccomp filter in hexadecimal digits ("" for
none), and a folder of packages for them if there is one. A job is marshalled dicts, limits, a
program and, if there are any, its tests, each after 4 bytes of length. A result is a JSON object,
after 4 bytes of length, in which stdout, stderr and the returned value stand with their lengths,
and then those three.
"""

import ctypes
import json
import marshal
import os
import resource
import select
import signal
import site
import stat
import struct
import sys
import time
from contextlib import suppress

from ded.grading.talk import FROM_PEER, TO_PEER, VALUE_FD, become, read_exactly, write_all

TICK = 0.05  # seconds between looks at the memory and CPU of everything that runs, on average
MIB = 1 << 20
INODE, SOCKET = 2 << 10, 416 << 10  # bytes of the kernel's, at most (man 7 socket, wmem_max)
ISOLATED = os.getpid() == 1  # then everything else here can be killed and counted
UID = int(sys.argv[1])
TMP_MODE = stat.S_IFDIR | 0o1777
prctl = ctypes.CDLL(None).prctl


def read_message():
    (length,) = struct.unpack("<I", read_exactly(4))
    return marshal.loads(read_exactly(length))


# --- in the child: lower every limit, then become the program -------------------------------------
def cap(which, amount):
    ceiling = resource.getrlimit(which)[1]
    amount = amount if ceiling == resource.RLIM_INFINITY else min(amount, ceiling)
    resource.setrlimit(which, (amount, amount))


def lower_limits(limits):
    cap(resource.RLIMIT_CPU, int(limits["cpu"]) + 1)
    # room for reserved, never touched pages; resident memory is watched
    cap(resource.RLIMIT_AS, (limits["memory"] + 256) * MIB)
    cap(resource.RLIMIT_STACK, 64 * MIB)
    cap(resource.RLIMIT_FSIZE, limits["output"] * MIB)
    cap(resource.RLIMIT_NOFILE, 64)  # each holds kernel buffers, which nobody counts
    cap(resource.RLIMIT_SIGPENDING, 256)  # timers, too
    cap(resource.RLIMIT_CORE, 0)
    if UID >= 0:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
        prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: tests out of reach of their program
    cap(resource.RLIMIT_NPROC, limits["processes"])  # counted for the uid, in this user namespace


def input_file(content, folder):
    """A file without a name to read this from."""
    file = os.open(f"{folder}.stdin", os.O_RDWR | os.O_CREAT)
    os.unlink(f"{folder}.stdin")
    write_all(file, content)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def parted(program):
    """Part into tests and, as a child, their program, which talk through pipes: here the job that
    this process has from now on.
    """
    to_program, to_tests = os.pipe(), os.pipe()
    is_program = os.fork() == 0
    os.dup2((to_program if is_program else to_tests)[0], FROM_PEER)
    os.dup2((to_tests if is_program else to_program)[1], TO_PEER)
    if is_program:
        return program | {"link": "program"}
    return read_message() | {"link": "tests"}


def child(limits, stdout, stderr, value):
    """Never returns: whatever happens, the process ends here. The arguments after `limits` are
    pipes to write to.
    """
    code = 120
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        job = read_message()
        job = parted(job) if limits["tests"] else job | {"link": ""}
        if job["call"] or job["link"]:
            stdin = stdout = os.open("/dev/null", os.O_RDWR)
        else:
            stdin = input_file(job["stdin"], limits["folder"])
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(value, VALUE_FD)
        os.closerange(3, VALUE_FD)
        os.closerange(TO_PEER + 1, 4096)
        lower_limits(limits)
        with suppress(FileExistsError):  # tests and program share it
            os.mkdir(limits["folder"])
        os.chdir(limits["folder"])
        for name, content in job["files"].items():
            with open(name, "wb") as file:
                file.write(content)
        os.write(VALUE_FD, b"\n")  # from here on, waiting is the program's own
        code = become(job)
    except BaseException as failure:
        os.write(2, type(failure).__name__.encode())
    finally:
        os._exit(code)


# --- in the supervisor ----------------------------------------------------------------------------
def processes(pid):
    """The ids of everything in the namespace but us; of the child and its living descendants where
    there is none.
    """
    if ISOLATED:
        return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
    ids = [str(pid)]
    for parent in ids:  # which grows
        with suppress(OSError), open(f"/proc/{parent}/task/{parent}/children") as file:
            ids += file.read().split()
    return ids


def status(path):
    """The fields of a stat file from the state on (man 5 proc)."""
    with open(f"/proc/{path}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def wants_cpu(name):
    """Whether a thread of this process runs or waits for a CPU.

    Not for a disk: a program can bring that about, and look like that without one (as who waits
    for a thread or a child that it lent its memory does).
    """
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{name}/task"):
            with suppress(OSError):
                if status(f"{name}/task/{thread}")[0] == b"R":
                    return True
    return False


def usage(pid):
    """CPU seconds of all processes of the run, their bytes of memory, and whether one wants CPU.

    Memory: resident, and an upper estimate of what the kernel keeps for inodes and sockets.
    """
    stats = {}
    for name in processes(pid):
        with suppress(OSError):
            stats[name] = status(name)
    ticks = sum(int(part) for fields in stats.values() for part in fields[11:15])
    memory = sum(int(fields[21]) for fields in stats.values()) * resource.getpagesize()
    if ISOLATED:
        scratch = os.statvfs("/tmp")
        memory += (scratch.f_files - scratch.f_ffree) * INODE
        with open("/proc/net/unix", "rb") as file:
            memory += len(file.readlines()[1:]) * SOCKET
    awake = any(map(wants_cpu, stats))
    return ticks / os.sysconf("SC_CLK_TCK"), memory, awake


def exceeded(limits, cpu, memory, outputs):
    """The limit that these seconds of CPU, bytes of memory and outputs are beyond, "" for none."""
    if cpu > limits["cpu"]:
        return "cpu"
    if memory > limits["memory"] * MIB:
        return "memory"
    return "output" if max(map(len, outputs.values())) > limits["output"] * MIB else ""


def watch(pid, pidfd, limits, outputs):
    """Collect output until the child ends ("exit") or goes too far; returns that and the seconds in
    which the program had nothing to run.
    """
    poll = select.poll()
    for fd in (*outputs, pidfd):
        poll.register(fd, select.POLLIN)
    started = list(outputs)[-1]
    last_look = time.monotonic()
    next_look = last_look + TICK
    deadline = last_look + limits["wall"]
    cpu, memory, idle, outcome = 0, 0, 0, ""
    while not outcome:
        for fd, _ in poll.poll(max(0, next_look - time.monotonic()) * 1000):
            if fd == pidfd:
                return "exit", idle
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                poll.unregister(fd)
            outputs[fd] += chunk
        now = time.monotonic()
        if now >= next_look:
            before = cpu
            cpu, memory, awake = usage(pid)
            if outputs[started] and not awake:  # a look that comes late saw no more than its end
                idle += max(0, min(now - last_look, 2 * TICK) - (cpu - before))
            # when a program cannot foresee or bring about, to be awake at the looks alone
            last_look, next_look = now, now + TICK * (0.5 + os.urandom(1)[0] / 255)
        out_of_time = now > deadline or idle > limits["idle"]
        outcome = exceeded(limits, cpu, memory, outputs) or ("wall" if out_of_time else "")
    return outcome, idle


def sweep(pid):
    """Kill and reap everything that the program left; returns the child's exit code, its peak
    resident bytes and the CPU seconds of all.
    """
    code, peak, cpu = 0, 0, 0.0
    while True:
        with suppress(OSError):
            os.kill(-1 if ISOLATED else -pid, signal.SIGKILL)  # all, or the child's group
        try:
            reaped, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            return code, peak, cpu
        cpu += used.ru_utime + used.ru_stime
        if reaped == pid:
            code, peak = os.waitstatus_to_exitcode(status), used.ru_maxrss << 10


def collect_rest(outputs, limits):
    """What was written just before the end."""
    for fd in outputs:
        with suppress(BlockingIOError):
            while len(outputs[fd]) <= limits["output"] * MIB and (chunk := os.read(fd, 1 << 16)):
                outputs[fd] += chunk
        os.close(fd)


def read_file(limits):
    """What the program wrote to the file named by limits["read"]; nothing if that is not a plain
    file of bearable size.
    """
    path = os.path.join(limits["folder"], limits["read"])
    content = b""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            content = os.read(fd, limits["output"] * MIB)
        os.close(fd)
    return content


def clean(limits):
    """Whether the program left nothing in scratch space, and that as it was."""
    with suppress(OSError):
        os.rmdir(limits["folder"])
        same = os.stat("/tmp").st_mode == TMP_MODE and not os.listxattr("/tmp")
        return not ISOLATED or (same and not os.listdir("/tmp"))
    return False


def run(limits):
    """One run of the program that follows in stdin; returns the parts of its result."""
    began = time.process_time()
    for name in limits["modules"]:
        __import__(name)  # once, for all runs
    pipes = [os.pipe() for _ in range(3)]
    outputs = {reader: bytearray() for reader, _ in pipes}
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(limits, *[writer for _, writer in pipes])
    for reader, writer in pipes:
        os.close(writer)
        os.set_blocking(reader, False)
    pidfd = os.pidfd_open(pid)
    outcome, idle = watch(pid, pidfd, limits, outputs)
    wall = time.monotonic() - start
    code, peak, cpu = sweep(pid)
    os.close(pidfd)
    collect_rest(outputs, limits)
    # the sums after the end: short runs are over before the first look
    beyond = exceeded(limits, cpu, peak, outputs)
    if beyond and (outcome == "exit" or (outcome, beyond) == ("wall", "cpu")):
        outcome = beyond
    stdout, stderr, value = (memoryview(output) for output in outputs.values())
    if limits["read"]:
        stdout = memoryview(read_file(limits))
    stderr, value = stderr[-2000:], value[1:]
    numbers = {"outcome": outcome, "code": code, "cpu": cpu, "wall": wall, "memory": peak}
    numbers |= {"idle": idle, "clean": clean(limits)}
    numbers["spent"] = time.process_time() - began + cpu
    lengths = {"stdout": len(stdout), "stderr": len(stderr), "value": len(value)}
    header = json.dumps(numbers | lengths).encode()
    return struct.pack("<I", len(header)) + header, stdout, stderr, value


def refuse_calls():
    """Install the filter in argv; children inherit it, and to have each install it takes long."""
    code = ctypes.create_string_buffer(bytes.fromhex(sys.argv[2]))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(code))
    zero, yes = ctypes.c_ulong(0), ctypes.c_ulong(1)
    prctl(38, yes, zero, zero, zero)  # PR_SET_NO_NEW_PRIVS, which the filter needs
    if prctl(22, ctypes.c_ulong(2), program) and ISOLATED:  # PR_SET_SECCOMP
        raise OSError("no seccomp filter")


def main():
    os.umask(0o022)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the grader may ignore it, and we would inherit
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 gets those signals that it handles
    if ISOLATED and UID < 0:
        # all have the same uid: be out of reach of ptrace and of /proc/1/mem, children too
        prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    sys.path += sys.argv[3:]
    site.setquit()  # the builtins that a plain Python has from `site`, which -S leaves out
    site.setcopyright()
    site.sethelper()
    if sys.argv[2]:  # not on a machine without one
        refuse_calls()
    compile("def f(): return", "", "exec")  # the first takes each child a millisecond
    with suppress(EOFError):  # when the grader is gone or done
        while True:
            for part in run(read_message()):
                write_all(1, part)


main()
