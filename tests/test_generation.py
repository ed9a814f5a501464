"""Sampling: the same request gives the same rows, from the right distribution, whatever was
sampled before or beside."""

import itertools
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
from rows import COLUMNS

from ded import generation, models, problems
from ded.errors import EngineError
from ded.generation import transformers
from ded.options import Engine
from ded.problems import Problem

MODEL = "lab:student_1"
pytestmark = pytest.mark.usefixtures("tiny")


def questions(n, source="lab:sum/5-9"):
    return problems.load(source, n, "dev", "generation")


def copies(n, prompt="1 +2 -3 +4 +5 ="):
    """n questions of one text, each with a random stream of its own."""
    return [Problem(f"copy:{i}", "sum", 5, prompt, "2") for i in range(n)]


def sample(asked, n=1, **settings):
    return generation.sample(
        MODEL, asked, n, **{"max_tokens": 12, "temperature": 0.7, "seed": 3} | settings
    )


@pytest.fixture
def calls(monkeypatch):
    """The (first problem, number of problems, sample index) of every shard that is really
    sampled."""
    seen, real = [], transformers.draw_shard

    def counting(model, shard, *rest):
        seen.append((shard.problems[0].id, len(shard.problems), shard.index))
        return real(model, shard, *rest)

    monkeypatch.setattr(transformers, "draw_shard", counting)
    return seen


def logits_after(prompt, *tokens):
    """The model's next-token logits after a rendered prompt and some completion tokens, by one
    plain forward pass."""
    import torch

    ids = models.load_tokenizer(MODEL)(models.render(MODEL, prompt))["input_ids"]
    with torch.inference_mode():
        return (
            models.load(MODEL)(input_ids=torch.tensor([[*ids, *tokens]]))
            .logits[0, len(ids) - 1 :]
            .double()
        )


def fits(tokens, probabilities):
    """Chi-square p-value of drawn token ids against probabilities; tokens expected under 5 times
    count together."""
    from scipy.stats import chisquare

    counts = np.bincount(tokens, minlength=len(probabilities)).astype(float)
    expected = probabilities * len(tokens)
    rare = expected < 5
    if not rare.any() or expected[rare].sum() == 0:
        counts, expected = counts[~rare], expected[~rare]
    else:
        counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


# ---- requests


def test_rows_are_documented_and_in_order():
    asked = questions(5)
    table = sample(asked, 3)
    assert list(table.columns) == COLUMNS
    assert (
        list(table.problem_id) == [p.id for p in asked for _ in range(3)]
        and list(table.sample_index) == [0, 1, 2] * 5
    )
    assert set(table.model) == {MODEL} and set(table.engine) == {"transformers"}
    tok = models.load_tokenizer(MODEL)
    for row in table.itertuples():
        assert row.prompt == {p.id: p.prompt for p in asked}[row.problem_id]
        assert row.text == tok.decode(row.token_ids) and tok.eos_token_id not in row.token_ids


def test_the_same_request_gives_the_same_rows_from_the_store_or_not(calls, monkeypatch, tmp_path):
    first = sample(questions(6), 2)
    assert len(calls) == 2
    pd.testing.assert_frame_equal(sample(questions(6), 2), first)
    assert len(calls) == 2
    monkeypatch.setenv("DED_STORE", str(tmp_path / "another"))
    pd.testing.assert_frame_equal(sample(questions(6), 2), first)
    assert len(calls) == 4
    assert (first.groupby("problem_id").text.nunique() > 1).any()


def test_more_samples_add_to_those_that_are_there(calls):
    few = sample(questions(4), 2)
    more = sample(questions(4), 5)
    assert [index for _, _, index in calls] == [0, 1, 2, 3, 4]
    pd.testing.assert_frame_equal(more[more.sample_index < 2].reset_index(drop=True), few)


def test_samples_drawn_in_one_go_are_those_drawn_one_by_one(monkeypatch, tmp_path):
    """In one go the prompts are read once."""
    asked = questions(6, "lab:sum/5-6") + questions(6, "lab:sort/7")
    for n in (1, 2, 3):
        one_by_one = sample(asked, n)
    passes, forward = [], transformers.Batch.logits
    monkeypatch.setattr(
        transformers.Batch,
        "logits",
        lambda batch: passes.append(batch.tokens.shape[1]) or forward(batch),
    )
    monkeypatch.setenv("DED_STORE", str(tmp_path / "another"))
    pd.testing.assert_frame_equal(sample(asked, 3), one_by_one)
    assert [width for width in passes if width > 1] == passes[:1]


