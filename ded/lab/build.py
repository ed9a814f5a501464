"""Trains the lab's language models from scratch, each from a recipe in `recipes.yml`, with fixed
seeds.

This is pre-training, so it is a plain loop (Muon on matrices, AdamW on the rest); distillation goes
through `ded.training`.
"""

import copy
import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ded import jobs
from ded.errors import ModelError
from ded.lab import catalogue as lab
from ded.lab import scoring
from ded.problems import lab as tasks

BATCH_TOKENS, MICRO_BATCHES = 512, 4  # tokens a micro-batch, micro-batches a step
CHECKPOINTS = lab.HERE / "checkpoints"


def tokenizer() -> Any:
    """The lab's word-level tokenizer, with a chat template that carries think blocks."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    index = {word: i for i, word in enumerate(tasks.VOCABULARY)}
    raw = Tokenizer(models.WordLevel(index, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    tok = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    tok.chat_template = lab.recipes()["chat_template"]
    tok.model_max_length = lab.recipes()["architecture"]["max_position_embeddings"]
    return tok


def new_model(seed: int) -> Any:
    """A randomly initialised model of 0.3 M parameters, of the architecture in recipes.yml."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    shape = dict(lab.recipes()["architecture"])
    config = AutoConfig.for_model(
        shape.pop("model_type"), vocab_size=len(tasks.VOCABULARY), **shape
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def stream(
    recipe: dict, seed: int, done: Callable[[], float] = lambda: 1.0
) -> Iterator[tuple[str, str]]:
    """An endless stream of (prompt, completion) texts after the recipe, train split only.

    done() is the share of the constant phase that is over, for the recipe's `curriculum`.
    """
    rng = random.Random(f"pretrain {seed}")
    mixture = dict(recipe["mixture"])
    spread = mixture.pop("ood") / len(tasks.OOD)
    mixture |= {family: mixture.get(family, 0.0) + spread for family in tasks.OOD}
    levels = dict.fromkeys(tasks.OOD, recipe["ood_levels"])
    levels |= {"sum": recipe["sum_levels"], "code": recipe["code_levels"]}
    manner = tasks.Manner(**recipe.get("manner", {}))

    def pick(shares: dict) -> Any:
        return rng.choices(list(shares), list(shares.values()))[0]

    while True:
        family = pick(mixture)
        level = rng.choice(_let_in(levels[family], done(), recipe.get("curriculum", 0.0)))
        problem = tasks.next_problem(family, level, "train", rng)
        reasoning = recipe.get("reasoning", True)
        style = pick(recipe["styles"])
        yield problem.prompt, tasks.solution(problem, style, rng, reasoning, manner)


def _let_in(levels: list[int], done: float, curriculum: float) -> list[int]:
    """The levels that are let in by now: two at first, all once `curriculum` is over."""
    if done >= curriculum:
        return levels
    return levels[: 2 + int(done / curriculum * (len(levels) - 1))]


def batches(source: Iterator[tuple[str, str]], seed: int, chunk: int = 2048) -> Iterator[tuple]:
    """(input_ids, labels) of a stream's examples: tensors of about `BATCH_TOKENS` tokens,
    right-padded, of examples of like length.

    Examples are sorted by length a `chunk` at a time. Labels are -100 but on completions.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    index = {word: i for i, word in enumerate(tasks.VOCABULARY)}
    rng = random.Random(f"order {seed}")
    while True:
        examples = []
        for prompt, completion in itertools.islice(source, chunk):
            asked = [index[word] for word in f"<user> {prompt} <assistant>".split()]
            answered = [index[word] for word in f"{completion} <eos>".split()]
            labels = [-100] * len(asked) + answered
            examples.append((torch.tensor(asked + answered), torch.tensor(labels)))
        groups: list[list] = [[]]
        for example in sorted(examples, key=lambda example: len(example[0])):
            if groups[-1] and (len(groups[-1]) + 1) * len(example[0]) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        for group in groups:
            rows, marked = zip(*group, strict=True)
            padded = pad_sequence(marked, batch_first=True, padding_value=-100)
            yield pad_sequence(rows, batch_first=True), padded


def train(
    model: Any, recipe: dict, scale: float = 1.0, score: Callable[[Any], float] | None = None
) -> dict:
    """Pre-trains `model` in place after its recipe, all lengths times `scale`.

    score(model): the base's pass@1 by the rule of recipes.yml, at which it stops; None: there is no
    such rule for it. Returns {tokens, steps, seconds, loss: the mean of the last 200 steps, scores:
    [[million tokens, pass@1], ...]}.
    """
    rule = scoring.stop_rule(recipe) if score else {}
    run = _Run(model, recipe, score)
    run.stretch(recipe["tokens"] * scale)
    run.stretch(recipe.get("decay", 0.0) * scale, 1.0, 0.0, rule)
    for _ in range(rule["further"]["times"] if rule else 0):
        if not run.passed(rule):
            run.stretch(rule["further"]["tokens"] * scale, 0.5, 0.0, rule)
    last, seconds = run.losses[-200:], round(time.time() - run.started)
    loss = round(sum(last) / len(last), 4)
    totals = {"tokens": run.n_tokens, "steps": len(run.losses), "seconds": seconds}
    return totals | {"loss": loss, "scores": run.scores}


class _Run:
    """One model in training: its optimizers, its stream, and how far it is."""

    def __init__(self, model: Any, recipe: dict, score: Callable[[Any], float] | None) -> None:
        self.model, self.score = model, score
        self.optimizers = _optimizers(model, recipe.get("learning_rate", 4e-3))
        self.n_tokens, self.losses = 0, list[float]()
        self.scores: list[tuple[float, float]] = []
        self.progress, self.started = 0.0, time.time()
        source = stream(recipe, recipe["seed"], lambda: self.progress)
        self.batches = batches(source, recipe["seed"])

    def passed(self, rule: dict) -> bool:
        """Whether its last score is what it is stopped at."""
        return bool(self.scores) and self.scores[-1][1] >= rule["at"]

    def stretch(
        self, millions: float, first: float = 1.0, last: float = 1.0, rule: dict | None = None
    ) -> None:
        """Trains for so many tokens while the rate goes from the first share to the last; with a
        rule it is scored every so often, until it passes.
        """
        begun, total = self.n_tokens, millions * 1e6
        due = begun + 1e6 * rule["every"] if rule else 0.0
        while self.n_tokens < begun + total:
            done = (self.n_tokens - begun) / total
            if first == last:
                self.progress = done
            factor = first + (last - first) * done
            self.step(max(0.01, min(factor, (len(self.losses) + 1) / 50)))
            if rule and self.score and self.n_tokens >= min(due, begun + total):
                due += 1e6 * rule["every"]
                self.scores.append((round(self.n_tokens / 1e6, 2), self.score(self.model)))
                if self.passed(rule):
                    return
        self.progress = 1.0

    def step(self, factor: float) -> None:
        """One step of all optimizers, at this share of their rates."""
        import torch

        # each micro-batch holds rows of one length, so mostly of one family: a step takes several,
        # or the families' gradients would pull in turns
        micro_batches = [next(self.batches) for _ in range(MICRO_BATCHES)]
        self.model.train()
        self.losses.append(_backward(self.model, micro_batches))
        self.n_tokens += sum(ids.numel() for ids, _ in micro_batches)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.model.eval()


def _optimizers(model: Any, learning_rate: float) -> list:
    """Muon for the matrices but the embedding, AdamW for the rest."""
    import torch

    weights = list(model.named_parameters())
    matrices = [weight for name, weight in weights if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in weights if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=5 * learning_rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


def _backward(model: Any, micro_batches: list[tuple]) -> float:
    """Adds the gradients of one step; returns its mean loss a completion token."""
    import torch

    n_labels = sum(int((labels >= 0).sum()) for _, labels in micro_batches)
    step_loss = 0.0
    for ids, labels in micro_batches:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        targets, logits = labels[:, 1:].reshape(-1), logits.reshape(-1, logits.shape[-1])
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / n_labels
        loss.backward()
        step_loss += loss.item()
    return step_loss


def build(name: str, out: Path = CHECKPOINTS, scale: float = 1.0) -> dict:
    """Trains one model and saves it to out/<name> for Hugging Face; its parent lies in `out`, or
    else in the package.

    Weights are rounded to bfloat16, which halves their size. Returns what `train` does; it is
    written beside the weights as `lab.json` with the recipe.
    """
    import torch
    from transformers import AutoModelForCausalLM

    recipe = lab.recipes()["models"][name]
    model = new_model(recipe["seed"])
    if parent := recipe.get("parent"):
        place = out / parent if (out / parent).is_dir() else CHECKPOINTS / parent
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    # renamed when whole: nothing half-written is read
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as scratch:
        folder = Path(scratch) / name
        rule = scoring.stop_rule(recipe) if scale == 1.0 else {}
        score = partial(_score, folder, rule) if rule else None
        result = train(model, recipe, scale, score)
        _save(model, folder)
        about = {"name": name, "recipe": recipe, "scale": scale, **result}
        (folder / "lab.json").write_text(json.dumps(about, indent=1) + "\n")
        shutil.rmtree(out / name, ignore_errors=True)
        folder.rename(out / name)
    return result


def _save(model: Any, folder: Path) -> None:
    """The model in bfloat16, with its tokenizer."""
    import torch

    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def _score(folder: Path, rule: dict, model: Any) -> float:
    """pass@1 of a model in training, by which it is stopped."""
    _save(model, folder)
    return scoring.stop_score(f"path:{folder}", rule)


def main(names: list[str], scale: float = 1.0, out: Path | None = None) -> None:
    """Builds the named models (all without any), then scores them and writes their page.

    With `scale` below 1 or another folder `out`, models are built only: there is nothing sensible
    to score.
    """
    recipes = lab.recipes()["models"]
    if scale != 1.0 and out is None:
        raise ModelError(
            "a scaled-down model is not to replace the package's: name a folder, --out"
        )
    for name in set(names) - set(recipes):
        lab.checkpoint(name)  # raises the error that names the nearest
    names, folder = names or list(recipes), out or CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    for has_parent, description in ((False, "training bases"), (True, "training their children")):
        chosen = [name for name in names if ("parent" in recipes[name]) == has_parent]
        calls = [{"name": name, "out": folder, "scale": scale} for name in chosen]
        for name, made in zip(chosen, jobs.run(build, calls, description=description), strict=True):
            least = scoring.stop_rule(recipes[name]).get("at", 0.0)
            if made["scores"] and made["scores"][-1][1] < least:
                print(f"{name} ended below {least:.0%} and must not enter a study (recipes.yml)")
    if scale == 1.0 and out is None:
        scoring.record(names)
