"""The interactive view in JupyterLab: sliders and menus on the left, the plots, and a question's
trajectories below; and the preset that its values become."""

import datetime
import html
from pathlib import Path
from typing import Any

import yaml

from ded import curation, home, params, problems, study
from ded.errors import ExploreError
from ded.explore.choice import choose, page, prompt
from ded.explore.figure import explored, png
from ded.explore.pool import Pool, Values, read_pool, recorded, values_of
from ded.files import shown, write_text
from ded.params.schemas import SCHEMAS, Common


def write_preset(
    run: Common, notebook: str, values: Values, name: str = "mine", replace: bool = False
) -> list[Path]:
    """Writes params/<name>/<notebook>.yml: the run's own values, over them `values` (of `Values`,
    and teacher), as far as they differ from the notebook's defaults.

    Every other notebook that takes a changed value gets such a file too, on top of the run's
    preset. Returns the files. Before anything is written: ParameterError for values out of range,
    ExploreError for files that are there already, unless `replace`.
    """
    if not name.replace("-", "_").isidentifier() or name in ("accelerate", run.preset):
        allowed = f"letters, digits, - and _, and not {run.preset!r}, from which it is made"
        raise ExploreError(f"{name!r} cannot be the preset's name: {allowed}")
    before, folder = vars(values_of(run)), home() / "params" / name
    changed = {key: value for key, value in vars(values).items() if value != before[key]}
    texts = {}
    for path in params.notebooks():
        taken = {k: v for k, v in changed.items() if k in SCHEMAS[path.stem].model_fields}
        own = path == params.find_notebook(notebook)
        if not own and not taken:
            continue
        start = run.model_dump() if own else params.load(run.preset, path.stem)
        del start["preset"], start["out_dir"]  # a preset's file says neither
        defaults = params.defaults(path)
        content = {key: value for key, value in start.items() if value != defaults[key]}
        content |= taken | {"fixed_on": datetime.date.today().isoformat()}
        params.load(run.preset, path.stem, content)
        keys = ", ".join(taken) or "nothing"
        head = f"# Preset {run.preset}, changed in the interactive view: {keys}."
        text = f"{head} Other values: the notebook's defaults.\n"
        texts[folder / f"{path.stem}.yml"] = text + yaml.safe_dump(content, sort_keys=False)
    existing = ", ".join(shown(file) for file in texts if file.exists())
    if existing and not replace:
        raise ExploreError(f"{existing} would be replaced: allow that, or choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(file, text) for file, text in texts.items()]


def explorer(folder: str | Path = "outputs/lab", notebook: str = "03") -> Any:
    """The widgets, an ipywidgets.VBox for JupyterLab, over a recorded run (see `recorded`)."""
    return Explorer(recorded(folder, notebook), notebook).view


class Explorer:
    """Widgets and what they show: a change of student or teacher loads a pool, one of values
    chooses from it anew."""

    def __init__(self, run: Common, notebook: str) -> None:
        self.run, self.notebook = run, notebook
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

        run, start, narrow = self.run, values_of(self.run), w.Layout(width="340px")
        look: dict[str, Any] = {"layout": narrow, "style": {"description_width": "115px"}}
        units = [(f"{study.short(u.base)}, replicate {u.replicate}", u) for u in study.units(run)]
        teachers = [(study.short(teacher), teacher) for teacher in study.teachers_of(run)]
        self.unit = w.Dropdown(description="student", options=units, **look)
        self.teacher = w.Dropdown(description="teacher", options=teachers, **look)
        tokens = {"max": run.max_tokens, "step": max(1, run.max_tokens // 128)}
        share, metrics = {"max": 1, "step": 0.05}, list(curation.METRICS)
        checks = ["answer", "steps"][: 1 + problems.source(run.corpus_source).steps]
        self.values = {
            "max_tokens": w.IntSlider(description="longest (tokens)", **tokens, **look),
            "verification": w.Dropdown(description="correct by", options=checks, **look),
            "pass_rate_threshold": w.FloatSlider(description="pass rate up to", **share, **look),
            "n_kept": w.IntSlider(description="P", min=1, max=start.n_kept, **look),
            "metric": w.Dropdown(description="metric", options=metrics, **look),
        }
        for key, widget in self.values.items():
            widget.value = getattr(start, key)
        self.size = w.HTML()
        self.name = w.Text("mine", description="as preset", **look)
        self.replace = w.Checkbox(False, description="replace what is there", indent=False)
        self.button = w.Button(description="send these values to the parameters", layout=narrow)
        self.message = w.HTML(layout=narrow)
        self.plots = w.Image(format="png", layout=w.Layout(width="836px"))
        self.question = w.Dropdown(description="question", layout=w.Layout(width="830px"))
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
        self.values["n_kept"].max = max(2, 1 + int(self.pool.trajectories["sample_index"].max()))
        self._choose()
        questions = enumerate(self.pool.questions.values())
        self.question.options = [(f"{i}: {prompt(q)[:100]}", q.id) for i, q in questions]
        self.question.index = 0

    def _choose(self, _: Any = None) -> None:
        self.choice = choose(self.pool, self._current())
        examples, lengths = self.choice.statistics["chosen"], self.choice.corpus["n_tokens"]
        size = f"<b>{examples.sum():,} examples</b> of {(examples > 0).sum():,} questions"
        self.size.value = f"{size}, {lengths.mean():.1f} tokens on average"
        self.figure = explored(self.pool, self.choice, self.figure)
        self.plots.value = png(self.figure)
        self._show_question()

    def _show_question(self, _: Any = None) -> None:
        if self.question.value in self.pool.questions:
            self.table.value = page(self.pool, self.choice, self.question.value)

    def _write_preset(self, _: Any) -> None:
        name, replace = self.name.value, self.replace.value
        try:
            files = write_preset(self.run, self.notebook, self._current(), name, replace)
            command = f"ded run {self.notebook} --preset {name}"
            text = f"written: {', '.join(map(shown, files))}. To run: {command}"
        except ValueError as error:
            text = str(error)
        self.message.value = f"<div style='white-space: pre-wrap'>{html.escape(text)}</div>"
