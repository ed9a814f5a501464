"""The interactive view: what filters, threshold, P, metric and teacher make of stored trajectories, without a model.

p = widgets.recorded("outputs/lab", "03")
pool = widgets.pool(p, base, replicate, teacher)
choice = widgets.choose(pool, widgets.start(p))
explored(pool, choice), widgets.browse(pool, choice, problem_id)
"""

from __future__ import annotations

import datetime
import html
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from ded import (
    curation,
    evaluation,
    generation,
    home,
    params,
    problems,
    results,
    store,
)
from ded.errors import ExploreError
from ded.explore.figure import explored, picture
from ded.params import schemas
from ded.study import common

VALUES = {
    "max_tokens": 0,
    "verification": "answer",
    "pass_rate_threshold": 1.0,
    "n_kept": 1,
    "metric": "levenshtein",
}  # of a run without them


@dataclass(frozen=True, eq=False)
class Pool:
    """A teacher's stored trajectories in one unit of a run, and what every change of values needs of them."""

    seed: int
    questions: dict[str, problems.Problem]
    trajectories: (
        pd.DataFrame
    )  # graded, with row (a number) and same_as (sample_index of the first equal one)
    rates: pd.DataFrame  # problem_id, pass_rate
    whose: str  # whose pass rates: "student", or "teacher" where the run stored no student's
    distances: dict[str, dict[str, np.ndarray]]  # metric: {problem_id: matrix by sample_index}
    apart: dict[str, np.ndarray]  # metric: all those distances, each once
    valid: Callable[[str, str], bool]  # (problem_id, think text) -> whether its steps are
    form: Callable[[str], str]  # `curation.fault`, remembered
    memo: dict = field(
        default_factory=dict
    )  # what `curation.select_trajectories` found for the candidates of a question


class Choice(NamedTuple):
    """table: the trajectories with step and why each was dropped, both "" for those in the corpus; funnel, statistics: see `ded.curation`."""

    table: pd.DataFrame
    funnel: pd.DataFrame
    statistics: pd.DataFrame
    values: dict[str, Any]


def recorded(folder: str | Path = "outputs/lab", notebook: str = "03") -> Any:
    """The parameters of the run of a notebook whose results lie under `folder` (relative to the repository)."""
    name, file = (
        (stem := params.find_notebook(notebook).stem),
        home() / folder / stem / "manifest.json",
    )
    if not file.is_file():
        raise ExploreError(
            f"no results of notebook {name[:2]} in {folder}; to make them: ded run {name[:2]} --preset {Path(folder).name}"
        )
    results.show_figures()
    return params.check(name, json.loads(file.read_text(encoding="utf-8"))["params"])


def start(p: Any) -> dict[str, Any]:
    """The values that a run was made with, named as its parameters are: what `choose` takes."""
    return {name: getattr(p, name, value) for name, value in VALUES.items()}


@common.remembered
def pool(p: Any, base: str, replicate: int, teacher: str) -> Pool:
    """What `choose` chooses from; ExploreError where the store lacks it. The distances of long trajectories take a while, once."""
    questions, sampling = common.corpus_questions(p, base, replicate), common.sampling(p, replicate)
    n = getattr(p, "n_trajectories", getattr(p, "n_attempts", 1))
    if not generation.drawn(teacher, questions, n, **sampling):
        raise ExploreError(
            f"no trajectories of {teacher} for {base}, replicate {replicate}, in the store {store.root()}: run the notebook again"
        )
    table = common.trajectories(p, base, replicate, teacher, n, questions)
    asked, n, sampling["temperature"] = (
        questions[: getattr(p, "pass_rate_questions", None)],
        getattr(p, "pass_rate_samples", 0),
        p.eval_temperature,
    )
    if stored := n and generation.drawn(base, asked, n, **sampling):
        rates = evaluation.pass_rates(base, asked, n, **sampling)
    else:
        correct = (table["verdict"] == "correct").where(table["verdict"] != "error").astype(float)
        rates = (
            correct.groupby(table["problem_id"], sort=False)
            .mean()
            .rename("pass_rate")
            .reset_index()
        )
    return assemble(
        table, questions, rates, "student" if stored else "teacher", p.seed * 1000 + replicate
    )


