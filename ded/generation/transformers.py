"""The transformers engine: own forward passes (`ded.generation.decoding`), so that every row has a
random stream of its own and entropies come for free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ded import models
from ded.generation.decoding import decode
from ded.generation.engines import Settings, Shard, Tables, Unfinished
from ded.options import Engine
from ded.problems import content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# bytes of a batch's keys and values: a step of a small model costs much the same for one row and
# for hundreds
ROOM = 2**28
FEWEST = 16  # rows of a batch, however large the model


def identity(model: str, engine: Engine) -> dict[str, Any]:
    """The model's content, and how rows are put together in batches."""
    content = {"model": models.fingerprint(model), "dtype": engine.dtype}
    return {"engine": "transformers", "batches": 2} | content


def draw(model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
    """One shard after the other: in a batch with others a row would differ in its last bits, and
    with it what a kill left to do."""
    for shard in shards:
        yield shard, draw_shard(model, shard, settings, engine.dtype)


def draw_shard(model: str, shard: Shard, settings: Settings, dtype: str) -> pd.DataFrame:
    """One shard: rows of like prompt length go together, ended rows leave the batch."""
    net, tok = models.load(model, dtype), models.load_tokenizer(model)
    rows, unfinished = shard.rows(), shard.unfinished()
    prompts = [models.prompt_ids(model, row.problem.prompt) + row.drawn for row in unfinished]
    noise = [_noise(row, settings) for row in unfinished]
    lengths = [len(ids) for ids in prompts]
    longest = max(lengths, default=0) + settings.max_tokens
    for group in groups(lengths, rows_that_fit(net, longest)):
        batch, streams = [prompts[i] for i in group], np.stack([noise[i] for i in group])
        completions = decode(net, batch, streams, settings.temperature, settings.top_p, tok)
        for i, completion in zip(group, completions, strict=True):
            rows[unfinished[i].place] = unfinished[i].continued(completion)
    table, opened = shard.table(rows), models.think_prefix(model)
    texts = [opened + text for text in tok.batch_decode(table["token_ids"].tolist())]
    return table.assign(text=texts, missing_mass=0.0)


def _noise(row: Unfinished, settings: Settings) -> np.ndarray:
    """Uniform numbers for the tokens of a row that are still to be drawn.

    Its stream is as long as the row may get, and a continued row goes on in it: what it draws is
    what it would have drawn.
    """
    key = content_hash(f"{settings.seed} {row.problem.id} {row.shard.index}")
    stream = np.random.Generator(np.random.Philox(key=key))
    return stream.random(settings.max_tokens)[len(row.drawn) :]


def rows_that_fit(net: PreTrainedModel, length: int) -> int:
    """How many rows of `length` tokens go together: as many as `ROOM` holds, `FEWEST` at least."""
    config = net.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * width * net.dtype.itemsize
    return max(FEWEST, ROOM // (token * length))


def groups(lengths: list[int], most: int) -> list[list[int]]:
    """Row numbers by prompt length, in as few batches of up to `most` as there can be, of one size
    (padded where lengths differ)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    parts = -(-len(order) // most)
    return [order[len(order) * k // parts : len(order) * (k + 1) // parts] for k in range(parts)]
