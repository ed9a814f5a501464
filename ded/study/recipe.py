"""Notebook 04, second half: what DED and the arms that it is measured against are made from.

Where params.code_source names a source, every corpus but the single-part ones is half math and half
code. The teachers come from `ded.study.teachers`.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ded import curation, jobs
from ded.params.schemas import Recipe
from ded.problems import Problem
from ded.study import pipeline
from ded.study.unit import Unit, short

CURATED = ("random", "no compression", "breadth", "top teacher")
PARTS = ("math only", "code only")
STYLES = ("s1 style", "LIMO style")
# The large corpora: of the chosen teacher, and as others make them
SAME = "large, same teacher"
OTHERS = ("large, top teacher, unfiltered", "large, top teacher", "large, another teacher")
LARGE = (SAME, *OTHERS)
EQUAL_STEPS = ", equal steps"  # ends the name of a large arm that is trained for DED's steps
TOP = "top teacher itself"  # the arm of its own scores
NOTHING = pd.DataFrame(columns=["problem_id", "part", "prompt", "text", "n_tokens", "turn"])
SHOWN = ["problem_id", "part", "prompt", "text", "teacher", "n_tokens", "level", "pass_rate"]
SHOWN += ["sample_index", "base", "replicate"]


@dataclass(frozen=True)
class Part:
    """Math or code: the tables that the arms of a unit select from, in the order in which examples
    are taken.

    kept: one verified trajectory a question of the chosen teacher, with level, pass_rate (NaN:
    not rated) and hard (whether compression leaves the question); diverse: of each question that
    compression leaves, the P farthest of its M trajectories; uncompressed: the same of all
    questions; top_diverse: as diverse, from the teacher that scores highest itself; top, other: as
    kept, from that one and from one more; top_unfiltered: one trajectory a question, as it comes.
    distinct: how many different verified trajectories each question of `diverse` had. tokens:
    sampled by the teachers.
    """

    name: str
    kept: pd.DataFrame
    diverse: pd.DataFrame
    uncompressed: pd.DataFrame
    top_diverse: pd.DataFrame
    top: pd.DataFrame
    top_unfiltered: pd.DataFrame
    other: pd.DataFrame
    funnel: pd.DataFrame
    distinct: list[int]
    tokens: int


@dataclass(frozen=True)
class Pool:
    """The parts of one unit, none where no teacher could be chosen; funnel: a pool a part, and one
    a part's questions. hidden: ids of questions that are never to be shown.
    """

    parts: list[Part]
    funnel: pd.DataFrame
    tokens: int
    hidden: frozenset[str]

    @property
    def distinct(self) -> list[int]:
        """How many different verified trajectories each question of DED's corpus had."""
        return [n for part in self.parts for n in part.distinct]


# What a part gives to an arm; None: the arm has none of it.
Rule = Callable[[Part], pd.DataFrame | None]


def arms(params: Recipe) -> dict[str, int]:
    """{arm of notebook 04: examples that it trains on}, DED first; the notebook says what makes
    each. An arm of equal steps counts as many examples as DED has.
    """
    equal = dict.fromkeys(["DED", *equal_arms(params)], params.corpus_size)
    large = dict.fromkeys(LARGE, params.large_size)
    return equal | large | {name + EQUAL_STEPS: params.corpus_size for name in LARGE}


def equal_arms(params: Recipe) -> list[str]:
    """The arms as large as DED; without a code source there are no single parts, for DED is then
    math only.
    """
    return [*CURATED, *(PARTS if params.code_source else ()), *STYLES]


@jobs.looked_up
def pool(unit: Unit[Recipe], teacher: str, top: str, other: str) -> Pool:
    """What the arms of a unit select from. teacher: the chosen one; top: the one that scores
    highest itself; other: one more; "": none.
    """
    params = unit.params
    named = {"math": params.corpus_source, "code": params.code_source} if teacher else {}
    sources = {name: source for name, source in named.items() if source}
    parts = [_part(unit, name, source, teacher, top, other) for name, source in sources.items()]
    empty = pd.DataFrame(columns=["step", "kept", "dropped", "reason", "pool"])
    funnel = pd.concat([part.funnel for part in parts] or [empty]).assign(**unit.row)
    questions = [question for source in sources.values() for question in unit.questions(source)]
    hidden = frozenset(question.id for question in questions if question.meta.get("hide"))
    return Pool(parts, funnel, sum(part.tokens for part in parts), hidden)


