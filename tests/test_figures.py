"""Every figure from made-up tables: panels, names, intervals, labels; the same bytes each time."""

import io
import itertools
import json
import re
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from ded import figures, stats, tables

BASES, REPLICATES = ["alpha", "beta", "gamma"], 3
TEACHERS = ["left", "pairs", "random", "facts", "totals", "checked", "left-short"]
OOD = ["reverse", "sort", "maximum", "shift", "larger", "filter"]
SIZES = [50, 100, 200, 400, 800, 1200, 1600, 2400]
SELECTIONS = ["hard", "middle", "easy", "hard-tokens", "fixed-random", "fixed-hard"]
SELECTIONS += ["random-steps"]
VALUES = {"accuracy": "pass@1", "think_rate": "open with the think tag"}
RULES = ["farthest", "random", "nearest", "single", "farthest by steps"]

OWN = dict(zip(TEACHERS, (0.944, 0.969, 0.806, 0.972, 0.594, 0.439, 0.861), strict=True))
STUDENTS = {
    "alpha": dict(zip(TEACHERS, (0.735, 0.807, 0.611, 0.341, 0.575, 0.322, 0.737), strict=True)),
    "beta": dict(zip(TEACHERS, (0.397, 0.439, 0.469, 0.656, 0.41, 0.264, 0.37), strict=True)),
    "gamma": dict(zip(TEACHERS, (0.283, 0.267, 0.278, 0.622, 0.31, 0.227, 0.25), strict=True)),
}
BEFORE = {"alpha": 0.553, "beta": 0.417, "gamma": 0.278}


def make_scores(arms, families, mean, seed, replicates=REPLICATES):
    """Score rows around mean(arm, base, family)."""
    rng, rows = np.random.default_rng(seed), []
    for base in BASES:
        for replicate in range(replicates):
            for arm in arms:
                for family in families:
                    group = "OOD" if family in OOD else "ID" if family == "ID" else "robust"
                    value = float(np.clip(mean(arm, base, family) + rng.normal(0, 0.015), 0, 1))
                    row = {
                        "base": base,
                        "arm": arm,
                        "replicate": replicate,
                        "family": family,
                        "group": group,
                    }
                    rows.append(
                        row
                        | {
                            "n": 500,
                            "error": 0,
                            "accuracy": value,
                            "pass_k": min(1.0, value + 0.12),
                        }
                    )
    return pd.DataFrame(rows)


def teacher_tables(replicates=REPLICATES):
    """own, student, before of notebook 01."""
    own = make_scores(TEACHERS, ["ID"], lambda arm, base, family: OWN[arm], 1, replicates)
    student = make_scores(
        TEACHERS, ["ID", "sort"], lambda arm, base, family: STUDENTS[base][arm], 2, replicates
    )
    before = make_scores(["before"], ["ID"], lambda arm, base, family: BEFORE[base], 3, replicates)
    return own, student, before


def funnel_table():
    rows, steps = [], ("length", "format", "answer", "steps", "one a question", "corpus size")
    for base in BASES:
        for replicate in range(REPLICATES):
            for teacher in TEACHERS:
                before = 2000
                shares = (0.99, 0.97, OWN[teacher], 0.95 - 0.03 * replicate, 0.6, 0.5)
                for step, share in zip(steps, shares, strict=True):
                    kept = int(before * share)
                    unit = {"base": base, "replicate": replicate, "teacher": teacher}
                    rows.append(unit | {"step": step, "kept": kept, "dropped": before - kept})
                    before = kept
    return pd.DataFrame(rows)


def tradeoff_tables():
    """scores and rows of notebook 02."""
    effects = (
        (0.07, -0.004),
        (0.01, 0.001),
        (-0.06, 0.004),
        (0.04, -0.003),
        (0.03, -0.03),
        (0.02, 0.002),
        (0.015, 0.001),
        (0, 0),
    )
    more = dict(zip([*SELECTIONS, "random"], effects, strict=True))
    arms = {f"random {size}": ("random", size) for size in SIZES}
    arms |= {f"{name} {size}": (name, size) for size in (200,) for name in SELECTIONS}

    def mean(arm, base, family):
        name, size = arms.get(arm, ("random", 0))
        level = BASES.index(base) * -0.05
        if family == "ID":
            return level + (0.47 + 0.085 * np.log2(size / 50) if size else 0.55) + more[name][0]
        loss = (0.2 if size >= 1600 else 0.00003 * size) * (1 + OOD.index(family) % 3) / 2
        return 0.965 + level / 9 - loss + more[name][1]

    scores = make_scores(["before", *arms], ["ID", *OOD], mean, 5)
    rows = scores.loc[scores["arm"] != "before", ["base", "replicate", "arm"]].drop_duplicates()
    selection, size = zip(*rows["arm"].map(arms), strict=True)
    return scores, rows.assign(selection=selection, size=size)


