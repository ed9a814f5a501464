"""A study of somebody's own model: from the names on a command line to a preset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ded import params, problems
from ded.files import shown
from ded.params.schemas import SCHEMAS
from ded.problems import files
from ded.rates import TOO_LARGE
from ded.size import parameters as size_of

SMALL, LARGE = "smollm", "gpu"  # the presets that a study starts from, by the student's size


def model(text: str) -> str:
    """The model spec that is meant by it: a file of traces and a model's directory need no kind."""
    place = Path(text).expanduser()
    if place.suffix.lower() in files.SUFFIXES:
        return f"recorded:{shown(place)}"
    return f"path:{shown(place)}" if (place / "config.json").is_file() else text


def source(text: str) -> str:
    """The problem source that is meant by it: a file needs no kind."""
    place = Path(text).expanduser()
    own = place.suffix.lower() in files.SUFFIXES and text.partition(":")[0] not in problems.SOURCES
    return f"file:{shown(place)}" if own else text


def held(text: str, split: str) -> int | None:
    """How many questions of a split a source has; None where they are made, or on the hub."""
    reader = problems.source(text)
    return None if reader.procedural or reader.hub_id else len(reader.load(0, split, "own"))


def values(
    start: str,
    students: Sequence[str],
    teachers: Sequence[str],
    questions: str = "",
    scored_on: str = "",
    ood: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The preset that such a study starts from, `start` or else by its students' size; and what it
    has otherwise than that, in all notebooks. Without questions those of the preset stand.

    The questions are mathematics or what else their own kind says. The split that is scored on is
    that of the preset where the questions have it.
    """
    student_specs, teacher_specs = [*map(model, students)], [*map(model, teachers)]
    largest = max(size_of(spec) or 0 for spec in student_specs)
    start = start or (LARGE if largest > TOO_LARGE else SMALL)
    asked: dict[str, Any] = {"students": student_specs, "teachers": teacher_specs}
    asked["teacher"] = teacher_specs[0]
    if not questions:
        return start, asked
    scored = source(scored_on or questions)
    asked |= {"corpus_source": source(questions), "id_source": scored, "code_source": ""}
    first = params.load(start, params.notebooks()[0].stem)["split"]
    splits = [first, *({"dev", "test"} - {first})]
    asked["split"] = next((split for split in splits if held(scored, split) != 0), first)
    return start, asked | ({"ood_sources": [source(text) for text in ood]} if ood else {})


def fewer(asked: Mapping[str, Any]) -> dict[str, int]:
    """Of a notebook's parameters those that ask for more questions than there are: {name: how many
    there are}.
    """
    split = asked["split"]
    there = [held(family, split) for family in asked["ood_sources"]]
    n_train = held(asked["corpus_source"], "train")
    limits = {
        "n_questions": n_train,
        "large_size": n_train,  # of one trajectory each
        "eval_id": held(asked["id_source"], split),
        "eval_ood": min((n for n in there if n is not None), default=None),
    }
    return {
        name: max(1, n) for name, n in limits.items() if n is not None and n < asked.get(name, 0)
    }


def write(name: str, start: str, common: Mapping[str, Any], replace: bool) -> Path:
    """Writes the preset params/<name>/, which extends `start`, and for each notebook that asks for
    more questions than there are a file with fewer; returns the folder. See `params.write_preset`.
    """
    extra = {
        notebook: fewer(params.load(start, notebook, params.of_schema(schema, common)))
        for notebook, schema in SCHEMAS.items()
    }
    return params.write_preset(name, start, common, replace, extra).parent
