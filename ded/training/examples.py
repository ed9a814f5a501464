"""What a student is trained on: token ids and labels of each trajectory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from ded import models
from ded.errors import TrainingError
from ded.training.settings import Example

if TYPE_CHECKING:
    import pandas as pd


def build_examples(
    student: str, corpus: pd.DataFrame, max_length: int, truncate: bool = False
) -> list[Example]:
    """One {input_ids, labels} for each corpus row (columns prompt and text); labels are -100 on the
    prompt.

    Raises TrainingError if a think block is lost in tokenisation, or a sequence is longer than
    `max_length` tokens or than the model's context; with `truncate` its end is cut off instead, and
    only a prompt that leaves nothing to learn is an error.
    """
    context = _context(student)
    limit, which, mend = max_length, f"max_length={max_length}", "drop it or raise max_length"
    if context and context < max_length:
        limit, which, mend = context, f"the model's context of {context}", "drop it"
    examples = []
    for row, (prompt, completion) in enumerate(_tokenised(student, corpus)):
        ids = prompt + completion
        if len(ids) > limit and not truncate:
            raise TrainingError(
                f"row {row}: {len(ids)} tokens, over {which}; {mend}, "
                f"or set trainer.allow_truncation"
            )
        if len(prompt) >= limit:
            raise TrainingError(
                f"row {row}: {len(prompt)} tokens in the prompt alone, over {which}; {mend}"
            )
        labels = [-100] * len(prompt) + completion
        examples.append({"input_ids": ids[:limit], "labels": labels[:limit]})
    return examples


def show_example(student: str, corpus: pd.DataFrame, row: int = 0) -> str:
    """One row as the student is trained on it, decoded from its tokens; the loss is on »this«."""
    if corpus.empty:
        return "no example: no trajectory passed the filters"
    prompt, completion = next(_tokenised(student, corpus.iloc[[row]]))
    tok = models.load_tokenizer(student)
    return f"{tok.decode(prompt)}»{tok.decode(completion)}«"


def length_histogram(
    student: str, corpus: pd.DataFrame, max_length: int, bins: int = 8
) -> pd.DataFrame:
    """How long the training sequences are: tokens (a range, prompt included), examples, share; what
    is over max_length comes last."""
    import pandas as pd

    lengths = [len(prompt) + len(completion) for prompt, completion in _tokenised(student, corpus)]
    edges = sorted({max_length * i // bins for i in range(bins + 1)})
    labels = [f"{low + 1}-{high}" for low, high in pairwise(edges)] + [f"over {max_length}"]
    ranges = pd.Series(pd.cut(lengths, [*edges, math.inf], labels=labels), name="tokens")
    table = (
        ranges.astype(str).value_counts().reindex(labels, fill_value=0).reset_index(name="examples")
    )
    return table.assign(share=(table["examples"] / max(1, len(lengths))).round(3))


def _context(student: str) -> int | None:
    """The most tokens that the model takes; None where its configuration is silent."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        models.locate(student), revision=models.parse(student).revision
    ).get_text_config()
    return getattr(config, "max_position_embeddings", None)


def _tokenised(student: str, corpus: pd.DataFrame) -> Iterator[tuple[list[int], list[int]]]:
    """Yields each row's token ids: rendered prompt, completion with its end token."""
    tok = models.load_tokenizer(student)
    for row, (prompt, text) in enumerate(zip(corpus["prompt"], corpus["text"], strict=True)):
        rendered = models.render(student, prompt)
        if rendered.rstrip().endswith("<think>"):  # the template opens the think block itself
            text = re.sub(r"^\s*<think>\n?", "", text)
        completion = tok(text, add_special_tokens=False)["input_ids"] + [tok.eos_token_id]
        if tok.decode(completion).count("<think>") != text.count("<think>"):
            raise TrainingError(
                f"row {row}: <think> does not survive the tokenizer of {student!r}; "
                f"add it to the vocabulary"
            )
        yield tok(rendered, add_special_tokens=False)["input_ids"], completion
