"""A thinking budget: after `engine.thinking_budget` tokens a think block that is still open is
closed by force, and the answer is sampled from there (s1's budget forcing, arXiv 2501.19393).

Engines know nothing of it: rows are drawn up to the budget, `engine.thinking_end` is put behind
those that still think, and all go on as any rows that a lower max_tokens cut off.
"""

import pandas as pd

from ded import models
from ded.errors import EngineError
from ded.options import Engine
from ded.problems import texts


def within(engine: Engine, max_tokens: int) -> Engine:
    """The engine, without a budget that `max_tokens` leaves no room to exceed."""
    unlimited = {"thinking_budget": 0, "thinking_end": Engine().thinking_end}
    return engine if engine.thinking_budget < max_tokens else engine.model_copy(update=unlimited)


def end_of(model: str, engine: Engine, max_tokens: int) -> list[int]:
    """The tokens that close a block. EngineError where they leave none for an answer, or the
    model's tokenizer does not know the tag."""
    tok = models.load_tokenizer(model)
    ids = list(tok(engine.thinking_end, add_special_tokens=False)["input_ids"])
    if texts.CLOSE not in tok.decode(ids):
        fault = f"engine.thinking_end {engine.thinking_end!r} holds no {texts.CLOSE} that it knows"
        raise EngineError(f"model {model!r}: {fault}")
    if engine.thinking_budget + len(ids) >= max_tokens:
        spent = f"thinking_budget {engine.thinking_budget} and the {len(ids)} tokens that end it"
        raise EngineError(f"engine.{spent} leave no answer of max_tokens {max_tokens}; lower it")
    return ids


def closed(drawn: pd.DataFrame, end: list[int]) -> pd.DataFrame:
    """Rows that were drawn up to the budget, with `end` behind those that still think."""
    thinks = [
        finish == "length" and text.lstrip().startswith(texts.THINK) and texts.CLOSE not in text
        for finish, text in zip(drawn["finish_reason"], drawn["text"], strict=True)
    ]
    added = [end if open_ else [] for open_ in thinks]
    return drawn.assign(
        forced=thinks,
        token_ids=[[*ids, *more] for ids, more in zip(drawn["token_ids"], added, strict=True)],
        n_tokens=drawn["n_tokens"] + [len(more) for more in added],
    )
