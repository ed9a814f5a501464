"""What every engine promises (`ded.generation.engines`), asked of each in turn. vLLM's is
skipped where it is not installed, unless DED_REQUIRE_VLLM is set."""

import json
import math
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec

import pandas as pd
import pytest
import servers
from rows import COLUMNS

from ded import generation, models, problems, store
from ded.errors import EngineError
from ded.models import ModelError
from ded.options import Engine

SHORT, LONG, N = 6, 40, 3


@dataclass(frozen=True)
class Case:
    """An engine, ready to draw: `absent` is a model that it cannot; `measures`, `samples`: it
    gives entropies; it draws at random."""

    name: str
    model: str
    absent: str
    engine: Engine = Engine()
    measures: bool = True
    samples: bool = True


def traces(folder, asked):
    file = folder / "traces.jsonl"
    rows = [
        {"question": p.prompt, "text": f"<think> {i} </think> {i}"} for p in asked for i in range(N)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"recorded:{file}"


@pytest.fixture(scope="module")
def asked():
    return problems.load("lab:sum/5-9", 12, "dev", "engines")


@pytest.fixture(scope="module", params=["transformers", "vllm", "openai", "recorded"])
def case(request, tiny_models, asked, tmp_path_factory):
    name, folder = request.param, tmp_path_factory.mktemp("engine")
    if name == "vllm" and not find_spec("vllm") and not os.environ.get("DED_REQUIRE_VLLM"):
        pytest.skip("vLLM is not installed")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DED_LAB", str(tiny_models))
        patch.setenv("DED_STORE", str(folder / "store"))
        patch.setattr(generation, "SHARD", 8)  # two shards a sample
        if name == "openai":
            server = stack.enter_context(servers.toy())
            yield Case(
                name, "openai:toy", "openai:nobody", Engine(base_url=server.url, concurrency=4)
            )
        elif name == "recorded":
            yield Case(
                name,
                traces(folder, asked),
                f"recorded:{folder}/none.jsonl",
                measures=False,
                samples=False,
            )
        else:
            yield Case(name, "lab:student_1", "path:" + str(folder), Engine(name=name))


def sample(case, asked, n=N, **settings):
    return generation.sample(
        case.model,
        asked,
        n,
        **{"max_tokens": SHORT, "temperature": 1.0, "seed": 5, "engine": case.engine} | settings,
    )


@pytest.fixture(scope="module")
def drawn(case, asked):
    return sample(case, asked)


@pytest.fixture
def own_store(drawn, tmp_path, monkeypatch):
    """A copy of the store that holds `drawn`, for one test."""
    shutil.copytree(store.root(), tmp_path / "copy")
    monkeypatch.setenv("DED_STORE", str(tmp_path / "copy"))


@pytest.fixture
def given(case, monkeypatch):
    """(first problem, sample index) of each shard that the engine is asked to draw."""
    seen, module = [], generation.engine_of(case.model, case.engine)
    real = module.draw

    def draw(model, shards, *rest):
        seen.extend((s.problems[0].id, s.index) for s in shards)
        return real(model, shards, *rest)

    monkeypatch.setattr(module, "draw", draw)
    return seen


def test_rows_are_as_documented(case, drawn, asked):
    assert list(drawn.columns) == COLUMNS
    assert list(drawn.problem_id) == [p.id for p in asked for _ in range(N)] and list(
        drawn.sample_index
    ) == [*range(N)] * len(asked)
    assert set(drawn.model) == {case.model} and set(drawn.engine) == {case.name}
    assert dict(zip(drawn.problem_id, drawn.prompt, strict=True)) == {p.id: p.prompt for p in asked}
    assert all(isinstance(t, str) for t in drawn.text) and set(drawn.finish_reason) <= {
        "stop",
        "length",
    }
    for row in drawn[drawn.n_tokens.notna()].itertuples():
        assert row.n_tokens == len(row.token_ids) + (row.finish_reason == "stop") <= SHORT
        assert row.finish_reason == "stop" or row.n_tokens == SHORT
    if case.samples:
        assert drawn.n_tokens.notna().all() and "length" in set(drawn.finish_reason)
        assert (
            drawn.groupby("problem_id").text.nunique() > 1
        ).mean() > 0.5  # the samples of a problem are draws of their own
    if case.name in ("transformers", "vllm"):
        assert list(drawn.text) == models.load_tokenizer(case.model).batch_decode(
            list(drawn.token_ids)
        )


def test_what_is_measured_is_within_its_bounds_and_what_is_not_is_nan(case, drawn):
    if not case.measures:
        assert drawn.entropy_sum.isna().all() and drawn.missing_mass.isna().all()
        return
    vocabulary = (
        servers.VOCABULARY if case.name == "openai" else len(models.load_tokenizer(case.model))
    )
    assert (
        drawn.entropy_sum.gt(0).all()
        and (drawn.entropy_sum <= drawn.n_tokens * math.log(vocabulary) + 1e-3).all()
    )
    assert drawn.missing_mass.ge(0).all() and (drawn.missing_mass < drawn.n_tokens).all()


def test_what_is_there_is_not_drawn_again(case, drawn, asked, own_store, given):
    pd.testing.assert_frame_equal(sample(case, asked), drawn)
    assert given == []
    for entry in (
        e for e in store.root().glob("??/*") if len(pd.read_parquet(e / "table.parquet")) < 8
    ):  # the second shard of each sample
        shutil.rmtree(entry)
    again = sample(case, asked)
    assert given == [(asked[8].id, index) for index in range(N)]
    same_draws(again, drawn)


def test_a_row_depends_on_nothing_but_its_request(case, drawn, asked, monkeypatch, tmp_path):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "empty"))
    some = [*asked[7:2:-1], asked[0]]  # other company, another order, fewer samples
    alone = sample(case, some, 2)
    before = drawn[drawn.problem_id.isin([p.id for p in some]) & (drawn.sample_index < 2)]
    before = before.assign(
        order=before.problem_id.map({p.id: i for i, p in enumerate(some)})
    ).sort_values(["order", "sample_index"])
    same_draws(alone, before.drop(columns="order").reset_index(drop=True))


