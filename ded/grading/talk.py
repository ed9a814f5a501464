"""What becomes of a process in the sandbox: the program, or the tests that talk with one.

Runs behind the walls only, where `ded.grading.inside` forks a process and hands it a job. What goes
out is data: the value of a call, as JSON, or one end of a talk through pipes.
"""

import builtins
import json
import operator
import os
import struct
import sys
from contextlib import suppress
from types import CodeType, FunctionType

VALUE_FD = 250  # where a child writes the returned value, after a line that says that it starts
FROM_PEER, TO_PEER = 251, 252  # the pipes between tests and their program
ENDED = 3  # the exit code of tests whose program ended before they did
AT_FAULT = 4  # and of tests that fail by themselves


def read_exactly(n, fd=0):
    data = bytearray()
    while len(data) < n:
        chunk = os.read(fd, min(n - len(data), 1 << 20))
        if not chunk:
            raise EOFError("the other end is gone or done")
        data += chunk
    return bytes(data)


def write_all(fd, data):
    data = memoryview(data)
    while data:
        data = data[os.write(fd, data) :]


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


# --- tests and the program under test: two processes that talk ------------------------------------
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
        write_all(TO_PEER, struct.pack("<I", len(data)) + data)

    def receive(self):
        """What the other end sent; EOFError when that has ended."""
        (length,) = struct.unpack("<I", read_exactly(4, FROM_PEER))
        flat, contents = json.loads(read_exactly(length, FROM_PEER))
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
        try:
            return self.ask("name", name)
        except KeyError:
            if self.entry not in ("", name):
                raise  # which Python makes a NameError of the tests
            raise NameError(f"the program has no {name!r}") from None

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
        entry, *calls = job["call"]
        name, *method = entry.split(".")
        if method and name not in names:  # a function will do, as for LiveCodeBench
            name = method.pop()
        together = not method and forgets(names[name])
        for args in calls if together else calls[:1]:
            function = getattr(names[name](), method[0]) if method else names[name]
            value = json.dumps(encode(function(*args)))
            write_all(VALUE_FD, value.encode("ascii") + b"\n")
    elif job["link"] == "program":
        if job["entry"]:
            names[job["entry"]]
        serve(names)


def forgets(function):
    """Whether no call of it can leave anything for the next one: it uses no names but its own."""
    if type(function) is not FunctionType or function.__defaults__ or function.__kwdefaults__:
        return False
    code = function.__code__
    inner = any(isinstance(constant, CodeType) for constant in code.co_consts)
    return not (inner or code.co_names or code.co_freevars)


def at_fault(failure, trace):
    """Whether tests fail by a value, their syntax, a name or an import of their own.

    That is seen from where it was raised: not in the program's name, nor in a text of the program's
    that they evaluate.
    """
    while trace.tb_next:
        trace = trace.tb_next
    place = trace.tb_frame.f_code
    return (
        isinstance(failure, NotPlain)
        or (isinstance(failure, SyntaxError) and place is execute.__code__)
        or (isinstance(failure, (NameError, ImportError)) and place.co_filename == "main.py")
    )


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
        code = AT_FAULT if at_fault(failure, failure.__traceback__) else 1
        os.write(2, f"{type(failure).__name__}: {str(failure)[:500]}\n".encode("utf-8", "replace"))
    if "threading" in sys.modules:  # as the interpreter does at its end
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    sys.stdout.flush()
    return code & 0xFF
