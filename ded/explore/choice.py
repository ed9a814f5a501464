"""A teacher's stored trajectories in one unit of a recorded run, and what filters, question
compression and the choice of diverse trajectories make of them, and why."""

import html
import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ded import curation, generation, home, params, results, store, study
from ded.errors import ExploreError
from ded.params.schemas import Common
from ded.problems import Problem
from ded.study import Unit

PREFORMATTED = "<pre style='white-space: pre-wrap'>{}</pre>"
SHOWN = ["sample_index", "verdict", "answer", "n_tokens", "nearest", "corpus", "text"]
HEADINGS = {"sample_index": "sample", "n_tokens": "tokens"}


@dataclass(frozen=True)
class Values:
    """The parameters that the view moves, under the notebooks' names; the defaults are those of a
    run without them."""

    max_tokens: int = 0
    verification: str = "answer"
    keep_questions: float | dict[str, float] = 1.0
    n_kept: int = 1
    metric: str = "levenshtein"
    teacher: str = ""


@dataclass(frozen=True, eq=False)
class Pool:
    """A teacher's stored trajectories in one unit of a run.

    trajectories: graded, with `row` (a number) and `same_as` (sample_index of the question's first
    equal one). rates: problem_id and pass_rate of `rated`, the "student", or the "teacher" where
    the run stored no student's. distances: by metric and problem_id, a matrix indexed by
    sample_index (nan for a sample that is not there); all_distances: by metric, those of all pairs
    of a question, in one array. memo: see `curation.select_trajectories`.
    """

    seed: int
    questions: dict[str, Problem]
    trajectories: pd.DataFrame
    rates: pd.DataFrame
    rated: str
    distances: dict[str, dict[str, np.ndarray]]
    all_distances: dict[str, np.ndarray]
    memo: dict = field(default_factory=dict)


def recorded(folder: str | Path = "outputs/lab", notebook: str = "03") -> Common:
    """The parameters of a notebook's run whose results lie under `folder` (relative to the
    repository); what came since it was made has its default."""
    path = params.find_notebook(notebook)
    manifest = home() / folder / path.stem / "manifest.json"
    if not manifest.is_file():
        raise ExploreError(results.not_there(home() / folder, path.stem))
    results.show_figures()
    values = json.loads(manifest.read_text(encoding="utf-8"))["params"]
    return params.check(path.stem, params.defaults(path) | values)


def values_of(run: Common) -> Values:
    """The values that a run was made with."""
    return Values(**{f.name: getattr(run, f.name) for f in fields(Values) if hasattr(run, f.name)})


def read_pool(unit: Unit, teacher: str, draw: int = 0) -> Pool:
    """What `choose` chooses from, out of the store. Where the store lacks it, the first `draw`
    questions are sampled anew; ExploreError for 0.

    The distances of long trajectories take a while.
    """
    run, questions = unit.params, unit.questions()
    n = getattr(run, "n_trajectories", getattr(run, "n_attempts", 1))
    missing = not generation.drawn(teacher, questions, n, **unit.sampling())
    if missing and draw:
        fewer = {"n_questions": min(draw, run.n_questions), "pass_rate_questions": draw}
        run = run.model_copy(update={k: v for k, v in fewer.items() if hasattr(run, k)})
        unit = Unit(run, unit.base, unit.replicate)
        questions = unit.questions()
    elif missing:
        lack = f"no trajectories of {teacher} for {unit.base}, replicate {unit.replicate},"
        raise ExploreError(f"{lack} in the store {store.root()}: run the notebook again")
    graded = study.graded(unit, teacher, n, questions)
    asked = questions[: getattr(run, "pass_rate_questions", None)]
    n_rated, sampling = getattr(run, "pass_rate_samples", 0), unit.sampling(run.eval_temperature)
    if n_rated and (missing or generation.drawn(unit.base, asked, n_rated, **sampling)):
        return assemble(graded, questions, study.pass_rates(unit, asked), "student", unit.seed)
    correct = (graded["verdict"] == "correct").where(graded["verdict"] != "error").astype(float)
    rates = correct.groupby(graded["problem_id"], sort=False).mean().rename("pass_rate")
    return assemble(graded, questions, rates.reset_index(), "teacher", unit.seed)


def assemble(
    graded: pd.DataFrame, questions: list[Problem], rates: pd.DataFrame, rated: str, seed: int
) -> Pool:
    """A Pool of a table of graded trajectories: all pairwise distances, each computed once."""
    distances: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in curation.METRICS}
    pairs: dict[str, list[np.ndarray]] = {metric: [] for metric in curation.METRICS}
    for name, rows in graded.groupby("problem_id", sort=False):
        at = rows["sample_index"].to_numpy()
        for metric in curation.METRICS:
            apart = curation.pairwise_distances(rows, metric, workers=-1)
            pairs[metric].append(apart[np.triu_indices(len(apart), 1)])
            distances[metric][name] = np.full((at.max() + 1,) * 2, np.nan)
            distances[metric][name][np.ix_(at, at)] = apart
    equal = graded.groupby(["problem_id", graded["token_ids"].map(tuple)])["sample_index"]
    table = graded.assign(row=np.arange(len(graded)), same_as=equal.transform("min"))
    # as objects, so that a filter copies references and no texts
    table = table.astype(dict.fromkeys(table.columns[table.dtypes == "str"], object))
    by_id = {question.id: question for question in questions}
    rates = rates[["problem_id", "pass_rate"]]
    all_distances = {metric: np.concatenate(parts) for metric, parts in pairs.items()}
    return Pool(seed, by_id, table, rates, rated, distances, all_distances)


