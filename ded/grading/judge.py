"""A language model as the last resort: asked only about answers that the rules leave *unparsed*,
and off by default.

What it says is recorded as its own (rule "judge", reason "judge <name>: ..."), so that its share of
every number can be seen and taken out. One that answers nonsense leaves the row *unparsed*.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ded import generation
from ded.errors import ModelError
from ded.grading.decision import Decision, Pair
from ded.models.spec import parse
from ded.options import Engine, Grading
from ded.problems import texts
from ded.problems.record import Problem


@dataclass(frozen=True)
class ModelJudge:
    """Any model that can be sampled as a judge, greedily and through its engine: replies are
    stored, so that grading again asks for nothing twice.

    name: its model spec. A judge that cannot be asked raises EngineError or ModelError: its failure
    is not the model's that is graded, and the next run goes on from there.
    """

    name: str
    engine: Engine = Engine()
    max_tokens: int = 1024  # of a reply, with what it thinks before

    def replies(self, prompts: list[str]) -> list[str]:
        """Its reply to each prompt."""
        asked = [Problem.made("judge", 0, prompt, "") for prompt in prompts]
        distinct = list({problem.id: problem for problem in asked}.values())
        table = generation.sample(
            self.name,
            distinct,
            max_tokens=self.max_tokens,
            temperature=0.0,
            engine=self.engine,
        )
        replies = dict(zip(table["problem_id"], table["text"], strict=True))
        return [replies[problem.id] for problem in asked]


def of(options: Grading) -> ModelJudge | None:
    """The judge that the parameter names, if any; ModelError for one that answers nothing new."""
    if options.judge and parse(options.judge).kind == "recorded":
        raise ModelError(f"judge {options.judge!r}: recorded traces answer nothing new")
    chosen = ModelJudge(options.judge, options.judge_engine, options.judge_max_tokens)
    return chosen if options.judge else None


def prompt_of(problem: Problem, answer: str) -> str:
    """What a judge is asked about an answer."""
    template = Path(__file__).with_name("judge.txt").read_text(encoding="utf-8").strip()
    return template.format(problem=problem, answer=answer[-4000:])


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


def decide_all(pairs: list[Pair], judge: ModelJudge) -> list[Decision]:
    """The judge's decisions on (problem, answer) pairs, in order."""
    replies = judge.replies([prompt_of(*pair) for pair in pairs])
    return [read(judge.name, reply) for reply in replies]
