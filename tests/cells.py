"""Notebooks' cells in one process, as kernels run them, without kernels and papermill, which take
longer than tiny cells do.

cells.run("lab", {"01_teacher_selection": {"n_replicates": 2, "out_dir": ...}, ...}, DED_STORE=...)
"""

import json
import os
import shutil
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


def run(preset: str, changes: dict[str, dict], cwd: Path = ROOT, **env: str) -> dict[str, str]:
    """{notebook: its error, "" for none} of every notebook, one after the other.

    Each runs in a repository, `cwd`, with the preset's values and the changes to them. With AGAIN=1
    all cells are run a second time, from the last to the first; first.json is the metrics.json of
    the first time.
    """
    folders = {notebook: Path(values["out_dir"]) for notebook, values in changes.items()}
    done = subprocess.run(
        [sys.executable, __file__, preset],
        cwd=cwd,
        env=os.environ | env,
        input=json.dumps(changes),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        notebook: (folder / "error").read_text() if (folder / "error").exists() else ""
        for notebook, folder in folders.items()
    }


def sources(notebook: str) -> list[str]:
    """The code cells of a notebook but that of its parameters: imports, set-up, ..., finish."""
    import nbformat

    cells = nbformat.read(ROOT / f"notebooks/{notebook}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code" and cell.id != "parameters"]


def main(preset: str) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from ded import params

    for notebook, changes in json.load(sys.stdin).items():
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        folder, values = Path(changes["out_dir"]), params.load(preset, notebook, changes)
        parameters = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        imports, setup, *cells = sources(notebook)
        error = _run(shell, [parameters, imports, setup, *cells])
        if not error and os.environ.get("AGAIN"):
            shutil.copy(folder / "metrics.json", folder / "first.json")
            error = _run(shell, [setup, *reversed(cells), cells[-1]])
        if error:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error").write_text(f"{type(error).__name__}: {error}")


def _run(shell: Any, cells: list[str]) -> BaseException | None:
    """Runs cells up to the first that fails; its error."""
    for source in cells:
        done = shell.run_cell(source, store_history=True)
        if error := done.error_before_exec or done.error_in_exec:
            return error
    return None


if __name__ == "__main__":
    main(sys.argv[1])
