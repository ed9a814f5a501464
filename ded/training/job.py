"""What a training is asked for: the settings that decide the weights, the token ids and labels of
each trajectory, and the whole job."""

import math
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic

from ded import models
from ded.errors import TrainingError
from ded.models import tokens
from ded.options import Trainer
from ded.problems import content_hash, texts
from ded.problems.texts import CLOSE, THINK

MEND = "lower trainer.micro_batch, or set trainer.gradient_checkpointing or trainer.accelerate"
Example = dict[str, list[int]]  # input_ids; as many labels, -100 where nothing is learnt


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid"})
class Settings:
    """What of a training besides `trainer` decides the weights: part of the key of its result."""

    learning_rate: float  # the highest, after warm-up
    batch_size: int  # examples an optimizer step, over all processes
    epochs: float = 1.0
    max_steps: int = 0  # optimizer steps; above 0 they replace epochs, to compare at equal steps
    warmup: float = 0.1  # share of the steps
    max_length: int = 512  # tokens, prompt included
    seed: int = 0


@dataclass(frozen=True)
class Job:
    """One training, as it is worked off in this process or handed to others as JSON."""

    student: str
    examples: list[Example]
    folder: Path  # where the model directory is written
    settings: Settings
    trainer: Trainer
    work: Path  # of checkpoints and logs
    held_out: list[Example] = field(default_factory=list)  # whose loss is logged
    host: str = field(default_factory=socket.gethostname)  # of the process that asked for it
    owner: int = field(default_factory=os.getpid)  # that process

    @property
    def steps(self) -> int:
        """Of the optimizer; with examples held out as many as without."""
        settings, n = self.settings, len(self.examples) + len(self.held_out)
        return settings.max_steps or optimizer_steps(n, settings.epochs, settings.batch_size)

    def tokens(self) -> dict[str, float]:
        """{tokens: how many the training passes through, limit: how many these might be}."""
        n_seen = self.steps * self.settings.batch_size
        mean = np.mean([len(example["input_ids"]) for example in self.examples])
        return {"tokens": n_seen * float(mean), "limit": n_seen * self.settings.max_length}


def optimizer_steps(examples: int, epochs: float, batch_size: int) -> int:
    """How many optimizer steps `epochs` passes over so many examples are, at least one."""
    return max(1, round(examples * epochs / batch_size))


