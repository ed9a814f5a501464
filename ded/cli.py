"""The `ded` command: checks parameters, runs notebooks, shows verdicts. It only wires; science lives elsewhere.

    ded reproduce --preset lab                      every notebook, into outputs/lab/
    ded reproduce --preset lab --only 01 -p seed 7  one of them, with a parameter changed
    ded run 01 --preset lab -p n_replicates 2       the same for one notebook
    ded params --preset lab                         what would be run
    ded check --preset gpu                          whether this machine can run it
    ded estimate --preset gpu                       what it will cost
    ded report --preset lab                         one HTML page from what was recorded
    ded export --preset lab --out FOLDER            the curated corpus (--student: the student) with a card
    ded bench MODEL SOURCE... --samples 4           score a model on benchmarks
    ded lab build NAME --scale 0.01                 train a lab model anew

Exit codes: 0 all notebooks ran, 1 one failed, 2 parameters that cannot be run with (nothing was started), 130 Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import typer

from ded import home
from ded.errors import (
    EngineError,
    ExportError,
    ModelError,
    ParameterError,
    ReportError,
    SourceError,
    near,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(__doc__ or "").split("\n")[0],
)
lab = typer.Typer(no_args_is_help=True, help="The tiny language models that the `lab` presets use.")
app.add_typer(lab, name="lab")

Preset = typer.Option("lab", "--preset", help="A folder of params/.")
Changes = typer.Option(
    [], "-p", "--param", metavar="KEY VALUE", help="Change a parameter; may be repeated."
)
Only = typer.Option(
    [], "--only", metavar="NOTEBOOK", help="This notebook only ('01' will do); may be repeated."
)


@app.command()
def reproduce(preset: str = Preset, only: list[str] = Only, param: list[str] = Changes) -> None:
    """Run the notebooks with a preset into outputs/PRESET/ and show the verdicts."""
    runs = _plan(preset, only, param)  # all parameters are checked before any work
    code = _run_all(runs)
    if code in (0, 1) and not all(values["out_dir"] for _, values in runs):
        try:
            report(preset, None, None)
        except ReportError as error:  # no notebook came far enough to leave anything
            typer.echo(f"no report: {error}", err=True)
    raise typer.Exit(code)


@app.command()
def run(notebook: str, preset: str = Preset, param: list[str] = Changes) -> None:
    """Run one notebook (its name, or '01') with a preset."""
    raise typer.Exit(_run_all(_plan(preset, [notebook], param)))


@app.command()
def report(
    preset: str = Preset,
    folder: Path | None = typer.Option(
        None, help="Where the results lie, in place of outputs/PRESET."
    ),
    readme: Path | None = typer.Option(
        None, help="A Markdown file whose marked results are written anew, in place of the page."
    ),
) -> None:
    """Write one HTML page, report.html, from the recorded results of a preset."""
    from ded import report as pages

    folder = folder or home() / "outputs" / preset
    typer.echo(
        f"\nreport: {os.path.relpath(pages.readme(folder, readme) if readme else pages.write(folder))}"
    )


@app.command()
def export(
    out: Path = typer.Option(..., help="A new folder."),
    preset: str = Preset,
    notebook: str = typer.Option("04", help="The notebook that made them."),
    student: bool = typer.Option(False, "--student", help="The student, in place of the corpus."),
) -> None:
    """Write the curated corpus of a run as a Hugging Face data set directory, or its student as a model directory, with a card."""
    from ded import export as exporter
    from ded import params
    from ded.report import funnel_table

    folder = home() / "outputs" / preset / params.find_notebook(notebook).stem
    about, funnel = exporter.facts(folder), folder / "funnel.csv"
    if student:
        if "student" not in about["metrics"]:
            raise exporter.ExportError(
                f"{folder} records no student (the metric 'student'); of the notebooks, 04 does"
            )
        exporter.student(about["metrics"]["student"], about, out)
    else:
        exporter.corpus(
            exporter.recorded_corpus(folder),
            funnel_table(funnel) if funnel.is_file() else None,
            about,
            out,
        )
    typer.echo(f"written: {out}")


@app.command("params")
def show_params(preset: str = Preset, only: list[str] = Only, param: list[str] = Changes) -> None:
    """Print the parameters that a run would use, as YAML."""
    import yaml

    for path, values in _plan(preset, only, param):
        typer.echo(f"# {path.stem}")
        typer.echo(yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110))


@app.command()
def check(preset: str = Preset, only: list[str] = Only) -> None:
    """Tell whether this machine can run a preset: packages, models, data, GPUs, memory, disk. Exit code 1 if it cannot."""
    from ded import plan

    table = plan.check(preset, only)
    for row in table.itertuples():
        typer.echo(
            f"{'ok     ' if row.ok else '?      ' if row.ok is None else 'MISSING'} {row.item}{': ' if row.note else ''}{row.note}"
        )
    missing = int((table["ok"] == False).sum())  # noqa: E712  (None is a hint, not a lack)
    typer.echo(
        f"\n{missing} missing" if missing else f"\nthis machine can run the preset {preset!r}"
    )
    raise typer.Exit(1 if missing else 0)


@app.command()
def estimate(preset: str = Preset, only: list[str] = Only) -> None:
    """Tell what a preset will cost: prompts, tokens, hours, disk, from the assumptions in params/throughput.yml."""
    from ded import plan

    table = plan.estimate(preset, only)
    typer.echo(table.round(2).to_string(index=False))
    for device, part in table.groupby("device"):
        typer.echo(
            f"{part['hours'].sum():.2f} hours of one {'core' if device == 'cpu' else 'GPU'}"
            if device != "none"
            else "recorded or endpoint: no hours here"
        )
    typer.echo(
        f"{table['disk_gib'].sum():.1f} GiB of disk; all of it from the assumptions in params/throughput.yml"
    )


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
        0,
        min=0,
        help="Tokens an answer; 0: the model's context, at most 32,768 (lm_eval: what the task says).",
    ),
    limit: int = typer.Option(0, min=0, help="Questions a source; 0: all."),
    seed: int = typer.Option(0, min=0),
    engine: str = typer.Option(
        "transformers", help="transformers, vllm, or settings: '{name: vllm, tensor_parallel: 2}'."
    ),
    chat: bool = typer.Option(
        False, help="lm_eval: with the chat template, reading what follows </think>."
    ),
    tasks: Path | None = typer.Option(
        None, help="lm_eval: a folder of task files, in place of its own."
    ),
    known_as: str = typer.Option(
        "", "--as", help="The published name to put published numbers beside."
    ),
    out: Path = typer.Option(Path("outputs/bench"), help="Where <model>.json and <model>.csv go."),
    compare: tuple[str, str] = typer.Option(
        ("", ""), help="Two models with results there: their difference on the same questions."
    ),
) -> None:
    """Score a model on benchmarks, beside published numbers; or compare two models that were scored."""
    import pandas as pd

    from ded import benchmarks, general, models, params, problems
    from ded.options import Engine

    def show(table: pd.DataFrame) -> None:
        shares = [
            c
            for c in table
            if c in ("value", "low", "high", "a", "b", "difference") or c.startswith("pass@")
        ]
        table = (
            table.assign(**{c: 100 * table[c] for c in shares})
            .round(1)
            .dropna(axis=1, how="all")
            .astype(object)
        )
        typer.echo(
            f"\n{table.where(table.notna(), '').to_string(index=False)}\n(shares in per cent)"
        )

    try:
        if any(compare):
            show(benchmarks.compare(*(benchmarks.read(out, one)[1] for one in compare)))
            return
        named, harness = params.parse_value(engine), "lm_eval:"
        chosen = params.validated(
            Engine, named if isinstance(named, dict) else {"name": named}, "--engine"
        )
        models.parse(model)
        if not sources:
            raise problems.SourceError(
                "no source is named: ded bench MODEL SOURCE..., such as data:aime_2024 or lm_eval:mmlu"
            )
        for source in sources:
            source.startswith(harness) or problems.check(source)
        for source in sources:
            if source.startswith(harness):
                scores = general.run(
                    model,
                    source.removeprefix(harness).split(","),
                    include_path=tasks and str(tasks),
                    limit=limit,
                    chat=chat,
                    max_tokens=max_tokens,
                    engine=chosen,
                )
                found = None
            else:
                scores, found = benchmarks.run(
                    model,
                    source,
                    samples=samples,
                    limit=limit,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    seed=seed,
                    engine=chosen,
                )
            path = benchmarks.save(out, model, scores, found)
            show(scores.drop(columns=["model", "settings"]))
        beside = benchmarks.beside(
            benchmarks.read(out, model)[0], {model: known_as} if known_as else None
        )
        if (known := beside["published"].notna()).any():
            typer.echo(f"\n{benchmarks.markdown(beside[known])}")
        typer.echo(f"\n{os.path.relpath(path)}")
    except (
        benchmarks.BenchmarkError,
        models.ModelError,
        problems.SourceError,
        EngineError,
    ) as error:
        raise ParameterError(str(error)) from error


@lab.command("build")
def build(
    names: list[str] | None = typer.Argument(
        None, metavar="[NAME]...", help="Models to train; all without any."
    ),
    scale: float = typer.Option(
        1.0, min=1e-4, max=1.0, help="Share of the training: 0.01 shows that it runs."
    ),
    out: Path | None = typer.Option(
        None, help="Folder for the checkpoints, in place of the package's own."
    ),
) -> None:
    """Train the lab's models anew, all or the named ones, with fixed seeds."""
    from ded.lab import build as builder

    builder.main(names or [], scale=scale, out=out)