def assemble(
    table: pd.DataFrame,
    questions: list[problems.Problem],
    rates: pd.DataFrame,
    whose: str,
    seed: int,
) -> Pool:
    """A Pool of a table of graded trajectories: all pairwise distances, each found once."""
    edits, relative, by_id = {}, {}, {q.id: q for q in questions}
    for name, rows in table.groupby("problem_id", sort=False):
        at, ids = rows["sample_index"].to_numpy(), rows["token_ids"].tolist()
        edits[name], relative[name] = (
            np.full((at.max() + 1,) * 2, np.nan) for _ in range(2)
        )  # nan: a sample that is not there
        edits[name][np.ix_(at, at)] = found = curation.pairwise_distances(ids, workers=-1)
        relative[name][np.ix_(at, at)] = curation.normalised(found, ids)
    same = [
        int((edits[name][i] == 0).argmax())
        for name, i in zip(table["problem_id"].tolist(), table["sample_index"].tolist())
    ]
    valid = lru_cache(maxsize=None)(lambda name, think: common.step_valid(by_id[name], think))
    table = table.assign(row=np.arange(len(table)), same_as=same)
    table = table.astype(
        {name: object for name in table.columns[table.dtypes == "str"]}
    )  # so that a filter copies no texts
    distances, apart = {"levenshtein": edits, "normalised": relative}, {}
    for metric, found in distances.items():
        pairs = np.concatenate(
            [matrix[np.triu_indices(len(matrix), 1)] for matrix in found.values()]
        )
        apart[metric] = pairs[np.isfinite(pairs)]
    return Pool(
        seed,
        by_id,
        table,
        rates[["problem_id", "pass_rate"]],
        whose,
        distances,
        apart,
        valid,
        lru_cache(maxsize=None)(curation.fault),
    )


def choose(pool: Pool, values: Mapping[str, Any]) -> Choice:
    """Quality filters, question compression (none at 1) and the farthest n_kept of a question, by `ded.curation`; values as from `start`."""
    steps, n, metric = (
        [_quality(pool, values["max_tokens"], values["verification"])],
        values["n_kept"],
        values["metric"],
    )
    if values["pass_rate_threshold"] < 1:
        easy = curation.compress_questions(pool.rates, values["pass_rate_threshold"]).dropped
        why, left = dict(zip(easy["problem_id"], easy["reason"])), steps[0].kept
        steps.append(
            curation.drop(
                left, "compression", [why.get(name, "") for name in left["problem_id"].tolist()]
            )
        )
    left = steps[-1].kept
    chosen, statistics = curation.select_trajectories(
        left, n, "farthest", metric, pool.seed, distances=pool.distances[metric], memo=pool.memo
    )
    taken, few = (
        set(chosen["row"]),
        {s.problem_id: s.distinct for s in statistics.itertuples() if not s.chosen},
    )
    why = [
        ""
        if row in taken
        else f"{few[name]} distinct, {n} needed"
        if name in few
        else f"equal to sample {first}"
        if first != index
        else f"not among the {n} chosen"
        for row, name, index, first in zip(
            *(left[column].tolist() for column in ("row", "problem_id", "sample_index", "same_as"))
        )
    ]
    _, funnel, dropped = curation.join(*steps, curation.drop(left, "farthest", why))
    fate = (
        dropped.set_index("row")[["step", "reason"]]
        .reindex(pool.trajectories["row"], fill_value="")
        .set_axis(["step", "why"], axis=1)
    )
    return Choice(pool.trajectories.join(fate), funnel, statistics, dict(values))


@lru_cache(maxsize=8)
def _quality(pool: Pool, max_tokens: int, verification: str) -> curation.Filtered:
    check = {
        "verify": verification,
        "step_check": lambda problem, think: pool.valid(problem.id, think),
    }
    needed = [
        "row",
        "same_as",
        *"problem_id sample_index finish_reason n_tokens verdict text token_ids".split(),
    ]  # each filter copies them
    return curation.curate(
        pool.trajectories[needed],
        list(pool.questions.values()),
        max_tokens=max_tokens,
        form=pool.form,
        **check,
    )


