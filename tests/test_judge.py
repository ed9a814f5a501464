"""The judge: a model on this machine, a model behind an endpoint; and what is made of replies."""

import json

import pandas as pd
import pytest
import servers
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from ded import evaluation, generation, params
from ded.cli import app
from ded.errors import EngineError, ModelError, ParameterError
from ded.grading import grade
from ded.grading.judge import read
from ded.models import endpoint
from ded.options import Engine, Grading
from ded.problems import Problem

SAYS = {v: json.dumps({"verdict": v, "reason": f"it is {v}"}) for v in ("correct", "wrong")}
WORDS = ["<pad>", "<eos>", "<unk>", "<reply>", "five", "seen", *SAYS.values()]
TEXTS = ["five it is", r"\boxed{5}", "it is six", r"\boxed{6}", "", "five once more"]


def math(gold):
    return Problem("m", "math", 1, "What is it?", gold, "math")


def frame(texts=TEXTS):
    return pd.DataFrame({"problem_id": "m", "text": texts, "finish_reason": "stop"})


@pytest.fixture(autouse=True)
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The spec of a model made by hand: it says *correct* where "five" stands in its prompt, else
    *wrong*.

    One attention head looks at all tokens alike and carries "five" over to "seen".
    """
    place, n = {word: i for i, word in enumerate(WORDS)}, len(WORDS)
    folder = tmp_path_factory.mktemp("judge")
    tokens = Tokenizer(models.WordLevel(place, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(
        tokenizer_object=tokens, unk_token="<unk>", eos_token="<eos>", pad_token="<pad>"
    )
    tok.add_tokens(list(SAYS.values()))
    tok.chat_template = "{{ messages[0]['content'] }} <reply>"
    tok.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=n,
        hidden_size=n,
        intermediate_size=n,
        num_hidden_layers=1,
        num_attention_heads=1,
        eos_token_id=place["<eos>"],
        pad_token_id=place["<pad>"],
        tie_word_embeddings=False,
    )
    net = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        net.model.embed_tokens.weight.copy_(torch.eye(n))
        attention = net.model.layers[0].self_attn
        attention.v_proj.weight[place["seen"], place["five"]] = 1.0
        attention.o_proj.weight.copy_(torch.eye(n))
        net.lm_head.weight[place[SAYS["wrong"]], place["<reply>"]] = 1.0
        net.lm_head.weight[place[SAYS["correct"]], place["seen"]] = 1e4
        for said in SAYS.values():
            net.lm_head.weight[place["<eos>"], place[said]] = 1e8
    net.save_pretrained(folder)
    return f"path:{folder}"


# ---- a model as the parameter names it ----------------------------------------------------------
def test_a_local_model_decides_what_the_rules_leave(judge):
    graded = grade(frame(), [math("5")], Grading(judge=judge), progress=False)
    verdicts = ["correct", "correct", "wrong", "wrong", "unparsed", "correct"]
    assert graded["verdict"].tolist() == verdicts
    assert (graded["rule"] == "judge").tolist() == [True, False, True, False, False, True]
    assert graded["reason"][2].endswith(f"; judge {judge}: it is wrong")
    alone = grade(frame(), [math("5")], progress=False)
    assert alone["verdict"].tolist().count("unparsed") == 4
    decided = graded["rule"] != "judge"
    assert graded[decided].equals(alone[decided])


def test_a_judge_is_asked_once_and_its_replies_are_kept(judge, monkeypatch):
    options, asked = Grading(judge=judge), []
    first = grade(frame(), [math("5")], options, progress=False)
    draw = generation.sample
    monkeypatch.setattr(generation, "sample", lambda *a, **k: asked.append(k) or draw(*a, **k))
    monkeypatch.setattr("ded.models.load", lambda *_: pytest.fail("it is loaded again"))
    pd.testing.assert_frame_equal(grade(frame(), [math("5")], options, progress=False), first)
    assert [how["temperature"] for how in asked] == [0.0]


def test_a_study_scores_with_the_judge_that_its_parameters_name(judge, tiny, monkeypatch):
    question = Problem("m", "math", 1, "What is it?", "5", "math")

    def sample(model, questions, n=1, **settings):
        if model == judge:
            return draw(model, questions, n, **settings)
        return frame().assign(sample_index=range(len(TEXTS)), n_tokens=3).head(n)

    draw = generation.sample
    monkeypatch.setattr(generation, "sample", sample)

    def score(**options):
        how = {"samples": 6, "max_tokens": 8, "grading": Grading(**options)}
        return evaluation.evaluate("lab:student_1", {"ID": [question]}, **how).iloc[0]

    assert score()["correct"] == 1
    assert score(judge=judge)["correct"] == 3  # under a key of its own
    assert score()["correct"] == 1


def test_who_judges_is_checked_with_the_other_parameters():
    for spec, words in (
        ("lab:studnt_1", "names no lab model.*nearest: student_1"),
        ("judge", "model 'judge': a model is written as"),
        ("recorded:traces.jsonl", "recorded traces answer nothing new"),
    ):
        with pytest.raises(ParameterError, match=f"command line: grading.*{words}"):
            params.load("lab", "01", {"grading.judge": spec})
    changed = {"grading.judge": "lab:left", "grading.judge_engine.dtype": "bfloat16"}
    loaded = params.load("lab", "01", changed)["grading"]
    assert loaded == {"judge": "lab:left", "judge_engine": {"dtype": "bfloat16"}}


def test_an_endpoint(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "abc")
    monkeypatch.setattr(endpoint, "WAIT", 0.001)
    with servers.toy(writes=lambda body: (SAYS["wrong"], 5, "stop")) as toy:
        engine = Engine(base_url=toy.url, api_key_env="SOME_KEY", entropy_top=0)
        options = Grading(judge="openai:toy", judge_engine=engine)
        graded = grade(frame(["six"]), [math("5")], options, progress=False)
        assert graded["reason"][0].endswith("judge openai:toy: it is wrong")
        (body,), (given,) = toy.asked, toy.given
    assert given["Authorization"] == "Bearer abc"
    assert (body["model"], body["temperature"]) == ("toy", 0)
    assert "What is it?" in body["messages"][0]["content"]


@pytest.mark.parametrize(
    "engine, error",
    [
        ({"base_url": "http://127.0.0.1:9/v1"}, EngineError),
        ({"base_url": "http://127.0.0.1:9/v1", "api_key_env": "NO_KEY_HERE"}, ModelError),
        ({}, ModelError),
    ],
)
def test_a_model_that_cannot_be_asked_is_an_error_and_no_verdict(engine, error, monkeypatch):
    monkeypatch.setattr(endpoint, "WAIT", 0.001)
    options = Grading(judge="openai:model-y", judge_engine=Engine(**engine))
    with pytest.raises(error, match="model-y"):
        grade(frame(["six"]), [math("5")], options, progress=False)


# ---- what is asked, and what is made of the reply -----------------------------------------------
def test_the_judge_is_asked_about_unparsed_answers_only(monkeypatch):
    asked = []

    def sample(model, questions, **how):
        asked.extend(question.prompt for question in questions)
        same = 'Well. {"verdict": "correct", "reason": "same"}'
        replies = [same if "five it" in each.prompt else "I cannot say" for each in questions]
        return pd.DataFrame({"problem_id": [each.id for each in questions], "text": replies})

    monkeypatch.setattr(generation, "sample", sample)

    texts = [r"\boxed{5}", r"\boxed{6}", "five it is", "five it is", "who knows", "<think> x"]
    graded = grade(frame(texts), [math("5")], Grading(judge="lab:x"), progress=False)
    verdicts = ["correct", "wrong", "correct", "correct", "unparsed", "unparsed"]
    assert graded["verdict"].tolist() == verdicts
    assert len(asked) == 2 and "What is it?" in asked[0]
    assert graded["reason"][2] == "no final answer; judge lab:x: same"
    assert "gave no verdict" in graded["reason"][4]
    off = grade(frame(texts), [math("5")], progress=False)  # as by default
    assert off["verdict"].tolist()[2] == "unparsed"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "correct",
        "{}",
        '{"verdict": "yes"}',
        None,
        "[1]",
        '{"verdict": "correct"} {"verdict": "wrong"}',
    ],
)
def test_nonsense_leaves_unparsed(reply):
    assert read("judge", reply).verdict == "unparsed"


# ---- at the prompt ------------------------------------------------------------------------------
def test_ded_grade_asks_the_judge_that_it_is_given(judge, tmp_path):
    rows = [{"question": "What is it?", "gold": "5", "answer": text} for text in TEXTS]
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["grade", str(file), "--out", str(out), "--workers", "1"]
    arguments += ["--grading", f"{{judge: {judge!r}}}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "judge 3" in result.output
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    verdicts = ["correct", "correct", "wrong", "wrong", "unparsed", "correct"]
    assert [row["verdict"] for row in graded] == verdicts
