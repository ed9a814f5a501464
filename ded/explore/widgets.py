"""The interactive view in JupyterLab: sliders and menus on the left, the plots, and a question's
trajectories below; and the preset that its values become."""

import html
from pathlib import Path
from typing import Any

from ded import curation, params, problems, study
from ded.errors import ExploreError
from ded.explore.choice import Pool, Values, choose, page, prompt, read_pool, recorded, values_of
from ded.explore.figure import explored, png
from ded.files import shown
from ded.params.schemas import Common


def write_preset(
    run: Common, notebook: str, values: Values, name: str = "mine", replace: bool = False
) -> Path:
    """Writes params/<name>/all.yml, which extends the run's preset by `values` where they differ
    from the run's, for each notebook those that it has; returns its path.

    What the run itself had changed of its preset goes into a file for its own notebook.
    ParameterError, before anything is written, for values out of range and for a name that is
    taken, unless `replace`.
    """
    given, before = run.model_dump(), vars(values_of(run))
    differing = params.differences(params.load(run.preset, notebook), given)
    own = {key: given[key] for key in dict.fromkeys(key.partition(".")[0] for key in differing)}
    changed = {key: value for key, value in vars(values).items() if value != before[key]}
    own = {key: value for key, value in own.items() if key not in changed}
    of_notebook = {params.find_notebook(notebook).stem: own}
    return params.write_preset(name, run.preset, changed, replace, of_notebook)


def explorer(folder: str | Path = "outputs/lab", notebook: str = "03", draw: int = 0) -> Any:
    """The widgets, an ipywidgets.VBox for JupyterLab, over a recorded run (see `recorded`); draw:
    see `read_pool`."""
    return Explorer(recorded(folder, notebook), notebook, draw).view


class Explorer:
    """Widgets and what they show: a change of student or teacher loads a pool, one of values
    chooses from it anew."""

    def __init__(self, run: Common, notebook: str, draw: int) -> None:
        self.run, self.notebook, self.draw = run, notebook, draw
        self.pools: dict[tuple, Pool] = {}
        self.figure: Any = None  # drawn upon again
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

        run, start = self.run, values_of(self.run)
        narrow = w.Layout(width="340px", max_width="100%")
        look: dict[str, Any] = {"layout": narrow, "style": {"description_width": "115px"}}
        units = [(f"{study.short(u.base)}, replicate {u.replicate}", u) for u in study.units(run)]
        teachers = [(study.short(teacher), teacher) for teacher in study.teachers_of(run)]
        self.unit = w.Dropdown(description="student", options=units, **look)
        self.teacher = w.Dropdown(description="teacher", options=teachers, **look)
        tokens = {"max": run.max_tokens, "step": max(1, run.max_tokens // 128)}
        share, metrics = {"min": 0.02, "max": 1, "step": 0.02}, list(curation.METRICS)
        checks = ["answer", "steps"][: 1 + problems.source(run.corpus_source).steps]
        self.values = {
            "max_tokens": w.IntSlider(description="longest (tokens)", **tokens, **look),
            "verification": w.Dropdown(description="correct by", options=checks, **look),
            "keep_questions": w.FloatSlider(description="questions kept", **share, **look),
            "n_kept": w.IntSlider(description="P", min=1, max=start.n_kept, **look),
            "metric": w.Dropdown(description="metric", options=metrics, **look),
        }
        for key, widget in self.values.items():
            value = getattr(start, key)
            widget.disabled = not hasattr(run, key) or isinstance(value, dict)
            widget.value = 1.0 if isinstance(value, dict) else value
        fixed = [widget.description for widget in self.values.values() if widget.disabled]
        lack = f"not in notebook {self.notebook}, or not as one value: {', '.join(fixed)}"
        self.lack = w.HTML(lack if fixed else "", layout=narrow)
        self.size = w.HTML()
        self.name = w.Text("mine", description="as preset", **look)
        self.replace = w.Checkbox(False, description="replace what is there", indent=False)
        self.button = w.Button(description="send these values to the parameters", layout=narrow)
        self.message = w.HTML(layout=narrow)
        # beside the controls where 320 pixels are left for them, else below; never wider than drawn
        place = {"min_width": "0", "max_width": "min(836px, 100%)", "align_self": "flex-start"}
        self.plots = w.Image(format="png", layout=w.Layout(flex="1 1 320px", **place))
        self.question = w.Dropdown(description="question", layout=w.Layout(width="98%"))
        self.table = w.HTML(layout=w.Layout(overflow="auto"))
        controls = [self.unit, self.teacher, *self.values.values(), self.lack, self.size]
        controls += [self.name, self.replace, self.button, self.message]
        left = w.VBox(controls, layout=w.Layout(max_width="100%"))
        top = w.HBox([left, self.plots], layout=w.Layout(flex_flow="row wrap"))
        self.view = w.VBox([top, self.question, self.table])

    def _current(self) -> Values:
        start, moved = values_of(self.run), self.values.items()
        values = {k: getattr(start, k) if widget.disabled else widget.value for k, widget in moved}
        return Values(teacher=self.teacher.value, **values)

    def _load(self, _: Any = None) -> None:
        key = (self.unit.index, self.teacher.index)
        try:
            if key not in self.pools:
                self.pools[key] = read_pool(self.unit.value, self.teacher.value, self.draw)
        except ExploreError as error:
            self.message.value = html.escape(str(error))
            return
        self.pool = self.pools[key]
        self.message.value = ""
        self.values["n_kept"].max = max(2, 1 + int(self.pool.trajectories["sample_index"].max()))
        self._choose()
        questions = enumerate(self.pool.questions.values())
        self.question.options = [(f"{i}: {prompt(q)[:100]}", q.id) for i, q in questions]
        self.question.index = 0
        self._show_question()

    def _choose(self, _: Any = None) -> None:
        self.choice = choose(self.pool, self._current())
        examples, lengths = self.choice.statistics["chosen"], self.choice.corpus["n_tokens"]
        size = f"<b>{examples.sum():,} examples</b> of {(examples > 0).sum():,} questions"
        mean = f", {lengths.mean():.1f} tokens on average" if len(lengths) else ""
        self.size.value = size + mean
        self.figure = explored(self.pool, self.choice, self.figure)
        self.plots.value = png(self.figure)
        self._show_question()

    def _show_question(self, _: Any = None) -> None:
        if self.question.value in self.pool.questions:
            self.table.value = page(self.pool, self.choice, self.question.value)

    def _write_preset(self, _: Any) -> None:
        name, replace = self.name.value, self.replace.value
        try:
            file = write_preset(self.run, self.notebook, self._current(), name, replace)
            text = f"written: {shown(file)}. To run: ded run {self.notebook} --preset {name}"
        except ValueError as error:
            text = str(error)
        self.message.value = f"<div style='white-space: pre-wrap'>{html.escape(text)}</div>"
