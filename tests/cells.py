"""Notebooks' cells in one process, as kernels run them, without kernels and papermill, which take longer than tiny cells do.

cells.run("lab", {"01_teacher_selection": {"n_replicates": 2, "out_dir": ...}, ...}, DED_STORE=...)
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def scope(notebook: str, cell: str, **names: Any) -> dict[str, Any]:
    """What a cell (by its id) defines, run with these names and the house's modules in scope."""
    import nbformat

    from ded import curation, study

    content = nbformat.read(next(ROOT.glob(f"notebooks/{notebook}*.ipynb")), as_version=4)
    source = next(item.source for item in content.cells if item.id == cell)
    namespace = {"curation": curation, "study": study, **names}
    exec(source, namespace)
    return namespace


def run(preset: str, changes: dict[str, dict], **env: str) -> dict[str, str]:
    """Every notebook with the preset's values and the changes to them, one after the other: {notebook: its error, "" for none}."""
    folders = {notebook: Path(values["out_dir"]) for notebook, values in changes.items()}
    told = json.dumps(changes)
    done = subprocess.run(
        [sys.executable, __file__, preset],
        cwd=ROOT,
        env=os.environ | env,
        input=told,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        notebook: (folder / "error").read_text() if (folder / "error").exists() else ""
        for notebook, folder in folders.items()
    }


def main(preset: str) -> None:
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell

    from ded import params

    for notebook, changes in json.load(sys.stdin).items():
        InteractiveShell.clear_instance()
        shell, failed = InteractiveShell.instance(), None
        shell.user_ns |= params.load(preset, notebook, changes)
        for cell in nbformat.read(ROOT / f"notebooks/{notebook}.ipynb", as_version=4).cells:
            if (
                cell.cell_type == "code"
                and "parameters" not in cell.metadata.get("tags", [])
                and not failed
            ):
                done = shell.run_cell(cell.source)
                failed = done.error_before_exec or done.error_in_exec
        if failed:
            (folder := Path(changes["out_dir"])).mkdir(parents=True, exist_ok=True)
            (folder / "error").write_text(f"{type(failed).__name__}: {failed}")


if __name__ == "__main__":
    main(sys.argv[1])
