"""The steps that the notebooks share: questions of a replicate, a teacher's corpus, one distilled and scored student.

Every function takes the checked parameters `p` of a notebook and is a pure function of its arguments, looked up in the store
stage by stage. So a later job may simply ask again for what an earlier one made, in any process and after any interruption.

A unit is (base, replicate): one student base and one full rerun of all its arms, with training and evaluation questions drawn
for that unit alone and shared by its arms.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from ded import analysis, curation, evaluation, generation, models, problems, training
from ded.problems import Problem

if TYPE_CHECKING:
    import pandas as pd


def _remembered(function):
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


def units(p: Any) -> list[dict]:
    """[{base, replicate}] for all students and replicates."""
    return [{"base": base, "replicate": r} for base in p.students for r in range(p.n_replicates)]


def jobs_for(p: Any, **axes: list) -> list[dict]:
    """One dict of arguments for each unit and each combination of `axes`, e.g. teacher=p.teachers."""
    calls = [{"p": p, **unit} for unit in units(p)]
    for name, values in axes.items():
        calls = [{**call, name: value} for call in calls for value in values]
    return calls


def describe(p: Any, record: Any) -> None:
    """Puts the content hashes of the models and of the evaluation questions into the manifest."""
    for spec in dict.fromkeys([*p.students, *(p.teachers if hasattr(p, "teachers") else [p.teacher])]):
        record.model(spec, models.fingerprint(spec))
    for unit in units(p):
        questions = [q for family in suite(p, **unit).values() for q in family]
        record.data(f"{p.split} {short(unit['base'])} {unit['replicate']}", problems.fingerprint(questions))


def _seed(p: Any, *parts: object) -> str:
    return " ".join(map(str, (p.seed, *parts)))


def sampling(p: Any, replicate: int, temperature: float | None = None) -> dict:
    """The arguments of `generation.sample` that the parameters fix; the teachers' temperature unless another is given."""
    temperature = p.temperature if temperature is None else temperature
    return {"max_tokens": p.max_tokens, "temperature": temperature, "top_p": p.top_p, "seed": p.seed * 1000 + replicate}


def short(model: str) -> str:
    """A model's name for tables and figures: the spec without its kind."""
    return model.partition(":")[2]


def corpus_questions(p: Any, base: str, replicate: int, source: str = "") -> list[Problem]:
    """The unit's training questions (train split)."""
    return problems.load(source or p.corpus_source, p.n_questions, "train", _seed(p, "corpus", base, replicate))


@_remembered
def suite(p: Any, base: str, replicate: int, perturbations: tuple[str, ...] = ()) -> dict[str, list[Problem]]:
    """The unit's evaluation questions (p.split): the in-domain family "ID", its perturbed copies, each OOD family."""
    seed = _seed(p, "evaluation", base, replicate)
    found = {"ID": problems.load(p.id_source, p.eval_id, p.split, seed)}
    if perturbations:
        from ded.lab import tasks

        found |= {name: [tasks.perturb(q, name) for q in found["ID"]] for name in perturbations}
    for source in p.ood_sources:
        found[problems.parse_source(source)[1]] = problems.load(source, p.eval_ood, p.split, seed)
    return found


def score(p: Any, model: str, base: str, replicate: int, arm: str, families: dict[str, list[Problem]], samples: int = 1) -> pd.DataFrame:
    """Score rows of one model on one unit's suite (see `ded.tables`); group is ID, OOD or robust."""
    table = evaluation.evaluate(model, families, samples=samples, **sampling(p, replicate, p.eval_temperature))
    ood = {problems.parse_source(s)[1] for s in p.ood_sources}
    group = table["family"].map(lambda f: "OOD" if f in ood else "ID" if f == "ID" else "robust")
    return table.assign(base=short(base), replicate=replicate, arm=arm, group=group)


def trajectories(p: Any, base: str, replicate: int, teacher: str, n: int, questions: list[Problem] | None = None) -> pd.DataFrame:
    """n graded trajectories a training question by a teacher."""
    from ded.grading import grade

    questions = questions or corpus_questions(p, base, replicate)
    return grade(generation.sample(teacher, questions, n, **sampling(p, replicate)), questions)


