"""The corpus and the student as others would load them, and what must not leave the house."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from ded import export, training
from ded.errors import ExportError, ModelError
from ded.report.tables import Table

TEXTS = [
    "<think>\n1 + 2 = 3\n</think>\n3",
    '<think>"a, b" | c</think>\nNA',
    "<think>\n</think>\n007",
]
ABOUT = {
    "notebook": "04_ded_recipe",
    "ded": "0.1.0",
    "commit": "abc",
    "models": {"lab:student_1": "f1", "lab:random": "f2"},
    "params": {
        "preset": "small",
        "students": ["lab:student_1"],
        "corpus_source": "lab:sum/6-9",
        "id_source": "lab:sum/7-9",
        "ood_sources": ["lab:swap"],
    },
    "metrics": {"student_base": "lab:student_1"},
    "scores": Table("Scores", ["arm", "ID"], [["ded", "54.2 [52.6, 55.7]"]]),
    "funnel": None,
}


def table(ids=("q1", "q1", "q2")):
    return pd.DataFrame(
        {
            "problem_id": ids,
            "model": "lab:random",
            "sample_index": [0, 1, 0],
            "prompt": "1+2=",
            "text": TEXTS,
            "answer": ["3", "NA", "007"],
            "token_ids": [[1], [2], [3]],
            "n_tokens": [5, 6, 7],
        }
    )


def card(folder):
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), " ".join(text.split())


@pytest.fixture
def folder(tmp_path):
    """A notebook's folder that recorded a corpus, a funnel and scores."""
    folder = tmp_path / "outputs" / "small" / "04_ded_recipe"
    folder.mkdir(parents=True)
    table().drop(columns="token_ids").to_csv(
        folder / "corpus_ded.csv", index=False, lineterminator="\n"
    )
    (folder / "funnel.csv").write_text(
        "step,kept,dropped,reason\nsampled,9,0,\nanswer,3,6,wrong: 4; unparsed: 2\n"
    )
    (folder / "summary.csv").write_text("arm,ID,ID low,ID high\nded,0.5,0.4,0.6\n")
    (folder / "manifest.json").write_text(
        json.dumps({k: v for k, v in ABOUT.items() if k not in ("metrics", "scores", "funnel")})
    )
    (folder / "metrics.json").write_text(
        json.dumps({"claims": [], "metrics": {"student": "store:0"}})
    )
    return folder


def test_a_recorded_corpus_loads_as_a_data_set_with_every_text_as_it_was(folder, tmp_path):
    import datasets

    about = export.facts(folder)
    out = export.corpus(export.recorded_corpus(folder), about, tmp_path / "out")
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"), split="train")
    assert (
        loaded["text"] == TEXTS
        and loaded["answer"] == ["3", "NA", "007"]
        and loaded["n_tokens"] == [5, 6, 7]
    )
    assert loaded[1]["messages"] == [
        {"role": "user", "content": "1+2="},
        {"role": "assistant", "content": TEXTS[1]},
    ]
    front, text = card(out)
    assert front["license"] == "apache-2.0"
    for words in (
        "2 questions, 3 worked solutions",
        "| all | 9 | 3 | answer: wrong 4; answer: unparsed 2 |",
        "`lab:random`: content `f2`",
        "corpus_source: `lab:sum/6-9`",
        "questions, `lab:sum/6-9`: made by this package",
        "`abc`",
    ):
        assert words in text, words
    assert "token_ids" not in loaded.column_names and sorted(
        p.name for p in tmp_path.iterdir()
    ) == ["cache", "out", "outputs"]


def test_what_is_not_the_labs_is_not_licensed_as_the_labs(tmp_path):
    about = ABOUT | {"models": {"hf:org/teacher@1": "x"}}
    front, text = card(export.corpus(table(), about, tmp_path / "out"))
    assert (
        front["license"] == "other"
        and "teacher's licence" in text
        and "No funnel was recorded" in text
    )


DROPS = (  # as R1-Distill's: thinking is opened in the prompt, and taken out of what was answered
    "{% for m in messages %}{% if m.role == 'user' %}<user> {{ m.content }}{% else %}"
    "<assistant>{{ m.content.split('</think>')[-1] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{{ '' }}{% endif %}"
)
ONE_TURN = "{% if messages|length > 1 %}{{ raise_exception('one turn') }}{% endif %}<user> "


