"""Scores a model: pass@1 averaged over k samples, by family, with the counts of every verdict
beside it (paper: evaluation).

A suite is a dict: family name -> list of problems. The notebooks' suites have an in-domain family
(ID), out-of-domain families (OOD) and, where asked, perturbed copies of the in-domain one.
"""

import math
from collections import Counter, defaultdict
from functools import lru_cache
from typing import Any

import pandas as pd

from ded import generation, problems, spent, store
from ded import grading as grader
from ded.grading import VERDICTS
from ded.options import Engine, Grading
from ded.problems import Problem
from ded.problems.answers import normalise, number
from ded.problems.texts import THINK

VERSION = 3
Suite = dict[str, list[Problem]]


@spent.on("evaluate")
def evaluate(model: str, suite: Suite, *, samples: int = 1, **sampling: Any) -> pd.DataFrame:
    """One row a family: family, n (trajectories), the count of each verdict, accuracy, pass_at_k,
    maj_at_k, n_tokens (mean), think_rate, untagged_rate, completion_rate, judged (answers that a
    judge decided), chance (what guessing scores, see `problems.chance`).

    accuracy (pass@1 averaged over the samples) = correct / (n - error): truncated and unparsed
    answers count as not correct, the grader's own failures do not count at all. pass_at_k, with
    k = samples: the share of questions with a correct sample. maj_at_k: the share whose most
    frequent answer is right, a tie of t answers counting as 1/t; nan for code, where nothing says
    which programs are alike. think_rate: the share of texts that open a think block; untagged_rate:
    that reason without one (`problems.reasons_untagged`); completion_rate: that end before
    max_tokens. `sampling` goes to `generation.sample` (max_tokens, temperature, top_p, seed,
    engine).
    """
    table = per_question(model, suite, samples=samples, **sampling)
    table = table.join(pd.get_dummies(pd.Categorical(table["verdict"], VERDICTS), dtype=int))
    by_family = table.groupby("family", sort=False)
    by_question = table.groupby(["family", "question"], sort=False)
    questions = by_question["correct"].max()
    votes = table.dropna(subset="vote")  # code has none
    ballots = defaultdict[tuple, tuple](tuple)
    for family, question, vote in votes[["family", "question", "vote"]].itertuples(index=False):
        ballots[family, question] += (vote,)
    families = [family for family, _ in ballots]
    majorities = pd.Series(map(majority, ballots.values()), families, dtype=float)
    scores = {
        "n": by_family.size(),
        **by_family[list(VERDICTS)].sum(),
        "accuracy": by_family["value"].mean(),
        "pass_at_k": questions.groupby("family", sort=False).mean(),
        "maj_at_k": majorities.groupby(level=0, sort=False).mean(),
        "n_tokens": by_family["n_tokens"].mean(),
        "think_rate": by_family["think"].mean(),
        "untagged_rate": by_family["untagged"].mean(),
        "completion_rate": 1 - by_family["truncated"].mean(),
        "judged": by_family["judged"].sum(),
    }
    chance = {name: problems.chance(asked) for name, asked in suite.items()}
    table = pd.DataFrame(scores, index=scores["n"].index).reset_index()
    return table.assign(chance=table["family"].map(chance))


