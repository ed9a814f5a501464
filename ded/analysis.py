"""What might explain a good teacher without training: token entropy, latent shift, length, the student's own loss."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ded import models, store, training
from ded.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
STEP_END = re.compile(r"[;\n]|[.!?]$")  # of a token's text
LOGITS = 2**28  # most numbers in the logits of one batch: a gibibyte


def token_entropy(trajectories: pd.DataFrame) -> float:
    """Mean entropy (nats a token) of the teacher's own next-token distributions over the corpus (paper: "token entropy").

    NaN where the engine could not measure it (recorded traces, endpoints that give no probabilities).
    """
    return float(trajectories["entropy_sum"].sum(skipna=False) / trajectories["n_tokens"].sum())


def corpus_loss(student: str, corpus: pd.DataFrame) -> float:
    """The student's mean negative log-likelihood (nats a completion token) of the corpus before any training on it."""
    return likelihood(student, corpus)["value"]


def likelihood(student: str, corpus: pd.DataFrame, window: int = 0) -> dict[str, float]:
    """How likely a corpus is to the student before training: {value, seconds}, seconds being those that computing it took.

    window 0: `corpus_loss`, the logarithm of the perplexity. Above 0: local average log probability (LALP; Just, Ko, Jia, arXiv
    2510.03988): each step of a completion is scored with only `window` tokens before it, and value is the mean over steps of the mean
    log-probability of their tokens. A step ends with a semicolon, a line, or a token that closes a sentence; the windows are our reading.
    """
    texts = [[p, t] for p, t in zip(corpus["prompt"], corpus["text"])]
    key = store.key(
        "likelihood", VERSION, student=models.fingerprint(student), texts=texts, window=window
    )
    return store.json(key, lambda: timed(lambda: _likelihood(student, corpus, window)))


def timed(compute: Callable[[], Any]) -> dict[str, Any]:
    """{value: of compute(), seconds: its wall time}."""
    start = time.perf_counter()
    value = compute()
    return {"value": value, "seconds": time.perf_counter() - start}


def _likelihood(student: str, corpus: pd.DataFrame, window: int) -> float:
    examples = [
        (e["input_ids"], e["labels"].count(-100))
        for e in training.build_examples(student, corpus, 10**9)
    ]
    if not window:
        found = _scored(student, examples)
        return sum(total for total, _ in found) / sum(count for _, count in found)
    tok = models.load_tokenizer(student)
    ends = {
        i
        for i in {i for ids, _ in examples for i in ids}
        if STEP_END.search(tok.decode([i]).rstrip(" "))
    }
    steps = []
    for ids, start in examples:
        cuts = [start, *(i + 1 for i in range(start, len(ids) - 1) if ids[i] in ends), len(ids)]
        steps += [(ids[max(0, a - window) : b], min(a, window)) for a, b in zip(cuts, cuts[1:])]
    found = _scored(student, steps)
    return sum(total / count for total, count in found) / -len(found)


def _scored(student: str, sequences: list[tuple[list[int], int]]) -> list[tuple[float, int]]:
    """(negative log-likelihood in nats, tokens) of each sequence of ids from its second number on, in batches of like lengths."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    net, found = models.load(student), [(0.0, 0)] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i][0]))
    with torch.inference_mode():
        while order:
            longest = len(sequences[order[min(63, len(order) - 1)]][0])
            size = min(64, max(1, LOGITS // (longest * net.get_input_embeddings().num_embeddings)))
            batch, order = order[:size], order[size:]
            ids = pad_sequence([torch.tensor(sequences[i][0]) for i in batch], batch_first=True).to(
                net.device
            )
            logits = net(input_ids=ids).logits[:, :-1].float()
            losses = (
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
                )
                .view(len(batch), -1)
                .cpu()
            )
            for row, i in enumerate(batch):
                length, start = len(sequences[i][0]), sequences[i][1]
                found[i] = losses[row, start - 1 : length - 1].sum().item(), length - start
    return found


def hidden_states(model: str, problems: list[Problem]):
    """The last layer's hidden state at the last prompt token of each problem: array (problems, hidden), float32."""
    import numpy as np
    import torch

    net, tok = models.load(model), models.load_tokenizer(model)
    rows = []
    with torch.inference_mode():
        for p in problems:
            ids = torch.tensor(
                [tok(models.render(model, p.prompt), add_special_tokens=False)["input_ids"]],
                device=net.device,
            )
            rows.append(
                net(input_ids=ids, output_hidden_states=True)
                .hidden_states[-1][0, -1]
                .float()
                .cpu()
                .numpy()
            )
    return np.stack(rows)


def latent_shift(before: str, after: str, problems: list[Problem], components: int = 2) -> dict:
    """How far distillation moved the student's representation (paper: "latent shift").

    A PCA with `components` axes is fitted on the hidden states of both models on the same inputs. Returns {shift: the distance
    between the two models' centroids in it, variance: the share of variance that the axes explain, seconds: what computing it
    took, before, after: coordinates, (problems, components) nested lists}.
    """
    prompts = [[p.id, p.prompt] for p in problems]
    key = store.key(
        "latent_shift",
        VERSION,
        before=models.fingerprint(before),
        after=models.fingerprint(after),
        prompts=prompts,
        axes=components,
    )
    found = store.json(
        key, lambda: timed(lambda: _latent_shift(before, after, problems, components))
    )
    return found["value"] | {"seconds": found["seconds"]}


def _latent_shift(before: str, after: str, problems: list[Problem], components: int) -> dict:
    import numpy as np
    from sklearn.decomposition import PCA

    a, b = hidden_states(before, problems), hidden_states(after, problems)
    pca = PCA(components, svd_solver="full").fit(np.concatenate([a, b]))
    a, b = pca.transform(a), pca.transform(b)
    return {
        "shift": float(np.linalg.norm(a.mean(0) - b.mean(0))),
        "variance": float(pca.explained_variance_ratio_.sum()),
        "before": np.round(a, 4).tolist(),
        "after": np.round(b, 4).tolist(),
    }