@lab.command("list")
def list_models() -> None:
    """List the lab's models."""
    from ded.lab import catalogue

    for name in catalogue.names():
        typer.echo(f"lab:{name}")


def main() -> None:
    """Entry point. `-p key value`, as papermill has it, becomes `-p key=value`, which is what typer can repeat."""
    arguments, rest = [], iter(sys.argv[1:])
    for item in rest:
        arguments.append(item)
        if item in ("-p", "--param"):
            key = next(rest, None)
            if key is not None and "=" not in key and (value := next(rest, None)) is not None:
                key = f"{key}={value}"
            arguments += [key] if key is not None else []
    try:
        app(arguments)
    except (ParameterError, ReportError, ExportError, ModelError, SourceError) as error:
        typer.echo(f"ded: {error}", err=True)
        sys.exit(2)


# ---- planning --------------------------------------------------------------------------------------------------------


def _plan(preset: str, only: list[str], changes: list[str]) -> list[tuple[Path, dict[str, Any]]]:
    """(notebook, checked parameters) of each run. ParameterError, for all notebooks at once, where any is wrong."""
    from ded import params
    from ded.params import schemas

    paths = [params.find_notebook(name) for name in only] or params.notebooks()
    if not paths:
        raise ParameterError(f"no notebooks in {home() / 'notebooks'}: run this in the repository")
    overrides = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign:
            raise ParameterError(f"-p {change}: no value; write -p KEY VALUE")
        overrides[key] = params.parse_value(value)
    known = {
        path: set(schemas.SCHEMAS[path.stem].model_fields)
        for path in paths
        if path.stem in schemas.SCHEMAS
    }
    anywhere = set().union(*known.values())
    problems = [
        f"  the command line: {key} = {overrides[key]!r}: unknown parameter{near(key, anywhere)}"
        for key in overrides
        if key not in anywhere
    ]
    runs = []
    for path in paths:
        try:  # a parameter that only some of the notebooks have is changed in those
            mine = {key: value for key, value in overrides.items() if key in known.get(path, ())}
            runs.append((path, params.load(preset, path.stem, mine)))
        except ParameterError as error:
            problems += [str(error)] if str(error) not in problems else []
    if problems:
        raise ParameterError("\n".join(problems))
    return runs