def rates_table():
    rng, rows = np.random.default_rng(9), []
    for i, base in enumerate(BASES):
        for replicate in range(REPLICATES):
            rate = rng.binomial(4, 0.3 + 0.2 * i, 200) / 4
            unit = {"base": base, "replicate": replicate, "level": rng.integers(6, 10, 200), "n": 4}
            rows.append(pd.DataFrame(unit | {"pass_rate": rate, "kept": rate <= 0.5}))
    return pd.concat(rows)


def diversity_tables():
    """scores and statistics of notebook 03."""
    gain, rng = (
        dict(zip(RULES, (0.643, 0.638, 0.618, 0.593, 0.640), strict=True)),
        np.random.default_rng(6),
    )
    loss = {"ID": 0, "shuffled": 0.02, "zero": 0.09, "preamble": 0.18}

    def score(arm, base, family):
        return gain.get(arm, 0.5) - loss[family] - 0.04 * BASES.index(base)

    scores = make_scores(["before", *RULES], list(loss), score, 7)
    statistics = []
    for base in BASES:
        for replicate in range(REPLICATES):
            unit = {"base": base, "replicate": replicate}
            for arm, mean in zip(RULES, (30, 22, 12, 0, 26), strict=True):
                low = np.maximum(0, rng.normal(mean, mean / 6, 40)).round()
                frame = pd.DataFrame({"token_edits": low, "step_edits": low // 8})
                statistics.append(frame.assign(arm=arm, **unit))
    return scores, pd.concat(statistics)


def forest_table():
    rows = [
        ("far apart teach better: than random ones", 0.005, -0.025, 0.035, "inconclusive"),
        ("far apart teach better: than similar ones", 0.025, 0.003, 0.047, "reproduced"),
        ("the recipe beats the student before", 0.16, 0.1, 0.22, "reproduced"),
        ("the recipe beats every other corpus of its size", -0.02, -0.9, -0.005, "not reproduced"),
        ("depends on the student", np.nan, np.nan, np.nan, "not judged"),
    ]
    table = pd.DataFrame(rows, columns=["label", "estimate", "low", "high", "verdict"])
    bases = [{f"base {i}": e + 0.01 * (i - 4.5) for i in range(10)} for e in table["estimate"]]
    bases[3] |= {"base 0": -0.7}
    return table.assign(text="+0.5 [-2.5, 3.5], 7 of 10 bases above 0", margin=0.0, bases=bases)


RECIPE = {
    "before": 0,
    "DED": 300,
    "random": 300,
    "no compression": 300,
    "breadth": 300,
    "top teacher": 300,
    "small": 100,
    "large": 1600,
}
RECIPE_ID = dict(zip(RECIPE, (0.35, 0.44, 0.36, 0.38, 0.45, 0.30, 0.33, 0.52), strict=True))


def recipe_panels(recipe=RECIPE, groups=("ID math", "ID code", "OOD")):
    """Cells of notebook 04's arms, and of a teacher, by group; one arm lacks its code scores."""
    result = {}
    for group in groups:
        loss = {"ID math": 0.0, "ID code": 0.1, "OOD": -0.4}[group]
        rows = []
        for arm in [*recipe, "a teacher"]:
            mean = RECIPE_ID.get(arm, 0.5) - loss * (arm != "before")
            mean = np.nan if (arm, group) == ("top teacher", "ID code") else mean
            for i, base in enumerate(BASES):
                row = {"arm": arm, "base": base, "replicate": 2, "chance": 1 / 7}
                rows.append(row | {"accuracy": mean + 0.02 * (i - 1)})
        result[group] = pd.DataFrame(rows)
    return result


def ablation_table():
    rows = [
        ("random", "ID math", 0.08, 0.04, 0.12),
        ("large", "ID math", -0.08, -0.11, -0.05),
        ("breadth", "ID math", -0.01, -0.03, 0.01),
        ("random", "OOD", 0.02, -0.01, 0.05),
        ("breadth", "OOD", 0.05, np.nan, np.nan),
    ]
    return pd.DataFrame(rows, columns=["arm", "group", "estimate", "low", "high"])


def points_table():
    """`loss` ranks the gains backwards within every base.

    `length` carries nothing of them, and is not known for one teacher.
    """
    rows = []
    for i, base in enumerate(BASES):
        for rank, teacher in enumerate(TEACHERS):
            for turn in range(2):
                gain = 0.1 * i + 0.02 * rank - 0.05 + 0.001 * turn
                row = {"teacher": teacher, "base": base, "turn": turn, "gain": gain}
                length = np.nan if rank == 6 else (3, 1, 4, 0, 5, 2)[rank] + 10.0 * i
                rows += [
                    row
                    | {
                        "predictor": "loss (nats a token)",
                        "value": 10.0**-rank,
                        "seconds": 2.0 + turn,
                    },
                    row | {"predictor": "mean length (tokens)", "value": length, "seconds": 0.01},
                ]
    return pd.DataFrame(rows)


def valley_tables():
    """scores and rows of notebook 05."""
    scores, rows = tradeoff_tables()
    rate = np.where(scores["arm"] == "before", 0.0, 1.0)
    return scores.assign(think_rate=rate, chance=1 / 7), rows


NEW = (
    "recipe_pareto",
    "paper_figure_1",
    "ablation",
    "predictors",
)  # their tables hold no replicates


def plans():
    """{name: a call that draws it}"""
    own, student, before = teacher_tables()
    (scores, arms), (rules, statistics), table = (
        tradeoff_tables(),
        diversity_tables(),
        forest_table(),
    )
    valley = [figures.cells(valley_tables()[0]), valley_tables()[1]]
    rng = np.random.default_rng(8)
    shifts = [
        (f"{t}, alpha", rng.normal(0, 1, (60, 2)), rng.normal(i / 2, 1, (60, 2)))
        for i, t in enumerate(TEACHERS)
    ]
    return {
        "funnel": lambda: figures.funnel(funnel_table()),
        "teacher_vs_student": lambda: figures.teacher_vs_student(own, student, before),
        "predictors": lambda: figures.predictors(points_table()),
        "latent_shift": lambda: figures.latent_shift(shifts),
        "teacher_interaction": lambda: figures.teacher_interaction(student),
        "pass_rates": lambda: figures.pass_rates(rates_table()),
        "size_curve": lambda: figures.size_curve({"ID pass@1": figures.cells(scores)}, arms),
        "ood_families": lambda: figures.ood_families(scores, arms),
        "pareto": lambda: figures.pareto(scores, arms),
        "forest": lambda: figures.forest(table),
        "arm_scores": lambda: figures.arm_scores(
            {
                "ID pass@1": figures.cells(rules),
                "ID pass@4": figures.cells(rules.assign(accuracy=rules["pass_k"])),
            }
        ),
        "robustness": lambda: figures.robustness(rules),
        # as the notebook hands it over: units one after the other, row labels repeated
        "distances": lambda: figures.distances(statistics.set_index(np.zeros(len(statistics)))),
        "recipe_pareto": lambda: figures.recipe_pareto(recipe_panels(), RECIPE),
        "paper_figure_1": lambda: figures.paper_figure_1(tables.reported(["scores", "figure_1"])),
        "ablation": lambda: figures.ablation(ablation_table()),
        "valley": lambda: figures.size_curve(figures.measures(valley[0], VALUES), valley[1]),
    }


@pytest.fixture(scope="module")
def drawn():
    return {name: draw() for name, draw in plans().items()}


EVERY = pytest.mark.parametrize("name", list(plans()))


def panels(figure):
    return [ax for ax in figure.axes if ax.axison]


def titles(figure):
    return [ax.get_title() for ax in panels(figure)]


def whiskers(ax):
    """The drawn whiskers: (x or y of both ends) of each, from the error bars of the panel."""
    bars = [
        bar
        for container in ax.containers
        if hasattr(container, "has_xerr")
        for bar in container.lines[2]
    ]
    return [segment for bar in bars for segment in bar.get_segments()]


def dots(ax):
    """{y: the x of the bases' dots there}"""
    places = [(*line.get_xdata(), *line.get_ydata()) for line in ax.lines if line.get_alpha()]
    return {y: sorted(x for x, other in places if other == y) for _, y in places}


def words(figure):
    return " | ".join(text.get_text() for text in figure.findobj(Text))


def boxes(figure, kind):
    result = [
        text for text in figure.findobj(kind) if text.get_text().strip() and text.get_visible()
    ]
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(text.get_text(), text.axes, text.get_window_extent(renderer)) for text in result]


@EVERY
def test_axes_are_named_and_the_caption_says_what_the_bars_are(drawn, name):
    figure = drawn[name]
    assert panels(figure)[-1].get_xlabel()
    assert panels(figure)[0].get_ylabel() or name == "forest", "its rows name themselves"
    caption = figure.get_supxlabel()
    assert "interval" in caption or name == "latent_shift"
    if name not in ("forest", "funnel", "latent_shift", "pass_rates", *NEW):
        assert caption.startswith("n = 3 replicates a base, 3 student bases")


@EVERY
def test_no_text_leaves_the_page_or_runs_into_the_caption(drawn, name, monkeypatch):
    figure, result = drawn[name], []
    draw = Text.draw
    monkeypatch.setattr(
        Text, "draw", lambda text, renderer: (result.append(text), draw(text, renderer))
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # ticks beyond the limits exist, and are not drawn
    page = figure.bbox.padded(1.5)
    places = {
        text: text.get_window_extent(canvas.get_renderer())
        for text in result
        if text.get_text().strip() and text.get_visible()
    }
    caption = next(text for text in places if text.get_text() == figure.get_supxlabel())
    assert len(places) > 10
    for text, box in places.items():
        assert (
            page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        ), text
        assert text is caption or box.y0 >= places[caption].y1 - 1, text
    heads = [
        (text, places[text])
        for ax in figure.axes
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label)
        if text in places
    ]
    for i, (text, box) in enumerate(heads):
        assert not any(box.overlaps(other) for _, other in heads[:i]), f"{text} covers another"


@EVERY
def test_labels_of_ticks_do_not_touch(drawn, name):
    for ax in panels(drawn[name]):
        labels = [label for label in ax.get_xticklabels() if label.get_visible()]
        places = [label.get_window_extent() for label in labels if label.get_text()]
        for place, following in itertools.pairwise(places):
            assert place.x1 < following.x0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("teacher_vs_student", [0, 0, 0, 14]),
        ("predictors", [0, 0]),
        ("pareto", [2 * (1 + len(SIZES) + len(SELECTIONS))]),
        ("size_curve", [1 + len(SIZES)]),
        ("ood_families", [1 + len(SIZES)] * (1 + len(OOD))),
        ("forest", [4]),
        ("arm_scores", [6, 6]),
        ("robustness", [6] * 4),
        ("distances", [5, 5]),
        ("recipe_pareto", [4, 4, 4]),
        ("paper_figure_1", [0, 0]),
        ("ablation", [3, 1]),
        ("valley", [1 + len(SIZES)] * 2),
    ],
)
def test_intervals_are_drawn(drawn, name, expected):
    assert [len(whiskers(ax)) for ax in panels(drawn[name])] == expected


