"""Where the time of finished runs went, from what their manifests record."""

import json
from datetime import datetime
from pathlib import Path

import pandas as pd

from ded import files, results
from ded.errors import ReportError


def core_seconds(folder: Path) -> pd.DataFrame:
    """Core-seconds by kind of work (`ded.spent`): a row a notebook, then `all`, and `share` of all
    that the cores had to give, in per cent.

    idle: what is left of the cores while any of the notebooks ran; programs that do not record what
    they spend (the one that runs the notebooks) count as idle. ReportError without such records.
    """
    rows, spans, cores = {}, [], 0
    for file in sorted(folder.glob("*/manifest.json")):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if "core_seconds" in manifest:
            ended = datetime.fromisoformat(manifest["finished"]).timestamp()
            rows[file.parent.name] = manifest["core_seconds"]
            spans.append((ended - manifest["wall_seconds"], ended))
            cores = manifest["hardware"]["cores"]
    if not rows:
        unrecorded = f"the runs in {files.shown(folder)} did not record what they spent"
        ran = any(folder.glob("*/manifest.json"))
        raise ReportError(unrecorded if ran else results.not_there(folder))
    wall, until = 0.0, 0.0
    for begun, ended in sorted(spans):  # notebooks side by side count once
        wall += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.loc["all"] = table.sum()
    table.loc["all", "idle"] = max(0.0, cores * wall - table.loc["all"].sum())
    table["sum"] = table.sum(axis=1)
    table.loc["share"] = 100 * table.loc["all"] / table.loc["all", "sum"]
    return table.round(1)
