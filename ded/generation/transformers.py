"""The transformers engine: own forward passes, so that every row draws from noise of its own, and
its next-token distributions are seen whole."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ded import models, progress
from ded.generation.engines import Settings, Shard, Tables, Unfinished, texts
from ded.options import Engine
from ded.problems import content_hash

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# bytes of a batch's keys and values: a step of a small model costs much the same for one row and
# for hundreds
ROOM = 2**28
FEWEST = 16  # rows of a batch, however large the model
SHARE = 0.5  # of a GPU's free memory that a batch may take: its cache grows by copies, with gaps
# Ended rows leave a batch when this share of it remains: to leave costs the others a copy of
# their keys and values.
SHRINK = 0.8
log = logging.getLogger("ded")


def identity(model: str, engine: Engine) -> dict[str, Any]:
    """The model's content, and how rows are put together in batches."""
    content = {"model": models.fingerprint(model), "dtype": engine.dtype}
    return {"engine": "transformers", "batches": 2} | content


def draw(model: str, shards: list[Shard], settings: Settings, engine: Engine) -> Tables:
    """One shard after the other: in a batch with others a row would differ in its last bits, and
    with it what a kill left to do."""
    total = sum(len(shard.unfinished()) for shard in shards)
    with progress.bar(total=total, desc=f"sampling {model}", unit="row") as bar:
        prompted: dict[str, Any] = {}
        for shard in shards:
            yield shard, draw_shard(model, shard, settings, engine, bar, prompted)


