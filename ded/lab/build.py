"""Trains the lab's language models from scratch, each from a recipe in `recipes.yml`, with fixed
seeds.

This is pre-training, so it is a plain loop (Muon on matrices, AdamW on the rest); distillation goes
through `ded.training`.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ded import jobs
from ded.lab import catalogue as lab
from ded.lab import competence
from ded.problems import lab as tasks

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS, MICRO_BATCHES = 512, 4  # tokens a micro-batch, micro-batches a step
CHECKPOINTS = lab.HERE / "checkpoints"
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<user> ' + m['content'] + ' ' }}"
    "{% else %}{{ '<assistant> ' + m['content'] + ' <eos> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerBase:
    """The lab's word-level tokenizer, with a chat template that carries think blocks."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    index = {word: i for i, word in enumerate(tasks.VOCABULARY)}
    raw = Tokenizer(models.WordLevel(index, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    tok = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    tok.chat_template, tok.model_max_length = TEMPLATE, 512
    return tok


def new_model(seed: int) -> PreTrainedModel:
    """A randomly initialised Llama of 0.3 M parameters.

    Hidden 96, 3 layers, 3 heads of 32 (so that vLLM can serve it).

    The rotary base is 300, not 10,000: texts here are under 150 tokens, and positions are told
    apart sooner.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tasks.VOCABULARY),
            hidden_size=96,
            num_hidden_layers=3,
            num_attention_heads=3,
            head_dim=32,
            intermediate_size=256,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 300.0},
            bos_token_id=None,
            eos_token_id=2,
            pad_token_id=0,
        )
    )


class Example(NamedTuple):
    """Token ids of a prompt and its completion; the loss is on what follows the prompt."""

    n_prompt: int
    ids: list[int]


def stream(recipe: dict, seed: int) -> Iterator[tuple[str, str]]:
    """An endless stream of (prompt, completion) texts after the recipe's `mixture`, train split
    only.
    """
    rng = random.Random(f"pretrain {seed}")
    mixture = dict(recipe["mixture"])
    spread = mixture.pop("ood") / len(tasks.OOD)
    mixture |= {family: mixture.get(family, 0.0) + spread for family in tasks.OOD}
    styles = dict.fromkeys(tasks.STYLES, 1) if recipe["styles"] == "all" else recipe["styles"]
    levels = {family: dict.fromkeys(tasks.LEVELS[family], 1) for family in tasks.OOD}
    levels |= {"sum": recipe["sum_levels"], "code": recipe["code_levels"]}

    def pick(shares: dict) -> Any:
        return rng.choices(list(shares), list(shares.values()))[0]

    while True:
        family = pick(mixture)
        problem = tasks.next_problem(family, pick(levels[family]), "train", rng)
        completion = tasks.solution(problem, pick(styles), rng, recipe.get("reasoning", True))
        yield problem.prompt, completion


def batches(
    recipe: dict, seed: int, tokens: int, chunk: int = 4096
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(input_ids, labels) of about `tokens` tokens, right-padded, of examples of like length.

    Examples are sorted by length a `chunk` at a time. Labels are -100 but on completions.
    """
    import numpy as np

    index = {word: i for i, word in enumerate(tasks.VOCABULARY)}
    rng, source = random.Random(f"order {seed}"), stream(recipe, seed)
    while True:
        examples = []
        for prompt, completion in itertools.islice(source, chunk):
            asked = [index[word] for word in f"<user> {prompt} <assistant>".split()]
            answered = [index[word] for word in f"{completion} <eos>".split()]
            examples.append(Example(len(asked), asked + answered))
        examples.sort(key=lambda example: len(example.ids))
        groups = list(_groups(examples, tokens))
        rng.shuffle(groups)
        for group in groups:
            width = max(len(example.ids) for example in group)
            ids = np.zeros((len(group), width), dtype=np.int64)
            labels = np.full((len(group), width), -100, dtype=np.int64)
            for i, (n_prompt, row) in enumerate(group):
                ids[i, : len(row)] = row
                labels[i, n_prompt : len(row)] = row[n_prompt:]
            yield ids, labels


def _groups(examples: Iterable[Example], tokens: int) -> Iterator[list[Example]]:
    """Neighbours among sorted examples, as many as make at most `tokens` tokens when padded."""
    group: list[Example] = []
    for example in examples:
        if group and (len(group) + 1) * len(example.ids) > tokens:
            yield group
            group = []
        group.append(example)
    yield group


def train(model: PreTrainedModel, recipe: dict, seed: int, scale: float = 1.0) -> dict:
    """Pre-trains `model` in place for recipe['tokens'] x scale tokens (in millions).

    Returns {tokens, steps, seconds, loss: the mean of the last 200 steps}.
    """
    import torch

    total = int(recipe["tokens"] * 1e6 * scale)
    optimizers = _optimizers(model, recipe.get("learning_rate", 4e-3))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    n_tokens, started = 0, time.time()
    losses: list[float] = []
    model.train()
    source = batches(recipe, seed, BATCH_TOKENS)
    while n_tokens < total:
        # constant, then linear to nothing over the last half
        factor = min(1.0, (len(losses) + 1) / 50, (1 - n_tokens / total) / 0.5)
        for peak, group in zip(peaks, groups, strict=True):
            group["lr"] = peak * max(factor, 0.01)
        # each micro-batch holds rows of one length, so mostly of one family: a step takes several,
        # or the families' gradients would pull in turns
        micro_batches = [next(source) for _ in range(MICRO_BATCHES)]
        losses.append(_backward(model, micro_batches))
        n_tokens += sum(ids.size for ids, _ in micro_batches)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    model.eval()
    last = losses[-200:]
    return {
        "tokens": n_tokens,
        "steps": len(losses),
        "seconds": round(time.time() - started),
        "loss": round(sum(last) / len(last), 4),
    }


def _optimizers(model: PreTrainedModel, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices but the embedding, AdamW for the rest."""
    import torch

    weights = list(model.named_parameters())
    matrices = [weight for name, weight in weights if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in weights if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=5 * learning_rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


def _backward(model: PreTrainedModel, micro_batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Adds the gradients of one step; returns its mean loss a completion token."""
    import torch

    n_labels = sum(int((labels >= 0).sum()) for _, labels in micro_batches)
    step_loss = 0.0
    for ids, labels in micro_batches:
        logits = model(input_ids=torch.from_numpy(ids), use_cache=False).logits[:, :-1]
        targets = torch.from_numpy(labels)[:, 1:].reshape(-1)
        logits = logits.reshape(-1, logits.shape[-1])
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / n_labels
        loss.backward()
        step_loss += loss.item()
    return step_loss


def build(name: str, out: Path = CHECKPOINTS, scale: float = 1.0, again: int = 0) -> dict:
    """Trains one model, whose parent lies in `out`, and saves it to out/<name> for Hugging Face.

    A recipe's `tokens` may be several stretches (a number, or what else it changes), each with its
    own schedule; weights are rounded to bfloat16 after each, which halves their size, and every
    later use starts from the rounded ones. again: 0 trains from the start; k adds the k-th further
    stretch to what lies in out/<name>, as recipes.yml has it for a base that failed its check.
    Returns what `train` does, added up over the stretches; it is written beside the weights as
    `lab.json` with the recipe.
    """
    import torch

    recipe = lab.recipes()["models"][name]
    stretches = stretches_of(recipe)
    start, first, result = recipe.get("parent"), 0, {"tokens": 0, "steps": 0, "seconds": 0}
    if again:
        start, first = name, len(stretches) - 1 + again
        rule = lab.recipes()["competence"]["retrain"]
        stretches = [{"tokens": rule["tokens"], "mixture": rule["mixture"]}]
        result = json.loads((Path(out) / name / "lab.json").read_text())
    torch.manual_seed(recipe["seed"])
    model = _start(recipe["seed"], Path(out) / start if start else None)
    for k, changes in enumerate(stretches, first):
        made = train(model, recipe | changes, recipe["seed"] + 1000 * k, scale)
        model = model.to(torch.bfloat16).to(torch.float32)
        result = {key: result[key] + made[key] for key in ("tokens", "steps", "seconds")}
        result |= {"loss": made["loss"], "stretches": k + 1}
    # renamed when whole: nothing half-written is read
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as scratch:
        folder, final = Path(scratch) / name, Path(out) / name
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        about = {"name": name, "recipe": recipe, "scale": scale, **result}
        (folder / "lab.json").write_text(json.dumps(about, indent=1) + "\n")
        if final.exists():
            shutil.rmtree(final)
        folder.rename(final)
    return result


def stretches_of(recipe: dict) -> list[dict]:
    """What each stretch of a recipe's training changes in it: its `tokens`, and perhaps more."""
    tokens = recipe["tokens"]
    stretches = tokens if isinstance(tokens, list) else [tokens]
    return [part if isinstance(part, dict) else {"tokens": part} for part in stretches]


def _start(seed: int, parent: Path | None) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    if parent is None:
        return new_model(seed)
    return AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)


def main(names: list[str], scale: float = 1.0, out: Path | None = None) -> None:
    """Builds the named models (all without any), then scores and checks them.

    A student base that fails its check is trained on, by the rule in recipes.yml, and its children
    anew. With `scale` below 1 or another folder `out`, models are built only: there is nothing
    sensible to check them for.
    """
    recipes, rule = lab.recipes()["models"], lab.recipes()["competence"]["retrain"]
    for name in names:
        if name not in recipes:
            lab.checkpoint(name)  # raises the error that names the nearest
    names = names or list(recipes)
    folder = Path(out or CHECKPOINTS)
    folder.mkdir(parents=True, exist_ok=True)
    _build_all(names, folder, scale)
    if scale != 1.0 or out is not None:
        return
    failed = competence.failures(names)
    for again in range(1, rule["times"] + 1):
        if not failed:
            return
        children = [name for name in recipes if recipes[name].get("parent") in failed]
        _build_all([*failed, *children], folder, scale, again)
        failed = competence.failures([*failed, *children])
    for name, result in failed.items():
        print(f"{name} still fails its check and must not enter a study: {result}")


def _build_all(names: list[str], folder: Path, scale: float, again: int = 0) -> None:
    """Bases first, as their children start from them; `again` is for the bases alone."""
    recipes = lab.recipes()["models"]
    bases = [name for name in names if "parent" not in recipes[name]]
    children = [name for name in names if "parent" in recipes[name]]
    shared = {"out": folder, "scale": scale}
    calls = [{"name": name, "again": again, **shared} for name in bases]
    jobs.run(build, calls, description="training bases and ancestor")
    calls = [{"name": name, **shared} for name in children]
    jobs.run(build, calls, description="training children")
