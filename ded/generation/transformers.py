"""The transformers engine: own forward passes, so that every row has a random stream of its own and entropies come for free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ded import models
from ded.problems import content_hash

if TYPE_CHECKING:
    import pandas as pd

    from ded.generation.engines import Settings, Shard
    from ded.options import Engine

ROOM = (
    2**28
)  # bytes of a batch's keys and values: what a step costs is much the same for one row of a small model and for hundreds
FEWEST = 16  # rows of a batch, however large the model


def identity(model: str, engine: Engine) -> dict:
    return {
        "engine": "transformers",
        "batches": 2,
        "model": models.fingerprint(model),
        "dtype": engine.dtype,
    }


def draw(
    model: str, shards: list[Shard], settings: Settings, engine: Engine
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """One shard after the other: in a batch with others a row would differ in its last bits, and with it what a kill left to do."""
    for shard in shards:
        yield shard, _draw(model, shard, settings, engine.dtype)


def _draw(model: str, shard: Shard, settings: Settings, dtype: str) -> pd.DataFrame:
    """One shard: rows of like prompt length go together, finished rows leave the batch."""
    import numpy as np
    import pandas as pd

    net, tok = models.load(model, dtype), models.load_tokenizer(model)
    problems, longest = shard.problems, settings.max_tokens
    rows: list = (
        [None] * len(problems) if shard.started is None else shard.started.to_dict("records")
    )
    todo = [i for i, row in enumerate(rows) if row is None or row["finish_reason"] == "length"]
    drawn = [list(rows[i]["token_ids"]) if rows[i] else [] for i in todo]
    prompts = [models.render(model, problems[i].prompt) for i in todo]
    ids = [
        list(i) + d
        for i, d in zip(
            tok(prompts, add_special_tokens=False)["input_ids"] if prompts else [], drawn
        )
    ]
    # the stream of a row is as long as the row may get, and a continued row goes on in it: what it draws is what it would have drawn
    streams = [
        np.random.Generator(
            np.random.Philox(key=content_hash(f"{settings.seed} {problems[i].id} {shard.index}"))
        )
        for i in todo
    ]
    noise = [s.random(longest)[len(d) :] for s, d in zip(streams, drawn)]
    lengths = [len(i) for i in ids]
    for group in _groups(lengths, _rows(net, max(lengths, default=0) + longest)):
        found = decode(
            net,
            [ids[i] for i in group],
            np.stack([noise[i] for i in group]),
            settings.temperature,
            settings.top_p,
            tok,
        )
        for i, row in zip(group, found):
            before = rows[todo[i]] or {"n_tokens": 0, "entropy_sum": 0.0}
            rows[todo[i]] = row | {
                "token_ids": drawn[i] + row["token_ids"],
                "n_tokens": before["n_tokens"] + row["n_tokens"],
                "entropy_sum": round(before["entropy_sum"] + row["entropy_sum"], 6),
            }
    opened = models.think_prefix(model)
    texts = [opened + text for text in tok.batch_decode([r["token_ids"] for r in rows])]
    return pd.DataFrame(
        [
            {
                "problem_id": p.id,
                "sample_index": shard.index,
                "prompt": p.prompt,
                "text": text,
                **{k: row[k] for k in ("token_ids", "n_tokens", "finish_reason", "entropy_sum")},
                "missing_mass": 0.0,
            }
            for p, text, row in zip(problems, texts, rows)
        ]
    )


def _rows(net, length: int) -> int:
    """How many rows of `length` tokens go together."""
    c = net.config.get_text_config()
    heads, width = (
        getattr(c, "num_key_value_heads", None) or c.num_attention_heads,
        getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
    )
    return max(
        FEWEST, ROOM // (2 * c.num_hidden_layers * heads * width * length * net.dtype.itemsize)
    )


def _groups(lengths: list[int], most: int) -> list[list[int]]:
    """Row numbers by prompt length, in as few batches of up to `most` as there can be, of one size (padded where lengths differ)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    parts = -(-len(order) // most)
    return [order[len(order) * k // parts : len(order) * (k + 1) // parts] for k in range(parts)]


def decode(net, ids: list[list[int]], noise, temperature: float, top_p: float, tok) -> list[dict]:
    """Completions of prompts `ids` (lists of token ids): [{token_ids, n_tokens, finish_reason, entropy_sum}, ...].

    noise: uniform numbers in [0, 1), shape (rows, most tokens); token t of a row is the inverse of its distribution function
    at noise[row, t], so a row's tokens do not depend on the rows beside it. Prompts of unequal length are left-padded.
    """
    import torch

    stops = torch.tensor(sorted({tok.eos_token_id, *_as_list(net.generation_config.eos_token_id)}))
    n, most, longest, device = len(ids), noise.shape[1], max(map(len, ids)), net.device
    padded = any(len(i) < longest for i in ids)
    tokens = torch.tensor([[tok.pad_token_id] * (longest - len(i)) + i for i in ids], device=device)
    mask = (
        torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i in ids], device=device)
        if padded
        else None
    )
    noise = torch.as_tensor(noise, dtype=torch.float32).clamp(
        max=1 - 2**-24
    )  # rounding must not make it 1
    drawn, entropy, lengths = (
        torch.zeros(n, most, dtype=torch.long),
        torch.zeros(n, dtype=torch.double),
        torch.zeros(n, dtype=torch.long),
    )
    stopped, batch = (
        torch.zeros(n, dtype=torch.bool),
        torch.arange(n),
    )  # batch: the rows that are decoded, some of them stopped
    cache = _cache(net, longest + most)
    with torch.inference_mode():
        for t in range(most):
            extra = (
                {"attention_mask": mask, "position_ids": _positions(mask, tokens.shape[1])}
                if padded
                else {}
            )
            logits = (
                net(
                    input_ids=tokens,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                    **extra,
                )
                .logits[:, -1]
                .float()
                .cpu()
            )
            logs = torch.log_softmax(logits, dim=-1)
            alive = ~stopped[batch]
            entropy[batch] -= torch.where(
                alive, (logs.exp() * logs).nan_to_num(0.0).sum(-1), 0.0
            ).double()
            chosen = _choose(logits, noise[batch, t], temperature, top_p)
            drawn[batch, t] = chosen
            lengths[batch] += alive
            stopped[batch] |= torch.isin(chosen, stops)
            left = (~stopped[batch]).nonzero().squeeze(-1)
            if not len(left):
                break
            if len(left) <= 0.8 * len(
                batch
            ):  # not at once: to leave costs the others a copy of their keys and values
                batch, chosen = batch[left], chosen[left]
                cache.batch_select_indices(left.to(device))
                mask = mask[left.to(device)] if padded else None
            tokens = chosen[:, None].to(device)
            if padded:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return [
        {
            "token_ids": row[: length - stop].tolist(),
            "n_tokens": length,
            "finish_reason": "stop" if stop else "length",
            "entropy_sum": round(h, 6),
        }
        for row, length, stop, h in zip(drawn, lengths.tolist(), stopped.tolist(), entropy.tolist())
    ]


def _choose(logits, uniform, temperature: float, top_p: float):
    """Next tokens (rows,) by inverse transform of each row's distribution at `uniform`; greedy at temperature 0."""
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    probs = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1:
        ordered, index = probs.sort(dim=-1, descending=True, stable=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = (
            0.0  # keep the smallest set that reaches top_p
        )
        probs = torch.zeros_like(probs).scatter(-1, index, ordered)
    total = probs.cumsum(-1)
    return (
        torch.searchsorted(total, uniform.double()[:, None] * total[:, -1:], right=True)
        .squeeze(-1)
        .clamp(max=logits.shape[-1] - 1)
    )


def _positions(mask, width: int):
    return (mask.cumsum(-1) - 1).clamp(min=0)[:, -width:]


def _as_list(value) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _cache(net, length: int):
    """A key-value cache whose buffers are allocated once: transformers' own grows by copying everything at each token."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class Layer(DynamicLayer):
        def update(self, key_states, value_states, *args, **kwargs):
            new = key_states.shape[-2]
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                rows, heads, _, width = key_states.shape
                self.room = key_states.new_empty(2, rows, heads, length, width)
                self.filled = 0
            self.room[0, :, :, self.filled : self.filled + new] = key_states
            self.room[1, :, :, self.filled : self.filled + new] = value_states
            self.filled += new
            self.keys, self.values = (
                self.room[0, :, :, : self.filled],
                self.room[1, :, :, : self.filled],
            )
            return self.keys, self.values

        def batch_select_indices(self, indices):
            room = self.room.new_empty(2, len(indices), *self.room.shape[2:])
            room[:, :, :, : self.filled] = self.room[:, indices, :, : self.filled]
            self.room = room
            self.keys, self.values = (
                self.room[0, :, :, : self.filled],
                self.room[1, :, :, : self.filled],
            )

    cache = DynamicCache(config=net.config)
    if all(
        type(layer) is DynamicLayer for layer in cache.layers
    ):  # sliding or other layers keep their own
        cache.layers = [Layer() for _ in cache.layers]
    return cache
