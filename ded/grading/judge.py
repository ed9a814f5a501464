"""A language model as the last resort: asked only about answers that the rules leave *unparsed*,
and off by default.

What it says is recorded as its own (rule "judge", reason "judge <name>: ..."), so that its share of
every number can be seen and taken out. One that answers nonsense leaves the row *unparsed*.
"""

import json
import re
from contextlib import suppress
from pathlib import Path

from ded import generation
from ded.errors import ModelError
from ded.grading.decision import Decision, Pair
from ded.models.spec import parse
from ded.options import Grading
from ded.problems import texts
from ded.problems.record import Problem


def check(options: Grading) -> None:
    """ModelError for a judge that answers nothing new."""
    if options.judge and parse(options.judge).kind == "recorded":
        raise ModelError(f"judge {options.judge!r}: recorded traces answer nothing new")


def read(name: str, reply: object) -> Decision:
    """The decision in a judge's reply; *unparsed* where it is unclear."""
    objects = []
    for text in re.findall(r"\{[^{}]*\}", texts.split(str(reply)).answer or ""):
        with suppress(ValueError):
            objects.append(json.loads(text))
    if len(objects) != 1 or objects[0].get("verdict") not in ("correct", "wrong"):
        return Decision("unparsed", f"judge {name} gave no verdict")
    reason = str(objects[0].get("reason", ""))[:300]
    return Decision(objects[0]["verdict"], f"judge {name}: {reason}")


def decide_all(pairs: list[Pair], options: Grading) -> list[Decision]:
    """The judge's decisions on (problem, answer) pairs, in order: sampled greedily and through its
    engine, so that replies are stored, and grading again asks for nothing twice.

    EngineError or ModelError for one that cannot be asked: its failure is not the model's that is
    graded, and the next run goes on from there.
    """
    check(options)
    template = Path(__file__).with_name("judge.txt").read_text(encoding="utf-8").strip()
    prompts = [template.format(problem=about, answer=answer[-4000:]) for about, answer in pairs]
    asked = [Problem.made("judge", 0, prompt, "") for prompt in prompts]
    distinct = list({problem.id: problem for problem in asked}.values())
    longest, engine = options.judge_max_tokens, options.judge_engine
    table = generation.sample(
        options.judge, distinct, max_tokens=longest, temperature=0.0, engine=engine
    )
    replies = dict(zip(table["problem_id"], table["text"], strict=True))
    return [read(options.judge, replies[problem.id]) for problem in asked]
