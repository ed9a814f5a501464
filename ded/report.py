"""One HTML page from recorded results: verdicts first, then each notebook, the data, the cost, and how it was made.

    report.write(Path("outputs/lab"))  ->  outputs/lab/report.html, and outputs/lab/<notebook>.html beside it

Nothing is computed anew: what is shown was recorded by `ded.results.Recorder`, and the same results give the same bytes.
Both kinds of page hold all they need (images as data URIs, no scripts) and forbid the browser to fetch anything else.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ded import home, results
from ded.errors import ReportError

MARKS = dict(
    zip(results.VERDICTS, "✓✗?–")
)  # what a verdict is must not be told by its colour alone
GUARD = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:">"""
FIGURES = {  # the figures that carry a finding, with what they show; the others follow folded up
    "verdicts": "Every claim's difference with its 95 % interval; shaded: differences too small to matter.",
    "teacher_vs_student": "Each teacher's own pass@1 against that of the student distilled from it.",
    "teacher_by_base": "In-domain pass@1 of the student of each teacher, by student base.",
    "pareto": "In-domain against out-of-domain pass@1 of every corpus.",
    "id": "In-domain pass@1 and pass@k of the students, by selection rule.",
    "robustness": "Pass@1 on the questions as they are and under perturbations that leave the answer as it is.",
    "recipe_pareto": "Score against corpus size, with the frontier.",
    "same_axes": "The axes of the paper's Figure 1, filled with what was measured here.",
    "predictors": "What might have told a good teacher without training, against the distilled student's pass@1.",
    "cheap_scores": "Scores of a teacher that need no training, against the gain of the student distilled from it.",
    "valley": "Accuracy, completion rate and think-tag rate against corpus size.",
    "selections": "The same for corpora of easy and of hard questions, of right and of wrong answers.",
    "id_size": "In-domain pass@1 against corpus size.",
    "funnel": "What each filter leaves of the sampled trajectories.",
    "ablation": "Each arm's difference from the whole recipe.",
}
MARK = "<!-- results -->"  # what lies between two of them in a README is written by `readme`
ELSEWHERE = ("funnel", "ablation")  # figures with a section of their own
TABLES = {  # the recorded tables that are shown, with their captions; scores are fractions and read in per cent
    "summary": "Scores in per cent",
    "rank_correlations": "Spearman's rho with the smoke test; descriptive, no verdict rests on it",
    "cheap_scores": "Scores of a teacher that need no training; descriptive, no verdict rests on it",
    "others": "Paired differences a - b in points; descriptive, without a verdict",
}
ABLATIONS = ("others", "ablation")  # how the names of tables of further comparisons begin
BESIDE = {  # sections of params/reported.yml that answer a notebook's question
    "01_teacher_selection": ["teachers"],
    "02_ood_tradeoff": ["figure_1"],
    "03_trajectory_diversity": [],
    "04_ded_recipe": ["scores", "pipeline"],
    "05_valley": ["valley"],
}


def write(folder: Path) -> Path:
    """Writes folder/report.html and a page for each executed notebook beside it; returns the report's path.

    `folder` is outputs/<preset>: one folder a notebook, any number of which may be missing or failed, which the page says.
    Raises ReportError where no notebook has run at all.
    """
    import yaml

    from ded import params

    folder, file = Path(folder), home() / "params" / "reported.yml"
    names = {d.name for d in folder.glob("*/") if _executed(d) or results.read_metrics(d)}
    if not names:
        raise ReportError(
            f"no notebook has run in {folder}: first `ded reproduce --preset {folder.name}`"
        )
    found = [
        _notebook(folder / name)
        for name in sorted(names | {path.stem for path in params.notebooks()})
    ]
    for n in found:
        if n["page"]:
            _replace(folder / n["page"], notebook_page(_executed(folder / n["name"])))
    reported = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return _replace(folder / "report.html", page(found, reported))


