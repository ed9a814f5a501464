"""Parameters: one clear error for everything that is wrong, before any work."""

import json
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import yaml
from papermill.translators import PythonTranslator
from pydantic import BaseModel, Field

from ded import curation, generation, params, runner
from ded.files import read_yaml
from ded.params import ParameterError, schemas

GOOD = {
    "preset": "small",
    "teachers": ["path:a", "path:b"],
    "n_replicates": 2,
    "seed": 0,
    "split": "dev",
    "learning_rate": 1e-3,
    "epochs": 2.0,
    "n_kept": 3,
    "threshold": 0.5,
    "sizes": [10, 20],
}


class Small(BaseModel):
    """A schema of the tests' own, so that the notebooks' may grow."""

    model_config = schemas.Common.model_config

    preset: str
    teachers: schemas.Models
    n_replicates: schemas.Count
    seed: schemas.Whole
    split: Literal["dev", "test"]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    epochs: schemas.Positive
    n_kept: schemas.Count
    threshold: schemas.Share
    sizes: schemas.Sizes


def test_good_parameters_are_frozen():
    p = params.check(Small, GOOD)
    assert p.n_kept == 3 and p.teachers == ["path:a", "path:b"]
    with pytest.raises(ValueError):
        p.n_kept = 4
    assert isinstance(
        params.check(Small, GOOD | {"epochs": 3}).epochs, float
    )  # a whole number is a number


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("n_replicates", 2.5, ["2.5", "valid integer"]),
        ("n_replicates", "2", ["'2'", "valid integer", "without quotes"]),
        ("n_replicates", 0, ["0", "greater than or equal to 1"]),
        ("n_replicates", True, ["True", "valid integer"]),
        ("n_replicates", None, ["None", "valid integer"]),
        ("learning_rate", "1e-3", ["'1e-3'", "valid number", "without quotes"]),
        ("learning_rate", -1.0, ["-1.0", "greater than 0"]),
        ("epochs", float("nan"), ["nan"]),
        ("split", "tset", ["'tset'", "'dev' or 'test'"]),
        ("threshold", 1.5, ["1.5", "less than or equal to 1"]),
        ("sizes", [10, 0], ["sizes[1] = 0", "greater than or equal to 1"]),
        ("sizes", [], ["[]", "List should have at least 1 item"]),
        ("sizes", 10, ["10", "valid list"]),
        ("sizes", [10, 10], ["10 twice"]),
        ("teachers", ["lba:x"], ["teachers[0]", "'lba:x'", "one of lab, hf,", "nearest: lab"]),
        ("teachers", "path:a", ["'path:a'", "valid list"]),
        ("n_kep", 3, ["unknown parameter", "nearest: n_kept"]),
        ("preset", 2026, ["2026", "valid string", "in quotes"]),
        ("sizes", {10, 20}, ["valid list"]),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key, value, words):
    with pytest.raises(ParameterError) as caught:
        params.check(Small, GOOD | {key: value})
    message = str(caught.value)
    assert "1 problem" in message and f" {key}" in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "key, value, plain",
    [
        ("n_replicates", np.int64(3), 3),
        ("n_replicates", np.array(3), 3),
        ("learning_rate", np.float32(1e-3), 1e-3),
        ("epochs", np.float64(0.5), 0.5),
        ("split", np.str_("dev"), "dev"),
        ("teachers", ("path:a",), ["path:a"]),
        ("teachers", ["path:a", Path("path:b")], ["path:a", "path:b"]),
        ("sizes", np.array([1, 2]), [1, 2]),
        ("sizes", (np.int32(1), 2), [1, 2]),
        ("preset", date(2026, 1, 2), "2026-01-02"),
        ("preset", np.datetime64("2026-01-02"), "2026-01-02"),
        ("preset", datetime(2026, 1, 2, 10), "2026-01-02T10:00:00"),
    ],
)
def test_values_of_other_types_are_taken_for_what_they_are(key, value, plain):
    taken = getattr(params.check(Small, GOOD | {key: value}), key)
    assert taken == plain and type(taken) is type(plain)