def micro_batch(job: Job, world: int) -> int:
    """The examples that each of `world` processes takes at a time. TrainingError where they do not
    fill the batch."""
    batch = job.settings.batch_size
    micro = job.trainer.micro_batch or max(1, batch // world)
    if batch % (micro * world):
        parts = f"{world} process(es) x trainer.micro_batch={micro}"
        raise TrainingError(f"batch_size={batch} is no multiple of {parts}; change one of them")
    return micro


def build_examples(
    student: str, corpus: pd.DataFrame, max_length: int, truncate: bool = False
) -> list[Example]:
    """One {input_ids, labels} for each corpus row (columns prompt and text); labels are -100 on the
    prompt.

    Raises TrainingError if a think block is lost in tokenisation, or a sequence is longer than
    `max_length` tokens or than the model's context; with `truncate` its end is cut off instead, and
    only a prompt that leaves nothing to learn is an error.
    """
    context = getattr(models.config(student), "max_position_embeddings", None)  # of the model
    limit, over = max_length, f"over max_length={max_length}; drop it or raise max_length"
    if context and context < max_length:
        limit, over = context, f"over the model's context of {context}; drop it"
    examples = []
    for row, (prompt, completion) in enumerate(_tokenised(student, corpus)):
        ids, labels = prompt + completion, [-100] * len(prompt) + completion
        if (n := len(ids)) > limit and not truncate:
            raise TrainingError(f"row {row}: {n} tokens, {over}, or set trainer.allow_truncation")
        if len(prompt) >= limit:
            raise TrainingError(f"row {row}: {len(prompt)} tokens in the prompt alone, {over}")
        examples.append({"input_ids": ids[:limit], "labels": labels[:limit]})
    return examples


def hold_out(
    examples: list[Example], prompts: list[str], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """(examples to train on, examples held out): of the latter whole questions (of the same
    prompt), drawn by the seed, until they are `share` of all examples or more. TrainingError where
    none is left to train on.
    """
    drawn = sorted(set(prompts), key=lambda text: content_hash(f"{seed} {text}"))
    sizes = np.cumsum([0, *map(prompts.count, drawn)])
    chosen = set(drawn[: np.searchsorted(sizes, share * len(prompts))])
    if len(chosen) == len(drawn):
        nothing = f"leaves nothing of {len(drawn)} question(s) to train on"
        raise TrainingError(f"trainer.validation_share = {share} {nothing}; lower it")
    parts: tuple[list[Example], list[Example]] = [], []
    for example, prompt in zip(examples, prompts, strict=True):
        parts[prompt in chosen].append(example)
    return parts


def show_example(student: str, corpus: pd.DataFrame, row: int = 0) -> str:
    """One row as the student is trained on it, decoded from its tokens; the loss is on »this«."""
    if corpus.empty:
        return "no example: no trajectory passed the filters"
    prompt, completion = next(_tokenised(student, corpus.iloc[[row]]))
    tok = models.load_tokenizer(student)
    return f"{tok.decode(prompt)}»{tok.decode(completion)}«"


def length_histogram(
    student: str, corpus: pd.DataFrame, max_length: int, bins: int = 8
) -> pd.DataFrame:
    """How long the training sequences are: tokens (a range, prompt included), examples, share; what
    is over max_length comes last."""
    lengths = [len(prompt) + len(completion) for prompt, completion in _tokenised(student, corpus)]
    edges = sorted({max_length * i // bins for i in range(bins + 1)})
    labels = [f"{low + 1}-{high}" for low, high in pairwise(edges)] + [f"over {max_length}"]
    counts = pd.cut(lengths, [*edges, math.inf], labels=labels).value_counts().tolist()
    table = pd.DataFrame({"tokens": labels, "examples": counts})
    return table.assign(share=(table["examples"] / max(1, len(lengths))).round(3))


def _tokenised(student: str, corpus: pd.DataFrame) -> Iterator[tuple[list[int], list[int]]]:
    """Yields each row's token ids: rendered prompt, completion with its end token.

    That is the tokenizer's eos_token, at which every engine stops: once, whatever the text ends in
    and whatever else (another token, a line end) the chat template writes after an answer.
    """
    tok = models.load_tokenizer(student)
    if tok.eos_token_id is None:
        lack = "its tokenizer has no eos_token, so it could not learn to stop"
        raise TrainingError(f"{student!r}: {lack}; name one in tokenizer_config.json")
    end = tok.decode([tok.eos_token_id])
    for row, (prompt, text) in enumerate(zip(corpus["prompt"], corpus["text"], strict=True)):
        try:
            learnt = trained_texts(student, prompt, texts.ended(text, end))[1]
        except TrainingError as error:
            raise TrainingError(f"row {row}: {error}") from None
        completion = [*tokens.encode(tok, learnt), tok.eos_token_id]
        if tok.decode(completion).count(THINK) != learnt.count(THINK):
            lost = f"{THINK} does not survive the tokenizer of {student!r}"
            raise TrainingError(f"row {row}: {lost}; add it to the vocabulary")
        yield models.prompt_ids(student, prompt), completion


def trained_texts(student: str, prompt: str, text: str) -> tuple[str, str]:
    """(the prompt as the student's template renders it, the completion that is learnt) of a
    trajectory: together they open one think block at most.

    Where the template opens the block, the text's own tag is left out, and a text without thinking
    closes the block first. Where it closes an empty block, an empty one of the text is left out.
    TrainingError where it closes one and the text thinks.
    """
    rendered = models.render(student, prompt)
    if rendered.rstrip().endswith(THINK):
        thought = re.sub(rf"^(\s*{THINK}\n?)+", "", text)
        thinks = thought != text or texts.thinks(text)
        return rendered, thought if thinks else f"\n{CLOSE}\n\n{text}"
    if rendered.rstrip().endswith(CLOSE):
        text = re.sub(rf"^\s*{THINK}\s*{CLOSE}\s*", "", text)
        if text.lstrip().startswith(THINK):
            closes = f"the chat template of {student!r} closes an empty think block in the prompt"
            mend = "switch thinking on ('?{thinking: true}' after the model, or the parameter chat)"
            raise TrainingError(f"{closes}, and the trajectory opens another; {mend}")
    return rendered, text
