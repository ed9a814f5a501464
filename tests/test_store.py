"""The store: keys by content, whole entries or none, one computation among many writers."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ded import store

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def start(code: str, folder: Path) -> subprocess.Popen:
    """A second Python process on the same store."""
    env = os.environ | {"DED_STORE": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, stdout=subprocess.PIPE, text=True
    )


# ---- keys


def test_key_is_stable_and_hexadecimal():
    key = store.key("stage", 1, a=1, b=["x", None, True], c={"d": 0.5})
    assert len(key) == 24 and int(key, 16) >= 0
    assert (
        key == "88c6b3c697094b41f9888871"
    )  # a change of this value would drop every reader's store


def test_keys_of_every_kind_of_input_stay():
    """Literal keys of before: a change of one would drop every reader's store."""

    @dataclasses.dataclass(frozen=True)
    class Problem:
        id: str
        meta: dict

    frame = pd.DataFrame(
        {"id": ["a", "b"], "ids": [[1, 2], [3]], "x": [0.5, np.nan], "answer": ["x", None]}
    )
    numbers = {"x": np.arange(3, dtype="int32"), "y": np.float32(0.5), "z": np.float64(0.1)}
    corpus = {"student": "lab:x", "corpus": [["p", "t"]], "learning_rate": 1e-3, "seed": 0}
    assert store.key("training", 2, **corpus) == "6ddde9f5fedae137c265b933"
    mixed = {"a": b"abc", "b": (1, 2.0, True), "c": {"z": None, "a": "é\n"}}
    assert store.key("bytes", 1, **mixed) == "026ca0558e244800e81f0c42"
    assert store.key("table", 3, frame=frame) == "9ee29ecdce428ce6ac0747fe"
    assert store.key("array", 1, **numbers, nan=float("nan")) == "b4d81fd78b2ad08c78cbe57d"
    assert store.key("nothing", 0) == "fd27f2183e418ce3ba2c8609"
    problems = [Problem("a", {"n": 1})]
    assert store.key("record", 1, problems=problems) == "7b9d2a9317a3983224336735"


def test_key_tells_apart_what_differs():
    keys = [
        store.key("s", 1, x=1),
        store.key("s", 1, x=1.0),
        store.key("s", 1, x="1"),
        store.key("s", 1, x=True),
        store.key("s", 1, x=[1]),
        store.key("s", 1, x=None),
        store.key("s", 1),
        store.key("s", 2, x=1),
        store.key("t", 1, x=1),
        store.key("s", 1, y=1),
        store.key("s", 1, x=[1, 2]),
        store.key("s", 1, x=[2, 1]),
        store.key("s", 1, x=b"1"),
        store.key("s", 1, x=[[1], 2]),
        store.key("s", 1, x={"a": 1}),
    ]
    assert len(set(keys)) == len(keys)


def test_key_does_not_depend_on_what_does_not_matter():
    assert store.key("s", 1, a=1, b={"x": 1, "y": 2}) == store.key("s", 1, b={"y": 2, "x": 1}, a=1)
    assert store.key("s", 1, a=(1, 2)) == store.key("s", 1, a=[1, 2])
    assert store.key("s", 1, a=np.float64(0.1), b=np.int64(3)) == store.key("s", 1, a=0.1, b=3)


def test_key_of_records_and_tables():
    @dataclasses.dataclass(frozen=True)
    class Problem:
        id: str
        meta: dict

    assert store.key("s", 1, p=[Problem("a", {"n": 1})]) != store.key(
        "s", 1, p=[Problem("a", {"n": 2})]
    )
    frame = pd.DataFrame({"id": ["a", "b"], "ids": [[1, 2], [3]], "answer": ["x", None]})
    same = pd.DataFrame(
        {"id": ["a", "b"], "ids": [[1, 2], [3]], "answer": ["x", None]}, index=[5, 9]
    )
    assert store.key("s", 1, t=frame) == store.key("s", 1, t=same)
    assert store.key("s", 1, t=frame) != store.key("s", 1, t=frame.iloc[::-1])
    kept = store.table(store.key("s", 1), lambda: frame)
    assert store.key("s", 1, t=frame) == store.key("s", 1, t=kept)  # a round trip changes no key


