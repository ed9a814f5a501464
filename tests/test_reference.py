"""The log of reference runs: a line before each notebook, whatever becomes of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ded import reference, results, runner
from ded.errors import ParameterError

VALUES = {"preset": "small", "out_dir": "", "seed": 1}


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ded"\n')
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "kept.txt").write_text("of a run")
    git("init")
    git("config", "user.name", "a")
    git("config", "user.email", "a@example.org")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def git(*arguments):
    done = subprocess.run(["git", *arguments], check=True, capture_output=True)
    return done.stdout.decode().strip()


def planned(repo, name="01_small", **changes):
    folder = Path("outputs", "reference", name)
    return runner.Run(repo / "notebooks" / f"{name}.ipynb", VALUES | changes, folder)


def rows(repo):
    """The cells of each line of the log."""
    lines = (repo / "outputs" / "reference" / "LOG.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def finish(repo, name="01_small"):
    folder = repo / "outputs" / "reference" / name
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"finished": "2999-12-31T12:00:00Z", "params": VALUES, "files": ["scores.csv"]}
    (folder / "scores.csv").write_text("arm")
    (folder / f"{name}.ipynb").write_text("{}")
    (folder / "metrics.json").write_text(json.dumps({"schema": results.SCHEMA, "claims": []}))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"commit": results.commit()}))


def test_a_line_says_when_what_and_why_and_whether_it_was_resumed(repo):
    reference.begin("the paper's | conditions\nat last")(planned(repo))
    reference.begin("again")(planned(repo))
    reference.begin("more seeds")(planned(repo, seed=2))
    finish(repo)
    reference.begin("a replay")(planned(repo, seed=2))
    times, notebooks, commits, params, why = zip(*rows(repo), strict=True)
    assert why == ("the paper's / conditions at last", "resumed: again", "more seeds", "a replay")
    assert set(notebooks) == {"01_small"} and set(commits) == {git("rev-parse", "HEAD")}
    assert params[0] == params[1] != params[2] == params[3]
    assert list(times) == sorted(times) and "reference" in git("status", "--porcelain", "-u")


@pytest.mark.parametrize("why", ["", "  "])
def test_a_run_without_a_reason_does_not_begin(repo, why):
    with pytest.raises(ParameterError, match="says why"):
        reference.begin(why)


def test_uncommitted_changes_are_refused_unless_forced_by_name(repo):
    (repo / "outputs" / "kept.txt").write_text("of another run")  # what runs write is none
    assert reference.begin("why") and results.commit() == git("rev-parse", "HEAD")
    (repo / "pyproject.toml").write_text('[project]\nname = "ded"  # edited\n')
    with pytest.raises(ParameterError, match=r"pyproject\.toml: .*--with-uncommitted-changes"):
        reference.begin("why")
    reference.begin("why", with_changes=True)(planned(repo))
    assert rows(repo)[0][2] == git("rev-parse", "HEAD") + "+changes"


def test_outside_a_repository_there_is_no_reference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="names its commit"):
        reference.begin("why")


def test_each_notebook_is_entered_before_it_begins(repo, monkeypatch):
    seen = []
    monkeypatch.setattr(runner, "execute", lambda run, _: seen.append(("ran", run.values["seed"])))
    runs = [planned(repo, seed=seed) for seed in (1, 2)]
    runner.run_all(runs, lambda run: seen.append(("entered", run.values["seed"])))
    assert seen == [("entered", 1), ("ran", 1), ("entered", 2), ("ran", 2)]


def test_a_notebook_is_committed_as_it_ends_in_the_place_of_the_one_before(repo):
    earlier = repo / "outputs" / "reference" / "01_small" / "gone.csv"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of an earlier run")
    git("add", ".")
    git("commit", "-m", "second")
    run = planned(repo)
    reference.begin("a | reason")(run)
    finish(repo)
    reference.keep("a | reason")(run)
    there = {file.name for file in earlier.parent.iterdir()}
    assert there == {"scores.csv", "01_small.ipynb", "metrics.json", "manifest.json"}
    assert "reference" not in git("status", "--porcelain")
    assert git("log", "-1", "--format=%s") == "reference, 01_small: a / reason"
    assert "LOG.md" in git("show", "--name-only", "--format=")


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_reference as t
from ded import reference, runner

def execute(run, replace=False):
    if run.name == "02_small":
        os.kill(os.getpid(), signal.SIGKILL)
    t.finish(Path.cwd(), run.name)

runner.execute = execute
runs = [t.planned(Path.cwd(), name) for name in ("01_small", "02_small")]
runner.run_all(runs, reference.begin("why"), end=reference.keep("why"))
"""


def test_a_run_that_is_killed_keeps_what_is_complete_and_is_resumed(repo):
    script = KILLED.format(tests=str(Path(__file__).parent))
    killed = subprocess.run([sys.executable, "-c", script], cwd=repo, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert "01_small" in git("log", "-1", "--format=%s")
    second = planned(repo, "02_small")
    reference.begin("again")(second)
    assert [row[1::3] for row in rows(repo)] == [
        ["01_small", "why"],
        ["02_small", "why"],
        ["02_small", "resumed: again"],
    ]
    finish(repo, "02_small")
    reference.keep("again")(second)
    assert git("log", "-1", "--format=%s").endswith("again")
