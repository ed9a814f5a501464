"""A language model as the last resort: asked only about answers that the rules leave *unparsed*,
and off by default.

A judge is any callable from a prompt to a reply; `RemoteJudge` is one behind an OpenAI-compatible
server. What it says is recorded as its own ("judge <name>: ..."), so that its share of every number
can be seen and taken out. A judge that is down, or answers nonsense, leaves the row *unparsed*.
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ded.grading.decision import Decision, Pair
from ded.models.endpoint import Endpoint
from ded.options import Engine
from ded.problems.record import Problem

Judge = Callable[[str], str]
PATIENCE = 3  # failures in a row, after which nobody is asked any more


@dataclass(frozen=True)
class RemoteJudge:
    """A judge at `base_url` (such as "http://localhost:8000/v1"), asked with the retries and the
    care for the key of `ded.models.endpoint`.

    name: of the model. key_variable: the environment variable that holds the key; "" sends none.
    timeout: seconds a try. Asking it raises EngineError, ModelError.
    """

    name: str
    base_url: str
    key_variable: str = ""
    timeout: float = 60.0

    def __call__(self, prompt: str) -> str:
        engine = Engine(base_url=self.base_url, api_key_env=self.key_variable, timeout=self.timeout)
        messages = [{"role": "user", "content": prompt}]
        body = {"temperature": 0, "max_tokens": 1000, "messages": messages}
        with closing(Endpoint(f"openai:{self.name}", engine)) as server:
            return server.post("chat/completions", body, _content)


def _content(reply: dict) -> str:
    return reply["choices"][0]["message"]["content"] or ""


def decide(ask: Judge, problem: Problem, answer: str) -> Decision:
    """The judge's decision on one answer; the verdict is *unparsed* where it is down or unclear."""
    name = getattr(ask, "name", "judge")
    template = Path(__file__).with_name("judge.txt").read_text(encoding="utf-8").strip()
    prompt = template.format(problem=problem, answer=answer[-4000:])
    try:
        reply = ask(prompt)
    except Exception as failure:  # any client's errors
        return Decision("unparsed", f"judge {name} is down: {type(failure).__name__}")
    objects = []
    for text in re.findall(r"\{[^{}]*\}", str(reply).rpartition("</think>")[2]):
        with suppress(ValueError):
            objects.append(json.loads(text))
    if len(objects) != 1 or objects[0].get("verdict") not in ("correct", "wrong"):
        return Decision("unparsed", f"judge {name} gave no verdict")
    reason = str(objects[0].get("reason", ""))[:300]
    return Decision(objects[0]["verdict"], f"judge {name}: {reason}")


def decide_all(pairs: list[Pair], ask: Judge, workers: int = 1) -> list[Decision]:
    """The judge's decisions on (problem, answer) pairs, in order, asked about `workers` of them at
    a time.
    """
    failures = 0

    def decide_next(pair: Pair) -> Decision:
        nonlocal failures
        if failures >= PATIENCE:
            name = getattr(ask, "name", "judge")
            return Decision("unparsed", f"judge {name} is down: not asked")
        decision = decide(ask, *pair)
        is_down = decision.verdict == "unparsed" and " is down: " in decision.reason
        failures = failures + 1 if is_down else 0
        return decision

    with ThreadPoolExecutor(max(1, workers)) as executor:
        return list(executor.map(decide_next, pairs))
