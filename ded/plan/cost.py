"""What a preset will cost: the work that its parameters ask for, times params/throughput.yml.

It reads no model and samples nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from ded import home, models
from ded.files import read_yaml
from ded.params.schemas import Parameters
from ded.plan.sizes import size_of, wants_gpu
from ded.plan.workload import Work, planned, workload

STORED = 12  # bytes a sampled token in the store: its text and its id, compressed
NUMBERS = ["prompts", "sampled_m", "trained_m", "hours", "disk_gib"]


def assumptions() -> dict[str, Any]:
    """The assumptions of params/throughput.yml, which says what they mean."""
    return read_yaml(home() / "params" / "throughput.yml")


def estimate(preset: str, only: Iterable[str] = ()) -> pd.DataFrame:
    """A row a notebook and kind of work: prompts, tokens in millions, hours of the device, disk.

    device: "cpu" (hours of one core) where the models are small enough, else "gpu" (hours of one
    GPU); "none" where trajectories are recorded or come from an endpoint.
    """
    assumed = assumptions()
    rows = []
    for notebook, settings in planned(preset, only):
        for work in workload(notebook, settings):
            about = {"notebook": notebook, "work": work.kind, "model": work.model}
            rows.append(about | _cost(work, settings, assumed))
    keys = ["notebook", "work", "model", "device"]
    return pd.DataFrame(rows).groupby(keys, sort=False, as_index=False)[NUMBERS].sum()


def _cost(work: Work, settings: Parameters, assumed: dict[str, Any]) -> dict[str, Any]:
    throughput = next((row for row in assumed["cpu"] if size_of(work.model) <= row["up_to"]), None)
    device = "cpu" if throughput and not wants_gpu(settings) else "gpu"
    if models.parse(work.model).kind in ("recorded", "openai"):
        device = "none"  # sampled elsewhere, or already
    length = assumed["mean_share"] * settings.max_tokens
    prompt = assumed["prompt_tokens"]["gpu" if device == "gpu" else "cpu"]
    sampled, trained = work.prompts * length, work.examples * (length + prompt)
    disk, seconds = sampled * STORED, 0.0
    if device != "none":
        weight = assumed["bytes_a_parameter"][settings.trainer.dtype]
        disk += work.checkpoints * size_of(work.model) * weight
    if device == "cpu" and throughput:
        rates = throughput
        seconds = sampled / rates["sample"] + trained / rates["train"] + work.loads * rates["start"]
    if device == "gpu":  # operations a parameter and token: 2 to sample it, 6 to train on it
        gpu, active = assumed["gpu"], size_of(work.model, active=True)
        operations = 2 * sampled / gpu["sample"] + 6 * trained / gpu["train"]
        seconds = operations * active / gpu["peak"] + work.loads * gpu["start"]
    return {
        "device": device,
        "prompts": work.prompts,
        "sampled_m": sampled / 1e6,
        "trained_m": trained / 1e6,
        "hours": seconds / 3600,
        "disk_gib": disk / 2**30,
    }
