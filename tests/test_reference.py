"""The log of reference runs: a line before each notebook, whatever becomes of it."""

import json
import subprocess

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
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)
    return done.stdout.decode().strip()


def planned(repo, **changes):
    folder = repo / "outputs" / "small" / "01_small"
    return runner.Run(repo / "notebooks" / "01_small.ipynb", VALUES | changes, folder)


def rows(repo):
    """The cells of each line of the log."""
    lines = (repo / "outputs" / "reference" / "LOG.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def finish(repo):
    folder = repo / "outputs" / "small" / "01_small"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"schema": results.SCHEMA, "claims": []}))
    (folder / "manifest.json").write_text(json.dumps({"finished": "2999-12-31T12:00:00Z"}))


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
    monkeypatch.setattr(runner, "execute", lambda run: seen.append(("ran", run.values["seed"])))
    runs = [planned(repo, seed=seed) for seed in (1, 2)]
    runner.run_all(runs, lambda run: seen.append(("entered", run.values["seed"])))
    assert seen == [("entered", 1), ("ran", 1), ("entered", 2), ("ran", 2)]
