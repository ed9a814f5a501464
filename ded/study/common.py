"""The steps that the notebooks share: questions of a replicate, a teacher's corpus, one distilled and scored student.

Every function takes the checked parameters `p` of a notebook and is a pure function of its arguments, looked up in the store
stage by stage. So a later job may simply ask again for what an earlier one made, in any process and after any interruption.

A unit is (base, replicate): one student base and one full rerun of all its arms, with training and evaluation questions drawn
for that unit alone and shared by its arms.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

from ded import curation, evaluation, generation, models, problems, store, training
from ded.generation import openai
from ded.grading import VERDICTS
from ded.problems import Problem, files

if TYPE_CHECKING:
    import pandas as pd


def remembered(function):
    """Keeps the last results in this process: the arms of a unit are neighbours, and ask for the same pools."""
    latest: dict = {}

    @wraps(function)
    def call(p: Any, base: str, replicate: int, *rest: Any) -> Any:
        key = (repr(p), base, replicate, *rest)
        if key not in latest:
            while len(latest) >= 2:
                latest.pop(next(iter(latest)))
            latest[key] = function(p, base, replicate, *rest)
        return latest[key]

    return call


def units(p: Any, select: bool = False) -> list[dict]:
    """[{base, replicate}] for all students and replicates; `select`: those on which notebook 04 chooses, which come before its own."""
    first = getattr(p, "n_select", 0)
    return [
        {"base": base, "replicate": r}
        for base in p.students
        for r in (range(first) if select else range(first, first + p.n_replicates))
    ]


def jobs_for(p: Any, select: bool = False, **axes: list) -> list[dict]:
    """One dict of arguments for each unit and each combination of `axes`, e.g. teacher=p.teachers."""
    calls = [{"p": p, **unit} for unit in units(p, select)]
    for name, values in axes.items():
        calls = [{**call, name: value} for call in calls for value in values]
    return calls


def describe(p: Any, record: Any) -> None:
    """Puts the content hashes of the models and of the evaluation questions into the manifest.

    Before that ModelError, naming every model that cannot be used for what the notebook does with it.
    """
    teachers = p.teachers if hasattr(p, "teachers") else [p.teacher]
    wanted = {
        spec: ("sample", "train") if spec in p.students else ("sample",)
        for spec in [*p.students, *teachers]
    }
    faults = []
    for spec, need in wanted.items():
        try:
            models.check(spec, need, p.engine)
        except models.ModelError as error:
            if models.parse(spec)[0] == "openai" and openai.drawn_from(
                spec, p.engine
            ):  # a study that is finished needs its endpoint no more
                warnings.warn(
                    f"{error}. What was drawn from it before is used; the run ends at the first row that is missing",
                    stacklevel=2,
                )
            else:
                faults.append(str(error))
    for name, count in Counter(map(short, wanted)).items():
        if count > 1:
            faults.append(
                f"{count} models would both be called {name!r} in tables and figures; rename a file or folder"
            )
    if faults:
        raise models.ModelError("\n".join([f"{len(faults)} problem(s) with the models", *faults]))
    for spec in wanted:
        record.model(spec, models.fingerprint(spec))
    for unit in [*units(p, select=True), *units(p)]:
        questions = [q for family in suite(p, **unit).values() for q in family]
        record.data(
            f"{p.split} {short(unit['base'])} {unit['replicate']}", problems.fingerprint(questions)
        )


def _seed(p: Any, *parts: object) -> str:
    return " ".join(map(str, (p.seed, *parts)))


def sampling(p: Any, replicate: int, temperature: float | None = None) -> dict:
    """The arguments of `generation.sample` that the parameters fix; the teachers' temperature unless another is given."""
    temperature = p.temperature if temperature is None else temperature
    return {
        "max_tokens": p.max_tokens,
        "temperature": temperature,
        "top_p": p.top_p,
        "seed": p.seed * 1000 + replicate,
        "engine": p.engine,
    }


