"""The loss on examples that are held out while a student trains: `trainer.validation_share`."""

from collections import Counter
from typing import Any

from ded.errors import TrainingError
from ded.problems import content_hash
from ded.training.job import Example


def hold_out(
    examples: list[Example], prompts: list[str], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """(examples to train on, examples held out): of the latter whole questions, drawn by the seed,
    until they are `share` of all examples or more. TrainingError where none is left to train on.

    prompts: of the examples; those with the same are one question.
    """
    counts, chosen, n = Counter(prompts), set(), 0
    for prompt in sorted(counts, key=lambda text: content_hash(f"{seed} {text}")):
        if n >= share * len(prompts):
            break
        chosen.add(prompt)
        n += counts[prompt]
    if len(chosen) == len(counts):
        left = f"leaves nothing of {len(counts)} question(s) to train on"
        raise TrainingError(f"trainer.validation_share = {share} {left}; lower it")
    pairs = list(zip(prompts, examples, strict=True))
    kept = [example for prompt, example in pairs if prompt not in chosen]
    return kept, [example for prompt, example in pairs if prompt in chosen]


def validation(trainer: Any, examples: list[Example]) -> Any:
    """A callback that logs the loss on these examples as `eval_loss`, in nats a token: before the
    first step, whenever the training loss is logged, and after the last step. It draws nothing
    at random, and every process measures all of it: one that holds a shard needs the others.
    """
    import torch
    from transformers import TrainerCallback

    def loss() -> float:
        nats, n_tokens, device = 0.0, 0, trainer.args.device
        with torch.no_grad(), trainer.compute_loss_context_manager():
            for example in examples:
                batch = {key: torch.tensor([ids], device=device) for key, ids in example.items()}
                n_learnt = sum(label != -100 for label in example["labels"][1:])
                mean = trainer.model_wrapped(**batch, use_cache=False).loss
                nats, n_tokens = nats + n_learnt * float(mean), n_tokens + n_learnt
        return nats / n_tokens

    class Validation(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not state.global_step:
                self.measure(control)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % args.logging_steps == 0 or state.global_step == state.max_steps:
                self.measure(control)

        def measure(self, control: Any) -> None:
            is_due = control.should_log  # the training loss, which a log of this one would call off
            trainer.model.eval()
            trainer.log({"eval_loss": loss()})
            trainer.model.train()
            control.should_log = is_due

    return Validation()
