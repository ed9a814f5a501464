"""What a notebook leaves behind: whole files, the same bytes for the same results, verdicts of the allowed kinds."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from ded import results

PARAMS = {"preset": "small", "seed": 3, "n_replicates": 2}


@dataclasses.dataclass
class Claim:
    name: str
    verdict: str
    estimate: float = 0.1

    def to_dict(self):
        return dataclasses.asdict(self)


def record(folder):
    from matplotlib.figure import Figure

    recorder = results.Recorder(folder, "01_small", PARAMS)
    figure = Figure()
    figure.subplots().plot([1, 2], [3, 4], label="x")
    recorder.figure("headline", figure)
    recorder.table("scores", pd.DataFrame({"arm": ["a"], "accuracy": [1 / 3]}))
    with recorder.stage("sampling") as stage:
        stage.tokens += 1234
    recorder.metric(
        "own", {"a": np.float64(0.5), ("a", 1): np.array([1, 2]), "missing": float("nan")}
    )
    recorder.metric("rows", pd.DataFrame({"x": [1]}))
    recorder.claim(Claim("rises", "inconclusive"))
    recorder.model("lab:a", "abc")
    recorder.finish()
    return recorder


def test_the_same_results_give_the_same_bytes(tmp_path, capsys):
    a, b = (record(tmp_path / name) for name in "ab")
    for name in ("metrics.json", "headline.png", "headline.svg", "scores.csv"):
        assert (a.folder / name).read_bytes() == (b.folder / name).read_bytes(), name
    assert "sampling: 0.0 s, 1,234 tokens" in capsys.readouterr().out
    metrics = json.loads((a.folder / "metrics.json").read_text())
    assert metrics == {
        "notebook": "01_small",
        "preset": "small",
        "claims": [{"name": "rises", "verdict": "inconclusive", "estimate": 0.1}],
        "metrics": {"own": {"a": 0.5, "a/1": [1, 2], "missing": None}, "rows": [{"x": 1}]},
    }
    assert results.read_metrics(a.folder) == metrics and results.read_metrics(tmp_path) is None
    assert not [f for f in a.folder.iterdir() if f.name.startswith(".")]


def test_the_manifest_says_how(tmp_path):
    manifest = json.loads((record(tmp_path).folder / "manifest.json").read_text())
    assert (
        manifest["params"] == PARAMS
        and manifest["seeds"] == {"seed": 3}
        and manifest["models"] == {"lab:a": "abc"}
    )
    assert manifest["stages"]["sampling"]["tokens"] == 1234 and manifest["packages"]["torch"]
    assert manifest["hardware"]["cores"] >= 1 and manifest["peak_memory_gib"]["notebook"] > 0
    assert manifest["files"] == ["headline.png", "headline.svg", "scores.csv"]


def test_a_new_run_removes_the_old_verdicts(tmp_path):
    folder = record(tmp_path).folder
    results.Recorder(folder, "01_small", PARAMS)
    assert results.read_metrics(folder) is None


def test_only_known_verdicts_and_new_names_are_recorded(tmp_path):
    recorder = results.Recorder(tmp_path, "01_small", PARAMS)
    with pytest.raises(ValueError, match="'true'; allowed: reproduced"):
        recorder.claim({"name": "x", "verdict": "true"})
    recorder.metric("a", 1)
    with pytest.raises(ValueError, match="recorded already"):
        recorder.metric("a", 1)
    with pytest.raises(TypeError, match="cannot be recorded"):
        recorder.metric("b", object())
    with pytest.raises(ValueError, match="plain file name"):
        recorder.table("../x", pd.DataFrame({"x": [1]}))


def test_an_unfinished_file_does_not_take_the_old_ones_place(tmp_path):
    recorder = results.Recorder(tmp_path, "01_small", PARAMS)
    recorder.table("t", pd.DataFrame({"x": [1]}))

    class Broken:
        def to_csv(self, file, **_):
            file.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError):
        recorder.table("t", Broken())
    assert (tmp_path / "t.csv").read_text() == "x\n1\n" and len(list(tmp_path.iterdir())) == 1


def test_where_results_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ded"\n')
    monkeypatch.chdir(tmp_path / "notebooks")
    assert (
        results.Recorder("", "01_small", PARAMS).folder
        == tmp_path / "outputs" / "small" / "01_small"
    )
    assert (
        results.Recorder("x", "01_small", PARAMS).folder.resolve() == tmp_path / "notebooks" / "x"
    )


def test_a_kernel_shows_figures_as_images(tmp_path):
    """IPython alone prints '<Figure size ...>' for a figure that pyplot does not know."""
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib.figure import Figure

    shell, figure = InteractiveShell.instance(), Figure()
    figure.subplots()
    try:
        assert "image/png" not in shell.display_formatter.format(figure)[0]
        recorder = results.Recorder(tmp_path, "01_small", PARAMS)
        assert "image/png" in shell.display_formatter.format(recorder.figure("f", figure))[0]
    finally:
        InteractiveShell.clear_instance()