def short(model: str) -> str:
    """A model's name for tables and figures: the spec without its kind, a local path without its folders; of a data set's traces the map."""
    kind, _, name = model.partition(":")
    place, _, column_map = name.partition("#")
    if kind == "recorded" and column_map and not place.lower().endswith(files.SUFFIXES):
        return column_map
    return name.rpartition("/")[2] if name.startswith(("/", "~", ".")) else name


def corpus_questions(p: Any, base: str, replicate: int, source: str = "") -> list[Problem]:
    """The unit's training questions (train split), without those that overlap with its evaluation questions."""
    return decontaminated(p, base, replicate, source or p.corpus_source)[1]


@remembered
def decontaminated(
    p: Any, base: str, replicate: int, source: str
) -> tuple[pd.DataFrame | None, list[Problem]]:
    """(overlaps with the unit's suite: train_id, eval_id, share; the training questions in none of them).

    Sources that make their questions keep their splits apart by content: between them nothing is compared (None).
    """
    from ded.problems.contamination import contaminated

    n = p.n_code_questions if source == getattr(p, "code_source", "") else p.n_questions
    drawn = problems.load(source, n, "train", _seed(p, "corpus", base, replicate))
    met = {"ID": p.id_source, "ID code": getattr(p, "code_id_source", "")} | {
        problems.family_of(s): s for s in p.ood_sources
    }
    met = {name: other for name, other in met.items() if other}
    met = [
        name
        for name, other in met.items()
        if not (problems.procedural(source) and problems.procedural(other))
    ]
    if not met:
        return None, drawn
    families = suite(p, base, replicate)
    return contaminated(
        drawn,
        [q for name in met for q in families[name]],
        p.contamination_ngram,
        p.contamination_threshold,
    )


@remembered
def suite(
    p: Any, base: str, replicate: int, perturbations: tuple[str, ...] = ()
) -> dict[str, list[Problem]]:
    """The unit's evaluation questions (p.split): the in-domain family "ID", its perturbed copies, "ID code" in notebook 04, each OOD family."""
    seed = _seed(p, "evaluation", base, replicate)
    found = {"ID": problems.load(p.id_source, p.eval_id, p.split, seed)}
    if code := getattr(p, "code_id_source", ""):
        found["ID code"] = problems.load(code, p.eval_code, p.split, seed)
    found |= {name: [problems.perturb(q, name) for q in found["ID"]] for name in perturbations}
    for source in p.ood_sources:
        if (name := problems.family_of(source)) in found:
            raise problems.SourceError(
                f"ood_sources: {source!r} is the second family {name!r} of the suite; name each once"
            )
        found[name] = problems.load(source, p.eval_ood, p.split, seed)
    return found


def score(
    p: Any,
    model: str,
    base: str,
    replicate: int,
    arm: str,
    families: dict[str, list[Problem]],
    samples: int = 0,
) -> pd.DataFrame:
    """Score rows of one model on one unit's suite (see `ded.tables`), of p.samples a question (1 without it); group is ID, OOD or robust."""
    table = evaluation.evaluate(
        model,
        families,
        samples=samples or getattr(p, "samples", 1),
        **sampling(p, replicate, p.eval_temperature),
    )
    return _grouped(p, table, base, replicate, arm)


def unscored(p: Any, base: str, replicate: int, arm: str, families: Iterable[str]) -> pd.DataFrame:
    """Score rows of an arm that could not be measured (nothing to train on, a teacher that answers no new questions): n = 0 and NaN."""
    import pandas as pd

    blank = dict.fromkeys(("accuracy", "pass_at_k", "n_tokens", "think_rate"), math.nan) | {
        "n": 0,
        **dict.fromkeys(VERDICTS, 0),
    }
    return _grouped(
        p, pd.DataFrame([{"family": family, **blank} for family in families]), base, replicate, arm
    )


def _grouped(p: Any, table: pd.DataFrame, base: str, replicate: int, arm: str) -> pd.DataFrame:
    ood = {problems.family_of(s) for s in p.ood_sources}
    group = table["family"].map(
        lambda f: "OOD" if f in ood else "ID" if f.startswith("ID") else "robust"
    )
    return table.assign(base=short(base), replicate=replicate, arm=arm, group=group)