# ---- running ---------------------------------------------------------------------------------------------------------


def _run_all(runs: list[tuple[Path, dict[str, Any]]]) -> int:
    from ded import results, store

    os.chdir(home())
    store.sweep()
    failed = []
    for notebook, values in runs:
        folder = results.out_dir(values["out_dir"], values["preset"], notebook.stem)
        folder = Path(
            os.path.relpath(folder)
        )  # what the executed notebook records names no machine's folders
        started = time.perf_counter()
        try:
            problem = execute(notebook.relative_to(home()), folder, values)
        except KeyboardInterrupt:
            typer.echo(
                f"\ninterrupted in {notebook.stem}; finished stages are kept in {store.root()}",
                err=True,
            )
            return 130
        ended = "FAILED" if problem else "done"
        typer.echo(f"{notebook.stem}: {ended} in {time.perf_counter() - started:.0f} s", err=True)
        if problem:
            typer.echo(problem, err=True)
            failed.append(notebook.stem)
    _summary(runs, failed)
    return 1 if failed else 0


def execute(notebook: Path, folder: Path, values: dict[str, Any]) -> str | None:
    """Run one notebook into folder/<name>.ipynb with papermill; None, or the text of what went wrong.

    The executed notebook appears when it is complete; one that failed is kept as <name>.failed.ipynb. Results of an
    earlier run are removed first, so that what lies there afterwards is of this run.
    """
    import logging

    import nbformat
    import papermill

    from ded import params

    logging.getLogger("papermill").setLevel(
        logging.ERROR
    )  # its own check of parameters misreads annotated ones
    name = notebook.stem
    final, failed, work = (
        folder / f"{name}{end}" for end in (".ipynb", ".failed.ipynb", ".running.ipynb")
    )
    folder.mkdir(parents=True, exist_ok=True)
    for old in (final, failed, work, folder / "metrics.json"):
        old.unlink(missing_ok=True)
    for variable, value in (
        ("OMP_NUM_THREADS", "1"),
        ("OMP_WAIT_POLICY", "passive"),
        ("GOMP_SPINCOUNT", "0"),
    ):
        os.environ.setdefault(variable, value)
    start = params.defaults(notebook)
    changed = {
        key: value for key, value in values.items() if key not in start or start[key] != value
    }
    typer.echo(f"{name}:", err=True)
    problem = None
    try:
        papermill.execute_notebook(
            notebook,
            work,
            changed,
            kernel_name="python3",
            language="python",
            cwd=".",
            stdout_file=_Echo(),
            start_timeout=120,
            extra_arguments=["--log-level=50"],  # its log repeats what the error says
        )
    except papermill.PapermillExecutionError as error:
        problem = _excerpt(error, failed)
    except Exception as error:  # the kernel died, or did not start
        problem = f"  {type(error).__name__}: {error}"
    if work.is_file():
        document = nbformat.read(work, as_version=4)
        _tidy(document, notebook, final)
        nbformat.write(document, work)
        os.replace(work, failed if problem else final)
    if problem:  # verdicts that the notebook wrote before it failed are not to be read
        (folder / "metrics.json").unlink(missing_ok=True)
    return problem


