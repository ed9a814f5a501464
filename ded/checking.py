"""Whether this machine can run a preset: it looks, and starts nothing."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pandas as pd

from ded import cluster, jobs, models, plan, problems, rates, store, study, training
from ded.errors import DedError
from ded.grading import packages, sandbox
from ded.options import Cluster
from ded.params.schemas import Parameters
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

    @classmethod
    def trying(cls, kind: str, name: str, look: Callable[[], Any]) -> "Finding":
        """That `look` raises nothing, or what."""
        try:
            look()
        except DedError as error:
            return cls.of(kind, name, error)
        return cls(kind, name, True)


def check(
    preset: str, only: Sequence[str] = (), changes: Mapping[str, Any] = plan.NO_CHANGES
) -> pd.DataFrame:
    """A row an item of what a preset needs: item (kind and name), ok (True, False, or None for a
    hint), note, and the cause that several may share.

    Packages, models (see `ded.models.check`), problem sources and how many questions they hold,
    recorded traces of these questions, GPUs and memory, disk, the sandbox.
    """
    plans = [settings for _, settings in plan.planned(preset, only, changes)]
    findings = [item for settings in plans for item in (*_packages(settings), *_models(settings))]
    unusable = {finding.name for finding in findings if finding.kind == "model" and not finding.ok}
    for settings in plans:
        findings += [*_gpus(settings), *_cluster(settings), *_memory(settings)]
        findings += _questions(settings, unusable)
    findings += _sources(plans)
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
    programs = tuple(settings.grading.packages)
    yield Finding.trying("packages", "of programs", lambda: packages.places(programs))
    yield Finding.trying("packages", "to train", lambda: training.check_packages(settings.trainer))


def _models(settings: Parameters) -> Iterator[Finding]:
    if not find_spec("vllm"):  # that it is missing is said once
        engine = settings.engine.model_copy(update={"name": "transformers"})
        settings = settings.model_copy(update={"engine": engine})
    faults = study.unusable(settings)
    for spec in study.engines_of(settings):
        fault = faults.get(spec)
        yield Finding.of("model", spec, fault) if fault else Finding("model", spec, True)


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


def _questions(settings: Parameters, unusable: set[str]) -> Iterator[Finding]:
    """Of the first unit, where nothing needs to be downloaded: what the filters leave of recorded
    traces, and what tokenizers cannot read.
    """
    unit = study.units(settings)[0]
    if unusable & {unit.base, *study.teachers_of(settings)}:
        return
    try:
        evaluated = study.evaluation_questions(settings).values()
        asked = [*study.training_questions(settings), *evaluated]
        if any(problems.source(each.source).hub_id for each in asked):
            return
        unit.questions()
        unit.suite()
    except DedError:  # which is told of the source
        return
    traces = [_traces(unit, teacher) for teacher in study.recorded_teachers(settings)]
    yield from traces
    if all(finding.ok for finding in traces):
        yield from (Finding("prompts", "", None, note) for note in study.unknown_signs(unit))


def _traces(unit: study.Unit, teacher: str) -> Finding:
    n = study.attempts(unit.params)
    try:
        funnel = study.curate(unit, teacher, n).funnel
    except DedError as error:
        return Finding.of("traces of", teacher, error)
    kept, dropped = funnel["kept"].iloc[-1], funnel[funnel["dropped"] > 0]
    why = "; ".join(f"{row.step}: {row.reason}" for row in dropped.itertuples())
    each = f" of {n} asked of each question" if n > 1 else ""
    note = f"{kept} pass the filters{each}" + (f"; dropped by {why}" if why else "")
    if not kept:
        total = funnel.loc[funnel["step"] == "sampled", "kept"].sum()
        note = f"all {total} dropped: {why}"
    return Finding("traces of", teacher, bool(kept), note)


def _gpus(settings: Parameters) -> Iterator[Finding]:
    """Those that are lacking, here or in what a cluster gives a job."""
    import torch

    wanted, here, where = plan.gpus_a_job(settings), torch.cuda.device_count(), "here"
    if isinstance(settings.n_jobs, Cluster):
        here, where = settings.n_jobs.gpus_per_job, "a job: set n_jobs.gpus_per_job"
    assumed = rates.assumptions()
    for spec in study.engines_of(settings) if here < wanted else ():
        if rates.device_of(spec, settings, assumed) == "gpu":
            yield Finding("GPUs for", spec, False, f"{wanted} needed, {here} {where}")


def _cluster(settings: Parameters) -> Iterator[Finding]:
    """Whether the nodes can be worked with."""
    if isinstance(place := settings.n_jobs, Cluster):
        yield Finding.trying("cluster", place.address, lambda: cluster.connect(place))


def _memory(settings: Parameters) -> Iterator[Finding]:
    """What training takes of what is free."""
    import torch

    (free, where), gpus, trainer = models.free_memory(), torch.cuda.device_count(), settings.trainer
    if isinstance(settings.n_jobs, Cluster):
        yield Finding("memory to train", "", None, "not looked at: a cluster's nodes train")
        return
    if gpus and training.configuration(trainer)["distributed_type"] != "FSDP":
        free, where = free / gpus, "on each GPU"
    n_jobs = min(jobs.count(settings.n_jobs), len(study.units(settings)))
    at_once = f" for {n_jobs} jobs side by side" if n_jobs > 1 else ""
    mend = f": {'lower n_jobs, ' if n_jobs > 1 else ''}set trainer.lora_rank or take more"
    kind = "lora" if trainer.lora_rank else "full"
    each = rates.assumptions()["training_bytes_a_parameter"][kind] * n_jobs
    for spec in settings.students:
        ok, note = None, "size not known: no config.json here or on the hub, no number in it"
        if size := size_of(spec):
            ok = size * each <= free
            need, there = plan.short(size * each / 2**30), plan.short(free / 2**30)
            note = f"about {need} of {there} GiB free {where}{at_once}{'' if ok else mend}"
        yield Finding("memory to train", spec, ok, note)


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