def readme(folder: Path, file: Path) -> Path:
    """Replaces what lies between the two marks of a Markdown file by the verdicts recorded under `folder`, each notebook's with a figure."""
    text, parts, link = (
        file.read_text(encoding="utf-8").split(MARK),
        [],
        os.path.relpath(folder, file.parent),
    )
    if len(text) != 3:
        raise ReportError(
            f"{file}: {len(text) - 1} marks {MARK}; two are needed, around what is to be replaced"
        )
    for name in sorted(d.name for d in folder.glob("*/") if results.read_metrics(d)):
        n, rows = (
            _notebook(folder / name),
            [
                "| claim | verdict | difference in points | detectable |",
                "| --- | --- | --- | --- |",
            ],
        )
        for claim in n["claims"]:
            said = "; ".join(f"{part['label']} {part['said']}".strip() for part in claim["parts"])
            rows.append(f"| {claim['name']} | **{claim['verdict']}** | {said} | {claim['found']} |")
        shown = next((image for image in n["figures"] if image["name"] != "verdicts"), None)
        parts += [f"### {n['title']} ([executed]({link}/{name}/{name}.ipynb))", "\n".join(rows)]
        parts += [f"![{shown['text']}]({link}/{name}/{shown['name']}.png)"] if shown else []
    return _replace(file, MARK.join([text[0], "\n" + "\n\n".join(parts) + "\n", text[2]]))


