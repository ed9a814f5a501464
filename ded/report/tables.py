"""Recorded and reported tables as a reader sees them: texts, with units, intervals in one cell."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ded import files

MOST_ROWS = 40  # a longer table is data, not one for a reader


@dataclass(frozen=True)
class Table:
    """A table of texts with its caption and the heading of each column."""

    caption: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table as Markdown, below its caption."""
        from tabulate import tabulate

        head, *rows = (
            [" ".join(cell.replace("|", r"\|").split()) for cell in row]
            for row in [self.head, *self.rows]
        )
        table = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
        return f"{self.caption}:\n\n{table}"


@dataclass(frozen=True)
class Shown:
    """How a recorded table is shown; unit: of what has intervals, as in `Recorder.table`."""

    caption: str
    unit: str = "share"


_CAPTIONS = files.read_yaml(Path(__file__).with_name("captions.yml"))
# by section of the report, then by name
FIGURES: dict[str, dict[str, str]] = _CAPTIONS["figures"]
TABLES = {
    section: {name: Shown(**entry) for name, entry in tables.items()}
    for section, tables in _CAPTIONS["tables"].items()
}
BESIDE: dict[str, list[str]] = _CAPTIONS["beside"]


def score_table(file: Path, shown: Shown) -> Table | None:
    """A recorded CSV, each column with an interval as "x [low, high]"; None for an empty or a long
    one."""
    frame = pd.read_csv(file)
    if not 0 < len(frame) <= MOST_ROWS:
        return None
    ends = interval_ends(frame)
    hidden = {"se", "df"}.union(*ends.values())
    columns = [column for column in frame if column not in hidden]
    scale, digits = (100, 1) if shown.unit == "share" else (1, 2)

    def cell(row: dict[str, Any], column: str) -> str:
        if column not in ends:
            return plain(row[column])
        low, high = ends[column]
        return interval(row[column], row[low], row[high], scale=scale, digits=digits)

    rows = [[cell(row, column) for column in columns] for row in frame.to_dict("records")]
    return Table(f"{shown.caption} [95 % interval]", columns, rows)


def interval_ends(columns: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Each column with an interval and the two that hold its ends, by the naming that
    `Recorder.table` asks for."""
    names = list(columns)
    ends = {}
    for name in names:
        pairs = [(f"{name} low", f"{name} high"), (f"{name}_low", f"{name}_high")]
        if name == "estimate":
            pairs.append(("low", "high"))
        for pair in pairs:
            if set(pair) <= set(names):
                ends[name] = pair
    return ends


def funnel_table(file: Path) -> Table:
    """A recorded funnel, a row a group (teacher, pool): what each step kept, as the mean a
    replicate, and why rows were dropped."""
    frame = pd.read_csv(file, keep_default_na=False)
    units = [column for column in ("base", "replicate") if column in frame]
    measured = {"step", "kept", "dropped", "reason", *units}
    by = [column for column in frame if column not in measured]
    steps = list(dict.fromkeys(frame["step"]))
    rows = []
    for name, group in frame.groupby(by, sort=False) if by else [(("all",), frame)]:
        n_units = len(group.drop_duplicates(units)) if units else 1
        kept = group.groupby("step")["kept"].sum() / n_units
        cells = [f"{kept[step]:,.0f}" if step in kept else "" for step in steps]
        rows.append([" / ".join(map(str, name)), *cells, _reasons(group)])
    return Table(
        "Kept after each step, mean a replicate; "
        "dropped for what reason, counts over all replicates",
        [" / ".join(by) or "corpus", *steps, "dropped"],
        rows,
    )


def _reasons(group: pd.DataFrame) -> str:
    """The four most frequent reasons of a funnel's rows, each after its step."""
    counts: Counter[str] = Counter()
    for step, reasons in zip(group["step"], group["reason"], strict=True):
        for reason, count in re.findall(r"(.+?): (\d+)(?:; |$)", reasons):
            counts[f"{step}: {reason}"] += int(count)
    return "; ".join(f"{reason} {count:,}" for reason, count in counts.most_common(4))


def reported_table(section: str, entries: Sequence[Mapping] | Mapping[str, Any]) -> Table:
    """A section of params/reported.yml; note and source stand in the first column, and what is not
    known reads so."""
    if isinstance(entries, Mapping):
        entries = [{"what": key.replace("_", " "), **entry} for key, entry in entries.items()]
    keys = dict.fromkeys(key for entry in entries for key in entry)
    columns = [key for key in keys if key not in ("source", "note")]
    rows = []
    for entry in entries:
        cells = [_reported_cell(entry, column) for column in columns]
        cells[0] += f" ({entry['note']})" if entry.get("note") else ""
        cells[0] += f" [{entry['source']}]" if entry.get("source") else ""
        rows.append(cells)
    head = [column.replace("_", " ") for column in columns]
    return Table(section.replace("_", " ").capitalize(), head, rows)


def _reported_cell(entry: Mapping[str, Any], key: str) -> str:
    if key not in entry:
        return ""
    if entry[key] is None:
        return "not known" if "note" in entry else "–"
    return plain(entry[key])


def number(value: float | None, sign: bool = False, scale: int = 100, digits: int = 1) -> str:
    """A fraction in per cent or points, with a plus where `sign`, "–" where it is not known.

    What rounds to zero has no minus.
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{scale * value:{'+' if sign else ''}z.{digits}f}".replace("-", "−")


def interval(
    estimate: float | None,
    low: float | None = None,
    high: float | None = None,
    sign: bool = False,
    scale: int = 100,
    digits: int = 1,
) -> str:
    """ "12.7 [10.7, 14.8]" of fractions in per cent or points; the interval is left out where it is
    not known."""
    text = number(estimate, sign, scale, digits)
    ends = [number(end, False, scale, digits) for end in (low, high)]
    return text if "–" in (text, *ends) else f"{text} [{ends[0]}, {ends[1]}]"


def plain(value: Any) -> str:
    """A cell without an interval: numbers to four digits, large counts in full."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if math.isnan(value):
        return "–"
    if float(value).is_integer() and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("-", "−")