@pytest.mark.parametrize("value", [Path("here"), object(), {1: 2}, len, {1, 2}])
def test_key_refuses_what_has_no_content(value):
    with pytest.raises(TypeError, match="x"):
        store.key("s", 1, x=value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_key_is_a_function_of_the_value(value):
    import copy

    assert store.key("s", 1, x=value) == store.key("s", 1, x=copy.deepcopy(value))


# ---- entries


def test_values_come_back_as_they_went_in_and_are_computed_once():
    calls = []
    frame = pd.DataFrame({"id": ["a", "b"], "ids": [[1, 2], []], "x": [0.1, np.nan], "n": [1, 2]})
    key = store.key("s", 1)
    assert not store.has(key)
    first = store.table(key, lambda: calls.append(1) or frame)
    again = store.table(key, lambda: calls.append(1) or frame)
    pd.testing.assert_frame_equal(first, again)
    assert calls == [1] and store.has(key)
    assert first.ids.tolist() == [[1, 2], []] and first.n.dtype == frame.n.dtype
    assert store.json(store.key("j", 1), lambda: {"a": np.float64(0.1), "b": [np.int64(2)]}) == {
        "a": 0.1,
        "b": [2],
    }


def test_a_read_computes_nothing():
    key, frame = store.key("s", 1), pd.DataFrame({"ids": [[1, 2], []]})
    with pytest.raises(store.StoreError, match=f"{key}.*no such entry"):
        store.read_table(key)
    store.table(key, lambda: frame)
    pd.testing.assert_frame_equal(store.read_table(key), frame)
    (store.folder(key) / "table.parquet").write_bytes(b"")
    with pytest.raises(store.StoreError, match="differ"):
        store.read_table(key)


def test_directory_and_its_failure(folder):
    def fill(path):
        (path / "sub").mkdir()
        (path / "sub" / "w.bin").write_bytes(b"123")

    path = store.directory(store.key("d", 1), fill)
    assert (path / "sub" / "w.bin").read_bytes() == b"123"

    def fails(path):
        (path / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.directory(store.key("d", 2), fails)
    assert not store.has(store.key("d", 2)) and not list((folder / "tmp").iterdir())


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record"])
def test_damaged_entry_is_computed_again_with_a_warning(damage):
    key = store.key("s", 1)
    store.json(key, lambda: {"a": 1})
    file = store.folder(key) / "value.json"
    if damage == "flip":
        file.write_text(file.read_text().replace("1", "2"))
    elif damage == "cut":
        file.write_text("{")
    elif damage == "remove":
        file.unlink()
    else:
        (store.folder(key) / store.ENTRY).write_text("")
    assert not store.has(key)
    with pytest.warns(UserWarning, match=key):
        assert store.json(key, lambda: {"a": 1}) == {"a": 1}
    assert store.has(key)


def test_two_processes_compute_an_entry_once(folder, tmp_path):
    code = f"""
        import time
        from ded import store
        def compute():
            open({str(tmp_path / "calls")!r}, "a").write("x")
            time.sleep(0.5)
            return list(range(1000))
        for i in range(3):
            assert store.json(store.key("s", 1, i=i), compute) == list(range(1000))
    """
    processes = [start(code, folder) for _ in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert (tmp_path / "calls").read_text() == "xxx"


def test_a_killed_writer_leaves_nothing_that_is_read(folder):
    writer = start(
        """
        import time
        from ded import store
        def fill(path):
            (path / "half").write_text("half")
            print("writing", flush=True)
            time.sleep(60)
        store.directory(store.key("s", 1), fill)
        """,
        folder,
    )
    assert writer.stdout.readline() == "writing\n"
    assert store.sweep() == 0  # a living writer's folder stays
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    key = store.key("s", 1)
    assert not store.has(key) and len(list((folder / "tmp").iterdir())) == 1
    path = store.directory(
        key, lambda work: (work / "whole").write_text("whole")
    )  # and its lock is free
    assert [file.name for file in path.iterdir() if file.name != store.ENTRY] == ["whole"]
    assert not list((folder / "tmp").iterdir())


def test_sweep_removes_what_nobody_writes(folder):
    (folder / "tmp" / f"{store.key('s', 1)}-1234").mkdir(parents=True)
    (folder / "locks").mkdir()
    assert store.sweep() == 1 and not list((folder / "tmp").iterdir())


def test_a_reader_beside_a_writer_sees_whole_entries(folder):
    """One process writes entries of two files slowly; this one sees none or both files."""
    writer = start(
        """
        import time
        from ded import store
        def fill(path):
            for name in ("a", "b"):
                (path / name).write_text("x" * 1000)
                time.sleep(0.01)
        for i in range(20):
            store.directory(store.key("s", 1, i=i), fill)
        """,
        folder,
    )
    while writer.poll() is None:
        for path in folder.glob("??/*"):
            assert {file.name for file in path.iterdir()} == {"a", "b", store.ENTRY}
        time.sleep(0.002)
    assert writer.returncode == 0 and all(store.has(store.key("s", 1, i=i)) for i in range(20))


# ---- what may go


def test_entries_say_what_they_are_and_who_needs_them():
    numbers, table = store.key("j", 1), store.key("t", 1)
    store.json(numbers, lambda: 1)
    store.note_run("small", "01_x", {"seed": 1})
    store.table(table, lambda: pd.DataFrame({"x": [1]}))
    store.end_run()
    store.note_run("large", "01_x", {"seed": 1})
    assert store.has(table)
    store.end_run()
    assert store.has(numbers)  # beside a run: nobody's need
    rows = store.entries().set_index("key")
    assert rows["kind"].to_dict() == {numbers: "numbers", table: "table"}
    assert rows["needed_by"].to_dict() == {numbers: "", table: "large, small"}
    assert (rows["bytes"] > 0).all()
    assert store.remove([numbers, store.key("none", 1)]) == 1
    assert store.entries()["key"].tolist() == [table] and store.has(table)


def test_a_run_that_ends_with_other_parameters_needs_what_it_asked_for_and_no_more():
    old, new = (store.key("j", 1, i=i) for i in range(2))

    def needed():
        rows = store.entries()
        return set(rows.loc[rows["needed_by"].eq("small"), "key"])

    for seed, key in ((1, old), (2, new)):
        store.note_run("small", "01_x", {"seed": seed})
        store.json(key, lambda: 1)
        assert key in needed() and old in needed()  # of a run that may yet be stopped
        store.end_run()
    assert needed() == {new}
    store.note_run("small", "01_x", {"seed": 2})  # again: what it found without reading it stays
    store.end_run()
    assert needed() == {new}


def test_jobs_note_what_they_need_for_the_run_of_the_moment():
    from ded import jobs

    for preset in ("first", "second"):
        store.note_run(preset, "01_x", {})
        jobs.run(read, [{"name": name} for name in ("a", "b")], 2)
        store.end_run()
    assert set(store.entries()["needed_by"]) == {"first, second"} and len(store.entries()) == 2


def read(name):
    return store.json(store.key("j", 1, name=name), lambda: name)


def test_what_no_preset_to_keep_needs_is_removed_when_it_was_agreed_to():
    from typer.testing import CliRunner

    from ded import cli
    from ded.errors import ParameterError

    def command(*arguments, answer="", expected=0):
        result = CliRunner().invoke(cli.app, ["store", *arguments], input=answer)
        assert result.exit_code == expected, result.output
        return result

    store.json(store.key("j", 1), lambda: 1)
    store.note_run("small", "01_x", {})
    store.json(store.key("j", 2), lambda: 2)
    store.end_run()
    refused = command("prune", "--keep", "smal", expected=1)
    assert isinstance(refused.exception, ParameterError) and "run it again" in str(
        refused.exception
    )
    assert "small" in command("size").output
    command("prune", "--keep", "small", answer="n\n", expected=1)
    assert len(store.entries()) == 2
    assert "removed: 1" in command("prune", "--keep", "small", answer="y\n").output
    assert store.entries()["needed_by"].tolist() == ["small"]
    assert "removed" not in command("prune", "--keep", "small").output
