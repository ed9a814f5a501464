"""The interactive view: what filters, threshold, P, metric and teacher make of stored trajectories, without a model.

    p = widgets.recorded("outputs/lab", "03")                # the parameters of a run whose results lie there
    pool = widgets.pool(p, base, replicate, teacher)         # its trajectories, pass rates and distances, from the store
    choice = widgets.choose(pool, widgets.start(p))          # every trajectory with the step and reason that dropped it
    widgets.figure(pool, choice), widgets.browse(pool, choice, problem_id)
    widgets.explorer("outputs/lab")                          # all of it under sliders, in JupyterLab
"""

from __future__ import annotations

import datetime
import html
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from ded import curation, evaluation, figures, generation, home, params, problems, store
from ded.study import common

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALUES = {"max_tokens": 0, "verification": "answer", "pass_rate_threshold": 1.0, "n_kept": 1, "metric": "levenshtein"}  # where a run has no such parameter


class ExploreError(ValueError):
    """Nothing to show, or nowhere to write; one line, in a notebook too."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True, eq=False)
class Pool:
    """A teacher's stored trajectories in one unit of a run, and what every change of values needs of them."""

    seed: int
    questions: dict[str, problems.Problem]
    trajectories: pd.DataFrame  # graded, with row (a number) and same_as (sample_index of the first equal one)
    rates: pd.DataFrame  # problem_id, pass_rate
    whose: str  # whose pass rates: "student", or "teacher" where the run stored no student's
    distances: dict[str, dict[str, np.ndarray]]  # metric: {problem_id: matrix by sample_index}
    valid: Callable[[str, str], bool]  # (problem_id, think text) -> whether its steps are


class Choice(NamedTuple):
    """table: the pool's trajectories with step and why it was dropped, both "" for those in the corpus; funnel and statistics as in `ded.curation`."""

    table: pd.DataFrame
    funnel: pd.DataFrame
    statistics: pd.DataFrame
    values: dict[str, Any]


# ---- stored results --------------------------------------------------------------------------------------------------
def recorded(folder: str | Path = "outputs/lab", notebook: str = "03") -> Any:
    """The parameters of the run of a notebook whose results lie under `folder` (relative to the repository)."""
    name, file = (stem := params.find_notebook(notebook).stem), home() / folder / stem / "manifest.json"
    if not file.is_file():
        raise ExploreError(f"no results of notebook {name[:2]} in {folder}; to make them: ded run {name[:2]} --preset {Path(folder).name}")
    return params.check(name, json.loads(file.read_text(encoding="utf-8"))["params"])


def start(p: Any) -> dict[str, Any]:
    """The values that a run was made with, named as its parameters are: what `choose` takes."""
    return {name: getattr(p, name, value) for name, value in VALUES.items()}


def samples(p: Any) -> int:
    """The trajectories that a run samples a question."""
    return getattr(p, "n_trajectories", getattr(p, "n_attempts", 1))


@common.remembered
def pool(p: Any, base: str, replicate: int, teacher: str) -> Pool:
    """What `choose` chooses from; ExploreError where the store lacks it. The distances of long trajectories take a while, once."""
    questions, drawn = common.corpus_questions(p, base, replicate), common.sampling(p, replicate)
    if not generation.drawn(teacher, questions, samples(p), **drawn):
        raise ExploreError(f"the trajectories of {teacher} ({base}, replicate {replicate}) are not in the store {store.root()}: run the notebook again")
    table = common.trajectories(p, base, replicate, teacher, samples(p), questions)
    asked, n, drawn = questions[: getattr(p, "pass_rate_questions", None)], getattr(p, "pass_rate_samples", 0), drawn | {"temperature": p.eval_temperature}
    if stored := n and generation.drawn(base, asked, n, **drawn):
        rates = evaluation.pass_rates(base, asked, n, **drawn)
    else:
        judged = table[table["verdict"] != "error"]
        shares = (judged["verdict"] == "correct").groupby(judged["problem_id"]).mean().reindex([q.id for q in questions])
        rates = shares.rename("pass_rate").rename_axis("problem_id").reset_index()
    return assemble(table, questions, rates, "student" if stored else "teacher", p.seed * 1000 + replicate)


