"""The `ded` command: checks parameters, runs notebooks, shows verdicts.

It only wires; science lives elsewhere.

    ded reproduce --preset lab                      every notebook, into outputs/lab/
    ded reproduce --preset lab --only 01 -p seed 7  one of them, with a parameter changed
    ded study --student hf:ORG/NAME --teachers a.jsonl b.jsonl --questions q.jsonl
    ded run 01 --preset lab -p n_replicates 2       the same for one notebook
    ded run 01 -p engine.dtype bfloat16             one key of a parameter that has several
    ded run 01 -p grading.judge hf:ORG/NAME         a judge for what the grader's rules leave
    ded advise --student hf:ORG/NAME --teachers a.jsonl b.jsonl   which teacher, without training
    ded new                                         notebooks and presets, into an empty folder
    ded params --preset lab                         what would be run
    ded check --preset gpu                          whether this machine can run it
    ded estimate --preset gpu                       what it will cost
    ded report --preset lab                         one HTML page from what was recorded
    ded compare lab mine                            two runs side by side
    ded export --preset lab --out FOLDER            the curated corpus, or --student, with a card
    ded bench MODEL SOURCE... --samples 4           score a model on benchmarks
    ded grade answers.jsonl --out graded.jsonl      grade answers of any model, and say why
    ded store prune --keep lab                      free the disk of what no run of lab needs
    ded lab build NAME                              train a lab model anew

Exit codes: 0 all notebooks ran, 1 one failed, 2 parameters that cannot be run with (nothing was
started), 130 Ctrl-C.
"""

import dataclasses
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from ded import __version__, files, home, params, runner, store
from ded.errors import DedError, ExportError, ParameterError, ReportError, SourceError
from ded.options import Engine, Grading

SUMMARY = (__doc__ or "").split("\n")[0]
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=SUMMARY
)
lab = typer.Typer(no_args_is_help=True, help="The tiny language models that the `lab` presets use.")
app.add_typer(lab, name="lab")
stored = typer.Typer(no_args_is_help=True, help="What is stored under outputs/store: size, prune.")
app.add_typer(stored, name="store")