def same_draws(left, right):
    """Equal, save that another batch may round entropies otherwise."""
    pd.testing.assert_frame_equal(
        left.round({"entropy_sum": 3, "missing_mass": 3}),
        right.round({"entropy_sum": 3, "missing_mass": 3}),
        atol=2e-3,
    )


def test_a_higher_limit_goes_on_where_a_lower_one_cut_off(case, drawn, asked, own_store):
    if not case.samples:
        pytest.skip("a record is as long as it is")
    longer = sample(case, asked, max_tokens=LONG)
    ended = drawn.finish_reason == "stop"
    pd.testing.assert_frame_equal(longer[ended], drawn[ended])
    for before, after in zip(drawn[~ended].itertuples(), longer[~ended].itertuples(), strict=True):
        assert after.token_ids[:SHORT] == before.token_ids and SHORT < after.n_tokens <= LONG
        assert after.n_tokens == len(after.token_ids) + (after.finish_reason == "stop")
        assert after.text.startswith(before.text) and after.entropy_sum > before.entropy_sum
        assert after.finish_reason == "stop" or after.n_tokens == LONG
    assert len({tuple(t[SHORT:]) for t in longer.token_ids[~ended]}) > 1
    pd.testing.assert_frame_equal(sample(case, asked), drawn)  # the shorter draw is still there


def test_the_likeliest_token_alone_is_the_greedy_one(case, asked, own_store):
    if case.name not in ("transformers", "vllm"):
        pytest.skip("others sample elsewhere")
    first = case.engine.model_copy(update={"top_k": 1})
    likeliest = sample(case, asked, 1, engine=first)
    greedy = sample(case, asked, 1, temperature=0.0)
    assert list(map(list, likeliest.token_ids)) == list(map(list, greedy.token_ids))


def test_a_thinking_budget_ends_the_thinking(case, asked, own_store, tmp_path):
    if case.name not in ("transformers", "vllm"):
        pytest.skip("others sample elsewhere")
    folder = shutil.copytree(models.locate(case.model), tmp_path / "thinks")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<assistant>", "<assistant> <think>"))
    model, engine = f"path:{folder}", case.engine.model_copy(update={"thinking_budget": SHORT})
    table = generation.sample(model, asked, max_tokens=LONG, seed=5, engine=engine)
    assert list(table.columns) == [*COLUMNS, "forced"] and table.forced.sum() > 0
    closed = table[table.forced]
    assert (
        closed.text.str.startswith("<think>").all() and closed.text.str.contains("</think>").all()
    )
    assert (table.n_tokens <= LONG).all()


class Echo:
    """An engine that gives every prompt back."""

    @staticmethod
    def identity(model, engine):
        return {"engine": "echo", "model": models.fingerprint(model)}

    @staticmethod
    def draw(model, shards, settings, engine):
        for shard in shards:
            row = {"token_ids": [], "n_tokens": 1, "entropy_sum": 0.0, "missing_mass": 0.0}
            rows = [row | {"text": p.prompt, "finish_reason": "stop"} for p in shard.problems]
            yield shard, shard.table(rows)


def test_a_new_engine_is_a_module_and_a_line(tiny, asked, monkeypatch):
    monkeypatch.setitem(generation.ENGINES, "echo", Echo)
    engine = Engine(name="echo")
    table = generation.sample("lab:student_1", asked, 2, max_tokens=SHORT, engine=engine)
    assert list(table.columns) == COLUMNS and set(table.engine) == {"echo"}
    assert list(table.text) == [p.prompt for p in asked for _ in range(2)]


def test_a_model_that_is_not_there_is_one_clear_error(case, asked):
    with pytest.raises((ModelError, EngineError)) as caught:
        generation.sample(case.absent, asked, max_tokens=4, engine=case.engine)
    assert case.absent in str(caught.value) and len(str(caught.value)) < 400
