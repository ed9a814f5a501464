"""A run beside the committed reference that it is a slice of."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from ded import params, replay, results, stats
from ded.errors import ParameterError
from ded.params import whole

NOTEBOOK = "02_ood_tradeoff"
BASES = ["lab:student_1", "lab:student_2", "lab:student_3"]
VALUES = {"preset": "whole", "fixed_on": "then", "n_jobs": 0, "seed": 1, "split": "test"}
VALUES |= {"students": BASES, "arms": [], "n_replicates": 2, "teacher": "lab:ends"}
SLICE = {"preset": "slice", "students": BASES[:2], "n_replicates": 1, "arms": ["random 200"]}
MODELS = {name: f"hash of {name}" for name in [*BASES, "lab:ends"]}
TOLERANCE = {"changed": 0.1, "spread": 0.0, "z": 2.5}  # 2.5 points for 1,000 answers


def scores(bases, moved=0.0):
    rows = [
        {"arm": arm, "base": base, "replicate": 0, "family": family, "group": group}
        | {"n": 1000, "accuracy": 0.5 + 0.1 * (arm != "before") + moved * (family == "sort")}
        for base in bases
        for arm in ("before", "random 200")
        for family, group in (("ID", "ID"), ("sort", "OOD"))
    ]
    return pd.DataFrame(rows)


def claims(table):
    inside = table[table["family"] == "ID"]
    rise = stats.claim("size helps", "ID", stats.paired(inside, "random 200", "before"))
    return stats.judge([rise])


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """A repository with a committed reference of three bases."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "tolerance.yml").write_text(json.dumps(TOLERANCE))
    folder = tmp_path / "outputs" / "reference" / NOTEBOOK
    folder.mkdir(parents=True)
    data = {f"test {base} {i}": f"questions {i}" for base in BASES for i in range(2)}
    manifest = {"params": VALUES, "models": MODELS, "data": data, "finished": "2026-01-02T03"}
    names = [base.partition(":")[2] for base in BASES]
    recorded = [claim.to_dict() for claim in claims(scores(names))]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({"claims": recorded, "metrics": {}}))
    scores(names).to_csv(folder / "scores.csv", index=False)
    return folder


def run(models=MODELS, **changes):
    prints = {"models": {spec: models[spec] for spec in [*BASES[:2], "lab:ends"]}, "data": {}}
    values = VALUES | SLICE | changes
    return SimpleNamespace(notebook=NOTEBOOK, params=values, fingerprints=prints)


def held(moved=0.0, shift=0.0, **changes):
    table = scores(["student_1", "student_2"], moved)
    lifted = table["accuracy"] + shift * (table["arm"] != "before")
    table = table.assign(accuracy=lifted.where(table["base"] == "student_1", table["accuracy"]))
    return replay.against_reference(run(**changes), table, claims(table))


def test_a_slice_is_held_against_the_reference_score_by_score(reference):
    same = held(moved=0.02)
    assert len(same.cells) == 8 and same.cells["within"].all()
    assert "8 of 8 scores" in same.text and "2.5 points for 1,000 answers" in same.text
    assert "+2.0 points off" in same.text and "- inconclusive: " in same.text
    assert len(same.effects) == 2 and same.effects["within"].all()
    far = held(moved=0.03)
    assert far.cells["within"].sum() == 4 and "4 of 8" in far.text
    table = scores(["student_1", "student_2"])
    strongest = stats.any_of("size helps", "ID", claims(table))
    chosen = replay.against_reference(run(), table, [strongest])
    assert chosen.effects.empty and len(chosen.cells) == 8, "other bases had a say in it"


def test_the_next_reference_is_not_held_against_the_one_before(reference, monkeypatch):
    monkeypatch.setenv(whole.NEXT, "03")
    result = held()
    assert result.text == "" and result.cells.empty and result.effects.empty


def test_an_effect_that_differs_is_named_with_its_base(reference):
    other = held(shift=0.05)
    assert other.effects["within"].tolist() == [False, True]
    assert (
        "1 of 2 effects" in other.text
        and "Not so: size helps, student_1: +15.0 here, +10.0 there" in other.text
    )


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"seed": 2}, r"other parameters: seed 2 \(was 1\)"),
        ({"students": ["lab:student_9"]}, "students"),
        ({"n_replicates": 3}, "n_replicates 3"),
        ({"metric": "words"}, "metric words"),
        ({"models": MODELS | {"lab:ends": "retrained"}}, "other models: lab:ends"),
    ],
)
def test_any_other_run_is_told_why_it_is_none_of_its_slices(reference, changes, why):
    result = held(**changes)
    assert result.cells.empty and result.effects.empty
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(result.text)


def test_without_a_reference_there_is_nothing_to_compare(reference):
    (reference / "manifest.json").unlink()
    assert "none is committed here" in held().text


def test_of_what_may_be_the_next_reference_nothing_is_said(reference):
    assert held(preset="whole", seed=2).text == "" and "8 of 8" in held(preset="whole").text


def test_chosen_teachers_are_those_that_the_reference_recorded(reference):
    recipe = {name: value for name, value in VALUES.items() if name != "teacher"}
    recipe |= {"teachers": ["lab:ends", "lab:pairs"], "chosen": {}}
    folder = reference.with_name(whole.RECIPE)
    asked = recipe | {"students": BASES[:1], "chosen": "reference"}
    assert whole.with_choice(asked)["chosen"] == {}, "no reference: by smoke tests"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"params": recipe}))
    rows = ["student_1,lab:ends,lab:pairs,", "student_1,lab:ends,lab:ends,", "student_2,a,b,c"]
    (folder / "choice.csv").write_text("\n".join(["base,teacher,top,other", *rows]))
    own = {"teacher": "lab:ends", "top": ["lab:pairs", "lab:ends"], "other": ""}
    assert whole.with_choice(asked)["chosen"] == {"lab:student_1": own}
    assert whole.with_choice(asked | {"seed": 2})["chosen"] == {}
    assert not whole.beyond(recipe, asked | {"chosen": {"lab:student_1": own}})
    given = {"lab:student_1": own | {"teacher": "lab:pairs"}}
    assert set(whole.beyond(recipe, asked | {"chosen": given})) == {"chosen"}


def test_a_value_for_chosen_that_is_neither_is_refused():
    with pytest.raises(ParameterError, match="chosen"):
        params.load("lab", "04", {"chosen": "the best"})


def test_what_joins_the_lab_later_bears_no_verdict_on_spent_questions(reference):
    claim = {"name": "size helps", "verdict": "reproduced", "note": "real"}

    def recorded(**changes):
        recorder = results.Recorder("", NOTEBOOK, VALUES | SLICE | changes)
        return recorder.claim(claim)

    assert recorded() == recorded(teacher="lab:student_3") == claim, "the reference used it"
    later = recorded(students=["lab:student_11"])
    assert later["verdict"] == "not judged"
    assert later["note"].startswith("real; exploratory: lab:student_11 joined after")
    for fresh in ({"seed": 2}, {"split": "dev"}):
        assert recorded(students=["lab:student_11"], **fresh) == claim
