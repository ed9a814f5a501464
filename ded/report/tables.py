"""Recorded and reported tables as a reader sees them: texts, with units, intervals in one cell."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ded import files
from ded.wording import interval

MOST_ROWS = 40  # a longer table is data, not one for a reader
_CAPTIONS = files.read_yaml(Path(__file__).with_name("captions.yml"))
FIGURES: dict[str, dict[str, str]] = _CAPTIONS["figures"]  # by section of the report, then by name
TABLES: dict[str, dict[str, str]] = _CAPTIONS["tables"]
BESIDE: dict[str, list[str]] = _CAPTIONS["beside"]


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


def score_table(file: Path, caption: str, unit: str) -> Table | None:
    """A recorded CSV, its columns with an interval named as `Recorder.table` asks for and shown as
    "x [low, high]"; None for an empty or a long one."""
    frame = pd.read_csv(file)
    if not 0 < len(frame) <= MOST_ROWS:
        return None
    names = [(name, f"{name}{gap}low", f"{name}{gap}high") for name in frame for gap in " _"]
    names.append(("estimate", "low", "high"))
    ends = {name: (low, high) for name, low, high in names if {name, low, high} <= set(frame)}
    hidden = {"se", "df"}.union(*ends.values())
    columns = [column for column in frame if column not in hidden]

    def cell(row: dict[str, Any], column: str) -> str:
        if column not in ends:
            return plain(row[column])
        low, high = ends[column]
        return interval(row[column], row[low], row[high], unit=unit)

    rows = [[cell(row, column) for column in columns] for row in frame.to_dict("records")]
    return Table(f"{caption} [95 % interval]" if ends else caption, columns, rows)


def funnel_table(file: Path) -> Table:
    """A recorded funnel, a row a group (teacher, pool): what each step kept, as the mean a
    replicate, and why rows were dropped."""
    frame = pd.read_csv(file, keep_default_na=False)
    units = [column for column in ("base", "replicate") if column in frame]
    measured = {"step", "kept", "dropped", "reason", *units}
    by = [column for column in frame if column not in measured]
    if not by:
        frame, by = frame.assign(corpus="all"), ["corpus"]
    steps = list(dict.fromkeys(frame["step"]))
    rows = []
    for name, group in frame.groupby(by, sort=False):
        n_units = len(group.drop_duplicates(units)) if units else 1
        kept = group.groupby("step")["kept"].sum() / n_units
        cells = [f"{kept[step]:,.0f}" if step in kept else "" for step in steps]
        rows.append([" / ".join(map(str, name)), *cells, _reasons(group)])
    what = "Kept after each step, mean a replicate"
    caption = f"{what}; dropped for what reason, counts over all replicates"
    return Table(caption, [" / ".join(by), *steps, "dropped"], rows)


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
        unknown = "not known" if "note" in entry else "–"
        texts = {key: unknown if value is None else plain(value) for key, value in entry.items()}
        cells = [texts.get(column, "") for column in columns]
        cells[0] += f" ({entry['note']})" if entry.get("note") else ""
        cells[0] += f" [{entry['source']}]" if entry.get("source") else ""
        rows.append(cells)
    head = [column.replace("_", " ") for column in columns]
    return Table(section.replace("_", " ").capitalize(), head, rows)


def plain(value: Any) -> str:
    """A cell without an interval: numbers to four digits, large counts in full."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if math.isnan(value):
        return "–"
    if float(value).is_integer() and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("-", "−")