def test_one_panel_a_base_a_teacher_a_family(drawn):
    assert titles(drawn["teacher_vs_student"]) == [*BASES, "mean of 3 bases"]
    assert titles(drawn["ood_families"]) == ["macro mean", *OOD]
    assert titles(drawn["valley"]) == list(VALUES.values())
    changed = [f"ID, changed: {name}" for name in ("shuffled", "zero", "preamble")]
    assert titles(drawn["robustness"]) == ["ID", *changed]
    assert titles(drawn["arm_scores"]) == ["ID pass@1", "ID pass@4"]
    assert titles(drawn["recipe_pareto"]) == ["ID math", "ID code", "OOD"] and titles(
        drawn["ablation"]
    ) == ["ID math", "OOD"]


def test_headline_points_are_the_intervals_of_the_statistics(drawn):
    own, student, _ = teacher_tables()
    ax = panels(drawn["teacher_vs_student"])[3]
    container = ax.containers[TEACHERS.index("facts")]
    x, y = (stats.arm_interval(table[table["family"] == "ID"], "facts") for table in (own, student))
    assert container.lines[0].get_xydata()[0] == pytest.approx([x.estimate, y.estimate])
    ends = np.concatenate([bar.get_segments()[0] for bar in container.lines[2]])
    cross = [[x.low, y.estimate], [x.high, y.estimate], [x.estimate, y.low], [x.estimate, y.high]]
    assert ends == pytest.approx(np.array(cross))
    beta = panels(drawn["teacher_vs_student"])[1]
    ring = next(line for line in beta.lines if line.get_markersize() == 11)
    best = student[(student["base"] == "beta") & (student["arm"] == "facts")].query(
        "family == 'ID'"
    )
    assert ring.get_ydata()[0] == pytest.approx(best["accuracy"].mean()), "beta's best student"


