"""What a training is asked for: the settings that decide the weights; the whole job."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ded.errors import TrainingError
from ded.options import Trainer

MEND = (
    "lower trainer.micro_batch, set trainer.gradient_checkpointing, "
    "or share the model out with trainer.accelerate"
)

Example = dict[
    str, list[int]
]  # input_ids, and labels of the same length: -100 where nothing is learnt


@dataclass(frozen=True)
class Settings:
    """What of a training besides `trainer` decides the weights: part of the key of its result."""

    learning_rate: float  # the highest, after warm-up
    batch_size: int  # examples an optimizer step, over all processes
    epochs: float
    max_steps: int  # optimizer steps; above 0 they replace epochs
    warmup: float  # share of the steps
    max_length: int  # tokens, prompt included
    seed: int

    def steps(self, n_examples: int) -> int:
        """How many optimizer steps the training of so many examples takes."""
        return self.max_steps or optimizer_steps(n_examples, self.epochs, self.batch_size)


@dataclass(frozen=True)
class Job:
    """One training, as it is worked off in this process or handed to others as JSON."""

    student: str
    examples: list[Example]
    folder: Path  # where the model directory is written
    settings: Settings
    trainer: Trainer
    work: Path  # of checkpoints and logs
    host: str = field(default_factory=socket.gethostname)  # of the process that asked for it
    owner: int = field(default_factory=os.getpid)  # that process


def optimizer_steps(examples: int, epochs: float, batch_size: int) -> int:
    """How many optimizer steps `epochs` passes over so many examples are, at least one."""
    return max(1, round(examples * epochs / batch_size))


def micro_batch(job: Job, world: int) -> int:
    """The examples that each of `world` processes takes at a time. TrainingError where they do not
    fill the batch."""
    batch = job.settings.batch_size
    micro = job.trainer.micro_batch or max(1, batch // world)
    if batch % (micro * world):
        raise TrainingError(
            f"batch_size={batch} is no multiple of {world} process(es) x "
            f"trainer.micro_batch={micro}; change one of them"
        )
    return micro
