"""Endpoints: every row is paid for once, whatever the server and the machine do; the key is
nowhere."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import servers

from ded import checking, generation, home, models, params, store, study
from ded.errors import EngineError
from ded.generation import journal, openai
from ded.generation.engines import Shard
from ded.models import ModelError, endpoint
from ded.models.endpoint import Endpoint
from ded.options import Engine, Grading
from ded.problems import Problem

MODEL, KEY = "openai:toy", "sk-very/secret+123"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(endpoint, "WAIT", 0.005)
    with servers.toy() as server:
        yield server


def questions(n):
    return [Problem(f"q:{i}", "q", 1, f"question {i}", "1") for i in range(n)]


def sample(server, asked=4, n=1, model=MODEL, engine=None, **settings):
    options = Engine(**{"base_url": server.url, "concurrency": 4, "timeout": 30.0} | (engine or {}))
    return generation.sample(
        model,
        questions(asked),
        n,
        **{"max_tokens": 12, "temperature": 1.0, "engine": options} | settings,
    )


def body_of(prompt):
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": 3}


def journals():
    return sorted((store.root() / "journal").glob("*.jsonl"))


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("]")]


# ---- what comes back


def test_rows_are_those_that_the_server_gave(toy):
    table = sample(toy, 6, 2, max_tokens=12)
    assert set(table.engine) == {"openai"} and set(table.model) == {MODEL} and not journals()
    assert (
        list(table.problem_id) == [f"q:{i}" for i in range(6) for _ in range(2)]
        and list(table.sample_index) == [0, 1] * 6
    )
    assert set(table.finish_reason) == {"stop", "length"} and len(toy.asked) == 12
    assert len({body["seed"] for body in toy.asked}) == 12
    seeds = {(b["messages"][0]["content"], b["seed"]) for b in toy.asked}
    for row in table.itertuples():
        possible = [
            list(servers.stream(servers.encode(row.prompt), seed, 12))
            for prompt, seed in seeds
            if prompt == row.prompt
        ]
        drawn = next(
            p for p in possible if [t for t, _ in p if t] == row.token_ids
        )  # without the end token
        assert row.n_tokens == len(drawn) and (row.finish_reason == "stop") == (
            drawn[-1][0] == servers.EOS
        )
        assert row.text == " ".join(servers.WORDS[t] for t in row.token_ids)
        top = [np.sort(np.array(logs))[-20:] for _, logs in drawn]
        assert row.entropy_sum == pytest.approx(-sum((np.exp(p) * p).sum() for p in top), abs=1e-4)
        assert row.missing_mass == pytest.approx(sum(1 - np.exp(p).sum() for p in top), abs=1e-4)
    assert len(sample(toy, 6, 2, max_tokens=12)) == 12 and len(toy.asked) == 12  # from the store


def test_how_a_model_is_prompted_is_sent(toy):
    model = f"{MODEL}?{{thinking: false, reasoning_effort: low, system_prompt: Be brief.}}"
    sample(toy, 1, model=model, max_tokens=4)
    sample(toy, 1, model=model, max_tokens=9)  # goes on, from the tokens of the same prompt
    chats = [body for body in toy.asked if "messages" in body]
    assert len(chats) >= 2 and {body["model"] for body in toy.asked} == {MODEL.partition(":")[2]}
    for body in chats:
        assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
        assert body["messages"][0]["content"] == "Be brief."
        switches = {"enable_thinking": False, "thinking": False}
        assert body["chat_template_kwargs"] == switches | {"reasoning_effort": "low"}


def test_what_is_sampled_from_is_sent_where_it_is_set(toy):
    sample(toy, 1, engine={"top_k": 20, "min_p": 0.05})
    sample(toy, 1, engine={})
    assert [{k: body.get(k) for k in ("top_k", "min_p")} for body in toy.asked] == [
        {"top_k": 20, "min_p": 0.05},
        {"top_k": None, "min_p": None},
    ]
    for use in (sample, lambda toy, engine: models.check(MODEL, engine=Engine(**engine))):
        with pytest.raises(ModelError, match=r"engine.thinking_budget must be 0"):
            use(toy, engine={"base_url": toy.url, "thinking_budget": 5})


def test_what_a_server_does_not_say_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    with servers.toy(tokens=False) as server:
        table = sample(server, engine={"entropy_top": 0})
        assert not any("logprobs" in body for body in server.asked)
        assert (
            table.entropy_sum.isna().all()
            and table.missing_mass.isna().all()
            and [len(t) for t in table.token_ids] == [0] * 4
        )
    reply = {
        "choices": [
            {
                "message": {"content": "x"},
                "finish_reason": "stop",
                "logprobs": {"content": [{"top_logprobs": [{"logprob": -1.0}]}] * 3},
            }
        ]
    }
    assert math.isnan(openai.from_reply(reply)["n_tokens"]) and math.isnan(
        openai.from_reply(reply)["entropy_sum"]
    )
    for n, measured in (
        (3, True),
        (4, True),
        (9, False),
    ):  # of hidden reasoning there are no log-probabilities
        assert (
            math.isfinite(
                openai.from_reply(reply | {"usage": {"completion_tokens": n}})["entropy_sum"]
            )
            == measured
        )


@pytest.mark.parametrize(
    "message, finish, text",
    [
        (
            {"content": "\n\n7", "reasoning_content": "\nthree and four\n"},
            "stop",
            "<think>\nthree and four\n</think>\n7",
        ),
        ({"content": "7", "reasoning": "three"}, "stop", "<think>\nthree\n</think>\n7"),
        (
            {"content": None, "reasoning": "three and "},
            "length",
            "<think>\nthree and ",
        ),  # cut inside: stays open
        (
            {"content": "three\n</think>\n\n7"},
            "stop",
            "<think>\nthree\n</think>\n\n7",
        ),  # the template had opened it
        ({"content": " <think> three </think> 7"}, "stop", "<think> three </think> 7"),
        ({"content": None}, "stop", ""),
    ],
)
def test_reasoning_is_put_together_again(toy, message, finish, text):
    toy.message, toy.finish = message, finish
    row = sample(toy, 1).iloc[0]
    assert row.text == text and row.finish_reason == finish


def test_a_filtered_answer_is_empty_and_counted(toy, caplog):
    toy.finish, toy.message = "content_filter", {"content": "half of"}
    with caplog.at_level(logging.INFO, logger="ded"):
        table = sample(toy, 3)
    assert set(table.text) == {""} and set(table.finish_reason) == {"stop"}
    assert "'finish_reason content_filter, counted as stop': 3" in caplog.text


@pytest.mark.parametrize(
    "finish, kept",
    [("eos", "stop"), ("model_length", "length"), ("tool_calls", "stop"), ("repetition", "stop")],
)
def test_other_names_of_an_end_keep_their_text(toy, finish, kept):
    toy.finish, toy.message = finish, {"content": "three \ud83d"}
    row = sample(toy, 1).iloc[0]
    assert (
        row.finish_reason == kept and row.text == "three ?"
    )  # half a surrogate pair could not be stored


def test_as_many_requests_at_once_as_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    with servers.toy(delay=0.05) as server:
        sample(server, 6, 3, engine={"concurrency": 5})
        assert server.most == 5
        sample(server, 2, 1, engine={"concurrency": 500}, seed=1)


# ---- servers that misbehave


@pytest.mark.parametrize(
    "act",
    [
        "drop",
        "half",
        "empty",
        "stall",
        (429, {"Retry-After": "0.01"}, "slow down"),
        (429, {}, "{}"),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, ""),
        (500, {}, "oops"),
        (503, {}, "loading"),
        (200, {}, "[]"),
        (200, {}, '{"choices": [{"message": null}]}'),
        (200, {}, '{"choices": [{"message": {"content": "x"}}]}'),
        *(
            (
                200,
                {},
                f'{{"choices": [{{"message": {{"content": "x"}}, "finish_reason": {f}}}]}}',
            )
            for f in ('"abort"', '"error"', "null")
        ),
    ],
)
def test_what_passes_is_tried_again(toy, act):
    toy.script.extend([act] * 3)
    table = sample(toy, 5, engine={"timeout": 0.5})
    assert len(toy.asked) == 5 + 3 and (table.n_tokens > 0).all()
    clean = {(b["messages"][0]["content"], b["seed"]) for b in toy.asked}
    assert len(clean) == 5  # a request tried again is the same request


def test_retry_after_is_kept_to(toy):
    toy.script.append((429, {"Retry-After": "0.4"}, ""))
    sample(toy, 1)
    assert len(toy.times) == 2 and toy.times[1] - toy.times[0] >= 0.4


def test_waits_double(monkeypatch, toy):
    waits = []
    monkeypatch.setattr(endpoint, "WAIT", 2.0)
    toy.script.extend([(500, {}, "")] * 5)
    server = Endpoint(MODEL, Engine(base_url=toy.url))
    server.ended = SimpleNamespace(wait=waits.append)
    server.post("chat/completions", body_of("x"), dict)
    assert [low <= w <= low + 2 for w, low in zip(waits, (2, 4, 8, 16, 32), strict=True)] == [
        True
    ] * 5


def test_it_gives_up_and_a_later_run_goes_on(toy):
    real = toy.RequestHandlerClass.answer
    allowed = threading.Semaphore(7)

    def dies(handler, body, act):
        return real(
            handler, body, None if allowed.acquire(blocking=False) else (500, {}, "out of order")
        )

    toy.RequestHandlerClass = type("Dies", (toy.RequestHandlerClass,), {"answer": dies})
    with pytest.raises(EngineError) as error:
        sample(toy, 10, 2)
    for part in (
        toy.url,
        "HTTP 500",
        "out of order",
        "7 of 20 rows are stored",
        "run again",
        "tried 6 times",
        "problem 'q:",
    ):
        assert part in str(error.value)
    assert (
        len(toy.paid) == 7 and len(toy.asked) <= 7 + 4 * endpoint.TRIES
    )  # nothing new after the first failure
    assert len(journals()) == 1 and not list(store.root().rglob("table.parquet"))
    for _ in range(100):
        allowed.release()
    table = sample(toy, 10, 2)
    assert (
        len(toy.paid) == 20 == len({(b["messages"][0]["content"], b["seed"]) for b in toy.paid})
        and len(table) == 20
        and not journals()
    )


@pytest.mark.parametrize(
    "status, body, parts",
    [
        (401, "no such key", ["HTTP 401", "no such key", "engine.api_key_env"]),
        (403, "not for you", ["HTTP 403"]),
        (405, "", ["HTTP 405"]),
        (
            400,
            "max_tokens=12 cannot be greater than the context",
            ["HTTP 400", "max_tokens=12", "lower max_tokens", "problem 'q:0'"],
        ),
        (
            400,
            "temperature must be 1",
            ["temperature must be 1", "set the parameter that it names"],
        ),
    ],
)
def test_what_does_not_pass_fails_at_once(toy, status, body, parts):
    toy.script.extend([(status, {}, body)] * 20)
    with pytest.raises(EngineError) as error:
        sample(toy, 1)
    assert (
        all(p in str(error.value) for p in [*parts, toy.url, "0 of 1 rows"]) and len(toy.asked) <= 2
    )


def test_a_model_that_is_not_served_lists_those_that_are(toy):
    with pytest.raises(
        EngineError, match=r"HTTP 404.*correct the model's name.*it serves models/other, toy"
    ):
        sample(toy, 1, model="openai:tyo")


def test_fields_that_a_server_refuses_are_left_out(toy, caplog):
    toy.refused = {
        "seed": 'Unknown name "seed": cannot find field.',
        "return_token_ids": "extra fields not permitted",
    }
    table = sample(toy, 3, engine={"concurrency": 1})
    named, unnamed, *rest = toy.asked
    assert "seed" in named and "seed" not in unnamed and "return_token_ids" in unnamed
    # the second refusal names nothing: all that is optional goes, what decides the result stays
    assert [set(b) for b in rest] == [
        {"model", "messages", "max_tokens", "temperature", "top_p"}
    ] * 3 and len(table) == 3
    assert caplog.text.count("refuses seed, so") == 1 and table.entropy_sum.isna().all()


def test_a_refusal_of_something_else_takes_nothing_away(toy):
    server = Endpoint(MODEL, Engine(base_url=toy.url))
    body = body_of("x") | {"seed": 1, "logprobs": True, "top_logprobs": 2}
    toy.script.extend([(400, {}, "the prompt is too long")] * 2)
    with pytest.raises(EngineError, match="too long"):
        server.post("chat/completions", body, dict)
    server.post("chat/completions", body, dict)
    assert toy.asked[-1] == body | {"model": "toy"} and len(toy.asked) == 3


@pytest.mark.slow
def test_ded_check_asks_the_endpoint(toy, monkeypatch):
    changes = {"teachers": ["lab:left", MODEL, "openai:tyo"], "engine": {"base_url": toy.url}}
    changed = params.checked("lab", "01_teacher_selection", changes)
    monkeypatch.setattr(params, "checked", lambda *_: changed)
    found = checking.check("lab", ["01"]).set_index("item")
    assert (
        found.loc[f"model {MODEL}", "ok"]
        and not found.loc["model openai:tyo", "ok"]
        and "serves models/other" in found.loc["model openai:tyo", "note"]
    )


def test_the_new_name_of_max_tokens(toy):
    toy.refused = {
        "max_tokens": "'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead."
    }
    sample(toy, 3, engine={"concurrency": 1})
    assert [b.get("max_completion_tokens") for b in toy.asked] == [None, 12, 12, 12] and all(
        "seed" in b for b in toy.asked
    )


# ---- nothing is paid for twice


RUN = """
    import sys
    sys.path.insert(0, {tests!r})
    from test_openai import sample, servers
    from types import SimpleNamespace
    sample(SimpleNamespace(url={url!r}), 40, 2)