Preset = typer.Option("lab", "--preset", help="A folder of params/.")
Changes = typer.Option(
    [],
    "-p",
    "--param",
    metavar="KEY VALUE",
    help="Change a parameter, or a key of one: engine.name.",
)
Replace = typer.Option(
    False, "--replace", help="Take the place of a finished run of other parameters, once complete."
)
GradingOption = typer.Option("{}", help="Settings: '{judge: \"hf:<org>/<name>\", percent: same}'.")
Only = typer.Option([], "--only", metavar="NOTEBOOK", help="This notebook only ('01' will do).")
HARNESS = "lm_eval:"  # before the tasks of the harness, in place of a problem source
SHARES = ("value", "low", "high", "a", "b", "difference")
SEVERAL = ("--only", "--student", "--teachers", "--ood", "--by")  # options that take several values
INTERRUPTED = 130  # the exit code of Ctrl-C


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ded {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    pass


# ---- running -----------------------------------------------------------------------------------


@app.command()
def reproduce(
    preset: str = Preset,
    only: list[str] = Only,
    param: list[str] = Changes,
    replace: bool = Replace,
    reference: str | None = typer.Option(
        None, metavar="WHY", help="As a reference run, each notebook entered in its log before."
    ),
    with_uncommitted_changes: bool = typer.Option(
        False, "--with-uncommitted-changes", help="Run as the reference all the same."
    ),
) -> None:
    """Run the notebooks with a preset into outputs/PRESET/ and show the verdicts.

    As a reference run into outputs/reference/, in the place of the one before.
    """
    from ded import reference as log

    runs = runner.planned(preset, only, _changes(param))  # all are checked before any work
    if reference is not None and any(run.folder.parent.name != preset for run in runs):
        raise ParameterError("a reference run takes its preset as it stands: leave out -p")
    begin, end, side_by_side = None, None, 3
    if reference is not None:
        begin, end = log.begin(reference, with_uncommitted_changes), log.keep(reference)
        place, os.environ[params.whole.NEXT] = Path("outputs", "reference"), "1"
        runs = [dataclasses.replace(run, folder=place / run.name) for run in runs]
        side_by_side, replace = 1, True
    written: set[Path] = set()

    def add_to_report(run: runner.Run) -> None:
        from ded import report as pages  # loads pandas

        if not run.values["out_dir"]:
            with suppress(ReportError):  # no notebook came far enough to leave anything
                written.add(pages.write(run.folder.parent, run.name))

    code = runner.run_all(runs, begin, replace, end, add_to_report, side_by_side)
    for page in written:
        typer.echo(f"\nreport: {os.path.relpath(page)}")
    raise typer.Exit(code)


@app.command()
def run(
    notebook: str,
    preset: str = Preset,
    param: list[str] = Changes,
    replace: bool = Replace,
) -> None:
    """Run one notebook (its name, or '01') with a preset.

    With changes it has a folder of its own, outputs/PRESET+KEY=VALUE/.
    """
    runs = runner.planned(preset, [notebook], _changes(param))
    raise typer.Exit(runner.run_all(runs, replace=replace))


@app.command()
def study(
    student: list[str] = typer.Option(..., help="A model spec, or a model's directory."),
    teachers: list[str] = typer.Option(..., help="Model specs, or files of recorded traces."),
    questions: str = typer.Option(..., help="A file of questions (docs/sources.md), or a source."),
    scored_on: str = typer.Option(
        "", help="Other questions to score on than those of --questions."
    ),
    ood: list[str] = typer.Option([], help="Files or sources out of domain; else the preset's."),
    start: str = typer.Option("", "--from", help="The preset to start from; else by size."),
    name: str = typer.Option("mine", help="The name of the preset that is written."),
    only: list[str] = Only,
    param: list[str] = Changes,
    yes: bool = typer.Option(False, "--yes", help="Run it without asking."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Write the preset, check, estimate."),
    replace: bool = Replace,
) -> None:
    """Study your own model: write a preset, check it, say what it costs, run it, report.

    ded study --student hf:ORG/NAME --teachers a.jsonl b.jsonl --questions questions.jsonl
    """
    from ded import own

    start, common = own.values(start, student, teachers, questions, scored_on, ood)
    folder = own.write(name, start, common | _changes(param), replace)
    typer.echo(f"preset {name}, which extends {start}: {os.path.relpath(folder)}\n")
    check(name, only, [])  # ends here where it cannot run
    typer.echo()
    estimate(name, only, [], 0, 8, "")
    if not dry_run and (yes or typer.confirm("\nrun it?", err=True)):
        reproduce(name, only, [], replace, None, False)


@app.command()
def advise(
    student: str = typer.Option(..., help="A model spec, or a model's directory."),
    teachers: list[str] = typer.Option(..., help="Model specs, or files of recorded traces."),
    questions: str = typer.Option("", help="A file of questions, or a source; else the preset's."),
    start: str = typer.Option("", "--from", help="The preset with all else; by default by size."),
    by: list[str] = typer.Option(
        [], help="Runs of 01 (outputs/...) that tell what a score costs; else reference, recorded."
    ),
    param: list[str] = Changes,
) -> None:
    """Rank candidate teachers by scores that need no training, and say when to run the smoke test.

    ded advise --student hf:ORG/NAME --teachers a.jsonl b.jsonl --questions questions.jsonl
    """
    from ded import advice, own
    from ded.params.schemas import TeacherSelection

    start, common = own.values(start, [student], teachers, questions)
    values = params.of_schema(TeacherSelection, common | _changes(param))
    values = own.fewer(params.load(start, advice.NOTEBOOK, values)) | values
    asked = TeacherSelection.model_validate(params.load(start, advice.NOTEBOOK, values))
    advised = advice.advise(asked, by)
    typer.echo("each score, and the rank that it gives")
    typer.echo(f"{advice.of_teachers(advised).to_string(index=False)}\n")
    typer.echo("what choosing by a score cost, points of ID pass@1")
    typer.echo(f"{advice.of_scores(advised).to_string(index=False)}\n")
    typer.echo(advice.sentences(advised))


@app.command()
def new(
    name: str = typer.Argument("", help="A preset to write, params/NAME/all.yml."),
    base: str = typer.Option("gpu", "--from", metavar="PRESET", help="Which it extends."),
    student: list[str] = typer.Option([], metavar="MODEL", help="A student, such as hf:ORG/NAME."),
    teacher: list[str] = typer.Option([], metavar="MODEL", help="A teacher; more by more options."),
    param: list[str] = Changes,
) -> None:
    """Write a preset of your own; or, without NAME, put notebooks and presets into this folder."""
    if name:
        models = {"students": student, "teachers": teacher, "teacher": (teacher or [""])[0]}
        values = {key: value for key, value in models.items() if value} | _changes(param)
        file = params.write_preset(name, base, values)
        typer.echo(f"written: {files.shown(file)}; next: ded check --preset {name}")
        return
    if not (names := params.unpack()):
        mend = "a preset of your own: ded new NAME --from gpu --student hf:ORG/NAME"
        raise ParameterError(f"{home()} has notebooks and params already; {mend}")
    typer.echo(f"{' and '.join(names)} put into {home()}; next: ded run 01 --preset lab")


@app.command("params")
def show_params(preset: str = Preset, only: list[str] = Only, param: list[str] = Changes) -> None:
    """Print the parameters that a run would use, as YAML, and where each comes from."""
    for planned in runner.planned(preset, only, _changes(param)):
        typer.echo(f"# {planned.name}")
        for key, value in planned.values.items():
            origin = planned.origins.get(key, "default")
            typer.echo(f"{params.line(key, value):<48}  # {origin}")
        typer.echo()


def _changes(changes: list[str]) -> dict[str, Any]:
    """The values given with -p, by name."""
    values: dict[str, Any] = {}
    for change in changes:
        key, sign, text = change.partition("=")
        if not sign:
            raise ParameterError(f"-p {change}: no value; write -p KEY VALUE")
        values[key] = params.parse_value(text)
    return values


# ---- before and after --------------------------------------------------------------------------


@app.command()
def check(preset: str = Preset, only: list[str] = Only, param: list[str] = Changes) -> None:
    """Tell whether this machine can run a preset: packages, models, data, GPUs, memory, disk.

    Exit code 1 if it cannot.
    """
    from ded import checking

    table = checking.check(preset, only, _changes(param))
    typer.echo("\n".join(checking.lines(table)))
    missing = int(table["ok"].eq(False).sum())
    typer.echo(f"\n{missing} missing" if missing else f"\nthis machine can run preset {preset!r}")
    if missing:
        raise typer.Exit(1)


@app.command()
def estimate(
    preset: str = Preset,
    only: list[str] = Only,
    param: list[str] = Changes,
    nodes: int = typer.Option(0, min=0, help="Tell how long so many nodes take, too."),
    gpus: int = typer.Option(8, min=1, help="GPUs of a node."),
    card: str = typer.Option("", help="The GPU, a card of params/throughput.yml."),
) -> None:
    """Tell what a preset will cost: prompts, tokens, hours, disk.

    At the speeds of earlier runs on this hardware, which the column rate names; else as
    params/throughput.yml assumes.
    """
    from ded import plan

    table = plan.estimate(preset, only, _changes(param), card)
    typer.echo(table.to_string(index=False, float_format="{:.3g}".format, na_rep="?"))
    typer.echo("\n".join(plan.totals(table, card)))
    if nodes:
        table = plan.schedule(preset, only, _changes(param), nodes, gpus, card)
        typer.echo(f"\non {nodes} node(s) of {gpus} GPUs, by simulation (docs/scaling.md)")
        typer.echo(table.to_string(index=False, float_format="{:.3g}".format))


@app.command()
def report(
    preset: str = Preset,
    readme: Path | None = typer.Option(None, help="A Markdown file whose marked results to renew."),
    time: bool = typer.Option(False, "--time", help="Print where the time went, and no page."),
) -> None:
    """Write one HTML page, report.html, from the recorded results of a preset."""
    from ded import report as pages

    folder = home() / "outputs" / preset
    if time:
        from ded.report.time import core_seconds

        typer.echo(f"core-seconds\n{core_seconds(folder).to_string(na_rep='')}")
        return
    written = pages.readme(folder, readme) if readme else pages.write(folder)
    typer.echo(f"\nreport: {os.path.relpath(written)}")


@app.command()
def compare(
    first: str = typer.Argument(..., metavar="A", help="A preset that ran, or a folder."),
    second: str = typer.Argument(..., metavar="B"),
    out: Path | None = typer.Option(None, help="The page, in place of outputs/compare/A-B.html."),
) -> None:
    """Set two runs side by side: parameters that differ, claims, figures."""
    from ded.report import compare as pages

    names = first, second
    folders = pages.folder_of(first), pages.folder_of(second)
    for pair in pages.notebooks(*folders):
        texts = [table.markdown() for table in pages.tables(pair, names)]
        typer.echo("\n\n".join([f"# {pair[0].name}", *texts, ""]))
    typer.echo(f"side by side: {os.path.relpath(pages.page(*folders, names, out))}")


@app.command()
def export(
    out: Path = typer.Option(..., help="A new folder."),
    preset: str = Preset,
    student: bool = typer.Option(False, "--student", help="The student, in place of the corpus."),
) -> None:
    """Write the curated corpus of a run of 04 as a Hugging Face data set directory, with a card.

    With --student its student as a model directory.
    """
    from ded import export as exporter

    folder = home() / "outputs" / preset / params.whole.RECIPE
    about = exporter.facts(folder)
    if student:
        if not about["metrics"].get("student"):
            raise ExportError(f"{folder} records no student: no arm was trained")
        exporter.student(about["metrics"]["student"], about, out)
    else:
        exporter.corpus(exporter.recorded_corpus(folder), about, out)
    typer.echo(f"written: {out}")


# ---- benchmarks --------------------------------------------------------------------------------


@app.command()
def bench(
    model: str = typer.Argument("", help="A model spec, such as lab:student_1."),
    sources: list[str] = typer.Argument(
        None, metavar="SOURCE...", help="Problem sources (data:aime_2024), or lm_eval:TASK,TASK."
    ),
    samples: int = typer.Option(4, min=1, help="Answers a question."),
    temperature: float = typer.Option(0.6, min=0),
    top_p: float = typer.Option(0.95, min=1e-6, max=1),
    max_tokens: int = typer.Option(
        0, min=0, help="0: the model's context, at most 32,768 (lm_eval: the task's own)."
    ),
    limit: int = typer.Option(0, min=0, help="Questions a source; 0: all."),
    seed: int = typer.Option(0, min=0),
    engine: str = typer.Option(
        "transformers", help="transformers, vllm, or settings: '{name: vllm, tensor_parallel: 2}'."
    ),
    grading: str = GradingOption,
    chat: bool = typer.Option(False, help="lm_eval: chat template, and what follows </think>."),
    tasks: Path | None = typer.Option(None, help="lm_eval: a folder of task files of your own."),
    known_as: str = typer.Option("", "--as", help="The name of the published numbers beside it."),
    out: Path = typer.Option(Path("outputs/bench"), help="Where <model>.json and <model>.csv go."),
    compare: tuple[str, str] = typer.Option(
        ("", ""), help="Two models with results there: their difference on the same questions."
    ),
) -> None:
    """Score a model on benchmarks, beside published numbers; or compare two scored models."""
    from ded import benchmarks, general, problems
    from ded.report.tables import table

    if any(compare):
        first, second = (benchmarks.read(out, name)[1] for name in compare)
        _show(benchmarks.compare(first, second))
        return
    chosen, graded_by = _options(Engine, engine, "--engine"), _grading(grading)
    if not sources:
        raise SourceError("no source is named, such as data:aime_2024 or lm_eval:mmlu")
    for source in sources:
        if not source.startswith(HARNESS):
            problems.source(source).check()
    files.check_writable(out, "--out")
    store.check()
    work: dict[str, Any] = {"limit": limit, "max_tokens": max_tokens, "engine": chosen}
    how = work | {"samples": samples, "temperature": temperature, "top_p": top_p, "seed": seed}
    for source in sources:
        answers = None
        if source.startswith(HARNESS):
            names = source.removeprefix(HARNESS).split(",")
            scores = general.run(model, names, include_path=tasks, chat=chat, **work)
        else:
            scores, answers = benchmarks.run(model, source, grading=graded_by, **how)
        file = benchmarks.save(out, model, scores, answers)
        _show(scores.drop(columns=["model", "settings"]))
    recorded, _ = benchmarks.read(out, model)
    beside = benchmarks.beside(recorded, {model: known_as} if known_as else {})
    if (published := beside["published"].notna()).any():
        typer.echo(f"\n{table(beside[published], 'Beside published numbers, per cent').markdown()}")
    typer.echo(f"\n{os.path.relpath(file)}")


def _show(table: Any) -> None:
    """Prints a table of scores, shares in per cent."""
    shares = [name for name in table if name in SHARES or name.startswith(("pass@", "maj@"))]
    shown = table.assign(**{name: 100 * table[name] for name in shares}).round(1)
    shown = shown.dropna(axis=1, how="all").astype(object)
    text = shown.where(shown.notna(), "").to_string(index=False)
    typer.echo(f"\n{text}\n(shares in per cent)")


# ---- grading -----------------------------------------------------------------------------------


@app.command()
def grade(
    file: str = typer.Argument(..., help="JSON lines (or .json, .csv, .parquet); -: stdin."),
    out: str = typer.Option("", help="Where each row goes with its verdict, as JSON; -: stdout."),
    grading: str = GradingOption,
    tolerance: float = typer.Option(0.0, min=0, help="By which numbers may differ."),
    workers: int = typer.Option(0, min=0, help="Processes; 0: one a core."),
) -> None:
    """Grade answers of any model: rows with question, gold and answer (docs/grading.md).

    kind: math, choice (with options), exact, or code (with tests in place of a gold). Each row is
    written with verdict, extracted, rule and reason, all rows or none; the counts are printed.
    """
    import pandas as pd

    from ded import jobs, verdicts
    from ded.grading import VERDICTS

    options = _grading(grading)
    if out not in ("", "-"):
        if not Path(out).resolve().parent.is_dir():
            raise SourceError(f"--out {out}: no such folder")
        files.check_writable(Path(out).parent, "--out in")
    rows = verdicts.graded(file, options, tolerance, workers=jobs.count(workers))
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    if out == "-":
        typer.echo(text, nl=False)
    elif out:
        files.write_text(Path(out), text)
    table = pd.DataFrame(rows)
    counts = pd.crosstab(table["kind"], table["verdict"], margins=True, margins_name="all")
    shown = counts.reindex(columns=list(VERDICTS), fill_value=0)
    rules = table["rule"].replace("", "no rule").value_counts()
    decided = ", ".join(f"{rule} {count:,}" for rule, count in rules.items())
    text = f"{shown.rename_axis(None).rename_axis(None, axis=1)}\ndecided by: {decided}"
    typer.echo(text, err=out == "-")


def _grading(text: str) -> Grading:
    """Checked settings of the grader, with a judge that can be asked."""
    from ded import models

    options = _options(Grading, text, "--grading")
    if options.judge:
        models.check(options.judge, engine=options.judge_engine)
    return options


def _options(model: type[params.Model], text: str, option: str) -> params.Model:
    """Checked settings, written as a mapping or by a name alone."""
    values = params.parse_value(text)
    return params.validated(model, values if isinstance(values, dict) else {"name": values}, option)


# ---- the store ---------------------------------------------------------------------------------


@stored.command("size")
def store_size() -> None:
    """List what is stored and how large it is: by the presets whose runs need it, and by kind."""
    _show_entries(store.entries())


def _show_entries(entries: Any) -> None:
    """Prints how many entries of which kind the presets need, and their size."""
    table = entries.assign(entries=1, needed_by=entries["needed_by"].replace("", "no run"))
    table = table.groupby(["needed_by", "kind"])[["entries", "bytes"]].sum().reset_index()
    table.loc[len(table)] = ["all", "", *table[["entries", "bytes"]].sum()]
    gib = (table.pop("bytes") / 2**30).map("{:,.2f}".format)
    typer.echo(table.assign(GiB=gib).to_string(index=False))


@stored.command("prune")
def store_prune(
    keep: list[str] = typer.Option(..., metavar="PRESET", help="Whose runs keep what they need."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """Remove what the runs of the presets to keep do not need, benchmarks' results included.

    A run notes what it needs. What is removed is computed again when it is asked for.
    """
    entries = store.entries()
    noted = {preset for presets in entries["needed_by"] for preset in presets.split(", ")}
    for preset in keep:
        if preset not in noted:
            mend = "run it again, which notes that and computes nothing that is stored"
            raise ParameterError(f"no run of preset {preset!r} has noted what it needs: {mend}")
    needed = entries["needed_by"].map(lambda presets: bool({*presets.split(", ")} & {*keep}))
    _show_entries(entries[~needed])
    if needed.all():
        raise typer.Exit()
    yes or typer.confirm("remove these?", abort=True)
    typer.echo(f"removed: {store.remove(entries.loc[~needed, 'key']):,}")


# ---- the lab -----------------------------------------------------------------------------------


@lab.command("build")
def build(
    names: list[str] = typer.Argument(None, metavar="[NAME]...", help="All without any."),
    scale: float = typer.Option(
        1.0, min=1e-4, max=1.0, help="Share of the training; below 1 with --out."
    ),
    out: Path | None = typer.Option(None, help="Folder for the checkpoints."),
) -> None:
    """Train the lab's models anew, all or the named ones, with fixed seeds."""
    from ded.lab import build as builder

    builder.main(names or [], scale=scale, out=out)


def main() -> None:
    """Entry point; makes `-p key value`, as papermill has it, `-p key=value`, and `--only 01 02`
    `--only 01 --only 02`, as typer wants them."""
    arguments: list[str] = []
    given, option = iter(sys.argv[1:]), ""
    for item in given:
        if item.startswith("-"):
            option = item if item in SEVERAL else ""
        elif option and arguments[-1] != option:
            arguments.append(option)
        arguments.append(item)
        if item in ("-p", "--param"):
            change = next(given, None)
            value = next(given, None) if change and "=" not in change else None
            if change is not None:
                arguments.append(change if value is None else f"{change}={value}")
    try:
        app(arguments)
    except DedError as error:
        typer.echo(f"ded: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if not error.filename:  # a fault of the program, not of a file that the user named
            raise
        typer.echo(f"ded: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            go_on = f"finished stages are kept in {store.root()}; run it again to go on"
            typer.echo(f"\nded: interrupted; {go_on}", err=True)
        raise


if __name__ == "__main__":
    main()