@spent.on("evaluate")
def per_question(
    model: str,
    suite: Suite,
    *,
    samples: int = 1,
    workers: int = 1,
    grading: Grading = Grading(),
    **sampling: Any,
) -> pd.DataFrame:
    """One row a (family, question, seed), what `stats.crossed_bootstrap` takes: family, question
    (problem id), seed (sample index), value (1 correct, 0 not, nan where the grader failed),
    verdict, n_tokens, think (whether the text opens a think block), untagged (whether it reasons
    without one), judged (whether a judge decided), vote (see `votes`).

    Arguments as in `evaluate`; workers and grading are the grader's. Stored as a whole, unless
    the grader failed somewhere: that may be the machine's fault, and is tried again.
    """
    # One batch for all: short families share the model's calls. A shuffled copy may be the question
    # itself, so each is asked once.
    asked = list({problem.id: problem for family in suite.values() for problem in family}.values())
    decisive = {name: value for name, value in sampling.items() if name != "engine"}
    decisive |= generation.identity(model, sampling.get("engine", Engine()))
    decisive |= {"generation": generation.VERSION, "grading": grader.identity(grading)}
    questions = problems.fingerprint(asked)
    key = store.key("evaluation", VERSION, problems=questions, samples=samples, **decisive)

    def scores() -> pd.DataFrame:
        drawn = generation.sample(model, asked, samples, **sampling)
        graded = grader.grade(drawn, asked, options=grading, workers=workers)
        return _scored(graded, {problem.id: problem for problem in asked})

    scored = grader.stored(key, scores)
    members = [(name, problem.id) for name, family in suite.items() for problem in family]
    return pd.DataFrame(members, columns=["family", "question"]).merge(scored, on="question")


def _scored(graded: pd.DataFrame, asked: dict[str, Problem]) -> pd.DataFrame:
    """The columns of `per_question` but family, one row a trajectory."""
    texts = zip(graded["problem_id"], graded["text"], strict=True)
    correct = (graded["verdict"] == "correct").astype(float)
    graded = graded.rename(columns={"problem_id": "question", "sample_index": "seed"}).assign(
        value=correct.where(graded["verdict"] != "error"),
        think=graded["text"].str.lstrip().str.startswith(THINK),
        untagged=[problems.reasons_untagged(asked[name], text) for name, text in texts],
        judged=graded["rule"] == grader.JUDGE,
        vote=votes(graded, asked),
    )
    columns = ["question", "seed", "value", "verdict", "n_tokens", "think", "untagged"]
    return graded[[*columns, "judged", "vote"]]


def votes(graded: pd.DataFrame, asked: dict[str, Problem]) -> list[float]:
    """Which answer each trajectory votes for: 0 the right one, 1, 2, ... the wrong ones of its
    question, which are the same where their normal forms are; -1 none (unparsed, truncated); nan
    where there are no votes (code, a failure of the grader).
    """
    cast, wrong = [], defaultdict[str, dict](dict)
    columns = ("problem_id", "answer", "verdict")
    for question, answer, verdict in zip(*(graded[name] for name in columns), strict=True):
        if asked[question].kind == "code" or verdict == "error":
            cast.append(math.nan)
        elif verdict == "wrong" and isinstance(answer, str):
            text = " ".join(normalise(answer).split())
            value = number(text)
            forms = wrong[question]
            cast.append(forms.setdefault(text if value is None else value, len(forms) + 1))
        else:
            cast.append(0 if verdict == "correct" else -1)
    return cast


@lru_cache(maxsize=4096)  # few ballots differ
def majority(votes: tuple[float, ...]) -> float:
    """1 where the most frequent of a question's answers is the right one, 1/t where t tie, else 0.

    votes: see `votes`, none of them nan. Source: Wang et al. 2023 (self-consistency).
    """
    counts = Counter(vote for vote in votes if vote >= 0)
    leaders = [vote for vote, count in counts.items() if count == max(counts.values())]
    return (0 in leaders) / max(1, len(leaders))


def pass_rates(model: str, questions: list[Problem], samples: int, **sampling: Any) -> pd.DataFrame:
    """Per problem: problem_id, n (judged samples), correct, pass_rate = correct / n, level (paper:
    "student pass rate"). A problem of which no sample was judged is left out."""
    table = per_question(model, {"all": questions}, samples=samples, **sampling)
    judged = table[table["verdict"] != "error"].groupby("question", sort=False)["value"]
    rates = judged.agg(n="size", correct="sum").astype({"correct": int})
    rates = rates.rename_axis("problem_id").reset_index()
    levels = rates["problem_id"].map({problem.id: problem.level for problem in questions})
    return rates.assign(pass_rate=rates["correct"] / rates["n"], level=levels)
