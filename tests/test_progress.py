"""How far the work is: where it is shown, that it counts, and what `ded run` makes of it."""

import time
from pathlib import Path

import nbformat
import pytest

from ded import generation, jobs, problems, progress, runner, training


@pytest.fixture
def lines(monkeypatch):
    """Every look is at once, every change a line."""
    monkeypatch.delenv(progress.FOLDER, raising=False)
    monkeypatch.setattr(progress, "LOOK", 0.01)
    monkeypatch.setattr(progress, "LINE", 0.0)


@pytest.fixture
def shown(monkeypatch, lines):
    """The last line of each bar, by what it counts."""
    texts = {}
    monkeypatch.setattr(
        progress.Lines, "display", lambda bar, **_: texts.update({bar.desc: str(bar)})
    )
    return texts


def test_a_log_gets_a_line_now_and_then(lines, capsys, monkeypatch):
    with progress.bar(total=4, desc="baking", unit="loaf", delay=0) as bar:
        bar.update(3)
    assert "baking:  75%" in capsys.readouterr().err
    monkeypatch.setattr(progress, "LINE", 3600.0)
    assert list(progress.bar(range(3), desc="baking", delay=0)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_who_watches_reads_files_that_go_with_their_work(lines, tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setenv(progress.FOLDER, str(tmp_path))
    with progress.watched(tmp_path, seen.append):
        with progress.bar(total=8, desc="sampling x", unit="row", delay=0) as bar:
            bar.update(2)
            bar.set_postfix_str("token 3")
            while not any(states and states[0]["n"] == 2 for states in seen):
                time.sleep(0.01)
        assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")
    text = progress.under_way(next(states for states in seen if states and states[0]["n"] == 2))
    assert text.startswith("sampling x: 2/8 rows, ") and text.endswith(" left, token 3")


def test_in_jupyterlab_a_long_text_goes_below_the_bar(lines, monkeypatch):
    monkeypatch.setattr("ded.progress._in_kernel", lambda: True)
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    with progress.bar(total=2, desc="baking", display=False) as bar:
        assert bar.container.layout.flex_flow == "row wrap"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_of_jobs_says_what_they_are_at(shown, n_jobs, tmp_path, monkeypatch):
    real = progress.under_way

    def job(i, folder):
        with progress.bar(total=8, desc=f"sampling {i}", unit="row", delay=0) as bar:
            bar.update(5)
            bar.refresh()
            while not (folder / "seen").exists():
                time.sleep(0.01)
        return i

    def look(states, most):
        text = real(states, most)
        if "5/8 rows" in text:
            (tmp_path / "seen").touch()
        return text

    monkeypatch.setattr(progress, "under_way", look)
    calls = [{"i": i, "folder": tmp_path} for i in range(3)]
    assert jobs.run(job, calls, n_jobs, "smoke test") == [0, 1, 2]
    assert "smoke test: 100%" in shown["smoke test"] and "3/3" in shown["smoke test"]


@pytest.mark.slow
def test_sampling_counts_rows_and_training_steps_with_the_loss(tiny, shown):
    questions = problems.load("lab:sum/5", 12, "train", "progress")
    table = generation.sample("lab:student_1", questions, 2, max_tokens=8, seed=1)
    assert (table["finish_reason"] == "length").any()
    assert (
        "24/24" in shown["sampling lab:student_1"]
        and "of up to 8" in shown["sampling lab:student_1"]
    )
    training.sft(
        "lab:student_1", table, learning_rate=1e-3, batch_size=8, epochs=2.0, max_length=64
    )
    assert "6/6" in shown["training lab:student_1"] and "loss " in shown["training lab:student_1"]


def test_the_bar_of_a_notebook_is_that_of_its_jobs(shown, tmp_path, monkeypatch):
    """One batch of jobs after the other, with the time that is left of it."""
    cell = nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]})
    (tmp_path / "notebooks").mkdir()
    notebook = tmp_path / "notebooks" / "01_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    seen = []

    def execute_notebook(*_, progress_bar, kernel_manager_class, **__):
        assert not progress_bar
        monkeypatch.setenv(progress.FOLDER, kernel_manager_class.environment[progress.FOLDER])
        for batch, n in {"distil": 3, "score": 2}.items():
            with progress.bar(total=4, desc=batch, unit="job", delay=0) as bar:
                bar.update(n)
                bar.refresh()
                while f"{batch}: {n}/4 jobs, " not in shown.get("01_small", ""):
                    time.sleep(0.01)
                seen.append(shown["01_small"])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("papermill.execute_notebook", execute_notebook)
    run = runner.Run(notebook, {"out_dir": "", "preset": "small"}, Path("outputs/small"))
    assert runner.execute(run) == ""
    assert [text[:13] for text in seen] == ["01_small  75%", "01_small  50%"]
    assert all(" left" in text for text in seen)