def _part(unit: Unit[Recipe], name: str, source: str, teacher: str, top: str, other: str) -> Part:
    params, questions = unit.params, unit.questions(source)
    half = math.ceil(params.corpus_size / 2) if params.code_source else params.corpus_size
    curated = pipeline.curate(unit, teacher, 1, source)
    rates = pipeline.pass_rates(unit, questions[: params.pass_rate_questions])
    rates = rates[["problem_id", "level", "pass_rate"]]
    compressed = pipeline.compressed(unit, rates)
    hard_ids = set(compressed.kept["problem_id"])
    hard = [question for question in questions if question.id in hard_ids]
    # as much as a single-part arm takes; the others only half a corpus
    diverse, distinct, n_diverse = _diverse(unit, teacher, hard, params.corpus_size)
    uncompressed, _, n_uncompressed = _diverse(unit, teacher, questions, half)
    top_diverse, _, n_top_diverse = _diverse(unit, top, hard, half)
    top_kept, top_unfiltered, n_top = _one_each(unit, top, questions)
    other_kept, _, n_other = _one_each(unit, other, questions)
    funnel = [curated.funnel.assign(pool=name), compressed.funnel.assign(pool=f"{name} questions")]
    kept = pipeline.without_ids(curated.kept).merge(rates, how="left", on="problem_id")
    return Part(
        name,
        kept=kept.assign(hard=kept["problem_id"].isin(hard_ids)),
        diverse=diverse.merge(rates, on="problem_id"),
        uncompressed=uncompressed,
        top_diverse=top_diverse,
        top=top_kept,
        top_unfiltered=top_unfiltered,
        other=other_kept,
        funnel=pd.concat(funnel),
        distinct=distinct,
        tokens=curated.n_tokens + n_diverse + n_uncompressed + n_top_diverse + n_top + n_other,
    )


