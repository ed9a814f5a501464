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
    """The tokens that close a block, [] where none is closed by force. EngineError where they leave
    none for an answer."""
    engine = within(engine, max_tokens)
    if not engine.thinking_budget or models.parse(model).kind in models.WITHOUT_WEIGHTS:
        return []
    tok = models.load_tokenizer(model)
    ids = list(tok(engine.thinking_end, add_special_tokens=False)["input_ids"])
    if engine.thinking_budget + len(ids) >= max_tokens:
        spent = f"thinking_budget {engine.thinking_budget} and the {len(ids)} tokens that end it"
        raise EngineError(f"engine.{spent} leave no answer of max_tokens {max_tokens}; lower it")
    return ids


def closed(drawn: pd.DataFrame, end: list[int]) -> pd.DataFrame:
    """Rows that were drawn up to the budget, with `end` behind those that still think."""
    open_ = drawn["text"].map(lambda text: texts.split(text).answer is None)
    forced = (drawn["finish_reason"] == "length") & open_
    added = zip(drawn["token_ids"], forced, strict=True)
    token_ids = [[*ids, *end] if thinks else list(ids) for ids, thinks in added]
    n_tokens = drawn["n_tokens"] + forced * len(end)
    return drawn.assign(forced=forced, token_ids=token_ids, n_tokens=n_tokens)
