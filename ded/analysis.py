"""What might explain a good teacher without training: token entropy, latent shift, length, the student's own loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ded import models, store, training
from ded.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


def token_entropy(trajectories: pd.DataFrame) -> float:
    """Mean entropy (nats a token) of the teacher's own next-token distributions over the corpus (paper: "token entropy").

    NaN where the engine could not measure it (recorded traces, endpoints that give no probabilities).
    """
    return float(trajectories["entropy_sum"].sum(skipna=False) / trajectories["n_tokens"].sum())


def corpus_loss(student: str, corpus: pd.DataFrame, batch_size: int = 64) -> float:
    """The student's mean negative log-likelihood (nats a completion token) of the corpus before any training on it."""
    key = store.key("corpus_loss", VERSION, student=models.fingerprint(student), texts=[[p, t] for p, t in zip(corpus["prompt"], corpus["text"])])
    return store.json(key, lambda: _corpus_loss(student, corpus, batch_size))


def _corpus_loss(student: str, corpus: pd.DataFrame, batch_size: int) -> float:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    net = models.load(student)
    examples = sorted(training.build_examples(student, corpus, max_length=10**9), key=lambda e: len(e["input_ids"]))
    total = count = 0.0
    with torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            ids = pad_sequence([torch.tensor(e["input_ids"]) for e in batch], batch_first=True).to(net.device)
            labels = pad_sequence([torch.tensor(e["labels"]) for e in batch], batch_first=True, padding_value=-100).to(net.device)
            logits = net(input_ids=ids).logits[:, :-1].float()
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum").item()
            count += (labels[:, 1:] != -100).sum().item()
    return total / count


def hidden_states(model: str, problems: list[Problem]):
    """The last layer's hidden state at the last prompt token of each problem: array (problems, hidden), float32."""
    import numpy as np
    import torch

    net, tok = models.load(model), models.load_tokenizer(model)
    rows = []
    with torch.inference_mode():
        for p in problems:
            ids = torch.tensor([tok(models.render(model, p.prompt), add_special_tokens=False)["input_ids"]], device=net.device)
            rows.append(net(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1].float().cpu().numpy())
    return np.stack(rows)


def latent_shift(before: str, after: str, problems: list[Problem], components: int = 2) -> dict:
    """How far distillation moved the student's representation (paper: "latent shift").

    A PCA with `components` axes is fitted on the hidden states of both models on the same inputs. Returns {shift: the distance
    between the two models' centroids in it, variance: the share of variance that the axes explain, before, after: coordinates,
    (problems, components) nested lists}.
    """
    prompts = [[p.id, p.prompt] for p in problems]
    key = store.key("latent_shift", VERSION, before=models.fingerprint(before), after=models.fingerprint(after), prompts=prompts, components=components)
    return store.json(key, lambda: _latent_shift(before, after, problems, components))


def _latent_shift(before: str, after: str, problems: list[Problem], components: int) -> dict:
    import numpy as np
    from sklearn.decomposition import PCA

    a, b = hidden_states(before, problems), hidden_states(after, problems)
    pca = PCA(components, svd_solver="full").fit(np.concatenate([a, b]))
    a, b = pca.transform(a), pca.transform(b)
    return {
        "shift": float(np.linalg.norm(a.mean(0) - b.mean(0))), "variance": float(pca.explained_variance_ratio_.sum()),
        "before": np.round(a, 4).tolist(), "after": np.round(b, 4).tolist(),
    }  # fmt: skip