class _Echo:
    """What the notebook prints, shown above papermill's progress bar."""

    def write(self, text: str) -> None:
        from tqdm import tqdm

        for line in text.splitlines():
            if line.strip():
                tqdm.write(f"  {line}", file=sys.stderr)

    def flush(self) -> None:
        pass


def _tidy(document: Any, notebook: Path, final: Path) -> None:
    """Take out progress bars (widgets, which show 0 % where no kernel runs); name the files as a reader sees them."""
    bar = "application/vnd.jupyter.widget-view+json"
    document.metadata.pop("widgets", None)
    if about := document.metadata.get("papermill"):
        about["input_path"], about["output_path"] = notebook.as_posix(), final.as_posix()
    for cell in document.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if bar not in output.get("data", {})]


def _excerpt(error: Any, kept: Path, lines: int = 14) -> str:
    """The failed cell, its exception and the end of its traceback: one screen."""
    trace = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(error.traceback)).rstrip().splitlines()
    head = f"  cell In [{error.exec_count}]: {error.ename}: {str(error.evalue)[:2000]}"
    if error.ename == "ParameterError":  # says all by itself
        return head
    return "\n".join(
        [
            head,
            "  ...",
            *(f"  {line[:160]}" for line in trace[-lines:]),
            f"  the whole of it: {kept}",
        ]
    )


def _summary(runs: list[tuple[Path, dict[str, Any]]], failed: list[str]) -> None:
    """A line a claim, from each run's metrics.json."""
    from ded import results

    for notebook, values in runs:
        typer.echo(f"\n{notebook.stem}")
        folder = results.out_dir(values["out_dir"], values["preset"], notebook.stem)
        metrics = None if notebook.stem in failed else results.read_metrics(folder)
        if metrics is None:
            typer.echo(
                "  failed: no verdicts" if notebook.stem in failed else "  wrote no metrics.json"
            )
            continue
        for claim in metrics["claims"]:
            typer.echo(
                f"  {claim['verdict']:<15} {_interval(claim):<26} {claim.get('statement') or claim.get('name')}"
            )


def _interval(claim: dict[str, Any]) -> str:
    numbers = [claim.get(key) for key in ("estimate", "low", "high")]
    if not all(isinstance(n, (int, float)) for n in numbers):
        return ""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*numbers)


if __name__ == "__main__":
    main()