def assemble(table: pd.DataFrame, questions: list[problems.Problem], rates: pd.DataFrame, whose: str, seed: int) -> Pool:
    """A Pool of a table of graded trajectories: all pairwise distances, each found once."""
    edits, relative, by_id = {}, {}, {q.id: q for q in questions}
    for name, rows in table.groupby("problem_id", sort=False):
        at, ids = rows["sample_index"].to_numpy(), rows["token_ids"].tolist()
        edits[name], relative[name] = (np.full((at.max() + 1,) * 2, np.nan) for _ in range(2))  # nan: a sample that is not there
        edits[name][np.ix_(at, at)] = found = curation.pairwise_distances(ids, workers=-1)
        relative[name][np.ix_(at, at)] = curation.normalised(found, ids)
    same = [int((edits[name][i] == 0).argmax()) for name, i in zip(table["problem_id"].tolist(), table["sample_index"].tolist())]
    valid = lru_cache(maxsize=None)(lambda name, think: common.step_valid(by_id[name], think))
    table = table.assign(row=np.arange(len(table)), same_as=same)
    return Pool(seed, by_id, table, rates[["problem_id", "pass_rate"]], whose, {"levenshtein": edits, "normalised": relative}, valid)


# ---- values -> corpus, and why each trajectory is in it or not -------------------------------------------------------
def choose(pool: Pool, values: Mapping[str, Any], rule: str = "farthest") -> Choice:
    """Quality filters, question compression (none at 1) and n_kept trajectories a question, by `ded.curation`; values as from `start`."""
    steps, n, metric = [_quality(pool, values["max_tokens"], values["verification"])], values["n_kept"], values["metric"]
    if values["pass_rate_threshold"] < 1:
        easy = curation.compress_questions(pool.rates, values["pass_rate_threshold"]).dropped
        why, left = dict(zip(easy["problem_id"], easy["reason"])), steps[0].kept
        steps.append(curation.drop(left, "compression", [why.get(name, "") for name in left["problem_id"].tolist()]))
    left = steps[-1].kept
    chosen, statistics = curation.select_trajectories(left, n, rule, metric, pool.seed, distances=pool.distances[metric])
    taken, few = set(chosen["row"]), {s.problem_id: s.distinct for s in statistics.itertuples() if not s.chosen}
    why = [
        "" if row in taken else f"{few[name]} distinct, {n} needed" if name in few
        else f"equal to sample {first}" if first != index else f"not among the {n} chosen"
        for row, name, index, first in zip(*(left[column].tolist() for column in ("row", "problem_id", "sample_index", "same_as")))
    ]  # fmt: skip
    _, funnel, dropped = curation.join(*steps, curation.drop(left, rule, why))
    fate = dropped.set_index("row")[["step", "reason"]].reindex(pool.trajectories["row"], fill_value="").set_axis(["step", "why"], axis=1)
    return Choice(pool.trajectories.join(fate), funnel, statistics, dict(values))


@lru_cache(maxsize=8)
def _quality(pool: Pool, max_tokens: int, verification: str) -> curation.Filtered:
    check = {"verify": verification, "step_check": lambda problem, think: pool.valid(problem.id, think)}
    return curation.curate(pool.trajectories, list(pool.questions.values()), max_tokens=max_tokens, **check)


@lru_cache(maxsize=4)
def _pairs(pool: Pool, metric: str) -> np.ndarray:
    found = np.concatenate([m[np.triu_indices(len(m), 1)] for m in pool.distances[metric].values()])
    return found[np.isfinite(found)]


def figure(pool: Pool, choice: Choice, again: Figure | None = None) -> Figure:
    """Size, difficulty, lengths and distances of a corpus; `again` as in `figures.explored`."""
    corpus, rates, every = choice.table[choice.table["why"] == ""], pool.rates["pass_rate"].dropna(), pool.trajectories["n_tokens"]
    asked = pool.rates["problem_id"].isin(set(corpus["problem_id"]))
    return figures.explored(choice.funnel, [
        (f"questions (%) by {pool.whose}'s pass rate", rates, pool.rates["pass_rate"][asked].dropna(), 17),
        ("trajectories (%) by tokens", every, corpus["n_tokens"], 30),
        ("all distances; line: smallest of a question (%)", _pairs(pool, choice.values["metric"]), choice.statistics["min_distance"].dropna(), 30),
    ], choice.values["pass_rate_threshold"], again)  # fmt: skip


