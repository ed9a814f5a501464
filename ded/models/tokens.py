"""Token ids of texts: what a template writes are control tokens, what somebody said are letters."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from ded.problems import texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LIKE_CONTROL = re.compile(r"<(?!/?think>)[^\s<>]+>|\[[^\s\[\]]+\]")


def encode(tok: PreTrainedTokenizerBase, text: str, said: str | None = None) -> list[int]:
    """The token ids of `text`, in whose part `said` (None: all of it) control tokens are no more
    than their letters: a question about <|im_end|> ends no turn.

    Control tokens are the special tokens of the tokenizer, and others in its vocabulary that look
    like those of a chat template; <think> is none.
    """
    said = text if said is None else said.strip()
    start, cuts = text.find(said), []
    if start >= 0 and _LIKE_CONTROL.search(said) and (control := _control(tok)):
        cuts = [start + match.start() + 1 for match in control.finditer(said)]
    parts = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    return [i for part in parts for i in tok(part, add_special_tokens=False)["input_ids"]]


def _control(tok: PreTrainedTokenizerBase) -> re.Pattern | None:
    added = tok.added_tokens_decoder.values()
    names = {token.content for token in added if token.special or texts.is_control(token.content)}
    names -= {texts.THINK, texts.CLOSE}
    return re.compile("|".join(map(re.escape, sorted(names, reverse=True)))) if names else None
