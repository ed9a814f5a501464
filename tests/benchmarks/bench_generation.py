"""Our sampling against a plain left-padded `model.generate`, over the same prompts on the same
model; prints a table.

    python tests/benchmarks/bench_generation.py            # half a minute
    python tests/benchmarks/bench_generation.py --prompts 64 --max-tokens 256

One thread, as in a job of a study; seconds are of the processor, so that what else the machine
does counts for little. Both start from the prompts' text and end with the completions' text.
Tokens counted are those of the answers, up to the end token: what `generate` goes on to compute
for rows that have ended counts for nothing, as for whoever waits.
"""

import argparse
import time
from functools import partial

WAYS = ("plain", "ours", "one request")


def plain(model, prompts, max_tokens):
    """What a short script does: one padded batch, sampled to the end of its longest row."""
    import torch

    from ded import models

    net, tok = models.load(model), models.load_tokenizer(model)
    tok.padding_side = "left"
    batch = tok(
        [models.render(model, p.prompt) for p in prompts],
        return_tensors="pt",
        padding=True,
        add_special_tokens=False,
        return_token_type_ids=False,
    )
    with torch.inference_mode():
        whole = net.generate(
            **batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=max_tokens
        )[:, batch["input_ids"].shape[1] :]
    texts = tok.batch_decode(whole, skip_special_tokens=True)
    assert len(texts) == len(prompts)
    return sum(
        row.index(tok.eos_token_id) + 1 if tok.eos_token_id in row else len(row)
        for row in whole.tolist()
    )


def ours(model, prompts, max_tokens, seed):
    from ded import progress
    from ded.generation import engines, transformers
    from ded.options import Engine

    shard, settings = engines.Shard("", prompts, 0), engines.Settings(max_tokens, 1.0, 1.0, seed)
    with progress.bar(disable=True) as bar:
        table = transformers.draw_shard(model, shard, settings, Engine(), bar)
    return int(table["n_tokens"].sum())


def together(model, prompts, max_tokens, n):
    """n samples of each prompt in one request, as the notebooks ask for a pool."""
    from ded.generation import engines, transformers
    from ded.options import Engine

    shards = [engines.Shard(str(i), prompts, i) for i in range(n)]
    drawn = transformers.draw(model, shards, engines.Settings(max_tokens, 1.0, 1.0, 0), Engine())
    return sum(int(table["n_tokens"].sum()) for _, table in drawn)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("prompts", 256), ("max-tokens", 128), ("repeats", 8)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--model", default="lab:student_1", help="default lab:student_1")
    args = parser.parse_args()

    import torch

    from ded import problems

    torch.set_num_threads(1)
    suites = {
        "sums and short tasks": [
            ("lab:sum/7-9", args.prompts // 2),
            ("lab:reverse", args.prompts // 4),
            ("lab:sort", args.prompts // 4),
        ],
        "sums only": [("lab:sum/7-9", args.prompts)],
    }
    print(f"{'prompts':<22}{'how':<12}{'seconds':>9}{'tokens':>9}{'tokens/s':>10}{'ratio':>7}")
    for title, sources in suites.items():
        prompts = [p for source, n in sources for p in problems.load(source, n, "dev", "bench")]
        (
            plain(args.model, prompts[::32], 8),
            ours(args.model, prompts[::32], 8, 0),
        )  # imports and first calls
        # how long a plain batch runs is up to its longest row, so to luck: totals over draws
        seconds, tokens = dict.fromkeys(WAYS, 0.0), dict.fromkeys(WAYS, 0)
        for repeat in range(args.repeats):
            torch.manual_seed(repeat)
            for name, call in (
                ("plain", partial(plain, args.model, prompts, args.max_tokens)),
                ("ours", partial(ours, args.model, prompts, args.max_tokens, repeat)),
            ):
                start = time.process_time()
                tokens[name] += call()
                seconds[name] += time.process_time() - start
        start = time.process_time()
        tokens["one request"] = together(args.model, prompts, args.max_tokens, args.repeats)
        seconds["one request"] = time.process_time() - start
        rate = {name: tokens[name] / seconds[name] for name in seconds}
        for name in seconds:
            print(
                f"{title:<22}{name:<12}{seconds[name]:>9.2f}{tokens[name]:>9,}"
                f"{rate[name]:>10,.0f}{rate[name] / rate['plain']:>7.2f}"
            )


if __name__ == "__main__":
    main()
