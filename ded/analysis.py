"""What might tell a good teacher, or a good trajectory, without training: what the student makes of
the text (loss, ranks, gradients), token entropy, latent shift."""

import math
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ded import models, store, training
from ded.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VERSION = 4
FULL = "float32"
STEP_END = re.compile(r"[;\n]|[.!?]$")  # of a token's text
BATCH = 64  # sequences in a forward pass, at most
LOGITS = 2**28  # most numbers in the logits that are held at once: a gibibyte
RANK = 100  # a token's rank counts up to this
# GRACE
GRADIENTS = 128  # trajectories whose gradients are taken, at most
DIMENSIONS = 32  # that gradients are projected to
SPLITS = 10
HELD_OUT = 0.1  # of the trajectories, in each split
SMOOTHING = 1e-3  # share of the mean eigenvalue in each


def token_entropy(trajectories: pd.DataFrame) -> float:
    """Mean entropy (nats a token) of the teacher's own next-token distributions over the corpus
    (paper: "token entropy").

    NaN where the engine could not measure it (recorded traces, endpoints that give no
    probabilities).
    """
    return float(trajectories["entropy_sum"].sum(skipna=False) / trajectories["n_tokens"].sum())


class Timed(NamedTuple):
    """A measured value, and what computing it took the first time: seconds, and the most memory
    held, GiB: see `peak_memory` (NaN: not measured).
    """

    value: float
    seconds: float
    gib: float = math.nan


def corpus_scores(
    student: str, corpus: pd.DataFrame, window: int, dtype: str = FULL
) -> dict[str, Timed]:
    """Scores of a corpus, not empty, under the student before training, loaded in `dtype` (the
    paper of RSR: bfloat16).

    loss: its mean negative log-likelihood, nats a completion token. rsr: the rank-surprisal ratio
    (Yang et al., arXiv 2601.14249), the mean of the trajectories' mean clipped ranks over the mean
    of their mean surprisals; smaller is better. Both from one forward pass, see
    `trajectory_scores`. lalp, grace: see there.
    """

    def loss() -> float:
        table = trajectory_scores(student, corpus, dtype)
        return float(np.average(table["surprisal"], weights=table["n_tokens"]))

    of_pass = timed(_key("loss", student, corpus, dtype), loss)
    means = trajectory_scores(student, corpus, dtype).mean()
    rsr = of_pass._replace(value=float(means["rank"] / means["surprisal"]))
    local, stability = lalp(student, corpus, window, dtype), grace(student, corpus, dtype)
    return {"loss": of_pass, "rsr": rsr, "lalp": local, "grace": stability}


def trajectory_scores(student: str, corpus: pd.DataFrame, dtype: str = FULL) -> pd.DataFrame:
    """What the student, before training, makes of each trajectory: a row each, the corpus' index.

    n_tokens (of the completion, the student's own), surprisal (mean negative log-likelihood, nats a
    token), rank (mean rank of its tokens among the vocabulary, 1 the likeliest, clipped at `RANK`),
    rsr (rank over surprisal, the rank-surprisal ratio of a trajectory: arXiv 2601.14249, smaller is
    better).
    """

    def compute() -> pd.DataFrame:
        passages = _completions(student, corpus)
        table = pd.DataFrame({"n_tokens": [len(ids) - start for ids, start in passages]})
        sums = token_sums(models.load(student, dtype), passages)
        table[["surprisal", "rank"]] = sums / table[["n_tokens"]].to_numpy()
        return table.assign(rsr=table["rank"] / table["surprisal"])

    table = store.table(_key("trajectory_scores", student, corpus, dtype), compute)
    return table.set_index(corpus.index)


def lalp(student: str, corpus: pd.DataFrame, window: int, dtype: str = FULL) -> Timed:
    """Local average log probability of a corpus under the student before training (Just, Ko, Jia,
    arXiv 2510.03988).

    Each step of a completion is scored with only `window` tokens before it: the mean over steps of
    the mean log-probability of their tokens. A step ends with a semicolon, a line, or a token that
    closes a sentence; the windows are our reading.
    """

    def compute() -> float:
        return float(np.mean(_of_steps(student, corpus, window, dtype).to_numpy()))

    return timed(_key("likelihood", student, corpus, dtype, window=window), compute)


