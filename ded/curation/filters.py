"""Filters: quality, question compression, equal budgets.

Every filter takes a table and returns `Filtered(kept, funnel, dropped)`: the rows kept, unchanged
and in their order; what it did, one row a step (step, kept, dropped, reason), reason being how
often each reason applied; and the rows dropped, each with its step and reason. Paper: "quality
check", "question compression", "diversity".
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ded.problems import Problem, content_hash, texts

StepCheck = Callable[[Problem, str], bool]


class Filtered(NamedTuple):
    kept: pd.DataFrame
    funnel: pd.DataFrame
    dropped: pd.DataFrame

    @property
    def n_tokens(self) -> int:
        """Of all that came in."""
        return int(self.kept["n_tokens"].sum() + self.dropped["n_tokens"].sum())


def curate(
    trajectories: pd.DataFrame,
    problems: Sequence[Problem],
    max_tokens: int,
    verify: str = "answer",
    step_check: StepCheck | None = None,
    drop_repeats: bool = False,
) -> Filtered:
    """The three quality checks in the paper's order: length, format, correctness (see the filters
    for the arguments); with `drop_repeats` a fourth, "repeats", before the last.

    The funnel opens with a row "sampled" that counts what came in.
    """
    sampled = drop(trajectories, "sampled", [""] * len(trajectories))
    length = filter_length(sampled.kept, max_tokens)
    steps = [sampled, length, filter_format(length.kept)]
    if drop_repeats:  # no paper's filter, so off by default
        loops = repeats(steps[-1].kept).map({True: "ends in a loop", False: ""})
        steps.append(drop(steps[-1].kept, "repeats", loops.tolist()))
    return join(*steps, filter_correct(steps[-1].kept, verify, problems, step_check))


def filter_length(trajectories: pd.DataFrame, max_tokens: int) -> Filtered:
    """Drops trajectories over `max_tokens` tokens, and those that sampling cut off, whose length
    nobody knows.
    """
    long = trajectories["n_tokens"] > max_tokens
    cut_off = trajectories["finish_reason"] == "length"
    why = [f"over {max_tokens} tokens", "cut off while sampling"]
    return drop(trajectories, "length", np.select([long, cut_off], why, "").tolist())


def filter_format(trajectories: pd.DataFrame) -> Filtered:
    """Keeps texts that are one well-paired <think> ... </think>, from the start on, then a
    non-empty answer.
    """
    return drop(trajectories, "format", [fault(text) for text in trajectories["text"]])


def repeats(trajectories: pd.DataFrame) -> pd.Series:
    """Whether each trajectory ends in a loop (`ded.problems.texts.loops`)."""
    return trajectories["text"].map(texts.loops).astype(bool).rename("repeats")


def filter_branches(trajectories: pd.DataFrame, most: float) -> Filtered:
    """Drops trajectories that open another attempt more than `most` times in a thousand tokens.

    After Li et al. (arXiv 2604.01702), where branch-heavy trajectories generalise worse; what opens
    an attempt is ours, the words of texts.yml.
    """
    branches = trajectories["text"].map(texts.branches).astype(float)  # of no trajectories too
    rates = 1000 * branches / trajectories["n_tokens"].clip(lower=1)
    why = f"over {most:g} branches in 1,000 tokens"
    return drop(trajectories, "branches", np.where(rates > most, why, "").tolist())


def filter_correct(
    graded: pd.DataFrame,
    require: str = "answer",
    problems: Sequence[Problem] = (),
    step_check: StepCheck | None = None,
) -> Filtered:
    """Keeps trajectories with the verdict "correct"; require "steps" drops those with an invalid
    step too.

    step_check(problem, think text) says whether every step is valid; it and `problems` are needed
    for "steps" alone. The second funnel row, "steps", then counts the lucky chains: right answers
    by way of a wrong step.
    """
    answer = drop(graded, "answer", graded["verdict"].replace("correct", "").tolist())
    if require == "answer" or step_check is None:
        return answer
    by_id = {problem.id: problem for problem in problems}

    def reason(problem_id: str, text: str) -> str:
        think, _ = split_think(text) or ("", "")  # without a think block no step is valid
        return "" if step_check(by_id[problem_id], think) else "invalid step"

    reasons = list(map(reason, answer.kept["problem_id"], answer.kept["text"]))
    return join(answer, drop(answer.kept, "steps", reasons))


def split_think(text: str) -> tuple[str, str] | None:
    """(think text, answer) of a well-formed text, both stripped; None where `filter_format` would
    drop it.
    """
    thinking, answer, _ = texts.split(text)
    return None if fault(text) or thinking is None or answer is None else (thinking, answer)


def fault(text: str) -> str:
    """What is wrong with the form of a text, "" if nothing; for tags see `texts.split`."""
    _, answer, tags = texts.split(text)
    faults = {
        "empty": not text.strip(),
        "no think block": not tags,
        "think block never opened": texts.THINK not in tags,
        "think block never closed": texts.CLOSE not in tags,
        "more than one think tag": len(tags) > 2,
        "text before the think block": not text.lstrip().startswith(texts.THINK),
        "no answer": not answer,
    }
    return next((name for name, holds in faults.items() if holds), "")


def compression(keep: float | Mapping[str, float]) -> tuple[float, float]:
    """What `keep` asks of question compression: (share of the rated questions, highest pass rate);
    ValueError for what is neither a share nor {"pass_rate": a share}."""
    match keep:
        case int() | float() as share if 0 < share <= 1:
            return share, 1.0
        case {"pass_rate": int() | float() as threshold, **others} if 0 <= threshold <= 1:
            if not others:
                return 1.0, threshold
    raise ValueError("is no share above 0, up to 1, nor such as {pass_rate: 0.75}")


def compress_questions(
    pass_rates: pd.DataFrame, keep: float | Mapping[str, float] = 1.0, seed: int = 0
) -> Filtered:
    """Question compression: drops questions that the student answers too often (paper; its
    threshold is not known, the share that it leaves is: 24 % of math, 23 % of code).

    pass_rates: one row a question with problem_id and pass_rate (0 to 1). keep: the share of the
    rated questions that stay, the lowest pass rates first, the seed drawing among those at the last
    one; or {"pass_rate": 0.75}: those with a pass rate up to it. Questions without one (grader
    errors only) are dropped. The kept ids are `.kept.problem_id`.
    """
    share, threshold = compression(keep)
    rates, order = pass_rates["pass_rate"], _hardest_first(pass_rates, seed)
    kept = order.head(round(share * len(order)))
    drawn = pass_rates.index.isin(kept.index)
    if share < 1:
        threshold = float(kept["pass_rate"].max()) if len(kept) else 0.0
    why = ["no pass rate", f"pass rate above {threshold:g}", f"pass rate {threshold:g}, by lot"]
    reasons = np.select([rates.isna(), rates > threshold, ~drawn], why, "")
    return drop(pass_rates, "compression", reasons.tolist())


def _hardest_first(pass_rates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rated questions, the lowest pass rate first; the seed draws the order of equals."""
    lot = pass_rates["problem_id"].map(lambda name: content_hash(f"{seed} {name}"))
    return pass_rates.assign(lot=lot).dropna(subset="pass_rate").sort_values(["pass_rate", "lot"])


