"""Conditions before outcomes: what is measured before an arm is trained, held against the bands of
params/conditions.yml, and said beside the verdicts."""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from ded import files, params, reading, stats, study, tables
from ded.errors import ParameterError

ROOT = Path(__file__).parents[1]


def row(notebook, key, **measured):
    """The row of one condition with what was measured of it."""
    table = study.conditions.compare(notebook, measured)
    return table.set_index("condition").loc[key]


@pytest.mark.parametrize(
    ("scores", "inside", "outliers"),
    [
        ({"a": 0.5, "b": 0.75}, True, []),
        ({"a": 0.42, "b": 0.8}, True, []),  # a base may lie 10 points outside
        ({"a": 0.3, "b": 0.74}, True, ["a"]),
        ({"a": 0.45, "b": 0.45}, False, []),
        ({"a": 0.9, "b": 0.9}, False, ["a", "b"]),
        ({"a": math.nan}, None, []),
        ({}, None, []),
    ],
)
def test_the_mean_over_bases_has_to_lie_within_the_band(scores, inside, outliers):
    before = row("02_ood_tradeoff", "student_before", id_before=scores)
    assert before["inside"] is inside and before["outliers"] == outliers


@pytest.mark.parametrize(
    ("own", "inside"),
    [([0.7, 0.8, 0.88, 1.0], True), ([0.7, 0.8, 1.0, 1.0], False), ([0.6, 1.0], False)],
)
def test_so_many_teachers_have_to_lie_within_theirs(own, inside):
    measured = study.conditions.of_teachers(dict(enumerate(own)), {})
    teachers = row("01_teacher_selection", "teachers_own", **measured)
    assert teachers["inside"] is inside  # not their mean, which lies within in the last two too


def test_the_four_leading_teachers_have_to_be_apart():
    own = {"a": 0.9, "b": 0.85, "c": 0.8, "d": 0.75, "e": 0.74, "f": math.nan}
    measured = study.conditions.of_teachers(own, {"a": 0.1})
    assert measured["teachers_apart"][""] == pytest.approx(0.05)
    assert row("01_teacher_selection", "teachers_apart", **measured)["inside"] is True
    alone = study.conditions.of_teachers({"a": 0.9}, {})
    assert row("01_teacher_selection", "teachers_apart", **alone)["inside"] is None


def test_students_are_measured_by_base_and_above_guessing():
    rows = [
        ("x", "ID", "ID", 0.5, 0.2),
        ("x", "ID", "ID", 0.7, 0.3),
        ("y", "ID", "ID", 0.4, 0.0),
        ("x", "ID code", "ID", 0.1, 0.0),
        ("x", "sort", "OOD", 0.8, 0.1),
        ("x", "swap", "OOD", 1.0, 0.1),
        ("x", "zero", "robust", 0.5, 0.2),
        ("y", "zero", "robust", 0.3, 0.0),
    ]
    before = pd.DataFrame(rows, columns=["base", "family", "group", "accuracy", "chance"])
    measured = study.conditions.of_students(before)
    assert measured["id_before"] == {"x": pytest.approx(0.6), "y": 0.4}
    assert measured["code_before"] == {"x": 0.1}
    assert measured["ood_before"] == {"x": pytest.approx(0.9)}
    assert measured["above_chance"] == {"x": pytest.approx(0.35), "y": 0.4}
    assert measured["perturbed_above_chance"] == {"zero": pytest.approx(0.3)}
    assert measured["perturbed_below_id"] == {"zero": pytest.approx(0.4 / 3)}


def test_an_arm_is_measured_by_what_it_will_train_on():
    settings = SimpleNamespace(batch_size=12, epochs=10.0)
    unit = SimpleNamespace(params=settings, base="lab:x", row={"base": "x", "replicate": 0})
    corpus = pd.DataFrame({"problem_id": [*"aabb"] * 50})
    arms = [
        study.Arm("DED", corpus, max_steps=167),
        study.Arm("large", pd.concat([corpus, corpus])),
        study.Arm("DED", corpus.head(0)),  # of a unit where it is not measured
    ]
    measured = study.conditions.of_arm([{"unit": unit, "arm": arm} for arm in arms], "DED")
    assert measured["trajectories"] == {"x": 100} and measured["steps"] == {"x": 167}
    assert measured["batch_share"] == {"x": 0.06} and measured["epochs"] == {"": 10.0}


