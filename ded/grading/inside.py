"""What runs inside the sandbox: a supervisor that starts one process a run and reports what became of it.

Not imported by the package: `ded.grading.sandbox` hands this file's text to a bare Python inside the isolation, where
it is process 1 of its own PID namespace, so that no signal from a program reaches it. It reads jobs from stdin, writes
results to stdout, and knows no expected output. All untrusted code, compiling included, happens in a forked child; the
child itself reads its program and input, so that the supervisor's memory, which the next child inherits, holds none of
them.

argv: "1" if this is process 1 of a namespace (then everything else in it can be killed and counted), the uid for
programs ("-1" to keep our own). A job is two marshalled dicts, limits and program, each after 4 bytes of length; a
result is RESULT and three blobs: stdout, stderr and the returned value.
"""

import ctypes
import json
import marshal
import os
import resource
import select
import signal
import struct
import sys
import time

RESULT = struct.Struct(
    "<BiddQIII"
)  # outcome, exit code or -signal, CPU s, wall s, peak bytes, lengths of the blobs
EXIT, CPU, MEMORY, OUTPUT, WALL = range(5)
TICK = 0.05  # seconds between looks at the memory and CPU of everything that runs
ISOLATED, UID = sys.argv[1] == "1", int(sys.argv[2])


def read_exactly(n):
    data = bytearray()
    while len(data) < n:
        chunk = os.read(0, min(n - len(data), 1 << 20))
        if not chunk:
            os._exit(0)  # the grader is gone or done
        data += chunk
    return bytes(data)


def read_message():
    return marshal.loads(read_exactly(struct.unpack("<I", read_exactly(4))[0]))


def write_all(fd, data):
    data = memoryview(data)
    while data:
        data = data[os.write(fd, data) :]


# --- in the child: lower every limit, then become the program ---------------------------------------------------------
def refuse(calls={"x86_64": (0xC000003E, 9, 319, 29), "aarch64": (0xC00000B7, 222, 279, 194)}):
    """A seccomp filter against memory that no limit counts: memfd_create, System V segments, io_uring, memfd_secret, and
    mmap of anonymous shared memory; other ABIs too, which number calls differently. No filter on other machines."""
    if os.uname().machine not in calls:
        return
    arch, mmap, *numbers = calls[os.uname().machine]
    numbers += [425, 447]
    n = len(
        numbers
    )  # an instruction: operation, jump if true, jump if false, operand; the last one refuses
    code = [(0x20, 0, 0, 4), (0x15, 0, n + 7, arch), (0x20, 0, 0, 0), (0x35, n + 5, 0, 1 << 30)]
    code += [(0x15, n + 4 - i, 0, number) for i, number in enumerate(numbers)]
    code += [(0x15, 0, 3, mmap), (0x20, 0, 0, 40), (0x54, 0, 0, 0x21), (0x15, 1, 0, 0x21)]
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
    data = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
    whole = struct.pack("@HP", len(code), ctypes.addressof(data))
    zero, one = ctypes.c_ulong(0), ctypes.c_ulong(1)
    ctypes.CDLL(None).prctl(
        38, one, zero, zero, zero
    )  # PR_SET_NO_NEW_PRIVS, which the filter needs
    ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), whole)  # PR_SET_SECCOMP


def limit(job):
    def cap(which, soft, hard=None):
        ceiling = resource.getrlimit(which)[1]
        values = [
            value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
            for value in (soft, hard or soft)
        ]
        resource.setrlimit(which, tuple(values))

    seconds = int(job["cpu"]) + 1
    cap(resource.RLIMIT_CPU, seconds, seconds + 1)
    cap(
        resource.RLIMIT_AS, job["memory"] + (256 << 20)
    )  # room for reserved, never touched pages; see "peak" below
    cap(resource.RLIMIT_STACK, 64 << 20)
    cap(resource.RLIMIT_FSIZE, job["output"])
    cap(resource.RLIMIT_NOFILE, 64)  # each holds kernel buffers, which nobody counts
    cap(resource.RLIMIT_CORE, 0)
    if UID >= 0:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
    cap(resource.RLIMIT_NPROC, job["processes"])  # counted for the uid, in this user namespace


class NotPlain(TypeError):
    """What cannot leave the sandbox as data."""


def encode(value):
    """Plain data as JSON can carry it: tuples, sets, dicts tagged; subclasses without their class; others refused."""
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    for plain, tag in ((list, None), (tuple, "tuple"), ((set, frozenset), "set")):
        if isinstance(value, plain):
            items = [encode(item) for item in value]
            return {tag: items} if tag else items
    raise NotPlain(f"{type(value).__name__} is not plain data")


def decode(value):
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, items),) = value.items()
    if tag == "complex":
        return complex(*items)
    if tag == "dict":
        return {decode(key): decode(item) for key, item in items}
    return (tuple if tag == "tuple" else set)(decode(item) for item in items)


def stand_in(known, value_fd):
    """A function that gives the known answers, and at a call that it does not know reports it and ends the process."""

    def candidate(*args, **named):
        if named:
            raise NotPlain("arguments by name")
        question = json.dumps(encode(list(args)))
        if question not in known:
            write_all(value_fd, question.encode("ascii"))
            os._exit(0)
        if known[question] is None:
            raise RuntimeError("the program failed on this call")
        return decode(json.loads(known[question]))

    return candidate


