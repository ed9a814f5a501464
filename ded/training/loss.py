"""The trainer where there is no GPU: the loss on the completion without what nothing here reads."""

from ded import spent

LARGE = 10**7  # parameters from which a forward pass costs what it computes, not that it is called


def completion_trainer() -> type:
    """TRL's trainer with transformers' loss, a class (made here, for TRL's import takes seconds).

    TRL's own loss, fast where Triton is, elsewhere projects every position, prompts included, to
    the vocabulary, again in the backward pass, for an entropy and an accuracy that nothing here
    reads. Here those from the first learnt one do. Rows of a batch of a large model go by twos of
    like length, so that little is computed on padding; the loss is their sum, the same.
    """
    with spent.on("import"):
        import torch
        from transformers import Trainer
        from trl import SFTTrainer

    class CompletionTrainer(SFTTrainer):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.large = self.model.num_parameters() > LARGE  # to count takes a while each time

        def floating_point_ops(self, inputs):
            return 0  # nothing here reads it, and it counts the parameters

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            mask = inputs.get("attention_mask")  # packed rows have none
            n_tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
            self._total_train_tokens += n_tokens * model.training
            parts = [inputs]
            alone = num_items_in_batch is not None and self.args.world_size == 1
            if mask is not None and alone and self.large:
                lengths = mask.sum(1)
                parts = [
                    {name: value[rows, : lengths[rows].max()] for name, value in inputs.items()}
                    for rows in lengths.argsort(stable=True).split(2)
                ]
            return sum(self.loss_of(model, part, num_items_in_batch) for part in parts)

        def loss_of(self, model, inputs, num_items_in_batch):
            labels = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=-100)
            learnt = (labels != -100).any(0).nonzero()
            first = int(learnt[0]) if len(learnt) else labels.shape[1] - 1
            inputs = inputs | {
                "labels": labels,
                "shift_labels": labels[:, first:].contiguous(),
                "logits_to_keep": labels.shape[1] - first,
                "use_cache": False,
            }
            return Trainer.compute_loss(self, model, inputs, num_items_in_batch=num_items_in_batch)

    return CompletionTrainer
