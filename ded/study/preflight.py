"""What a notebook says of its models, traces and questions before it starts: what cannot be used is
an error at once, what would be lost on the way is told.
"""

import warnings
from collections import Counter
from functools import lru_cache
from typing import Protocol

from ded import curation, generation, models, problems
from ded.errors import DedError, EngineError, ModelError
from ded.generation import budget, openai
from ded.models import traces
from ded.models.spec import WITHOUT_WEIGHTS, options_of, parse
from ded.params.schemas import Common
from ded.problems.texts import CLOSE
from ded.study.registry import arms
from ded.study.unit import Unit, engines_of, short, teachers_of, units


class Manifest(Protocol):
    """Of `ded.results.Recorder` what takes content hashes."""

    def model(self, name: str, fingerprint: str) -> None: ...

    def data(self, name: str, fingerprint: str) -> None: ...


def describe(params: Common, record: Manifest) -> None:
    """Puts the content hashes of the models and of the evaluation questions into the manifest,
    once `check` has passed.
    """
    check(params)
    for spec in engines_of(params):
        record.model(spec, models.fingerprint(spec))
    for unit in [*units(params, select=True), *units(params)]:
        questions = [question for family in unit.suite().values() for question in family]
        name = f"{params.split} {short(unit.base)} {unit.replicate}"
        record.data(name, problems.fingerprint(questions))


def check(params: Common) -> None:
    """ModelError, naming every model that cannot be used for what the notebook does with it, and
    models that would share a name; ParameterError for an arm that is none. Warns of questions in
    signs that a tokenizer lacks.
    """
    arms(params)
    specs = list(dict.fromkeys([*params.students, *teachers_of(params)]))
    mend = "in tables and figures; rename a file or folder"
    namesakes = [
        f"{count} models would both be called {name!r} {mend}"
        for name, count in Counter(map(short, specs)).items()
        if count > 1
    ]
    if faults := [*map(str, unusable(params).values()), *namesakes]:
        raise ModelError("\n".join([f"{len(faults)} problem(s) with the models", *faults]))
    for first in units(params)[:1]:
        for teacher in recorded_teachers(params):
            _check_form(first, teacher)
        for note in unknown_signs(first):
            warnings.warn(note, stacklevel=3)


def unusable(params: Common) -> dict[str, DedError]:
    """{model spec: why it cannot be used here for what the notebook does with it}."""
    faults: dict[str, DedError] = {}
    for spec, engine in engines_of(params).items():
        needs = ("sample", "train") if spec in params.students else ("sample",)
        try:
            models.check(spec, needs, engine)
            if engine.thinking_budget:
                judges = spec == params.grading.judge
                longest = params.grading.judge_max_tokens if judges else params.max_tokens
                budget.end_of(spec, engine, longest)
            if spec in params.students and models.render(spec, "").rstrip().endswith(CLOSE):
                _check_corpus(spec, teachers_of(params))
        except (ModelError, EngineError) as error:
            # a study that is finished needs its endpoint no more
            if parse(spec).kind == "openai" and openai.drawn_file(spec, engine).is_file():
                hint = "What was drawn before is used; the run ends at the first missing row"
                warnings.warn(f"{error}. {hint}", stacklevel=3)
            else:
                faults[spec] = error
    return faults


def _check_corpus(student: str, teachers: list[str]) -> None:
    """ModelError where a student whose thinking is switched off has a teacher that thinks. Of some
    that is seen only in what they say, and an error of training."""
    for teacher in teachers:
        thinks = options_of(teacher).get("thinking", False)
        if parse(teacher).kind == "recorded":
            thinks = traces.all_think(teacher)
        elif parse(teacher).kind not in models.WITHOUT_WEIGHTS:
            thinks = thinks or models.think_prefix(teacher)
        if thinks:
            closes = "its chat template closes an empty think block in the prompt"
            mend = "switch its thinking on, or the teacher's off"
            raise ModelError(f"model {student!r}: {closes}, and {teacher!r} thinks; {mend}")


# ---- recorded traces, and questions in a tokenizer's signs --------------------------------------


def recorded_teachers(params: Common) -> list[str]:
    """The teachers whose trajectories others sampled."""
    return [spec for spec in teachers_of(params) if parse(spec).kind == "recorded"]


def attempts(params: Common) -> int:
    """How many trajectories of a question the notebook asks of a teacher."""
    return getattr(params, "n_attempts", 0) or getattr(params, "n_trajectories", 1)


def _check_form(unit: Unit, teacher: str) -> None:
    """ModelError where none of a recorded teacher's traces has the form that a corpus is made of;
    EngineError where there is none of the unit's questions.
    """
    n, asked = attempts(unit.params), unit.questions()
    formed = curation.filter_format(generation.sample(teacher, asked, n, **unit.sampling()))
    if formed.kept.empty:
        mend = "a trace is <think>...</think> and an answer, or names a column `thinking`"
        why = f"all {len(formed.dropped)} dropped: {formed.funnel['reason'].item()}"
        raise ModelError(f"model {teacher!r}: {why}; {mend} (docs/your-own-model.md)")


def unknown_signs(unit: Unit) -> list[str]:
    """A line for each model that reads questions, or recorded traces, which its tokenizer can write
    only in part."""
    asked = {"training": unit.questions()} | unit.suite()
    prompts = {name: tuple(q.prompt for q in questions) for name, questions in asked.items()}
    traces_of = {
        f"traces of {short(teacher)}": tuple(
            generation.sample(teacher, asked["training"], 1, **unit.sampling())["text"]
        )
        for teacher in recorded_teachers(unit.params)
    }
    lines, share = [], lru_cache(_unknown_share)
    alike: dict[tuple, str] = {}  # models of a family share a tokenizer, as all of the lab do
    for spec in dict.fromkeys([unit.base, *teachers_of(unit.params)]):
        if parse(spec).kind not in WITHOUT_WEIGHTS and (signs := _signs(spec)):
            read = prompts | (traces_of if spec == unit.base else {})
            like = alike.setdefault(signs, spec)
            shares = {name: share(like, texts) for name, texts in read.items()}
            if parts := [f"{share:.0%} in {name}" for name, share in shares.items() if share]:
                what = "of the tokens that it reads are <unk>, signs that it does not know"
                lines.append(f"model {spec!r}: {what}: {', '.join(parts)}")
    return lines


def _signs(spec: str) -> tuple:
    """What decides which signs a tokenizer knows; empty of one that can write everything."""
    tok = models.load_tokenizer(spec)
    if tok.unk_token_id is None or tok.unk_token_id in (tok.eos_token_id, tok.bos_token_id):
        return ()  # byte-level
    backend = getattr(tok, "backend_tokenizer", None)
    return (backend.to_str() if backend else spec, tok.unk_token_id)


def _unknown_share(spec: str, texts: tuple[str, ...]) -> float:
    """The share of <unk> among the tokens of the texts."""
    tok = models.load_tokenizer(spec)
    given = tok(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    ids = [i for row in given for i in row]
    return ids.count(tok.unk_token_id) / max(1, len(ids))