def difficulty_parts(pass_rates: pd.DataFrame, n_hard: int, seed: int = 0) -> dict[str, str]:
    """{problem_id: "hard", "middle", "easy" or ""} of the rated questions; the parts share none.

    hard: the n_hard with the lowest pass rates, as `compress_questions` keeps them with this seed;
    easy: as many with the highest; middle: as many around the median (the zone of proximal
    development). Where less than twice n_hard are left for these two, they halve the rest.
    """
    ids = _hardest_first(pass_rates, seed)["problem_id"].tolist()
    n_each = min(n_hard, (len(ids) - n_hard) // 2)
    begins = max(n_hard, (len(ids) - n_each) // 2)
    slices = {"hard": ids[:n_hard], "middle": ids[begins : begins + n_each]}
    slices["easy"] = ids[len(ids) - n_each :]
    parts = {problem_id: part for part, members in slices.items() for problem_id in members}
    return dict.fromkeys(ids, "") | parts


def drop(table: pd.DataFrame, step: str, reasons: list[str]) -> Filtered:
    """Drops the rows whose reason is not ""; `reasons` has one a row."""
    keep = np.array([not reason for reason in reasons], dtype=bool)
    given = [reason for reason in reasons if reason]
    kept = table[keep].reset_index(drop=True)
    dropped = table[~keep].assign(step=step, reason=pd.array(given, dtype=object))
    why = "; ".join(f"{text}: {n}" for text, n in Counter(given).most_common())
    funnel = funnel_row(step, len(kept), len(dropped), why)
    return Filtered(kept, funnel, dropped.reset_index(drop=True))


def funnel_row(step: str, kept: int, dropped: int, reason: str = "") -> pd.DataFrame:
    """One row of a funnel."""
    return pd.DataFrame([{"step": step, "kept": kept, "dropped": dropped, "reason": reason}])


def join(*steps: Filtered) -> Filtered:
    """Consecutive steps as one: each took what the one before it kept."""
    funnel = pd.concat([step.funnel for step in steps], ignore_index=True)
    dropped = pd.concat([step.dropped for step in steps], ignore_index=True)
    return Filtered(steps[-1].kept, funnel, dropped)