def browse(pool: Pool, choice: Choice, problem_id: str) -> pd.DataFrame:
    """A question's trajectories: sample, verdict, answer, tokens, nearest (distance to the nearest other one in the corpus), corpus ("kept",
    or what dropped it), text. Of hidden questions (`Problem.meta["hide"]`) neither answers nor texts."""
    rows = choice.table[choice.table["problem_id"] == problem_id]
    at, kept = rows["sample_index"].to_numpy(), (rows["why"] == "").to_numpy()
    between = pool.distances[choice.values["metric"]][problem_id][np.ix_(at, at[kept])]
    nearest = np.where(at[:, None] == at[kept], np.inf, between).min(axis=1, initial=np.inf)
    shown = (
        rows[["sample_index", "verdict", "answer", "n_tokens"]]
        .set_axis(["sample", "verdict", "answer", "tokens"], axis=1)
        .reset_index(drop=True)
    )
    shown["nearest"] = np.where(np.isfinite(nearest), nearest, np.nan)
    shown["corpus"] = np.where(kept, "kept", rows["step"] + ": " + rows["why"])
    shown["text"] = rows["text"].tolist()
    return (
        shown.assign(answer="(hidden)", text="(hidden)")
        if pool.questions[problem_id].meta.get("hide")
        else shown
    )


def page(pool: Pool, choice: Choice, problem_id: str) -> str:
    """A question and what `browse` says of it, as HTML; what models wrote is escaped."""
    fold = "<details><summary>text</summary><pre style='white-space: pre-wrap'>{}</pre></details>".format
    found = (
        browse(pool, choice, problem_id)
        .style.hide()
        .format({"text": fold}, escape="html", precision=3, na_rep="")
    )
    return (
        f"<pre style='white-space: pre-wrap'>{html.escape(prompt(pool.questions[problem_id]))}</pre>"
        + found.to_html()
    )


def send(
    p: Any, notebook: str, values: Mapping[str, Any], name: str = "mine", replace: bool = False
) -> list[Path]:
    """Writes params/<name>/<notebook>.yml, the run's own values with what differs in `values`, and such a file for every other notebook
    that takes a changed value, on top of the run's preset; returns the files.

    Before anything is written: ParameterError for values out of range, ExploreError for files that are there already, unless `replace`.
    """
    if not name.replace("-", "_").isidentifier() or name in ("accelerate", p.preset):
        raise ExploreError(
            f"{name!r} cannot be the preset's name: letters, digits, - and _, and not {p.preset!r}, from which it is made"
        )
    before, texts = start(p) | {"teacher": getattr(p, "teacher", None)}, {}
    moved = {key: value for key, value in values.items() if value != before[key]}
    for path in params.notebooks():
        own, mine = (
            path == params.find_notebook(notebook),
            {k: v for k, v in moved.items() if k in schemas.SCHEMAS[path.stem].model_fields},
        )
        if own or mine:
            told, plain = (
                p.model_dump() if own else params.load(p.preset, path.stem),
                params.defaults(path),
            )
            told = {
                key: value
                for key, value in told.items()
                if key not in ("preset", "out_dir") and value != plain[key]
            }
            told |= mine | {"fixed_on": datetime.date.today().isoformat()}
            params.load(p.preset, path.stem, told)
            head = f"# Preset {p.preset}, changed in the interactive view: {', '.join(mine) or 'nothing'}. Other values: the notebook's defaults.\n"
            texts[home() / "params" / name / f"{path.stem}.yml"] = head + yaml.safe_dump(
                told, sort_keys=False
            )
    if not replace and (
        there := [file.relative_to(home()).as_posix() for file in texts if file.exists()]
    ):
        raise ExploreError(
            f"{', '.join(there)} would be replaced: allow that, or choose another name"
        )
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        (work := file.with_suffix(f".{os.getpid()}")).write_text(text, encoding="utf-8")
        os.replace(work, file)
    return list(texts)


