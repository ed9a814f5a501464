"""Trains the lab's language models from scratch, each from a recipe in `recipes.yml`, with fixed seeds.

This is pre-training, so it is a plain loop (Muon on matrices, AdamW on the rest); distillation goes through `ded.training`.
"""

from __future__ import annotations

import bisect
import itertools
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

from ded.lab import catalogue as lab
from ded.problems import lab as tasks

CHECKPOINTS = lab.HERE / "checkpoints"
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<user> ' + m['content'] + ' ' }}"
    "{% else %}{{ '<assistant> ' + m['content'] + ' <eos> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tokenizer():
    """The lab's word-level tokenizer, an ordinary transformers tokenizer with a chat template that carries think blocks."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(tasks.VOCABULARY)}, unk_token="<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )
    tok.chat_template, tok.model_max_length = TEMPLATE, 512
    return tok


def new_model(seed: int):
    """A randomly initialised Llama of 0.3 M parameters: hidden 96, 3 layers, 3 heads of 32 (so that vLLM can serve it).

    The rotary base is 300, not 10,000: texts here are under 150 tokens, and positions are told apart sooner.
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


def stream(recipe: dict, seed: int):
    """An endless stream of (prompt, completion) texts after the recipe's `mixture`, from the train split only."""
    rng = random.Random(f"pretrain {seed}")
    mixture = dict(recipe["mixture"])
    spread = mixture.pop("ood") / len(tasks.OOD)
    mixture |= {family: mixture.get(family, 0.0) + spread for family in tasks.OOD}
    styles = dict.fromkeys(tasks.STYLES, 1) if recipe["styles"] == "all" else recipe["styles"]
    levels = {f: dict.fromkeys(tasks.LEVELS[f], 1) for f in tasks.OOD} | {
        "sum": recipe["sum_levels"],
        "code": recipe["code_levels"],
    }

    def pick(shares: dict):
        return rng.choices(list(shares), list(shares.values()))[0]

    while True:
        family = pick(mixture)
        problem = tasks.next_problem(family, pick(levels[family]), "train", rng)
        yield (
            problem.prompt,
            tasks.solution(problem, pick(styles), rng, recipe.get("reasoning", True)),
        )


def batches(recipe: dict, seed: int, tokens: int, chunk: int = 4096):
    """Batches of about `tokens` tokens of like length: (input_ids, labels) arrays, right-padded, loss on completions only."""
    import numpy as np

    index = {w: i for i, w in enumerate(tasks.VOCABULARY)}
    rng, source = random.Random(f"order {seed}"), stream(recipe, seed)
    while True:
        rows = []
        for prompt, completion in itertools.islice(source, chunk):
            p = [index[w] for w in f"<user> {prompt} <assistant>".split()]
            rows.append((len(p), p + [index[w] for w in completion.split()] + [2]))
        rows.sort(key=lambda r: len(r[1]))
        groups, start = [], 0
        while start < len(rows):
            end = (
                bisect.bisect_left(
                    range(start + 1, len(rows)),
                    True,
                    key=lambda e: (e - start + 1) * len(rows[e][1]) > tokens,
                )
                + start
                + 1
            )
            groups.append(rows[start:end])
            start = end
        rng.shuffle(groups)
        for group in groups:
            width = max(len(r) for _, r in group)
            ids = np.zeros((len(group), width), dtype=np.int64)
            labels = np.full((len(group), width), -100, dtype=np.int64)
            for i, (n, row) in enumerate(group):
                ids[i, : len(row)] = row
                labels[i, n : len(row)] = row[n:]
            yield ids, labels


def train(model, recipe: dict, seed: int, scale: float = 1.0, report=None) -> dict:
    """Pre-trains `model` in place for recipe['tokens'] x scale tokens (in millions). Returns {tokens, steps, seconds, loss}."""
    import torch

    total, lr = int(recipe["tokens"] * 1e6 * scale), recipe.get("learning_rate", 4e-3)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=5 * lr, weight_decay=0.0),
        torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.95)),
    ]
    rates = [g["lr"] for o in optimizers for g in o.param_groups]
    seen, step, started, losses = 0, 0, time.time(), []
    model.train()
    source = batches(recipe, seed, recipe.get("micro_tokens", 512))
    while seen < total:
        # each micro-batch holds rows of one length, so mostly of one family: a step takes several, or the families' gradients
        # would pull in turns
        micro = [next(source) for _ in range(recipe.get("micro_batches", 4))]
        count = sum(int((labels >= 0).sum()) for _, labels in micro)
        factor = min(
            1.0, (step + 1) / 50, (1 - seen / total) / recipe.get("decay", 0.5)
        )  # constant, then linear to nothing
        for rate, group in zip(rates, (g for o in optimizers for g in o.param_groups)):
            group["lr"] = rate * max(factor, 0.01)
        step_loss = 0.0
        for ids, labels in micro:
            ids, labels = torch.from_numpy(ids), torch.from_numpy(labels)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            loss = (
                torch.nn.functional.cross_entropy(
                    logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), reduction="sum"
                )
                / count
            )
            loss.backward()
            step_loss += loss.item()
            seen += ids.numel()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        step += 1
        losses.append(step_loss)
        if report and step % 200 == 0:
            report(
                f"{seen / 1e6:.1f}M tokens, {seen / (time.time() - started):,.0f}/s, loss {sum(losses[-200:]) / 200:.4f}"
            )
    model.eval()
    return {
        "tokens": seen,
        "steps": step,
        "seconds": round(time.time() - started),
        "loss": round(sum(losses[-200:]) / len(losses[-200:]), 4),
    }


