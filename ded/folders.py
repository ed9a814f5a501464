"""Where a run's results lie, and how they get there, so that no finished run is lost to another.

A run of a preset's own values has outputs/<preset>/<notebook>/; one of other values a folder of its
own, outputs/<preset>+<changes>/<notebook>/. A finished run of other parameters is never written
over, unless it is asked for. What lies in a folder stands until the new run is complete: files are
written into a folder within (`working`) and moved when all are there (`publish`).
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from ded import home, params
from ded.errors import ParameterError
from ded.files import shown

COMPLETE = ".complete"  # holds a whole run whose files are being moved


def place(
    values: Mapping[str, Any], notebook: str, changes: Mapping[str, Any] | None = None
) -> Path:
    """Where a run of these parameters writes.

    `changes`: what differs from the preset, by name; without them, what differs from the finished
    run in the preset's folder, or else from the preset's files.
    """
    if values.get("out_dir"):
        return Path(values["out_dir"])
    preset, outputs = values.get("preset", "default"), home() / "outputs"
    if changes is None:
        reference = finished(outputs / preset / notebook) or _of_preset(preset, notebook)
        pairs = params.differences(reference, values)
        changes = {key: now for key, (_, now) in pairs.items()}
    return outputs / label(preset, changes) / notebook


def label(preset: str, changes: Mapping[str, Any]) -> str:
    """The name of the folder for a preset with changes: lab+seed=2+n_kept=4.

    Where that is long, or values are no words, six digits of a hash: lab+seed+teachers~3f9a01.
    """
    text = "+".join([preset, *(f"{key}={value}" for key, value in changes.items())])
    if re.fullmatch(r"[\w.=+-]{1,60}", text):
        return text
    digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:6]
    return f"{preset}+{'+'.join(changes)[:40]}~{digest}"


def _of_preset(preset: str, notebook: str) -> dict[str, Any]:
    """The preset's own values; {} where there is no such preset or notebook."""
    with suppress(ParameterError):
        return params.load(preset, notebook)
    return {}


def finished(folder: Path) -> dict[str, Any] | None:
    """The parameters of the complete run that lies in a folder; None where there is none."""
    settle(folder)
    with suppress(OSError, ValueError, KeyError):
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["params"]
    return None


def taken(folder: Path, values: Mapping[str, Any]) -> str:
    """That a finished run of other parameters lies in a folder, and which; "" where none does."""
    pairs = params.differences(finished(folder) or {}, values)
    what = "holds a finished run of other parameters"
    return f"{shown(folder)} {what}: here {params.described(pairs)}" if pairs else ""


# ---- writing beside, moving when complete ------------------------------------------------------


def working(folder: Path) -> tempfile.TemporaryDirectory:
    """A new folder within `folder`, for the files of a run that is not complete; it goes with its
    process. What killed ones left goes now."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".new-*-*"):
        if not psutil.pid_exists(int(leftover.name.split("-")[1])):
            shutil.rmtree(leftover, ignore_errors=True)
    prefix = f".new-{os.getpid()}-"
    return tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True)


def publish(work: Path, folder: Path) -> None:
    """Moves a complete run's files from where it wrote them into its folder.

    The run counts from one rename on: where the process is killed after it, `settle` ends the rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    work.rename(folder / COMPLETE)
    settle(folder)


def settle(folder: Path) -> None:
    """Moves on what `publish` was killed amid: metrics.json last, which marks a complete run."""
    complete = folder / COMPLETE
    if not complete.is_dir():
        return
    for file in sorted(complete.iterdir(), key=lambda file: (file.name == "metrics.json", file)):
        with suppress(OSError):  # another process moved it, or this one may only read
            os.replace(file, folder / file.name)
    with suppress(OSError):
        complete.rmdir()