def test_more_problems_keep_whole_shards(calls, monkeypatch):
    monkeypatch.setattr(generation, "SHARD", 4)
    asked = questions(11)
    few = sample(asked[:8])
    assert [n for _, n, _ in calls] == [4, 4]
    more = sample(asked)
    assert [n for _, n, _ in calls] == [4, 4, 3]
    pd.testing.assert_frame_equal(more.head(8), few)
    assert list(more.problem_id) == [p.id for p in asked]


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"temperature": 0.8}, {"top_p": 0.5}, {"max_tokens": 13}]
)
def test_other_settings_are_another_request(calls, change):
    before = sample(questions(3))
    after = sample(questions(3), **change)
    assert len(calls) == 2 and list(after.text) != list(before.text)


def test_a_stream_belongs_to_its_problem_and_index_alone(calls, monkeypatch):
    asked = questions(40)
    together = sample(asked)
    monkeypatch.setattr(generation, "SHARD", 1)
    alone = sample(asked[::-1])
    assert len(calls) == 41
    assert dict(zip(alone.problem_id, alone.text, strict=True)) == dict(
        zip(together.problem_id, together.text, strict=False)
    )


def test_a_higher_limit_continues_what_a_lower_one_cut_off(monkeypatch, tmp_path):
    asked = questions(30)
    at_once = sample(asked, 2, max_tokens=40, temperature=0.9)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "another"))
    short = sample(asked, 2, max_tokens=9, temperature=0.9)
    assert (short.finish_reason == "length").mean() > 0
    given, real = [], transformers.decode
    monkeypatch.setattr(
        transformers, "decode", lambda net, ids, *rest: given.extend(ids) or real(net, ids, *rest)
    )
    longer = sample(asked, 2, max_tokens=40, temperature=0.9)
    cut = short.finish_reason == "length"
    assert len(given) == cut.sum()  # rows that had ended were left alone
    assert {tuple(i[-9:]) for i in given} == {
        tuple(t) for t in short.token_ids[cut]
    }  # the others went on from their tokens
    same = [a == b for a, b in zip(longer.token_ids, at_once.token_ids, strict=True)]
    assert (
        np.mean(same) > 0.9
    )  # one stream a row: what it draws is what it would have drawn (rounding may differ)
    pd.testing.assert_frame_equal(
        longer[same].round({"entropy_sum": 3}), at_once[same].round({"entropy_sum": 3})
    )
    pd.testing.assert_frame_equal(sample(asked, 2, max_tokens=9, temperature=0.9), short)


def test_a_precision_is_another_request(calls):
    sample(questions(2), engine=Engine())
    sample(questions(2), engine=Engine(tensor_parallel=2, gpu_memory=0.5))
    assert len(calls) == 1
    sample(questions(2), engine=Engine(dtype="bfloat16"))
    assert len(calls) == 2


# ---- what is sampled


def test_batches_are_of_like_lengths_and_sizes():
    lengths = [7] * 20 + [5] * 40 + [6] * 3 + [9] * 2
    groups = transformers.groups(lengths, 30)
    assert sorted(i for g in groups for i in g) == list(range(65)) and {len(g) for g in groups} == {
        21,
        22,
    }
    assert all(
        max(lengths[i] for i in one) <= min(lengths[i] for i in two)
        for one, two in itertools.pairwise(groups)
    )
    assert transformers.groups([], 30) == [] and len(transformers.groups(lengths, 65)) == 1


