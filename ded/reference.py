"""The reference run: its log, outputs/reference/LOG.md, with a line a notebook that is written
before it begins, so that no look at the test split goes unrecorded; and its results, each notebook
committed as it ends, so that a run that is killed keeps what is complete.
"""

import json
import time
from collections.abc import Callable

from ded import files, results
from ded.errors import ParameterError
from ded.params import whole
from ded.problems import content_hash
from ded.runner import Run

HEAD = "| begun (UTC) | notebook | commit | params | why |\n| --- | --- | --- | --- | --- |\n"


def keep(why: str) -> Callable[[Run], None]:
    """What is to be done after each notebook of a reference run: its results, which have taken the
    place of the earlier ones, are committed with the log."""

    def commit(run: Run) -> None:
        manifest = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
        written = {*manifest["files"], f"{run.name}.ipynb"}
        for file in run.folder.iterdir():
            if file.is_file() and file.name not in written | {"manifest.json", "metrics.json"}:
                file.unlink()  # of an earlier run
        where = "--", files.shown(run.folder), files.shown(run.folder.with_name("LOG.md"))
        results.git("add", "--all", *where)
        results.git("commit", "--message", f"reference, {run.name}: {_line(why)}", *where)
        if results.git("status", "--porcelain", *where):
            print(f"{run.name}: not committed; git commit {' '.join(where[1:])}")

    return commit


def _line(why: str) -> str:
    return " ".join(why.replace("|", "/").split())


def begin(why: str, with_changes: bool = False) -> Callable[[Run], None]:
    """What is to be done before each notebook of a reference run: its line in the log.

    why: what the run is for, one line. ParameterError without one, outside a git repository, and
    where files outside outputs/ differ from the commit, unless `with_changes`.
    """
    if not why.strip():
        raise ParameterError("a reference run says why: make reference WHY='...'")
    if not results.commit():
        raise ParameterError("a reference run names its commit: run it in the git repository")
    if (changed := results.uncommitted()) and not with_changes:
        mend = "commit them first, or force it by --with-uncommitted-changes"
        raise ParameterError(f"uncommitted changes in {', '.join(changed)}: {mend}")

    def enter(run: Run) -> None:
        log = whole.folder("LOG.md")
        log.parent.mkdir(parents=True, exist_ok=True)
        text = log.read_text(encoding="utf-8") if log.is_file() else HEAD
        digest = f"{content_hash(json.dumps(run.values, sort_keys=True)):016x}"
        earlier = [row for row in text.splitlines() if f"| {run.name} |" in row]
        ended = results.finished_at(run.folder)
        unfinished = not earlier or ended < earlier[-1].split("|")[1].strip()
        resumed = earlier and f"| {digest} |" in earlier[-1] and unfinished
        begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        reason = ("resumed: " if resumed else "") + _line(why)
        row = f"| {begun} | {run.name} | {results.commit()} | {digest} | {reason} |\n"
        files.write_text(log, text.rstrip("\n") + "\n" + row)

    return enter