# ---- the choice ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Choice:
    """table: the pool's trajectories with the step and the reason that dropped each, "" for those
    in the corpus; funnel, statistics: see `ded.curation`; threshold: the highest pass rate of a
    question that compression left."""

    table: pd.DataFrame
    funnel: pd.DataFrame
    statistics: pd.DataFrame
    values: Values
    threshold: float

    @property
    def corpus(self) -> pd.DataFrame:
        """The trajectories that were chosen."""
        return self.table[self.table["why"] == ""]


def choose(pool: Pool, values: Values) -> Choice:
    """Quality filters, question compression (none at 1), the farthest n_kept of a question, by
    `ded.curation`."""
    n_kept, metric, threshold = values.n_kept, values.metric, 1.0
    steps = [_quality(pool, values.max_tokens, values.verification)]
    if values.keep_questions != 1:
        compressed = curation.compress_questions(pool.rates, values.keep_questions, pool.seed)
        threshold = compressed.kept["pass_rate"].max()
        reasons = compressed.dropped.set_index("problem_id")["reason"]
        why = steps[-1].kept["problem_id"].map(reasons).fillna("").tolist()
        steps.append(curation.drop(steps[-1].kept, "compression", why))
    candidates, distances = steps[-1].kept, pool.distances[metric]
    chosen, statistics = curation.select_trajectories(
        candidates, n_kept, "farthest", metric, pool.seed, distances=distances, memo=pool.memo
    )
    why = _reasons(candidates, chosen, statistics, n_kept)
    steps.append(curation.drop(candidates, "farthest", why))
    _, funnel, dropped = curation.join(*steps)
    fates = dropped.set_index("row")[["step", "reason"]].set_axis(["step", "why"], axis=1)
    table = pool.trajectories.join(fates.reindex(pool.trajectories["row"], fill_value=""))
    return Choice(table, funnel, statistics, values, threshold)


@lru_cache(maxsize=8)
def _quality(pool: Pool, max_tokens: int, verification: str) -> curation.Filtered:
    return curation.curate(
        pool.trajectories,
        list(pool.questions.values()),
        max_tokens=max_tokens,
        verify=verification,
    )


def _reasons(
    candidates: pd.DataFrame, chosen: pd.DataFrame, statistics: pd.DataFrame, n_kept: int
) -> list[str]:
    """Why each candidate was not chosen, "" for those that were."""
    first = candidates["same_as"]
    distinct = candidates["problem_id"].map(statistics.set_index("problem_id")["distinct"])
    cases = [
        (candidates["row"].isin(chosen["row"]), ""),
        (distinct < n_kept, distinct.astype(str) + f" distinct, {n_kept} needed"),
        (first != candidates["sample_index"], "equal to sample " + first.astype(str)),
    ]
    reasons = pd.Series(f"not among the {n_kept} chosen", candidates.index)
    return reasons.case_when(cases).tolist()


def browse(pool: Pool, choice: Choice, problem_id: str) -> pd.DataFrame:
    """A question's trajectories, one a row.

    Columns: sample, verdict, answer, tokens, nearest (distance to the nearest other one in the
    corpus), corpus ("kept", or what dropped it), text. Of hidden questions (`Problem.meta["hide"]`)
    neither answers nor texts.
    """
    rows = choice.table[choice.table["problem_id"] == problem_id]
    at, kept = rows["sample_index"], rows["why"] == ""
    apart = pd.DataFrame(pool.distances[choice.values.metric][problem_id])
    to_others = apart.mask(np.eye(len(apart), dtype=bool)).loc[at, at[kept]]
    rows = rows.assign(
        nearest=to_others.min(axis=1).to_numpy(),
        corpus=np.where(kept, "kept", rows["step"] + ": " + rows["why"]),
    )
    if pool.questions[problem_id].meta.get("hide"):
        rows[["answer", "text"]] = "(hidden)"
    return rows[SHOWN].rename(columns=HEADINGS).reset_index(drop=True)


def page(pool: Pool, choice: Choice, problem_id: str) -> str:
    """A question and what `browse` says of it, as HTML; what models wrote is escaped."""
    fold = "<details><summary>text</summary>" + PREFORMATTED + "</details>"
    table = browse(pool, choice, problem_id).style.hide()
    table = table.format({"text": fold.format}, escape="html", precision=3, na_rep="")
    return PREFORMATTED.format(html.escape(prompt(pool.questions[problem_id]))) + table.to_html()


def prompt(question: Problem) -> str:
    """What a reader may see of a question."""
    return "(hidden)" if question.meta.get("hide") else question.prompt