def test_a_batch_is_as_large_as_there_is_room(monkeypatch):
    class Net:
        dtype = np.dtype("float32")

        class config:
            num_hidden_layers, num_attention_heads, num_key_value_heads, hidden_size = 30, 9, 3, 576
            intermediate_size, vocab_size = 1536, 49_152

            @classmethod
            def get_text_config(cls):
                return cls

    bytes_a_row = 2 * 30 * 3 * 64 * 4 * 100
    assert transformers.rows_that_fit(Net, 60, 40) == transformers.ROOM // bytes_a_row == 58
    assert transformers.rows_that_fit(Net, 2_000, 8_000) == transformers.FEWEST
    on_gpu = {}
    for free in (2**30, 2**34):
        monkeypatch.setattr(models, "free_on_gpu", lambda free=free: free)
        on_gpu[free] = [
            transformers.rows_that_fit(Net, *row) for row in ((60, 40), (2_000, 30_000))
        ]
    assert on_gpu == {2**30: [65, 1], 2**34: [1042, 5]}
    assert on_gpu[2**34][0] * bytes_a_row < 2**34 / 2


def test_greedy_is_that_of_transformers(monkeypatch):
    import torch

    asked = questions(24)
    assert (
        len({len(p.prompt.split()) for p in asked}) == 5
    )  # groups of mixed length, so left-padded
    table = sample(asked, temperature=0, max_tokens=20)
    net, tok = models.load(MODEL), models.load_tokenizer(MODEL)
    for problem, row in zip(asked, table.itertuples(), strict=True):
        ids = torch.tensor([tok(models.render(MODEL, problem.prompt))["input_ids"]])
        whole = net.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20
        )[0, ids.shape[1] :].tolist()
        assert row.token_ids == [t for t in whole if t != tok.eos_token_id] and row.n_tokens == len(
            whole
        )


def test_the_first_token_follows_the_models_distribution():
    import torch

    for temperature in (1.0, 0.6):
        table = sample(copies(4000), max_tokens=1, temperature=temperature)
        exact = torch.softmax(logits_after(copies(1)[0].prompt)[0] / temperature, -1).numpy()
        eos = models.load_tokenizer(MODEL).eos_token_id
        assert fits([ids[0] if len(ids) else eos for ids in table.token_ids], exact) > 0.01


def test_the_second_token_follows_the_first():
    import torch

    drawn = [
        tuple(ids)
        for ids in sample(copies(3000), max_tokens=2, temperature=0.5).token_ids
        if len(ids) == 2
    ]
    first = pd.Series([d[0] for d in drawn]).mode()[0]
    second = [d[1] for d in drawn if d[0] == first]
    exact = torch.softmax(logits_after(copies(1)[0].prompt, first)[1] / 0.5, -1).numpy()
    exact[models.load_tokenizer(MODEL).eos_token_id] = 0  # those ended there
    assert len(second) > 100 and fits(second, exact / exact.sum()) > 0.01


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    import torch

    logits = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    uniform = (torch.arange(1000) + 0.5) / 1000
    for top_p, kept in (
        (0.3, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.75, [1, 2, 3]),
        (0.95, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ):
        counts = np.bincount(
            transformers.choose(logits.expand(1000, 4), uniform, 1.0, top_p).numpy(), minlength=4
        )
        expected = np.where(np.isin(range(4), kept), [100, 400, 200, 300], 0)
        assert np.abs(counts - 1000 * expected / expected.sum()).max() <= 1


@pytest.mark.parametrize(
    "options, top_p, kept",
    [
        ({"top_k": 2}, 1.0, [1, 3]),
        ({"top_k": 9}, 1.0, [0, 1, 2, 3]),
        ({"min_p": 0.49}, 1.0, [1, 2, 3]),  # 0.2 is half of 0.4
        ({"min_p": 0.51}, 1.0, [1, 3]),
        ({"top_k": 3, "min_p": 0.7}, 1.0, [1, 3]),
        ({"top_k": 2}, 0.5, [1]),  # of the two, 0.4 of 0.7 reaches a half
        ({"min_p": 1.0}, 1.0, [1]),
    ],
)
def test_top_k_and_min_p_keep_the_likeliest(options, top_p, kept):
    import torch

    logits = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    uniform = (torch.arange(1000) + 0.5) / 1000
    chosen = transformers.choose(logits.expand(1000, 4), uniform, 1.0, top_p, Engine(**options))
    expected = np.where(np.isin(range(4), kept), [100, 400, 200, 300], 0)
    counts = np.bincount(chosen.numpy(), minlength=4)
    assert np.abs(counts - 1000 * expected / expected.sum()).max() <= 1


def test_a_repetition_penalty_counts_what_stands_in_prompt_and_completion():
    table = sample(copies(1), max_tokens=30, temperature=0, engine=Engine(repetition_penalty=3.0))
    asked, (row,) = copies(1)[0], table.itertuples()
    ids, drawn = models.prompt_ids(MODEL, asked.prompt), row.token_ids
    scores = logits_after(asked.prompt, *drawn).numpy().copy()
    for t, token in enumerate(drawn):
        standing = sorted({*ids, *drawn[:t]})
        own = scores[t, standing]
        scores[t, standing] = np.where(own > 0, own / 3, own * 3)
        assert token == scores[t].argmax()
    assert drawn != sample(copies(1), max_tokens=30, temperature=0).token_ids[0]


FILTERS = [{"top_k": 3}, {"min_p": 0.2}, {"repetition_penalty": 1.3}, {"top_k": 5, "min_p": 0.01}]


@pytest.fixture
def thinker(tiny, tmp_path):
    """The model with a template that opens the think block in the prompt."""
    folder = shutil.copytree(tiny / "student_1", tmp_path / "thinker")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<assistant>", "<assistant> <think>"))
    return f"path:{folder}"


@pytest.mark.parametrize("options", [*FILTERS, {"thinking_budget": 9}])
def test_a_row_depends_on_its_request_alone_whatever_is_sampled_from(
    options, thinker, monkeypatch, tmp_path
):
    sample = partial(generation.sample, thinker)
    asked = questions(9)
    settings = {"max_tokens": 30, "temperature": 1.0, "engine": Engine(**options), "seed": 3}
    together = sample(asked, 2, **settings)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "empty"))
    alone = sample(asked[7:3:-2], 1, **settings)
    both = alone.merge(together, on=["problem_id", "sample_index"], suffixes=("", "_too"))
    assert len(both) == len(alone) == 2
    for row in both.itertuples():
        assert list(row.token_ids) == list(row.token_ids_too)
        assert row.finish_reason == row.finish_reason_too
    plain = sample(asked, 2, **settings | {"engine": Engine()})
    assert list(map(list, plain.token_ids)) != list(map(list, together.token_ids))


