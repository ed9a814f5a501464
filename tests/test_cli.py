"""The `ded` command, on a small repository of its own: parameters first, then notebooks, then
verdicts.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
DEFAULTS = {
    "preset": "small",
    "out_dir": "",
    "teachers": ["path:a"],
    "n_replicates": 2,
    "n_questions": 10,
    "seed": 0,
    "epochs": 2.0,
    "delta": 0.03,
    "arms": [],
}
SCHEMA = """
import pydantic
from ded import params
from ded.params import schemas
class Tiny(pydantic.BaseModel):
    model_config = schemas.Common.model_config
    preset: str
    out_dir: str
    teachers: schemas.Models
    n_replicates: schemas.Count
    n_questions: schemas.Count
    seed: schemas.Whole
    epochs: schemas.Positive
    delta: schemas.Share
    arms: list[str]
"""
RUN = """
from ded import jobs, params, results
p = params.check(Tiny, globals())
record = results.Recorder(p.out_dir, _name, p)
with record.stage("stage one"):
    squares = jobs.run(lambda x: x * x, [{"x": i} for i in range(p.seed)], 1, "squares")
"""
END = """
record.claim({"name": "c", "statement": "it rises", "verdict": "reproduced", "estimate": 0.1,
              "low": 0.0, "high": 0.2})