def test_compression_and_candidates_are_measured_by_base():
    rows = [("rated", 100, 0, "x"), ("compression", 20, 80, "x"), ("compression", 9, 21, "y")]
    funnel = pd.DataFrame(rows, columns=["step", "kept", "dropped", "base"])
    assert study.conditions.of_compression(funnel) == {"keep_share": {"x": 0.2, "y": 0.3}}
    facts = [{"base": "x", "distinct": [8, 8, 0]}, {"base": "x", "distinct": [6, 6]}]
    assert study.conditions.of_candidates(facts, 4) == {"candidates": {"x": 1.5}}


def test_a_verdict_says_which_of_its_conditions_are_not_the_papers_and_stays():
    measured = {"id_before": {"a": 0.3, "b": 0.4}, "epochs": {"": 10}, "keep_share": {"a": 0.6}}
    measured["ood_before"] = {"a": 0.7}
    table = study.conditions.compare("02_ood_tradeoff", measured)
    names = (
        "more examples raise in-domain scores",
        "the largest corpus costs out-of-domain scores",
        "compressed questions beat random ones, same size: x",
    )
    claims = [stats.Claim(name, "it holds", (), verdict="reproduced") for name in names]
    rises, costs, compression = tables.under(claims, table)
    assert (
        rises.outside
        == "outside the paper's conditions: students before, ID pass@1 35.0 % (50 to 75 %)"
    )
    assert costs.outside == ""
    assert "questions left by compression 60.0 % (19 to 29 %)" in compression.outside
    assert {claim.verdict for claim in (rises, costs, compression)} == {"reproduced"}
    assert rises.to_dict()["outside"] == rises.outside
    shown = tables.verdicts([rises, costs])
    assert shown["outside"].tolist() == [rises.outside, ""]


def test_readers_see_what_is_met_what_is_not_and_what_was_not_measured():
    measured = {
        "id_before": {"a": 0.55, "b": 0.3},
        "ood_before": {"a": 0.8, "b": 0.8},
        "epochs": {"": 3},
    }
    table = study.conditions.compare("02_ood_tradeoff", measured)
    shown = tables.conditions(table).set_index("condition")
    students = shown.loc["students before, ID pass@1"]
    assert (
        students["this run"] == "42.5 % (a 55.0 %, b 30.0 %)" and students["band"] == "50 to 75 %"
    )
    assert students["inside"] == "no; far outside: b"
    assert shown.loc["students before, OOD pass@1", "this run"] == "80.0 %", "the same in all bases"
    assert shown.loc["students before, OOD pass@1", "inside"] == "yes"
    assert shown.loc["optimizer steps", ["this run", "inside"]].tolist() == ["not measured"] * 2
    assert shown.loc["passes over the corpus", ["this run", "band"]].tolist() == ["3", "10"]
    assert reading.conditions(table) == (
        "Of 6 conditions of the paper 1 met, 3 not measured, 2 not met: "
        "students before, ID pass@1; passes over the corpus."
    )


@pytest.mark.parametrize("notebook", [path.stem for path in params.notebooks()])
def test_claims_with_conditions_are_named_as_their_notebook_names_them(notebook):
    claims = files.read_yaml(ROOT / "params" / "conditions.yml")["claims"][notebook]
    content = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    text = " ".join(" ".join(cell.source for cell in content.cells).split())
    for claim in claims:
        # the last words may be filled in by the notebook
        assert claim.startswith("(") or " ".join(claim.split()[:3]) in text, claim
    assert study.conditions.compare(notebook, {})["inside"].isna().all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[0.50, 0.75]", "[0.50]", r"params/conditions.yml: conditions\.student_before\.band"),
        ("unit: share", "unit: percent", "unit = 'percent'"),
        ("[student_before, epochs]", "[student_befor]", "no condition 'student_befor'.*nearest"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path, monkeypatch, old, new, message):
    (tmp_path / "params").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    text = (ROOT / "params" / "conditions.yml").read_text()
    (tmp_path / "params" / "conditions.yml").write_text(text.replace(old, new, 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=message):
        study.conditions.compare("02_ood_tradeoff", {})
