"""What runs inside the sandbox: a supervisor that starts one process a run and reports what became
of it.

Not imported by the package: `ded.grading.sandbox` hands this file's text to a bare Python inside
the isolation, where it is process 1 of its own PID namespace, so that no signal from a program
reaches it. It reads jobs from stdin, writes results to stdout, and knows no expected output. All
untrusted code, compiling included, happens in a forked child; the child itself reads its program
and input, so that the supervisor's memory, which the next child inherits, holds none of them.

argv: the uid for programs ("-1" to keep our own), the open file with which a process joins the
cgroup of this sandbox ("-1" for none), and a folder of packages for them if there is
one. A job is two marshalled dicts, limits and program, each after 4 bytes of length. A result is a
JSON object, after 4 bytes of length, in which stdout, stderr and the returned value stand with
their lengths, and then those three.
"""

import builtins
import ctypes
import json
import marshal
import operator
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

TICK = 0.05  # seconds between looks at the memory and CPU of everything that runs
MIB = 1 << 20
INODE, SOCKET = 2 << 10, 416 << 10  # bytes of the kernel's, at most (man 7 socket, wmem_max)
VALUE_FD = 250  # where a child writes the returned value, after a line that says that it starts
PEER_FD = 251  # the socket between tests and their program
ENDED = 3  # the exit code of tests whose program ended before they did
OF_PROGRAM = "raised by the program"  # a note at what tests raise in its name
ISOLATED = os.getpid() == 1  # then everything else here can be killed and counted
UID, CGROUP = map(int, sys.argv[1:3])

# System calls that programs do not get, with their numbers on x86-64 and on ARM64: memory that no
# limit counts or that outlives a run; mounts and namespaces; other processes, and the kernel; a
# lower priority, with which a program could starve itself; and four that depend on an argument.
CALLS = """
memfd_create 319 279, memfd_secret 447 447, io_uring_setup 425 425, userfaultfd 323 282,
shmget 29 194, semget 64 190, msgget 68 186, mq_open 240 180,
inotify_init 253 26, inotify_init1 294 26, fanotify_init 300 262,
add_key 248 217, request_key 249 218, keyctl 250 219,
unshare 272 97, setns 308 268, clone3 435 435, mount 165 40, umount2 166 39, pivot_root 155 41,
chroot 161 51, open_tree 428 428, open_tree_attr 467 467, move_mount 429 429, fsopen 430 430,
fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442,
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, pidfd_getfd 438 438,
bpf 321 280, perf_event_open 298 241,
setpriority 141 140, sched_setscheduler 144 119, sched_setattr 314 274,
mmap 9 222, clone 56 220, socket 41 198, rt_sigaction 13 134
"""
# instructions of the filter: operation, jump if true, jump if false, operand
LOAD, SAME, NOT_BELOW, ANY_BIT, MASK = 0x20, 0x15, 0x35, 0x45, 0x54
ALLOW, REFUSE, ABSENT = ((0x06, 0, 0, code) for code in (0x7FFF0000, 0x00050001, 0x00050026))
BY_ARGUMENT = {
    "clone3": [ABSENT],  # its flags are behind a pointer; the C library falls back on clone
    # no huge pages, which are not resident, and no shared anonymous memory
    "mmap": [
        *[(LOAD, 0, 0, 40), (ANY_BIT, 2, 0, 0x40000), (MASK, 0, 0, 0x21), (SAME, 0, 1, 0x21)],
        *[REFUSE, ALLOW],
    ],
    # no new namespace, and no child that is its sibling
    "clone": [(LOAD, 0, 0, 16), (ANY_BIT, 0, 1, 0x7E028000), REFUSE, ALLOW],
    "socket": [(LOAD, 0, 0, 16), (SAME, 1, 0, 1), REFUSE, ALLOW],  # AF_UNIX only
    # SIGCHLD is asked about only: the kernel forgets the CPU time of children where it is ignored
    "rt_sigaction": [
        *[(LOAD, 0, 0, 16), (SAME, 0, 4, signal.SIGCHLD)],
        *[(LOAD, 0, 0, 24), (SAME, 0, 3, 0), (LOAD, 0, 0, 28), (SAME, 0, 1, 0)],
        *[ALLOW, REFUSE],
    ],
}


def read_message():
    (length,) = struct.unpack("<I", read_exactly(4))
    return marshal.loads(read_exactly(length))


def read_exactly(n, fd=0):
    data = bytearray()
    while len(data) < n:
        chunk = os.read(fd, min(n - len(data), MIB))
        if not chunk:
            raise EOFError("the other end is gone or done")
        data += chunk
    return bytes(data)


