"""The interactive view in JupyterLab: sliders and menus on the left, the plots, and a question's
trajectories below."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import curation, problems, study
from ded.errors import ExploreError
from ded.explore.choice import choose, page, prompt
from ded.explore.figure import explored, png
from ded.explore.pool import Pool, Values, read_pool, recorded, values_of
from ded.explore.preset import write_preset
from ded.files import shown
from ded.params.schemas import Common

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

NARROW, WIDE = "340px", "830px"
DESCRIPTIONS = {
    "max_tokens": "longest (tokens)",
    "verification": "correct by",
    "pass_rate_threshold": "pass rate up to",
    "n_kept": "P",
    "metric": "metric",
}


def explorer(folder: str | Path = "outputs/lab", notebook: str = "03") -> VBox:
    """The widgets, for JupyterLab, over a recorded run (see `recorded`)."""
    return Explorer(recorded(folder, notebook), notebook).view


class Explorer:
    """Widgets and what they show: a change of student or teacher loads a pool, one of values
    chooses from it anew."""

    def __init__(self, run: Common, notebook: str) -> None:
        self.run, self.notebook = run, notebook
        self.pools: dict[tuple, Pool] = {}
        self.figure: Figure | None = None
        self._make_widgets()
        self._load()
        for widget in (self.unit, self.teacher):
            widget.observe(self._load, "value")
        for widget in self.values.values():
            widget.observe(self._choose, "value")
        self.question.observe(self._show_question, "value")
        self.button.on_click(self._write_preset)

    def _make_widgets(self) -> None:
        import ipywidgets as w

        run, start, narrow = self.run, values_of(self.run), w.Layout(width=NARROW)
        look: dict[str, Any] = {"layout": narrow, "style": {"description_width": "115px"}}
        units = [(f"{study.short(u.base)}, replicate {u.replicate}", u) for u in study.units(run)]
        teachers = [(study.short(teacher), teacher) for teacher in study.teachers_of(run)]
        self.unit = w.Dropdown(description="student", options=units, **look)
        self.teacher = w.Dropdown(description="teacher", options=teachers, **look)
        step = max(1, run.max_tokens // 128)
        checks = ["answer", "steps"][: 1 + problems.source(run.corpus_source).steps]
        self.values = {
            "max_tokens": w.IntSlider(max=run.max_tokens, step=step, **look),
            "verification": w.Dropdown(options=checks, **look),
            "pass_rate_threshold": w.FloatSlider(max=1, step=0.05, **look),
            "n_kept": w.IntSlider(min=1, max=start.n_kept, **look),
            "metric": w.Dropdown(options=list(curation.METRICS), **look),
        }
        for key, widget in self.values.items():
            widget.description, widget.value = DESCRIPTIONS[key], getattr(start, key)
        self.size = w.HTML()
        self.name = w.Text("mine", description="as preset", **look)
        self.replace = w.Checkbox(False, description="replace what is there", indent=False)
        self.button = w.Button(description="send these values to the parameters", layout=narrow)
        self.message = w.HTML(layout=narrow)
        self.plots = w.Image(format="png", layout=w.Layout(width="836px"))
        self.question = w.Dropdown(description="question", layout=w.Layout(width=WIDE))
        self.table = w.HTML()
        controls = [self.unit, self.teacher, *self.values.values(), self.size]
        controls += [self.name, self.replace, self.button, self.message]
        top = w.HBox([w.VBox(controls), self.plots], layout=w.Layout(flex_flow="row wrap"))
        self.view = w.VBox([top, self.question, self.table])

    def _current(self) -> Values:
        values = {key: widget.value for key, widget in self.values.items()}
        return Values(teacher=self.teacher.value, **values)

    def _load(self, _: Any = None) -> None:
        key = (self.unit.index, self.teacher.index)
        try:
            if key not in self.pools:
                self.pools[key] = read_pool(self.unit.value, self.teacher.value)
        except ExploreError as error:
            self.message.value = html.escape(str(error))
            return
        self.pool = self.pools[key]
        self.message.value = ""
        samples = 1 + int(self.pool.trajectories["sample_index"].max())
        self.values["n_kept"].max = max(2, samples)
        self._choose()
        questions = enumerate(self.pool.questions.values())
        self.question.options = [(f"{i}: {prompt(q)[:100]}", q.id) for i, q in questions]
        self.question.index = 0

    def _choose(self, _: Any = None) -> None:
        self.choice = choose(self.pool, self._current())
        examples, lengths = self.choice.statistics["chosen"], self.choice.corpus["n_tokens"]
        self.size.value = (
            f"<b>{examples.sum():,} examples</b> of {(examples > 0).sum():,} questions, "
            f"{lengths.mean():.1f} tokens on average"
        )
        self.figure = explored(self.pool, self.choice, self.figure)
        self.plots.value = png(self.figure)
        self._show_question()

    def _show_question(self, _: Any = None) -> None:
        if self.question.value in self.pool.questions:
            self.table.value = page(self.pool, self.choice, self.question.value)

    def _write_preset(self, _: Any) -> None:
        try:
            files = write_preset(
                self.run, self.notebook, self._current(), self.name.value, self.replace.value
            )
            command = f"ded run {self.notebook} --preset {self.name.value}"
            text = f"written: {', '.join(map(shown, files))}. To run: {command}"
        except ValueError as error:
            text = str(error)
        style = "white-space: pre-wrap; line-height: 1.3"
        self.message.value = f"<div style='{style}'>{html.escape(text)}</div>"