def trajectory_lalp(
    student: str, corpus: pd.DataFrame, window: int, dtype: str = FULL
) -> pd.DataFrame:
    """`lalp` of each trajectory: a row each, the corpus' index, one column, lalp."""

    def compute() -> pd.DataFrame:
        means = _of_steps(student, corpus, window, dtype).groupby(level=0).mean()
        return means.to_frame("lalp").reset_index(drop=True)

    key = _key("trajectory_lalp", student, corpus, dtype, window=window)
    return store.table(key, compute).set_index(corpus.index)


def _of_steps(student: str, corpus: pd.DataFrame, window: int, dtype: str) -> pd.Series:
    """Mean log-probability of each step's tokens, with the place of its trajectory as index."""
    of_each = _steps(student, _completions(student, corpus), window)
    steps = [step for steps in of_each for step in steps]
    lengths = np.array([len(ids) - start for ids, start in steps])
    places = np.repeat(np.arange(len(of_each)), [len(steps) for steps in of_each])
    return pd.Series(-token_sums(models.load(student, dtype), steps)[:, 0] / lengths, places)


def grace(student: str, corpus: pd.DataFrame, dtype: str = FULL) -> Timed:
    """GRACE of a corpus for the student before training; smaller is better (Panigrahi et al., arXiv
    2511.02833, as in the code released with it).

    How much of the gradients of held-out trajectories lies where those of the others do not: see
    `gradient_stability`. A trajectory's gradient is that of its mean loss a token with respect to
    all parameters, projected by random signs. Ours differs in size: the first `GRADIENTS`
    trajectories and `DIMENSIONS` dimensions (there 512 questions of four each, and 512), a sketch
    in place of a dense projection, splits over trajectories, for a corpus has one a question, and
    texts cut where their logits would pass `LOGITS`. NaN with fewer than two trajectories.
    """

    def compute() -> float:
        net = models.load(student, dtype)
        limit = max(2, LOGITS // net.get_input_embeddings().num_embeddings)
        cut = [Passage(ids[:limit], start) for ids, start in _completions(student, corpus)]
        passages = [passage for passage in cut if passage.start < len(passage.ids)][:GRADIENTS]
        return gradient_stability(projected_gradients(net, passages, DIMENSIONS))

    size = {"n": GRADIENTS, "dimensions": DIMENSIONS}
    return timed(_key("grace", student, corpus, dtype, **size), compute)


def _key(stage: str, student: str, corpus: pd.DataFrame, dtype: str, **settings: Any) -> str:
    texts = corpus[["prompt", "text"]].to_numpy().tolist()
    settings |= _other(dtype)
    return store.key(stage, VERSION, student=models.fingerprint(student), texts=texts, **settings)


def _other(dtype: str) -> dict[str, str]:
    """What a key says of a dtype: nothing of the one that all had before."""
    return {} if dtype == FULL else {"dtype": dtype}


def timed(key: str, compute: Callable[[], float]) -> Timed:
    """What the store has under the key, else the value of compute(), its wall time and memory."""

    def fill() -> dict[str, float]:
        start, peak = time.perf_counter(), peak_memory()
        return {"value": compute(), "seconds": time.perf_counter() - start, "gib": peak()}

    return Timed(**store.json(key, fill))


def peak_memory() -> Callable[[], float]:
    """What then gives the most GiB held: allocated on the GPU since this call, where there is one,
    else resident in this process since it began, which is an upper bound."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return lambda: torch.cuda.max_memory_allocated() / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB here
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Passage(NamedTuple):
    """Token ids of which those from `start` on are scored, given all before them."""

    ids: list[int]
    start: int


def _completions(student: str, corpus: pd.DataFrame) -> list[Passage]:
    examples = training.build_examples(student, corpus, 10**9)
    return [Passage(row["input_ids"], row["labels"].count(-100)) for row in examples]


def _steps(student: str, completions: list[Passage], window: int) -> list[list[Passage]]:
    """Each step of each completion, with `window` tokens before it."""
    tok = models.load_tokenizer(student)
    vocabulary = {token for completion in completions for token in completion.ids}
    ends = {token for token in vocabulary if STEP_END.search(tok.decode([token]).rstrip(" "))}
    steps = []
    for ids, first in completions:
        inner = [i + 1 for i in range(first, len(ids) - 1) if ids[i] in ends]
        spans = pairwise([first, *inner, len(ids)])
        steps.append([Passage(ids[max(0, a - window) : b], min(a, window)) for a, b in spans])
    return steps


def token_sums(net: "PreTrainedModel", passages: Sequence[Passage]) -> np.ndarray:
    """(passages, 2): of each passage's scored tokens the summed negative log-likelihood (nats) and
    the summed rank, clipped at `RANK`.

    In batches of like lengths; no more than `LOGITS` logits are held at once, however long a
    passage is and however large the vocabulary.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sums = np.zeros((len(passages), 2))
    order = sorted(range(len(passages)), key=lambda i: len(passages[i].ids))
    vocabulary = net.get_input_embeddings().num_embeddings
    with torch.inference_mode():
        while order:
            longest = len(passages[order[:BATCH][-1]].ids)
            size = min(BATCH, max(1, LOGITS // (longest * vocabulary)))
            batch, order = order[:size], order[size:]
            rows = [torch.tensor(passages[i].ids) for i in batch]
            ids = pad_sequence(rows, batch_first=True).to(net.device)
            width = max(1, LOGITS // (len(batch) * vocabulary))
            pieces = [piece.cpu() for piece in _of_tokens(net, ids, width)]
            for i, row in zip(batch, torch.cat(pieces, 1).double(), strict=True):
                scored = row[passages[i].start - 1 : len(passages[i].ids) - 1]
                sums[i] = scored.sum(0).numpy()
    return sums


def _of_tokens(net: "PreTrainedModel", ids: Any, width: int) -> Iterator[Any]:
    """Negative log-likelihood and clipped rank of every token but the first, (rows, tokens, 2): one
    pass for the hidden states, and of these the logits of `width` tokens at a time."""
    import torch
    from torch.nn.functional import cross_entropy

    states = net.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    for piece, targets in zip(states.split(width, 1), ids[:, 1:].split(width, 1), strict=True):
        logits = head(net, piece).float()
        # flat: three times as fast, without a copy; what is small keeps its bits
        flat = logits.flatten(0, 1), targets.flatten()
        shaped = flat if len(states[0]) > width else (logits.transpose(1, 2), targets)
        losses = cross_entropy(*shaped, reduction="none").view(targets.shape)
        ranks = 1 + (logits > logits.gather(2, targets[..., None])).sum(2).clamp(max=RANK - 1)
        yield torch.stack([losses, ranks], dim=2)


def head(net: "PreTrainedModel", states: Any) -> Any:
    """The logits that a model makes of last hidden states, (rows, tokens, hidden): by its own
    forward pass of one token, in which they take the place of the token's, so that whatever else a
    head does (scales, caps) is done."""
    import torch

    def put(body: Any, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = states
        return output

    handle = net.base_model.register_forward_hook(put)
    try:
        token = torch.zeros(len(states), 1, dtype=torch.long, device=net.device)
        return net(input_ids=token, use_cache=False).logits
    finally:
        handle.remove()


def projected_gradients(
    net: "PreTrainedModel", passages: Sequence[Passage], dimensions: int
) -> np.ndarray:
    """(passages, dimensions): the gradient of each passage's mean loss (nats a scored token) in all
    parameters, over the root of their number, projected so that inner products are kept on average.

    Each parameter has a random sign and a place, its number modulo `dimensions` (a count sketch); a
    parameter's gradient is dropped as soon as it is projected.
    """
    import torch
    from torch.nn.functional import cross_entropy

    draw = torch.Generator().manual_seed(0)
    projected = torch.zeros(dimensions, device=net.device)
    handles, size = [], 0

    def projects(signs: Any, offset: int) -> Callable[[Any], None]:
        def project(parameter: Any) -> None:
            signed = parameter.grad.flatten().float() * signs
            padded = torch.nn.functional.pad(signed, (offset, -(offset + len(signs)) % dimensions))
            projected.add_(padded.view(-1, dimensions).sum(0).to(projected.device))
            parameter.grad = None

        return project

    for parameter in net.parameters():
        signs = 2 * torch.randint(2, (parameter.numel(),), generator=draw, dtype=torch.int8) - 1
        hook = projects(signs.to(parameter.device), size % dimensions)
        handles.append(parameter.register_post_accumulate_grad_hook(hook))
        size += parameter.numel()
    rows = []
    try:
        for ids, start in passages:
            tokens = torch.tensor([ids], device=net.device)
            logits = net(input_ids=tokens, use_cache=False).logits[0, start - 1 : -1]
            cross_entropy(logits.float(), tokens[0, start:]).backward()
            rows.append(projected.cpu().numpy() / np.sqrt(size))
            projected.zero_()
    finally:
        for handle in handles:
            handle.remove()
    return np.array(rows, float).reshape(len(rows), dimensions)


def gradient_stability(gradients: np.ndarray) -> float:
    """Mean over `SPLITS` splits of the trace of S^-1 T: GRACE of (trajectories, dimensions).

    T is the second moment of the gradients held out, S that of the others, each of these at unit
    norm; to every eigenvalue of S goes a share `SMOOTHING` of their mean. NaN with fewer than two.
    """
    n = len(gradients)
    if n < 2:
        return float("nan")
    held_out, traces = max(1, int(n * HELD_OUT)), []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(n)
        rest, held = gradients[order[:-held_out]], gradients[order[-held_out:]]
        rest = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-12)
        values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
        values = (1 - SMOOTHING) * values.clip(0) + SMOOTHING * values.mean()
        traces.append(np.mean((held @ vectors) ** 2, axis=0) @ (1 / np.maximum(values, 1e-12)))
    return float(np.mean(traces))


def hidden_states(model: str, problems: list[Problem], dtype: str = FULL) -> np.ndarray:
    """The last layer's hidden state at the last prompt token of each problem: array (problems,
    hidden), float32."""
    import torch

    def compute() -> pd.DataFrame:
        net = models.load(model, dtype)
        rows = []
        with torch.inference_mode():
            for problem in problems:
                ids = torch.tensor([models.prompt_ids(model, problem.prompt)], device=net.device)
                states = net(input_ids=ids, output_hidden_states=True).hidden_states
                rows.append(states[-1][0, -1].float().cpu().numpy())
        return pd.DataFrame(np.stack(rows)).rename(columns=str)

    prompts = [[problem.id, problem.prompt] for problem in problems]
    about = {"model": models.fingerprint(model), "prompts": prompts} | _other(dtype)
    return store.table(store.key("hidden_states", VERSION, **about), compute).to_numpy()


def latent_shift(
    before: str, after: str, problems: list[Problem], components: int = 2, dtype: str = FULL
) -> Timed:
    """How far distillation moved the student's representation (paper: "latent shift"): the distance
    between the two models' centroids in their `latent_plane`."""

    def compute() -> float:
        old, new = latent_plane([before, after], problems, components, dtype)
        return float(np.linalg.norm(old.mean(0) - new.mean(0)))

    both = {"before": models.fingerprint(before), "after": models.fingerprint(after)}
    both |= _other(dtype)
    prompts = [[problem.id, problem.prompt] for problem in problems]
    return timed(
        store.key("latent_shift", VERSION, **both, prompts=prompts, axes=components), compute
    )


def latent_plane(
    specs: list[str], problems: list[Problem], components: int = 2, dtype: str = FULL
) -> list:
    """Each model's hidden states, (problems, components), on the axes of one PCA fitted on the
    states of all of them."""
    from sklearn.decomposition import PCA

    states = [hidden_states(spec, problems, dtype) for spec in specs]
    axes = PCA(components, svd_solver="full").fit(np.concatenate(states))
    return [axes.transform(part) for part in states]
