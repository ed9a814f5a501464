"""The interactive view: the same corpus as the filters make, a reason for every other trajectory,
presets that run, widgets that follow."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import rows
import yaml

from ded import (
    curation,
    evaluation,
    explore,
    generation,
    params,
    problems,
    study,
)
from ded.grading import grade
from ded.problems import lab as tasks

ROOT = Path(__file__).parents[1]
VALUES = explore.Values(max_tokens=128, n_kept=3)
ATTACK = "<think> <script>alert(1)</script> </think> 1"


def make_pool(questions=12, samples=7):
    """Worked solutions, some wrong; the last question has no pass rate; sample 1 repeats sample 0,
    question 0 has two distinct ones only, the last sample of question 1 is lacking."""
    asked = problems.load("lab:sum/6-9", questions, "train", "widgets")

    def write(question, number, index):
        draw = index % 2 if number == 0 else max(1, index)
        rng = random.Random(f"{question.id} {draw}")
        manner = tasks.Manner(filler=0.5, check=0.1 * draw)
        text = tasks.solution(question, tasks.STYLES[draw % 6], rng, manner=manner)
        right = index < 2 or (number * 7 + index) % 4
        return text if right else text[:-1] + str((int(question.answer) + 1) % 7)

    table = rows.trajectories(asked, samples, write)
    lacking = (table["problem_id"] == asked[1].id) & (table["sample_index"] == samples - 1)
    table = grade(table[~lacking].reset_index(drop=True), asked)
    rates = pd.DataFrame(
        {
            "problem_id": [q.id for q in asked],
            "pass_rate": [*np.linspace(0, 1, questions - 1), np.nan],
        }
    )
    return explore.assemble(table, asked, rates, "student", 5)


@pytest.fixture(scope="module")
def pool():
    return make_pool()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"n_kept": 2},
        {"n_kept": 5},
        {"metric": "normalised"},
        {"max_tokens": 45},
        {"verification": "steps"},
    ],
)
def test_the_corpus_is_that_of_the_filters(pool, change):
    values = replace(VALUES, **change)
    choice = explore.choose(pool, values)
    checks = {"max_tokens": values.max_tokens, "verify": values.verification}
    kept = curation.curate(pool.trajectories, list(pool.questions.values()), **checks).kept
    wanted, statistics = curation.select_trajectories(
        kept, values.n_kept, metric=values.metric, seed=5
    )  # distances loaded anew
    corpus = choice.table[choice.table["why"] == ""]
    assert corpus["row"].tolist() == wanted["row"].tolist() and len(corpus) > 5
    pd.testing.assert_frame_equal(choice.statistics, statistics)


def test_every_other_trajectory_has_the_step_and_reason_that_dropped_it(pool):
    choice = explore.choose(pool, replace(VALUES, keep_questions={"pass_rate": 0.5}, max_tokens=60))
    assert choice.table["row"].tolist() == pool.trajectories["row"].tolist()
    counts = choice.table.groupby("step").size()
    funnel = choice.funnel.set_index("step")
    assert funnel.index.tolist() == [
        "sampled",
        "length",
        "format",
        "answer",
        "compression",
        "farthest",
    ]
    assert all(funnel.loc[step, "dropped"] == counts.get(step, 0) for step in funnel.index)
    assert counts[""] == funnel["kept"].iloc[-1] > 0 and (counts.drop("") > 0).sum() == 4
    chosen = set(choice.table.loc[choice.table["why"] == "", "problem_id"])
    assert chosen <= set(pool.rates.loc[pool.rates["pass_rate"] <= 0.5, "problem_id"])
    plain = explore.choose(pool, VALUES).table
    first, second = (
        plain[plain["problem_id"] == next(iter(pool.questions))],
        plain[plain["problem_id"] == list(pool.questions)[1]],
    )
    assert set(first["why"]) == {"2 distinct, 3 needed", "wrong"}
    assert "compression" not in set(plain["step"]), "all questions are no compression"
    assert (
        second.set_index("sample_index")["why"].get(1) == "equal to sample 0" and len(second) == 6
    )


def test_browsing_shows_distances_to_others_in_the_corpus_and_hides_what_is_hidden():
    pool = make_pool(4)
    choice = explore.choose(pool, VALUES)
    name = list(pool.questions)[2]
    shown = explore.browse(pool, choice, name)
    kept = shown[shown["corpus"] == "kept"]
    matrix = curation.pairwise_distances(pool.trajectories[pool.trajectories["problem_id"] == name])
    assert (
        len(kept) == 3
        and kept["nearest"].min()
        == matrix[np.ix_(kept["sample"], kept["sample"])][np.triu_indices(3, 1)].min()
    )
    assert shown["text"].str.startswith("<think>").all() and set(shown["sample"]) == set(range(7))
    pool.questions[name].meta["hide"] = True
    hidden = explore.browse(pool, choice, name)
    assert (
        set(hidden["text"]) == set(hidden["answer"]) == {"(hidden)"}
        and explore.prompt(pool.questions[name]) == "(hidden)"
    )
    assert (
        explore.browse(pool, explore.choose(pool, replace(VALUES, n_kept=7)), name)["nearest"]
        .isna()
        .all()
    ), "an empty corpus has no distances"


def test_a_figure_drawn_upon_looks_like_a_new_one(pool):
    def anew(choice):
        return explore.png(explore.explored(pool, choice))

    changes = (
        {"keep_questions": 0.4, "metric": "normalised"},
        {"max_tokens": 0},
        {"n_kept": 2},
        {"n_kept": 3},
        {"max_tokens": 50},
    )
    again = explore.explored(pool, explore.choose(pool, VALUES))
    seen = [explore.png(again)]
    for change in changes:  # among them an empty corpus, and moves over the same background
        choice = explore.choose(pool, replace(VALUES, **change))
        seen.append(explore.png(explore.explored(pool, choice, again)))
        assert seen[-1] == anew(choice), change
    assert len(set(seen)) == len(changes), "n_kept 3 is the start once more"


def test_a_saved_figure_has_what_moves_too(pool, tmp_path):
    figure = explore.explored(pool, explore.choose(pool, VALUES))
    figure.savefig(tmp_path / "with.png")
    for ax in figure.axes:
        for artist in [*ax.patches[1:], *ax.lines, *ax.texts]:  # all but the grey bars
            artist.remove()
    figure.savefig(tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of what presets are read from, and a run of notebook 03 with a changed seed recorded
    in it."""
    for name in ("notebooks", "params"):
        shutil.copytree(
            ROOT / name, tmp_path / "repository" / name, ignore=shutil.ignore_patterns("mine")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    changes = {
        "seed": 9,
        "students": ["lab:student_1"],
        "teacher": "lab:random",
        "n_questions": 12,
        "n_trajectories": 4,
        "n_kept": 2,
        "out_dir": "/elsewhere",
    }
    folder = tmp_path / "repository" / "outputs" / "lab" / "03_trajectory_diversity"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"params": params.load("lab", "03", changes)}))
    return tmp_path / "repository"


