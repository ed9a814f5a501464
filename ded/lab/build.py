"""Trains the lab's language models from scratch, each from a recipe in `recipes.yml`, with fixed
seeds.

This is pre-training, so it is a plain loop (Muon on matrices, AdamW on the rest); distillation goes
through `ded.training`.
"""

import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ded import jobs, progress
from ded.errors import ModelError
from ded.lab import catalogue as lab
from ded.lab import competence
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
    """A randomly initialised Llama of 0.3 M parameters, as recipes.yml has it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = lab.recipes()["architecture"]
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tasks.VOCABULARY), **shape))


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


def batches(recipe: dict, seed: int, tokens: int, chunk: int = 4096) -> Iterator[tuple]:
    """(input_ids, labels), tensors of about `tokens` tokens, right-padded, of examples of like
    length.

    Examples are sorted by length a `chunk` at a time. Labels are -100 but on completions.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    index = {word: i for i, word in enumerate(tasks.VOCABULARY)}
    rng, source = random.Random(f"order {seed}"), stream(recipe, seed)
    while True:
        examples = []
        for prompt, completion in itertools.islice(source, chunk):
            asked = [index[word] for word in f"<user> {prompt} <assistant>".split()]
            answered = [index[word] for word in f"{completion} <eos>".split()]
            labels = [-100] * len(asked) + answered
            examples.append((torch.tensor(asked + answered), torch.tensor(labels)))
        groups: list[list] = [[]]
        for example in sorted(examples, key=lambda example: len(example[0])):
            if groups[-1] and (len(groups[-1]) + 1) * len(example[0]) > tokens:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        for group in groups:
            rows, marked = zip(*group, strict=True)
            padded = pad_sequence(marked, batch_first=True, padding_value=-100)
            yield pad_sequence(rows, batch_first=True), padded


def train(model: Any, recipe: dict, seed: int, scale: float = 1.0) -> dict:
    """Pre-trains `model` in place for recipe['tokens'] x scale tokens (in millions).

    Returns {tokens, steps, seconds, loss: the mean of the last 200 steps}.
    """
    import torch

    total = int(recipe["tokens"] * 1e6 * scale)
    optimizers = _optimizers(model, recipe.get("learning_rate", 4e-3))
    n_tokens, started = 0, time.time()
    losses: list[float] = []
    model.train()
    source = batches(recipe, seed, BATCH_TOKENS)
    bar = progress.bar(total=total, desc="training", unit="token", unit_scale=True)
    while n_tokens < total:
        # constant, then linear to nothing over the last half
        factor = min(1.0, (len(losses) + 1) / 50, (1 - n_tokens / total) / 0.5)
        # each micro-batch holds rows of one length, so mostly of one family: a step takes several,
        # or the families' gradients would pull in turns
        micro_batches = [next(source) for _ in range(MICRO_BATCHES)]
        losses.append(_backward(model, micro_batches))
        n_tokens += sum(ids.numel() for ids, _ in micro_batches)
        bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
        bar.update(n_tokens - bar.n)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * max(factor, 0.01)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    bar.close()
    model.eval()
    last, seconds = losses[-200:], round(time.time() - started)
    loss = round(sum(last) / len(last), 4)
    return {"tokens": n_tokens, "steps": len(losses), "seconds": seconds, "loss": loss}


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


def build(name: str, out: Path = CHECKPOINTS, scale: float = 1.0, again: int = 0) -> dict:
    """Trains one model and saves it to out/<name> for Hugging Face; its parent lies in `out`, or
    else in the package.

    A recipe's `tokens` may be several stretches (a number, or what else it changes), each with its
    own schedule; weights are rounded to bfloat16 after each, which halves their size, and every
    later use starts from the rounded ones. again: 0 trains from the start; k adds the k-th further
    stretch to what lies in out/<name>, as recipes.yml has it for a base that failed its check.
    Returns what `train` does, added up over the stretches; it is written beside the weights as
    `lab.json` with the recipe.
    """
    import torch
    from transformers import AutoModelForCausalLM

    recipe, final = lab.recipes()["models"][name], out / name
    start, tokens = recipe.get("parent"), recipe["tokens"]
    stretches = tokens if isinstance(tokens, list) else [tokens]
    first, result = 0, {"tokens": 0, "steps": 0, "seconds": 0}
    if again:
        start, first = name, len(stretches) - 1 + again
        rule = lab.recipes()["competence"]["retrain"]
        stretches = [{"tokens": rule["tokens"], "mixture": rule["mixture"]}]
        result = json.loads((final / "lab.json").read_text())
    model = new_model(recipe["seed"])
    if start:
        parent = out / start if (out / start).is_dir() else CHECKPOINTS / start
        model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    for k, stretch in enumerate(stretches, first):
        changes = stretch if isinstance(stretch, dict) else {"tokens": stretch}
        made = train(model, recipe | changes, recipe["seed"] + 1000 * k, scale)
        model = model.to(torch.bfloat16).to(torch.float32)
        result = {key: result[key] + made[key] for key in ("tokens", "steps", "seconds")}
        result |= {"loss": made["loss"], "stretches": k + 1}
    # renamed when whole: nothing half-written is read
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as scratch:
        folder = Path(scratch) / name
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        about = {"name": name, "recipe": recipe, "scale": scale, **result}
        (folder / "lab.json").write_text(json.dumps(about, indent=1) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
    return result


def main(names: list[str], scale: float = 1.0, out: Path | None = None) -> None:
    """Builds the named models (all without any), then scores and checks them.

    A student base that fails its check is trained on, by the rule in recipes.yml, and its children
    anew. With `scale` below 1 or another folder `out`, models are built only: there is nothing
    sensible to check them for.
    """
    recipes, rule = lab.recipes()["models"], lab.recipes()["competence"]["retrain"]
    if scale != 1.0 and out is None:
        raise ModelError(
            "a scaled-down model is not to replace the package's: name a folder, --out"
        )
    for name in set(names) - set(recipes):
        lab.checkpoint(name)  # raises the error that names the nearest
    names, folder = names or list(recipes), out or CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    _build_all(names, folder, scale)
    if scale != 1.0 or out is not None:
        return
    failed = competence.record(names)
    for again in range(1, rule["times"] + 1):
        if not failed:
            return
        children = [name for name in recipes if recipes[name].get("parent") in failed]
        _build_all([*failed, *children], folder, scale, again)
        failed = competence.record([*failed, *children])
    for name, result in failed.items():
        print(f"{name} still fails its check and must not enter a study: {result}")


def _build_all(names: list[str], folder: Path, scale: float, again: int = 0) -> None:
    """Bases first, as their children start from them; `again` is for the bases alone."""
    recipes = lab.recipes()["models"]
    bases = [name for name in names if "parent" not in recipes[name]]
    calls = [{"name": name, "again": again, "out": folder, "scale": scale} for name in bases]
    jobs.run(build, calls, description="training bases and ancestor")
    calls = [{"name": name, "out": folder, "scale": scale} for name in names if name not in bases]
    jobs.run(build, calls, description="training children")