def become(job, value_fd):
    """Run the program, then its function if one is to be called; returns the exit code."""
    main = type(sys)("__main__")
    main.__dict__.update(__file__="main.py", __builtins__=__builtins__)
    sys.modules["__main__"] = main
    sys.argv = ["main.py", *job["argv"]]
    code = 0
    try:
        if job["known"]:
            entry, known = job["known"]
            main.__dict__[entry] = main.__dict__["candidate"] = stand_in(known, value_fd)
        exec(compile(job["source"], "main.py", "exec", dont_inherit=True), main.__dict__)
        if job["call"]:
            (entry, *method), args = job["call"][0].split("."), job["call"][1]
            function = main.__dict__[entry]
            args = decode(json.loads(args)) if isinstance(args, str) else args
            value = (getattr(function(), method[0]) if method else function)(*args)
            write_all(value_fd, json.dumps(encode(value)).encode("ascii"))
            return 0
    except SystemExit as stop:
        code = stop.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as failure:
        code = 1
        os.write(2, f"{type(failure).__name__}: {str(failure)[:500]}\n".encode("utf-8", "replace"))
    if "threading" in sys.modules:  # as the interpreter does at its end
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    sys.stdout.flush()
    return (code or 0) & 0xFF


def child(limits, pipes):
    code = 120
    try:
        os.setsid()
        job = read_message()
        stdin = os.memfd_create("stdin")
        write_all(stdin, job["stdin"])
        os.lseek(stdin, 0, os.SEEK_SET)
        os.dup2(stdin, 0)
        os.dup2(os.open("/dev/null", os.O_WRONLY) if job["call"] else pipes[0], 1)
        os.dup2(pipes[1], 2)
        os.dup2(pipes[2], 250)
        os.closerange(3, 250)
        os.closerange(251, 4096)
        limit(limits)
        if limits["folder"]:
            os.mkdir(limits["folder"])
            os.chdir(limits["folder"])
        for name, content in job["files"].items():
            with open(name, "wb") as file:
                file.write(content)
        refuse()
        code = become(job, 250)
    except BaseException as failure:
        os.write(2, type(failure).__name__.encode())
    finally:
        os._exit(code)


# --- in the supervisor ------------------------------------------------------------------------------------------------
def usage(pid):
    """CPU seconds and resident bytes of everything in the namespace but us (of the child alone where there is none)."""
    cpu, pages = 0, 0
    for name in os.listdir("/proc") if ISOLATED else [str(pid)]:
        if name.isdigit() and name != "1":
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            cpu += sum(map(int, fields[11:15]))
            pages += int(fields[21])
    return cpu / os.sysconf("SC_CLK_TCK"), pages * resource.getpagesize()


def watch(pid, pidfd, job, readers, data):
    """Collect output until the child ends or goes too far."""
    poll = select.poll()
    for fd in (*readers, pidfd):
        poll.register(fd, select.POLLIN)
    now = time.monotonic()
    deadline, tick = now + job["wall"], now + TICK
    while True:
        for fd, _ in poll.poll(TICK * 1000):
            if fd == pidfd:
                return EXIT
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                poll.unregister(fd)
            data[fd] += chunk
            if len(data[fd]) > job["output"]:
                return OUTPUT
        now = time.monotonic()
        if now > tick:
            cpu, memory = usage(pid)
            if cpu > job["cpu"]:
                return CPU
            if memory > job["memory"]:
                return MEMORY
            if now > deadline:
                return WALL
            tick = now + TICK


def sweep(pid):
    """Kill and reap everything that the program left; returns the child's wait status and peak resident bytes."""
    status, peak = 0, 0
    while True:
        try:
            os.kill(-1, signal.SIGKILL) if ISOLATED else os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
        try:
            reaped, state, used = os.wait4(-1, 0)
        except ChildProcessError:
            return status, peak
        if reaped == pid:
            status, peak = state, used.ru_maxrss << 10


def read_file(job):
    """What the program wrote to the file named by job["read"]; nothing if that is not a plain file of bearable size."""
    try:
        fd = os.open(
            os.path.join(job["folder"], job["read"]), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        )
        regular = os.fstat(fd).st_mode >> 12 == 8
        content = os.read(fd, job["output"]) if regular else b""
        os.close(fd)
        return content
    except OSError:
        return b""


def run(job):
    pairs = [os.pipe() for _ in range(3)]
    readers = [pair[0] for pair in pairs]
    data = {fd: bytearray() for fd in readers}
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if pid == 0:
        child(job, [pair[1] for pair in pairs])
    for fd, writer in pairs:
        os.close(writer)
        os.set_blocking(fd, False)
    pidfd = os.pidfd_open(pid)
    outcome = watch(pid, pidfd, job, readers, data)
    wall = time.monotonic() - start
    status, peak = sweep(pid)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for fd in readers:  # what was written just before the end
        try:
            while len(data[fd]) <= job["output"] and (chunk := os.read(fd, 1 << 16)):
                data[fd] += chunk
        except BlockingIOError:
            pass
        os.close(fd)
    os.close(pidfd)
    code = os.waitstatus_to_exitcode(status)
    if outcome in (EXIT, WALL) and (cpu > job["cpu"] or code == -signal.SIGXCPU):
        outcome = CPU
    elif outcome == EXIT and peak > job["memory"]:
        outcome = MEMORY
    elif outcome == EXIT and any(len(part) > job["output"] for part in data.values()):
        outcome = OUTPUT
    out, err, value = (bytes(data[fd]) for fd in readers)
    if job["read"]:
        out = read_file(job)
    err = err[-2000:]
    return (
        RESULT.pack(outcome, code, cpu, wall, peak, len(out), len(err), len(value))
        + out
        + err
        + value
    )


def main():
    os.umask(0o022)
    if (
        ISOLATED and UID < 0
    ):  # same uid as the programs: be out of reach of ptrace and of /proc/1/mem
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    while True:
        write_all(1, run(read_message()))


main()