def draw_shard(
    model: str,
    shard: Shard,
    settings: Settings,
    engine: Engine,
    bar: tqdm,
    prompted: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """One shard: rows of like prompt length go together, ended rows leave the batch. prompted: see
    `Batch.first_logits`."""
    net, tok = models.load(model, engine.dtype), models.load_tokenizer(model)
    rows, unfinished = shard.rows(), shard.unfinished()
    prompts = [models.prompt_ids(model, row.problem.prompt) + row.drawn for row in unfinished]
    noise = [_noise(row, settings) for row in unfinished]
    most = rows_that_fit(net, max(map(len, prompts), default=0), settings.max_tokens)
    for n_missing in sorted({len(stream) for stream in noise}):  # they differ by what was forced
        alike = [i for i, stream in enumerate(noise) if len(stream) == n_missing]
        for group in groups([len(prompts[i]) for i in alike], most):
            batch = [alike[place] for place in group]
            asked, streams = [prompts[i] for i in batch], np.stack([noise[i] for i in batch])
            how = settings.temperature, settings.top_p, tok, engine
            drawn = decode(net, asked, streams, *how, bar, prompted)
            for i, completion in zip(batch, drawn, strict=True):
                rows[unfinished[i].place] = unfinished[i].continued(completion)
    table = shard.table(rows)
    sampled = tok.batch_decode(table["token_ids"].tolist())
    return table.assign(text=texts(model, sampled), missing_mass=0.0)


def _noise(row: Unfinished, settings: Settings) -> np.ndarray:
    """Uniform numbers for the tokens of a row that are still to be drawn.

    Its stream is as long as the row may get, and a continued row goes on in it: what it draws is
    what it would have drawn.
    """
    key = content_hash(f"{settings.seed} {row.problem.id} {row.shard.index}")
    stream = np.random.Generator(np.random.Philox(key=key))
    return stream.random(settings.max_tokens)[len(row.drawn) :]


def rows_that_fit(net: PreTrainedModel, prompt: int, max_tokens: int) -> int:
    """How many rows of up to `prompt` and `max_tokens` tokens go together: as many as `ROOM` holds,
    `FEWEST` at least; on a GPU as `SHARE` of its free memory holds, by which a row may differ in
    its last bits."""
    config = net.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * width * net.dtype.itemsize
    cache = token * (prompt + max_tokens)
    if not (free := models.free_on_gpu()):
        return max(FEWEST, ROOM // cache)
    # the prompts' pass through a layer, with its mask; a step's probabilities, float64 and sorted
    inner = 4 * config.hidden_size + 3 * config.intermediate_size
    row = cache + prompt * (inner * net.dtype.itemsize + 2 * prompt) + 40 * config.vocab_size
    most = max(1, int(SHARE * free) // row)
    each, gib = f"{row / 2**20:.0f} MiB", f"{free / 2**30:.1f} GiB"
    log.info("sampling up to %d rows side by side: %s each, of %s free", most, each, gib)
    return most


def groups(lengths: list[int], most: int) -> list[list[int]]:
    """Row numbers by prompt length, in as few batches of up to `most` as there can be, of one size
    (padded where lengths differ)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    parts = -(-len(order) // most)
    return [order[len(order) * k // parts : len(order) * (k + 1) // parts] for k in range(parts)]


class Batch:
    """Rows that are decoded together: what the model sees next of each, and keys and values of
    what it has seen. Prompts of unequal length are padded on the left."""

    def __init__(self, net: PreTrainedModel, prompts: list[list[int]], pad_token: int) -> None:
        import torch
        from torch.nn.utils.rnn import pad_sequence
        from transformers.cache_utils import DynamicCache

        sequences = [torch.tensor(ids, device=net.device) for ids in prompts]
        to_left: dict[str, Any] = {"batch_first": True, "padding_side": "left"}
        mask = pad_sequence([torch.ones_like(ids) for ids in sequences], **to_left)
        self.net, self.prompts = net, prompts
        self.rows = torch.arange(len(prompts), device=net.device)  # which of the prompts are in it
        self.tokens = pad_sequence(sequences, **to_left, padding_value=pad_token)
        self.mask = None if mask.all() else mask
        self.cache = DynamicCache(config=net.config)

    def first_logits(self, prompted: dict[str, Any] | None) -> torch.Tensor:
        """Those after the prompts. prompted: these and the cache of the batch before, which are
        taken where that had the same prompts, as it has in the next sample of each question; else
        what it holds for the batch to come. None: no other batch is near."""
        if prompted is None:
            return self.logits()
        if prompted.get("prompts") == self.prompts:
            self.cache = deepcopy(prompted["cache"])
            return prompted["logits"]
        logits = self.logits()
        if self.net.device.type == "cpu":  # a GPU's memory is counted without it
            prompted.update(prompts=self.prompts, logits=logits, cache=deepcopy(self.cache))
        return logits

    def logits(self) -> torch.Tensor:
        """Next-token logits (rows, vocabulary) after the tokens that were fed last."""
        inputs = {"input_ids": self.tokens, "past_key_values": self.cache, "use_cache": True}
        if self.mask is not None:
            positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -self.tokens.shape[1] :]
            inputs |= {"attention_mask": self.mask, "position_ids": positions}
        output = self.net(**inputs, logits_to_keep=1)
        return output.logits[:, -1].float().to(self.net.device)  # may come from another GPU

    def keep(self, index: torch.Tensor) -> None:
        """Drops all rows but these, given by their place in the batch."""
        self.rows = self.rows[index]
        self.cache.batch_select_indices(index.cpu())  # its layers may lie on several GPUs
        if self.mask is not None:
            self.mask = self.mask[index]

    def feed(self, tokens: torch.Tensor) -> None:
        """The next token of each row."""
        import torch

        self.tokens = tokens[:, None]
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)


def decode(
    net: PreTrainedModel,
    prompts: list[list[int]],
    noise: np.ndarray,
    temperature: float,
    top_p: float,
    tok: PreTrainedTokenizerBase,
    engine: Engine = Engine(),
    bar: tqdm | None = None,
    prompted: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Completions of prompts (token ids): [{token_ids, n_tokens, finish_reason, entropy_sum}, ...].

    noise: uniform numbers in [0, 1), shape (rows, most tokens); token t of a row is the inverse of
    its distribution function at noise[row, t], so a row's tokens do not depend on the rows beside
    it. engine: what else decides that distribution (`Engine.sampling`). bar: counts the rows that
    end. prompted: see `Batch.first_logits`. entropy_sum: nats, of the distributions at
    temperature 1.
    """
    import torch

    n_rows, most = noise.shape
    n_going, bar = n_rows, progress.bar(disable=True) if bar is None else bar
    batch = Batch(net, prompts, tok.pad_token_id)
    # all of it where the model is: a step waits for it once, to learn which rows go on
    device = net.device
    ends = torch.tensor(end_tokens(net, tok), device=device)
    uniform = torch.as_tensor(noise, dtype=torch.float32, device=device)
    uniform = uniform.clamp(max=1 - 2**-24)  # rounding must not make it 1
    drawn = torch.zeros(n_rows, most, dtype=torch.long, device=device)
    lengths = torch.zeros(n_rows, dtype=torch.long, device=device)
    entropy = torch.zeros(n_rows, dtype=torch.double, device=device)
    ended = torch.zeros(n_rows, dtype=torch.bool, device=device)
    seen = _seen(net, prompts) if engine.repetition_penalty != 1 else None
    with torch.inference_mode():
        for t in range(most):
            rows = batch.rows
            alive = ~ended[rows]
            logits = batch.logits() if t else batch.first_logits(prompted)
            stands = None if seen is None else seen[rows]
            nats, chosen = weigh(logits, uniform[rows, t], temperature, top_p, engine, stands)
            entropy[rows] += torch.where(alive, nats, 0.0).double()
            drawn[rows, t] = chosen
            if seen is not None:
                seen[rows, chosen] = True
            lengths[rows] += alive
            ended[rows] |= torch.isin(chosen, ends)
            going = (~ended[rows]).nonzero().squeeze(-1)
            bar.set_postfix_str(f"token {t + 1:,} of up to {most:,}", refresh=False)
            bar.update(n_going - len(going))
            n_going = len(going)
            if not len(going):
                break
            if len(going) <= SHRINK * len(rows):
                batch.keep(going)
                chosen = chosen[going]
            batch.feed(chosen)
    bar.update(n_going)  # those that are cut off
    columns = zip(drawn.tolist(), lengths.tolist(), ended.tolist(), entropy.tolist(), strict=True)
    return [
        {
            "token_ids": tokens[: length - end],
            "n_tokens": length,
            "finish_reason": "stop" if end else "length",
            "entropy_sum": round(nats, 6),
        }
        for tokens, length, end, nats in columns
    ]


def end_tokens(net: PreTrainedModel, tok: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a completion: the tokenizer's, and those of the generation config."""
    more = net.generation_config.eos_token_id
    more = more if isinstance(more, (list, tuple)) else [more]
    return sorted({tok.eos_token_id, *more} - {None})


def _seen(net: PreTrainedModel, prompts: list[list[int]]) -> torch.Tensor:
    """Which tokens of the vocabulary stand in each prompt."""
    import torch

    vocabulary = net.config.get_text_config().vocab_size
    seen = torch.zeros(len(prompts), vocabulary, dtype=torch.bool, device=net.device)
    for row, ids in zip(seen, prompts, strict=True):
        row[ids] = True
    return seen


def weigh(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: float,
    top_p: float,
    engine: Engine = Engine(),
    seen: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(entropies in nats at temperature 1, next tokens as `choose` draws them), a row each. seen:
    tokens that engine.repetition_penalty makes less likely (Keskar et al. 2019, section 4.1)."""
    import torch

    logs = torch.log_softmax(logits, dim=-1)
    entropies = -(logs.exp() * logs).nan_to_num(0.0).sum(-1)
    if seen is not None:
        penalty = engine.repetition_penalty
        penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
        logits = torch.where(seen, penalised, logits)
    return entropies, choose(logits, uniform, temperature, top_p, engine)


def choose(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: float,
    top_p: float,
    engine: Engine = Engine(),
) -> torch.Tensor:
    """Next tokens (rows,) by inverse transform of each row's distribution at `uniform`; greedy at
    temperature 0.

    engine.top_k and min_p drop tokens first, as in vLLM; of what remains top_p keeps the smallest
    set of likeliest tokens that reaches it.
    """
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    probs = torch.softmax(logits.double() / temperature, dim=-1)
    if engine.top_k or engine.min_p:
        least = engine.min_p * probs.amax(-1, keepdim=True)
        if engine.top_k:
            likeliest = probs.topk(min(engine.top_k, probs.shape[-1])).values
            least = torch.maximum(least, likeliest[:, -1:])
        probs = probs.where(probs >= least, 0.0)
        probs = probs / probs.sum(-1, keepdim=True)
    if top_p < 1:
        ordered, index = probs.sort(dim=-1, descending=True, stable=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0.0
        probs = torch.zeros_like(probs).scatter(-1, index, ordered)
    total = probs.cumsum(-1)
    targets = uniform.double()[:, None] * total[:, -1:]
    tokens = torch.searchsorted(total, targets, right=True).squeeze(-1)
    return tokens.clamp(max=logits.shape[-1] - 1)
