"""One HTML page from recorded results: what came out in short, verdicts, each notebook, cost.

    report.write(Path("outputs/lab"))  ->  outputs/lab/report.html and a page a notebook beside it

Nothing is computed anew: what is shown was recorded by `ded.results.Recorder`, and the same results
give the same bytes. Pages hold all they need (images as data URIs, no scripts) and forbid the
browser to fetch more.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from ded import files, params, results
from ded.errors import ReportError
from ded.report.read import executed, read, reported
from ded.report.render import GUARD, rendered

# what lies between two of them in a README is written by `readme`
README_MARK, FINDINGS_MARK = "<!-- results -->", "<!-- findings -->"


def write(folder: Path, only: str = "") -> Path:
    """Writes folder/report.html and a page for each executed notebook beside it; returns its path.

    only: the notebook whose own page is made, when it has just run; those of others stand.

    `folder` is outputs/<preset>: one folder a notebook, any number of which may be missing or
    failed, which the page says. Raises ReportError where no notebook has run at all.
    """
    folder = Path(folder)
    ran = [path for path in folder.glob("*/") if executed(path) or results.read_metrics(path)]
    if not ran:
        raise ReportError(results.not_there(folder))
    names = {path.name for path in ran} | {path.stem for path in params.notebooks()}
    notebooks = [read(folder / name) for name in sorted(names)]
    for notebook in notebooks:
        source = executed(folder / notebook.name)
        if notebook.page and source and notebook.name == (only or notebook.name):
            files.write_text(folder / notebook.page, _notebook_page(source))
    done = [notebook for notebook in notebooks if notebook.state == "done"]
    page = rendered("page.html.j2", notebooks=notebooks, done=done, paper=reported().get("paper"))
    return files.write_text(folder / "report.html", page)


def _notebook_page(notebook: Path) -> str:
    """An executed notebook as one HTML page: without scripts, and with a policy under which a
    browser runs and fetches nothing."""
    # it escapes texts, and pandas escapes what tables hold
    text, _ = _exporter().from_filename(str(notebook))
    text = re.sub(r"<script\b.*?</script\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return text.replace("<head>", f"<head>{GUARD}", 1)


@cache  # with its templates, which it compiles
def _exporter() -> Any:
    files.without_iri_grammar()
    from nbconvert import HTMLExporter

    return HTMLExporter(embed_images=True)


def readme(folder: Path, file: Path) -> Path:
    """Replaces what lies between two marks of a Markdown file by what is recorded under `folder`:
    the findings in a sentence each with a figure (may be left out), and the verdicts of each
    notebook. Returns its path. ReportError for other marks."""
    done = sorted(path for path in folder.glob("*/") if results.read_metrics(path))
    link = os.path.relpath(folder, file.parent)
    made = rendered("readme.md.j2", notebooks=[read(path) for path in done], link=link)
    text = file.read_text(encoding="utf-8")
    for mark in (README_MARK, FINDINGS_MARK):
        before, *between = text.split(mark)
        if len(between) != 2 and (between or mark == README_MARK):
            raise ReportError(f"{file}: {len(between)} marks {mark}; two are needed")
        if between:
            text = mark.join([before, made.split(mark)[1], between[1]])
    return files.write_text(file, text)