def test_values_become_a_preset_that_loads(repository):
    run = explore.recorded("outputs/lab", "03")
    file = explore.write_preset(
        run,
        "03",
        replace(explore.values_of(run), n_kept=3, metric="normalised", keep_questions=0.4),
        "mine",
    )
    assert file == repository / "params" / "mine" / "all.yml"
    content = yaml.safe_load(file.read_text())
    assert list(content)[:3] == ["preset", "extends", "fixed_on"] and content["extends"] == "lab"
    assert set(list(content)[3:]) == {"n_kept", "metric", "keep_questions"}
    loaded = params.load("mine", "03")
    changed = {
        "n_kept": 3,
        "metric": "normalised",
        "preset": "mine",
        "out_dir": "",
        "fixed_on": loaded["fixed_on"],
    }
    assert loaded == run.model_dump() | changed and loaded["seed"] == 9, (
        "what the run was given on the command line stays"
    )
    other = params.load("mine", "02")
    assert other == params.load("lab", "02") | {
        "keep_questions": 0.4,
        "preset": "mine",
        "fixed_on": loaded["fixed_on"],
    }


def test_nothing_is_replaced_unasked_and_nothing_wrong_is_written(repository):
    run = explore.recorded("outputs/lab", "03")
    file = explore.write_preset(run, "03", explore.values_of(run), "mine")
    before = file.read_bytes()
    with pytest.raises(params.ParameterError, match="preset 'mine' is there already"):
        explore.write_preset(run, "03", replace(explore.values_of(run), n_kept=4), "mine")
    assert file.read_bytes() == before
    explore.write_preset(run, "03", replace(explore.values_of(run), n_kept=4), "mine", replace=True)
    assert yaml.safe_load(file.read_text())["n_kept"] == 4
    with pytest.raises(params.ParameterError, match="n_kept"):
        explore.write_preset(run, "03", replace(explore.values_of(run), n_kept=1), "other")
    for name in ("lab", "../outside", "", "accelerate"):
        with pytest.raises(params.ParameterError, match="cannot be the preset's name"):
            explore.write_preset(run, "03", explore.values_of(run), name, replace=True)
    assert not (repository / "params" / "other").exists() and not (repository / "outside").exists()


def test_without_results_there_is_one_line(repository):
    with pytest.raises(
        explore.ExploreError,
        match="no results of notebook 02 in outputs/lab; to make them: ded run 02 --preset lab",
    ) as error:
        explore.recorded("outputs/lab", "02")
    assert error.value._render_traceback_() == [str(error.value)]


def draw(run, monkeypatch):
    """Samples what a run would have stored; from then on no model can be used."""
    unit = study.Unit(run, run.students[0], 0)
    generation.sample(run.teacher, unit.questions(), run.n_trajectories, **unit.sampling())

    def never(*_):
        raise AssertionError("a model was asked")

    monkeypatch.setattr(generation.transformers, "draw", never)
    return unit.questions()