def test_correlations_rank_within_bases():
    """A predictor that is higher in the base where gains are lower still ranks perfectly."""
    base = {"base": list("aaaabbbb"), "teacher": list("wxyz") * 2, "turn": 0, "seconds": 1.0}
    table = pd.DataFrame(base | {"gain": [1, 2, 3, 4, 11, 12, 13, 14]})
    values = {
        "own": [4, 5, 6, 7, 0, 1, 2, 3],
        "mixed": [1, 2, 3, 4, 4, 3, 1, 2],
        "same": 1.0,
        "missing": np.nan,
    }
    points = pd.concat([table.assign(predictor=name, value=v) for name, v in values.items()])
    result = figures.rank_correlations(points).set_index("predictor")
    assert result.loc["own", ["estimate", "n"]].tolist() == pytest.approx([1, 2])
    assert result.loc["mixed", "estimate"] == pytest.approx((1 - 0.8) / 2), "a mean over bases"
    assert result.loc[["same", "missing"], "estimate"].isna().all()


def test_frontier_holds_no_beaten_arm(drawn):
    scores, _ = tradeoff_tables()
    x, y = (
        figures.cells(scores, family).groupby("arm")["accuracy"].mean() for family in ("ID", "OOD")
    )
    line = next(
        line for line in panels(drawn["pareto"])[0].lines if line.get_drawstyle() == "steps-pre"
    )
    for at in line.get_xydata():
        assert not ((x > at[0] + 1e-9) & (y > at[1] + 1e-9)).any()
    assert x.max() == pytest.approx(line.get_xdata().max()) and y.max() == pytest.approx(
        line.get_ydata().max()
    )


