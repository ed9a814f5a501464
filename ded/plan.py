"""What a preset will cost and whether this machine can run it, told before anything is run.

Cost: the work that its parameters ask for, times params/throughput.yml. It reads no model and
samples nothing. An upper bound: what is stored already costs nothing. The machine: it looks, and
starts nothing.
"""

import heapq
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pandas as pd

from ded import cluster, home, jobs, models, problems, runner, store, study, training
from ded.errors import DedError, ParameterError, SourceError, no_such
from ded.files import read_yaml
from ded.grading import packages, sandbox
from ded.models.spec import WITHOUT_WEIGHTS
from ded.options import Cluster
from ded.params import schemas
from ded.params.schemas import SCHEMAS, Parameters, Recipe
from ded.problems import records
from ded.size import parameters as size_of

STORED = 12  # bytes a sampled token in the store: its text and its id, compressed
TOO_LARGE = 2e8  # parameters of a student for a CPU
UNKNOWN = "?"  # the device of a model whose size nothing tells
NO_CHANGES: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Work:
    """One kind of work of a notebook: sampling (tokens out of `model`) or training (through it)."""

    kind: str
    model: str
    prompts: int = 0  # trajectories sampled
    examples: int = 0  # training examples times epochs
    loads: int = 1  # how many times the model is loaded for it
    checkpoints: int = 0  # that stay in the store


def planned(
    preset: str, only: Iterable[str], changes: Mapping[str, Any] = NO_CHANGES
) -> list[tuple[str, Parameters]]:
    """(notebook, checked parameters) of the notebooks named, or of all."""
    runs = runner.planned(preset, only, changes)
    return [(run.name, SCHEMAS[run.name].model_validate(run.values)) for run in runs]


def assumptions(card: str = "") -> dict[str, Any]:
    """The assumptions of params/throughput.yml, which says what they mean; `gpu` as it is, or as
    another card of that file changes it. ParameterError for a card that is none."""
    assumed = read_yaml(home() / "params" / "throughput.yml")
    cards = {"": {}, **assumed.get("cards", {})}
    if card not in cards:
        raise ParameterError(f"params/throughput.yml: {no_such('card', card, filter(None, cards))}")
    return assumed | {"gpu": assumed["gpu"] | cards[card]}


def estimate(
    preset: str, only: Iterable[str] = (), changes: Mapping[str, Any] = NO_CHANGES, card: str = ""
) -> pd.DataFrame:
    """A row a notebook and kind of work: prompts, tokens in millions, hours of the device, disk.

    device: "cpu" (hours of one core) where the models are small enough, else "gpu" (hours of one
    GPU, or of a `card` of params/throughput.yml); "none" where trajectories are recorded or come
    from an endpoint, UNKNOWN (and NaN) where nothing tells how large a model is.
    """
    runs, assumed, rows = planned(preset, only, changes), assumptions(card), []
    for notebook, settings in runs:
        for work in workload(notebook, settings):
            about = {"notebook": notebook, "work": work.kind, "model": work.model}
            rows.append(about | _cost(work, settings, assumed))
    keys = ["notebook", "work", "model", "device"]
    return pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum(min_count=1)


