"""Jobs side by side: order, threads, failures, and that nothing goes on in the background."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from ded import jobs, spent, store, workers
from ded.errors import ModelError

ROOT = Path(__file__).parents[1]


def square(x, delay=0.0):
    time.sleep(delay)
    return x * x


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_come_in_the_order_of_the_calls(n_jobs):
    calls = [{"x": x, "delay": 0.02 * (3 - x)} for x in range(4)]
    assert jobs.run(square, calls, n_jobs, "squares") == [0, 1, 4, 9]


def test_where_nothing_is_to_do_no_bar_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(jobs.progress, "LINE", 0.0)
    assert jobs.run(square, [], 1, "squares") == [] and not capsys.readouterr().err


def test_functions_of_a_notebook_travel():
    factor = 3

    def local(x):
        return factor * x, os.getpid()

    results = jobs.run(local, [{"x": x} for x in range(3)], 2)
    assert [value for value, _ in results] == [0, 3, 6] and os.getpid() not in {
        pid for _, pid in results
    }


def test_each_job_has_one_thread():
    def threads(i):
        return [os.environ[name] for name in jobs.THREAD_VARIABLES] + [
            os.environ.get("TQDM_DISABLE")
        ]

    before = os.environ.get("OMP_NUM_THREADS")
    assert jobs.run(threads, [{"i": i} for i in range(2)], 2) == [["1"] * 4 + ["1"]] * 2
    assert jobs.run(threads, [{"i": 0}], 1)[0][:4] == ["1"] * 4
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_first_failure_names_its_arguments_and_stops_the_rest(n_jobs, tmp_path):
    def job(index, teacher, table):
        if index == 1:
            raise ValueError("no such style")
        time.sleep(0.2)
        (tmp_path / str(index)).touch()

    calls = [{"index": i, "teacher": f"lab:{i}", "table": np.zeros((2, 3))} for i in range(40)]
    call = r"job\(index=1, teacher='lab:1', table=<ndarray 2x3>\)"
    place = r"\((test_jobs.py|<dynamic-code>):\d+ in job\)"
    expected = f"job 2 of 40 failed: {call}: ValueError: no such style {place}"
    with pytest.raises(jobs.JobError, match=expected) as caught:
        jobs.run(job, calls, n_jobs)
    assert isinstance(caught.value.__cause__, ValueError)
    done = len(list(tmp_path.iterdir()))
    assert done < 20
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == done  # nothing goes on
    assert jobs.run(square, [{"x": 2}, {"x": 3}], n_jobs) == [
        4,
        9,
    ]  # and the next call has new workers


def test_a_notebook_shows_the_way_to_a_fault_and_one_line_of_what_the_user_can_mend():
    def fails(error):
        raise error

    for error, has_way in ((ModelError("no such model"), False), (ZeroDivisionError("0"), True)):
        with pytest.raises(jobs.JobError) as caught:
            jobs.run(fails, [{"error": error}], 1)
        message, *way = caught.value._render_traceback_()
        assert message == str(caught.value) and ("in fails" in "".join(way)) == bool(way) == has_way


def test_a_worker_that_dies_is_a_failure():
    def dies(i):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(jobs.JobError, match="job 1 or 2 of 2 failed: dies: TerminatedWorkerError"):
        jobs.run(dies, [{"i": 0}, {"i": 1}], 2)


def test_what_is_spent_counts_to_the_innermost_kind(monkeypatch):
    clock = iter(range(1, 100))
    spent.begin()
    monkeypatch.setattr(spent.os, "times", lambda: (float(next(clock)), 0.0, 0.0, 0.0))
    with spent.on("other"):
        spent.take()
    with spent.on("sample"), spent.on("grade"):
        pass
    assert {kind: seconds for kind, seconds in spent.so_far().items() if seconds} == {
        "sample": 2.0,
        "grade": 1.0,
        "other": 3.0,
    }


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_jobs_spend_is_told_with_their_results(n_jobs):
    def job(least):
        with spent.on("train"):
            until = time.process_time() + least
            while time.process_time() < until:
                pass

    spent.begin()
    jobs.run(job, [{"least": 0.2}, {"least": 0.1}], n_jobs)
    assert spent.so_far()["train"] >= 0.29


@pytest.fixture
def shared_workers():
    with workers.shared(1, jobs.ENVIRONMENT):
        yield
    assert workers.DOOR not in os.environ


@pytest.mark.slow
def test_a_shared_worker_has_one_job_at_a_time_of_all_that_ask(shared_workers, tmp_path):
    code = f"""
        import os, pathlib, sys, time
        from ded import jobs
        def alone(i):
            pathlib.Path({str(tmp_path)!r}, "here").mkdir()  # an error where another is at it
            time.sleep(0.05)
            pathlib.Path({str(tmp_path)!r}, "here").rmdir()
            return os.environ["DED_MINE"], os.getpid(), os.environ["OMP_NUM_THREADS"]
        print(*jobs.run(alone, [dict(i=i) for i in range(9)], 2), sep="\\n")
    """
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=env | {"DED_MINE": name},
            text=True,
            stdout=subprocess.PIPE,
        )
        for name in ("first", "second")
    ]
    first, second = (asker.communicate(timeout=300)[0].splitlines() for asker in askers)
    assert len({*first, *second}) == 2  # one process, in the environment of who asks
    assert all("'first'" in line and "'1'" in line for line in first) and len(first) == 9
    assert all("'second'" in line and "'1'" in line for line in second) and len(second) == 9


def test_shared_workers_do_not_mind_a_long_name_of_the_folder_for_temporary_files(
    tmp_path, monkeypatch
):
    (tmp_path / ("long" * 25)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 25)))
    with workers.shared(1, {}):
        assert Path(os.environ[workers.DOOR]).exists()


@pytest.mark.slow
def test_of_a_shared_worker_that_dies_one_job_is_lost_and_another_comes(shared_workers):
    def dies(i):
        if i:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(jobs.JobError, match="job 2 of 2 failed: dies: its worker was killed") as e:
        jobs.run(dies, [{"i": 0}, {"i": 1}], 2)
    assert e.value._render_traceback_() == [str(e.value)]  # no way to a fault of the program
    assert jobs.run(square, [{"x": 2}, {"x": 3}], 2) == [4, 9]


@pytest.mark.slow
def test_what_a_shared_worker_prints_and_raises_is_seen_where_the_job_came_from(
    shared_workers, capsys
):
    def fails(i):
        if i == 1:
            print("about to fail")
            raise ZeroDivisionError("no way")

    with pytest.raises(jobs.JobError, match=r"job 2 of 2 failed: fails\(i=1\): Zero") as caught:
        jobs.run(fails, [{"i": 0}, {"i": 1}], 2)
    assert "about to fail" in capsys.readouterr().err
    assert "in fails" in "".join(caught.value._render_traceback_())


@pytest.mark.slow
def test_a_shared_worker_ends_the_job_of_one_that_was_killed(shared_workers, tmp_path):
    code = f"""
        import os, pathlib, time
        from ded import jobs
        def job(i):
            pathlib.Path({str(tmp_path)!r}, "begun").touch()
            time.sleep(600)
        jobs.run(job, [dict(i=i) for i in range(2)], 2)
    """
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    asker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=env)
    deadline = time.monotonic() + 300
    while not (tmp_path / "begun").exists():
        assert asker.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    asker.kill()
    asker.wait()
    assert jobs.run(square, [{"x": 2}, {"x": 3}], 2) == [4, 9]


def test_what_the_store_holds_is_taken_here_and_the_rest_is_a_worker_s(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path))

    @jobs.looked_up
    def job(i):
        return store.json(store.key("test", 1, i=i), lambda: i), os.getpid()

    def ran(*which):
        results = jobs.run(job, [{"i": i} for i in which], 2)
        assert [value for value, _ in results] == [*which]
        return [pid == os.getpid() for _, pid in results]

    assert ran(1, 2) == [False, False]
    assert ran(2, 1) == [True, True]
    assert ran(1, 3, 2) == [True, False, False]
    (store.folder(store.key("test", 1, i=1)) / "value.json").write_text("9")  # damaged
    with pytest.warns(UserWarning, match="damaged"):
        assert jobs.run(job, [{"i": 1}], 1)[0][0] == 1
    assert ran(1, 3) == [True, True]


@pytest.mark.slow
def test_a_worker_knows_with_how_many_it_shares_a_gpu(shared_workers):
    def n(i):
        return workers.n_side_by_side

    calls = [{"i": i} for i in range(3)]
    assert jobs.run(n, calls, 3) == [1] * 3  # of the shared one
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(workers.DOOR)
        assert jobs.run(n, calls, 2) == [2] * 3
    assert workers.n_side_by_side == 1


def test_count():
    assert jobs.count(3) == 3 and jobs.count(0) >= 1
    with pytest.raises(ValueError, match="n_jobs is -1"):
        jobs.count(-1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(how, tmp_path):
    """Ctrl-C stops the workers; those of a parent that was killed notice it by themselves."""
    code = f"""
        import os, pathlib, time
        from ded import jobs
        def job(i):
            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
            time.sleep(600)
        jobs.run(job, [dict(i=i) for i in range(2)], 2)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while len(list(tmp_path.iterdir())) < 2:
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        workers = [int(file.name) for file in tmp_path.iterdir()]
        parent.send_signal(how)
        parent.wait(300)
        assert parent.returncode != 0
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        parent.kill()