def at_points(figure, ax):
    """{name in the legend: where its point stands} of a panel."""
    (legend,) = figure.legends
    marks = [(mark.get_color(), mark.get_marker()) for mark in legend.legend_handles]
    names = dict(zip(marks, (text.get_text() for text in legend.get_texts()), strict=True))
    points = [bars.lines[0] for bars in ax.containers]
    return {names[point.get_color(), point.get_marker()]: point.get_xydata()[0] for point in points}


def test_the_recipe_stands_where_its_numbers_say_and_its_frontier_only_rises(drawn):
    figure = drawn["recipe_pareto"]
    last = panels(figure)[-1]
    words = [label.get_text() for label in last.get_xticklabels()]
    ticks = dict(zip(words, last.get_xticks(), strict=True))
    assert list(ticks) == ["before", "100", "300", "1,600"] and 0 < ticks["before"] < ticks["100"]
    for ax, table in zip(panels(figure), recipe_panels().values(), strict=True):
        means, result = table.groupby("arm")["accuracy"].mean(), at_points(figure, ax)
        names = dict(zip(("before", "small", "DED", "large"), ticks.values(), strict=True))
        assert {arm: result[arm][0] for arm in names} == pytest.approx(names)
        assert {arm: result[arm][1] for arm in names} == pytest.approx(means[[*names]].to_dict())
        assert set(result) == {*names, "other corpora of DED's size"}
        equal = [arm for arm, size in RECIPE.items() if size == 300 and arm != "DED"]
        strokes = [bars.lines[0].get_xydata()[0] for bars in ax.containers]
        strokes = [(x, y) for x, y in strokes if x == ticks["300"] and y != means["DED"]]
        assert {y for _, y in strokes} == {*means[equal].dropna()}, "at their size, not beside it"
        levels = [line.get_ydata() for line in ax.lines if line.get_color() == "0.25"]
        assert any(np.allclose(y, means["a teacher"]) for y in levels if len(y))
    first = panels(figure)[0]
    (line,) = (line for line in first.lines if line.get_drawstyle() == "steps-post")
    assert line.get_ydata() == pytest.approx([0.35, 0.45, 0.52, 0.52]), (
        "small lies below before, DED below breadth"
    )


def test_no_whisker_of_the_recipe_leaves_what_a_rate_can_be():
    def wide(cells):
        return cells.assign(accuracy=cells["accuracy"].where(cells["base"] != BASES[0], 0.99))

    figure = figures.recipe_pareto({name: wide(c) for name, c in recipe_panels().items()}, RECIPE)
    ends = [end for ax in panels(figure) for segment in whiskers(ax) for _, end in segment]
    assert max(ends) == 1 and min(ends) >= 0


def test_large_corpora_of_one_size_stand_apart():
    sizes = {"DED": 300} | {f"large {i}": 1600 for i in range(4)}
    figure = figures.recipe_pareto(recipe_panels(sizes, ["OOD"]), sizes)
    (ax,) = panels(figure)
    places = [ax.transData.transform(xy)[0] for xy in at_points(figure, ax).values()]
    assert len({round(x) for x in places}) == 5


