"""What a notebook leaves: whole files, the same bytes for the same results, allowed verdicts."""

import base64
import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ded import folders, results, spent, stats
from ded.errors import FolderError, ParameterError, ReportError

PARAMS = {"preset": "small", "seed": 3, "n_replicates": 2}


@dataclasses.dataclass
class Claim:
    name: str
    verdict: str
    estimate: float = 0.1

    def to_dict(self):
        return dataclasses.asdict(self)


def record(folder):
    from matplotlib.figure import Figure

    recorder = results.Recorder(folder, "01_small", PARAMS)
    figure = Figure()
    figure.subplots().plot([1, 2], [3, 4], label="x")
    recorder.figure("headline", figure)
    recorder.table("scores", pd.DataFrame({"arm": ["a"], "accuracy": [1 / 3]}))
    with recorder.stage("sampling") as stage:
        stage.tokens += 1234
    recorder.metric(
        "own", {"a": np.float64(0.5), ("a", 1): np.array([1, 2]), "missing": float("nan")}
    )
    recorder.metric("rows", pd.DataFrame({"x": [1]}))
    recorder.claim(Claim("rises", "inconclusive"))
    recorder.model("lab:a", "abc")
    recorder.finish()
    return recorder


def test_the_same_results_give_the_same_bytes(tmp_path, capsys):
    a, b = (record(tmp_path / name) for name in "ab")
    for name in ("metrics.json", "headline.png", "headline.svg", "scores.csv"):
        assert (a.folder / name).read_bytes() == (b.folder / name).read_bytes(), name
    assert "sampling: 0.0 s, 1,234 tokens" in capsys.readouterr().out
    metrics = json.loads((a.folder / "metrics.json").read_text())
    assert metrics == {
        "schema": results.SCHEMA,
        "notebook": "01_small",
        "preset": "small",
        "claims": [{"name": "rises", "verdict": "inconclusive", "estimate": 0.1}],
        "metrics": {"own": {"a": 0.5, "a/1": [1, 2], "missing": None}, "rows": [{"x": 1}]},
    }
    assert results.read_metrics(a.folder) == metrics and results.read_metrics(tmp_path) is None
    assert not [f for f in a.folder.iterdir() if f.name.startswith(".")]


def test_the_manifest_says_how(tmp_path):
    manifest = json.loads((record(tmp_path).folder / "manifest.json").read_text())
    assert (
        manifest["params"] == PARAMS
        and manifest["seeds"] == {"seed": 3}
        and manifest["models"] == {"lab:a": "abc"}
    )
    assert manifest["stages"]["sampling"]["tokens"] == 1234 and manifest["packages"]["torch"]
    assert manifest["hardware"]["cores"] >= 1
    assert manifest["files"] == ["headline.png", "headline.svg", "scores.csv"]
    assert {*manifest["core_seconds"]} == {*spent.KINDS}


def test_the_old_results_stand_until_the_new_run_is_complete(tmp_path):
    folder = record(tmp_path).folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    recorder = results.Recorder(folder, "01_small", PARAMS)
    recorder.table("scores", pd.DataFrame({"arm": ["b"]}))
    recorder.metric("own", 2)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    recorder.finish()
    assert results.read_metrics(folder)["metrics"] == {"own": 2}
    assert (folder / "scores.csv").read_text() == "arm\nb\n"
    assert not [file for file in folder.iterdir() if file.is_dir()]


