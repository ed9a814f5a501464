"""The vLLM engine beyond what all engines promise (test_engines.py): its requests, its numbers,
and what is left of it after a death."""

import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import psutil
import pytest
import tqdm.auto

from ded import generation, models, problems, store
from ded.errors import EngineError
from ded.generation import journal, vllm
from ded.generation.engines import Settings, Shard
from ded.generation.journal import Drawing
from ded.options import Engine
from ded.problems import Problem

MODEL, PYTHON = "lab:student_1", sys.executable
pytestmark = pytest.mark.usefixtures("tiny")
really = pytest.mark.skipif(
    not find_spec("vllm") and not os.environ.get("DED_REQUIRE_VLLM"), reason="vLLM is not installed"
)


def questions(n, *sources):
    return [
        p for source in sources or ("lab:sum/5-9",) for p in problems.load(source, n, "dev", "vllm")
    ]


def sample(asked, n=1, engine=None, **settings):
    return generation.sample(
        MODEL,
        asked,
        n,
        **{
            "max_tokens": 30,
            "temperature": 0.8,
            "engine": Engine(**{"name": "vllm"} | (engine or {})),
        }
        | settings,
    )


def planned(shards, temperature=0.8, max_tokens=9, **engine):
    return vllm.plan(
        MODEL,
        Drawing(shards).unfinished,
        Settings(max_tokens, temperature, 1.0, 3),
        Engine(name="vllm", **engine),
    )


def places(job):
    """(key of the shard, number of the row) of what each request draws."""
    return [[(row.shard.key, row.place) for row in request.rows] for request in job.requests]


def row(ids, finish):
    return {
        "token_ids": ids,
        "n_tokens": len(ids) + (finish == "stop"),
        "finish_reason": finish,
        "entropy_sum": 1.0,
        "missing_mass": 0.0,
    }


def begun_shard(key, asked, rows):
    """A shard with the rows that a lower max_tokens left."""
    shard = Shard(key, asked, 0)
    return replace(shard, started=shard.table([{"text": ""} | row for row in rows]))


def prompt_ids(problem):
    return models.load_tokenizer(MODEL)(
        models.render(MODEL, problem.prompt), add_special_tokens=False
    )["input_ids"]


# ---- requests


def test_all_samples_of_a_prompt_are_one_request():
    asked = questions(3)
    job = planned(
        [Shard("a", asked, 0), Shard("b", asked, 1), Shard("c", asked[:2], 3)]
    )  # sample 2 is there already
    requests = job.requests
    assert places(job) == [[("a", i), ("b", i)] for i in range(3)] + [[("c", i)] for i in range(2)]
    assert [r.ids for r in requests[:3]] == [prompt_ids(p) for p in asked]
    assert requests[3].seed == requests[0].seed + 3  # as if all four had been drawn at once
    assert len({r.seed for r in requests[:3]}) == 3 and {r.max_tokens for r in requests} == {9}
    greedy = planned([Shard("a", asked, 0), Shard("b", asked, 1)], temperature=0.0)
    assert {len(r.rows) for r in greedy.requests} == {1}  # vLLM takes no n with greedy


def test_a_row_begun_goes_on_from_its_tokens_with_new_noise():
    asked = questions(4)
    fresh = planned([Shard("a", asked, 0)])
    started = [row([5, 6, 7], "length"), row([5, 6], "stop"), row([5] * 9, "length")]
    journal.add(Shard("b", asked, 0), 1, row([5, 6, 7], "length"))  # what an interrupted draw did
    begun = planned([begun_shard("a", asked[:3], started), Shard("b", asked[2:], 0)])
    # one has ended, one is as long as was asked for, one was finished before an interruption
    assert places(begun) == [[("a", 0)], [("b", 0)]]
    first = begun.requests[0]
    assert first.ids == [*prompt_ids(asked[0]), 5, 6, 7] and first.max_tokens == 6
    assert first.seed != fresh.requests[0].seed
    full = len(prompt_ids(asked[0])) + 3
    again = planned([begun_shard("a", asked[:1], started[:1])], max_model_len=full)
    assert again.requests == []  # the context is full
    with pytest.raises(
        EngineError,
        match=rf"{asked[0].id!r} takes {full - 3} tokens of a context of {full - 3}.*max_model_len",
    ):
        planned([Shard("a", asked, 0)], max_model_len=full - 3)


def test_what_vllm_is_asked_to_measure(monkeypatch):
    shards, vocabulary = [Shard("a", questions(2), 0)], len(models.load_tokenizer(MODEL))
    for top, known, seen in (
        (20, 256, vocabulary),
        (0, 256, 0),
        (20, 10, 20),
        (10**6, 10, vocabulary),
    ):
        monkeypatch.setattr(vllm, "FULL", known)
        job = planned(shards, entropy_top=top)
        assert job.llm["max_logprobs"] == seen and job.sampling["logprobs"] == (seen or None)
        assert job.llm["logprobs_mode"] == "raw_logprobs"  # at temperature 1, whatever the draw's