@pytest.mark.parametrize(
    "key, value",
    [
        ("n_replicates", np.int64(3)),
        ("teachers", ("path:a",)),
        ("sizes", {1, 2}),
        ("sizes", np.array([1, 2])),
        ("learning_rate", yaml.safe_load("1e-3")),
        ("n_kept", np.bool_(True)),
    ],
)
def test_what_papermill_makes_text_of_is_told(key, value):
    cell = PythonTranslator.codify({key: value})
    namespace: dict = {}
    exec(cell, namespace)
    assert isinstance(namespace[key], str)
    with pytest.raises(ParameterError, match=f"{key} = .*it is text: .*papermill"):
        params.check(Small, GOOD | {key: namespace[key]})


def test_an_unknown_lab_model_is_named_with_the_nearest(monkeypatch):
    from ded.lab import catalogue as lab

    monkeypatch.setattr(lab, "names", lambda: ["teacher_leftmost", "student_1"], raising=False)
    assert params.check(Small, GOOD | {"teachers": ["lab:teacher_leftmost"]})
    with pytest.raises(
        ParameterError,
        match=r"teachers\[0\] = 'lab:teacher_leftmst' .*nearest: teacher_leftmost",
    ):
        params.check(Small, GOOD | {"teachers": ["lab:teacher_leftmst"]})


def test_all_problems_are_told_at_once():
    namespace = {k: v for k, v in GOOD.items() if k != "seed"} | {"n_kept": 0, "sede": 1}
    with pytest.raises(ParameterError) as caught:
        params.check(Small, namespace)
    for words in ("3 problem", "seed is missing", "n_kept = 0", "sede = 1", "nearest: seed"):
        assert words in str(caught.value)


def test_a_namespace_holds_more_than_parameters():
    import numpy as np

    def helper():
        pass

    other = {
        "np": np,
        "helper": helper,
        "Small": Small,
        "_hidden": 1,
        "__name__": "__main__",
        "exit": exit,
        "Out": {},
    }
    assert params.check(Small, GOOD | other) == params.check(Small, GOOD)
    with pytest.raises(ParameterError, match="scores"):
        params.check(Small, GOOD | other | {"scores": [1]})


def test_in_ipython_only_the_last_parameters_cell_counts():
    cell = "\n".join(f"{key}: object = {value!r}" for key, value in GOOD.items())
    injected = "# Parameters\nn_kept = 4\n"
    history = ["", "%matplotlib inline", "old_typo = 1\n" + cell, cell, injected, "p = check()"]
    later = GOOD | {
        "scores": [1, 2],
        "old_typo": 1,
    }  # set by later cells of an earlier run of the notebook
    assert params.check(Small, later | {"In": history}).n_kept == 3
    with pytest.raises(
        ParameterError, match="n_replicate = 9: unknown parameter; nearest: n_replicates"
    ):
        params.check(
            Small,
            later
            | {"n_replicate": 9, "In": [*history[:4], injected + "n_replicate = 9", "check()"]},
        )