def curate(p: Any, base: str, replicate: int, teacher: str, n: int) -> curation.Filtered:
    """The quality filters over a teacher's trajectories: length, format, correctness (by answer, or by steps too)."""
    questions = corpus_questions(p, base, replicate)
    graded = trajectories(p, base, replicate, teacher, n, questions)
    return curation.curate(graded, questions, max_tokens=p.max_tokens, verify=p.verification, step_check=step_valid)


def step_valid(problem: Problem, think: str) -> bool:
    """Whether every step of a lab solution is valid (the last line giving the answer)."""
    from ded.lab import tasks

    return tasks.trace(problem, think) is not None


def teacher_corpus(p: Any, base: str, replicate: int, teacher: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(corpus, funnel): the first kept trajectory of each question, cut to p.corpus_size questions."""
    import pandas as pd

    kept, funnel, _ = curate(p, base, replicate, teacher, p.n_attempts)
    first = kept.drop_duplicates("problem_id")
    corpus = first.head(p.corpus_size)
    more = [("one a question", len(first), len(kept) - len(first)), ("corpus size", len(corpus), len(first) - len(corpus))]
    rows = pd.DataFrame([{"step": s, "kept": k, "dropped": d, "reason": ""} for s, k, d in more])
    funnel = pd.concat([funnel, rows], ignore_index=True)
    return corpus, funnel.assign(base=short(base), replicate=replicate, teacher=short(teacher))


def distil(p: Any, base: str, replicate: int, corpus: pd.DataFrame, max_steps: int = 0) -> str:
    """The spec of `base` trained on `corpus` with the notebook's SFT settings; max_steps above 0 replaces the epochs."""
    return training.sft(
        base, corpus, learning_rate=p.learning_rate, batch_size=p.batch_size, epochs=p.epochs, max_steps=max_steps,
        max_length=p.max_length, seed=p.seed * 1000 + replicate,
    )  # fmt: skip


# --- notebook 01 ------------------------------------------------------------------------------------------------------------
def own_score(p: Any, base: str, replicate: int, teacher: str) -> pd.DataFrame:
    """The teacher's own scores on the unit's in-domain questions."""
    families = {"ID": suite(p, base, replicate)["ID"]}
    return score(p, teacher, base, replicate, short(teacher), families)


def smoke_test(p: Any, base: str, replicate: int, teacher: str) -> dict[str, Any]:
    """Distils the student briefly from one teacher and scores it (paper: "smoke test").

    Returns {scores: score rows, shift: see `analysis.latent_shift`, row: what might have predicted the score: token_entropy
    (nats a token), latent_shift, n_tokens (mean length), corpus_loss (nats a token, before training), corpus_size}.
    """
    corpus, _ = teacher_corpus(p, base, replicate, teacher)
    student = distil(p, base, replicate, corpus)
    families = suite(p, base, replicate)
    shift = analysis.latent_shift(base, student, families["ID"][: p.shift_inputs])
    return {
        "scores": score(p, student, base, replicate, short(teacher), families), "shift": shift,
        "row": {
            "base": short(base), "replicate": replicate, "arm": short(teacher), "corpus_size": len(corpus),
            "token_entropy": analysis.token_entropy(corpus), "latent_shift": shift["shift"],
            "n_tokens": float(corpus["n_tokens"].mean()), "corpus_loss": analysis.corpus_loss(base, corpus),
        },
    }  # fmt: skip


def before(p: Any, base: str, replicate: int, perturbations: tuple[str, ...] = (), samples: int = 1) -> pd.DataFrame:
    """Scores of the student base before any distillation, on the same questions."""
    return score(p, base, base, replicate, "before", suite(p, base, replicate, perturbations), samples)


# --- notebook 02 ------------------------------------------------------------------------------------------------------------
def _rated(p: Any, base: str, replicate: int) -> pd.DataFrame:
    """Pass rates of the base on the first p.pass_rate_questions of the pool."""
    questions = corpus_questions(p, base, replicate)[: p.pass_rate_questions]
    return evaluation.pass_rates(base, questions, p.pass_rate_samples, **sampling(p, replicate, p.eval_temperature))


def tradeoff_pool(p: Any, base: str, replicate: int) -> dict[str, Any]:
    """What the arms of notebook 02 select from: {funnel (with question compression as a pool of its own), rates, tokens}."""
    import pandas as pd

    kept, funnel, dropped = curate(p, base, replicate, p.teacher, 1)
    rates = _rated(p, base, replicate)
    compressed = curation.compress_questions(rates, p.pass_rate_threshold, "hard").funnel
    unit = {"base": short(base), "replicate": replicate}
    rows = [funnel.assign(pool="trajectories", **unit), compressed.assign(pool="questions", **unit)]
    sampled = int(kept["n_tokens"].sum() + dropped["n_tokens"].sum())
    return {"funnel": pd.concat(rows), "rates": rates.assign(**unit), "tokens": sampled}


@_remembered
def tradeoff_corpora(p: Any, base: str, replicate: int) -> dict[str, dict]:
    """The arms of notebook 02: {arm: {corpus, max_steps, size, selection}}.

    random: nested random corpora of each size. At each size in p.selection_sizes also: hard (question compression: student pass
    rate up to the threshold), easy (its opposite), hard-tokens (hard, cut to the tokens of random), random-steps (trained for
    as many steps as the largest corpus), and at the one level p.fixed_level: fixed-random and fixed-hard. The selections are
    made among the rated questions. Raises ValueError where a pool is too small for an arm.
    """
    kept, _, _ = curate(p, base, replicate, p.teacher, 1)
    kept = kept.sample(frac=1.0, random_state=p.seed * 1000 + replicate, ignore_index=True)  # nested: each size starts the next
    level = {q.id: q.level for q in corpus_questions(p, base, replicate)}
    rates = _rated(p, base, replicate)
    hard, easy = (
        kept[kept["problem_id"].isin(curation.compress_questions(rates, p.pass_rate_threshold, keep).kept["problem_id"])] for keep in ("hard", "easy")
    )
    fixed = kept[(kept["problem_id"].map(level) == p.fixed_level) & kept["problem_id"].isin(rates["problem_id"])]
    steps = max(1, round(max(p.sizes) * p.epochs / p.batch_size))
    arms = {}

    def add(selection: str, size: int, pool: pd.DataFrame, max_steps: int = 0) -> None:
        if len(pool) < size:
            raise ValueError(f"arm {selection!r} needs {size} examples, and the pool of {base} (replicate {replicate}) holds {len(pool)}: "
                             f"raise n_questions or pass_rate_questions, or lower sizes or selection_sizes")
        arms[f"{selection} {size}"] = {"corpus": pool.head(size), "max_steps": max_steps, "size": size, "selection": selection}

    for size in p.sizes:
        add("random", size, kept)
    for size in p.selection_sizes:
        add("hard", size, hard)
        add("easy", size, easy)
        budget = int(kept.head(size)["n_tokens"].sum())
        fits = min(size, int((hard["n_tokens"].cumsum() <= budget).sum()))
        arms[f"hard-tokens {size}"] = {"corpus": hard.head(fits), "max_steps": 0, "size": size, "selection": "hard-tokens"}
        add("random-steps", size, kept, max_steps=steps)
        add("fixed-random", size, fixed)
        add("fixed-hard", size, fixed[fixed["problem_id"].isin(hard["problem_id"])])
    return arms


def tradeoff_arm(p: Any, base: str, replicate: int, arm: str) -> dict[str, Any]:
    """Distils and scores one arm of notebook 02: {scores, row: {base, replicate, arm, size, selection, tokens, steps}}."""
    made = tradeoff_corpora(p, base, replicate)[arm]
    student = distil(p, base, replicate, made["corpus"], made["max_steps"])
    steps = made["max_steps"] or max(1, round(len(made["corpus"]) * p.epochs / p.batch_size))
    return {
        "scores": score(p, student, base, replicate, arm, suite(p, base, replicate)),
        "row": {
            "base": short(base), "replicate": replicate, "arm": arm, "size": made["size"], "selection": made["selection"],
            "examples": len(made["corpus"]), "tokens": int(made["corpus"]["n_tokens"].sum()), "steps": steps,
        },
    }  # fmt: skip


def tradeoff_arms(p: Any) -> list[str]:
    """The names of notebook 02's arms, in order."""
    selections = ("hard", "easy", "hard-tokens", "random-steps", "fixed-random", "fixed-hard")
    return [f"random {s}" for s in p.sizes] + [f"{sel} {s}" for s in p.selection_sizes for sel in selections]


# --- notebook 03 ------------------------------------------------------------------------------------------------------------
RULES = ("farthest", "random", "nearest", "single", "farthest-normalised", "farthest-tokens")


@_remembered
def diversity_pool(p: Any, base: str, replicate: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """(verified trajectories, facts about the unit's M samples a question).

    facts: sampled, correct (share), lucky (share of the correct ones with an invalid step), distinct (a list: the number of
    genuinely different, step-valid trajectories of each question; spoken fillers and checks do not count as different).
    """
    from ded.lab import tasks

    graded = trajectories(p, base, replicate, p.teacher, p.n_trajectories)
    by_id = {q.id: q for q in corpus_questions(p, base, replicate)}
    correct = graded[graded["verdict"] == "correct"]
    parts = [curation.split_think(t) for t in correct["text"]]
    traces = [tasks.trace(by_id[i], part[0]) if part else None for i, part in zip(correct["problem_id"], parts)]
    distinct: dict[str, set] = {i: set() for i in by_id}
    for i, t in zip(correct["problem_id"], traces):
        if t:
            distinct[i].add(t)
    facts = {
        "base": short(base), "replicate": replicate, "sampled": len(graded), "correct": len(correct) / len(graded),
        "lucky": sum(t is None for t in traces) / max(1, len(traces)), "distinct": [len(d) for d in distinct.values()],
        "tokens": int(graded["n_tokens"].sum()),
    }  # fmt: skip
    return curate(p, base, replicate, p.teacher, p.n_trajectories).kept, facts


@_remembered
def diversity_corpora(p: Any, base: str, replicate: int) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """{rule: (corpus, statistics of each question)} for `RULES`, over the same questions and, tokens aside, of equal size."""
    kept, _ = diversity_pool(p, base, replicate)
    found = {}
    for rule in RULES[:5]:
        name, _, normalised = rule.partition("-")
        metric = "normalised" if normalised else p.metric
        found[rule] = curation.select_trajectories(kept, p.n_kept, rule=name, metric=metric, seed=p.seed * 1000 + replicate)
    corpus, statistics = found["farthest"]
    budget = int(found["random"][0]["n_tokens"].sum())
    found["farthest-tokens"] = curation.equal_tokens(corpus, budget, seed=p.seed * 1000 + replicate), statistics
    return found


def diversity_before(p: Any, base: str, replicate: int) -> pd.DataFrame:
    """Scores of the base before distillation on notebook 03's suite, perturbations included."""
    from ded.lab import tasks

    return before(p, base, replicate, tasks.PERTURBATIONS, p.samples)


def diversity_arm(p: Any, base: str, replicate: int, arm: str) -> dict[str, Any]:
    """Distils and scores one rule of notebook 03: {scores (ID, perturbed and OOD rows), statistics, row}.

    All rules train for equally many optimizer steps, whatever their corpus holds.
    """
    from ded.lab import tasks

    corpora = diversity_corpora(p, base, replicate)
    corpus, statistics = corpora[arm]
    steps = max(1, round(len(corpora["random"][0]) * p.epochs / p.batch_size))
    student = distil(p, base, replicate, corpus, steps)
    families = suite(p, base, replicate, tasks.PERTURBATIONS)
    by_id = {q.id: q for q in corpus_questions(p, base, replicate)}
    valid = [step_valid(by_id[i], curation.split_think(text)[0]) for i, text in zip(corpus["problem_id"], corpus["text"])]
    lucky = 1 - sum(valid) / len(valid)
    return {
        "scores": score(p, student, base, replicate, arm, families, p.samples),
        "statistics": statistics.assign(base=short(base), replicate=replicate, arm=arm),
        "row": {
            "base": short(base), "replicate": replicate, "arm": arm, "questions": corpus["problem_id"].nunique(),
            "examples": len(corpus), "tokens": int(corpus["n_tokens"].sum()), "steps": steps, "lucky": lucky,
        },
    }  # fmt: skip
