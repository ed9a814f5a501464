"""Whether this machine can run a preset: it looks, and starts nothing."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pandas as pd

from ded import cluster, home, jobs, models, plan, problems, rates, store, study, training
from ded.errors import DedError, SourceError
from ded.files import read_yaml
from ded.grading import packages, sandbox
from ded.options import Cluster
from ded.params.schemas import Parameters
from ded.problems import records
from ded.size import parameters as size_of


@dataclass(frozen=True)
class Finding:
    """What was looked at; ok: None is a hint, not a lack; note: what to do; cause: what it lacks,
    where others may lack the same.
    """

    kind: str
    name: str
    ok: bool | None
    note: str = ""
    cause: str = ""

    @classmethod
    def of(cls, kind: str, name: str, error: Exception) -> "Finding":
        """The lack that an error tells of."""
        return cls(kind, name, False, str(error), getattr(error, "cause", ""))


def check(
    preset: str, only: Sequence[str] = (), changes: Mapping[str, Any] = plan.NO_CHANGES
) -> pd.DataFrame:
    """A row an item of what a preset needs: item (kind and name), ok (True, False, or None for a
    hint), note, and the cause that several may share.

    Packages, models (see `ded.models.check`), problem sources and how many questions they hold,
    recorded traces of these questions, GPUs and memory, disk, the sandbox.
    """
    plans = [settings for _, settings in plan.planned(preset, only, changes)]
    findings = [finding for settings in plans for finding in _packages(settings)]
    findings += [finding for settings in plans for finding in _models(settings)]
    unusable = {finding.name for finding in findings if finding.kind == "model" and not finding.ok}
    findings += [item for settings in plans for item in _candidates(settings, unusable)]
    findings += [*_gpus(plans), *_clusters(plans), *_memory(plans)]
    findings += [*_sources(plans), *_questions(plans, unusable)]
    table = pd.DataFrame(dict.fromkeys([*findings, _disk(preset, only, changes)]).keys())
    table.insert(0, "item", (table["kind"] + " " + table["name"]).str.strip())
    return table


def lines(table: pd.DataFrame) -> list[str]:
    """What `check` found, as text: once what holds for several items of a kind, or what several
    lack for one reason.
    """
    status = {True: "ok     ", False: "MISSING", None: "?      "}
    texts = []
    about = table["kind"].where(table["cause"] == "", "") + table["note"]
    for _, rows in table.groupby(table["cause"].where(table["cause"] != "", about), sort=False):
        first, names = rows.iloc[0], rows["name"].tolist()
        note = f": {first.note}" if first.note else ""
        what = f"{first.kind} {', '.join(names)}".strip()
        if first.cause and len(names) > 1:
            same_kind = rows["kind"].nunique() == 1  # else what mends one does not mend all
            why = first.note[first.note.find(first.cause) :] if same_kind else first.cause
            what, note = f"{len(names)} items, one reason: {why}", ""
            what += "".join(f"\n          {item}" for item in rows["item"])
        texts.append(f"{status[first.ok]} {what}{note}")
    return texts


def _packages(settings: Parameters) -> Iterator[Finding]:
    if settings.engine.name == "vllm":
        installed = find_spec("vllm") is not None
        yield Finding("package", "vllm", installed, "" if installed else models.NO_VLLM)
    wanted: dict[str, Callable[[], Any]] = {
        "of programs": lambda: packages.places(tuple(settings.grading.packages)),
        "to train": lambda: training.check_packages(settings.trainer),
    }
    for use, look in wanted.items():
        try:
            look()
        except DedError as error:
            yield Finding.of("packages", use, error)


def _models(settings: Parameters) -> Iterator[Finding]:
    if not find_spec("vllm"):  # that it is missing is said once
        engine = settings.engine.model_copy(update={"name": "transformers"})
        settings = settings.model_copy(update={"engine": engine})
    faults = study.unusable(settings)
    for spec in study.engines_of(settings):
        fault = faults.get(spec)
        yield Finding.of("model", spec, fault) if fault else Finding("model", spec, True)


def _candidates(settings: Parameters, unusable: set[str]) -> Iterator[Finding]:
    """Folders of a data set, of which several are teachers, that are none."""
    recorded = study.recorded_teachers(settings)
    taken = set(map(study.short, recorded))
    places = [records.data_set_of(models.parse(spec).name) for spec in recorded]
    if unusable.intersection(recorded):  # whose errors tell of the data set
        return
    for data_set in {place: None for place in places if place and places.count(place) > 1}:
        others: list[str] = []
        with suppress(SourceError):  # a hub that does not answer, where a cache does
            others = [folder for folder in records.folders(data_set) if folder not in taken]
        if others:
            note = f"it has folders that are none of the teachers: {', '.join(others)}"
            yield Finding("data set", data_set, None, note)


def _sources(plans: list[Parameters]) -> Iterator[Finding]:
    """Whether each source holds the most questions that are asked of one of its splits."""
    most: dict[tuple[str, str], int] = {}
    for settings in plans:
        try:
            evaluated = study.evaluation_questions(settings).values()
        except DedError as error:
            yield Finding.of("sources", "", error)
            continue
        for asked in (*study.training_questions(settings), *evaluated):
            key = asked.source, asked.split
            most[key] = max(asked.n, most.get(key, 0))
    isolation = plans[0].grading.isolation
    for (text, split), n in most.items():
        source = problems.source(text)
        code = source.code
        try:
            code = source.look(n, split)
            if source.hub_id:  # its access alone: a data set may be gigabytes
                models.hub(source.hub_id, kind="dataset")
            yield Finding("source", text, True, f"{n:,} {split} questions")
        except (ValueError, OSError) as error:
            yield Finding.of("source", text, error)
        if code:
            why_not = sandbox.why_not(isolation)
            yield Finding("sandbox", "", not why_not, why_not or sandbox.memory_bound())


def _questions(plans: list[Parameters], unusable: set[str]) -> Iterator[Finding]:
    """Of the first unit of each notebook, where nothing needs to be downloaded: what the filters
    leave of recorded traces, and what tokenizers cannot read.
    """
    for settings in plans:
        unit = study.units(settings)[0]
        if unusable & {unit.base, *study.teachers_of(settings)}:
            continue
        try:
            asked = [*study.training_questions(settings)]
            asked += study.evaluation_questions(settings).values()
            if any(problems.source(each.source).hub_id for each in asked):
                continue
            for note in study.unknown_signs(unit):
                yield Finding("prompts", "", None, note)
        except DedError:  # which is told of the source
            continue
        for teacher in study.recorded_teachers(settings):
            try:
                n = study.attempts(settings)
                yield _traces(teacher, n, study.trace_funnel(unit, teacher))
                for note in study.unknown_in_traces(unit, teacher):
                    yield Finding("prompts", "", None, note)
            except DedError as error:
                yield Finding.of("traces of", teacher, error)


def _traces(teacher: str, n: int, funnel: pd.DataFrame) -> Finding:
    kept, dropped = funnel["kept"].iloc[-1], funnel[funnel["dropped"] > 0]
    why = "; ".join(f"{row.step}: {row.reason}" for row in dropped.itertuples())
    each = f" of {n} asked of each question" if n > 1 else ""
    note = f"{kept} pass the filters{each}" + (f"; dropped by {why}" if why else "")
    if not kept:
        total = funnel.loc[funnel["step"] == "sampled", "kept"].sum()
        note = f"all {total} dropped: {why}"
    return Finding("traces of", teacher, bool(kept), note)


def _gpus(plans: list[Parameters]) -> Iterator[Finding]:
    """Those that are lacking, here or in what a cluster gives a job."""
    import torch

    lacking: dict[tuple[int, str], dict[str, None]] = {}
    for settings in plans:
        here, where = torch.cuda.device_count(), "here"
        if isinstance(settings.n_jobs, Cluster):
            here, where = settings.n_jobs.gpus_per_job, "a job: set n_jobs.gpus_per_job"
        whose = _on_gpus(settings)
        if whose and here < (wanted := plan.gpus_a_job(settings)):
            about = wanted, f"{here} {where}"
            lacking[about] = lacking.get(about, {}) | dict.fromkeys(whose)
    for (wanted, what), names in lacking.items():
        yield Finding("GPUs", "", False, f"{wanted} needed for {', '.join(names)}; {what}")


def _on_gpus(settings: Parameters) -> list[str]:
    """What of a notebook needs a GPU."""
    assumed = rates.assumptions()
    return [m for m in study.engines_of(settings) if rates.device_of(m, settings, assumed) == "gpu"]


def _clusters(plans: list[Parameters]) -> Iterator[Finding]:
    """Whether the nodes can be worked with."""
    for settings in plans:
        if isinstance(settings.n_jobs, Cluster):
            try:
                cluster.connect(settings.n_jobs)
                yield Finding("cluster", settings.n_jobs.address, True)
            except DedError as error:
                yield Finding.of("cluster", settings.n_jobs.address, error)


def _memory(plans: list[Parameters]) -> Iterator[Finding]:
    """What training takes of what is free."""
    import torch

    (free, where), gpus = models.free_memory(), torch.cuda.device_count()
    bytes_each = rates.assumptions()["training_bytes_a_parameter"]
    for settings in plans:
        trainer, there, place = settings.trainer, free / 2**30, where
        if gpus and not _shared(trainer.accelerate):
            there, place = there / gpus, "on each GPU"
        if isinstance(settings.n_jobs, Cluster):
            yield Finding("memory to train", "", None, "not looked at: a cluster's nodes train")
            continue
        n_jobs = min(jobs.count(settings.n_jobs), len(study.units(settings)))
        at_once = f" for {n_jobs} jobs side by side" if n_jobs > 1 else ""
        mend = f": {'lower n_jobs, ' if n_jobs > 1 else ''}set trainer.lora_rank or take more"
        each = bytes_each["lora" if trainer.lora_rank else "full"] * n_jobs / 2**30
        for spec in settings.students:
            ok, note = None, "size not known: no config.json here or on the hub, no number in it"
            if size := size_of(spec):
                ok = size * each <= there
                taken = f"about {plan.short(size * each)} of {plan.short(there)} GiB"
                note = f"{taken} free {place}{at_once}"
                note += "" if ok else mend
            yield Finding("memory to train", spec, ok, note)


def _shared(accelerate: str) -> bool:
    """Whether a launch configuration shares a model out over its GPUs."""
    file = home() / "params" / "accelerate" / f"{accelerate}.yml"
    return bool(accelerate) and read_yaml(file).get("distributed_type") == "FSDP"


def _disk(preset: str, only: Sequence[str], changes: Mapping[str, Any]) -> Finding:
    """Whether what is estimated can be written where the store lies."""
    root = store.root()
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(folder).free / 2**30 if os.access(folder, os.W_OK) else 0.0
    each = plan.estimate(preset, only, changes)["disk_gib"]
    need = float(each.sum())
    at_least = "at least " if each.isna().any() else ""
    note = f"{at_least}{plan.short(need)} GiB estimated, {free:.0f} GiB free"
    if free <= need:
        note += ": set DED_STORE to a larger disk"
    return Finding("disk", "", free > need, note)