def _one_each(
    unit: Unit[Recipe], teacher: str, questions: list[Problem]
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """(what the filters keep; all that has an end; tokens sampled): one trajectory a question."""
    if not teacher:
        return NOTHING, NOTHING, 0
    sampled = pipeline.graded(unit, teacher, 1, questions)
    kept = pipeline.filtered(unit, sampled, questions).kept
    ended = sampled[(sampled["finish_reason"] != "length") & (sampled["text"].str.strip() != "")]
    tokens = int(sampled["n_tokens"].sum())
    return pipeline.without_ids(kept), pipeline.without_ids(ended), tokens


def _diverse(
    unit: Unit[Recipe], teacher: str, questions: list[Problem], size: int
) -> tuple[pd.DataFrame, list[int], int]:
    """(`size` examples; of each question how many trajectories differ; tokens sampled): of each
    question the P farthest apart of M trajectories, all where fewer differ.

    Questions are worked in their order and in blocks until there are enough, so that none is
    sampled in vain. No teacher, no examples.
    """
    params, tokens = unit.params, 0
    chosen: list[pd.DataFrame] = []
    distinct: list[int] = []
    for block in blocks(unit, questions if teacher else []):
        trajectories = pipeline.graded(unit, teacher, params.n_trajectories, block)
        kept = pipeline.filtered(unit, trajectories, block).kept
        selection = curation.select_trajectories(
            kept, params.n_kept, metric=params.metric, seed=unit.seed, short="keep"
        )
        chosen.append(pipeline.without_ids(selection.chosen))
        distinct += selection.statistics["distinct"].tolist()
        tokens += int(trajectories["n_tokens"].sum())
        if sum(map(len, chosen)) >= size:
            break
    return pd.concat(chosen or [NOTHING]).head(size), distinct, tokens


def blocks(unit: Unit[Recipe], questions: list[Problem]) -> Iterator[list[Problem]]:
    """The questions in their order, as many at once as half a corpus takes with P trajectories of
    each.
    """
    size = math.ceil(unit.params.corpus_size / 2 / unit.params.n_kept)
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


def s1_style(rated: pd.DataFrame) -> pd.DataFrame:
    """After s1 (arXiv 2501.19393): spread over the levels, of each the longest first; questions
    always passed, or not rated, left out.
    """
    unsolved = rated[rated["pass_rate"] < 1]
    longest = unsolved.sort_values("n_tokens", ascending=False, kind="stable")
    turn = longest.groupby("level").cumcount()
    return longest.assign(turn=turn).sort_values(["turn", "level"], kind="stable")


def limo_style(rated: pd.DataFrame) -> pd.DataFrame:
    """After LIMO (arXiv 2502.03387): the questions with the lowest pass rate first, of these the
    longest; those not rated left out.
    """
    longest = rated.sort_values("n_tokens", ascending=False, kind="stable")
    return longest.dropna(subset="pass_rate").sort_values("pass_rate", kind="stable")


def make_arms(unit: Unit[Recipe], pool: Pool, rules: Mapping[str, Rule]) -> list[pipeline.Arm]:
    """The arms of one unit, of what `rules` take of each part, by turns, so that what is cut is cut
    from both.

    Arms of equal size are cut to the smallest of them and train for equally many steps. A large
    corpus makes up with one part for what the other lacks, and is trained twice: for as many epochs
    and for as many steps as DED. An arm that lacks half of its size, of a large one a quarter, is
    empty and so not measured, as all are where no teacher could be chosen.
    """
    params, corpora = unit.params, {}
    wanted = dict.fromkeys(rules, params.corpus_size) | arms(params)
    for name, rule in rules.items():
        if params.code_source or name not in PARTS:
            given = {part.name: rule(part) for part in pool.parts}
            tables = {part: table for part, table in given.items() if table is not None}
            corpora[name] = _mixed(tables, wanted[name], fill=name in LARGE)
    least = {name: (0.75 if name in LARGE else 0.5) * wanted[name] for name in corpora}
    enough = [name for name, corpus in corpora.items() if len(corpus) >= least[name]]
    equal = [len(corpora[name]) for name in enough if name not in LARGE]
    size = min([params.corpus_size, *equal])
    made = []
    for name, corpus in corpora.items():
        corpus = corpus.head((wanted[name] if name in LARGE else size) * (name in enough))
        facts = {"code": int((corpus["part"] == "code").sum())}
        steps = {name: len(corpus)} | ({name + EQUAL_STEPS: size} if name in LARGE else {})
        for arm, n in steps.items():
            made.append(pipeline.Arm(arm, corpus, pipeline.steps_of(unit, n), facts=facts))
    return made


def _mixed(tables: Mapping[str, pd.DataFrame], size: int, fill: bool) -> pd.DataFrame:
    """`size` examples, of each part by turns; no more than its share of each, unless `fill`."""
    share = size if fill else math.ceil(size / max(1, len(tables)))
    taken = {part: table.head(share) for part, table in tables.items() if len(table)}
    turns = [table.assign(part=name, turn=range(len(table))) for name, table in taken.items()]
    mixed = pd.concat(turns or [NOTHING]).sort_values("turn", kind="stable", ignore_index=True)
    return mixed.head(size)


def too_alike(pools: list[Pool], corpora: list[pd.DataFrame], n_kept: int) -> str:
    """Why DED's corpora hold too little diversity to be judged, "" where they do not: the median
    question has fewer than 2P trajectories that differ, or under 3/4 P were kept a question.
    """
    distinct = [n for pool in pools for n in pool.distinct]
    examples = sum(map(len, corpora))
    questions = sum(corpus["problem_id"].nunique() for corpus in corpora)
    median, kept = statistics.median(distinct or [0]), examples / max(1, questions)
    faults = {
        f"the median question has {median:g} trajectories that differ, fewer than {2 * n_kept}": (
            median < 2 * n_kept
        ),
        f"{kept:.1f} trajectories a question are kept, fewer than {0.75 * n_kept:g}": (
            kept < 0.75 * n_kept
        ),
    }
    why = "; ".join(fault for fault, holds in faults.items() if holds)
    return f"DED without its diversity: {why}" if why and examples else ""


def shown(unit: Unit, pool: Pool, arm: pipeline.Arm, teacher: str) -> pd.DataFrame:
    """An arm's corpus as readers may see it: without questions that are not to be shown."""
    visible = arm.corpus[~arm.corpus["problem_id"].isin(pool.hidden)]
    return visible.assign(teacher=teacher, **unit.row).filter(items=SHOWN)


def calls(units: list[Unit], choice: pd.DataFrame) -> list[dict[str, Any]]:
    """The arguments of `pool` for each unit, with the teachers chosen for its base: one for each
    that ties at the top (see `expected`).
    """
    chosen = choice.groupby("base")[["teacher", "top", "other"]]
    teachers = {base: rows.to_dict("records") for base, rows in chosen}
    return [{"unit": unit, **each} for unit in units for each in teachers[short(unit.base)]]


@jobs.looked_up
def top_itself(unit: Unit[Recipe], teacher: str, top: str, other: str) -> pd.DataFrame:
    """The scores of the highest-scoring teacher itself on the unit's suite, as the arm TOP."""
    return pipeline.own_score(unit, top, unit.suite()).assign(arm=TOP)


def expected(table: pd.DataFrame) -> pd.DataFrame:
    """Scores or arms' rows, one a base, replicate, arm and family: of several, for teachers that
    tie at the top, the mean, before any statistic. The choice among them is nobody's, so it is an
    expectation and no draw.
    """
    numbers = table.select_dtypes("number").columns.drop("replicate")
    keys = [column for column in table if column not in numbers]
    if not table.duplicated(keys).any():
        return table
    return table.groupby(keys, sort=False, as_index=False)[numbers].mean(skipna=False)[[*table]]