def test_the_papers_figure_1_is_marked_as_reported_and_tells_sources_apart(drawn):
    figure = drawn["paper_figure_1"]
    (legend,), (first, second) = figure.legends, panels(figure)
    assert legend.get_title().get_text() == "Reported by others, not measured here"
    result, later = at_points(figure, first), at_points(figure, second)
    assert len(legend.get_texts()) == 12 and "[4] OpenThinker-32B model card" in words(figure)
    assert result["NTele-R1-32B-Math [1]"][1] == pytest.approx(0.8187)
    assert later["NTele-R1-32B-Math [1]"][1] == pytest.approx(0.7729)
    assert "NTele-R1-32B [1]" in result and "NTele-R1-32B [1]" not in later, "not known"
    assert "LIMO-32B, s1-32B, s1.1-32B: of AIME 2025" in words(figure).replace("\n", " ")
    ticks = [label.get_text() for label in second.get_xticklabels()]
    assert ticks[0] == "before" and ticks[-1] == "no corpus" and "3,000" in ticks
    order = ["DS-32B [2]", "AReaL-boba-SFT-32B [2]", "NTele-R1-32B [1]", "Light-R1-32B-DS [3]"]
    places = [result[name][0] for name in [*order, "QwQ-32B [2]"]]
    assert places == sorted(places)
    hollow = [
        bars.lines[0] for bars in first.containers if bars.lines[0].get_markerfacecolor() == "white"
    ]
    assert sorted(line.get_ydata()[0] for line in hollow) == pytest.approx([0.36, 0.567, 0.647]), (
        "another base"
    )


def test_ablation_marks_say_the_side_of_zero(drawn):
    result = {
        (ax.get_title(), bars.lines[0].get_ydata()[0]): bars.lines[0].get_marker()
        for ax in panels(drawn["ablation"])
        for bars in ax.containers
    }
    assert result == {
        ("ID math", 0): "D",
        ("ID math", 1): "X",
        ("ID math", 2): "o",
        ("OOD", 0): "o",
        ("OOD", 2): "o",
    }
    assert [label.get_text() for label in panels(drawn["ablation"])[0].get_yticklabels()] == [
        "random",
        "large",
        "breadth",
    ]


def test_predictors_are_centred_and_tell_their_cost(drawn):
    result = figures.rank_correlations(points_table()).set_index("predictor")
    assert result.loc[
        "loss (nats a token)", ["estimate", "n", "seconds"]
    ].tolist() == pytest.approx([-1, 3, 2.5])
    weak = result.loc["mean length (tokens)"]
    assert weak["n"] == 3 and abs(weak["estimate"]) < 0.5
    first, second = panels(drawn["predictors"])
    assert "2.5 s" in first.get_title() and "rho" in second.get_title()
    dots = [line.get_ydata() for line in first.lines if len(line.get_xdata()) == len(BASES)]
    assert len(dots) == len(TEACHERS) and np.ptp(dots) < 0.13, "bases 20 points apart coincide"
    assert np.sum(dots) == pytest.approx(0)
    names = [text.get_text() for text in drawn["predictors"].legends[0].get_texts()]
    assert names == TEACHERS


def test_eleven_teachers_with_long_names_are_told_apart_within_the_figure():
    names = [f"Organisation/a-data-set/a-teacher-of-32B-{number}" for number in range(11)]
    row = {"predictor": "loss (nats a token)", "base": "x", "turn": 0, "seconds": 1.0}
    points = pd.DataFrame(
        [row | {"teacher": name, "value": i, "gain": i / 100} for i, name in enumerate(names)]
    )
    with warnings.catch_warnings(action="error"):  # of panels without room
        figure = figures.predictors(points)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert legend.get_window_extent().width <= figure.bbox.width
    assert len({(mark.get_color(), mark.get_marker()) for mark in legend.legend_handles}) == 11
    caption = " ".join(figure.get_supxlabel().split())
    assert "RSR 0.86 (mean of five students, eleven teachers; arXiv 2601.14249)" in caption
    assert "0.86" not in panels(figure)[0].get_title()


def test_a_curve_begins_before_distillation_and_shows_its_bases_within_what_a_rate_can_be(drawn):
    scores, _ = valley_tables()
    arms = ["before", *(f"random {size}" for size in SIZES)]
    for ax, value in zip(panels(drawn["valley"]), VALUES, strict=True):
        table = figures.cells(scores).pivot_table(value, "arm", "base").loc[arms]
        curves = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == len(arms)]
        for base in BASES:
            assert any(np.allclose(curve, table[base]) for curve in curves)
        assert any(np.allclose(curve, table.mean(axis=1)) for curve in curves), "their mean"
        assert ax.get_xticklabels()[0].get_text() == "before"
        ends = [end for segment in whiskers(ax) for _, end in segment]
        assert min(ends) >= 0 and max(ends) <= 1


