"""How fast models are sampled and trained here: as earlier runs on this hardware measured it, else
as params/throughput.yml assumes, which says what its numbers mean.
"""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from ded import home, models, results
from ded.errors import ParameterError, no_such
from ded.files import read_yaml, shown
from ded.models.spec import WITHOUT_WEIGHTS
from ded.params.schemas import Parameters
from ded.size import parameters as size_of

TOO_LARGE = 2e8  # parameters of a student for a CPU
ASSUMED = "assumed"  # in params/throughput.yml
ENOUGH = 10.0  # seconds of work from which on a run tells how fast it went
ALIKE = 4.0  # times as large or as small as a model that is measured
OPERATIONS = {"sample": 2, "train": 6}  # a parameter and token
DECISIVE = {"sample": "engine", "train": "trainer"}  # the parameter that a speed depends on


@dataclass(frozen=True)
class Rate:
    """Tokens of a trajectory or example as a share of those allowed, tokens a second of one core or
    GPU, seconds that a job takes besides, and who says so."""

    share: float
    speed: float
    start: float
    source: str = ASSUMED


class _Measured(NamedTuple):
    """The rate at which a run of these parameters worked on a model: see `ded.spent.work`."""

    finished: str
    kind: str
    model: str
    device: str
    params: dict[str, Any]
    rate: Rate


def assumptions(card: str = "") -> dict[str, Any]:
    """The assumptions of params/throughput.yml; `gpu` as it is, or as another card of that file
    changes it. ParameterError for a card that is none."""
    assumed = read_yaml(home() / "params" / "throughput.yml")
    cards = {"": {}, **assumed.get("cards", {})}
    if card not in cards:
        raise ParameterError(f"params/throughput.yml: {no_such('card', card, filter(None, cards))}")
    return assumed | {"gpu": assumed["gpu"] | cards[card]}


def device_of(model: str, settings: Parameters, assumed: dict[str, Any]) -> str:
    """What the work of a model is counted on: "cpu" or "gpu"; "none" where it is sampled elsewhere,
    or was; "?" where nothing tells its size."""
    if models.parse(model).kind in WITHOUT_WEIGHTS:
        return "none"
    if (size := size_of(model)) is None:
        return "?"
    largest = max(size_of(spec) or 0 for spec in settings.students)
    return "gpu" if size > assumed["cpu"][-1]["up_to"] or largest > TOO_LARGE else "cpu"


class Rates:
    """The rates of this machine, by the assumptions and by the manifests of earlier runs; those of
    a `card` of the assumptions by them alone."""

    def __init__(self, card: str = "") -> None:
        self.assumed = assumptions(card)
        self._measured = [] if card else sorted(_measured(), key=lambda row: row.finished)

    def of(self, kind: str, model: str, device: str, settings: Parameters) -> Rate:
        """The rate of a kind of work (sample, train) on a model: of the last run that measured it,
        or that of the model nearest in size that is measured, else as assumed."""
        assumed = self._assumed(kind, model, device, settings)
        size, nearest, rate = size_of(model, active=True) or math.nan, (True, ALIKE), assumed
        for row in self._measured:
            if (row.kind, row.device) == (kind, device) and _alike(row, settings.model_dump()):
                ratio = (size_of(row.model, active=True) or math.inf) / size
                distance = row.model != model, max(ratio, 1 / ratio)
                if distance <= nearest:
                    speed, nearest = row.rate.speed * ratio, distance
                    source = row.rate.source + (row.model != model) * f", of {row.model}"
                    rate = replace(row.rate, speed=speed, start=assumed.start, source=source)
        return rate

    def _assumed(self, kind: str, model: str, device: str, settings: Parameters) -> Rate:
        share = self.assumed["mean_share"]
        if kind == "train":
            prompt = self.assumed["prompt_tokens"]["gpu" if device == "gpu" else "cpu"]
            share = (share * settings.max_tokens + prompt) / settings.max_length
        match device:
            case "cpu":
                size = size_of(model) or 0
                row = next(row for row in self.assumed["cpu"] if size <= row["up_to"])
                return Rate(share, row[kind], row["start"])
            case "gpu":
                gpu, active = self.assumed["gpu"], size_of(model, active=True) or math.nan
                speed = gpu["peak"] * gpu[kind] / (OPERATIONS[kind] * active)
                return Rate(share, speed, gpu["start"])
        return Rate(share, math.inf if device == "none" else math.nan, 0.0)


def _measured() -> Iterator[_Measured]:
    """What runs under outputs/ measured on this hardware; other manifests are passed over."""
    for file in home().glob("outputs/*/*/manifest.json"):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            run = json.loads(file.read_bytes())
            if not run["work"] or not _hardware().items() <= run["hardware"].items():
                continue
            device = "gpu" if run["hardware"]["gpus"] else "cpu"
            params, finished = dict(run["params"]), run["finished"]
            source = f"{shown(file.parent)}, {finished[:10]}"
            for done in run["work"]:
                if (seconds := done[f"{device}_seconds"]) >= ENOUGH:
                    share, speed = done["tokens"] / done["limit"], done["tokens"] / seconds
                    rate = Rate(share, speed, 0.0, source)
                    yield _Measured(finished, done["kind"], done["model"], device, params, rate)


@cache
def _hardware() -> dict[str, Any]:
    """What speeds depend on of what the manifest of a run here would say."""
    import torch  # noqa: F401  # without it no GPU is told

    hardware = results.hardware()
    return {name: hardware[name] for name in ("system", "cpu", "gpus")}


def _alike(row: _Measured, planned: dict[str, Any]) -> bool:
    """Whether a run with the planned parameters is as fast: here, or on the same cluster."""
    decisive = DECISIVE[row.kind]
    clusters = [isinstance(n, dict) and n for n in (row.params.get("n_jobs"), planned["n_jobs"])]
    return row.params.get(decisive) == planned[decisive] and clusters[0] == clusters[1]
