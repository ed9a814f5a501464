"""What filters, question compression and the choice of diverse trajectories make of a pool, and
why."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from ded import curation
from ded.explore.pool import Pool, Values
from ded.problems import Problem

PREFORMATTED = "<pre style='white-space: pre-wrap'>{}</pre>"


@dataclass(frozen=True, eq=False)
class Choice:
    """table: the pool's trajectories with the step and the reason that dropped each, "" for those
    in the corpus; funnel, statistics: see `ded.curation`."""

    table: pd.DataFrame
    funnel: pd.DataFrame
    statistics: pd.DataFrame
    values: Values

    @property
    def corpus(self) -> pd.DataFrame:
        """The trajectories that were chosen."""
        return self.table[self.table["why"] == ""]


def choose(pool: Pool, values: Values) -> Choice:
    """Quality filters, question compression (none at 1), the farthest n_kept of a question, by
    `ded.curation`."""
    steps = [_quality(pool, values.max_tokens, values.verification)]
    if values.pass_rate_threshold < 1:
        steps.append(_compressed(pool, steps[-1].kept, values.pass_rate_threshold))
    candidates = steps[-1].kept
    chosen, statistics = curation.select_trajectories(
        candidates,
        values.n_kept,
        metric=values.metric,
        seed=pool.seed,
        distances=pool.distances[values.metric],
        memo=pool.memo,
    )
    reasons = _reasons(candidates, chosen, statistics, values.n_kept)
    steps.append(curation.drop(candidates, "farthest", reasons))
    _, funnel, dropped = curation.join(*steps)
    fates = dropped.set_index("row")[["step", "reason"]].set_axis(["step", "why"], axis=1)
    table = pool.trajectories.join(fates.reindex(pool.trajectories["row"], fill_value=""))
    return Choice(table, funnel, statistics, values)


@lru_cache(maxsize=8)
def _quality(pool: Pool, max_tokens: int, verification: str) -> curation.Filtered:
    return curation.curate(
        pool.trajectories,
        list(pool.questions.values()),
        max_tokens=max_tokens,
        verify=verification,
        step_check=lambda problem, think: pool.step_valid(problem.id, think),
    )


def _compressed(pool: Pool, candidates: pd.DataFrame, threshold: float) -> curation.Filtered:
    """Without the trajectories of questions that are answered too often."""
    easy = curation.compress_questions(pool.rates, threshold).dropped.set_index("problem_id")
    reasons = candidates["problem_id"].map(easy["reason"]).fillna("")
    return curation.drop(candidates, "compression", reasons.tolist())


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
    at, kept = rows["sample_index"].to_numpy(), (rows["why"] == "").to_numpy()
    to_corpus = pool.distances[choice.values.metric][problem_id][np.ix_(at, at[kept])]
    is_itself = at[:, None] == at[kept]
    nearest = np.where(is_itself, np.inf, to_corpus).min(axis=1, initial=np.inf)
    hidden = "(hidden)" if pool.questions[problem_id].meta.get("hide") else None
    return pd.DataFrame(
        {
            "sample": rows["sample_index"],
            "verdict": rows["verdict"],
            "answer": hidden or rows["answer"],
            "tokens": rows["n_tokens"],
            "nearest": np.where(np.isfinite(nearest), nearest, np.nan),
            "corpus": np.where(kept, "kept", rows["step"] + ": " + rows["why"]),
            "text": hidden or rows["text"],
        }
    ).reset_index(drop=True)


def page(pool: Pool, choice: Choice, problem_id: str) -> str:
    """A question and what `browse` says of it, as HTML; what models wrote is escaped."""
    fold = "<details><summary>text</summary>" + PREFORMATTED + "</details>"
    table = browse(pool, choice, problem_id).style.hide()
    table = table.format({"text": fold.format}, escape="html", precision=3, na_rep="")
    return PREFORMATTED.format(html.escape(prompt(pool.questions[problem_id]))) + table.to_html()


def prompt(question: Problem) -> str:
    """What a reader may see of a question."""
    return "(hidden)" if question.meta.get("hide") else question.prompt
