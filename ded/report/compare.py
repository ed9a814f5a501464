"""Two runs side by side: the parameters that differ, what each claims, and their figures."""

import re
from pathlib import Path

from ded import files, home, results, wording
from ded.errors import ReportError
from ded.params import differences
from ded.report.read import Notebook, read
from ded.report.render import rendered
from ded.report.tables import Table, differing


def folder_of(run: str) -> Path:
    """The results of a run: a folder, or a preset's under outputs/; ReportError where there are
    none."""
    places = home() / "outputs" / run, Path(run)
    folder = next((path for path in places if any(path.glob("*/metrics.json"))), None)
    if folder is None:
        raise ReportError(results.not_there(places[0]))
    return folder


def notebooks(first: Path, second: Path) -> list[tuple[Notebook, Notebook]]:
    """The notebooks that ran to their end in both folders; ReportError where none did."""
    names = [
        {path.name for path in folder.glob("*/") if results.read_metrics(path)}
        for folder in (first, second)
    ]
    if not (both := sorted(set.intersection(*names))):
        there = " and ".join(", ".join(sorted(own)) for own in names)
        raise ReportError(f"{first} and {second} have no notebook in common: {there}")
    return [(read(first / name), read(second / name)) for name in both]


def tables(pair: tuple[Notebook, Notebook], names: tuple[str, str]) -> list[Table]:
    """The parameters that differ, by name (engine.dtype), and what each run says of each claim: the
    verdict and, of its parts, what was measured; without a table that has no rows."""
    parameters = differing(differences(*(notebook.params for notebook in pair)), *names)
    runs = [{claim["name"]: wording.outcome(claim) for claim in run.claims} for run in pair]
    rows = [[name, *(outcomes.get(name, "") for outcomes in runs)] for name in runs[0] | runs[1]]
    claims = Table("Claims", ["claim", *names], rows)
    return [table for table in (parameters, claims) if table.rows]


def page(
    first: Path, second: Path, names: tuple[str, str] = ("a", "b"), file: Path | None = None
) -> Path:
    """Writes it all as one HTML page, outputs/compare/<first>-<second>.html; returns its path.

    names: what the two are called."""
    if file is None:
        plain = (re.sub(r"\W+", "-", name).strip("-") for name in names)
        file = home() / "outputs" / "compare" / f"{'-'.join(plain)}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    pairs = notebooks(first, second)
    sections = [(pair[0].title, tables(pair, names), _figures(pair)) for pair in pairs]
    return files.write_text(file, rendered("compare.html.j2", names=names, sections=sections))


def _figures(pair: tuple[Notebook, Notebook]) -> list[tuple]:
    """The figures that either has, side by side: (caption, the first's, the second's or None)."""
    drawn = [{image.name: image for image in notebook.figures} for notebook in pair]
    every = drawn[1] | drawn[0]
    return [(every[name].text, *(own.get(name) for own in drawn)) for name in every]