# ---- files


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository with one notebook and the preset `small`."""
    (tmp_path / "params" / "small").mkdir(parents=True)
    (tmp_path / "params" / "throughput.yml").touch()
    (tmp_path / "notebooks").mkdir()
    source = "from __future__ import annotations\n" + "".join(
        f"{key}: int | None = {value!r}  # a = b\n" for key, value in GOOD.items()
    )
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# x"]},
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": source.splitlines(True),
        },
    ]
    (tmp_path / "notebooks" / "01_small.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.chdir(tmp_path / "notebooks")  # as JupyterLab would
    monkeypatch.setitem(schemas.SCHEMAS, "01_small", Small)
    return tmp_path


def test_file_over_defaults_and_command_line_over_file(repo):
    assert params.load("small", "01") == GOOD
    changes = "# fixed 2026-01-01\nn_kept: 5\nseed: 1\nlearning_rate: 1e-4\n"
    (repo / "params" / "small" / "01_small.yml").write_text(changes)
    loaded = params.load("small", "01_small", {"seed": 2})
    assert loaded == GOOD | {"n_kept": 5, "seed": 2, "learning_rate": 1e-4}


@pytest.mark.parametrize(
    "text, words",
    [
        ("n_kept: 2.5", ["params/small/01_small.yml: n_kept = 2.5"]),
        ("learning_rate: '1e-4'", ["01_small.yml: learning_rate = '1e-4'", "without quotes"]),
        ("n_kep: 2", ["01_small.yml: n_kep = 2", "nearest: n_kept"]),
        ("n_kept: 2\nn_kept: 3", ["01_small.yml:2", 'duplicate key "n_kept"']),
        ("n_kept: [", ["01_small.yml:1"]),
        ("- n_kept", ["01_small.yml: not a mapping"]),
        ("just text", ["01_small.yml: not a mapping"]),
        ("preset: other", ["01_small.yml: preset is 'other'", "'small'"]),
        ("a: !!python/object:os.system x", ["01_small.yml:1"]),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(repo, text, words):
    (repo / "params" / "small" / "01_small.yml").write_text(text)
    with pytest.raises(ParameterError) as caught:
        params.load("small", "01")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_preset_and_notebook_name_the_nearest(repo):
    with pytest.raises(ParameterError, match="no preset 'smal'; there are: small; nearest: small"):
        params.load("smal", "01")
    with pytest.raises(ParameterError, match="no notebook '02'; there are: 01_small"):
        params.load("small", "02")


def test_the_command_line_is_named(repo):
    with pytest.raises(ParameterError, match="the command line: n_kept = 0"):
        params.load("small", "01", {"n_kept": 0})
    with pytest.raises(ParameterError, match="--preset"):
        params.load("small", "01", {"preset": "other"})


def test_defaults_must_be_literals(repo):
    file = repo / "notebooks" / "01_small.ipynb"
    file.write_text(file.read_text().replace("n_kept: int | None = 3", "n_kept = 1 + n"))
    with pytest.raises(ParameterError, match=r"01_small.ipynb: n_kept = 1 [+] n: .*literals"):
        params.load("small", "01")
    file.write_text(file.read_text().replace("parameters", "other"))
    with pytest.raises(ParameterError, match="0 cells tagged 'parameters'"):
        params.load("small", "01")


@pytest.mark.parametrize(
    "text, value",
    [
        ("2", 2),
        ("1e-3", 1e-3),
        ("[a, 2]", ["a", 2]),
        ("dev", "dev"),
        ("", ""),
        ("[", "["),
        ("2026-01-02", "2026-01-02"),  # a date, or what looks like one, is text
        ("2026-02-30", "2026-02-30"),
        ("{from: 2026-01-02}", {"from": "2026-01-02"}),
        ("no", "no"),  # YAML 1.2, not 1.1
        ("on", "on"),
        ("12:30", "12:30"),
        ("010", 10),
        ("true", True),
        ("null", None),
        ('{"a": [1.5, "x"]}', {"a": [1.5, "x"]}),
    ],
)
def test_values_of_the_command_line(text, value):
    assert params.parse_value(text) == value


# ---- presets that extend


def layer(repo, name, text):
    file = repo / "params" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_a_preset_extends_another_and_says_only_what_differs(repo):
    layer(repo, "small/01_small.yml", "preset: small\nn_kept: 5\nseed: 1\nsizes: [1, 2]\n")
    layer(repo, "mine/all.yml", "preset: mine\nextends: small\nseed: 2\nn_trajectories: 9\n")
    assert params.load("mine", "01") == GOOD | {
        "preset": "mine",
        "n_kept": 5,
        "seed": 2,
        "sizes": [1, 2],
    }  # n_trajectories is another notebook's
    layer(repo, "mine/01_small.yml", "seed: 3\n")
    layer(repo, "ours/01_small.yml", "extends: mine\nepochs: 7.0\n")
    assert params.load("mine", "01")["seed"] == 3
    ours = {"preset": "ours", "n_kept": 5, "seed": 3, "sizes": [1, 2], "epochs": 7.0}
    assert params.load("ours", "01") == GOOD | ours
    assert params.origins("mine", "01_small", {"sizes": [3]}) == {
        "preset": "params/mine/all.yml",
        "n_kept": "params/small/01_small.yml",
        "seed": "params/mine/01_small.yml",
        "sizes": "the command line",
    }


@pytest.mark.parametrize(
    "target, words",
    [
        ("smal", ["params/mine/all.yml: extends: no preset 'smal'", "nearest: small"]),
        ("3", ["extends: no preset '3'"]),
        ("mine", ["mine -> mine: these extend each other in a ring"]),
        ("ours", ["ours/01_small.yml: extends: mine -> ours -> mine: these extend"]),
    ],
)
def test_what_cannot_be_extended_is_told(repo, target, words):
    layer(repo, "mine/all.yml", f"extends: {target}\n")
    layer(repo, "ours/01_small.yml", "extends: mine\n")
    with pytest.raises(ParameterError) as caught:
        params.load("mine", "01")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_preset_that_has_nothing_for_a_notebook_is_not_taken_for_the_defaults(repo):
    layer(repo, "small/02_other.yml", "n_kept: 5\n")
    with pytest.raises(
        ParameterError, match=r"'small' has 02_other.yml, not 01_small: write .*all"
    ):
        params.load("small", "01")


def test_a_wrong_value_names_the_file_that_set_it(repo):
    layer(repo, "small/01_small.yml", "n_kept: 0\n")
    layer(repo, "mine/all.yml", "extends: small\nseedd: 1\n")
    with pytest.raises(ParameterError) as caught:
        params.load("mine", "01")
    assert "params/small/01_small.yml: n_kept = 0" in str(caught.value)
    assert "params/mine/all.yml: seedd = 1: unknown parameter; nearest: seed" in str(caught.value)


@pytest.mark.parametrize("notebook", [path.stem for path in params.notebooks()])
@pytest.mark.parametrize("preset", params.presets())
def test_no_value_of_the_lab_slips_in_behind_other_students(preset, notebook):
    values = params.load(preset, notebook)  # refuses what was left; here what was written
    if not values["students"][0].startswith("lab:"):
        assert "lab:" not in str(values)


def test_what_is_left_of_the_lab_behind_another_student_is_an_error_that_names_it():
    foreign = {"students": ["hf:a/b"], "teachers": ["hf:c/d"], "max_tokens": 128}
    with pytest.raises(ParameterError, match=r"command line: students \['hf:a/b'\]") as caught:
        params.load("lab", "04", foreign)
    for left in (
        "corpus_source lab:sum",
        "code_source lab:code",
        "ood_sources ['lab:",
        "max_length",
    ):
        assert left in str(caught.value)
    for own in ("teachers", "max_tokens"):  # given with the students, whatever they are
        assert own not in str(caught.value).partition("stand behind them")[2]
    assert params.load("gpu", "04", foreign)["max_length"] == 12288
    assert params.load("lab", "04", {"students": ["store:0123"]})["max_length"] == 192


def test_students_edited_in_a_notebook_s_cell_take_no_value_of_the_lab_along(tmp_path, monkeypatch):
    values = params.load("lab", "03") | {"students": ["hf:a/b"], "teacher": "hf:c/d"}
    values["max_tokens"] = 64

    def checked(**passed):
        injected = "# Parameters\n" + "\n".join(f"{key} = {v!r}" for key, v in passed.items())
        history = ["", "preset = 'lab'\nstudents = ['hf:a/b']", injected, "check()"]
        return params.check("03_trajectory_diversity", values | passed | {"In": history})

    with pytest.raises(ParameterError, match=r"corpus_source lab:sum.* another name") as caught:
        checked()
    assert "max_tokens" not in str(caught.value).partition("stand behind them")[2]
    own = {key: value for key, value in values.items() if key not in ("preset", "students")}
    assert checked(**own).students == ["hf:a/b"]  # whatever was passed was meant
    values["preset"] = "mine"
    assert checked().students == ["hf:a/b"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"no notebooks in .*run this in the repo"):
        checked()


def test_papermill_that_is_given_a_preset_s_file_alone_takes_the_rest_from_the_preset(repo):
    layer(repo, "small/01_small.yml", "preset: small\nn_kept: 5\nseed: 1\n")
    layer(repo, "mine/all.yml", "preset: mine\nextends: small\n")
    cell = "\n".join(f"{key}: object = {value!r}" for key, value in GOOD.items())
    passed = {"preset": "mine", "seed": 3}
    injected = "# Parameters\n" + "\n".join(f"{key} = {value!r}" for key, value in passed.items())
    history = {"In": ["", cell, injected, "check()"]}
    assert params.check("01_small", GOOD | passed | history) == params.checked(
        "mine", "01", {"seed": 3}
    )


def test_papermill_s_preset_is_a_label_where_all_is_passed_and_else_misspelt(repo):
    def passed(**values):
        injected = "# Parameters\n" + "\n".join(f"{key} = {v!r}" for key, v in values.items())
        history = ["", "preset = 'small'", injected, "check()"]
        return params.check("01_small", GOOD | values | {"In": history})

    layer(repo, "small/01_small.yml", "preset: small\n")
    with pytest.raises(ParameterError, match="no preset 'smal'; there are: small; nearest: small"):
        passed(preset="smal", seed=3)
    whole = params.checked("small", "01").model_dump() | {"preset": "smal"}
    assert passed(**whole).preset == "smal"


FOR_ANOTHER = """
teacher: hf:c/d
corpus_source: data:s1k
id_source: data:math_500
ood_sources: [data:gsm8k]
split: test
max_tokens: 4096
max_length: 8192
learning_rate: 1e-5
"""


def test_a_preset_is_written_that_extends_and_explains(tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    for name in ("notebooks", "params"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    values = {"students": ["hf:a/b"], "teachers": ["hf:c/d"], "engine.dtype": "float16"}
    file = params.write_preset("my-own", "gpu", values)
    assert file == tmp_path / "params" / "my-own" / "all.yml"
    assert "All values, and where each comes from" in file.read_text()
    for path in params.notebooks():
        loaded, base = params.load("my-own", path.stem), params.load("gpu", path.stem)
        told = {key.partition(".")[0] for key in params.differences(base, loaded)}
        assert told == {"students", "engine"} | ({"teachers"} & base.keys())
    for name, base, wrong, message in (
        ("my-own", "gpu", {}, "'my-own' is there already"),
        ("gpu", "gpu", {}, "'gpu' cannot be the preset's name"),
        ("a/b", "gpu", {}, "'a/b' cannot be the preset's name"),
        ("b", "lab", {"students": ["hf:a/b"]}, "values made for the lab stand behind them"),
        ("b", "gpu", {"n_kep": 3}, "n_kep = 3: unknown parameter; nearest: n_kept"),
        ("b", "gpu", {"samples": 0}, "samples = 0"),
    ):
        with pytest.raises(ParameterError, match=message):
            params.write_preset(name, base, wrong)
    assert not (tmp_path / "params" / "b").exists()
    folder = tmp_path / "params" / "parts"  # whose files count together
    folder.mkdir()
    (folder / "all.yml").write_text(f"extends: lab\n{FOR_ANOTHER}")
    (folder / "03_trajectory_diversity.yml").write_text("students: ['hf:a/b']\n")
    assert params.load("parts", "03")["max_tokens"] == 4096
    assert params.load("my-own", "03")["fixed_on"] and not params.load("parts", "03")["fixed_on"]


# ---- names that a registry holds


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"engine": {"name": "vlm"}},
            "engine: no engine 'vlm'; there are: transformers, vllm; nearest: vllm",
        ),
        ({"engine": {"name": "openai"}}, "engine: no engine 'openai'"),  # of openai:<model> alone
        (
            {"metric": "levenstein"},
            "metric: no metric 'levenstein'; there are: levenshtein, normalised, steps; "
            "nearest: levenshtein",
        ),
        (
            {"perturbations": ["zeros"]},
            "no perturbation 'zeros'; there are: shuffled, zero, preamble; nearest: zero",
        ),
    ],
)
def test_a_name_that_is_not_registered_is_refused_with_those_that_are(changes, message):
    with pytest.raises(ParameterError) as caught:
        params.load("lab", "03", changes)
    assert "1 problem" in str(caught.value) and message in str(caught.value)


def test_perturbations_are_those_of_the_source():
    def of(**changes):
        return params.load("lab", "03", changes)["perturbations"]

    assert of() == ["zero"] and of(perturbations=[]) == ["shuffled", "zero", "preamble"]
    # the lab's says nothing of other questions: all of theirs
    assert of(id_source="data:math_500") == ["preamble", "polite", "quoted"]
    assert of(id_source="data:math_500", perturbations=["zero", "quoted"]) == ["quoted"]


def test_what_is_registered_may_be_named(monkeypatch):
    monkeypatch.setitem(curation.METRICS, "words", curation.METRICS["normalised"])
    monkeypatch.setitem(generation.ENGINES, "mine", generation.ENGINES["transformers"])
    values = params.load("lab", "03", {"metric": "words", "engine": {"name": "mine"}})
    assert values["metric"] == "words" and values["engine"] == {"name": "mine"}


# ---- how models are prompted


def test_chat_is_taken_up_by_the_models_that_it_names():
    chat = {"default": {"thinking": True}, "lab:student_2": {"system_prompt": "a, 'b': \"c\""}}
    models = ["lab:student_1", "lab:student_2", "lab:student_3?{thinking: false}"]
    loaded = params.load("lab", "01", {"chat": chat, "students": models})
    assert loaded["students"] == [
        "lab:student_1?{thinking: true}",
        'lab:student_2?{thinking: true, system_prompt: "a, \'b\': \\"c\\""}',
        "lab:student_3?{thinking: false}",  # its own word counts
    ]
    assert loaded["teachers"][0].endswith("?{thinking: true}")
    again = params.load("lab", "01", loaded)  # as a notebook does
    assert again == loaded
    assert params.load("lab", "01", {"students": models[2:]})["students"] == models[2:]
    recorded = params.load(
        "lab", "02", {"chat": chat | {}, "students": models[:2], "teacher": TRACES}
    )
    assert recorded["teacher"] == TRACES  # nobody prompts it


TRACES = "recorded:worked#terse"


@pytest.mark.parametrize(
    "chat, words",
    [
        ({"lab:student_l": {}}, ["chat: 'lab:student_l' is no model", "nearest: lab:student_"]),
        ({"defaults": {}}, ["'defaults' is no model of this notebook", "nearest: default"]),
        ({"default": True}, ["chat.default = True", "valid dictionary"]),
        ({"default": {"system_prompt": 3}}, ["students[0]", "system_prompt: 3: options"]),
    ],
)
def test_a_bad_key_of_chat_is_named(chat, words):
    with pytest.raises(ParameterError) as caught:
        params.load("lab", "01", {"chat": chat})
    assert all(word in str(caught.value) for word in words), str(caught.value)


# ---- how students are trained


def test_trainer_is_a_mapping_with_defaults_and_written_down_as_what_it_changes():
    values = params.load("lab", "01", {"trainer": {"lora_rank": 8, "accelerate": "ddp_2cpu"}})
    assert (
        values["trainer"] == {"lora_rank": 8, "accelerate": "ddp_2cpu"}
        and params.load("lab", "01")["trainer"] == {}
    )
    p = params.check("01_teacher_selection", values)
    assert isinstance(p.trainer, schemas.Trainer) and (p.trainer.lora_rank, p.trainer.dtype) == (
        8,
        "float32",
    )
    assert p.model_dump()["trainer"] == values["trainer"]


@pytest.mark.parametrize(
    "trainer, words",
    [
        ({"lora_rank": -1}, ["trainer.lora_rank = -1", "greater than or equal to 0"]),
        ({"lora_rnk": 1}, ["trainer.lora_rnk", "unknown parameter; nearest: lora_rank"]),
        ({"dtype": "bf16"}, ["trainer.dtype = 'bf16'", "'bfloat16'"]),
        (
            {"accelerate": "fsdp_8gpu"},
            [
                "trainer.accelerate = 'fsdp_8gpu' is no file of params/accelerate/",
                "nearest: fsdp2_8gpu",
            ],
        ),
        ({"accelerate": 3}, ["trainer.accelerate = 3", "valid string"]),
        (3, ["trainer = 3", "valid dictionary", "Trainer"]),
    ],
)
def test_a_bad_key_of_trainer_is_named(trainer, words):
    with pytest.raises(ParameterError) as caught:
        params.load("lab", "01", {"trainer": trainer})
    assert "1 problem" in str(caught.value) and all(word in str(caught.value) for word in words), (
        caught.value
    )


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[1].glob("params/*/0*.yml")), ids=str)
def test_a_params_file_says_its_preset(file):
    """So that plain papermill, given the file alone, labels the run by it."""
    assert read_yaml(file).get("preset") == file.parent.name


def test_the_launch_configurations_are_no_preset():
    assert "accelerate" not in params.presets() and "lab" in params.presets()


def test_a_dotted_name_changes_one_key_and_leaves_the_others():
    changes = {"engine.dtype": "bfloat16", "engine.name": "vllm", "grading.judge_engine.timeout": 9}
    loaded = params.load("lab", "01", changes)
    assert loaded["engine"] == {"name": "vllm", "dtype": "bfloat16"}
    assert loaded["grading"] == {"judge_engine": {"timeout": 9}}
    with pytest.raises(ParameterError, match=r"judge_engine[.]timout.*: timeout"):
        params.load("lab", "01", {"grading.judge_engine.timout": 9})


@pytest.mark.parametrize(
    "changes", [{"engine.api_key": "sk-1"}, {"engine": {"key": "sk-1"}}, {"api_key": "sk-1"}]
)
def test_a_key_in_the_wrong_place_is_not_repeated(changes):
    for load in (
        lambda: params.load("lab", "01", changes),
        lambda: runner.planned("lab", ["01"], changes),
    ):
        with pytest.raises(ParameterError, match="unknown parameter") as caught:
            load()
        assert "sk-1" not in str(caught.value)


def test_question_compression_keeps_a_share_or_what_is_passed_up_to_a_rate():
    for keep in (0.24, 1, {"pass_rate": 0.75}):
        assert params.load("lab", "02", {"keep_questions": keep})["keep_questions"] == keep
    dotted = params.load("lab", "04", {"keep_questions.pass_rate": 0.5})
    assert dotted["keep_questions"] == {"pass_rate": 0.5}
    for keep in (2, 0, "most", {"rate": 0.5}):
        with pytest.raises(params.ParameterError, match=r"keep_questions = .* is no share above 0"):
            params.load("lab", "02", {"keep_questions": keep})
