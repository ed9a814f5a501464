"""What a notebook says of its models and questions before it starts."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from ded import models, problems
from ded.errors import ModelError
from ded.generation import openai
from ded.models.spec import parse
from ded.study.unit import short, teachers_of, units

if TYPE_CHECKING:
    from ded.params.schemas import Common


class Manifest(Protocol):
    """Of `ded.results.Recorder` what takes content hashes."""

    def model(self, name: str, fingerprint: str) -> None: ...

    def data(self, name: str, fingerprint: str) -> None: ...


def describe(params: Common, record: Manifest) -> None:
    """Puts the content hashes of the models and of the evaluation questions into the manifest.

    Before that ModelError, naming every model that cannot be used for what the notebook does with
    it.
    """
    specs = list(dict.fromkeys([*params.students, *teachers_of(params)]))
    if faults := [*_unusable(params, specs), *_namesakes(specs)]:
        raise ModelError("\n".join([f"{len(faults)} problem(s) with the models", *faults]))
    for spec in specs:
        record.model(spec, models.fingerprint(spec))
    for unit in [*units(params, select=True), *units(params)]:
        questions = [question for family in unit.suite().values() for question in family]
        name = f"{params.split} {short(unit.base)} {unit.replicate}"
        record.data(name, problems.fingerprint(questions))


def _unusable(params: Common, specs: list[str]) -> list[str]:
    faults = []
    for spec in specs:
        try:
            needs = ("sample", "train") if spec in params.students else ("sample",)
            models.check(spec, needs, params.engine)
        except ModelError as error:
            # a study that is finished needs its endpoint no more
            if parse(spec).kind == "openai" and openai.drawn_file(spec, params.engine).is_file():
                hint = (
                    "What was drawn from it before is used; the run ends at the first missing row"
                )
                warnings.warn(f"{error}. {hint}", stacklevel=3)
            else:
                faults.append(str(error))
    return faults


def _namesakes(specs: list[str]) -> list[str]:
    mend = "in tables and figures; rename a file or folder"
    return [
        f"{count} models would both be called {name!r} {mend}"
        for name, count in Counter(map(short, specs)).items()
        if count > 1
    ]
