"""Recorded and reported tables as a reader sees them: texts, with units, intervals in one cell."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ded import files
from ded.wording import interval

_CAPTIONS = files.read_yaml(Path(__file__).with_name("captions.yml"))
FIGURES: dict[str, str] = _CAPTIONS["figures"]  # by name
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


def table(frame: pd.DataFrame, caption: str, unit: str = "share") -> Table:
    """A recorded or reported table. A column `x` and the ends of its interval, `x low` and `x high`
    (or `x_low`, `x_high`; low and high alone are those of `estimate`), stand as "x [low, high]"."""
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


def differing(pairs: Mapping[str, tuple[Any, Any]], *names: str) -> Table:
    """The parameters that differ between two runs, which `names` names (`params.differences`)."""
    rows = [[key, *("default" if v is None else str(v) for v in pairs[key])] for key in pairs]
    return Table("Parameters that differ", ["parameter", *names], rows)


def funnel_table(file: Path) -> Table:
    """A recorded funnel, a row a group (teacher, pool): what each step kept, as the mean a
    replicate, and why rows were dropped."""
    frame = pd.read_csv(file, keep_default_na=False)
    units = [column for column in ("base", "replicate") if column in frame]
    by = [column for column in frame if column not in {"step", "kept", "dropped", "reason", *units}]
    name = " / ".join(by) or "corpus"
    groups = frame[by].astype(str).agg(" / ".join, axis=1) if by else "all"
    frame = frame.assign(**{name: groups})
    n_units = frame[[name, *units]].drop_duplicates()[name].value_counts()
    kept = frame.pivot_table("kept", name, "step", "sum", sort=False).div(n_units, axis=0)
    reasons = {group: _reasons(rows) for group, rows in frame.groupby(name)}
    kept["dropped"] = pd.Series(reasons, dtype=str)  # as well where the funnel is empty
    rows = [[group, *map(plain, cells)] for group, *cells in kept.round().itertuples()]
    what = "Kept after each step, mean a replicate"
    return Table(
        f"{what}; dropped for what reason, counts over all replicates", [name, *kept], rows
    )


def _reasons(group: pd.DataFrame) -> str:
    """The four most frequent reasons of a funnel's rows, each after its step."""
    counts: Counter[str] = Counter()
    for step, reasons in zip(group["step"], group["reason"], strict=True):
        for reason, count in re.findall(r"(.+?): (\d+)(?:; |$)", reasons):
            counts[f"{step}: {reason}"] += int(count)
    return "; ".join(f"{reason} {count:,}" for reason, count in counts.most_common(4))


def plain(value: Any) -> str:
    """A cell without an interval: numbers to four digits, large counts in full."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if math.isnan(value):
        return "–"
    if float(value).is_integer() and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("-", "−")
