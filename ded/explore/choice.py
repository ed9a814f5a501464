"""What filters, question compression and the choice of diverse trajectories make of a pool, and
why."""

import html
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from ded import curation, study
from ded.explore.pool import Pool, Values
from ded.problems import Problem

PREFORMATTED = "<pre style='white-space: pre-wrap'>{}</pre>"
SHOWN = ["sample_index", "verdict", "answer", "n_tokens", "nearest", "corpus", "text"]
HEADINGS = {"sample_index": "sample", "n_tokens": "tokens"}


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
        step_check=lambda problem, think: _step_valid(pool, problem.id, think),
    )


@cache
def _step_valid(pool: Pool, problem_id: str, think: str) -> bool:
    return study.step_valid(pool.questions[problem_id], think)


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