@pytest.mark.parametrize("moment", ["before", "amid"])
def test_a_run_killed_as_it_ends_leaves_the_old_results_or_its_own(tmp_path, moment):
    """Never some of both: what was killed amid the moves is moved on by whoever looks next."""
    record(tmp_path)
    kill = {"before": "ded.folders.publish = ", "amid": "ded.folders.settle = "}[moment]
    code = f"""
import os, pandas, pathlib, signal, ded.folders
from ded import results
recorder = results.Recorder({str(tmp_path)!r}, "01_small", {PARAMS!r})
recorder.table("scores", pandas.DataFrame({{"arm": ["b"]}}))
recorder.metric("own", 2)
def killed(*paths):
    if (pathlib.Path({str(tmp_path)!r}) / ded.folders.COMPLETE).is_dir() or {moment == "before"}:
        os.kill(os.getpid(), signal.SIGKILL)
{kill}killed
recorder.finish()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    metrics = results.read_metrics(tmp_path)["metrics"]
    table = (tmp_path / "scores.csv").read_text()
    if moment == "before":
        assert metrics["own"]["a"] == 0.5 and table.startswith("arm,accuracy")
        record(tmp_path)  # the next run takes away what the killed one left
    else:
        assert metrics == {"own": 2} and table == "arm\nb\n"
    assert not [file for file in tmp_path.iterdir() if file.is_dir()]


def test_a_finished_run_of_other_parameters_is_not_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    started = results.Recorder("", "01_small", PARAMS | {"seed": 9})  # beside the first
    first = record("").folder
    assert first == outputs / "small" / "01_small"
    again = results.Recorder("", "01_small", PARAMS | {"n_jobs": 2, "fixed_on": "2026-01-01"})
    assert again.folder == first, "decide no result"
    changed = results.Recorder("", "01_small", PARAMS | {"seed": 4})
    changed.finish()
    started.finish()
    assert changed.folder == outputs / "small+seed=4" / "01_small"
    assert started.folder == outputs / "small+seed=9" / "01_small"
    assert "results: outputs/small+seed=4/01_small" in capsys.readouterr().out
    with pytest.raises(
        ParameterError, match=r"small/01_small holds .* seed 4 [(]was 3[)]; name another"
    ):
        results.Recorder(first, "01_small", PARAMS | {"seed": 4})
    assert results.read_metrics(first)["metrics"]["own"]["a"] == 0.5


def test_a_folder_is_named_by_what_was_changed():
    changes = {"seed": 2, "engine.dtype": "bfloat16", "teachers": ["hf:a/b", "hf:c/d"]}
    name = folders.label("lab", changes)
    assert re.fullmatch("lab[+]seed[+]engine.dtype[+]teachers~[0-9a-f]{6}", name)
    assert folders.label("lab", {"seed": 2, "n_kept": 4}) == "lab+seed=2+n_kept=4"
    assert folders.label("lab", {}) == "lab"
    many = {f"parameter_{i}": i for i in range(9)}
    assert len(folders.label("lab", many)) <= 60
    assert folders.label("lab", many) != folders.label("lab", many | {"parameter_1": 0})


def test_a_cell_that_runs_again_replaces_what_it_recorded(tmp_path):
    recorder = record(tmp_path)
    recorder.table("scores", pd.DataFrame({"arm": ["b"]}))
    recorder.metric("own", 2)
    recorder.claim(Claim("falls", "not judged"))
    recorder.claim(Claim("rises", "reproduced", 0.2))
    metrics = json.loads(recorder.finish().read_text())
    assert metrics["claims"] == [
        {"name": "rises", "verdict": "reproduced", "estimate": 0.2},
        {"name": "falls", "verdict": "not judged", "estimate": 0.1},
    ]  # in the order in which they were first recorded
    assert list(metrics["metrics"].items()) == [("own", 2), ("rows", [{"x": 1}])]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["files"] == ["headline.png", "headline.svg", "scores.csv"]


def test_a_newer_schema_is_refused_and_one_without_is_the_first(tmp_path):
    file = record(tmp_path).folder / "metrics.json"
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in metrics.items() if k != "schema"}))
    assert results.read_metrics(tmp_path)["claims"] == metrics["claims"]
    file.write_text(json.dumps(metrics | {"schema": results.SCHEMA + 1}))
    with pytest.raises(ReportError, match=r"metrics\.json is of schema 3; ded .* reads up to 2"):
        results.read_metrics(tmp_path)


def test_the_commit_is_that_of_the_runs_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ded"\n')
    git("init")
    git("add", "pyproject.toml")
    git("commit", "-m", "first")
    recorder = results.Recorder("", "01_small", PARAMS)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ded" # edited\n')
    recorder.finish()
    start = json.loads((recorder.folder / "manifest.json").read_text())["commit"]
    changed = results.Recorder("", "01_small", PARAMS)
    git("commit", "-a", "-m", "second")
    changed.finish()
    later = json.loads((recorder.folder / "manifest.json").read_text())["commit"]
    assert len(start) == 40 and later == f"{start}+changes"


def test_only_allowed_verdicts_units_and_names_are_recorded(tmp_path):
    recorder = results.Recorder(tmp_path, "01_small", PARAMS)
    with pytest.raises(ValueError, match="'true'; allowed: reproduced"):
        recorder.claim({"name": "x", "verdict": "true"})
    with pytest.raises(TypeError, match="cannot be recorded"):
        recorder.metric("b", object())
    with pytest.raises(ValueError, match="plain file name"):
        recorder.table("../x", pd.DataFrame({"x": [1]}))


def test_an_unfinished_file_does_not_take_the_old_ones_place(tmp_path):
    recorder = results.Recorder(tmp_path, "01_small", PARAMS)
    recorder.table("t", pd.DataFrame({"x": [1]}))

    class Broken:
        def to_csv(self, file, **_):
            file.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError):
        recorder.table("t", Broken())
    recorder.finish()
    assert (tmp_path / "t.csv").read_text() == "x\n1\n" and len(list(tmp_path.iterdir())) == 3


def test_where_results_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "throughput.yml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert (
        results.Recorder("", "01_small", PARAMS).folder
        == tmp_path / "outputs" / "small" / "01_small"
    )
    assert (
        results.Recorder("x", "01_small", PARAMS).folder.resolve() == tmp_path / "notebooks" / "x"
    )


def test_a_kernel_shows_figures_as_images_and_texts_in_full(tmp_path):
    """IPython alone prints '<Figure size ...>' for a figure that pyplot does not know."""
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib.figure import Figure

    shell, figure = InteractiveShell.instance(), Figure()
    figure.subplots()
    try:
        assert "image/png" not in shell.display_formatter.format(figure)[0]
        recorder = results.Recorder(tmp_path, "01_small", PARAMS)
        assert "image/png" in shell.display_formatter.format(figure)[0]
        contents, sizes = shell.display_formatter.format(recorder.figure("f", figure))
        png = (recorder.finish().parent / "f.png").read_bytes()
        assert base64.b64decode(contents["image/png"]) == png  # as it was recorded
        assert sizes["image/png"]["width"] == 640  # no larger for its resolution
        table, note = pd.DataFrame({"note": ["a note " * 20]}), "a note " * 19
        assert note in shell.display_formatter.format(table)[0]["text/html"]
    finally:
        InteractiveShell.clear_instance()
        pd.reset_option("display.max_colwidth")


def test_a_stage_entered_again_counts_its_tokens_anew(tmp_path, capsys):
    recorder = results.Recorder(tmp_path, "01_small", PARAMS)
    for tokens in (1000, 1000):
        with recorder.stage("sampling") as stage:
            stage.tokens += tokens
    assert recorder.stages["sampling"].tokens == 1000
    assert capsys.readouterr().out.count("1,000 tokens") == 2


def test_a_table_that_is_recorded_again_forgets_its_judge(tmp_path):
    recorder = results.Recorder(tmp_path, "01_small", PARAMS)
    scores = pd.DataFrame({"arm": ["a"], "n": [10], "judged": [3]})
    recorder.table("scores", scores)
    recorder.table("teachers", pd.DataFrame({"arm": ["a"]}))
    assert recorder.metrics["judged"] == 0.3
    recorder.table("scores", scores.assign(judged=0))
    assert recorder.metrics["judged"] == 0
    assert "note" not in recorder.claim({"name": "rises", "verdict": "inconclusive"})


def test_what_cannot_be_written_to_is_told_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"out_dir .*file/01: cannot be written to"):
        results.Recorder(tmp_path / "file" / "01", "01_small", PARAMS)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "file"))
    with pytest.raises(FolderError, match=r"the store, .*: cannot be written to"):
        results.Recorder(tmp_path / "new", "01_small", PARAMS)
    assert not (tmp_path / "new").exists()


def test_a_claim_says_what_a_judge_decided(tmp_path):
    for judged, note in (
        ([0, 0], "ceiling"),
        ([3, 0], "ceiling; a judge decided 15.0% of the answers"),
    ):
        recorder = results.Recorder(tmp_path, "01_small", PARAMS)
        recorder.table("scores", pd.DataFrame({"arm": ["a", "b"], "n": [10, 10], "judged": judged}))
        claim = recorder.claim({"name": "rises", "verdict": "inconclusive", "note": "ceiling"})
        recorder.finish()
        metrics = results.read_metrics(tmp_path)
        assert claim["note"] == metrics["claims"][0]["note"] == note
        assert metrics["metrics"].get("judged", 0) == sum(judged) / 20
    placed = recorder.claim(stats.claim("falls", "it falls", None))
    assert "a judge decided" in placed.note and placed.verdict == "not judged"
