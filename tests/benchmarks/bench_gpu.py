"""One GPU in one call: SFT of a model of Qwen2.5-1.5B's shape against a bare TRL script, and the
transformers engine against `model.generate`, and RSR with the loss of 200 trajectories of 4,000
tokens against a plain forward pass; prints a table as its parts are done.

    python tests/benchmarks/bench_gpu.py               # all parts, under eight minutes on an H100
    python tests/benchmarks/bench_gpu.py --parts sft   # those whose names begin so
    python tests/benchmarks/bench_gpu.py --tiny        # a toy model, on a CPU too: does it run?

The model is random (Llama's classes, vocabulary 151,936) and made once; its tokenizer is the lab's.
Each part is a process of its own with a time limit, so that one that fails loses nothing else.
tokens/s is of the optimizer steps after the first, or of the sampling after a warm-up; ratios are
against the first row of a group. Peak memory is what PyTorch had allocated at most.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

IMPORTS = [  # paid once, by the process from which those of the parts are forked
    "datasets",
    "pandas",
    "torch",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
    "ded.evaluation",
    "ded.training",
]
ENVIRONMENT = {
    # else the question whether there is a GPU opens it, and a forked process cannot use it
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}
LAB = "lab:student_1"  # its tokenizer is the random model's too


@dataclass(frozen=True)
class Size:
    """How large the model and the examples are; lengths in tokens."""

    config: dict[str, int]
    long: int
    longest: int
    batch: int = 8  # examples an optimizer step
    steps: int = 3
    rows: int = 256  # sampled side by side
    sampled: int = 32  # tokens a row
    scored: int = 200  # trajectories
    scored_length: int = 4000


FULL = Size(
    {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    long=4096,
    longest=16_384,
)
TINY = Size(
    {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    long=128,
    longest=512,
    rows=32,
    sampled=8,
    scored=6,
    scored_length=300,
)


@dataclass(frozen=True)
class Work:
    """What a part is given: the sizes and a folder where the model lies."""

    size: Size
    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"


@dataclass(frozen=True)
class Part:
    """One measurement: rows of a group are compared with the first one done."""

    name: str
    group: str
    measure: Callable[..., dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    limit: int = 75  # seconds


# ---- what is trained on


def corpus(work: Work, lengths: list[int]) -> Any:
    """Trajectories of so many tokens, prompt and end token included."""
    import pandas as pd

    from ded import training

    rng = random.Random(0)
    rows = pd.DataFrame({"prompt": ["1 +2 ="] * len(lengths), "text": "<think> 1 </think> 3"})
    example = training.build_examples(f"path:{work.model}", rows.head(1), 10**6)[0]
    more = [length - len(example["input_ids"]) for length in lengths]
    words = [" ".join(rng.choices("123456789", k=1 + n)) for n in more]
    return rows.assign(text=[f"<think> {part} </think> 3" for part in words])


def lengths_of(work: Work, kind: str) -> list[int]:
    """even: all of `long` tokens; mixed: from an eighth of it; longest: two of the longest."""
    size = work.size
    if kind == "longest":
        return [size.longest] * 2
    if kind == "even":
        return [size.long] * size.batch
    return [size.long * (i + 1) // size.batch for i in range(size.batch)]


# ---- parts


def make(work: Work) -> dict[str, Any]:
    """The random model, bfloat16, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ded import models

    tok = models.load_tokenizer(LAB)
    config = LlamaConfig(
        **work.size.config,
        tie_word_embeddings=True,
        max_position_embeddings=32_768,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        net = LlamaForCausalLM(config)
    net.save_pretrained(work.model)
    tok.save_pretrained(work.model)
    return {
        "note": f"{net.num_parameters() / 1e9:.2f}B parameters, {torch.cuda.device_count()} GPU"
    }


def bare(
    work: Work, kind: str, step_ended: Callable[[int], None] = lambda n: None
) -> dict[str, Any]:
    """TRL as its manual has it, micro batch 1, activations computed again."""
    import datasets
    import torch
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    table = corpus(work, lengths_of(work, kind))
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": text}],
        }
        for prompt, text in zip(table["prompt"], table["text"], strict=True)
    ]
    arguments = SFTConfig(
        output_dir=str(work.folder / "bare"),
        learning_rate=1e-5,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=len(rows),
        max_steps=work.size.steps,
        max_length=None,
        bf16=True,
        gradient_checkpointing=True,
        use_cpu=not torch.cuda.is_available(),
        model_init_kwargs={"dtype": "float32"},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    ends = step_ends(step_ended)
    dataset = datasets.Dataset.from_list(rows)
    trainer = SFTTrainer(model=str(work.model), args=arguments, train_dataset=dataset)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return speed(work, kind, ends)


def ours(work: Work, kind: str, saved: bool = False, **trainer: Any) -> dict[str, Any]:
    """`training.sft`; but for `saved` what is trained is not written to the disk."""
    import torch
    from transformers import PreTrainedModel

    from ded import models, store, training
    from ded.options import Trainer

    fresh_store(work, fingerprints=saved)
    if not saved:
        PreTrainedModel.save_pretrained = lambda *_, **__: None
    if not torch.cuda.is_available():  # as if there were, but for the kernels
        models.free_on_gpu, trainer["liger"] = lambda: 2**33, False
    table = corpus(work, lengths_of(work, kind))
    ends = step_ends()
    spec = training.sft(
        f"path:{work.model}",
        table,
        learning_rate=1e-5,
        batch_size=len(table),
        max_steps=work.size.steps,
        max_length=work.size.longest,
        trainer=Trainer(dtype="bfloat16", **trainer),
    )
    used = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0
    record = next(store.root().glob(f"*/{spec.removeprefix('store:')}/training.json"))
    layout = json.loads(record.read_text())["layout"]
    how = "computed again" if layout["recomputed"] else "kept"
    micro, gib = f"micro batch {layout['micro_batch']}", f"{layout['gib']} GiB estimated"
    note = f"{micro}, activations {how}, {gib}, {used:.1f} reserved"
    return speed(work, kind, ends) | {"note": note}


def busy(work: Work, kind: str) -> dict[str, Any]:
    """The bare script, its second step under the profiler: how long the GPU computes, and what."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    gpu = torch.cuda.is_available()
    profiler = profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU])

    def step_ended(n: int) -> None:
        if n == 1:
            profiler.start()
        if n == 2:
            profiler.stop()

    measured = bare(work, kind, step_ended)
    kernels = sorted(profiler.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    for kernel in kernels[:12]:
        print(
            f"    {kernel.self_device_time_total / 1e6:8.3f} s {kernel.count:6} {kernel.key[:80]}"
        )
    seconds = sum(kernel.self_device_time_total for kernel in kernels) / 1e6
    n_kernels = sum(kernel.count for kernel in kernels)
    return measured | {"note": f"a step: {seconds:.2f} s in {n_kernels} kernels"}


def generate(work: Work, model: str) -> dict[str, Any]:
    """transformers' own sampling, all rows as one batch."""
    import torch

    from ded import models

    net, tok = models.load(spec_of(work, model), dtype_of(model)), models.load_tokenizer(LAB)
    prompts = [models.render(LAB, problem.prompt) for problem in questions(work)]
    batch = tok(prompts, add_special_tokens=False, padding=True, padding_side="left")
    inputs = {
        name: torch.tensor(batch[name], device=net.device)
        for name in ("input_ids", "attention_mask")
    }

    def sample(n_tokens: int) -> int:
        ids = net.generate(
            **inputs,
            do_sample=True,
            temperature=0.8,
            top_k=0,
            max_new_tokens=n_tokens,
            eos_token_id=tok.eos_token_id,
            pad_token_id=tok.pad_token_id,
        )
        new = ids[:, inputs["input_ids"].shape[1] :]
        ended = (new == tok.eos_token_id).cumsum(1)
        return int((ended == 0).sum() + (ended > 0).any(1).sum())

    sample(4)
    return sampling_speed(lambda: sample(tokens_of(work, model)))


def engine(work: Work, model: str, laptop: bool = False) -> dict[str, Any]:
    """`generation.sample`, or with as few rows side by side as without a GPU (`laptop`); how much
    is the model's part."""
    import torch

    from ded import generation, models
    from ded.options import Engine

    fresh_store(work)
    if laptop or not torch.cuda.is_available():
        models.free_on_gpu = lambda: 0 if laptop else 2**33
    spec, dtype = spec_of(work, model), dtype_of(model)
    net, seconds, start = models.load(spec, dtype), [0.0], [0.0]

    def clock() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def begins(*_: Any) -> None:
        start[0] = clock()

    def ends(*_: Any) -> None:
        seconds[0] += clock() - start[0]

    net.register_forward_pre_hook(begins)
    net.register_forward_hook(ends)

    def sample(n_tokens: int, seed: int) -> int:
        seconds[0] = 0.0
        table = generation.sample(
            spec,
            questions(work),
            max_tokens=n_tokens,
            temperature=0.8,
            seed=seed,
            engine=Engine(dtype=dtype),
        )
        return int(table["n_tokens"].sum())

    sample(4, seed=1)
    measured = sampling_speed(lambda: sample(tokens_of(work, model), seed=2))
    return measured | {"note": f"{seconds[0]:.1f} s of it in the model's forward passes"}


def plain(work: Work, dtype: str) -> dict[str, Any]:
    """All logits of each trajectory by one forward pass, which is what its loss needs at least."""
    import torch

    net, passages = models_and_passages(work, dtype)

    def forward(batch: list) -> float:
        with torch.inference_mode():
            for passage in batch:
                ids = torch.tensor([passage.ids], device=net.device)
                last = net(input_ids=ids, use_cache=False).logits[0, -1, 0]
        return float(last)  # waits for the GPU

    return scoring_speed(forward, passages)


def scored(work: Work, dtype: str) -> dict[str, Any]:
    """`analysis.token_sums`, from which loss and RSR are made."""
    from ded import analysis

    net, passages = models_and_passages(work, dtype)
    return scoring_speed(lambda batch: analysis.token_sums(net, batch), passages)


def models_and_passages(work: Work, dtype: str) -> tuple[Any, list]:
    from ded import analysis, models

    size, rng = work.size, random.Random(0)
    net = models.load(f"path:{work.model}", dtype)
    ids = [rng.choices(range(3, size.config["vocab_size"]), k=size.scored_length)] * size.scored
    return net, [analysis.Passage(row, 64) for row in ids]


def scoring_speed(score: Callable[[list], Any], passages: list) -> dict[str, Any]:
    score(passages[:1])  # the first pass also picks its kernels

    def scored_tokens() -> int:
        score(passages)
        return sum(len(passage.ids) for passage in passages)

    return sampling_speed(scored_tokens)


# ---- what the parts share


def step_ends(step_ended: Callable[[int], None] = lambda n: None) -> list[float]:
    """A list that fills with the times at which the optimizer steps of this process end."""
    import torch
    from transformers.trainer_callback import DefaultFlowCallback

    ends: list[float] = []
    original = DefaultFlowCallback.on_step_end

    def on_step_end(*args: Any, **more: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        step_ended(len(ends))
        return original(*args, **more)

    DefaultFlowCallback.on_step_end = on_step_end
    return ends


def speed(work: Work, kind: str, ends: list[float]) -> dict[str, Any]:
    """Each step takes every example once, so that all steps are of as many tokens."""
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    return {"tokens_per_s": sum(lengths_of(work, kind)) / seconds, "step": seconds}


def sampling_speed(sample: Callable[[], int]) -> dict[str, Any]:
    start = time.perf_counter()
    n_tokens = sample()
    return {"tokens_per_s": n_tokens / (time.perf_counter() - start)}


def fresh_store(work: Work, fingerprints: bool = False) -> None:
    """An empty store; without `fingerprints` the model's gigabytes are not hashed for its keys."""
    from ded import models

    os.environ["DED_STORE"] = str(work.folder / "store" / str(time.time()))
    if not fingerprints:
        models.fingerprint = lambda spec: spec


def questions(work: Work) -> list:
    from ded import problems

    return problems.load("lab:sum/7-9", work.size.rows, "train", "bench")


def spec_of(work: Work, model: str) -> str:
    return LAB if model == "lab" else f"path:{work.model}"


def dtype_of(model: str) -> str:
    return "float32" if model == "lab" else "bfloat16"


def tokens_of(work: Work, model: str) -> int:
    return work.size.sampled * (4 if model == "lab" else 1)


AUTO = {"liger": True}  # what the preset gpu sets: the rest by free memory
PARTS = [  # the most wanted first: a run that is cut short has them
    Part("make the model", "make", make, limit=90),
    Part("sft bare TRL", "sft", bare, {"kind": "even"}),
    Part("sft automatic", "sft", ours, {"kind": "even"} | AUTO),
    Part("mixed bare TRL", "mixed", bare, {"kind": "mixed"}),
    Part("mixed automatic", "mixed", ours, {"kind": "mixed"} | AUTO),
    Part("large generate", "sample 1.5B", generate, {"model": "large"}),
    Part("large engine", "sample 1.5B", engine, {"model": "large"}),
    Part("mixed packed", "mixed", ours, {"kind": "mixed", "packing": True} | AUTO),
    Part("longest bare TRL", "longest", bare, {"kind": "longest"}),
    Part("longest automatic", "longest", ours, {"kind": "longest"} | AUTO),
    Part("mixed by length, 2", "mixed", ours, {"kind": "mixed", "micro_batch": 2} | AUTO),
    Part("mixed by length, 4", "mixed", ours, {"kind": "mixed", "micro_batch": 4} | AUTO),
    Part("sft micro 1", "sft", ours, {"kind": "even", "micro_batch": 1} | AUTO),
    Part("sft automatic without liger", "sft", ours, {"kind": "even"}),
    Part("sft recomputed", "sft", ours, {"kind": "even", "gradient_checkpointing": True} | AUTO),
    Part("sft adapters, automatic", "sft", ours, {"kind": "even", "lora_rank": 64} | AUTO),
    Part("lab generate", "sample lab", generate, {"model": "lab"}),
    Part("lab engine", "sample lab", engine, {"model": "lab"}),
    Part("lab engine, 256 MiB", "sample lab", engine, {"model": "lab", "laptop": True}),
    Part("large engine, 256 MiB", "sample 1.5B", engine, {"model": "large", "laptop": True}),
    Part("sft automatic, saved", "sft", ours, {"kind": "even", "saved": True} | AUTO, limit=100),
    Part("score plain forward, bfloat16", "score bfloat16", plain, {"dtype": "bfloat16"}),
    Part("score RSR and loss, bfloat16", "score bfloat16", scored, {"dtype": "bfloat16"}),
    Part("score plain forward, float32", "score", plain, {"dtype": "float32"}, limit=120),
    Part("score RSR and loss, float32", "score", scored, {"dtype": "float32"}, limit=120),
    Part("sft profile of bare TRL", "sft", busy, {"kind": "even"}, limit=90),
]


# ---- the call


def in_process(part: Part, work: Work, connection: Connection) -> None:
    """Measures one part and sends the result, or what went wrong."""
    import torch

    try:
        result = part.measure(work, **part.options)
        if torch.cuda.is_available():
            result["gib"] = torch.cuda.max_memory_allocated() / 2**30
    except Exception as error:
        result = {"note": f"failed: {type(error).__name__}: {str(error)[:300]}"}
    connection.send(result)


def run(part: Part, work: Work, limit: float, method: str) -> dict[str, Any]:
    """The part's result, from a process of its own that gets so many seconds."""
    start = time.perf_counter()
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=in_process, args=(part, work, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv() if receiver.poll(limit) else {"note": f"stopped at {limit:.0f} s"}
    except EOFError:
        result = {"note": "its process died"}
    process.kill()
    process.join()
    return result | {"seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a toy model, for a CPU")
    parser.add_argument("--parts", nargs="*", default=[""], help="beginnings of names")
    parser.add_argument("--limit", type=float, default=450, help="seconds for all")
    parser.add_argument("--out", type=Path, help="a JSON file of all rows")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTS)
    method = "forkserver"
    end = time.perf_counter() + args.limit
    first: dict[str, float] = {}
    rows = []
    print(f"{'':<36}{'tokens/s':>10}{'ratio':>7}{'GiB':>7}{'s/step':>8}{'whole s':>9}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(TINY if args.tiny else FULL, Path(folder))
        for part in PARTS:
            if part.measure is not make and not part.name.startswith(tuple(args.parts)):
                continue
            limit = min(part.limit, end - time.perf_counter())
            row = {"note": "not run: no time"}
            if limit > 10:
                row = run(part, work, limit, method)
            if "forked subprocess" in row.get("note", ""):  # an import has opened the GPU
                method = "spawn"
                row = run(part, work, limit, method)
            if "tokens_per_s" in row:
                base = first.setdefault(part.group, row["tokens_per_s"])
                row["ratio"] = row["tokens_per_s"] / base
            print(line(part, row), flush=True)
            rows.append({"part": part.name, **row})
            if part.measure is make and not (work.model / "config.json").is_file():
                raise SystemExit("no model, nothing to measure")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))


def line(part: Part, row: dict[str, Any]) -> str:
    """A row of the table; empty cells for what was not measured."""
    columns = {"tokens_per_s": "10.0f", "ratio": "7.2f", "gib": "7.1f", "step": "8.2f"}
    columns["seconds"] = "9.0f"
    cells = [
        format(row[name], form) if name in row else " " * int(form.partition(".")[0])
        for name, form in columns.items()
    ]
    return f"{part.name:<36}{''.join(cells)}  {row.get('note', '')}"


if __name__ == "__main__":
    main()
