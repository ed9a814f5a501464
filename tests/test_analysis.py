"""Cheap predictors of a good teacher: each against a direct computation."""

import random

import numpy as np
import pandas as pd
import pytest

from ded import analysis, models, problems
from ded.problems import lab as tasks

STUDENT = "lab:student_1"
pytestmark = pytest.mark.usefixtures("tiny")


def asked(n):
    return problems.load("lab:sum/5-8", n, "dev", "analysis")


def test_token_entropy_is_per_token_of_the_corpus():
    table = pd.DataFrame({"entropy_sum": [2.0, 10.0], "n_tokens": [2, 30]})
    assert analysis.token_entropy(table) == pytest.approx(12 / 32)


@pytest.mark.parametrize("most", [1, 2**28])
def test_corpus_loss_is_the_mean_over_completion_tokens(most, monkeypatch):
    import torch

    monkeypatch.setattr(analysis, "LOGITS", most)  # one at a time, or all at once
    rng = random.Random(0)
    table = pd.DataFrame(
        [
            {"prompt": problem.prompt, "text": tasks.solution(problem, "random", rng)}
            for problem in asked(7)
        ]
    )
    net, tok = models.load(STUDENT), models.load_tokenizer(STUDENT)
    total = count = 0
    for row in table.itertuples():
        before, after = (
            tok(text)["input_ids"]
            for text in (models.render(STUDENT, row.prompt), f"{row.text} <eos>")
        )
        with torch.inference_mode():
            logs = net(input_ids=torch.tensor([before + after])).logits[0].double().log_softmax(-1)
        total -= sum(logs[len(before) - 1 + i, token].item() for i, token in enumerate(after))
        count += len(after)
    assert analysis.corpus_loss(STUDENT, table) == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("window", [1, 5, 1000])
def test_lalp_scores_each_step_with_a_short_context(window):
    """Against a loop over the text's own steps; with a window over everything it is the mean over
    steps of the whole likelihood."""
    import torch

    rng = random.Random(1)
    table = pd.DataFrame(
        [
            {"prompt": problem.prompt, "text": tasks.solution(problem, "facts", rng)}
            for problem in asked(5)
        ]
    )
    net, tok = models.load(STUDENT), models.load_tokenizer(STUDENT)
    means = []
    for row in table.itertuples():
        context = tok(models.render(STUDENT, row.prompt))["input_ids"]
        for step in f"{row.text} <eos>".replace(" ;", " ;|").split("|"):
            ids = tok(step.strip())["input_ids"]
            near = context[-window:]
            with torch.inference_mode():
                logs = net(input_ids=torch.tensor([near + ids])).logits[0].double().log_softmax(-1)
            means.append(
                np.mean([logs[len(near) - 1 + i, token].item() for i, token in enumerate(ids)])
            )
            context = context + ids
    measured = analysis.likelihood(STUDENT, table, window)
    assert len(means) > 20 and measured["value"] == pytest.approx(np.mean(means), abs=1e-5)
    assert measured["seconds"] > 0 and analysis.likelihood(STUDENT, table, window) == measured, (
        "the cost is that of the first time"
    )


def test_hidden_states_are_those_at_the_last_prompt_token():
    import torch

    states = analysis.hidden_states(STUDENT, asked(3))
    net, tok = models.load(STUDENT), models.load_tokenizer(STUDENT)
    assert states.shape == (3, net.config.hidden_size) and states.dtype == np.float32
    ids = tok(models.render(STUDENT, asked(3)[1].prompt))["input_ids"]
    with torch.inference_mode():
        logits = net(input_ids=torch.tensor([ids])).logits[0, -1]
        assert torch.allclose(
            net.lm_head(torch.tensor(states[1])), logits, atol=1e-5
        )  # normalised, as the head sees it


def test_latent_shift_is_nothing_for_one_model_and_symmetric_for_two():
    questions = asked(12)
    same = analysis.latent_shift(STUDENT, STUDENT, questions)
    assert same["shift"] == pytest.approx(0, abs=1e-5) and same["before"] == same["after"]
    there, back = (
        analysis.latent_shift(*pair, questions)
        for pair in ((STUDENT, "lab:ancestor"), ("lab:ancestor", STUDENT))
    )
    assert there["shift"] == pytest.approx(back["shift"], rel=1e-4) and there["shift"] > 0.1
    assert 0 < there["variance"] <= 1 and np.shape(there["before"]) == np.shape(there["after"]) == (
        12,
        2,
    )
    assert np.linalg.norm(
        np.mean(there["before"], 0) - np.mean(there["after"], 0)
    ) == pytest.approx(there["shift"], abs=1e-3)


def test_latent_shift_with_all_axes_is_the_distance_of_the_means():
    questions = asked(6)
    before, after = (
        analysis.hidden_states(model, questions) for model in (STUDENT, "lab:ancestor")
    )
    measured = analysis.latent_shift(STUDENT, "lab:ancestor", questions, components=12)
    assert measured["shift"] == pytest.approx(
        float(np.linalg.norm(before.mean(0) - after.mean(0))), rel=1e-4
    )
    assert measured["variance"] == pytest.approx(1)
