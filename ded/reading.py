"""Sentences made from numbers: what a figure shows, in points and with its interval, and nothing
that they do not carry.

`cells` are cell tables of `ded.stats` (arm, base, replicate, accuracy), intervals the plain 95 %
ones.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ded import curation, problems, stats, study, wording
from ded.problems import Problem

LONGEST = 2000  # characters of a text that are shown
FACTS = ("n_tokens", "finish_reason", "verdict", "answer", "step", "reason")

# ---- one trajectory ------------------------------------------------------------------------------


def visible(table: pd.DataFrame, questions: Sequence[Problem]) -> pd.DataFrame:
    """The rows of trajectories whose questions may be shown to readers."""
    hidden = {question.id for question in questions if question.meta.get("hide")}
    return table[~table["problem_id"].isin(hidden)]


def trajectory(table: pd.DataFrame, questions: Sequence[Problem]) -> str:
    """The first trajectory that may be shown: question, text, and what is known of it so far."""
    shown = visible(table, questions)
    if shown.empty:
        return "No trajectory that may be shown."
    row = shown.iloc[0]
    texts = [f"question: {_cut(row['prompt'])}", f"trajectory: {_cut(row['text'])}"]
    facts = [f"{name}: {row[name]}" for name in FACTS if row.get(name) not in ("", None)]
    return "\n".join([*texts, *facts])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


def dropped(table: pd.DataFrame, questions: Sequence[Problem]) -> str:
    """One trajectory that the filters dropped, and why."""
    return trajectory(table, questions) if len(table) else "The filters dropped none of them."


def repeats(table: pd.DataFrame) -> str:
    """How many trajectories end in a loop, and how many of these sampling cut off."""
    loops = curation.repeats(table)
    cut = int((loops & (table["finish_reason"] == "length")).sum())
    share = f"Of {len(table):,} trajectories {int(loops.sum())} end in a loop"
    return f"{share}, {cut} of them cut off at max_tokens." if loops.any() else f"{share}."


# ---- conditions ----------------------------------------------------------------------------------


def conditions(table: pd.DataFrame) -> str:
    """How many of the paper's conditions this run meets, and which it does not.

    table: see `study.conditions.compare`.
    """
    inside = table["inside"]
    failed = "; ".join(table.loc[inside.eq(False), "what"])
    counts = f"{inside.eq(True).sum()} met, {inside.isna().sum()} not measured"
    listed = f"{inside.eq(False).sum()} not met" + (f": {failed}" if failed else "")
    return f"Of {len(table)} conditions of the paper {counts}, {listed}."


def outside(table: pd.DataFrame, claim: str) -> str:
    """Which of the conditions that a claim rests on this run does not meet, "" for none."""
    rests = table["claims"].map(lambda names: claim.startswith(tuple(names)))
    rows = table[rests & table["inside"].eq(False)].itertuples()
    listed = [f"{row.what} {_placing(row)} ({band(row)})" for row in rows]
    return wording.OUTSIDE + "; ".join(listed) if listed else ""


def _placing(condition: Any) -> str:
    """What was measured of a condition; of one that most have to meet, how many do."""
    n = len(condition.measured)
    if condition.at_least:
        return f"{n - len(condition.outliers)} of {n} inside"
    return amount(condition.value, condition.unit)


def amount(value: float, unit: str) -> str:
    """A share in per cent, another number to three digits."""
    return _percent(value) if unit == "share" else f"{value:.3g}"


def band(condition: Any) -> str:
    """The band of a row of conditions: '50 to 75 %', '3 or more'."""
    scale, sign = (100, " %") if condition.unit == "share" else (1, "")
    low, high = condition.band
    texts = dict.fromkeys(f"{scale * end:g}" for end in (low, high) if end is not None)
    open_end = " or less" if low is None else " or more" if high is None else ""
    return " to ".join(texts) + sign + open_end


# ---- corpora -------------------------------------------------------------------------------------


def funnel(table: pd.DataFrame) -> str:
    """What is left of the sampled trajectories after all steps, and how many each step drops."""
    start = int(table.loc[table["step"] == "sampled", "kept"].sum())
    steps = table[table["step"] != "sampled"].groupby("step", sort=False)["dropped"].sum()
    if not start:
        return "No trajectory was sampled."
    losses = ", ".join(f"{step} {100 * n / start:.1f} %" for step, n in steps.items())
    return f"Of {start:,} trajectories the steps drop: {losses or 'none'}."


def training_questions(units: Sequence[study.Unit], agreement: pd.DataFrame) -> str:
    """Where the training questions come from, how many of them stand in the evaluation too, and, in
    place of recorded teachers' own scores, their agreement (`study.recorded.agreement`)."""
    params = units[0].params
    shared = study.recorded.overlaps(units)
    each = ", ".join(f"{family} {n:.1f}" for family, n in shared.items()) or "none"
    what = f"Of {params.n_questions} training questions a unit left out, for they stand in the"
    lines = [problems.source(params.corpus_source).note(), f"{what} evaluation too: {each}."]
    if len(agreement):
        shares = agreement.groupby("teacher", sort=False)["agreement"].mean()
        listed = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
        lines.append(
            "What these teachers score themselves was not recorded. No own score, but all that "
            "their traces tell: how many of their first answers to training questions are the "
            f"consensus of the {len(shares)}: {listed}."
        )
    return "\n".join(filter(None, lines))