def test_mastered_families_stand_apart_and_guessing_is_drawn_where_it_is_near():
    scores, rows = valley_tables()
    apart = scores.assign(group=scores["group"].mask(scores["family"] == OOD[0], "mastered"))
    figure = figures.ood_families(apart, rows)
    assert titles(figure) == ["macro mean", *OOD[1:], f"{OOD[0]} (mastered)"]
    near = scores.assign(accuracy=scores["accuracy"].where(scores["group"] != "ID", 0.2))
    for table, drawn in ((near, 1), (scores.assign(chance=0.0), 0)):
        (ax,) = panels(figures.size_curve({"ID": figures.cells(table)}, rows))
        levels = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert len(levels) == drawn


def test_every_figure_of_the_paper_is_answered_by_one_that_a_notebook_records():
    result = tables.reported(["figures_of_the_paper"])
    assert (
        set(result["answer"]) == {"measured", "in part", "not reproducible here"}
        and result["why"].str.len().min() > 10
    )
    assert (result["figure"].eq("–") == result["answer"].eq("not reproducible here")).all()
    for row in result.itertuples():
        books = [tables.home() / "notebooks" / f"{name}.ipynb" for name in row.notebook.split(", ")]
        if all(book.is_file() for book in books):
            cells = [cell for book in books for cell in json.loads(book.read_text())["cells"]]
            recorded = "".join("".join(cell["source"]) for cell in cells)
            for name in row.figure.split(", "):
                call = rf'record\.figure\(\s*"{name}"'
                assert re.search(call, recorded), f"no notebook of {row.notebook} records {name}"


def test_forest_shows_each_claim_with_its_verdict_and_three_points_can_be_seen(drawn):
    shown, table = words(drawn["forest"]).replace("\n", " "), forest_table()
    for word in [*table["label"], *table["text"], *table["verdict"], "±3 points"]:
        assert word in shown
    (ax,) = panels(drawn["forest"])
    low, high = ax.get_xlim()
    assert low < table["estimate"].min() and table["estimate"].max() < high
    assert high - low < 0.45, "a bar of 90 points is cut, and ends in an arrow"
    arrows = [line for line in ax.lines if line.get_marker() == "<" and len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in arrows] == [[low], [low]], "a dot and a bar"
    texts = [place for _, axes, place in boxes(drawn["forest"], Text) if axes is ax]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(texts, 2))


def test_a_forest_shows_the_part_that_decides():
    def part(label, *values, margin=0.0):
        table = pd.DataFrame(
            {"base": list("abcde"[: len(values)]), "replicate": 0, "value": values}
        )
        return stats.Part(label, stats.pooled(table), margin)

    up = part("ID", 0.04, 0.06, 0.05, 0.07, 0.05)
    weaker = part("code", 0.02, 0.06, 0.05, 0.07, 0.05)
    down = part("OOD", -0.04, -0.06, -0.05, -0.07, -0.05)
    claims = [
        stats.judge([claim])[0]
        for claim in (
            stats.claim("all hold", "", up, weaker),
            stats.claim("one fails", "", up, down),
            stats.claim("rises", "rises", up.interval),
            stats.claim("a test", "", stats.Part("", test_p_value=0.01)),
            stats.claim("none", "not measured", part("", np.nan, 0.1)),
            stats.claim("keeps up", "", stats.Part("keeps up", down.interval, 0.03)),
        )
    ]
    rows = figures.claim_rows(claims)
    assert list(rows["label"]) == [claim.name for claim in claims], "a row a claim"
    assert list(rows["verdict"]) == [claim.verdict for claim in claims]
    assert rows["text"][0].startswith("code +5.0")
    assert rows["text"][0].endswith("5 of 5 bases above 0, 2 of 2 parts reproduced")
    assert rows["text"][1].startswith("OOD −5.4")
    assert rows["text"][1].endswith("1 of 2 parts not reproduced")
    assert rows["estimate"][1] < 0 and rows["text"][2].endswith("5 of 5 bases above 0")
    assert rows["text"][3] == "p = 0.01" and rows["text"][4].startswith("not measured")
    assert rows["low"][0] == weaker.interval.lower(claims[0].level)
    assert rows["bases"][2] == dict(zip("abcde", (0.04, 0.06, 0.05, 0.07, 0.05), strict=True))
    (ax,) = figures.forest(rows).axes
    assert [len(of_row) for of_row in dots(ax).values()] == [5] * 4
    assert [-0.03, -0.03] in [list(line.get_xdata()) for line in ax.lines], "the margin's line"
    assert figures.forest(rows.head(0)).axes, "no claims, no error"