def browse(pool: Pool, choice: Choice, problem_id: str) -> pd.DataFrame:
    """A question's trajectories: sample, verdict, answer, tokens, nearest (distance to the nearest other one in the corpus), corpus ("kept",
    or what dropped it), text. Of hidden questions (`Problem.meta["hide"]`) neither answers nor texts."""
    rows = choice.table[choice.table["problem_id"] == problem_id]
    at, kept = rows["sample_index"].to_numpy(), (rows["why"] == "").to_numpy()
    between = pool.distances[choice.values["metric"]][problem_id][np.ix_(at, at[kept])]
    nearest = np.where(at[:, None] == at[kept], np.inf, between).min(axis=1, initial=np.inf)
    shown = pd.DataFrame({
        "sample": at, "verdict": rows["verdict"], "answer": rows["answer"], "tokens": rows["n_tokens"], "nearest": np.where(np.isfinite(nearest), nearest, np.nan),
        "corpus": np.where(kept, "kept", rows["step"] + ": " + rows["why"]), "text": rows["text"],
    })  # fmt: skip
    hidden = pool.questions[problem_id].meta.get("hide")
    return (shown.assign(answer="(hidden)", text="(hidden)") if hidden else shown).reset_index(drop=True)


# ---- values -> parameters --------------------------------------------------------------------------------------------
def send(p: Any, notebook: str, values: Mapping[str, Any], name: str = "mine", replace: bool = False) -> list[Path]:
    """Writes params/<name>/<notebook>.yml, the run's own values with what differs in `values`, and such a file for every other notebook
    that takes a changed value, on top of the run's preset; returns the files.

    Before anything is written: ParameterError for values out of range, ExploreError for files that are there already, unless `replace`.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name) or name in ("accelerate", p.preset):
        raise ExploreError(f"{name!r} cannot be the new preset's name: letters, digits, - and _, and not {p.preset!r}, from which it is made")
    before = start(p) | {"teacher": getattr(p, "teacher", None)}
    moved, texts = {key: value for key, value in values.items() if value != before[key]}, {}
    for path in params.notebooks():
        own, mine = path == params.find_notebook(notebook), {k: v for k, v in moved.items() if k in params.SCHEMAS[path.stem].model_fields}
        if own or mine:
            told, plain = p.model_dump() if own else params.load(p.preset, path.stem), params.defaults(path)
            told = {key: value for key, value in told.items() if key not in ("preset", "out_dir") and value != plain[key]}
            told |= mine | {"fixed_on": datetime.date.today().isoformat()}
            params.load(p.preset, path.stem, told)
            head = f"# {name}: preset {p.preset} with, from the interactive view: {', '.join(mine) or 'no change'}. Other values: the notebook's defaults.\n"
            texts[home() / "params" / name / f"{path.stem}.yml"] = head + yaml.safe_dump(told, sort_keys=False, default_flow_style=None, width=110)
    if not replace and (there := [file.relative_to(home()).as_posix() for file in texts if file.exists()]):
        raise ExploreError(f"{', '.join(there)} would be replaced: say so, or choose another name")
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        (work := file.with_suffix(f".{os.getpid()}")).write_text(text, encoding="utf-8")
        os.replace(work, file)
    return list(texts)


# ---- live ------------------------------------------------------------------------------------------------------------
def explorer(folder: str | Path = "outputs/lab", notebook: str = "03") -> Any:
    """The widgets, for JupyterLab, over a recorded run (see `recorded`)."""
    import ipywidgets as w

    p = recorded(folder, notebook)
    look = {"layout": w.Layout(width="330px"), "style": {"description_width": "95px"}}
    units = [(f"{common.short(u['base'])}, replicate {u['replicate']}", tuple(u.values())) for u in common.units(p)]
    unit = w.Dropdown(description="student", options=units, **look)
    teacher = w.Dropdown(description="teacher", options=[(common.short(t), t) for t in getattr(p, "teachers", None) or [p.teacher]], **look)
    values = {
        "max_tokens": w.IntSlider(description="longest (tokens)", max=p.max_tokens, step=max(1, p.max_tokens // 128), **look),
        "verification": w.Dropdown(description="correct by", options=["answer", "steps"][: 1 + problems.checks_steps(p.corpus_source)], **look),
        "pass_rate_threshold": w.FloatSlider(description="pass rate up to", max=1, step=0.05, **look),
        "n_kept": w.IntSlider(description="P", min=1, max=samples(p), **look),
        "metric": w.Dropdown(description="metric", options=curation.METRICS, **look),
    }  # fmt: skip
    for key, value in start(p).items():
        values[key].value = value
    rule = w.Dropdown(description="rule (view only)", options=curation.RULES, **look)
    name, replace = w.Text("mine", description="as preset", **look), w.Checkbox(False, description="replace what is there", indent=False)
    button, said, size = w.Button(description="send these values to the parameters", layout=look["layout"]), w.HTML(), w.HTML()
    plots, question, table = w.Image(format="png", width=836), w.Dropdown(description="question", layout=w.Layout(width="830px")), w.HTML()
    now: dict[str, Any] = {"figure": None}

    def load(_: Any = None) -> None:
        """Another student or teacher."""
        said.value = "reading ..."
        try:
            now["pool"] = pool(p, *unit.value, teacher.value)
        except ExploreError as error:
            said.value = html.escape(str(error))
            return
        said.value, asked = "", now["pool"].questions.values()
        with question.hold_trait_notifications():
            question.options = [(f"{i}: {_prompt(q)[:100]}", q.id) for i, q in enumerate(asked)]
        update()

    def update(_: Any = None) -> None:
        """Another value."""
        now["choice"] = choice = choose(now["pool"], {key: one.value for key, one in values.items()}, rule.value)
        lengths, examples = choice.table.loc[choice.table["why"] == "", "n_tokens"], choice.statistics["chosen"]
        size.value = f"<b>{examples.sum():,} examples</b> of {(examples > 0).sum():,} questions, {lengths.mean():.1f} tokens on average"
        now["figure"], image = figure(now["pool"], choice, now["figure"]), io.BytesIO()
        now["figure"].savefig(image, format="png", dpi=110)
        plots.value = image.getvalue()
        show()

    def show(_: Any = None) -> None:
        """Another question."""
        if question.value in now["pool"].questions:
            asked = f"<pre>{html.escape(_prompt(now['pool'].questions[question.value]))}</pre>"
            table.value = asked + page(browse(now["pool"], now["choice"], question.value))

    def write(_: Any) -> None:
        try:
            files = send(p, notebook, {key: one.value for key, one in values.items()} | {"teacher": teacher.value}, name.value, replace.value)
            text = f"written: {', '.join(file.relative_to(home()).as_posix() for file in files)}. To run: ded run {notebook} --preset {name.value}"
        except ValueError as error:
            text = str(error)
        said.value = f"<pre style='white-space: pre-wrap; line-height: 1.3'>{html.escape(text)}</pre>"

    load()
    for widgets, what in (((unit, teacher), load), ((rule, *values.values()), update), ((question,), show)):
        for one in widgets:
            one.observe(what, "value")
    button.on_click(write)
    return w.VBox([w.HBox([w.VBox([unit, teacher, *values.values(), rule, size, name, replace, button, said]), plots]), question, table])


def _prompt(question: problems.Problem) -> str:
    return "(hidden)" if question.meta.get("hide") else question.prompt


def page(table: pd.DataFrame) -> str:
    """A table of `browse` as HTML: texts folded up, all that models wrote escaped."""
    plain = {column: [html.escape(str(x)) for x in table[column]] for column in ("verdict", "answer", "corpus", "text")}
    plain["text"] = [f"<details><summary>text</summary><pre style='white-space: pre-wrap'>{text}</pre></details>" for text in plain["text"]]
    with pd.option_context("display.max_colwidth", None):
        return table.assign(**plain).to_html(escape=False, index=False, na_rep="", float_format="{:.3g}".format)