def own_scores(smoke: pd.DataFrame) -> str:
    """Of how many candidates (rows of `study.teachers.candidate`) the own score was measured, and
    what follows where it was not of all."""
    if smoke.empty:
        return "The teachers were given: there was no smoke test."
    measured = smoke["own"].notna().groupby(smoke["teacher"].map(study.short), sort=False).all()
    text = f"Own scores are measured of {measured.sum()} of {len(measured)} candidates"
    if measured.all():
        return f"{text}."
    names = ", ".join(measured.index[~measured])
    return f"{text}, not of {names}: none is the top one, and what rests on it is not judged."


def pass_rates(rates: pd.DataFrame) -> str:
    """The share of rated questions that question compression keeps, and by base the threshold."""
    kept = rates[rates["kept"]]
    highest = kept.groupby("base", sort=False)["pass_rate"].max()
    by_base = ", ".join(f"{base} {_percent(rate)}" for base, rate in highest.items())
    share = f"Question compression keeps {_percent(len(kept) / max(1, len(rates)))}"
    return f"{share} of {len(rates):,} rated questions: passed at a rate of at most {by_base}."


def distinct(facts: Iterable[Mapping[str, Any]], n_kept: int) -> str:
    """How many questions have as many different valid trajectories as are kept."""
    counts = pd.Series([n for unit in facts for n in unit["distinct"]])
    share = f"{_percent((counts >= n_kept).mean())} of {len(counts)} questions"
    enough = f"{share} have {n_kept} different valid trajectories or more"
    return f"{enough}; the median is {counts.median():g}."


def distances(statistics: pd.DataFrame) -> str:
    """The smallest distances between the trajectories that each rule kept, mean over questions."""
    if statistics.empty:
        return "No question kept two trajectories: there are no distances to show."
    means = statistics.groupby("arm", sort=False)[["token_edits", "step_edits"]].mean()
    listed = ", ".join(
        f"{arm} {tokens:.2g} and {steps:.2g}" for arm, tokens, steps in means.itertuples()
    )
    return f"Smallest distances of a question, token and step edits, mean over questions: {listed}."


# ---- scores --------------------------------------------------------------------------------------


def difference(cells: pd.DataFrame, a: str, b: str, what: str) -> str:
    """Arm a against arm b: the paired difference and where its interval lies."""
    return f"{what}, {a} minus {b}: {_placed(stats.paired(cells, a, b))}."


def changes(cells: pd.DataFrame, reference: str, what: str) -> str:
    """Every arm against one: the largest rise and fall, and how many intervals do not hold 0."""
    arms = [arm for arm in dict.fromkeys(cells["arm"]) if arm != reference]
    intervals = {arm: stats.paired(cells, arm, reference) for arm in arms}
    measured = {arm: i for arm, i in intervals.items() if not math.isnan(i.estimate)}
    if not measured:
        return f"{what}: no arm was measured."
    low, high = (pick(measured, key=lambda arm: measured[arm].estimate) for pick in (min, max))
    apart = [i.estimate for i in measured.values() if i.low * i.high > 0]
    above = sum(estimate > 0 for estimate in apart)
    ends = f"from {_placed(measured[low])} ({low}) to {_placed(measured[high])} ({high})"
    sides = f"{above} lie above 0 and {len(apart) - above} below"
    return f"{what} against {reference}: {ends}. Of {len(measured)} intervals {sides}."