def write_all(fd, data):
    data = memoryview(data)
    while data:
        data = data[os.write(fd, data) :]


# --- in the child: lower every limit, then become the program -------------------------------------
def call_filter():
    """The seccomp program against what would take a program, its memory or its CPU time out of
    sight: `CALLS`, and other ABIs, which number calls differently. None for other machines.
    """
    machines = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}  # and columns of `CALLS`
    if os.uname().machine not in machines:
        return None
    architecture, column = machines[os.uname().machine]
    code = [
        (LOAD, 0, 0, 4),
        (SAME, 1, 0, architecture),
        REFUSE,
        (LOAD, 0, 0, 0),  # the number of the call
        (NOT_BELOW, 0, 1, 1 << 30),
        REFUSE,
    ]
    for line in CALLS.replace("\n", " ").split(","):
        call = line.split()
        decision = BY_ARGUMENT.get(call[0], [REFUSE])
        code += [(SAME, 0, len(decision), int(call[column])), *decision]
    code.append(ALLOW)
    return ctypes.create_string_buffer(
        b"".join(struct.pack("=HBBI", *each) for each in code), 8 * len(code)
    )


FILTER, PRCTL = call_filter(), ctypes.CDLL(None).prctl


def refuse_calls():
    if FILTER is None:
        return
    program = struct.pack("@HP", len(FILTER) // 8, ctypes.addressof(FILTER))
    zero, yes = ctypes.c_ulong(0), ctypes.c_ulong(1)
    PRCTL(38, yes, zero, zero, zero)  # PR_SET_NO_NEW_PRIVS, which the filter needs
    if PRCTL(22, ctypes.c_ulong(2), program) and ISOLATED:  # PR_SET_SECCOMP
        raise OSError("no seccomp filter")


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
    cap(resource.RLIMIT_NPROC, limits["processes"])  # counted for the uid, in this user namespace


class NotPlain(TypeError):
    """What cannot leave its process as data."""


SCALARS: dict = {  # as JSON can carry them, without their class
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    complex: lambda value: {"complex": [value.real, value.imag]},
    bytes: lambda value: {"bytes": value.hex()},
    type(None): lambda value: value,
}


def scalar(value):
    """A number, a text or None for JSON; NotImplemented for all else."""
    if type(value).__module__ == "numpy" and hasattr(value, "item") and not value.shape:
        value = value.item()  # Python's own number
    if isinstance(value, int) and value.bit_length() >= 4096:
        return {"int": hex(value)}  # of any length no work to read
    for kind, plain in SCALARS.items():
        if isinstance(value, kind):
            return plain(value)
    return NotImplemented


def encode(value):
    """Plain data as JSON can carry it: tuples, sets, dicts tagged; subclasses without their class;
    others refused.
    """
    if (plain := scalar(value)) is not NotImplemented:
        return plain
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    for kind, tag in ((list, None), (tuple, "tuple"), (set, "set"), (frozenset, "set")):
        if isinstance(value, kind):
            items = [encode(item) for item in value]
            return {tag: items} if tag else items
    raise NotPlain(f"{type(value).__name__} is not plain data")


# --- tests and the program under test: two processes, in sandboxes of their own, that talk --------
FILL: dict = {"list": list.extend, "dict": dict.update, "set": set.update}
OPERATIONS: dict = {
    name: getattr(builtins, name) for name in ("getattr", "setattr", "iter", "next", "len", "bool")
}
OPERATIONS |= {"call": operator.call, "getitem": operator.getitem}


class Link:
    """One end of the talk, in which the tests ask and the program answers.

    Plain data crosses. Lists, dicts and sets have a number, the same at both ends, so that identity
    and changes in place are seen over there; all else stays with the program, and the tests get a
    `remote` of it, which has nothing but a number.
    """

    def __init__(self, remote: type = object) -> None:
        self.kinds = {"list": list, "dict": dict, "set": set, "": remote}
        self.objects: list = []
        self.numbers: dict[int, int] = {}  # by id

    def number(self, value):
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self.numbers[id(value)]

    def flat(self, value, contents):
        """A value as JSON; `contents` collects what the numbered objects in it hold."""
        if (plain := scalar(value)) is not NotImplemented:
            return plain
        for kind in (tuple, frozenset):
            if isinstance(value, kind):
                return {kind.__name__: [self.flat(item, contents) for item in value]}
        tag = next((tag for tag, kind in self.kinds.items() if isinstance(value, kind)), None)
        if tag is None:
            raise NotPlain(f"{type(value).__name__} is not plain data: it cannot be handed over")
        number = self.number(value)
        if number not in contents:
            items: list = []
            contents[number] = (tag, items)
            for item in (value.items() if tag == "dict" else value) if tag else ():
                items.append(self.flat(item, contents))
        return {"object": number}

    def value(self, flat):
        if not isinstance(flat, dict):
            return flat
        ((tag, content),) = flat.items()
        if tag in ("tuple", "frozenset"):
            return {"tuple": tuple, "frozenset": frozenset}[tag](map(self.value, content))
        if tag == "complex":
            return complex(*content)
        if tag == "object":
            return self.objects[content]
        return int(content, 16) if tag == "int" else bytes.fromhex(content)

    def send(self, value):
        contents: dict[int, tuple] = {}
        flat = self.flat(value, contents)
        data = json.dumps([flat, list(contents.items())]).encode("ascii")
        write_all(PEER_FD, struct.pack("<I", len(data)) + data)

    def receive(self):
        """What the other end sent; EOFError when that has ended."""
        (length,) = struct.unpack("<I", read_exactly(4, PEER_FD))
        flat, contents = json.loads(read_exactly(length, PEER_FD))
        for number, (tag, _) in contents:
            if number == len(self.objects):
                self.number(self.kinds[tag]())
        for number, (tag, items) in contents:
            if tag:
                self.objects[number].clear()
                FILL[tag](self.objects[number], map(self.value, items))
        return self.value(flat)


def serve(names):
    """Answer what the tests ask of the program, which has these names, until they end."""
    link, operations = Link(), OPERATIONS | {"name": names.__getitem__}
    with suppress(EOFError):
        while True:
            operation, args, named = link.receive()
            raised = None
            try:
                value = operations[operation](*args, **dict(named))
            except BaseException as failure:
                value, raised = failure.args, [kind.__name__ for kind in type(failure).__mro__]
            link.send((value, raised, args, named))  # as they are after the call


class Names(dict):
    """The builtins of the tests: a name that is neither theirs nor Python's is the program's."""

    def __init__(self, entry: str) -> None:
        super().__init__(vars(builtins))
        self.entry = entry
        methods = {f"__{operation}__": self.forwarded(operation) for operation in OPERATIONS}
        self.link = Link(type("Remote", (), methods))

    def __missing__(self, name):
        if name in sys.stdlib_module_names and name != self.entry:
            return __import__(name)
        return self.ask("name", name)  # a KeyError in here is a NameError of the tests

    def forwarded(self, operation):
        return lambda *args, **named: self.ask(operation, *args, **named)

    def ask(self, operation, /, *args, **named):
        """The program's answer, or what it raised: as the nearest of Python's own exceptions."""
        try:
            self.link.send((operation, args, tuple(named.items())))
            value, raised, *_ = self.link.receive()
        except NotPlain:
            raise
        except Exception:  # it has ended, or talks nonsense
            os._exit(ENDED)
        if raised is None:
            return value
        failure: Exception = RuntimeError(*value)
        kinds = filter(None, (getattr(builtins, name, None) for name in raised))
        kind = next((kind for kind in kinds if issubclass(kind, Exception)), RuntimeError)
        if kind is not StopIteration or operation == "next":  # else it ends a loop of the tests
            with suppress(TypeError):  # where it cannot be made of these arguments
                failure = kind(*value)
        failure.add_note(OF_PROGRAM)
        raise failure


def execute(job, names):
    """Run the program in a module with these names, then its function if one is to be called."""
    if "random" in job["preamble"] + job["source"]:
        __import__("random").seed(0)
    if job["link"] == "tests":
        names["__builtins__"] = Names(job["entry"])
    for part in ("preamble", "source"):  # apart: each may begin with a docstring, or __future__
        exec(compile(job[part], "main.py", "exec", dont_inherit=True), names)
    if job["call"]:
        entry, args = job["call"]
        name, *method = entry.split(".")
        if method and name not in names:  # a function will do, as for LiveCodeBench
            name = method.pop()
        function = getattr(names[name](), method[0]) if method else names[name]
        write_all(VALUE_FD, json.dumps(encode(function(*args))).encode("ascii"))
    elif job["link"] == "program":
        if job["entry"]:
            names[job["entry"]]
        serve(names)


def become(job):
    """Be the program, to the end of its threads and exit functions; returns the exit code."""
    imported = job["call"] or job["link"] == "program"  # for what it defines, and not run
    main = type(sys)("main" if imported else "__main__")
    main.__dict__.update(__file__="main.py", __builtins__=__builtins__)
    sys.modules["__main__"] = sys.modules[main.__name__] = main
    sys.argv = ["main.py", *job["argv"]]
    code = 0
    try:
        execute(job, main.__dict__)
        if imported:
            return 0
    except SystemExit as stop:
        if isinstance(stop.code, int):
            code = stop.code
        elif stop.code is not None:
            print(stop.code, file=sys.stderr)
            code = 1
    except BaseException as failure:
        code = 2 if OF_PROGRAM in getattr(failure, "__notes__", ()) else 1
        os.write(2, f"{type(failure).__name__}: {str(failure)[:500]}\n".encode("utf-8", "replace"))
    if "threading" in sys.modules:  # as the interpreter does at its end
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    sys.stdout.flush()
    return code & 0xFF


def child(limits, stdout, stderr, value):
    """Never returns: whatever happens, the process ends here. The arguments after `limits` are
    pipes to write to.
    """
    code = 120
    try:
        os.setsid()
        job = read_message()
        if job["link"]:
            socket = sys.modules["socket"]
            with socket.socket(fileno=os.dup(0)) as channel:
                _, (peer,), *_ = socket.recv_fds(channel, 1, 1)
        stdin = os.memfd_create("stdin")
        write_all(stdin, job["stdin"])
        os.lseek(stdin, 0, os.SEEK_SET)
        os.dup2(stdin, 0)
        os.dup2(os.open("/dev/null", os.O_WRONLY) if job["call"] or job["link"] else stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(value, VALUE_FD)
        os.closerange(VALUE_FD + 1, 4096)
        if job["link"]:
            os.dup2(peer, PEER_FD)
        os.closerange(3, VALUE_FD)
        lower_limits(limits)
        if limits["folder"]:
            os.mkdir(limits["folder"])
            os.chdir(limits["folder"])
        for name, content in job["files"].items():
            with open(name, "wb") as file:
                file.write(content)
        refuse_calls()
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
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children") as file:
                    ids += file.read().split()
    return ids


def status(path):
    """The fields of a stat file from the state on (man 5 proc)."""
    with open(f"/proc/{path}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def wants_cpu(name, fields, parents):
    """Whether a thread of this process runs, waits for a CPU, or for a disk.

    A parent whose state is that of waiting for a disk waits for the child that it lent its memory.
    """
    states = {fields[0]}
    if fields[17] != b"1":
        with suppress(OSError):
            states = {
                status(f"{name}/task/{thread}")[0] for thread in os.listdir(f"/proc/{name}/task")
            }
    return b"R" in states or (b"D" in states and name.encode() not in parents)


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
        scratch = os.statvfs("/tmp" if os.path.exists("/tmp") else "/")
        memory += (scratch.f_files - scratch.f_ffree) * INODE
        with open("/proc/net/unix", "rb") as file:
            memory += len(file.readlines()[1:]) * SOCKET
    parents = {fields[1] for fields in stats.values()}
    awake = any(wants_cpu(name, fields, parents) for name, fields in stats.items())
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
    deadline = last_look + limits["wall"]
    cpu, memory, idle, outcome = 0, 0, 0, ""
    while not outcome:
        for fd, _ in poll.poll(TICK * 1000):
            if fd == pidfd:
                return "exit", idle
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                poll.unregister(fd)
            outputs[fd] += chunk
        now = time.monotonic()
        if now > last_look + TICK:
            before = cpu
            cpu, memory, awake = usage(pid)
            if outputs[started] and not awake:  # a look that comes late saw no more than its end
                idle += max(0, min(now - last_look, 2 * TICK) - (cpu - before))
            last_look = now
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
    """Whether the program left nothing in scratch space."""
    try:
        if limits["folder"]:
            os.rmdir(limits["folder"])
        return not (limits["folder"] and ISOLATED and os.listdir("/tmp"))
    except OSError:
        return False


def run(limits):
    """One run of the program that follows in stdin; returns the parts of its result."""
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
    lengths = {"stdout": len(stdout), "stderr": len(stderr), "value": len(value)}
    header = json.dumps(numbers | lengths).encode()
    return struct.pack("<I", len(header)) + header, stdout, stderr, value


def main():
    os.umask(0o022)
    if CGROUP >= 0:
        with suppress(OSError):  # kernels before 5.16 may refuse: without a cap, then
            os.write(CGROUP, b"0")
        os.close(CGROUP)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the grader may ignore it, and we would inherit
    if ISOLATED and UID < 0:
        # the same uid as the programs: be out of reach of ptrace and of /proc/1/mem
        PRCTL(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    sys.path += sys.argv[3:]
    site.setquit()  # the builtins that a plain Python has from `site`, which -S leaves out
    site.setcopyright()
    site.sethelper()
    with suppress(EOFError):  # when the grader is gone or done
        while True:
            for part in run(read_message()):
                write_all(1, part)


main()
