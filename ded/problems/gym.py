"""reasoning-gym tasks as problems: generated from a seed, split by content, scored by the library (`ded.grading.gym`)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ded.errors import SourceError
from ded.problems.prompts import render
from ded.problems.record import Problem, content_hash, draw
from ded.problems.spec import Spec

# Drawn from Python sets (seen in 0.1.25 over three hash seeds), so that every process would see questions of its own.
UNSTABLE = "codeio isomorphic_strings knight_swap list_functions polynomial_multiplication ransom_note word_ladder".split()
CHUNK = 500  # entries a data set: some tasks make all of them at once


def check(spec: Spec) -> None:
    """SourceError for an unknown task or setting, and for a task that cannot be used here."""
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    from ded.errors import near

    where = f"problem source 'reasoning_gym:{spec.name}'"
    if spec.name not in DATASETS:
        raise SourceError(f"{where}: reasoning-gym has no such task{near(spec.name, DATASETS)}")
    if spec.name in (*UNSTABLE, "composite"):
        raise SourceError(
            f"{where}: not usable here: its questions differ from process to process, or it is made of other tasks"
        )
    known = [
        name for name in DATASETS[spec.name][1].__dataclass_fields__ if name not in ("seed", "size")
    ]
    if wrong := [name for name in spec.options if name not in known]:
        raise SourceError(
            f"{where}: no setting {wrong[0]!r}; its settings: {', '.join(known)}{near(wrong[0], known)}"
        )
    entry = next(_entries(spec, "check"))
    if (
        entry["answer"] is not None
        and reasoning_gym.get_score_answer_fn(spec.name)(entry["answer"], entry) < 1.0
    ):
        raise SourceError(
            f"{where}: not usable here: its scorer refuses the task's own answer once that was stored as JSON"
        )


def load(spec: Spec, n: int, split: str, seed: str) -> list[Problem]:
    """n distinct problems of a task and a split; level is the entry's difficulty where that is a whole number, else 0."""
    check(spec)
    entries = _entries(spec, seed)

    def make(_) -> tuple[str, Problem]:
        entry = next(entries)
        question, level = entry["question"], entry["metadata"].get("difficulty")
        return question, Problem(
            f"{spec.name}:{content_hash(question):016x}",
            spec.name,
            level if type(level) is int else 0,
            render("gym", question),
            entry["answer"] or "",
            "gym",
            {"task": spec.name, "entry": entry, "template": "gym"},
        )

    try:
        return draw(make, n, split, seed)
    except ValueError as error:
        raise SourceError(f"problem source 'reasoning_gym:{spec.name}': {error}") from None


def _entries(spec: Spec, seed: str) -> Iterator[dict]:
    """Endless entries, as JSON has them: the scorer sees them so too."""
    import reasoning_gym

    for chunk in range(1_000_000):
        start = content_hash(f"{seed} {spec.name} {chunk}") % 2**32
        try:
            made = reasoning_gym.create_dataset(spec.name, seed=start, size=CHUNK, **spec.options)
        except (AssertionError, TypeError, ValueError) as error:
            raise SourceError(
                f"problem source 'reasoning_gym:{spec.name}': settings {spec.options} are refused: {error}"
            ) from None
        yield from (json.loads(json.dumps(made[i], default=str)) for i in range(CHUNK))