def schedule(
    preset: str,
    only: Iterable[str] = (),
    changes: Mapping[str, Any] = NO_CHANGES,
    nodes: int = 1,
    gpus: int = 8,
) -> pd.DataFrame:
    """How long the estimated GPU-hours take on a cluster: a row a notebook, and one for all of them
    one after the other. hours: wall time; held: the share of the GPUs' time that jobs hold them.

    Simulated: each job goes to the first place that is free, pools before arms, as notebooks ask
    for them, and is taken to be faster by as many GPUs as it holds. ParameterError where a node has
    too few for a job.
    """
    rows = []
    for notebook, settings in planned(preset, only, changes):
        each = gpus_a_job(settings)
        if not (places := nodes * (gpus // each)):
            raise ParameterError(f"{notebook}: a job takes {each} GPUs, and a node has {gpus}")
        stages = [[hours / each for hours in stage] for stage in _stages(notebook, settings)]
        busy = each * sum(map(sum, stages))
        hours = sum(_makespan(stage, places) for stage in stages)
        rows.append(
            {"notebook": notebook, "jobs": sum(map(len, stages)), "gpu_hours": busy}
            | {"hours": hours}
        )
    table = pd.DataFrame(rows)
    table.loc[len(table)] = ["all", *table[["jobs", "gpu_hours", "hours"]].sum()]
    return table.assign(held=table["gpu_hours"] / (table["hours"] * nodes * gpus))


def _stages(notebook: str, settings: Parameters) -> tuple[list[float], list[float]]:
    """GPU-hours of the jobs that pools and bases take, and of those that train and score a student;
    the latter wait for the former."""
    first: list[float] = []
    arms: list[float] = []
    training, n_trained, assumed = 0.0, 0, assumptions()
    for work in workload(notebook, settings):
        cost = _cost(work, settings, assumed)
        if cost["device"] != "gpu" or not work.loads:
            continue
        each = cost["hours"] / work.loads
        match work.kind:
            case "students trained":  # what scores them comes next
                training, n_trained = each, work.loads
            case "students scored":
                arms += [training + each] * n_trained
                first += [each] * (work.loads - n_trained)
            case _:
                first += [each] * work.loads
    return first, arms


def _makespan(jobs_hours: Iterable[float], places: int) -> float:
    """Hours until the last job ends, each begun in turn where a place is free first."""
    free = [0.0] * places
    for hours in jobs_hours:
        heapq.heappush(free, heapq.heappop(free) + hours)
    return max(free)


def totals(table: pd.DataFrame, card: str = "") -> list[str]:
    """What `estimate` comes to, a line a device (which of a GPU is its `card`), and what is not in
    it."""
    texts = []
    for device, part in table.groupby("device"):
        match device:
            case "none":
                texts.append("recorded or endpoint: no hours here")
            case "?":
                names = ", ".join(part["model"].unique())
                texts.append(f"not counted, for nothing tells their size: {names}")
            case _:
                unit = "core" if device == "cpu" else card or "GPU"
                hours = part["hours"].sum()
                time = f"{hours:.2f} hours" if hours >= 0.1 else f"{_short(60 * hours)} minutes"
                texts.append(f"{time} of one {unit}")
    disk, at_least = table["disk_gib"], "at least " if table["disk_gib"].isna().any() else ""
    texts.append(f"{at_least}{_short(disk.sum())} GiB of disk; as assumed in params/throughput.yml")
    return texts


def device_of(model: str, settings: Parameters, assumed: dict[str, Any]) -> str:
    """What the work of a model is counted on: see `estimate`."""
    if models.parse(model).kind in WITHOUT_WEIGHTS:
        return "none"  # sampled elsewhere, or already
    if (size := size_of(model)) is None:
        return UNKNOWN
    return "gpu" if size > assumed["cpu"][-1]["up_to"] or wants_gpu(settings) else "cpu"


def _cost(work: Work, settings: Parameters, assumed: dict[str, Any]) -> dict[str, Any]:
    device = device_of(work.model, settings, assumed)
    length = assumed["mean_share"] * settings.max_tokens
    prompt = assumed["prompt_tokens"]["gpu" if device == "gpu" else "cpu"]
    sampled, trained = work.prompts * length, work.examples * (length + prompt)
    size = size_of(work.model) or math.nan
    disk, seconds = sampled * STORED, 0.0 if device == "none" else math.nan
    if work.checkpoints:
        disk += work.checkpoints * size * assumed["bytes_a_parameter"][settings.trainer.dtype]
    if device == "cpu":
        row = next(row for row in assumed["cpu"] if size <= row["up_to"])
        seconds = sampled / row["sample"] + trained / row["train"] + work.loads * row["start"]
    if device == "gpu":  # operations a parameter and token: 2 to sample it, 6 to train on it
        gpu, active = assumed["gpu"], size_of(work.model, active=True) or math.nan
        operations = 2 * sampled / gpu["sample"] + 6 * trained / gpu["train"]
        seconds = operations * active / gpu["peak"] + work.loads * gpu["start"]
    millions = {"sampled_m": sampled / 1e6, "trained_m": trained / 1e6}
    spent = {"hours": seconds / 3600, "disk_gib": disk / 2**30}
    return {"device": device, "prompts": work.prompts} | millions | spent


def wants_gpu(settings: Parameters) -> bool:
    """Whether the largest student is too large for a CPU."""
    return max(size_of(spec) or 0 for spec in settings.students) > TOO_LARGE


# ---- what the notebooks will sample and train, counted from their parameters alone --------------


def workload(notebook: str, settings: Parameters) -> Iterator[Work]:
    """The work of one notebook with these parameters: of each base, then of each teacher."""
    # in notebook 04 teachers are asked for their choice alone
    n_each = _selecting(settings) if isinstance(settings, Recipe) else settings.n_replicates
    for base in settings.students:
        if isinstance(settings, Recipe):
            yield from _smoke_tests(settings, base)
        yield from _arms(notebook, settings, base)
        if isinstance(settings, Recipe):
            yield _recipe_pools(settings)
    n_units = len(settings.students) * n_each
    for teacher in study.teachers_of(settings):
        prompts = n_units * _asked_of_a_teacher(settings, teacher)
        yield Work("teachers' trajectories", teacher, prompts=prompts, loads=n_units)


def _arms(notebook: str, settings: Parameters, base: str) -> Iterator[Work]:
    """The arms of all replicates of a base, and the base before them."""
    arms, n = study.arms(settings), settings.n_replicates
    examples = round(sum(arms.values()) * settings.epochs * n)
    students, scored = n * len(arms), n * (len(arms) + 1)
    yield Work("students trained", base, examples=examples, loads=students, checkpoints=students)
    prompts = scored * _suite_size(settings) * settings.samples
    yield Work("students scored", base, prompts=prompts, loads=scored)
    if rates := n * _rated(settings):
        yield Work("pass rates", base, prompts=rates, loads=n)


def _suite_size(settings: Parameters) -> int:
    """Evaluation questions of a unit, with the perturbed copies of notebook 03."""
    copies = settings.eval_id * len(getattr(settings, "perturbations", ()))
    return copies + sum(asked.n for asked in study.evaluation_questions(settings).values())


def _rated(settings: Parameters) -> int:
    """Trajectories of the base for a unit's pass rates."""
    if isinstance(settings, schemas.OodTradeoff | Recipe):
        n_parts = len(study.training_questions(settings))  # math, and code where there is any
        return n_parts * settings.pass_rate_questions * settings.pass_rate_samples
    if isinstance(settings, schemas.Valley) and settings.difficulty == "pass_rate":
        return settings.n_questions * settings.pass_rate_samples
    return 0


def _asked_of_a_teacher(settings: Parameters, teacher: str) -> int:
    """Trajectories of one teacher for one unit; in notebook 04 for its choice alone."""
    if isinstance(settings, Recipe):
        return settings.smoke_questions + settings.smoke_eval * settings.samples
    scored = isinstance(settings, schemas.TeacherSelection)
    own_score = scored and study.short(teacher) in study.arms(settings)
    n_own = settings.eval_id * settings.samples * own_score
    return settings.n_questions * study.attempts(settings) + n_own


# ---- notebook 04: the choice of a teacher, then DED and its arms -------------------------------


def _selecting(settings: Recipe) -> int:
    """Replicates of a base on which its teacher is chosen."""
    return 0 if settings.chosen else settings.n_select


def _smoke_tests(settings: Recipe, base: str) -> Iterator[Work]:
    n_tests = _selecting(settings) * len(settings.teachers)
    examples = round(settings.epochs * n_tests * settings.smoke_size)
    yield Work("students trained", base, examples=examples, loads=n_tests, checkpoints=n_tests)
    prompts = (n_tests + _selecting(settings)) * settings.smoke_eval * settings.samples
    yield Work("students scored", base, prompts=prompts, loads=n_tests)


def _recipe_pools(settings: Recipe) -> Work:
    """What the chosen teacher, the highest scorer and another one, all taken to be the largest,
    sample for the pools of a base; and the highest scorer for its own score.

    Counted as if no two trajectories differed, so that all are asked for.
    """
    parts, n = len(study.training_questions(settings)), settings.n_replicates
    diverse = settings.n_trajectories * settings.corpus_size * (parts + 2)
    one_each = sum(asked.n for asked in study.training_questions(settings))
    own = _suite_size(settings) * settings.samples
    pool = 3 * one_each + diverse + own
    largest = max(settings.teachers, key=lambda spec: size_of(spec, active=True) or 0)
    return Work("teachers' trajectories", largest, prompts=n * pool, loads=2 * n)


# ---- whether this machine can run a preset -------------------------------------------------------


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
    preset: str, only: Sequence[str] = (), changes: Mapping[str, Any] = NO_CHANGES
) -> pd.DataFrame:
    """A row an item of what a preset needs: item (kind and name), ok (True, False, or None for a
    hint), note, and the cause that several may share.

    Packages, models (see `ded.models.check`), problem sources and how many questions they hold,
    recorded traces of these questions, GPUs and memory, disk, the sandbox.
    """
    plans = [settings for _, settings in planned(preset, only, changes)]
    findings = [finding for settings in plans for finding in _packages(settings)]
    findings += [finding for settings in plans for finding in _models(settings)]
    findings += [finding for settings in plans for finding in _candidates(settings)]
    findings += [*_gpus(plans), *_clusters(plans), *_memory(plans)]
    findings += [*_sources(plans), *_questions(plans, findings)]
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


def _candidates(settings: Parameters) -> Iterator[Finding]:
    """Folders of a data set, of which several are teachers, that are none."""
    recorded = study.recorded_teachers(settings)
    taken = set(map(study.short, recorded))
    places = [records.data_set_of(models.parse(spec).name) for spec in recorded]
    for data_set in {place: None for place in places if place and places.count(place) > 1}:
        try:
            others = [folder for folder in records.folders(data_set) if folder not in taken]
        except SourceError:  # which is told of its teachers
            continue
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


def _questions(plans: list[Parameters], findings: list[Finding]) -> Iterator[Finding]:
    """Of the first unit of each notebook, where nothing needs to be downloaded: what the filters
    leave of recorded traces, and what tokenizers cannot read.
    """
    unusable = {finding.name for finding in findings if finding.kind == "model" and not finding.ok}
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
        if whose and here < (wanted := gpus_a_job(settings)):
            about = wanted, f"{here} {where}"
            lacking[about] = lacking.get(about, {}) | dict.fromkeys(whose)
    for (wanted, what), names in lacking.items():
        yield Finding("GPUs", "", False, f"{wanted} needed for {', '.join(names)}; {what}")


def _on_gpus(settings: Parameters) -> list[str]:
    """What of a notebook needs a GPU."""
    assumed = assumptions()
    return [m for m in study.engines_of(settings) if device_of(m, settings, assumed) == "gpu"]


def gpus_a_job(settings: Parameters) -> int:
    """GPUs that a job whose models are too large for a CPU works on."""
    engine = settings.engine
    return max(engine.tensor_parallel * engine.data_parallel, settings.trainer.processes)


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
    bytes_each = assumptions()["training_bytes_a_parameter"]
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
                note = f"about {_short(size * each)} of {_short(there)} GiB free {place}{at_once}"
                note += "" if ok else mend
            yield Finding("memory to train", spec, ok, note)


def _short(number: float) -> str:
    """Three digits of a number, never zero."""
    return f"{float(f'{number:.3g}'):,g}"


def _shared(accelerate: str) -> bool:
    """Whether a launch configuration shares a model out over its GPUs."""
    file = home() / "params" / "accelerate" / f"{accelerate}.yml"
    return bool(accelerate) and read_yaml(file).get("distributed_type") == "FSDP"


def _disk(preset: str, only: Sequence[str], changes: Mapping[str, Any]) -> Finding:
    """Whether what is estimated can be written where the store lies."""
    root = store.root()
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(folder).free / 2**30 if os.access(folder, os.W_OK) else 0.0
    each = estimate(preset, only, changes)["disk_gib"]
    need = float(each.sum())
    at_least = "at least " if each.isna().any() else ""
    note = f"{at_least}{_short(need)} GiB estimated, {free:.0f} GiB free"
    if free <= need:
        note += ": set DED_STORE to a larger disk"
    return Finding("disk", "", free > need, note)
