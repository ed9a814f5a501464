"""What one notebook recorded, read from its folder for the page."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ded import home, results
from ded.report.tables import (
    COMPARISONS,
    FIGURES,
    TABLES,
    Shown,
    Table,
    funnel_table,
    interval,
    score_table,
)


@dataclass(frozen=True)
class Image:
    """A figure as a data URI, with its size in pixels, so that a page does not move as it loads."""

    name: str
    text: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Part:
    """One part of a claim as texts; points: estimate, low and high for its bar, or nothing."""

    label: str
    text: str
    adjusted: str
    p_value: str
    n: int | None
    points: list[float]


@dataclass
class Notebook:
    """One notebook's results for the page.

    state: "done", "failed" (then `error` says why) or "not run"; of the last two there is no more
    than title and method. page: the name of the executed notebook's own page, or "".
    method: HTML. claims: as in metrics.json, with `parts` and `detectable` as the page shows them.
    """

    name: str
    state: str
    page: str
    title: str
    method: str
    error: str = ""
    claims: list[dict[str, Any]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    manifest_text: str = ""
    missing: list[str] = field(default_factory=list)
    figures: list[Image] = field(default_factory=list)
    further: list[Image] = field(default_factory=list)
    funnel_figures: list[Image] = field(default_factory=list)
    ablation_figures: list[Image] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    ablations: list[Table] = field(default_factory=list)
    funnel: Table | None = None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the run."""
        return self.manifest.get("params", {})

    @property
    def reach(self) -> float:
        """Half the width of the bars' common axis, in points."""
        points = [abs(x) for claim in self.claims for part in claim["parts"] for x in part.points]
        return 1.08 * max(points, default=0) or 1


def executed(folder: Path) -> Path | None:
    """The executed notebook in a folder, whole or failed; None where it has not run."""
    files = (folder / f"{folder.name}{end}" for end in (".ipynb", ".failed.ipynb"))
    return next((file for file in files if file.is_file()), None)


def read(folder: Path) -> Notebook:
    """What a notebook's folder holds, outputs/<preset>/<notebook>; it need not be there."""
    name, ran, metrics = folder.name, executed(folder), results.read_metrics(folder)
    source = ran or home() / "notebooks" / f"{name}.ipynb"
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"] if source.is_file() else []
    state = "failed" if ran else "not run"
    if metrics:
        state = "done"
    notebook = Notebook(name, state, f"{name}.html" if ran else "", *_opening(name, cells))
    if not metrics:
        notebook.error = _last_error(cells)
        return notebook
    if ran and ".failed." in ran.name:
        notebook.page = ""  # of another run than the one that was recorded
    notebook.claims = [_claim(claim) for claim in metrics["claims"]]
    notebook.manifest_text = (folder / "manifest.json").read_text(encoding="utf-8").strip()
    notebook.manifest = manifest = json.loads(notebook.manifest_text)
    files = {file: folder / file for file in manifest["files"] if (folder / file).is_file()}
    notebook.missing = sorted({*manifest["files"]} - {*files})
    tables = _tables(files, manifest.get("tables", {}))
    notebook.tables = [table for name, table in tables.items() if name not in COMPARISONS]
    notebook.ablations = [table for name, table in tables.items() if name in COMPARISONS]
    if "funnel.csv" in files:
        notebook.funnel = funnel_table(files["funnel.csv"])
    _place_figures(notebook, [_image(file) for file in files.values() if file.suffix == ".png"])
    return notebook


def _opening(name: str, cells: list[dict]) -> tuple[str, str]:
    """Title and method (the rest, as HTML) of a notebook's first cell, where it states its claims
    and how they are judged."""
    import mistune

    text = "".join(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    title, _, rest = text.partition("\n") if text.startswith("# ") else ("", "", text)
    html = mistune.create_markdown(escape=True, plugins=["table", "url"])(rest)
    return title.removeprefix("# ").strip() or name, str(html)


def _last_error(cells: list[dict]) -> str:
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    errors = [output for output in outputs if output["output_type"] == "error"]
    return f"{errors[-1]['ename']}: {errors[-1]['evalue'][:500]}" if errors else ""


def _claim(claim: dict[str, Any]) -> dict[str, Any]:
    parts = [_part(part, claim) for part in claim.get("parts") or [claim]]
    return claim | {"parts": parts, "detectable": interval(claim.get("detectable"))}


def _part(part: dict[str, Any], claim: dict[str, Any]) -> Part:
    p_value = "–" if part.get("p") is None else f"{part['p']:.2g}"
    text = interval(part.get("estimate"), part.get("low"), part.get("high"), sign=True)
    if part.get("estimate") is None:
        text = "not measured" if part.get("p") is None else f"p = {p_value}"
    ends = [part[key] for key in ("estimate", "low", "high") if part.get(key) is not None]
    return Part(
        label=part.get("label", "") if part.get("label") != claim.get("name") else "",
        text=text,
        adjusted=interval(part.get("low_adjusted"), sign=True),
        p_value=p_value,
        n=part.get("n"),
        points=[100 * end for end in ends] if len(ends) == 3 else [],
    )


def _tables(files: dict[str, Path], declared: dict[str, dict[str, str]]) -> dict[str, Table]:
    """The tables to show, by name; declared: what the notebook said of its own."""
    shown = TABLES | COMPARISONS | {name: Shown(**entry) for name, entry in declared.items()}
    names = [name for name in shown if f"{name}.csv" in files]
    tables = {name: score_table(files[f"{name}.csv"], shown[name]) for name in names}
    return {name: table for name, table in tables.items() if table}


def _place_figures(notebook: Notebook, images: list[Image]) -> None:
    """Sets the fields of the notebook that hold figures."""
    notebook.funnel_figures = [image for image in images if image.name.startswith("funnel")]
    notebook.ablation_figures = [image for image in images if image.name.startswith("ablation")]
    elsewhere = [*notebook.funnel_figures, *notebook.ablation_figures]
    others = [image for image in images if image not in elsewhere]
    notebook.figures = [image for name in FIGURES for image in others if image.name == name]
    notebook.further = [image for image in others if image.name not in FIGURES]
    if all(image.name == "verdicts" for image in notebook.figures):
        notebook.figures += notebook.further  # FIGURES does not know this notebook
        notebook.further = []


def _image(file: Path) -> Image:
    content = file.read_bytes()
    return Image(
        file.stem,
        FIGURES.get(file.stem) or file.stem.replace("_", " ").capitalize() + ".",
        f"data:image/png;base64,{base64.b64encode(content).decode()}",
        width=int.from_bytes(content[16:20], "big"),
        height=int.from_bytes(content[20:24], "big"),
    )