def test_what_is_sampled_from_is_part_of_the_key_only_where_it_is_set():
    plain = generation.identity(MODEL, Engine())
    assert plain == transformers.identity(MODEL, Engine())
    for options in FILTERS:
        assert generation.identity(MODEL, Engine(**options)) == plain | options


# ---- a thinking budget


def test_thinking_is_closed_by_force_and_the_answer_sampled(calls, thinker):
    sample = partial(generation.sample, thinker, seed=3)
    asked, budget = questions(40), Engine(thinking_budget=8, thinking_end=" </think>\n")
    free = sample(asked, max_tokens=8, temperature=1.0)
    table = sample(asked, max_tokens=40, temperature=1.0, engine=budget)
    tok = models.load_tokenizer(thinker)
    end = tok(" </think>\n", add_special_tokens=False)["input_ids"]
    thinks = (free.finish_reason == "length") & free.text.str.startswith("<think>")
    thinks &= ~free.text.str.contains("</think>")
    assert table.forced.tolist() == thinks.tolist() and thinks.sum() > 5
    for before, after in zip(free.itertuples(), table.itertuples(), strict=True):
        assert list(after.token_ids[:8]) == list(before.token_ids[:8])  # as without a budget
        if after.forced:
            assert list(after.token_ids[8 : 8 + len(end)]) == end
            assert after.text.count("</think>") >= 1 and after.n_tokens <= 40
        assert after.n_tokens == len(after.token_ids) + (after.finish_reason == "stop")
    n_drawn = len(calls)
    longer = sample(asked, max_tokens=60, temperature=1.0, engine=budget)
    assert longer.forced.tolist() == table.forced.tolist()
    for before, after in zip(table.itertuples(), longer.itertuples(), strict=True):
        assert list(after.token_ids[: len(before.token_ids)]) == list(before.token_ids)
    pd.testing.assert_frame_equal(
        sample(asked, max_tokens=40, temperature=1.0, engine=budget), table
    )
    assert len(calls) == n_drawn + 1
    assert generation.drawn(
        thinker, asked, max_tokens=40, temperature=1.0, seed=3, engine=budget
    ) and not generation.drawn(thinker, asked, max_tokens=40, temperature=1.0, seed=3)