def explorer(folder: str | Path = "outputs/lab", notebook: str = "03") -> Any:
    """The widgets, for JupyterLab, over a recorded run (see `recorded`)."""
    import ipywidgets as w

    p, column = recorded(folder, notebook), w.Layout(width="340px")
    look = {"layout": column, "style": {"description_width": "115px"}}
    units = [
        (f"{common.short(u['base'])}, replicate {u['replicate']}", tuple(u.values()))
        for u in common.units(p)
    ]
    unit = w.Dropdown(description="student", options=units, **look)
    teacher = w.Dropdown(
        description="teacher",
        options=[(common.short(t), t) for t in getattr(p, "teachers", None) or [p.teacher]],
        **look,
    )
    values = {
        "max_tokens": w.IntSlider(
            description="longest (tokens)",
            max=p.max_tokens,
            step=max(1, p.max_tokens // 128),
            **look,
        ),
        "verification": w.Dropdown(
            description="correct by",
            options=["answer", "steps"][: 1 + problems.checks_steps(p.corpus_source)],
            **look,
        ),
        "pass_rate_threshold": w.FloatSlider(
            description="pass rate up to", max=1, step=0.05, **look
        ),
        "n_kept": w.IntSlider(description="P", min=1, max=start(p)["n_kept"], **look),
        "metric": w.Dropdown(description="metric", options=curation.METRICS, **look),
    }
    for key, value in start(p).items():
        values[key].value = value
    name, replace = (
        w.Text("mine", description="as preset", **look),
        w.Checkbox(False, description="replace what is there", indent=False),
    )
    button, said, size = (
        w.Button(description="send these values to the parameters", layout=column),
        w.HTML(layout=column),
        w.HTML(),
    )
    plots, table = w.Image(format="png", layout=w.Layout(width="836px")), w.HTML()
    question = w.Dropdown(description="question", layout=w.Layout(width="830px"))
    now = {"figure": None, "pool": pool(p, *unit.value, teacher.value)}

    def load(_: Any = None) -> None:
        try:
            now["pool"] = found = pool(p, *unit.value, teacher.value)
        except ExploreError as error:
            said.value = html.escape(str(error))
            return
        said.value, values["n_kept"].max = (
            "",
            max(2, 1 + int(found.trajectories["sample_index"].max())),
        )
        update()
        question.options = [
            (f"{i}: {prompt(q)[:100]}", q.id) for i, q in enumerate(found.questions.values())
        ]
        question.index = 0

    def update(_: Any = None) -> None:
        now["choice"] = choice = choose(
            now["pool"], {key: one.value for key, one in values.items()}
        )
        lengths, examples = (
            choice.table.loc[choice.table["why"] == "", "n_tokens"],
            choice.statistics["chosen"],
        )
        size.value = f"<b>{examples.sum():,} examples</b> of {(examples > 0).sum():,} questions, {lengths.mean():.1f} tokens on average"
        now["figure"] = explored(now["pool"], choice, now["figure"])
        plots.value = picture(now["figure"])
        show()

    def show(_: Any = None) -> None:
        if question.value in now["pool"].questions:
            table.value = page(now["pool"], now["choice"], question.value)

    def write(_: Any) -> None:
        try:
            files = send(
                p,
                notebook,
                {key: one.value for key, one in values.items()} | {"teacher": teacher.value},
                name.value,
                replace.value,
            )
            text = f"written: {', '.join(file.relative_to(home()).as_posix() for file in files)}. To run: ded run {notebook} --preset {name.value}"
        except ValueError as error:
            text = str(error)
        said.value = (
            f"<div style='white-space: pre-wrap; line-height: 1.3'>{html.escape(text)}</div>"
        )

    for what, widgets in ((load, (unit, teacher)), (update, values.values()), (show, (question,))):
        for one in widgets:
            one.observe(what, "value")
    button.on_click(write)
    load()
    left = w.VBox([unit, teacher, *values.values(), size, name, replace, button, said])
    return w.VBox([w.HBox([left, plots], layout=w.Layout(flex_flow="row wrap")), question, table])


def prompt(question: problems.Problem) -> str:
    """What a reader may see of a question."""
    return "(hidden)" if question.meta.get("hide") else question.prompt
