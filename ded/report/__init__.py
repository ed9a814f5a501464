"""One HTML page from recorded results: verdicts first, then each notebook, data, cost, manifest.

    report.write(Path("outputs/lab"))  ->  outputs/lab/report.html and a page a notebook beside it

Nothing is computed anew: what is shown was recorded by `ded.results.Recorder`, and the same results
give the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from ded import files, home, results
from ded.errors import ReportError
from ded.report.page import notebook_page, page
from ded.report.read import Notebook, difference, executed, label, read
from ded.report.tables import TABLES, Table, funnel_table, interval, number, score_table

MARK = "<!-- results -->"  # what lies between two of them in a README is written by `readme`


def write(folder: Path) -> Path:
    """Writes folder/report.html and a page for each executed notebook beside it; returns its path.

    `folder` is outputs/<preset>: one folder a notebook, any number of which may be missing or
    failed, which the page says. Raises ReportError where no notebook has run at all.
    """
    from ded import params

    folder, file = Path(folder), home() / "params" / "reported.yml"
    ran = [path for path in folder.glob("*/") if executed(path) or results.read_metrics(path)]
    if not ran:
        raise ReportError(
            f"no notebook has run in {folder}: first `ded reproduce --preset {folder.name}`"
        )
    names = {path.name for path in ran} | {path.stem for path in params.notebooks()}
    notebooks = [read(folder / name) for name in sorted(names)]
    for notebook in notebooks:
        source = executed(folder / notebook.name)
        if notebook.page and source:
            files.write_text(folder / notebook.page, notebook_page(source))
    reported = files.read_yaml(file) if file.is_file() else {}
    return files.write_text(folder / "report.html", page(notebooks, reported))


def readme(folder: Path, file: Path) -> Path:
    """Replaces what lies between the two marks of a Markdown file by the verdicts recorded under
    `folder`, each notebook's with a figure; returns its path. ReportError for other marks."""
    before, *between = file.read_text(encoding="utf-8").split(MARK)
    if len(between) != 2:
        raise ReportError(
            f"{file}: {len(between)} marks {MARK}; two are needed, around what is to be replaced"
        )
    link = os.path.relpath(folder, file.parent)
    done = sorted(path for path in folder.glob("*/") if results.read_metrics(path))
    sections = [_readme_section(read(path), f"{link}/{path.name}") for path in done]
    return files.write_text(file, MARK.join([before, "\n".join(["", *sections]), between[1]]))


def _readme_section(notebook: Notebook, link: str) -> str:
    rows = ["| claim | verdict | difference in points | detectable |", "| --- | --- | --- | --- |"]
    for claim in notebook.claims:
        parts = [f"{label(part, claim)} {difference(part)}".strip() for part in claim["parts"]]
        cells = claim["name"], f"**{claim['verdict']}**", "; ".join(parts)
        rows.append(f"| {' | '.join(cells)} | {number(claim.get('detectable'))} |")
    text = f"### {notebook.title} ([executed]({link}/{notebook.name}.ipynb))\n\n"
    text += "\n".join(rows) + "\n"
    findings = notebook.figures["findings"]
    figure = next((image for image in findings if image.name != "verdicts"), None)
    if figure:
        text += f"\n![{figure.text}]({link}/{figure.name}.png)\n"
    return text