@pytest.mark.parametrize("template", [DROPS, ONE_TURN + "{{ messages[0].content }}<assistant>"])
def test_a_template_that_takes_the_thinking_out_is_got_round(tiny, tmp_path, template):
    folder = shutil.copytree(tiny / "student_1", tmp_path / "student")
    (folder / "chat_template.jinja").write_text(template)
    params = ABOUT["params"] | {"students": ["lab:student_1", f"path:{folder}"]}
    out = export.corpus(table(), ABOUT | {"params": params}, tmp_path / "out")
    rows = pd.read_parquet(out / "data" / "train.parquet")
    assert set(rows["question"]) == {"1+2="} and list(rows["text"]) == TEXTS
    for row in rows.itertuples():
        assert f"{row.prompt}{row.completion}".count("<think>") == 1
        assert row.prompt.startswith("<user> 1+2=<assistant>") and row.completion.endswith("<eos>")
        assert row.text.removeprefix("<think>").lstrip() in row.completion
        assert row.messages[1]["content"] == row.text
    assert (
        f"**Warning.** The chat template of `path:{folder}` takes the thinking out" in card(out)[1]
    )


def test_a_student_that_cannot_be_asked_changes_nothing(tmp_path):
    params = ABOUT["params"] | {"students": [f"path:{tmp_path}/nowhere"]}
    out = export.corpus(table(), ABOUT | {"params": params}, tmp_path / "out")
    rows = pd.read_parquet(out / "data" / "train.parquet")
    assert "completion" not in rows and "Warning" not in card(out)[1]


def test_hidden_questions_are_refused_by_name(tmp_path):
    from ded import problems

    file = tmp_path / "mine.jsonl"
    rows = [
        {"prompt": f"{i}+1=", "answer": str(i + 1), "split": "train", "meta": {"hide": i == 1}}
        for i in range(3)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    source = f"file:{file}"
    ids = [p.id for p in sorted(problems.load(source, 0, "train", ""), key=lambda p: p.prompt)]
    about = ABOUT | {"params": ABOUT["params"] | {"corpus_source": source}}
    with pytest.raises(
        ExportError, match="1 of its questions in this corpus must not be published"
    ) as refused:
        export.corpus(table(ids), about, tmp_path / "out")
    assert (
        source in str(refused.value)
        and ids[1] in str(refused.value)
        and not (tmp_path / "out").exists()
    )
    front, _ = card(export.corpus(table([ids[0], ids[0], ids[2]]), about, tmp_path / "out"))
    assert front["license"] == "other"


def test_what_cannot_be_exported_says_why_and_leaves_nothing(folder, tmp_path):
    for wrong, words in ((table().drop(columns="text"), "no text"), (table().iloc[:0], "no rows")):
        with pytest.raises(ExportError, match=words):
            export.corpus(wrong, ABOUT, tmp_path / "out")
    (folder / "corpus_ded.csv").unlink()
    with pytest.raises(ExportError, match=r"corpus_ded\.csv is not there"):
        export.recorded_corpus(folder)
    (folder / "metrics.json").unlink()
    with pytest.raises(ExportError, match="no results of notebook 04 in"):
        export.facts(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    with pytest.raises(ExportError, match="is there already"):
        export.corpus(table(), ABOUT, tmp_path / "full")
    assert (
        sorted(p.name for p in tmp_path.iterdir()) == ["full", "outputs"]
        and (tmp_path / "full" / "mine").read_text() == "keep"
    )


def test_a_trained_student_loads_as_a_model(tiny, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ded import models

    corpus = pd.DataFrame(
        {
            "prompt": ["1+2=", "2+2="],
            "text": ["<think>\n1+2=3\n</think>\n3", "<think>\n2+2=4\n</think>\n4"],
        }
    )
    spec = training.sft(
        "lab:student_1", corpus, learning_rate=1e-3, batch_size=2, max_steps=2, max_length=128
    )
    out = export.student(spec, ABOUT, tmp_path / "out")
    loaded, trained = AutoModelForCausalLM.from_pretrained(out), models.load(spec)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), trained.parameters(), strict=True)
    )
    assert AutoTokenizer.from_pretrained(out).chat_template and not (out / "entry.json").exists()
    front, text = card(out)
    assert front["library_name"] == "transformers" and "| ded | 54.2 [52.6, 55.7] |" in text
    assert (
        "learning_rate: `0.001`" in text
        and spec in text
        and "loss, first and last" in text
        and "on `lab:swap`;" in text
    )
    about = ABOUT | {"metrics": {"student_base": "hf:org/base@1"}, "models": {"hf:org/base@1": "x"}}
    front, text = card(export.student(spec, about, tmp_path / "second"))
    assert (
        front["base_model"] == "org/base"
        and front["license"] == "other"
        and "from `hf:org/base@1` on" in text
    )
    with pytest.raises(ModelError, match="store:none"):
        export.student("store:none", ABOUT, tmp_path / "other")
