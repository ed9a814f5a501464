"""Samples trajectories: n for each problem, from one model, with their token ids, finish reasons and token entropies.

Determinism: every trajectory has a random stream of its own, keyed by (seed, problem, sample index), and the shards in which
work is done and stored are fixed by the request. So more samples add to those that are there, an interrupted run goes on where
it stopped, and what was drawn never depends on what was drawn before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ded import models, store
from ded.problems import Problem, content_hash

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
SHARD = 256  # problems a shard: the most that a kill repeats, and the batch of the transformers engine


def sample(
    model: str,
    problems: list[Problem],
    n: int = 1,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    engine: str = "transformers",
) -> pd.DataFrame:
    """n trajectories a problem (paper section "smoke test" and "diversity": several trajectories a question).

    Returns one row a trajectory, sorted by (problem, sample_index): problem_id, model, sample_index, prompt, text, token_ids
    (completion, without the end token), n_tokens (end token included), finish_reason ("stop" or "length"), engine,
    entropy_sum (nats, summed over the n_tokens next-token distributions at temperature 1). temperature 0 is greedy.
    """
    import pandas as pd

    if engine != "transformers":
        raise ValueError(f"engine {engine!r} is not known; known: transformers")
    settings = {"max_tokens": max_tokens, "temperature": float(temperature), "top_p": float(top_p), "seed": seed, "engine": engine}
    weights = models.fingerprint(model)
    shards = []
    for start in range(0, len(problems), SHARD):
        part = problems[start : start + SHARD]
        prompts = [[p.id, p.prompt] for p in part]
        for index in range(n):
            key = store.key("generation", VERSION, model=weights, prompts=prompts, sample_index=index, **settings)
            shards.append(store.table(key, lambda: _transformers(model, part, index, max_tokens, temperature, top_p, seed)))
    table = pd.concat(shards, ignore_index=True)
    order = {p.id: i for i, p in enumerate(problems)}
    table = table.assign(model=model, engine=engine, _order=table.problem_id.map(order))
    return table.sort_values(["_order", "sample_index"], kind="stable", ignore_index=True).drop(columns="_order")


def _transformers(model: str, problems: list[Problem], index: int, max_tokens: int, temperature: float, top_p: float, seed: int):
    """One shard by transformers' own forward passes: rows of equal prompt length go together, finished rows leave the batch."""
    import numpy as np
    import pandas as pd

    net, tok = models.load(model), models.load_tokenizer(model)
    ids = [tok(models.render(model, p.prompt), add_special_tokens=False)["input_ids"] for p in problems]
    noise = np.stack([np.random.Generator(np.random.Philox(key=content_hash(f"{seed} {p.id} {index}"))).random(max_tokens) for p in problems])
    rows: list = [None] * len(problems)
    for group in _groups([len(i) for i in ids]):
        for i, found in zip(group, decode(net, [ids[i] for i in group], noise[group], max_tokens, temperature, top_p, tok)):
            rows[i] = found
    texts = tok.batch_decode([r["token_ids"] for r in rows])
    return pd.DataFrame([
        {"problem_id": p.id, "sample_index": index, "prompt": p.prompt, "text": text, **row} for p, text, row in zip(problems, texts, rows)
    ])  # fmt: skip


def _groups(lengths: list[int], smallest: int = 16) -> list[list[int]]:
    """Row numbers grouped by prompt length; groups under `smallest` rows are joined with the next longer ones (and padded)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        if groups and (lengths[groups[-1][-1]] == lengths[i] or len(groups[-1]) < smallest):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def decode(net, ids: list[list[int]], noise, max_tokens: int, temperature: float, top_p: float, tok) -> list[dict]:
    """Completions of prompts `ids` (lists of token ids): [{token_ids, n_tokens, finish_reason, entropy_sum}, ...].

    noise: uniform numbers in [0, 1), shape (rows, max_tokens); token t of a row is the inverse of its distribution function
    at noise[row, t], so a row's tokens do not depend on the rows beside it. Prompts of unequal length are left-padded.
    """
    import torch

    stops = {tok.eos_token_id, *_as_list(net.generation_config.eos_token_id)}
    longest = max(map(len, ids))
    device = net.device
    padded = any(len(i) < longest for i in ids)
    tokens = torch.tensor([[tok.pad_token_id] * (longest - len(i)) + i for i in ids], device=device)
    mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i in ids], device=device) if padded else None
    alive = torch.arange(len(ids))
    noise = torch.as_tensor(noise, dtype=torch.float32).clamp(max=1 - 2**-24)  # rounding must not make it 1
    drawn: list[list[int]] = [[] for _ in ids]
    entropy, finish = [0.0] * len(ids), ["length"] * len(ids)
    cache = _cache(net, longest + max_tokens)
    stop_ids = torch.tensor(sorted(stops))
    with torch.inference_mode():
        for t in range(max_tokens):
            extra = {"attention_mask": mask, "position_ids": _positions(mask, tokens.shape[1])} if padded else {}
            logits = net(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, **extra).logits[:, -1].float().cpu()
            logs = torch.log_softmax(logits, dim=-1)
            step_entropy = -(logs.exp() * logs).nan_to_num(0.0).sum(-1)
            chosen = _choose(logits, noise[alive, t], temperature, top_p)
            done = torch.isin(chosen, stop_ids)
            for row, token, h, end in zip(alive.tolist(), chosen.tolist(), step_entropy.tolist(), done.tolist()):
                entropy[row] += h
                if end:
                    finish[row] = "stop"
                else:
                    drawn[row].append(token)
            if done.any():
                keep = (~done).nonzero().squeeze(-1)
                if not len(keep):
                    break
                alive, chosen = alive[keep], chosen[keep]
                cache.batch_select_indices(keep.to(device))
                mask = mask[keep.to(device)] if padded else None
            tokens = chosen[:, None].to(device)
            if padded:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return [
        {"token_ids": d, "n_tokens": len(d) + (f == "stop"), "finish_reason": f, "entropy_sum": round(e, 6)} for d, f, e in zip(drawn, finish, entropy)
    ]  # fmt: skip


def _choose(logits, uniform, temperature: float, top_p: float):
    """Next tokens (rows,) by inverse transform of each row's distribution at `uniform`; greedy at temperature 0."""
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    probs = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1:
        ordered, index = probs.sort(dim=-1, descending=True, stable=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0.0  # keep the smallest set that reaches top_p
        probs = torch.zeros_like(probs).scatter(-1, index, ordered)
    total = probs.cumsum(-1)
    return torch.searchsorted(total, uniform.double()[:, None] * total[:, -1:], right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


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
            self.keys, self.values = self.room[0, :, :, : self.filled], self.room[1, :, :, : self.filled]
            return self.keys, self.values

        def batch_select_indices(self, indices):
            self.room = self.room[:, indices]
            self.keys, self.values = self.room[0, :, :, : self.filled], self.room[1, :, :, : self.filled]

    cache = DynamicCache(config=net.config)
    if all(type(layer) is DynamicLayer for layer in cache.layers):  # sliding or other layers keep their own
        cache.layers = [Layer() for _ in cache.layers]
    return cache
