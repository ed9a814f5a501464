"""The log of reference runs, outputs/reference/LOG.md: a line a notebook, written before it begins,
so that no look at the test split goes unrecorded.
"""

import json
import time
from collections.abc import Callable

from ded import files, home, results
from ded.errors import ParameterError
from ded.problems import content_hash
from ded.runner import Run

HEAD = "| begun (UTC) | notebook | commit | params | why |\n| --- | --- | --- | --- | --- |\n"


def begin(why: str, with_changes: bool = False) -> Callable[[Run], None]:
    """What is to be done before each notebook of a reference run: its line in the log.

    why: what the run is for, one line. ParameterError without one, outside a git repository, and
    where files outside outputs/ differ from the commit, unless `with_changes`.
    """
    if not why.strip():
        raise ParameterError("a reference run says why: make reference WHY='...'")
    if not (commit := results.commit()):
        raise ParameterError("a reference run names its commit: run it in the git repository")
    if (changed := results.uncommitted()) and not with_changes:
        mend = "commit them first, or force it by --with-uncommitted-changes"
        raise ParameterError(f"uncommitted changes in {', '.join(changed)}: {mend}")

    def enter(run: Run) -> None:
        log = home() / "outputs" / "reference" / "LOG.md"
        log.parent.mkdir(parents=True, exist_ok=True)
        text = log.read_text(encoding="utf-8") if log.is_file() else HEAD
        digest = f"{content_hash(json.dumps(run.values, sort_keys=True)):016x}"
        earlier = [row for row in text.splitlines() if f"| {run.name} |" in row]
        ended = results.finished_at(run.folder)
        unfinished = not earlier or ended < earlier[-1].split("|")[1].strip()
        resumed = earlier and f"| {digest} |" in earlier[-1] and unfinished
        begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        reason = ("resumed: " if resumed else "") + " ".join(why.replace("|", "/").split())
        row = f"| {begun} | {run.name} | {commit} | {digest} | {reason} |\n"
        files.write_text(log, text.rstrip("\n") + "\n" + row)

    return enter
