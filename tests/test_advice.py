"""Advice on a teacher before any training: what it computes, its rule, and its words."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ded import advice, cli, models, params, store, study
from ded.errors import EngineError, ParameterError
from ded.study.teachers import PREDICTORS

ROOT = Path(__file__).parents[1]


def finished(name, regrets, students=("lab:student_1", "lab:student_2")):
    """A complete run of 01 as far as it tells what scores cost: {score: (regret, low, high)}."""
    folder = Path("outputs", name, advice.NOTEBOOK)
    folder.mkdir(parents=True)
    table = pd.DataFrame(regrets, ["regret", "regret_low", "regret_high"], dtype=float).T
    table.insert(0, "predictor", [PREDICTORS[score].label for score in table.index])
    table.to_csv(folder / "rank_correlations.csv", index=False)
    (folder / "metrics.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps({"params": {"students": students}}))


def scores(values):
    """{teacher: {score: value}} as a table of scores."""
    rows = [
        {"teacher": teacher, "score": score, "value": value, "seconds": 1.0, "gib": 2.0}
        for teacher, of_teacher in values.items()
        for score, value in of_teacher.items()
    ]
    return pd.DataFrame(rows).assign(examples=50)


TWO = {"left": {"rsr": 2.0, "loss": 0.5}, "mixed": {"rsr": 3.0, "loss": 0.4}}
SURE = {"rsr": (0.001, -0.01, 0.02), "loss": (-0.01, -0.05, 0.06), "shift": (0, 0, 0)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder as the working directory, with the presets and the notebooks."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_score_whose_cost_is_surely_lowest_decides(here):
    finished("reference", SURE)
    advised = advice.judged(scores(TWO), advice.costs(["reference", "recorded"]), 0.03)
    assert set(advised.costs["score"]) == {"rsr", "loss"}, "the shift needs the training"
    assert (advised.best, advised.order, advised.reasons) == ("rsr", ["left", "mixed"], [])
    text = advice.sentences(advised)
    assert (
        "+0.1 [−1.0, 2.0] points" in text
        and "of lab:student_1, lab:student_2 (of others a hint, no measurement" in text
    )
    assert text.endswith("Take left; the smoke test may be left out.")
    finished("recorded", {"rsr": (0.05, 0.02, 0.08), "loss": (0, 0, 0.07)}, ["hf:ORG/NAME"])
    both = advice.judged(scores(TWO), advice.costs(["reference", "recorded"]), 0.03)
    assert both.best == "loss" and both.order == ["mixed", "left"], "the worst of the runs counts"
    assert both.reasons == ["the cost may be above 3 points"]
    assert "of hf:ORG/NAME" in advice.sentences(both)
    table = advice.of_scores(both).set_index("score")
    assert table.loc["rsr", "cost, recorded"] == "+5.0 [2.0, 8.0]"
    assert table.loc["loss", "cost, reference"] == "−1.0 [−5.0, 6.0]"


def test_what_nobody_measured_is_no_ground_to_trust_a_score(here):
    without = advice.judged(scores(TWO), advice.costs(["reference"]), 0.03)
    assert without.best == "" and "no run here has measured" in advice.sentences(without)
    finished("reference", {"grace": (0, 0, 0.01), "rsr": (np.nan, np.nan, np.nan)})
    assert advice.judged(scores(TWO), advice.costs(["reference"]), 0.03).best == ""
    finished("few", {"rsr": (0, 0, 0)})
    flat = advice.judged(scores(TWO), advice.costs(["few"]), 0.03)
    assert flat.best == "", "two bases that agree exactly measure no error"
    finished("recorded", SURE)
    half = {"left": {"loss": 0.5, "rsr": np.nan}, "mixed": TWO["mixed"]}
    advised = advice.judged(scores(half), advice.costs(["recorded"]), 0.09)
    assert advised.best == "loss", "a score that one candidate lacks ranks nobody"
    empty = {**TWO, "none": {"": np.nan}}
    assert "none has no example" in advice.sentences(
        advice.judged(scores(empty), advice.costs(["recorded"]), 0.03)
    )
    assert advice.of_teachers(advised)["teacher"].tolist() == ["mixed", "left"]


def test_costs_are_read_from_what_the_notebook_writes(here):
    """The loss finds the best teacher always, the length the worst."""
    from ded import figures

    rng, rows = np.random.default_rng(0), []
    for base, replicate, teacher in np.ndindex(6, 2, 4):
        gain = teacher / 10 + rng.normal(0, 0.01)
        row = dict.fromkeys(study.teachers.COLUMNS, np.nan) | {"loss": -gain, "length": gain}
        rows.append(row | {"base": f"b{base}", "replicate": replicate, "teacher": f"lab:{teacher}"})
        rows[-1] |= {"gain": gain, "smoke": gain}
    smoke = pd.DataFrame(rows)
    ranks = figures.rank_correlations(study.teachers.points(smoke))
    finished("reference", {})
    file = Path("outputs", "reference", advice.NOTEBOOK, "rank_correlations.csv")
    study.teachers.with_regret(smoke, ranks).to_csv(file, index=False)
    costs = advice.costs(["reference"]).set_index("score")
    assert set(costs.index) == {"loss", "length"}
    assert costs.loc["loss", "regret"] == pytest.approx(0, abs=0.01)
    assert costs.loc["length", "regret"] == pytest.approx(0.3, abs=0.02)
    assert (costs["regret_low"] <= costs["regret"]).all()


def write(file, rows):
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def mine(here, tiny):
    """A model's directory, questions, and traces of two teachers, of which one is longer."""
    shutil.copytree(models.locate("lab:student_1"), "student")
    rows = [
        {"question": f"{a} +{b} =", "answer": f"{(a + b) % 10}", "kind": "exact", "split": split}
        for a in range(10)
        for b, split in enumerate(("test", "train", "train"))
    ]
    write("questions.jsonl", rows)
    for name, steps in (("short", "1"), ("long", "1 + 2 = 3 ; 1 + 2 = 3")):
        traces = [{**row, "text": f"<think> {steps} </think> {row['answer']}"} for row in rows]
        write(f"{name}.jsonl", traces)
    return here