def test_a_budget_that_cannot_be_exceeded_is_none(calls):
    free = sample(questions(3), max_tokens=12)
    same = sample(questions(3), max_tokens=12, engine=Engine(thinking_budget=12))
    pd.testing.assert_frame_equal(same, free)
    assert len(calls) == 1


def test_a_budget_that_leaves_no_answer_is_refused(calls):
    fault = "thinking_budget 11 and the 1 tokens that end it leave no answer of max_tokens 12"
    with pytest.raises(EngineError, match=fault):
        sample(questions(3), max_tokens=12, engine=Engine(thinking_budget=11))
    assert not calls
    with pytest.raises(ValueError, match="thinking_end"):
        Engine(thinking_budget=5, thinking_end="so")  # closes nothing


def test_inverse_transform_gives_every_token_its_share():
    import torch

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)) * 2
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    for temperature in (1.0, 0.4):
        chosen = transformers.choose(logits.expand(20_000, 50), uniform, temperature, 1.0)
        exact = torch.softmax(logits[0].double() / temperature, -1).numpy()
        assert np.abs(np.bincount(chosen.numpy(), minlength=50) - 20_000 * exact).max() <= 1.01


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-53])
def test_the_ends_of_the_noise_draw_only_tokens_that_can_be(extreme):
    """Noise that rounds to 1 would draw the last token of the vocabulary, possible or not."""
    net, tok = models.load(MODEL), models.load_tokenizer(MODEL)
    ids = [tok(models.render(MODEL, "1 +2 ="))["input_ids"]]
    probabilities = np.exp(logits_after("1 +2 =")[0].numpy())
    found = transformers.decode(net, ids, np.array([[extreme]]), 1.0, 0.5, tok)[0]["token_ids"]
    top = np.argsort(-probabilities, kind="stable")
    kept = top[: int((probabilities[top].cumsum() / probabilities.sum() < 0.5).sum()) + 1]
    assert found[0] in kept and found[0] == (kept.min() if extreme == 0 else kept.max())


# ---- what is said about it


def test_finish_reasons_and_lengths():
    table = sample(copies(300), max_tokens=60, temperature=1.0)
    stopped = table[table.finish_reason == "stop"]
    cut = table[table.finish_reason == "length"]
    assert len(stopped) > 20 and len(cut) > 20 and len(stopped) + len(cut) == 300
    assert (stopped.n_tokens == stopped.token_ids.map(len) + 1).all()  # the end token counts
    assert (cut.n_tokens == 60).all() and (cut.token_ids.map(len) == 60).all()
    assert stopped.n_tokens.nunique() > 5


@pytest.mark.parametrize("padded", [False, True])
def test_entropy_is_that_of_the_distributions_passed(padded):
    import torch

    asked = questions(8) if padded else copies(8)
    table = sample(asked, max_tokens=40, temperature=0.9)
    eos = models.load_tokenizer(MODEL).eos_token_id
    for problem, row in zip(asked, table.itertuples(), strict=True):
        logits = logits_after(problem.prompt, *row.token_ids)[: row.n_tokens]
        exact = torch.distributions.Categorical(logits=logits).entropy().sum().item()
        assert row.entropy_sum == pytest.approx(exact, abs=2e-4) and len(logits) == row.n_tokens
        assert (row.finish_reason == "stop") == (
            row.n_tokens == len(row.token_ids) + 1
        ) and eos not in row.token_ids


def test_rows_that_end_leave_the_others_as_they_were():
    """Rows of one batch end at different times; each continues as it would alone."""
    net, tok = models.load(MODEL), models.load_tokenizer(MODEL)
    ids = [tok(models.render(MODEL, p.prompt))["input_ids"] for p in questions(30)]
    noise = np.random.default_rng(0).random((30, 50))
    together = transformers.decode(net, ids, noise, 0.8, 0.95, tok)
    assert len({r["n_tokens"] for r in together}) > 5
    for i in range(30):
        alone = transformers.decode(net, ids[i : i + 1], noise[i : i + 1], 0.8, 0.95, tok)[0]
        assert (
            alone["token_ids"] == together[i]["token_ids"]
            and alone["finish_reason"] == together[i]["finish_reason"]
        )
        assert alone["entropy_sum"] == pytest.approx(together[i]["entropy_sum"], abs=1e-3)