def page(notebooks: list[dict], reported: dict) -> str:
    """The report's HTML from what `_notebook` gives of each notebook and the content of params/reported.yml."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    done = {n["name"]: n for n in notebooks if n["state"] == "done"}
    claims = [claim for n in done.values() for claim in n["claims"]]
    beside = []
    for name, sections in BESIDE.items() if reported else ():
        n = done.get(name, {"title": name, "claims": [], "tables": []})
        beside.append(
            n
            | {
                "name": name,
                "tables": n["tables"][:1],
                "reported": [_reported(reported, s) for s in sections if s in reported],
            }
        )
    return environment.get_template("report.html.j2").render(
        notebooks=notebooks,
        guard=GUARD,
        marks=MARKS,
        counts=Counter(c["verdict"] for c in claims),
        reported=reported,
        beside=beside,
        statements={claim["notebook"]: claim["statement"] for claim in reported.get("claims", ())},
        deltas=sorted({f"{100 * c['delta']:g}" for c in claims if c.get("delta")}),
        presets=sorted({str(n["params"].get("preset")) for n in done.values()}),
        splits=sorted({n["params"]["split"] for n in done.values() if "split" in n["params"]}),
        paper_figures=_reported(reported, "figures_of_the_paper")
        if "figures_of_the_paper" in reported
        else None,
        seconds=sum(n["seconds"] for n in done.values()),
        tokens=sum(s["tokens"] for n in done.values() for s in n["stages"]),
    )


def notebook_page(notebook: Path) -> str:
    """An executed notebook as one HTML page: without scripts, and with a policy under which a browser runs and fetches nothing."""
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter(embed_images=True).from_filename(
        str(notebook)
    )  # it escapes texts; pandas escapes what tables hold
    text = re.sub(r"<script\b.*?</script\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return text.replace("<head>", f"<head>{GUARD}", 1)


# ---- one notebook's results ------------------------------------------------------------------------------------------
def _executed(folder: Path) -> Path | None:
    """The executed notebook in a folder, whole or failed; None where it has not run."""
    files = (folder / f"{folder.name}{end}" for end in (".ipynb", ".failed.ipynb"))
    return next((file for file in files if file.is_file()), None)


def _notebook(folder: Path) -> dict[str, Any]:
    """What the page says of one notebook. state: "done", "failed" (error: why), or "not run"."""
    name, executed, metrics = folder.name, _executed(folder), results.read_metrics(folder)
    state = "done" if metrics else "failed" if executed else "not run"
    own = executed is not None and (state == "failed" or ".failed." not in executed.name)
    source = executed or home() / "notebooks" / f"{name}.ipynb"
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"] if source.is_file() else []
    found = {
        "name": name,
        "state": state,
        "page": f"{name}.html" if own else "",
        "claims": [],
        **_opening(name, cells),
    }
    if state != "done":
        errors = [o for c in cells for o in c.get("outputs", ()) if o["output_type"] == "error"]
        return found | {
            "error": f"{errors[-1]['ename']}: {errors[-1]['evalue'][:500]}" if errors else ""
        }
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {f: folder / f for f in manifest["files"] if (folder / f).is_file()}
    images = {file.stem: _image(file) for file in files.values() if file.suffix == ".png"}
    elsewhere = {
        f"{start}_figures": [v for k, v in images.items() if k.startswith(start)]
        for start in ELSEWHERE
    }
    key = [k for k in FIGURES if k in images and not k.startswith(ELSEWHERE)]
    rest = [k for k in images if k not in key and not k.startswith(ELSEWHERE)]
    key, rest = (
        (key, rest) if {*key} - {"verdicts"} else (key + rest, [])
    )  # all of a notebook that the list does not know
    tables = {
        file.stem: table
        for file in files.values()
        if file.suffix == ".csv" and (table := score_table(file))
    }
    order = sorted(tables, key=[*TABLES, *(k for k in tables if k not in TABLES)].index)
    claims = [_claim(c) for c in metrics["claims"]]
    return found | {
        "params": manifest["params"],
        "claims": claims,
        "missing": sorted({*manifest["files"]} - {*files}),
        "reach": max([abs(v) for c in claims for p in c["parts"] for v in p["numbers"]], default=0)
        * 1.08
        or 1,
        "figures": [images[k] for k in key],
        "further": [images[k] for k in rest],
        **elsewhere,
        "tables": [tables[k] for k in order if not k.startswith(ABLATIONS)],
        "ablations": [tables[k] for k in order if k.startswith(ABLATIONS)],
        "funnel": funnel_table(files["funnel.csv"]) if "funnel.csv" in files else None,
        "stages": [{"name": stage, **cost} for stage, cost in manifest["stages"].items()],
        "seconds": manifest["wall_seconds"],
        "manifest": manifest,
        "json": json.dumps(manifest, indent=1, ensure_ascii=False),
    }


def _opening(name: str, cells: list[dict]) -> dict[str, Any]:
    """title and method (the rest, as HTML) of a notebook's first cell, where it states its claims and how they are judged."""
    import mistune
    from markupsafe import Markup

    text = "".join(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    title, _, rest = text.partition("\n") if text.startswith("# ") else ("", "", text)
    html = mistune.create_markdown(escape=True, plugins=["table", "url"])(rest)
    return {"title": title.removeprefix("# ").strip() or name, "method": Markup(html)}


def _claim(claim: dict) -> dict[str, Any]:
    """A recorded claim for the page: its parts with their text, and the points that the bar draws."""
    parts = []
    for part in claim.get("parts") or [claim]:
        ends, p, adjusted = (
            [part.get(k) for k in ("estimate", "low", "high")],
            part.get("p"),
            part.get("low_adjusted"),
        )
        said = (
            interval(*ends, sign=True)
            if ends[0] is not None
            else f"p = {p:.2g}"
            if p is not None
            else "not measured"
        )
        parts.append(
            {
                "said": said,
                "label": part.get("label", "") if part.get("label") != claim.get("name") else "",
                "n": part.get("n"),
                "numbers": [100 * v for v in ends] if None not in ends else [],
                "delta": 100 * (claim.get("delta") or 0),
                "adjusted": interval(adjusted, None, None, sign=True),
                "p": "–" if p is None else f"{p:.2g}",
            }
        )
    return claim | {"parts": parts, "found": interval(claim.get("detectable"), None, None)}


def score_table(file: Path) -> dict[str, Any] | None:
    """A recorded CSV for a reader: columns x, x low, x high are one, "x [low, high]". None for one without intervals or too long."""
    import pandas as pd

    frame = pd.read_csv(file)
    ends = {
        c: pair
        for c in frame
        for pair in ((f"{c} low", f"{c} high"), (f"{c}_low", f"{c}_high"), ("low", "high"))
        if set(pair) <= set(frame) and (pair[0] != "low" or c == "estimate")
    }
    if not ends or not 0 < len(frame) <= 40:  # a longer one is data, not a table for a reader
        return None
    columns = [
        c for c in frame if c not in {"se", "df", *(end for pair in ends.values() for end in pair)}
    ]
    share = (
        "predictor" not in frame and not (frame[[*ends]].abs() > 1.001).to_numpy().any()
    )  # pass@1 and its differences
    look = {"scale": 100, "digits": 1} if share else {"scale": 1, "digits": 2}
    rows = [
        [
            interval(row[c], *map(row.get, ends[c]), **look) if c in ends else _plain(row[c])
            for c in columns
        ]
        for row in frame.to_dict("records")
    ]
    caption = TABLES.get(file.stem) or file.stem.replace("_", " ").capitalize() + (
        ", per cent" if share else ""
    )
    return {"caption": f"{caption} [95 % interval]", "head": columns, "rows": rows}


def funnel_table(file: Path) -> dict[str, Any]:
    """A recorded funnel, a row a group (teacher, pool): the mean a replicate of what each step kept, and why rows were dropped."""
    import pandas as pd

    frame = pd.read_csv(file, keep_default_na=False)
    units = [c for c in ("base", "replicate") if c in frame]
    by = [c for c in frame if c not in ("step", "kept", "dropped", "reason", *units)]
    steps, rows = list(dict.fromkeys(frame["step"])), []
    for name, group in frame.groupby(by, sort=False) if by else [(("all",), frame)]:
        n = len(group.drop_duplicates(units)) if units else 1
        kept, why = group.groupby("step")["kept"].sum() / n, Counter()
        for step, reasons in zip(group["step"], group["reason"]):
            for text, count in re.findall(r"(.+?): (\d+)(?:; |$)", reasons):
                why[f"{step}: {text}"] += int(count)
        said = "; ".join(f"{text} {count:,}" for text, count in why.most_common(4))
        rows.append(
            [
                " / ".join(map(str, name)),
                *(f"{kept[s]:,.0f}" if s in kept else "" for s in steps),
                said,
            ]
        )
    return {
        "caption": "Kept after each step, mean a replicate; dropped for what reason, counts over all replicates",
        "head": [" / ".join(by) or "corpus", *steps, "dropped"],
        "rows": rows,
    }


def _reported(reported: dict, section: str) -> dict[str, Any]:
    """A section of params/reported.yml as a table; note and source stand in the first column, and what is not known reads so."""
    entries = reported[section]
    if isinstance(entries, dict):
        entries = [
            {"what": what.replace("_", " "), **(e if isinstance(e, dict) else {"value": e})}
            for what, e in entries.items()
        ]
    first, *columns = [
        c for c in dict.fromkeys(key for e in entries for key in e) if c not in ("source", "note")
    ]
    rows = []
    for e in entries:
        about = [
            f"{a}{e[k]}{b}" for k, a, b in (("note", "(", ")"), ("source", "[", "]")) if e.get(k)
        ]
        cells = [
            ""
            if c not in e
            else _plain(e[c])
            if e[c] is not None
            else "not known"
            if "note" in e
            else "–"
            for c in columns
        ]
        rows.append([" ".join([str(e.get(first, "")), *about]), *cells])
    return {
        "caption": section.replace("_", " ").capitalize(),
        "head": [c.replace("_", " ") for c in (first, *columns)],
        "rows": rows,
    }


# ---- small parts -----------------------------------------------------------------------------------------------------
def number(value: float, sign: bool = False, digits: int = 1) -> str:
    """The number with a proper minus, and with a plus where `sign`; what rounds to zero has no minus."""
    text = f"{value:{'+' * sign}.{digits}f}"
    return text.replace("-", "−" if float(text) else "+" if sign else "")


def interval(
    estimate: float | None,
    low: float | None,
    high: float | None,
    sign: bool = False,
    scale: int = 100,
    digits: int = 1,
) -> str:
    """ "12.7 [10.7, 14.8]" of fractions in per cent or points; the interval is left out where it is not known, all where nothing is."""
    said = [
        "" if v is None or math.isnan(v) else number(scale * v, sign and not i, digits)
        for i, v in enumerate((estimate, low, high))
    ]
    return "{} [{}, {}]".format(*said) if all(said) else said[0] or "–"


def _plain(value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    large = float(value).is_integer() and abs(value) >= 1000
    return (
        "–" if math.isnan(value) else f"{value:,.0f}" if large else f"{value:.4g}".replace("-", "−")
    )


def _image(file: Path) -> dict[str, Any]:
    """Name, alternative text and data URI of a PNG, with its size, so that a page does not move while it is read."""
    content = file.read_bytes()
    text = FIGURES.get(file.stem) or file.stem.replace("_", " ").capitalize() + "."
    size = {
        "width": int.from_bytes(content[16:20], "big"),
        "height": int.from_bytes(content[20:24], "big"),
    }
    return {
        "name": file.stem,
        "text": text,
        "uri": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        **size,
    }


def _replace(file: Path, text: str) -> Path:
    """Writes the file whole or not at all."""
    work = file.with_name(f".{file.name}.{os.getpid()}")
    work.write_text(text, encoding="utf-8")
    os.replace(work, file)
    return file