def build(
    name: str, out: Path = CHECKPOINTS, scale: float = 1.0, again: int = 0, quiet: bool = False
) -> dict:
    """Trains one model (its parent must lie in `out`) and saves it to out/<name> as an ordinary Hugging Face directory.

    A recipe's `tokens` may be several stretches (a number, or what else it changes), each with its own schedule; weights are rounded to bfloat16
    after each, which halves their size, and every later use starts from the rounded ones. again: 0 trains from the start; k adds
    the k-th further stretch to what lies in out/<name>, as recipes.yml has it for a base that failed its check. Returns what
    `train` does, added up over the stretches; written beside the weights as `lab.json` with the recipe.
    """
    import torch
    from transformers import AutoModelForCausalLM

    recipe = lab.recipes()["models"][name]
    stretches = recipe["tokens"] if isinstance(recipe["tokens"], list) else [recipe["tokens"]]
    parts, start, result = (
        list(enumerate(stretches)),
        recipe.get("parent"),
        {"tokens": 0, "steps": 0, "seconds": 0},
    )
    if again:
        result = json.loads((Path(out) / name / "lab.json").read_text())
        rule = lab.recipes()["competence"]["retrain"]
        parts, start = (
            [(len(stretches) - 1 + again, {"tokens": rule["tokens"], "mixture": rule["mixture"]})],
            name,
        )
    torch.manual_seed(recipe["seed"])
    model = (
        AutoModelForCausalLM.from_pretrained(Path(out) / start, dtype=torch.float32)
        if start
        else new_model(recipe["seed"])
    )
    for k, stretch in parts:
        changes = stretch if isinstance(stretch, dict) else {"tokens": stretch}
        report = None if quiet else lambda line: print(f"{name}: {line}", flush=True)
        made = train(model, recipe | changes, recipe["seed"] + 1000 * k, scale, report)
        model = model.to(torch.bfloat16).to(torch.float32)
        result = {key: result[key] + made[key] for key in ("tokens", "steps", "seconds")} | {
            "loss": made["loss"],
            "stretches": k + 1,
        }
    with tempfile.TemporaryDirectory(
        dir=out, prefix=f".{name}-"
    ) as scratch:  # renamed when whole: nothing half-written is read
        folder = Path(scratch) / name
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        (folder / "lab.json").write_text(
            json.dumps({"name": name, "recipe": recipe, "scale": scale, **result}, indent=1) + "\n"
        )
        final = Path(out) / name
        if final.exists():
            shutil.rmtree(final)
        folder.rename(final)
    return result


def main(names: list[str], scale: float = 1.0, out: Path | None = None) -> None:
    """Builds the named models (all without any), parents first and independent ones side by side, then scores and checks them.

    A student base that fails its check is trained on, by the rule in recipes.yml. With `scale`
    below 1 or another folder `out`, models are built only: there is nothing sensible to check them for.
    """
    from ded import jobs

    all_recipes, rules = lab.recipes()["models"], lab.recipes()["competence"]["retrain"]
    if unknown := [n for n in names if n not in all_recipes]:
        lab.checkpoint(unknown[0])  # raises the error that names the nearest
    folder = Path(out or CHECKPOINTS)
    folder.mkdir(parents=True, exist_ok=True)
    todo, failed = list(names or all_recipes), []
    for again in range(rules["times"] + 1):
        for parents in (False, True):
            batch = [n for n in todo if bool(all_recipes[n].get("parent")) == parents]
            calls = [
                {
                    "name": n,
                    "out": folder,
                    "scale": scale,
                    "again": again * (n in failed),
                    "quiet": True,
                }
                for n in batch
            ]
            jobs.run(
                build,
                calls,
                description="training " + ("children" if parents else "bases and ancestor"),
            )
        if scale != 1.0 or out is not None:
            return
        from ded.lab import competence

        recorded = competence.record(todo)
        failed = [n for n in todo if not recorded[n].get("check", {}).get("passed", True)]
        todo = failed + [n for n in all_recipes if all_recipes[n].get("parent") in failed]
        if not failed:
            return
    for n in failed:
        print(f"{n} still fails its check and must not enter a study: {recorded[n]['check']}")