COMMAND = ["advise", "--student", "student", "--teachers", "short.jsonl", "--teachers"]
COMMAND += ["long.jsonl", "--questions", "questions.jsonl", "-p", "n_jobs=1"]


def test_a_command_ranks_recorded_teachers_without_training(mine):
    finished("reference", {"length": (0.001, -0.01, 0.02)})
    done = CliRunner().invoke(cli.app, COMMAND)
    assert done.exit_code == 0, done.output
    assert "It ranks short.jsonl > long.jsonl." in done.output
    assert all(PREDICTORS[name].label in done.output for name in ("rsr", "grace", "lalp", "loss"))
    assert "model" not in set(store.entries()["kind"]), "nothing was trained"


def test_what_is_scored_is_what_the_notebook_scores(mine):
    values = {"students": ["path:student"], "n_jobs": 1, "n_questions": 20, "eval_id": 10}
    values |= {"teachers": ["recorded:short.jsonl"], "corpus_source": "file:questions.jsonl"}
    values |= {"id_source": "file:questions.jsonl", "split": "test"}
    asked = params.checked("smollm", "01", values)
    [unit] = study.units(asked)[:1]
    corpus = study.teacher_corpus(unit, asked.teachers[0]).examples
    table = advice.of_teacher(unit, asked.teachers[0], corpus).set_index("score")
    assert table["examples"].unique().tolist() == [20]
    outcome = study.teachers.untrained(unit, corpus)
    assert {name: table.loc[name, "value"] for name in outcome} == pytest.approx(
        {name: score.value for name, score in outcome.items()}, nan_ok=True
    )
    assert table.loc["rsr", "seconds"] > 0 and table.loc["rsr", "gib"] > 0
    none = advice.of_teacher(unit, asked.teachers[0], corpus.head(0))
    assert none["examples"].item() == 0 and none["value"].isna().all()


def test_what_gives_no_advice_is_refused_before_anything_is_scored(mine):
    finished("reference", SURE)
    one = COMMAND[:5] + COMMAND[7:]
    for command, why in (
        (one, "one teacher is no choice"),
        ([*COMMAND, "--by", "referense"], "no results of notebook 01 in outputs/referense"),
    ):
        done = CliRunner().invoke(cli.app, command)
        assert isinstance(done.exception, ParameterError), done.output
        assert re.search(why, str(done.exception))
    assert store.entries().empty


def test_recorded_teachers_need_no_engine_that_samples(mine, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    done = CliRunner().invoke(cli.app, [*COMMAND, "-p", "engine.name=vllm"])
    assert done.exit_code == 0, done.output


def test_traces_of_other_questions_are_an_error_before_anything_is_scored(mine):
    write("long.jsonl", [{"question": "9 +9 =", "text": "<think> 1 </think> 8"}])
    done = CliRunner().invoke(cli.app, COMMAND)
    assert isinstance(done.exception, EngineError) and "no trajectory" in str(done.exception)
