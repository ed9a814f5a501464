"""A study of somebody's own model: from the names on a command line to a preset."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ded import home, params, plan, problems
from ded.errors import ParameterError
from ded.files import read_yaml, shown, write_text
from ded.params.schemas import SCHEMAS
from ded.problems import files

SMALL, LARGE = "smollm", "gpu"  # the presets that a study starts from, by the student's size
NOTHING: Mapping[str, Any] = {}


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


def start_of(students: Sequence[str]) -> str:
    """The preset whose values suit students of this size."""
    largest = max(plan.size_of(student) or 0 for student in students)
    return LARGE if largest > plan.TOO_LARGE else SMALL


def held(text: str, split: str) -> int | None:
    """How many questions of a split a source has; None where they are made, or on the hub."""
    reader = problems.source(text)
    return None if reader.procedural or reader.hub_id else len(reader.load(0, split, "own"))


def changes(
    start: str,
    notebook: str,
    students: list[str],
    teachers: list[str],
    questions: str,
    scored_on: str = "",
    ood: Sequence[str] = (),
    further: Mapping[str, Any] = NOTHING,
) -> dict[str, Any]:
    """What a notebook of such a study has otherwise than the preset `start`.

    The questions are mathematics or what else their own kind says; no more are asked than there
    are. The split that is scored on is that of `start` where the questions have it. further: what
    else is changed, in the notebooks that have such a parameter.
    """
    before = params.load(start, notebook)
    scored_on = scored_on or questions
    values: dict[str, Any] = {"students": students, "corpus_source": questions}
    values |= {"teachers": teachers} if "teachers" in before else {"teacher": teachers[0]}
    values |= {"id_source": scored_on} | ({"ood_sources": list(ood)} if ood else {})
    values |= {"code_source": ""} if "code_source" in before else {}
    splits = [before["split"], *({"dev", "test"} - {before["split"]})]
    counts = {split: held(scored_on, split) for split in splits}
    split = next((split for split in splits if counts[split] != 0), splits[0])
    limits = [("n_questions", held(questions, "train")), ("eval_id", counts[split])]
    limits += [("eval_ood", held(family, split)) for family in ood]
    for name, there in limits:
        if there is not None:
            values[name] = max(1, min(there, values.get(name, before[name])))
    fields = {key: key.partition(".")[0] for key in further}
    known = {name for schema in SCHEMAS.values() for name in schema.model_fields}
    own = {
        key: further[key] for key in further if fields[key] in before or fields[key] not in known
    }
    return values | {"split": split} | own


def write(
    name: str, start: str, by_notebook: Mapping[str, Mapping[str, Any]], replace: bool
) -> Path:
    """Writes params/<name>/, a file a notebook; returns the folder. ParameterError where it is
    there with other values, unless it is to be replaced.
    """
    import yaml

    folder, today = home() / "params" / name, {"fixed_on": date.today().isoformat()}
    head = f"# Written by `ded study`, from preset {start}; edit it as you like.\n"
    texts, others = {}, []
    for notebook, changed in by_notebook.items():
        file = folder / f"{notebook}.yml"
        values = params.load(start, notebook, changed) | {"preset": name}
        values.pop("out_dir")
        if file.is_file() and not replace:
            others += [shown(file)] if read_yaml(file) | today != values | today else []
            continue
        texts[file] = head + yaml.safe_dump(values | today, sort_keys=False, width=110)
    if others:
        mend = "name another preset with --name, or --replace it"
        raise ParameterError(f"{', '.join(others)} stands there with other values: {mend}")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_text(file, text)
    return folder
