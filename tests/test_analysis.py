"""Cheap predictors of a good teacher: each against a direct computation."""

import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

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
    loss = analysis.corpus_scores(STUDENT, table, 5)["loss"].value
    assert loss == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("window", [1, 5, 1000])
def test_lalp_scores_each_step_with_a_short_context(window):
    """Against a loop over the text's own steps; with a window over everything it is the mean over
    steps of the whole likelihood."""
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
    measured = analysis.lalp(STUDENT, table, window)
    assert len(means) > 20 and measured.value == pytest.approx(np.mean(means), abs=1e-5)
    assert measured.seconds > 0 and analysis.lalp(STUDENT, table, window) == measured, (
        "the cost is that of the first time"
    )


class Body(torch.nn.Module):
    """Hidden states that say which of three tokens stands there."""

    def forward(self, input_ids, use_cache=None):
        states = torch.nn.functional.one_hot(input_ids, 3).float()
        return SimpleNamespace(last_hidden_state=states)


class Bigrams(torch.nn.Module):
    """A model over three tokens: the last one chooses a row of a table, the logits of the next."""

    device = torch.device("cpu")

    def __init__(self, rows):
        super().__init__()
        self.base_model = Body()
        self.table = torch.nn.Embedding.from_pretrained(torch.tensor(rows).log(), freeze=False)
        self.calls = []

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids, use_cache=None):
        states = self.base_model(input_ids).last_hidden_state
        self.calls.append(tuple(states.shape[:2]))
        return SimpleNamespace(logits=states @ self.table.weight)