def test_what_vllm_is_asked_to_sample_from():
    shards = [Shard("a", questions(1), 0)]
    assert {"top_k", "min_p", "repetition_penalty"}.isdisjoint(planned(shards).sampling)
    filters = {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}
    assert planned(shards, **filters).sampling.items() >= filters.items()


def test_gpus_are_shared_out_over_replicas(monkeypatch):
    assert vllm.devices(Engine(name="vllm", data_parallel=3), 2) == [
        {},
        {},
    ]  # on a CPU, and no more replicas than requests
    monkeypatch.setattr(vllm, "on_cpu", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    two = Engine(name="vllm", data_parallel=2, tensor_parallel=2)
    assert vllm.devices(two, 9) == [
        {"CUDA_VISIBLE_DEVICES": "4,5"},
        {"CUDA_VISIBLE_DEVICES": "6,7"},
    ]
    assert vllm.devices(Engine(name="vllm", tensor_parallel=2), 9) == [{}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    with pytest.raises(EngineError, match="need 4 GPUs, and CUDA_VISIBLE_DEVICES names 3"):
        vllm.devices(two, 9)


def test_rows_are_put_together(monkeypatch):
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    monkeypatch.setattr(
        models, "think_prefix", lambda model: "<think>\n"
    )  # a template that opens the block in the prompt
    drawn = iter([row([12], "length"), row([], "stop"), row([13, 14], "stop")])
    monkeypatch.setattr(
        vllm,
        "sampled",
        lambda model, job, engine: ((i, 0, next(drawn)) for i in range(len(job.requests))),
    )
    assert list(sample(questions(2), max_tokens=1).token_ids) == [[12], []]
    longer = sample(questions(2), max_tokens=5)
    assert (
        list(longer.token_ids) == [[12, 13, 14], []]
        and list(longer.n_tokens) == [4, 1]
        and list(longer.entropy_sum) == [2.0, 1.0]
    )
    assert list(longer.text) == [
        "<think>\n" + models.load_tokenizer(MODEL).decode([12, 13, 14]),
        "<think>\n",
    ]


def test_not_installed(monkeypatch):
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(
        EngineError, match=r"vllm is not installed; `make setup LOCK=requirements/gpu.lock`"
    ):
        sample(questions(1))


# ---- numbers


@really
def test_greedy_texts_and_entropies_are_those_of_transformers():
    asked = questions(30, "lab:sum/5-9", "lab:reverse")  # prompts of many lengths
    ours = sample(asked, 2, {"data_parallel": 2}, temperature=0.0)
    theirs = sample(asked, 2, {"name": "transformers"}, temperature=0.0)
    same = np.array([a == b for a, b in zip(ours.token_ids, theirs.token_ids, strict=True)])
    assert same.mean() > 0.95  # a tie may fall the other way
    assert (ours.finish_reason == theirs.finish_reason)[same].all() and (ours.text == theirs.text)[
        same
    ].all()
    assert (
        np.allclose(ours.entropy_sum[same], theirs.entropy_sum[same], atol=1e-3)
        and ours.missing_mass.max() < 1e-3
    )
    assert list(ours.dtypes) == list(theirs.dtypes)


@really
def test_draws_follow_the_model_and_unseen_mass_is_reported(monkeypatch):
    import torch
    from scipy.stats import chisquare

    monkeypatch.setattr(vllm, "FULL", 0)
    asked = [Problem(f"copy:{i}", "sum", 5, "1 +2 -3 +4 +5 =", "2") for i in range(300)]
    table = sample(asked, 3, {"entropy_top": 4}, temperature=0.7, max_tokens=1)
    with torch.inference_mode():
        logits = (
            models.load(MODEL)(input_ids=torch.tensor([prompt_ids(asked[0])]))
            .logits[0, -1]
            .double()
        )
    wanted, p = torch.softmax(logits / 0.7, -1).numpy(), torch.softmax(logits, -1).numpy()
    tok = models.load_tokenizer(MODEL)
    counts = np.bincount(
        [ids[0] if len(ids) else tok.eos_token_id for ids in table.token_ids], minlength=len(p)
    )
    assert (wanted * len(table)).min() > 3 and chisquare(counts, wanted * len(table)).pvalue > 1e-4
    assert (
        table.groupby("sample_index").token_ids.apply(lambda t: tuple(map(tuple, t))).nunique() == 3
    )
    top = np.sort(p)[-4:]
    assert np.allclose(table.entropy_sum, -(top * np.log(top)).sum(), atol=1e-4) and np.allclose(
        table.missing_mass, 1 - top.sum(), atol=1e-4
    )
    partial, missing = (
        table.entropy_sum.mean(),
        table.missing_mass.mean(),
    )  # the bounds of docs/engines.md
    assert (
        partial + missing * math.log(4)
        <= -(p * np.log(p)).sum()
        <= partial + missing * math.log((len(p) - 4) / missing)
    )


# ---- deaths


ENGINE = """
    import json, os, sys, time

    job = json.load(open(sys.argv[3]))
    rows = open(sys.argv[3][:-5] + ".rows", "a", buffering=1)

    def write(requests, token):
        for request in requests:
            row = {"token_ids": [token], "n_tokens": 2, "finish_reason": "stop",
                   "entropy_sum": 1.0, "missing_mass": 0.0}
            print(json.dumps([request["number"], 0, row]), file=rows)

"""


def fake(folder, body):
    """A program in place of Python with vLLM, that is given the job and writes `rows`."""
    file = folder / "engine"
    file.write_text(f"#!{PYTHON}\n{textwrap.dedent(ENGINE)}{textwrap.dedent(body)}")
    file.chmod(0o755)
    return str(file)


DEATHS = {
    "a kill": (
        "os.kill(os.getpid(), 9)",
        ["killed by SIGKILL", "To mend it: lower engine.max_model_len"],
    ),
    "memory": (
        "sys.exit('[rank0]: ValueError: 2.00 GiB are free, 8.00 GiB are wanted\\n[rank0]:   ^^^^')",
        ["exit code 1)", "ValueError: 2.00 GiB are free", "To mend it"],
    ),
    "another error": ("sys.exit('KeyError: 7')", ["exit code 1)", "KeyError: 7"]),
    "an end too soon": ("", ["exit code 0"]),
}


@pytest.mark.parametrize("death", DEATHS)
def test_what_a_dead_engine_leaves_is_kept_and_told(death, monkeypatch, tmp_path):
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    asked, (body, parts) = questions(5), DEATHS[death]
    some = "write(job['requests'][:3], 12)\nrows.write('[4, 0, {\"tok')\n"
    monkeypatch.setattr(vllm.sys, "executable", fake(tmp_path, some + body))
    with pytest.raises(EngineError) as caught:
        sample(asked)
    for part in [f"model {MODEL!r}: vLLM ended early", "3 of 5 rows are stored; run again", *parts]:
        assert part in str(caught.value)
    assert ("To mend it" in str(caught.value)) == (death in ("a kill", "memory"))
    monkeypatch.setattr(
        tqdm.auto, "tqdm", partial(tqdm.auto.tqdm, disable=True)
    )  # as in the jobs of a study
    rest = "assert len(job['requests']) == 2\nwrite(job['requests'], 13)"
    monkeypatch.setattr(vllm.sys, "executable", fake(tmp_path, rest))
    assert [ids[0] for ids in sample(asked).token_ids] == [12, 12, 12, 13, 13]
    assert not list(store.root().glob("journal/*"))


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_full_disk_ends_every_engine(replicas, monkeypatch, tmp_path):
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    monkeypatch.setattr(generation, "SHARD", 2)
    two = "write(job['requests'][:2], 12)\ntime.sleep(100)"
    monkeypatch.setattr(vllm.sys, "executable", fake(tmp_path, two))
    running = []

    def full(key, compute):
        running.extend(engines_of(os.getpid()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "table", full)
    with pytest.raises(OSError, match="No space left") as caught:  # a notebook keeps its traceback
        sample(questions(6), engine={"data_parallel": replicas})
    assert caught.tb and len(running) == replicas and not any(p.is_running() for p in running)
    assert len(list(store.root().glob("journal/*"))) > 0


def engines_of(pid):
    return [
        p for p in psutil.Process(pid).children() if "ded.generation.vllm_worker" in p.cmdline()
    ]


@really
def test_why_vllm_did_not_start(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "100000")
    with pytest.raises(
        EngineError,
        match=r"(?s)vLLM ended early \(exit code 1\); 0 of 2 rows.*VLLM_CPU_KVCACHE_SPACE is.*GiB",
    ):
        sample(questions(2))


SCRIPT = """
    import time
    from ded import generation, problems
    from ded.generation import journal
    from ded.options import Engine

    def add(shard, place, row, real=journal.add, seen=[]):
        if len(seen) == 20:
            print("ready", flush=True)
            time.sleep(1000)
        seen.append(real(shard, place, row))

    journal.add, generation.SHARD = add, 64
    asked = problems.load("lab:sum/5-9", 128, "dev", "vllm")
    engine = Engine(name="vllm")
    generation.sample("lab:student_1", asked, 2, max_tokens=30, temperature=0.8, engine=engine)
"""


@really
def test_rows_outlive_a_kill_and_the_engine_does_not(monkeypatch):
    monkeypatch.setattr(generation, "SHARD", 64)
    asked, real, sizes = questions(128), vllm.sampled, []
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "ready\n"
        left = engines_of(parent.pid)
        parent.kill()
    assert not psutil.wait_procs(left, timeout=10)[1]

    def counting(model, job, engine):
        sizes.append(sum(len(request.rows) for request in job.requests))
        return real(model, job, engine)

    monkeypatch.setattr(vllm, "sampled", counting)
    table = sample(asked, 2)
    assert (
        sizes == [236] and len(table) == 256 and not list(store.root().glob("journal/*"))
    )  # nothing twice
