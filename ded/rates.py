"""How fast models are sampled and trained here: as earlier runs on this hardware measured it, else
as params/throughput.yml assumes, which says what its numbers mean.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, PositiveFloat

from ded import home, models, results
from ded.errors import ParameterError, no_such
from ded.files import read_yaml, shown
from ded.models.spec import WITHOUT_WEIGHTS
from ded.params.schemas import Parameters
from ded.size import parameters as size_of

TOO_LARGE = 2e8  # parameters of a student for a CPU
UNKNOWN = "?"  # the device of a model whose size nothing tells
ASSUMED = "assumed in params/throughput.yml"
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


class _Amount(BaseModel):
    """What a run did of one kind of work on a model: see `ded.spent.work`."""

    tokens: PositiveFloat
    limit: PositiveFloat
    core_seconds: float
    gpu_seconds: float


class _Hardware(BaseModel):
    """On which speeds depend."""

    system: str
    cpu: str
    gpus: list[str]


class _Manifest(BaseModel):
    """What a run's manifest tells of its speed."""

    hardware: _Hardware
    params: dict[str, Any]
    finished: str
    work: dict[str, dict[str, _Amount]]
    source: str = ""


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
    or was; UNKNOWN."""
    if models.parse(model).kind in WITHOUT_WEIGHTS:
        return "none"
    if (size := size_of(model)) is None:
        return UNKNOWN
    return "gpu" if size > assumed["cpu"][-1]["up_to"] or wants_gpu(settings) else "cpu"


def wants_gpu(settings: Parameters) -> bool:
    """Whether the largest student is too large for a CPU."""
    return max(size_of(spec) or 0 for spec in settings.students) > TOO_LARGE


class Rates:
    """The rates of this machine, by the assumptions and by the manifests of earlier runs; those of
    a `card` of the assumptions by them alone."""

    def __init__(self, card: str = "") -> None:
        self.assumed = assumptions(card)
        self._runs = [] if card else sorted(_earlier_runs(), key=lambda run: run.finished)

    def of(self, kind: str, model: str, device: str, settings: Parameters) -> Rate:
        """The rate of a kind of work (sample, train) on a model: of the last run that measured it,
        or that of the model nearest in size that is measured, else as assumed."""
        assumed = self._assumed(kind, model, device, settings)
        size = size_of(model, active=True) or math.nan
        nearest, rate = (True, math.log(ALIKE)), assumed
        for run in self._runs:
            if device not in ("cpu", "gpu") or not _like(run, kind, device, settings):
                continue
            for name, amount in run.work.get(kind, {}).items():
                ratio = (size_of(name, active=True) or math.inf) / size
                distance = name != model, abs(math.log(ratio))
                seconds = amount.gpu_seconds if device == "gpu" else amount.core_seconds
                if seconds >= ENOUGH and distance <= nearest:  # of the latest, where several are
                    share, speed = amount.tokens / amount.limit, amount.tokens / seconds * ratio
                    nearest, rate = distance, Rate(share, speed, assumed.start, run.source)
        return rate

    def _assumed(self, kind: str, model: str, device: str, settings: Parameters) -> Rate:
        share = self.assumed["mean_share"]
        if kind == "train":
            prompt = self.assumed["prompt_tokens"]["gpu" if device == "gpu" else "cpu"]
            share = (share * settings.max_tokens + prompt) / settings.max_length
        match device:
            case "cpu":
                rows = (row for row in self.assumed["cpu"] if (size_of(model) or 0) <= row["up_to"])
                row = next(rows)
                return Rate(share, row[kind], row["start"])
            case "gpu":
                gpu, active = self.assumed["gpu"], size_of(model, active=True) or math.nan
                speed = gpu["peak"] * gpu[kind] / (OPERATIONS[kind] * active)
                return Rate(share, speed, gpu["start"])
            case "none":
                return Rate(share, math.inf, 0.0)
        return Rate(share, math.nan, math.nan)


def _earlier_runs() -> Iterator[_Manifest]:
    """The runs under outputs/ on this hardware that worked; any other manifest is passed over."""
    for file in home().glob("outputs/*/*/manifest.json"):
        with suppress(OSError, ValueError):
            run = _Manifest.model_validate_json(file.read_bytes())
            if run.work and run.hardware == _hardware():
                run.source = f"measured in {shown(file.parent)}, {run.finished[:10]}"
                yield run


@cache
def _hardware() -> _Hardware:
    """What the manifest of a run here would say."""
    import torch  # noqa: F401  # without it no GPU is told

    return _Hardware.model_validate(results.hardware())


def _like(run: _Manifest, kind: str, device: str, settings: Parameters) -> bool:
    """Whether a run is as fast as one with these parameters on a device of this kind."""
    name, elsewhere = DECISIVE[kind], [run.params.get("n_jobs"), settings.model_dump()["n_jobs"]]
    places = [place if isinstance(place, dict) else None for place in elsewhere]
    same = run.params.get(name) == getattr(settings, name).model_dump()
    return same and places[0] == places[1] and (device == "gpu") == bool(run.hardware.gpus)
