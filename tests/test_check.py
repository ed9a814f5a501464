"""What `ded check` passes begins to run, and what it does not pass would have failed: over the
presets (with the toys of test_presets, which are run to the end there) and over what users get
wrong.
"""

import json
import shutil
import warnings
from types import SimpleNamespace

import pytest

from ded import checking, models, params, study
from ded.errors import DedError
from ded.params.schemas import SCHEMAS

SIZES = {
    "n_replicates": 2,
    "n_questions": 12,
    "eval_id": 4,
    "eval_ood": 3,
    "corpus_size": 8,
    "n_attempts": 1,
}
NOBODY = SimpleNamespace(model=lambda *_: None, data=lambda *_: None)


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def own(tiny, tmp_path):
    """{parameter: value} of notebook 01 for a student, questions and traces of somebody's own."""
    shutil.copytree(models.locate("lab:student_1"), tmp_path / "student")
    rows = [
        {"question": f"{a} +{b} =", "answer": f"{(a + b) % 10}", "kind": "exact", "split": split}
        for a in range(10)
        for b, split in enumerate(("dev", "train", "dev", "train"))
    ]
    other = [row for row in rows if row["split"] == "dev"][:5]
    traces = [
        {"question": row["question"], "text": f"<think> {row['question']} </think> {row['answer']}"}
        for row in rows
    ]
    write(tmp_path / "questions.jsonl", rows)
    write(tmp_path / "other.jsonl", other)
    write(tmp_path / "good.jsonl", traces)
    write(tmp_path / "some.jsonl", traces[::3])
    write(tmp_path / "late.jsonl", [row | {"question": row["question"] + "?"} for row in traces])
    write(tmp_path / "bare.jsonl", [row | {"text": row["text"][-1:]} for row in traces])
    write(tmp_path / "wrong.jsonl", [row | {"text": "<think>1</think>no"} for row in traces])
    source = f"file:{tmp_path}/questions.jsonl"
    return SIZES | {
        "students": [f"path:{tmp_path}/student"],
        "teachers": [f"recorded:{tmp_path}/good.jsonl", f"recorded:{tmp_path}/some.jsonl"],
        "corpus_source": source,
        "id_source": source,
        "ood_sources": [f"file:{tmp_path}/other.jsonl"],
        "split": "dev",
        "verification": "answer",
        "n_jobs": 1,
        **{"max_tokens": 128, "max_length": 192, "learning_rate": 1e-3},  # as for the lab's own
    }


def begins(changes) -> str:
    """What stops notebook 01 before its first training, "" for nothing."""
    try:
        settings = params.checked("smollm", "01", changes)
        with warnings.catch_warnings(action="ignore"):
            study.describe(settings, NOBODY)
        unit = study.units(settings)[0]
        unit.suite()
        for teacher in settings.teachers:
            if study.teacher_corpus(unit, teacher).examples.empty:
                return "an empty corpus"
    except DedError as error:
        return str(error)
    return ""


def missing(changes) -> str:
    try:
        table = checking.check("smollm", ["01"], changes)
    except DedError as error:
        return str(error)
    return "\n".join(checking.lines(table[table["ok"].eq(False)]))


def test_what_is_passed_begins(own):
    assert missing(own) == "" and begins(own) == ""
    notes = checking.check("smollm", ["01"], own).set_index("item")["note"]
    assert notes[f"source {own['corpus_source']}"].tolist() == [
        "12 train questions",
        "4 dev questions",
    ]
    good, some = (notes[f"traces of {teacher}"] for teacher in own["teachers"])
    assert good == "12 pass the filters" and "pass the filters; dropped by recorded: no" in some


BROKEN = {
    "too many questions": ({"n_questions": 21}, "holds 20 questions of split 'train', and 21"),
    "too many to score": ({"eval_id": 21}, "holds 20 questions of split 'dev', and 21"),
    "a split that is not there": ({"split": "test"}, "holds 0 questions of split 'test'"),
    "a benchmark to train on": ({"corpus_source": "data:math_500"}, "no train split, only test"),
    "a benchmark to tune on": ({"id_source": "data:math_500"}, "no dev split, only test"),
    "more than a benchmark has": (
        {"id_source": "data:aime_2024", "split": "test", "eval_id": 31},
        "holds 30 questions of split 'test', and 31",
    ),
    "a family twice": ({"ood_sources": ["DIR/other.jsonl", "DIR/a/other.jsonl"]}, "second family"),
    "traces of other questions": ({"teachers": ["DIR/late.jsonl"]}, "traces of recorded"),
    "no think block": ({"teachers": ["DIR/bare.jsonl"]}, "format: no think block"),
    "wrong answers": ({"teachers": ["DIR/wrong.jsonl"]}, "all 12 dropped: answer: wrong: 12"),
    "no such file": ({"id_source": "DIR/none.jsonl"}, "no such file"),
    "no such model": ({"students": ["path:/nowhere"]}, "no model directory"),
    "a model of the hub": ({"students": ["hf:a/b"]}, "model hf:a/b"),
    "steps of other sums": ({"verification": "steps"}, "steps can be checked"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_would_fail_is_not_passed(own, tmp_path, name):
    (tmp_path / "a").mkdir()
    shutil.copy(tmp_path / "other.jsonl", tmp_path / "a")
    changes, words = BROKEN[name]

    def placed(key, value):
        if isinstance(value, list):
            return [placed(key, item) for item in value]
        kind = "recorded:" if key == "teachers" else "file:"
        return value.replace("DIR", f"{kind}{tmp_path}") if isinstance(value, str) else value

    broken = own | {key: placed(key, value) for key, value in changes.items()}
    assert words in missing(broken)
    assert begins(broken)


def test_traces_without_a_think_block_stop_a_notebook_at_once(own, tmp_path):
    settings = params.checked(
        "smollm", "01", own | {"teachers": [f"recorded:{tmp_path}/bare.jsonl"]}
    )
    with pytest.raises(models.ModelError, match=r"all 12 dropped: no think block: 12; a trace is"):
        study.describe(settings, NOBODY)


def test_signs_that_a_tokenizer_cannot_read_are_counted(own, tmp_path):
    about = {"answer": "1", "kind": "exact", "split": "dev"}
    questions = [about | {"question": f"{i} \N{SNOWMAN} +1 ="} for i in range(9)]
    source = write(tmp_path / "snow.jsonl", questions)
    settings = params.checked("smollm", "01", own | {"id_source": f"file:{source}"})
    with pytest.warns(UserWarning, match=r"student': of the tokens .* are <unk>.*: 25% in ID$"):
        study.describe(settings, NOBODY)
    table = checking.check("smollm", ["01"], own | {"id_source": f"file:{source}"})
    (hint,) = table.loc[table["kind"] == "prompts", "ok"]
    assert hint is None


def test_liger_without_a_gpu_is_told_once(tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    table = checking.check("lab", ["03"], {"trainer": {"liger": True}})
    (lacking,) = table[table["note"].str.contains("liger")].itertuples()
    assert lacking.ok is False and "set it to false" in lacking.note


@pytest.mark.parametrize("preset", ["lab", "lab-full", "smollm"])
def test_a_preset_that_needs_nothing_is_passed(preset, tiny, monkeypatch):
    """Of those whose models are here; the others are run with toys in test_presets."""
    for notebook, schema in SCHEMAS.items():
        settings = params.checked(preset, notebook)
        unit = study.units(settings)[0]
        assert unit.suite() and unit.questions() and isinstance(settings, schema)
    table = checking.check(preset)
    assert set(table.loc[table["ok"].eq(False), "kind"]) <= {"model"}, "lab models are not built"
