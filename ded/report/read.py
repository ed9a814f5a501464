"""What one notebook recorded, read from its folder for the page."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ded import files, home, params, results, wording
from ded.errors import ParameterError
from ded.report.tables import BESIDE, FIGURES, TABLES, Table, funnel_table, table
from ded.tables import reported as rows_of

MOST_ROWS = 40  # a longer table is data, not one for a reader


@dataclass(frozen=True)
class Image:
    """A figure as a data URI, with its size in pixels, so that a page does not move as it loads."""

    name: str
    text: str
    uri: str
    width: int
    height: int


@dataclass
class Notebook:
    """One notebook's results for the page.

    state: "done", "failed" or "not run"; of the last two there is what has no default here.
    error: why it failed, or why a later attempt did. changed: what differs from the preset as it
    stands. page: the name of the executed notebook's own page,
    or "". paper, beside: the claim, and tables of what others measured, in params/reported.yml.
    method: HTML. claims, replay: as in metrics.json. tables: by name.
    """

    name: str
    state: str
    page: str
    paper: dict[str, Any]
    beside: list[Table]
    title: str
    method: str
    error: str = ""
    changed: str = ""
    claims: list[dict[str, Any]] = field(default_factory=list)
    replay: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    manifest_text: str = ""
    figures: list[Image] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the run."""
        return self.manifest.get("params", {})

    @property
    def tokens(self) -> int:
        """Tokens sampled."""
        return sum(stage["tokens"] for stage in self.manifest["stages"].values())

    @property
    def figure(self) -> Image | None:
        """The one that shows its finding best."""
        return next((image for image in self.figures if image.name != "verdicts"), None)


def executed(folder: Path) -> Path | None:
    """The executed notebook in a folder, whole or failed; None where it has not run."""
    ran = (folder / f"{folder.name}{end}" for end in (".ipynb", ".failed.ipynb"))
    return next((file for file in ran if file.is_file()), None)


def read(folder: Path) -> Notebook:
    """What a notebook's folder holds, outputs/<preset>/<notebook>; it need not be there."""
    name, ran, metrics = folder.name, executed(folder), results.read_metrics(folder)
    source = ran or home() / "notebooks" / f"{name}.ipynb"
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"] if source.is_file() else []
    state = "done" if metrics else "failed" if ran else "not run"
    paper: dict[str, Any] = next(
        (c for c in reported().get("claims", ()) if c["notebook"] == name), {}
    )
    beside = [
        table(rows_of([section]).drop(columns="section"), section.replace("_", " ").capitalize())
        for section in (BESIDE.get(name, ()) if paper else ())
    ]
    page = f"{name}.html" if ran else ""
    notebook = Notebook(name, state, page, paper, beside, *_opening(name, cells))
    if not metrics:
        notebook.error = _last_error(cells)
        return notebook
    if ran and ".failed." in ran.name:
        notebook.page = ""  # of another run than the one that was recorded
    notebook.replay = metrics.get("metrics", {}).get("replay", "")
    notebook.claims = [claim | {"parts": wording.parts(claim)} for claim in metrics["claims"]]
    notebook.manifest_text = (folder / "manifest.json").read_text(encoding="utf-8").strip()
    notebook.manifest = manifest = json.loads(notebook.manifest_text)
    notebook.changed = _changed(name, notebook.params)
    if (later := folder / f"{name}.failed.ipynb").is_file():
        notebook.error = _last_error(json.loads(later.read_text(encoding="utf-8"))["cells"])
    there = {file: folder / file for file in manifest["files"] if (folder / file).is_file()}
    notebook.tables = _tables(there)
    drawn = {file.stem: _image(file) for file in there.values() if file.suffix == ".png"}
    notebook.figures = [drawn[name] for name in dict.fromkeys([*FIGURES, *drawn]) if name in drawn]
    return notebook


def reported() -> dict[str, Any]:
    """The content of params/reported.yml; {} where there is none."""
    file = home() / "params" / "reported.yml"
    return files.read_yaml(file) if file.is_file() else {}


def _opening(name: str, cells: list[dict]) -> tuple[str, str]:
    """Title and method (the rest, as HTML) of a notebook's first cell, where it states its claims
    and how they are judged."""
    import mistune

    text = "".join(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    title, _, rest = text.partition("\n") if text.startswith("# ") else ("", "", text)
    html = mistune.create_markdown(escape=True, plugins=["table", "url"])(rest)
    return title.removeprefix("# ").strip() or name, str(html)


def _changed(name: str, values: dict[str, Any]) -> str:
    """What differs between a run's parameters and its preset as it stands."""
    try:
        pairs = params.differences(params.load(str(values.get("preset")), name), values)
    except ParameterError:  # of a preset or notebook that is not here
        return ""
    return params.described(pairs, most=40)


def _last_error(cells: list[dict]) -> str:
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    errors = [output for output in outputs if output["output_type"] == "error"]
    return f"{errors[-1]['ename']}: {errors[-1]['evalue'][:500]}" if errors else ""


def _tables(there: dict[str, Path]) -> dict[str, Table]:
    """The tables to show, by name."""
    tables = {}
    for name, shown in TABLES.items():
        frame = pd.read_csv(there[file]) if (file := f"{name}.csv") in there else pd.DataFrame()
        if 0 < len(frame) <= MOST_ROWS:
            tables[name] = table(frame, **shown)
    if "funnel.csv" in there:
        tables["funnel"] = funnel_table(there["funnel.csv"])
    return tables


def _image(file: Path) -> Image:
    name, content = file.stem, file.read_bytes()
    caption = FIGURES.get(name, name.replace("_", " ").capitalize() + ".")
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    width, height = (int.from_bytes(size, "big") for size in (content[16:20], content[20:24]))
    return Image(name, caption, uri, width, height)