def begins_to_reason(cells: pd.DataFrame, arms: Sequence[str]) -> str:
    """By base, the first of the arms after which most answers reason: with the think tag, or
    without it (`evaluation.evaluate`).
    """
    listed = []
    for base, rows in cells.groupby("base", sort=False):
        rates = rows.groupby("arm")[["think_rate", "untagged_rate"]].mean().reindex(arms)
        most = rates[rates.sum(axis=1) > 0.5].itertuples()
        tagged = (f"{row[0]} ({_percent(row[1])}, {_percent(row[2])} without it)" for row in most)
        listed.append(f"{base} {next(tagged, 'none')}")
    which = "The first corpus after which most answers reason, with the think tag or without it"
    return f"{which}, by base: {', '.join(listed)}."


def highest_scorer(gap: stats.Interval, choices: pd.DataFrame) -> str:
    """What the students of another teacher, and of all others, gain on the highest scorer's
    (`stats.top_against_rest`).
    """
    if math.isnan(gap.estimate):
        return f"The highest scorer against the rest: {_placed(gap)}."
    pairs = choices[["other", "highest"]].drop_duplicates().itertuples(index=False)
    listed = ", then ".join(f"{other} against {highest}" for other, highest in pairs)
    rest = _placed(stats.pooled(choices, "rest"))
    return (
        f"Students of the best other teacher less those of the highest scorer ({listed}): "
        f"{_placed(gap)}; those of all others on average less the same: {rest}."
    )


def reported_range(reported: pd.DataFrame) -> str:
    """The highest and the lowest AIME 2024 among what others reported (`tables.reported`)."""
    scores = pd.to_numeric(reported["aime_2024"], errors="coerce").dropna()
    high, low = (reported.loc[row, "model"] for row in (scores.idxmax(), scores.idxmin()))
    ends = f"the highest is {scores.max():g} ({high}), the lowest {scores.min():g} ({low})"
    return f"Of {len(scores)} reported AIME 2024 scores {ends}; none was measured here."


def winners(cells: pd.DataFrame, what: str) -> str:
    """The arm with the highest mean in each base."""
    means = cells[cells["arm"] != "before"].groupby(["base", "arm"], sort=False)["accuracy"].mean()
    best = means.dropna().groupby("base", sort=False).idxmax()
    if best.empty:
        return f"{what}: no arm was measured."
    listed = ", ".join(f"{base} {arm} ({_percent(means[base, arm])})" for base, arm in best)
    return f"Highest {what} by base: {listed}."


def pareto(id_cells: pd.DataFrame, ood_cells: pd.DataFrame) -> str:
    """The arms whose means no other arm exceeds both in and out of domain."""
    inside, outside = (
        cells.groupby("arm", sort=False)["accuracy"].mean() for cells in (id_cells, ood_cells)
    )
    means = pd.DataFrame({"ID": inside, "OOD": outside})
    front = means[stats.unbeaten(means)].itertuples()
    listed = ", ".join(f"{arm} ({_percent(ID)}, {_percent(OOD)})" for arm, ID, OOD in front)
    return f"No arm is above these both in and out of domain, on average: {listed}."


def shifts(states: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """The smallest and the largest latent shift among the students of a unit
    (`figures.latent_shift`).
    """
    if not states:
        return "No student of this unit was trained: there is no latent shift to show."
    by_arm = {arm: np.linalg.norm(after.mean(0) - old.mean(0)) for arm, old, after in states}
    low, high = min(by_arm, key=by_arm.__getitem__), max(by_arm, key=by_arm.__getitem__)
    return f"Centroids move by {by_arm[low]:.2g} ({low}) to {by_arm[high]:.2g} ({high})."


# ---- verdicts ------------------------------------------------------------------------------------


def verdicts(claims: Sequence[stats.Claim]) -> str:
    """What we found: the claims in sentences (`wording.findings`)."""
    return wording.summary([claim.to_dict() for claim in claims])


def _placed(interval: stats.Interval) -> str:
    """'+4.2 [1.0, 7.4] points, above 0', or that nothing was measured."""
    if math.isnan(interval.estimate):
        return f"not measured ({interval.problem})"
    place = "an interval that holds 0"
    if math.isinf(interval.low):
        place = f"no interval ({interval.problem})"
    elif interval.flat:
        place = f"the same in all {interval.over}, so that nothing measures the error"
    elif interval.low * interval.high > 0:
        place = "above 0" if interval.low > 0 else "below 0"
    ends = wording.interval(interval.estimate, interval.low, interval.high, sign=True)
    bases = wording.bases({"bases": interval.bases, "over": interval.over})
    return f"{ends} points, {place}" + (f" ({bases})" if bases else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
