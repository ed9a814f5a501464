"""SFT through our wrapper against a bare TRL script on the same examples; prints a table.

    python tests/benchmarks/bench_training.py            # about a minute
    python tests/benchmarks/bench_training.py --examples 1600

Both load the student, tokenise, train as many steps and save; imports are paid before. One thread, as in a job of a study;
seconds are of the processor, so that what else the machine does counts for little.
"""

import argparse
import copy
import random
import statistics
import tempfile
import time
from pathlib import Path

SETTINGS = {"learning_rate": 1e-3, "epochs": 1.0, "max_steps": 0, "warmup": 0.1, "max_length": 512, "seed": 0}


def bare(student, corpus, folder, batch_size):
    """TRL's own way: conversations in, everything else left to it."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": [{"role": "user", "content": p}], "completion": [{"role": "assistant", "content": t}]} for p, t in corpus]
    steps = max(1, round(len(rows) / batch_size))
    arguments = SFTConfig(
        output_dir=str(folder / "scratch"), learning_rate=1e-3, per_device_train_batch_size=batch_size, max_steps=steps, warmup_steps=round(0.1 * steps),
        lr_scheduler_type="cosine", max_length=None, use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", report_to="none",
        disable_tqdm=True, dataloader_pin_memory=False, logging_steps=max(1, steps // 20),
    )  # fmt: skip
    tok = AutoTokenizer.from_pretrained(student)
    net = AutoModelForCausalLM.from_pretrained(student, dtype="float32")
    trainer = SFTTrainer(model=net, args=arguments, train_dataset=datasets.Dataset.from_list(rows), processing_class=tok)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.model.save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("examples", 480), ("batch-size", 16), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--model", default="lab:student_1", help="default lab:student_1")
    args = parser.parse_args()

    import datasets
    import pandas as pd
    import torch

    from ded import models, problems, training
    from ded.lab import tasks

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    rng = random.Random(0)
    asked = problems.load("lab:sum/7-9", args.examples, "train", "bench")
    corpus = pd.DataFrame([{"prompt": p.prompt, "text": tasks.solution(p, "random", rng)} for p in asked])

    def wrapped(table, folder):
        training._train(args.model, table, folder, SETTINGS | {"batch_size": args.batch_size})

    def plain(table, folder):
        bare(models.locate(args.model), list(zip(table["prompt"], table["text"])), folder, args.batch_size)

    seconds = {"bare TRL": [], "ours": []}
    for repeat in range(args.repeats + 1):  # the first, on a few examples, pays for imports
        for name, call in (("bare TRL", plain), ("ours", wrapped)):
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                call(copy.copy(corpus.head(args.batch_size if repeat == 0 else args.examples)), Path(folder))
                if repeat:
                    seconds[name].append(time.process_time() - start)
    middle = {name: args.examples / statistics.median(s) for name, s in seconds.items()}
    print(f"{'SFT':<12}{'seconds':>9}{'samples/s':>11}{'ratio':>7}")
    for name, rate in middle.items():
        print(f"{name:<12}{args.examples / rate:>9.2f}{rate:>11.1f}{rate / middle['bare TRL']:>7.2f}")


if __name__ == "__main__":
    main()
