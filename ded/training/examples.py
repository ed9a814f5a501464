"""What a student is trained on: token ids and labels of each trajectory, the loss on the completion only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ded import models
from ded.errors import TrainingError

if TYPE_CHECKING:
    import pandas as pd


def build_examples(
    student: str, corpus: pd.DataFrame, max_length: int, truncate: bool = False
) -> list[dict]:
    """[{input_ids, labels}] for the corpus rows (columns prompt and text); labels are -100 on the prompt.

    Raises TrainingError if a think block is lost in tokenisation, or a sequence is longer than `max_length` tokens or than
    the model's context; with `truncate` its end is cut off instead, and only a prompt that leaves nothing to learn is an error.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        models.locate(student), revision=models.parse(student)[2]
    ).get_text_config()
    limit = min(max_length, getattr(config, "max_position_embeddings", None) or max_length)
    examples = []
    for i, (before, after) in enumerate(_tokenised(student, corpus)):
        n = len(before) + len(after)
        if n > limit and not (truncate and len(before) < limit):
            what, mend = (
                (f"{len(before)} tokens in the prompt alone", "")
                if truncate
                else (f"{n} tokens", ", or set trainer.allow_truncation")
            )
            whose, more = (
                (f"max_length={limit}", " or raise max_length")
                if limit == max_length
                else (f"the model's context of {limit}", "")
            )
            raise TrainingError(f"row {i}: {what}, over {whose}; drop it{more}{mend}")
        examples.append(
            {
                "input_ids": (before + after)[:limit],
                "labels": ([-100] * len(before) + after)[:limit],
            }
        )
    return examples


def _tokenised(student: str, corpus: pd.DataFrame):
    """Yields the token ids (prompt as rendered, completion with its end token) of each row."""
    tok = models.load_tokenizer(student)
    for i, (prompt, text) in enumerate(zip(corpus["prompt"], corpus["text"])):
        rendered = models.render(student, prompt)
        if rendered.rstrip().endswith(
            "<think>"
        ):  # this template opens the think block itself: not a second time
            text = re.sub(r"^\s*<think>\n?", "", text)
        after = tok(text, add_special_tokens=False)["input_ids"] + [tok.eos_token_id]
        if tok.decode(after).count("<think>") != text.count("<think>"):
            raise TrainingError(
                f"row {i}: <think> does not survive the tokenizer of {student!r}; add it to the vocabulary"
            )
        yield tok(rendered, add_special_tokens=False)["input_ids"], after


def show_example(student: str, corpus: pd.DataFrame, row: int = 0) -> str:
    """One row as the student is trained on it, decoded from its tokens: what the loss is on stands between » and «."""
    if corpus.empty:
        return "no example: no trajectory passed the filters"
    before, after = next(_tokenised(student, corpus.iloc[[row]]))
    tok = models.load_tokenizer(student)
    return f"{tok.decode(before)}»{tok.decode(after)}«"


def length_histogram(
    student: str, corpus: pd.DataFrame, max_length: int, bins: int = 8
) -> pd.DataFrame:
    """How long the training sequences are: tokens (a range, prompt included), examples, share; what is over max_length comes last."""
    import pandas as pd

    lengths = pd.Series([len(before) + len(after) for before, after in _tokenised(student, corpus)])
    edges = [max_length * i // bins for i in range(bins + 1)]
    rows = [
        (f"{low + 1}-{high}", int(lengths.between(low + 1, high).sum()))
        for low, high in zip(edges, edges[1:])
    ]
    table = pd.DataFrame(
        [*rows, (f"over {max_length}", int((lengths > max_length).sum()))],
        columns=["tokens", "examples"],
    )
    return table.assign(share=(table["examples"] / max(1, len(lengths))).round(3))
