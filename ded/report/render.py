"""Templates filled in: pages that fetch nothing and run nothing, and Markdown."""

from functools import cache
from pathlib import Path
from typing import Any

from ded import wording

# what a verdict is must not be told by its colour alone
MARKS = dict(zip(wording.VERDICTS, "✓✗?–", strict=True))
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
REACH = 0.12  # half the axis of the bars, a share: 3 points can be seen on it
GUARD = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'


def place(share: float) -> float:
    """Where a share stands on the bars' axis, from -100 to 100, its ends for what lies beyond."""
    return round(100 * max(-1.0, min(1.0, share / REACH)), 1)


def rendered(template: str, **content: Any) -> str:
    """The text of a template of this folder; what goes into HTML is escaped."""
    return _template(template).render(content)


@cache
def _template(name: str) -> Any:
    from jinja2 import Environment, FileSystemLoader

    loader, is_html = FileSystemLoader(Path(__file__).parent), name.endswith(".html.j2")
    jinja = Environment(loader=loader, autoescape=is_html, trim_blocks=True, lstrip_blocks=True)
    jinja.globals |= {"wording": wording, "guard": GUARD, "marks": MARKS, "place": place}
    return jinja.get_template(name)
