"""What might explain a good teacher without training: token entropy, latent shift, length, the
student's own loss."""

import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ded import models, store, training
from ded.problems import Problem

VERSION = 2
STEP_END = re.compile(r"[;\n]|[.!?]$")  # of a token's text
BATCH = 64  # sequences in a forward pass, at most
LOGITS = 2**28  # most numbers in the logits of one batch: a gibibyte


def token_entropy(trajectories: pd.DataFrame) -> float:
    """Mean entropy (nats a token) of the teacher's own next-token distributions over the corpus
    (paper: "token entropy").

    NaN where the engine could not measure it (recorded traces, endpoints that give no
    probabilities).
    """
    return float(trajectories["entropy_sum"].sum(skipna=False) / trajectories["n_tokens"].sum())


def corpus_loss(student: str, corpus: pd.DataFrame) -> float:
    """The student's mean negative log-likelihood (nats a completion token) of the corpus before any
    training on it."""
    return likelihood(student, corpus)["value"]


def likelihood(student: str, corpus: pd.DataFrame, window: int = 0) -> dict[str, float]:
    """How likely a corpus is to the student before training: {value, seconds}, seconds being those
    that computing it took.

    window 0: `corpus_loss`, the logarithm of the perplexity. Above 0: local average log probability
    (LALP; Just, Ko, Jia, arXiv 2510.03988): each step of a completion is scored with only `window`
    tokens before it, and value is the mean over steps of the mean log-probability of their tokens.
    A step ends with a semicolon, a line, or a token that closes a sentence; the windows are our
    reading.
    """
    texts = corpus[["prompt", "text"]].to_numpy().tolist()
    fingerprint = models.fingerprint(student)
    key = store.key("likelihood", VERSION, student=fingerprint, texts=texts, window=window)
    return store.json(key, lambda: timed(lambda: _likelihood(student, corpus, window)))


def timed(compute: Callable[[], Any]) -> dict[str, Any]:
    """{value: of compute(), seconds: its wall time}."""
    start = time.perf_counter()
    value = compute()
    return {"value": value, "seconds": time.perf_counter() - start}


class Passage(NamedTuple):
    """Token ids of which those from `start` on are scored, given all before them."""

    ids: list[int]
    start: int


def _likelihood(student: str, corpus: pd.DataFrame, window: int) -> float:
    examples = training.build_examples(student, corpus, 10**9)
    passages = [Passage(row["input_ids"], row["labels"].count(-100)) for row in examples]
    if window:
        passages = _steps(student, passages, window)
    losses = np.array(_losses(student, passages))
    lengths = np.array([len(ids) - start for ids, start in passages])
    return float(-np.mean(losses / lengths) if window else losses.sum() / lengths.sum())


def _steps(student: str, completions: list[Passage], window: int) -> list[Passage]:
    """Each step of each completion, with `window` tokens before it."""
    tok = models.load_tokenizer(student)
    vocabulary = {token for completion in completions for token in completion.ids}
    ends = {token for token in vocabulary if STEP_END.search(tok.decode([token]).rstrip(" "))}
    steps = []
    for ids, first in completions:
        inner = [i + 1 for i in range(first, len(ids) - 1) if ids[i] in ends]
        for start, end in pairwise([first, *inner, len(ids)]):
            steps.append(Passage(ids[max(0, start - window) : end], min(start, window)))
    return steps


def _losses(student: str, passages: list[Passage]) -> list[float]:
    """The negative log-likelihood (nats, summed over the scored tokens) of each passage, in batches
    of like lengths."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    net = models.load(student)
    losses = [0.0] * len(passages)
    order = sorted(range(len(passages)), key=lambda i: len(passages[i].ids))
    with torch.inference_mode():
        while order:
            longest = len(passages[order[:BATCH][-1]].ids)
            vocabulary = net.get_input_embeddings().num_embeddings
            size = min(BATCH, max(1, LOGITS // (longest * vocabulary)))
            batch, order = order[:size], order[size:]
            rows = [torch.tensor(passages[i].ids) for i in batch]
            ids = pad_sequence(rows, batch_first=True).to(net.device)
            logits = net(input_ids=ids).logits[:, :-1].float()
            targets = ids[:, 1:]
            of_tokens = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            for i, row in zip(batch, of_tokens.view(targets.shape).cpu(), strict=True):
                losses[i] = row[passages[i].start - 1 : len(passages[i].ids) - 1].sum().item()
    return losses


def hidden_states(model: str, problems: list[Problem]) -> np.ndarray:
    """The last layer's hidden state at the last prompt token of each problem: array (problems,
    hidden), float32."""
    import torch

    net = models.load(model)
    rows = []
    with torch.inference_mode():
        for problem in problems:
            ids = torch.tensor([models.prompt_ids(model, problem.prompt)], device=net.device)
            states = net(input_ids=ids, output_hidden_states=True).hidden_states
            rows.append(states[-1][0, -1].float().cpu().numpy())
    return np.stack(rows)


def latent_shift(
    before: str, after: str, problems: list[Problem], components: int = 2
) -> dict[str, Any]:
    """How far distillation moved the student's representation (paper: "latent shift").

    A PCA with `components` axes is fitted on the hidden states of both models on the same inputs.
    Returns {shift: the distance between the two models' centroids in it, variance: the share of
    variance that the axes explain, seconds: what computing it took, before, after: coordinates,
    (problems, components) nested lists}.
    """

    def compute() -> dict[str, Any]:
        from sklearn.decomposition import PCA

        states = [hidden_states(model, problems) for model in (before, after)]
        pca = PCA(components, svd_solver="full").fit(np.concatenate(states))
        old, new = (pca.transform(part) for part in states)
        return {
            "shift": float(np.linalg.norm(old.mean(0) - new.mean(0))),
            "variance": float(pca.explained_variance_ratio_.sum()),
            "before": np.round(old, 4).tolist(),
            "after": np.round(new, 4).tolist(),
        }

    both = {"before": models.fingerprint(before), "after": models.fingerprint(after)}
    prompts = [[problem.id, problem.prompt] for problem in problems]
    key = store.key("latent_shift", VERSION, **both, prompts=prompts, axes=components)
    shift = store.json(key, lambda: timed(compute))
    return shift["value"] | {"seconds": shift["seconds"]}
