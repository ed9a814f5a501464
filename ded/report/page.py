"""The two kinds of page: the report, and an executed notebook.

Both hold all they need (images as data URIs, no scripts) and forbid the browser to fetch more.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from ded import results
from ded.report.read import Notebook, difference, label
from ded.report.tables import BESIDE, number, reported_table

# what a verdict is must not be told by its colour alone
MARKS = dict(zip(results.VERDICTS, "✓✗?–", strict=True))
GUARD = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; font-src data:\">"
)


def page(notebooks: list[Notebook], reported: dict[str, Any]) -> str:
    """The report's HTML; reported: the content of params/reported.yml, or {}."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    done = [notebook for notebook in notebooks if notebook.state == "done"]
    claims = [claim for notebook in done for claim in notebook.claims]
    sections = {*chain.from_iterable(BESIDE.values()), "figures_of_the_paper"} & set(reported)
    return environment.get_template("page.html.j2").render(
        difference=difference,
        label=label,
        number=number,
        notebooks=notebooks,
        done={notebook.name: notebook for notebook in done},
        guard=GUARD,
        marks=MARKS,
        counts=Counter(claim["verdict"] for claim in claims),
        reported=reported,
        reported_tables={name: reported_table(name, reported[name]) for name in sections},
        beside=BESIDE if reported else {},
        statements={claim["notebook"]: claim["statement"] for claim in reported.get("claims", ())},
        deltas=sorted({f"{100 * claim['delta']:g}" for claim in claims if claim.get("delta")}),
        tokens=sum(stage["tokens"] for n in done for stage in n.manifest["stages"].values()),
        presets=sorted({str(notebook.params.get("preset")) for notebook in done}),
        splits=sorted({n.params["split"] for n in done if "split" in n.params}),
    )


def notebook_page(notebook: Path) -> str:
    """An executed notebook as one HTML page: without scripts, and with a policy under which a
    browser runs and fetches nothing."""
    from nbconvert import HTMLExporter

    # it escapes texts, and pandas escapes what tables hold
    text, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
    text = re.sub(r"<script\b.*?</script\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return text.replace("<head>", f"<head>{GUARD}", 1)