"""


def test_rows_outlive_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    with servers.toy(delay=0.03) as server:
        code = textwrap.dedent(RUN.format(tests=os.path.dirname(__file__), url=server.url))
        run = subprocess.Popen([sys.executable, "-c", code])
        while len(server.paid) < 25 and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        time.sleep(0.1)
        before = len(server.paid)
        kept = sum(map(len, map(rows_of, journals())))
        assert 25 - 4 <= before - 4 <= kept < 80  # at most those under way (concurrency 4) are lost
        with journals()[0].open("a") as half:
            half.write('\n[5, {"text": "half a l')
        server.delay = 0
        assert len(sample(server, 40, 2)) == 80
        assert len(server.paid) == before + 80 - kept and not journals()


def test_two_processes_that_ask_for_the_same_pay_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    with servers.toy(delay=0.01) as server:
        tables = []
        both = [
            threading.Thread(target=lambda: tables.append(sample(server, 20))) for _ in range(2)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert len(server.paid) == 20 and server.most <= 4 and tables[0].equals(tables[1])


def test_leaving_early_stops_the_requests(toy, monkeypatch):
    monkeypatch.setattr(generation, "SHARD", 2)
    real = store.table

    def interrupted(key, compute):
        real(key, compute)
        raise KeyboardInterrupt

    toy.delay = 0.02
    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt) as kept,
    ):  # as a notebook keeps the last traceback
        patch.setattr(store, "table", interrupted)
        sample(toy, 40)
    time.sleep(0.2)
    paid = len(toy.paid)
    time.sleep(0.2)
    assert len(toy.paid) == paid < 30
    sample(toy, 40)
    assert len(toy.paid) == 40 and kept.tb  # those under way at the interrupt were kept too


def test_a_disk_that_is_full(toy):
    sample(toy, 3)
    (shard,) = [f.parent.name for f in store.root().rglob("table.parquet")]
    for file in store.root().rglob("*.parquet"):
        file.unlink()
    (store.root() / "journal" / f"{shard}.jsonl").mkdir()  # what cannot be written, for root too
    with pytest.raises(EngineError, match="0 of 3 rows are stored; run again"):
        sample(toy, 3)


def test_half_a_line_spoils_no_other(toy):
    shard = Shard("key", [], 0)
    journal.add(shard, 0, {"text": "a"})
    with journal.file_of(shard).open("a") as half:
        half.write('\n[1, {"text": "half a l')
    journal.add(shard, 2, {"text": "b\n"})
    assert journal.read(shard) == {0: {"text": "a"}, 2: {"text": "b\n"}}


def test_a_finished_study_needs_its_endpoint_no_more(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path))
    monkeypatch.setattr(endpoint, "WAIT", 0.005)
    with servers.toy() as server:
        p = SimpleNamespace(
            students=[],
            teachers=[MODEL],
            engine=Engine(base_url=server.url),
            grading=Grading(),
            arms=[],
            n_replicates=1,
        )
        server.script.extend([(401, {}, "")] * 9)
        with pytest.raises(EngineError):
            sample(server, 2)
        server.script.clear()
        server.listing = (401, {}, "")
        with pytest.raises(ModelError, match="HTTP 401"):  # nothing was drawn yet
            study.describe(p, None)
        sample(server, 2)
    with pytest.warns(UserWarning, match="nothing answers.*is used"):
        study.describe(p, SimpleNamespace(model=lambda *_: None))
    assert len(sample(server, 2)) == 2
    with pytest.raises(EngineError, match=r"does not answer.*0 of 1 rows"):
        sample(server, 1)


# ---- a higher max_tokens


def test_cut_rows_go_on_from_their_tokens(toy, tmp_path, monkeypatch):
    short = sample(toy, 20, max_tokens=4, temperature=0)
    cut = short.finish_reason == "length"
    assert 0 < cut.sum() < 20
    toy.asked.clear()
    long = sample(toy, 20, max_tokens=25, temperature=0)
    again = [b for b in toy.asked if "prompt" in b]
    assert sorted(tuple(b["prompt"][-4:]) for b in again) == sorted(
        map(tuple, short.token_ids[cut])
    )
    assert {b["max_tokens"] for b in again} == {21} and len(
        toy.asked
    ) == 2 * cut.sum()  # each asks for its prompt's tokens first
    assert all(b["max_tokens"] == 1 for b in toy.asked if "messages" in b)
    assert long[~cut].equals(short[~cut])
    monkeypatch.setenv("DED_STORE", str(tmp_path / "another"))
    at_once = sample(toy, 20, max_tokens=25, temperature=0)
    assert long.round(4).equals(at_once.round(4))


def test_the_seed_of_a_continued_row_is_another(toy):
    sample(toy, 3, max_tokens=2)
    first = {b["seed"] for b in toy.asked}
    sample(toy, 3, max_tokens=9)
    assert not first & {b["seed"] for b in toy.asked if "prompt" in b}


def test_without_token_ids_cut_rows_stay_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    with servers.toy(tokens=False) as server:
        short = sample(server, 10, 2, max_tokens=4)
        cut = (short.finish_reason == "length").sum()
        paid = len(server.paid)
        with pytest.warns(
            UserWarning,
            match=f"{cut} rows that a lower max_tokens cut off stay truncated.*another seed",
        ) as seen:
            long = sample(server, 10, 2, max_tokens=9)
        assert (
            len(server.paid) == paid
            and cut > 0
            and sum("truncated" in str(w.message) for w in seen) == 1
        )
        assert long.equals(short)


# ---- before any work


def test_what_can_be_told_before_any_work(toy, monkeypatch):
    here = Engine(base_url=toy.url)
    models.check(MODEL, engine=here)
    models.check("openai:other", engine=here)
    with pytest.raises(
        ModelError, match="serves no model of this name; it serves models/other, toy"
    ):
        models.check("openai:tyo", engine=here)
    with pytest.raises(ModelError, match=r"set engine.base_url"):
        models.check(MODEL, engine=Engine())
    with pytest.raises(ModelError, match=r"ConnectError.*start the server"):
        models.check(MODEL, engine=Engine(base_url="http://127.0.0.1:9/v1"))
    models.check("openai:toy:nitro", engine=here)
    with pytest.raises(ModelError, match="can be a teacher, but not be trained"):
        models.check(MODEL, ("sample", "train"), engine=here)
    for value in ("", "two\nlines"):
        monkeypatch.setenv("TOY_KEY", value)
        for call in (models.check, lambda spec, engine: sample(toy, engine=engine.model_dump())):
            with pytest.raises(ModelError, match=r"TOY_KEY.*holds no key") as error:
                call(MODEL, engine=Engine(base_url=toy.url, api_key_env="TOY_KEY"))
            assert "lines" not in str(error.value)
    assert not toy.asked


@pytest.mark.parametrize(
    "listed, asked, message",
    [
        ((401, {}, "who?"), None, "HTTP 401.*engine.api_key_env"),
        ((404, {}, "nothing"), (404, {}, "nothing"), "HTTP 404.*most end in /v1"),
        ((200, {}, "<html>"), (405, {}, ""), "HTTP 405.*most end in /v1"),
        ((502, {}, ""), (503, {}, "loading"), "HTTP 503.*loading"),
        (
            (307, {"Location": "https://x"}, ""),
            (307, {"Location": "https://x"}, ""),
            "HTTP 307.*https",
        ),
        ((404, {}, ""), (400, {}, "no messages"), None),
        ((200, {}, "[]"), (422, {}, ""), None),
        ((429, {}, ""), (429, {}, ""), None),
    ],
)
def test_a_server_that_lists_nothing_is_asked_whether_it_is_one(toy, listed, asked, message):
    toy.listing = listed
    toy.script.extend([asked] if asked else [])
    if message:
        with pytest.raises(ModelError, match=message):
            models.check(MODEL, engine=Engine(base_url=toy.url))
    else:
        models.check(MODEL, engine=Engine(base_url=toy.url))
    assert len(toy.asked) == (asked is not None) and not toy.paid


def test_an_endpoint_is_known_by_its_model_and_place(toy):
    assert openai.identity(MODEL, Engine(base_url=toy.url + "/")) == openai.identity(
        MODEL, Engine(base_url=toy.url, concurrency=1, timeout=1.0)
    )
    assert openai.identity(MODEL, Engine(base_url=toy.url)) != openai.identity(
        MODEL, Engine(base_url="http://localhost:1/v1")
    )
    assert openai.identity(MODEL, Engine(base_url=toy.url)) != openai.identity(
        "openai:other", Engine(base_url=toy.url)
    )


# ---- the key


def test_the_key_is_sent_and_is_nowhere(toy, monkeypatch, caplog, capfd):
    monkeypatch.setenv("TOY_KEY", f"{KEY}\n")
    told = ModelError, EngineError
    with caplog.at_level(logging.DEBUG):
        sample(toy, 2, engine={"api_key_env": "TOY_KEY"})
        assert {h["Authorization"] for h in toy.given} == {f"Bearer {KEY}"}
        messages = []
        for status in (401, 400, 500, 200):  # the server quotes it
            toy.script.extend([(status, {}, f"you sent {KEY}")] * 99)
            with pytest.raises(told) as error:
                sample(toy, 2, seed=status, engine={"api_key_env": "TOY_KEY"})
            messages.append("".join(__import__("traceback").format_exception(error.value)))
            toy.script.clear()
    assert "correct the key in $TOY_KEY" in messages[0] and "you sent ***" in messages[0]
    files = [f.read_bytes() for f in store.root().rglob("*") if f.is_file()]
    everything = [
        *messages,
        caplog.text,
        *capfd.readouterr(),
        json.dumps(generation.identity(MODEL, Engine(base_url=toy.url, api_key_env="TOY_KEY"))),
    ]
    assert (
        len(files) > 3
        and not any(KEY.encode() in f for f in files)
        and not any(KEY in text for text in everything)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": f"http://me:{KEY}@host/v1"},
        {"base_url": f"http://host/v1?key={KEY}"},
        {"api_key_env": KEY},
        {"base_url": "host:8000"},
    ],
)
def test_a_key_in_the_parameters_is_refused_and_not_repeated(wrong):
    values = params.load("lab", "01_teacher_selection") | {"engine": wrong}
    with pytest.raises(params.ParameterError, match=f"engine.{next(iter(wrong))} must be") as error:
        params.check("01_teacher_selection", values)
    assert "secret" not in str(error.value)


# ---- in a notebook


def notebook(folder, store_at, url, **changes):
    """Notebook 01 under papermill with a lab teacher and one behind an endpoint, two jobs side
    by side; (its process, its values)."""
    values = {
        "students": ["lab:student_1"],
        "teachers": ["lab:mixed", MODEL],
        "n_replicates": 2,
        "n_jobs": 2,
        "n_questions": 14,
        "n_attempts": 1,
        "corpus_size": 12,
        "eval_id": 8,
        "eval_ood": 4,
        "ood_sources": ["lab:reverse"],
        "epochs": 1.0,
        "shift_inputs": 4,
        "out_dir": str(folder),
        "engine": {"base_url": url, "api_key_env": "TOY_KEY", "concurrency": 4},
    } | changes
    folder.mkdir()
    (folder / "params.yml").write_text(json.dumps(values))
    command = [
        sys.executable,
        "-m",
        "papermill",
        "notebooks/01_teacher_selection.ipynb",
        str(folder / "out.ipynb"),
        "-f",
        str(folder / "params.yml"),
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    env = os.environ | {"DED_STORE": str(store_at), "TOY_KEY": KEY, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=home(), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def kill(process):
    """SIGKILL to it and all that it started."""
    import psutil

    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in family:
        one.kill()
    process.communicate()


@pytest.mark.slow
def test_a_notebook_killed_half_way_goes_on_without_paying_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "servers"))
    with servers.toy(writes=servers.by_model("lab:left")) as server:
        server.refused = {
            "logprobs": "logprobs are not supported",
            "return_token_ids": "return_token_ids is not known",
        }
        killed = notebook(tmp_path / "killed", tmp_path / "store", server.url)
        while len(server.paid) < 12 and killed.poll() is None:
            time.sleep(0.02)
        kill(killed)
        before = len(server.paid)
        assert 12 <= before < 44 and server.most <= 4
        again = notebook(tmp_path / "again", tmp_path / "store", server.url)
        assert again.wait() == 0, again.stderr.read()[-3000:]
    unique = {(b["messages"][0]["content"], b["seed"]) for b in server.paid}
    assert len(unique) == 2 * (8 + 14) and len(server.paid) <= 44 + 4  # but for what was under way
    out = tmp_path / "again"
    scores, corpora = (
        pd.read_csv(out / "scores.csv"),
        pd.read_csv(out / "corpora.csv").set_index("arm"),
    )
    own = scores[(scores["scored"] == "teacher") & (scores["family"] == "ID")].groupby("arm")
    assert (
        own["n"].sum().to_dict() == {"mixed": 16, "toy": 16} and own["accuracy"].mean()["toy"] > 0.7
    )
    assert (
        corpora.loc["toy", "entropy"].isna().all() and corpora.loc["mixed", "entropy"].notna().all()
    )
    assert (corpora.loc["toy", "length"] > 10).all() and (corpora["corpus_size"] > 4).all()
    points = pd.read_csv(out / "points.csv").groupby("predictor")["value"].count()
    entropy, loss = (study.teachers.PREDICTORS[name].label for name in ("entropy", "loss"))
    assert 2 * points[entropy] == points[loss] > 0, "what is not measured is left out"
    files = [
        f.read_bytes()
        for folder in (out, tmp_path / "killed", tmp_path / "store")
        for f in folder.rglob("*")
        if f.is_file()
    ]
    assert len(files) > 50 and not any(KEY.encode() in f for f in files)


# ---- vLLM's own server


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory):
    if not find_spec("vllm"):
        if os.environ.get("DED_REQUIRE_VLLM"):
            pytest.fail("vllm is not installed, and DED_REQUIRE_VLLM is set")
        pytest.skip("vllm is not installed")
    from ded.lab import catalogue as lab

    with servers.vllm_server(
        lab.checkpoint("checked"), "lab-checked", tmp_path_factory.mktemp("vllm") / "log"
    ) as url:
        yield url


@pytest.mark.engines
def test_vllm_serve(vllm_url, tmp_path, monkeypatch):
    from ded import problems

    monkeypatch.setenv("DED_STORE", str(tmp_path))
    asked = problems.load("lab:sum/5-9", 12, "dev", "endpoint")

    def draw(model, max_tokens, seed=0, **engine):
        return generation.sample(
            model, asked, max_tokens=max_tokens, temperature=0, seed=seed, engine=Engine(**engine)
        )

    here = {"base_url": vllm_url, "entropy_top": 20}
    models.check("openai:lab-checked", engine=Engine(**here))
    own = draw("lab:checked", 120)
    short = draw("openai:lab-checked", 30, **here)
    assert (short.finish_reason == "length").any() and (
        short.n_tokens[short.finish_reason == "length"] == 30
    ).all()
    long = draw("openai:lab-checked", 120, **here)
    same = np.array([a == b for a, b in zip(own.token_ids, long.token_ids, strict=True)])
    assert same.mean() > 0.8  # the same weights; a tie may fall to the other side
    assert list(long.finish_reason[same]) == list(own.finish_reason[same]) and list(
        long.n_tokens[same]
    ) == list(own.n_tokens[same])
    assert [t.split() for t in long.text[same]] == [t.split() for t in own.text[same]]
    # the likeliest 20 of a small vocabulary miss little
    assert (
        (own.entropy_sum - long.entropy_sum)[same]
        .between(-1e-2, 20 * long.missing_mass[same] + 1e-2)
        .all()
    )
    with pytest.raises(EngineError, match=r"HTTP 400.*lower max_tokens"):
        draw("openai:lab-checked", 1000, seed=1, **here)
    with pytest.raises(EngineError, match="it serves lab-checked"):
        draw("openai:lab-unknown", 30, **here)