def test_dots_of_the_bases_stand_beside_every_mean_and_no_axis_leaves_what_a_rate_can_be():
    scores = make_scores(["before", "a", "b"], ["ID"], lambda *_: 0.8, 3, replicates=1)
    rates = scores["accuracy"].add(0.12).where(scores["base"] != "alpha", 0.02)
    figure = figures.arm_scores({"ID pass@4": scores.assign(chance=0.1, accuracy=rates)})
    (ax,) = panels(figure)
    assert len(dots(ax)) == 3
    assert all(len(row) == 3 and row[0] == 0.02 and row[1] > 0.8 for row in dots(ax).values())
    low, high = ax.get_xlim()
    assert low > -0.06 and high < 1.06
    assert "guessing, 10.0 %" in words(figure)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "student before"]


def test_a_funnel_is_a_table_without_what_drops_nothing():
    table = funnel_table()
    unit = {"kept": 2000, "dropped": 0, "base": "alpha", "replicate": 0, "teacher": "left"}
    idle = pd.DataFrame([{"step": step, **unit} for step in ("sampled", "repeats")])
    (ax,) = panels(figures.funnel(pd.concat([idle, table])))
    steps = [label.get_text() for label in ax.get_yticklabels()]
    assert steps == ["length", "format", "answer", "steps", "one a question", "corpus size"]
    assert "Steps that drop nothing: repeats." in ax.figure.get_supxlabel()
    shown = [text.get_text() for text in ax.texts]
    assert len(shown) == 6 * 7 and shown[0] == "99.0%\n1,980"


def test_a_heat_map_leaves_empty_what_was_not_measured():
    student = teacher_tables()[1].query("family == 'ID'")
    lacking = (student["arm"] == "facts") & (student["base"] == "beta")
    student = student.assign(accuracy=student["accuracy"].mask(lacking))
    (ax,) = panels(figures.teacher_interaction(student))
    assert len(ax.texts) == 7 * 4 - 2, "facts on beta, and so in the mean"


def test_distances_have_a_panel_a_metric(drawn):
    assert titles(drawn["distances"]) == ["token edits", "step edits"]


def test_pass_rates_say_what_compression_keeps(drawn):
    rates = rates_table()
    for base in BASES:
        ax = next(ax for ax in panels(drawn["pass_rates"]) if ax.get_title() == base)
        kept = (rates.loc[rates["base"] == base, "pass_rate"] <= 0.5).mean()
        bars = [bar for bar in ax.patches if bar.get_facecolor()[2] > bar.get_facecolor()[0]]
        assert sum(bar.get_height() for bar in bars) == pytest.approx(kept)


def test_wide_whiskers_do_not_stretch_an_axis_beyond_what_a_rate_can_be():
    figure = figures.teacher_vs_student(*teacher_tables(replicates=2)[:3])
    for ax in panels(figure):
        assert ax.get_ylim()[0] >= -0.05 and ax.get_xlim()[1] <= 1.05


def test_one_replicate_has_points_without_whiskers():
    tables = [table[table["base"] == BASES[0]] for table in teacher_tables(replicates=1)[:3]]
    figure = figures.teacher_vs_student(*tables)
    assert all(not whiskers(ax) and len(ax.containers) == 7 for ax in panels(figure))
    assert "n = 1 replicate a base" in words(figure) and "no interval" in words(figure)
    heat = words(figures.teacher_interaction(tables[1]))
    assert "±" not in heat.replace("± half", "")
    figure = figures.teacher_vs_student(*teacher_tables(replicates=1)[:3])
    assert [bool(whiskers(ax)) for ax in panels(figure)] == [False] * len(BASES) + [True]
    assert "t-intervals over bases" in words(figure)


def test_same_tables_give_the_same_bytes(drawn):
    def content(figure, kind):
        file = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "x"}):
            figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
        return file.getvalue()

    for name in ("pareto", "forest"):
        again = plans()[name]()
        assert content(again, "png") == content(drawn[name], "png") and content(
            again, "svg"
        ) == content(again, "svg")
        assert content(again, "svg") == content(drawn[name], "svg")


def test_nothing_leaks(drawn):
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []
    before = dict(matplotlib.rcParams)
    with figures.style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before


def test_plotting_libraries_load_with_the_first_figure():
    heavy = ("matplotlib", "seaborn", "scipy", "statsmodels")
    code = f"import sys, ded.figures; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