def trajectories(
    p: Any, base: str, replicate: int, teacher: str, n: int, questions: list[Problem] | None = None
) -> pd.DataFrame:
    """n graded trajectories a training question by a teacher; what came as text alone is counted by the student's tokenizer."""
    from ded.grading import grade

    questions = questions or corpus_questions(p, base, replicate)
    sampled = generation.counted(
        generation.sample(teacher, questions, n, **sampling(p, replicate)), base
    )
    return grade(sampled, questions, seen=store.root() / "programs.sqlite")


@remembered
def curate(
    p: Any, base: str, replicate: int, teacher: str, n: int, source: str = ""
) -> curation.Filtered:
    """The quality filters over a teacher's trajectories: length, format, correctness (by answer, or by steps where they can be checked)."""
    import pandas as pd

    overlaps, questions = decontaminated(p, base, replicate, source or p.corpus_source)
    graded, found = curate_questions(p, base, replicate, teacher, n, questions)
    rows, total = [], n * len(questions)
    if overlaps is not None:
        why = "; ".join(
            f"{train} in {asked} ({share:.2f})"
            for train, asked, share in overlaps.head(20).itertuples(index=False)
        )
        rows.append(
            {
                "step": "contamination",
                "kept": total,
                "dropped": n * overlaps["train_id"].nunique(),
                "reason": why,
            }
        )
    if len(graded) < total:
        rows.append(
            {
                "step": "recorded",
                "kept": len(graded),
                "dropped": total - len(graded),
                "reason": f"no trace: {total - len(graded)}",
            }
        )
    return (
        found._replace(funnel=pd.concat([pd.DataFrame(rows), found.funnel], ignore_index=True))
        if rows
        else found
    )


def curate_questions(
    p: Any, base: str, replicate: int, teacher: str, n: int, questions: list[Problem]
) -> tuple[pd.DataFrame, curation.Filtered]:
    """(graded trajectories of these questions, what the quality filters make of them)."""
    graded = trajectories(p, base, replicate, teacher, n, questions)
    verify = p.verification if all("terms" in q.meta for q in questions) else "answer"
    return graded, curation.curate(
        graded, questions, max_tokens=p.max_tokens, verify=verify, step_check=step_valid
    )


def step_valid(problem: Problem, think: str) -> bool:
    """Whether every step of a solution is valid (the last line giving the answer)."""
    return problems.trace(problem, think) is not None


def teacher_corpus(
    p: Any, base: str, replicate: int, teacher: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(corpus, funnel): the first kept trajectory of each question, cut to p.corpus_size questions."""
    import pandas as pd

    kept, funnel, _ = curate(p, base, replicate, teacher, p.n_attempts)
    first = kept.drop_duplicates("problem_id")
    corpus = first.head(p.corpus_size)
    more = [
        ("one a question", len(first), len(kept) - len(first)),
        ("corpus size", len(corpus), len(first) - len(corpus)),
    ]
    rows = pd.DataFrame([{"step": s, "kept": k, "dropped": d, "reason": ""} for s, k, d in more])
    funnel = pd.concat([funnel, rows], ignore_index=True)
    return corpus, funnel.assign(base=short(base), replicate=replicate, teacher=short(teacher))


def distil(p: Any, base: str, replicate: int, corpus: pd.DataFrame, max_steps: int = 0) -> str:
    """The spec of `base` trained on `corpus` with the notebook's SFT settings; max_steps above 0 replaces the epochs."""
    return training.sft(
        base,
        corpus,
        learning_rate=p.learning_rate,
        batch_size=p.batch_size,
        epochs=p.epochs,
        max_steps=max_steps,
        max_length=p.max_length,
        seed=p.seed * 1000 + replicate,
        trainer=p.trainer,
    )


def before(
    p: Any, base: str, replicate: int, perturbations: tuple[str, ...] = (), samples: int = 0
) -> pd.DataFrame:
    """Scores of the student base before any distillation, on the same questions."""
    return score(
        p, base, base, replicate, "before", suite(p, base, replicate, perturbations), samples
    )