@pytest.fixture
def stored(repository, tiny):
    import ded.generation.transformers  # noqa: F401  (so that it can be patched)

    return explore.recorded("outputs/lab", "03")


def test_a_pool_is_read_from_the_store_alone(stored, monkeypatch):
    run, unit = stored, study.units(stored)[0]
    with pytest.raises(
        explore.ExploreError, match=r"no trajectories of lab:random .* run the notebook again"
    ):
        explore.read_pool(unit, run.teacher)
    questions = draw(run, monkeypatch)
    loaded = explore.read_pool(unit, run.teacher)
    assert (
        len(loaded.trajectories) == 48
        and loaded.rated == "teacher"
        and loaded.rates["pass_rate"].tolist() == [0.0] * 12
    ), "it knows nothing"
    assert list(loaded.questions) == [q.id for q in questions]


def test_where_the_store_lacks_them_some_questions_are_sampled_anew(stored):
    unit = study.units(stored)[0]
    pool = explore.read_pool(unit, unit.params.teacher, draw=3)
    assert list(pool.questions) == [question.id for question in unit.questions()[:3]]
    assert set(pool.trajectories["problem_id"]) == set(pool.questions)


def test_the_student_s_pass_rates_are_used_where_a_run_stored_them(stored, monkeypatch):
    rated = type(
        "Rated",
        (),
        stored.model_dump()
        | {
            "engine": stored.engine,
            "grading": stored.grading,
            "pass_rate_samples": 2,
            "pass_rate_questions": 10,
            "__repr__": lambda _: "rated",
        },
    )()
    unit = study.Unit(rated, "lab:student_1", 0)
    asked = unit.questions()[:10]
    evaluation.pass_rates("lab:student_1", asked, 2, **unit.sampling(rated.eval_temperature))
    draw(rated, monkeypatch)
    loaded = explore.read_pool(unit, rated.teacher)
    assert loaded.rated == "student" and loaded.rates["problem_id"].tolist() == [
        q.id for q in asked
    ]


def test_the_widgets_follow(repository, monkeypatch):
    pool = make_pool()
    row = pool.trajectories.index[pool.trajectories["problem_id"] == list(pool.questions)[3]][0]
    pool.trajectories.loc[row, "text"] = ATTACK
    monkeypatch.setattr("ded.explore.widgets.read_pool", lambda *_: pool)
    view = explore.explorer("outputs/lab", "03")
    (controls, plots), question, table = view.children[0].children, *view.children[1:]
    by_name = {
        widget.description: widget
        for widget in controls.children
        if getattr(widget, "description", "")
    }
    assert next(iter(pool.questions.values())).prompt in table.value, "before anything is moved"
    pictures = [plots.value]
    for name, value in {
        "P": 2,
        "metric": "normalised",
        "correct by": "steps",
        "longest (tokens)": 60,
    }.items():
        by_name[name].value = value if by_name[name].value != value else 3
        pictures.append(plots.value)
    assert len(set(pictures)) == len(pictures), "every change redraws the plots"
    assert (
        question.value == next(iter(pool.questions))
        and pool.questions[question.value].prompt in table.value
    )
    question.value = list(pool.questions)[3]
    assert "&lt;script&gt;" in table.value and "<script>" not in table.value
    longest = by_name["longest (tokens)"].value
    by_name["longest (tokens)"].value = 1
    sizes = [getattr(widget, "value", "") for widget in controls.children]
    assert "<b>0 examples</b> of 0 questions" in sizes  # and no mean of none
    by_name["longest (tokens)"].value = longest
    button = by_name["send these values to the parameters"]
    button.click()
    message = controls.children[-1]
    assert (
        "params/mine/all.yml" in message.value
        and params.load("mine", "03")["n_kept"] == by_name["P"].value
    )
    by_name["P"].value = 5 - by_name["P"].value
    button.click()
    assert "is there already" in message.value
    by_name["replace what is there"].value = True
    button.click()
    assert message.value.startswith("<div") and "written" in message.value


def test_a_control_that_the_notebook_cannot_take_is_disabled_and_says_why(repository, monkeypatch):
    folder = repository / "outputs" / "lab" / "01_teacher_selection"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"params": params.load("lab", "01")}))
    monkeypatch.setattr("ded.explore.widgets.read_pool", lambda *_: make_pool())
    controls = explore.explorer("outputs/lab", "01").children[0].children[0].children
    assert [w.description for w in controls if getattr(w, "disabled", False)] == [
        *("questions kept", "P", "metric")
    ]
    told = "not in notebook 01, or not as one value: questions kept, P, metric"
    assert told in [getattr(widget, "value", "") for widget in controls]


def test_the_notebook_is_committed_clean():
    notebook = nbformat.read(ROOT / "notebooks" / "explore.ipynb", as_version=4)
    assert not any(
        cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells
    ) and notebook.cells[-1].source.startswith("explore.explorer")
