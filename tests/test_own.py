"""One command from a model, teachers and questions of one's own to a preset that can be run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ded import cli, models, own, params, results, runner, study
from ded.errors import ParameterError

ROOT = Path(__file__).parents[1]


def write(file, rows):
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def mine(tiny, tmp_path, monkeypatch):
    """A folder as `ded new` makes it, with a model's directory, questions and two files of traces;
    the working directory."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    shutil.copytree(models.locate("lab:student_1"), tmp_path / "student")
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question": f"{a} +{b} =", "answer": f"{(a + b) % 10}", "kind": "exact", "split": split}
        for a in range(10)
        for b, split in enumerate(("test", "train", "train"))
    ]
    write("questions.jsonl", rows)
    write("other.jsonl", [{**row, "split": "test"} for row in rows if row["split"] == "test"][:4])
    for name in ("left", "right"):
        traces = [{**row, "text": f"<think> 1 </think> {row['answer']}"} for row in rows]
        write(f"{name}.jsonl", traces)
    return tmp_path


COMMAND = ["study", "--student", "student", "--teachers", "left.jsonl", "--teachers"]
COMMAND += ["right.jsonl", "--questions", "questions.jsonl", "--ood", "other.jsonl"]
ONE = ["--only", "01", "-p", "n_jobs=1"]


def test_names_become_a_preset_that_is_checked_and_estimated(mine, monkeypatch):
    monkeypatch.setattr(runner, "run_all", lambda *_: pytest.fail("a dry run runs nothing"))
    done = CliRunner().invoke(cli.app, [*COMMAND, *ONE, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "traces of recorded:left.jsonl" in done.output and "this machine can" in done.output
    assert "minutes of one core" in done.output
    values = params.checked("mine", "01")
    assert values.students == ["path:student"] and values.corpus_source == "file:questions.jsonl"
    assert values.teachers == ["recorded:left.jsonl", "recorded:right.jsonl"]
    assert (values.n_questions, values.eval_id, values.eval_ood) == (20, 10, 4), "what there is"
    assert values.split == "test"
    assert values.learning_rate == params.checked("smollm", "01").learning_rate


ASKED = (["student"], ["left.jsonl"], "questions.jsonl")


def test_every_notebook_gets_what_it_has(mine):
    common = own.values("smollm", *ASKED)[1] | {"n_attempts": 3, "seed": 7}
    folder = own.write("mine", "smollm", common, replace=False)
    for notebook in (path.stem for path in params.notebooks()):
        values = params.checked("mine", notebook)
        assert values.seed == 7 and getattr(values, "n_attempts", 3) == 3
        assert getattr(values, "code_source", "") == getattr(values, "code_id_source", "") == ""
        assert study.teachers_of(values) == ["recorded:left.jsonl"]
        assert values.n_questions == 20, "the preset asks for more, and the file has no more"
    assert "extends: smollm" in (folder / "all.yml").read_text()
    with pytest.raises(ParameterError, match=r"n_attempt = 3.*nearest: n_attempts"):
        own.write("mine", "smollm", common | {"n_attempt": 3}, replace=False)


def test_a_preset_with_other_values_is_not_written_over(mine):
    start, common = own.values("", *ASKED)
    assert start == "smollm", "by the student's size"
    file = own.write("mine", "smollm", common, replace=False) / "all.yml"
    file.write_text("# my own words\n" + file.read_text())
    own.write("mine", "smollm", common, replace=False)
    assert file.read_text().startswith("# my own words"), "the same values are left as they stand"
    with pytest.raises(
        ParameterError, match=r"preset 'mine' is there already: seed 8 \(was \d\); "
    ):
        own.write("mine", "smollm", common | {"seed": 8}, replace=False)
    own.write("mine", "smollm", common | {"seed": 8}, replace=True)
    assert params.checked("mine", "01").seed == 8


def test_what_cannot_run_is_not_begun(mine, monkeypatch):
    monkeypatch.setattr(runner, "run_all", lambda *_: pytest.fail("it cannot run"))
    write("left.jsonl", [{"question": "1 +1 =", "text": "2"}])
    done = CliRunner().invoke(cli.app, [*COMMAND, *ONE, "--yes"])
    assert done.exit_code == 1 and "MISSING traces of recorded:left.jsonl" in done.output


def test_options_with_several_values_take_them_in_a_row(monkeypatch):
    given = [
        "ded",
        "study",
        "--teachers",
        "a",
        "b",
        "-p",
        "seed",
        "2",
        "--only",
        "01",
        "04",
        "--yes",
    ]
    asked = []
    monkeypatch.setattr(cli.sys, "argv", given)
    monkeypatch.setattr(cli, "app", asked.extend)
    cli.main()
    expected = "study --teachers a --teachers b -p seed=2 --only 01 --only 04 --yes"
    assert asked == expected.split()


@pytest.mark.slow
def test_the_page_runs_from_nothing_to_the_report(tmp_path):
    """docs/your-own-model.md, block by block, in a folder of its own."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    text = (ROOT / "docs" / "your-own-model.md").read_text()
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", text, re.S | re.M)
    python = {"python": "", "bash": f'set -e; ded() {{ "{sys.executable}" -m ded.cli "$@"; }}\n'}
    shells = {"python": [sys.executable, "-c"], "bash": ["bash", "-c"]}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DED_STORE": str(tmp_path / "store")}
    outputs = []
    for kind, block in blocks:
        command = [*shells[kind], python[kind] + block]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
        outputs.append(ran.stdout)
    _, dry, study, side_by_side = outputs
    assert re.search(r"\d+ pass the filters", dry) and "this machine can run" in dry
    assert "report: outputs/mine/report.html" in study
    metrics = results.read_metrics(tmp_path / "outputs" / "mine" / "01_teacher_selection")
    assert len(metrics["claims"]) == 3
    assert re.search(r"\| epochs +\| 2\.0 +\| 4\.0", side_by_side)
    assert list((tmp_path / "outputs" / "compare").glob("*.html"))