_ = record.finish()
"""


def write(repo, name, cells):
    lines = [f"{key} = {value!r}  # meaning" for key, value in DEFAULTS.items()]
    parameters = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})
    setup = nbformat.v4.new_code_cell(f"{SCHEMA}\n_name = {name!r}")
    body = [setup, *map(nbformat.v4.new_code_cell, cells)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[parameters, *body], metadata=kernel)
    nbformat.write(notebook, repo / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "params" / "small").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def command(repo, *arguments):
    """The command with schemas for the notebooks of this test."""
    code = (
        f"{SCHEMA}\nimport ded.cli\n"
        "schemas.SCHEMAS.clear()\n"
        "schemas.SCHEMAS.update({path.stem: Tiny for path in params.notebooks()})\n"
        "ded.cli.main()"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=repo,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(repo, *arguments):
    process = command(repo, *arguments)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


@pytest.mark.slow
def test_reproduce_runs_all_and_shows_the_verdicts_of_those_that_ran(repo):
    write(repo, "01_good", [RUN, END])
    write(repo, "02_bad", [RUN, "deep = {}\ndeep['missing']", END])
    label = "small+seed=4+epochs=1.0"
    bad = repo / "outputs" / label / "02_bad"
    manifest = {"params": DEFAULTS | {"seed": 4, "epochs": 1.0}, "files": [], "stages": {}}
    earlier = {  # of a run that went well
        "02_bad.ipynb": '{"cells": []}',
        "manifest.json": json.dumps(manifest | {"wall_seconds": 0}),
        "metrics.json": '{"claims": []}',
    }
    bad.mkdir(parents=True)
    for name, text in earlier.items():
        (bad / name).write_text(text)
    code, out, err = run(
        repo, "reproduce", "--preset", "small", "-p", "seed", "4", "--param", "epochs", "1e0"
    )
    assert code == 1
    assert (
        "KeyError: 'missing'" in err and "02_bad.failed.ipynb" in err and len(err.splitlines()) < 60
    )
    assert "stage one: 0" in err  # what the notebook prints is shown
    assert (
        re.search(r"reproduced +c\n +[+]10\.0 \[0\.0, 20\.0\]", out)
        and f"failed: no verdicts; those of an earlier run stand in outputs/{label}/02_bad" in out
    )
    folder = repo / "outputs" / label / "01_good"
    assert json.loads((folder / "manifest.json").read_text())["params"] == DEFAULTS | {
        "seed": 4,
        "epochs": 1.0,
    }
    executed = nbformat.read(folder / "01_good.ipynb", as_version=4)
    injected = [c.source for c in executed.cells if c.source.startswith("# Parameters")]
    assert len(injected) == 1 and set(injected[0].split("\n")[1:]) - {""} == {
        "seed = 4",
        "epochs = 1.0",
    }
    assert (
        str(repo) not in (folder / "01_good.ipynb").read_text()
    )  # no machine's folders in what is published
    assert "widget-view" not in (folder / "01_good.ipynb").read_text()
    assert {name: (bad / name).read_text() for name in earlier} == earlier
    assert sorted(f.name for f in bad.iterdir()) == ["02_bad.failed.ipynb", *earlier]
    page = (
        repo / "outputs" / label / "report.html"
    ).read_text()  # of both: what ran, and what did not
    assert (
        f"report: outputs/{label}/report.html" in out and "it rises" in page and "KeyError" in page
    )


def test_wrong_parameters_of_any_notebook_stop_before_any_work(repo):
    write(repo, "01_good", [RUN, END])
    write(repo, "02_good", [RUN, END])
    (repo / "params" / "small" / "01_good.yml").write_text("seed: 1\n")
    (repo / "params" / "small" / "02_good.yml").write_text("seed: 1.5\nn_question: 3\n")
    code, _, err = run(
        repo, "reproduce", "--preset", "small", "-p", "n_replicate", "2", "-p", "delta=2"
    )
    assert code == 2 and not (repo / "outputs").exists()
    for words in (
        "params/small/02_good.yml: seed = 1.5",
        "nearest: n_questions",
        "nearest: n_replicates",
        "delta = 2",
    ):
        assert words in err, err
    assert "Traceback" not in err
    code, _, err = run(repo, "run", "3", "--preset", "small")
    assert code == 2 and "no notebook '03'" in err
    code, _, err = run(repo, "reproduce", "--preset", "smal")
    assert code == 2 and "nearest: small" in err


@pytest.mark.parametrize("command", ["run 1", "params", "check", "estimate", "new mine"])
def test_outside_the_repository_there_is_one_line(tmp_path, command):
    code, out, err = run(tmp_path, *command.split())
    assert code == 2 and not out and not list(tmp_path.iterdir())
    assert err.startswith(f"ded: no notebooks in {tmp_path}/notebooks: ") and err.count("\n") == 1


def test_what_ends_a_command_is_one_line(monkeypatch, capsys):
    from ded import cli

    def ends(error):
        def app(arguments):
            raise error

        monkeypatch.setattr(cli, "app", app)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    code, err = ends(FileNotFoundError(2, "No such file or directory", "README.md"))
    assert code == 1 and err == "ded: README.md: No such file or directory\n"
    code, err = ends(SystemExit(130))  # what typer makes of Ctrl-C
    assert code == 130 and err.startswith("\nded: interrupted; ") and err.count("\n") == 2
    assert ends(SystemExit(0)) == (0, "")
    with pytest.raises(OSError, match="of the program"):
        ends(OSError("of the program"))


def test_an_interrupt_while_modules_are_imported_is_one_line(monkeypatch, capsys):
    from ded import __main__, cli

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit, match="130"):
        __main__.main()
    assert capsys.readouterr().err == "\nded: interrupted\n"


def test_params_prints_what_would_run(repo):
    write(repo, "01_good", [])
    (repo / "params" / "small" / "01_good.yml").write_text("seed: 7\n")
    code, out, _ = run(repo, "params", "--preset", "small", "-p", "teachers", "[path:x, path:y]")
    assert (
        code == 0
        and "seed: 7" in out
        and "teachers: ['path:x', 'path:y']" in out
        and "# 01_good" in out
    )


def test_plain_papermill_fails_in_the_first_cell_for_an_unknown_key(repo):
    import papermill

    write(repo, "01_good", [RUN, END])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.chdir(repo)
        expected = "n_replicate = 3: unknown parameter; nearest: n_replicates"
        with pytest.raises(papermill.PapermillExecutionError, match=expected):
            papermill.execute_notebook(
                "notebooks/01_good.ipynb",
                "out.ipynb",
                {"n_replicate": 3},
                kernel_name="python3",
                progress_bar=False,
            )
    assert not (repo / "outputs").exists()


@pytest.mark.slow
def test_a_finished_run_is_replaced_by_one_of_other_parameters_only_if_asked(repo):
    write(repo, "01_good", [RUN, END])
    outputs = repo / "outputs"

    def seeds():
        manifests = sorted(outputs.glob("*/01_good/manifest.json"))
        return {m.parts[-3]: json.loads(m.read_text())["params"]["seed"] for m in manifests}

    ended = [run(repo, "run", "01", "--preset", "small")]
    ended += [run(repo, "run", "01", "--preset", "small", "-p", "seed", "4")]
    assert [code for code, *_ in ended] == [0, 0] and seeds() == {"small": 0, "small+seed=4": 4}
    assert "01_good, into outputs/small+seed=4/01_good" in ended[1][2]

    (repo / "params" / "small" / "01_good.yml").write_text("seed: 5\n")
    code, _, err = run(repo, "reproduce", "--preset", "small")
    assert code == 2 and "Traceback" not in err
    assert "outputs/small/01_good holds a finished run" in err and "seed 5 (was 0)" in err
    assert "--replace" in err and seeds() == {"small": 0, "small+seed=4": 4}
    assert run(repo, "reproduce", "--preset", "small", "--replace")[0] == 0
    assert seeds() == {"small": 5, "small+seed=4": 4}

    # another process ends in its folder while it runs
    manifest = outputs / "meanwhile" / "02_good" / "manifest.json"
    other = json.dumps({"params": DEFAULTS | {"seed": 9}})
    texts = {"manifest.json": other, "metrics.json": '{"claims": []}'}
    ends = (
        f"import pathlib\nfor name, text in {texts!r}.items():\n"
        f"    pathlib.Path({str(manifest.parent)!r}, name).write_text(text)"
    )
    write(repo, "02_good", [RUN, ends, END])
    (repo / "params" / "meanwhile").mkdir()
    (repo / "params" / "meanwhile" / "all.yml").write_text("extends: small\nseed: 3\n")
    code, _, err = run(repo, "run", "02", "--preset", "meanwhile")
    assert code == 1 and "02_good holds a finished run of other parameters" in err
    assert manifest.read_text() == other


@pytest.mark.slow
def test_a_run_that_is_interrupted_or_killed_leaves_what_was_there(repo):
    """No verdicts where there were none, those of an earlier run where there were; no kernel."""
    import psutil

    slow = (
        "import time, os, pathlib; pathlib.Path('pid').write_text(str(os.getpid())); "
        "time.sleep(600)"
    )
    write(repo, "01_slow", [RUN, slow])
    earlier: dict = {}
    for how, expected in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        (repo / "pid").unlink(missing_ok=True)
        process = command(repo, "reproduce", "--preset", "small")
        deadline = time.monotonic() + 300
        while not (repo / "pid").exists() or not (repo / "pid").read_text():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.1)
        kernel = int((repo / "pid").read_text())
        process.send_signal(how)
        _, err = process.communicate(timeout=300)
        assert process.returncode == expected
        assert "Traceback" not in err
        assert how != signal.SIGINT or err.splitlines()[-1].startswith("ded: interrupted; ")
        while psutil.pid_exists(kernel) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not psutil.pid_exists(kernel)
        folder = repo / "outputs" / "small" / "01_slow"
        there = {f.name: f.read_text() for f in folder.iterdir() if f.is_file()}
        assert there == earlier
        earlier = {"metrics.json": "{}", "manifest.json": "{}", "01_slow.ipynb": "{}"}
        for name, text in earlier.items():
            (folder / name).write_text(text)