@pytest.mark.parametrize(("most", "calls"), [(2**28, 1), (6, 3)])
def test_surprisals_and_ranks_worked_out_by_hand(most, calls, monkeypatch):
    monkeypatch.setattr(analysis, "LOGITS", most)  # 6: two tokens of one sequence at a time
    net = Bigrams([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    # after a 0: 1 (second), then 0 (shares the last places, so the second), then 2 (third)
    passages = [analysis.Passage([2, 0, 1, 0, 2], 2), analysis.Passage([1, 1], 1)]
    sums = analysis.token_sums(net, passages)
    assert sums[0] == pytest.approx([-np.log(0.3 * 0.1 * 0.2), 2 + 2 + 3], rel=1e-5)
    assert sums[1] == pytest.approx([-np.log(0.8), 1], rel=1e-5)
    assert len(net.calls) == calls and max(n * width * 3 for n, width in net.calls) <= most
    monkeypatch.setattr(analysis, "RANK", 2)
    assert analysis.token_sums(net, passages)[:, 1].tolist() == [6, 1]


@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])  # gemma caps its logits
def test_pieces_of_the_logits_give_what_all_of_them_give(kind, monkeypatch):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 211}
    config = AutoConfig.for_model(kind, initializer_range=0.5, **sizes)
    net = AutoModelForCausalLM.from_config(config).eval()
    rng = np.random.default_rng(0)
    lengths = [5, 90, 40, 61]
    passages = [analysis.Passage(rng.integers(3, 200, n).tolist(), n // 3) for n in lengths]
    whole = analysis.token_sums(net, passages)
    for (ids, start), (surprisal, ranks) in zip(passages, whole, strict=True):
        with torch.inference_mode():
            logits = net(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].double()
        targets = torch.tensor(ids[start:])[:, None]
        direct = logits.log_softmax(-1).gather(1, targets).sum().item()
        above = (logits > logits.gather(1, targets)).sum(1).clamp(max=analysis.RANK - 1)
        assert surprisal == pytest.approx(-direct, rel=1e-5)
        assert ranks == pytest.approx(len(targets) + above.sum().item(), abs=2)
    held = []
    net.get_output_embeddings().register_forward_hook(lambda *call: held.append(call[2].numel()))
    monkeypatch.setattr(analysis, "LOGITS", 211 * 16)
    pieces = analysis.token_sums(net, passages)
    assert pieces[:, 0] == pytest.approx(whole[:, 0], rel=1e-5)
    assert pieces[:, 1] == pytest.approx(whole[:, 1], abs=2)
    assert max(held) <= 211 * 16 and len(held) > 10


def test_a_corpus_ratio_is_that_of_the_means_of_its_trajectories():
    rng = random.Random(2)
    texts = [tasks.solution(problem, "random", rng) for problem in asked(6)]
    table = pd.DataFrame({"prompt": [problem.prompt for problem in asked(6)], "text": texts})
    each = analysis.trajectory_scores(STUDENT, table.set_index(pd.Index(range(10, 16))))
    assert each.index.tolist() == list(range(10, 16)) and each["rank"].between(1, 100).all()
    assert each["rsr"].to_numpy() == pytest.approx(each["rank"] / each["surprisal"])
    scores = analysis.corpus_scores(STUDENT, table, 5)
    ratio = each["rank"].mean() / each["surprisal"].mean()
    assert scores["rsr"].value == pytest.approx(ratio) != pytest.approx(each["rsr"].mean())
    assert scores["lalp"] == analysis.lalp(STUDENT, table, 5) and scores["loss"].seconds > 0
    assert scores["grace"] == analysis.grace(STUDENT, table) and scores["grace"].seconds > 0


def test_scores_in_bfloat16_are_near_those_in_float32_and_stored_apart():
    table = pd.DataFrame({"prompt": [problem.prompt for problem in asked(6)], "text": "so 1"})
    full = analysis.corpus_scores(STUDENT, table, 5)
    half = analysis.corpus_scores(STUDENT, table, 5, "bfloat16")
    for name in ("loss", "rsr", "lalp"):
        assert half[name].value != full[name].value
        assert half[name].value == pytest.approx(full[name].value, rel=0.05)
    assert analysis.corpus_scores(STUDENT, table, 5) == full
    states = analysis.hidden_states(STUDENT, asked(2), "bfloat16")
    assert states == pytest.approx(analysis.hidden_states(STUDENT, asked(2)), abs=0.1)


def test_gradients_worked_out_by_hand():
    """With as many dimensions as parameters the projection only turns signs: inner products are
    those of the gradients, rows of probability less the token, over the root of nine."""
    net = Bigrams([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    passages = [
        analysis.Passage([2, 0, 1], 2),
        analysis.Passage([1, 0, 0], 2),
        analysis.Passage([0, 1, 1], 1),
    ]
    gradients = analysis.projected_gradients(net, passages, 9)
    rows = np.zeros((3, 3, 3))
    rows[0, 0] = [0.5, 0.3 - 1, 0.2]
    rows[1, 0] = [0.5 - 1, 0.3, 0.2]
    rows[2, 0], rows[2, 1] = [0.25, -0.35, 0.1], [0.05, -0.1, 0.05]  # halves: a mean of two tokens
    flat = rows.reshape(3, 9) / 3
    assert gradients @ gradients.T == pytest.approx(flat @ flat.T, rel=1e-4)
    assert net.table.weight.grad is None and not net.table.weight._post_accumulate_grad_hooks
    few = analysis.projected_gradients(net, passages, 2)
    assert few.shape == (3, 2) and np.isfinite(few).all()


def test_stability_of_gradients_worked_out_by_hand():
    """The held-out gradient in the direction of the others costs its square over their share of the
    spectrum; a new direction costs about a thousand times as much."""
    share, dimensions = analysis.SMOOTHING, 4
    along = 3 * np.eye(dimensions)[np.zeros(10, int)]
    largest = 1 - share + share / dimensions
    assert analysis.gradient_stability(along) == pytest.approx(9 / largest)
    assert analysis.gradient_stability(2 * along) == pytest.approx(36 / largest)
    each = 3 * np.eye(dimensions)[[0, 1]]  # of two trajectories one is held out, in turn or not
    assert analysis.gradient_stability(each) == pytest.approx(9 / (share / dimensions))
    assert np.isnan(analysis.gradient_stability(each[:1]))


def test_hidden_states_are_those_at_the_last_prompt_token():
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
    questions, pair = asked(12), [STUDENT, "lab:ancestor"]
    assert analysis.latent_shift(STUDENT, STUDENT, questions).value == pytest.approx(0, abs=1e-5)
    there, back = (
        analysis.latent_shift(*pair, questions),
        analysis.latent_shift(*pair[::-1], questions),
    )
    assert there.value == pytest.approx(back.value, rel=1e-4) and there.value > 0.1
    before, after = analysis.latent_plane(pair, questions)
    assert before.shape == after.shape == (12, 2)
    assert np.linalg.norm(before.mean(0) - after.mean(0)) == pytest.approx(there.value, rel=1e-4)
    same, *_ = analysis.latent_plane([*pair, "lab:random"], questions)
    assert same != pytest.approx(before), "the axes are those of all models"


def test_latent_shift_with_all_axes_is_the_distance_of_the_means():
    questions = asked(6)
    before, after = (
        analysis.hidden_states(model, questions) for model in (STUDENT, "lab:ancestor")
    )
    shift = analysis.latent_shift(STUDENT, "lab:ancestor", questions, components=12)
    assert shift.value == pytest.approx(np.linalg.norm(before.mean(0) - after.mean(0)), rel=1e-4)
