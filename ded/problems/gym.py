"""reasoning-gym tasks as problems: made from a seed, split by content, scored by the library."""

import json
import random
from collections.abc import Iterator
from itertools import count

from ded.errors import near, no_such
from ded.problems.prompts import worded
from ded.problems.record import Candidate, Problem, content_hash, draw
from ded.problems.source import Source

# Of 0.1.25. Drawn from Python sets (seen over three hash seeds), so that every process would see
# questions of its own; scorers that refuse their own answers, once stored as JSON; others' tasks.
UNUSABLE = (
    "codeio isomorphic_strings knight_swap list_functions polynomial_multiplication ransom_note "
    "word_ladder arc_agi rearc composite"
)
CHUNK = 500  # entries a data set: some tasks make all of them at once


class ReasoningGym(Source):
    """A task of reasoning-gym with its settings: `reasoning_gym:chain_sum?{min_terms: 2}`."""

    form = "reasoning_gym:<task>[?{setting: value}]"
    procedural = True
    licence = "made by reasoning-gym, Apache-2.0"

    def check(self) -> None:
        """SourceError for an unknown task or setting, and for a task that cannot be used here."""
        from reasoning_gym.factory import DATASETS

        if self.name not in DATASETS:
            raise self.error(f"reasoning-gym has no such task{near(self.name, DATASETS)}")
        if self.name in UNUSABLE.split():
            raise self.error("cannot be used here (docs/sources.md says why)")
        settings = set(DATASETS[self.name][1].__dataclass_fields__) - {"seed", "size"}
        for name in sorted(self.options.keys() - settings):
            raise self.error(no_such("setting", name, sorted(settings)))
        next(self._entries("check"))

    def load(self, n: int, split: str, seed: str) -> list[Problem]:
        """n distinct problems; level is the entry's difficulty where that is a whole number."""
        self.check()
        entries = self._entries(seed)

        def make(_: random.Random) -> Candidate:
            entry = next(entries)
            question, level = entry["question"], entry["metadata"].get("difficulty")
            level = level if type(level) is int else 0
            prompt, meta = worded("gym", question, {"task": self.name, "entry": entry})
            name, answer = f"{self.name}:{content_hash(question):016x}", entry["answer"] or ""
            return question, lambda: Problem(name, self.name, level, prompt, answer, "gym", meta)

        return draw(make, n, split, seed)

    def _entries(self, seed: str) -> Iterator[dict]:
        """Endless entries, as JSON has them: the scorer sees them so too."""
        from reasoning_gym import create_dataset

        for chunk in count():
            start = content_hash(f"{seed} {self.name} {chunk}") % 2**32
            try:
                made = create_dataset(self.name, seed=start, size=CHUNK, **self.options)
            except (AssertionError, TypeError, ValueError) as error:
                raise self.error(f"settings {self.options} are refused: {error}") from None
            yield from (json.loads(json.dumps(made[i], default=str)) for i in range(CHUNK))
