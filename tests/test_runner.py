"""Two notebooks at a time, with real kernels: that they are, and that nothing of them stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from ded import runner

ROOT = Path(__file__).parents[1]
NAMES = ("01_first", "02_second")
VALUES = {"preset": "small", "out_dir": "", "n_jobs": 2}
MEETS = """
import os, pathlib, time
pathlib.Path(name).touch()
while len([*pathlib.Path().glob("0*")]) < 2:
    time.sleep(0.05)
print(pathlib.Path(os.environ["DED_WORKERS"]).name, "of workers")
"""
SLEEPS = """
import os, pathlib, time
pathlib.Path(name).write_text(str(os.getpid()))
time.sleep(600)
"""


def write(repo, source):
    (repo / "notebooks").mkdir()
    for name in NAMES:
        lines = [f"{key} = {value!r}" for key, value in VALUES.items()]
        cells = [nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})]
        cells.append(nbformat.v4.new_code_cell(f"name = {name!r}\n{source}"))
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(notebook, repo / "notebooks" / f"{name}.ipynb")


def runs(repo):
    folder = Path("outputs", "small")
    return [runner.Run(repo / "notebooks" / f"{n}.ipynb", VALUES, folder / n) for n in NAMES]


@pytest.mark.slow
def test_two_notebooks_run_at_a_time_and_share_the_cores(tmp_path, monkeypatch, capsys):
    write(tmp_path, MEETS)
    monkeypatch.chdir(tmp_path)
    ended = []
    assert runner.run_all(runs(tmp_path), after=lambda r: ended.append(r.name), side_by_side=2) == 0
    err = capsys.readouterr().err
    assert "  01 door of workers" in err and "  02 door of workers" in err  # which of them says it
    assert sorted(ended) == [*NAMES] and "DED_WORKERS" not in os.environ
    assert all((tmp_path / "outputs" / "small" / n / f"{n}.ipynb").is_file() for n in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_or_a_kill_ends_both_and_leaves_nothing(tmp_path, how):
    write(tmp_path, SLEEPS)
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
import test_runner as t
t.runner.run_all(t.runs(Path.cwd()), side_by_side=2)
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": tmp_path, "env": env, "text": True, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    deadline = time.monotonic() + 300
    files = [tmp_path / name for name in NAMES]
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    kernels = [int(file.read_text()) for file in files]
    process.send_signal(how)
    _, err = process.communicate(timeout=300)
    assert process.returncode == -how and "FAILED" not in err
    while any(map(psutil.pid_exists, kernels)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if how == signal.SIGINT:
        assert not [file for file in (tmp_path / "outputs").rglob("*") if file.is_file()]


@pytest.mark.parametrize(("n_jobs", "at_a_time"), [(1, 1), (2, 2)])
def test_where_jobs_run_one_at_a_time_notebooks_do_too(
    tmp_path, monkeypatch, capsys, n_jobs, at_a_time
):
    write(tmp_path, MEETS)
    monkeypatch.chdir(tmp_path)
    under_way, most = set(), []

    def execute(run, replace):
        under_way.add(run.name)
        until = time.monotonic() + (60 if at_a_time > 1 else 0.2)
        while len(under_way) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        most.append(len(under_way))
        under_way.discard(run.name)
        return "failed on purpose"

    monkeypatch.setattr(runner, "execute", execute)
    chosen = [
        runner.Run(run.notebook, VALUES | {"n_jobs": n_jobs}, run.folder) for run in runs(tmp_path)
    ]
    assert runner.run_all(chosen, side_by_side=2) == 1 and max(most) == at_a_time
    assert capsys.readouterr().err.count("failed on purpose") == 2


def test_an_error_before_one_of_them_begins_is_raised(tmp_path, monkeypatch):
    write(tmp_path, MEETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "execute", lambda *_: "")

    def begin(run):
        if run.name == NAMES[1]:
            raise ValueError("no second one")

    with pytest.raises(ValueError, match="no second one"):
        runner.run_all(runs(tmp_path), begin, side_by_side=2)
