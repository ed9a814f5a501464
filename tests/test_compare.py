"""Two runs side by side: what differs is told, what is the same is not."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ded import cli
from ded.errors import ReportError
from ded.report import compare

REFERENCE = Path(__file__).parents[1] / "outputs" / "reference"
NOTEBOOK = "01_teacher_selection"


@pytest.fixture
def other(tmp_path):
    """A copy of a run with another seed and dtype, one claim of another verdict, no figures."""
    folder = tmp_path / "other" / NOTEBOOK
    ignored = shutil.ignore_patterns("*.png", "*.ipynb")
    shutil.copytree(REFERENCE / NOTEBOOK, folder, ignore=ignored)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["params"] |= {"seed": 4711, "engine": {"dtype": "bfloat16"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["claims"][0]["verdict"] = "not judged"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder.parent


def test_parameters_claims_and_figures_stand_side_by_side(other):
    (pair,) = compare.notebooks(REFERENCE, other)
    names = "reference", "other"
    seed = str(pair[0].params["seed"])
    parameters, claims = compare.tables(pair, names)
    assert parameters.rows == [
        ["seed", seed, "4711"],
        ["engine.dtype", "default", "bfloat16"],
    ]
    assert compare.tables((pair[0], pair[0]), names)[0].caption == "Claims", "nothing differs"
    assert claims.head == ["claim", "reference", "other"]
    first, *others = claims.rows
    assert first[1].startswith("reproduced: ") and first[2].startswith("not judged: ")
    assert others and all(a == b for _, a, b in others)
    page = compare.page(REFERENCE, other, names, other / "page.html").read_text()
    assert "4711" in page and page.count("<img") == len(list((REFERENCE / NOTEBOOK).glob("*.png")))


def test_the_command_writes_the_page_and_names_what_there_is(other):
    done = CliRunner().invoke(
        cli.app, ["compare", "reference", str(other), "--out", str(other / "page.html")]
    )
    assert done.exit_code == 0 and "engine.dtype" in done.output
    assert (other / "page.html").is_file()
    with pytest.raises(ReportError, match="no results in outputs/refrence"):
        compare.folder_of("refrence")
    shutil.move(other / NOTEBOOK, other / "09_other")
    with pytest.raises(ReportError, match=r"no notebook in common.*09_other"):
        compare.notebooks(REFERENCE, other)
