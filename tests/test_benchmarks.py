"""Scores of benchmarks: what counts, what the number of samples leaves as it is, what is beside."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ded import benchmarks, evaluation, generation, grading, problems, stats
from ded.cli import app
from ded.errors import BenchmarkError, DedError
from ded.grading import VERDICTS
from ded.report import tables

MODEL = "lab:student_1"
VALUES = {"correct": 1.0, "error": math.nan}


def samples_of(verdicts, name="b", group="", n_tokens=10):
    """The samples table of a list of verdicts a question; `group` one for all, or a list."""
    groups = [group] * len(verdicts) if isinstance(group, str) else group
    return pd.DataFrame(
        [
            {
                "benchmark": name,
                "group": groups[q],
                "question": f"q{q}",
                "seed": s,
                "value": VALUES.get(v, 0.0),
                "verdict": v,
                "n_tokens": n_tokens,
            }
            for q, row in enumerate(verdicts)
            for s, v in enumerate(row)
        ]
    )


def scored(verdicts, **more):
    return benchmarks.summarise(samples_of(verdicts, **more), "lab:m", {"source": "b"})


def simulated(rng, questions, seeds):
    """Verdicts of questions that differ in difficulty."""
    rates = rng.uniform(0.1, 0.9, questions)
    return [["correct" if u < rate else "wrong" for u in rng.random(seeds)] for rate in rates]


# ---------------------------------------------------------------- the number of samples

TABLES = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=2, max_size=6)
)


@settings(max_examples=10)
@given(TABLES)
def test_pass_at_1_of_fewer_samples_is_on_average_that_of_all(right):
    """Over all ways to leave samples out the mean is what all samples give, exactly: no metric that
    falls as n grows."""
    verdicts = [["correct" if r else "wrong" for r in row] for row in right]
    whole, n = scored(verdicts).iloc[0], len(right[0])
    for size in range(1, n):
        subsets = [
            scored([[row[i] for i in kept] for row in verdicts]).iloc[0]
            for kept in itertools.combinations(range(n), size)
        ]
        assert np.mean([row["value"] for row in subsets]) == pytest.approx(whole["value"])
        for k in (k for k in (2, 4) if k <= size):
            mean = np.mean([row[f"pass@{k}"] for row in subsets])
            assert mean == pytest.approx(whole[f"pass@{k}"])


@settings(max_examples=30)
@given(TABLES)
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(right):
    row, n = (
        scored([["correct" if r else "unparsed" for r in drawn] for drawn in right]).iloc[0],
        len(right[0]),
    )
    for k in (k for k in (2, 4) if k <= n):
        shares = [
            np.mean([any(subset) for subset in itertools.combinations(drawn, k)]) for drawn in right
        ]
        assert row[f"pass@{k}"] == pytest.approx(np.mean(shares))
    assert [c for c in row.index if c.startswith("pass@")] == [
        f"pass@{k}" for k in (2, 4) if k <= n
    ]


@settings(max_examples=8, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_more_samples_narrow_the_interval_and_leave_the_mean(seed):
    """Nested samples of the same questions; the means of 2 and of 32 differ by chance alone."""
    verdicts = simulated(np.random.default_rng(seed), 60, 32)
    few, more, many = (scored([row[:n] for row in verdicts]).iloc[0] for n in (2, 8, 32))
    width = [row["high"] - row["low"] for row in (few, more, many)]
    assert width[0] > width[1] > width[2]
    right = np.array(verdicts) == "correct"
    for fewer in (few, more):
        gap = right[:, : fewer["samples"]].mean(axis=1) - right.mean(
            axis=1
        )  # of each question, by chance alone
        assert abs(fewer["value"] - many["value"]) < 5 * gap.std(ddof=1) / math.sqrt(len(gap))


# ---------------------------------------------------------------- one table


def test_what_counts_in_pass_at_1():
    row = scored(
        [
            ["correct", "wrong"],
            ["truncated", "unparsed"],
            ["correct", "correct"],
            ["wrong", "correct"],
        ],
        n_tokens=7,
    ).iloc[0]
    assert row["value"] == pytest.approx(4 / 8) and row[list(VERDICTS)].tolist() == [4, 2, 1, 1, 0]
    assert (row["n"], row["samples"], row["n_tokens"], row["metric"], row["note"]) == (
        4,
        2,
        7,
        "pass@1",
        "",
    )


def test_grader_errors_are_left_out_and_above_one_per_cent_nothing_is_judged():
    row = scored([["correct", "error"], ["wrong", "wrong"], ["correct", "correct"]]).iloc[0]
    assert row["value"] == pytest.approx((1 + 0 + 1) / 3) and row["error"] == 1
    assert math.isnan(row["pass@2"]) and "not judged: grader errors 16.7%" in row["note"]
    few = scored([["correct", "wrong"]] * 60 + [["error", "correct"]]).iloc[0]
    assert few["note"] == "" and few["value"] == pytest.approx((60 * 0.5 + 1) / 61)


def test_groups_stand_below_the_whole():
    table = scored(
        [["correct"], ["wrong"], ["correct"], ["correct"]], group=["hard", "hard", "easy", "easy"]
    ).set_index("group")
    assert (
        table.index.tolist() == ["all", "easy", "hard"]
        and table["value"].tolist() == [0.75, 1.0, 0.5]
        and table["n"].tolist() == [4, 2, 2]
    )
    assert (
        "nothing" in table.loc["easy", "note"] and scored([["correct"]], group="one").shape[0] == 1
    )
    assert "one question" in scored([["correct", "wrong"]]).iloc[0]["note"]


# ---------------------------------------------------------------- a run


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Makes `generation.sample` give these texts, {question id: [text, ...]}, to the real one."""
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    given = {}

    def sample(model, questions, n, **_):
        return pd.DataFrame(
            [
                {
                    "problem_id": q.id,
                    "sample_index": i,
                    "text": given[q.id][i],
                    "n_tokens": 5,
                    "finish_reason": "stop",
                }
                for q in questions
                for i in range(n)
            ]
        )

    monkeypatch.setattr(generation, "sample", sample)
    return given


@pytest.mark.slow
def test_a_run_of_a_public_set_from_a_local_file(answers, tmp_path):
    rows = [
        {
            "unique_id": f"u{i}",
            "problem": f"What is {i} halves?",
            "answer": rf"\frac{{{i}}}{{2}}",
            "subject": s,
            "level": 1 + i,
        }
        for i, s in enumerate("AAB")
    ]
    file = tmp_path / "copy.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    answers |= {
        "math_500:u0": [r"\boxed{0}", r"\boxed{0.0}"],
        "math_500:u1": [r"\boxed{0.5}", r"\boxed{5}"],
        "math_500:u2": [r"\boxed{1}", "who knows"],
    }
    scores, samples = benchmarks.run(MODEL, f"data:math_500@{file}", samples=2, temperature=0.7)
    assert scores["benchmark"].unique().tolist() == ["math_500"] and scores["group"].tolist() == [
        "all",
        "A",
        "B",
    ]
    assert scores["value"].tolist() == [pytest.approx(4 / 6), 0.75, 0.5]
    assert scores.loc[0, list(VERDICTS)].tolist() == [4, 1, 1, 0, 0]
    questions = problems.load(f"data:math_500@{file}", 0, "test", "benchmark")
    made = scores["settings"][0]
    expected = {
        "source": "data:math_500@copy.jsonl",
        "n_problems": 3,
        "problems": problems.fingerprint(questions),
        "prompt": ["math"],
        "samples": 2,
        "temperature": 0.7,
        "top_p": 0.95,
        "max_tokens": 512,
        "grader": {"version": grading.VERSION, "isolation": "bubblewrap"},
    }
    assert {key: made[key] for key in expected} == expected
    assert (
        made["model"] == generation.identity(MODEL)
        and made["chat_template"]
        and all(s == made for s in scores["settings"])
    )
    path = benchmarks.save(tmp_path, MODEL, scores, samples)
    assert (
        "halves" not in path.read_text() and str(tmp_path) not in path.read_text()
    )  # no question's text, no folder


@pytest.mark.parametrize(
    ("options", "expected"),
    [("", ""), ("?{from: 2025-02-01, at: a/b@c}", "?{from: 2025-02-01, at: a/b@c}")],
)
def test_a_source_is_named_without_its_folders_and_with_its_options(options, expected):
    for source, name in {
        "data:aime_2024@/some where/a@b/copy.jsonl": "aime_2024",
        "data:aime_2024": "aime_2024",
        "file:/a@b/own.jsonl": "file:own.jsonl",
        "lab:sum/6": "lab:sum/6",
    }.items():
        assert benchmarks.name_of(source + options) == name + expected


def test_a_run_says_which_dates_it_covers(answers, monkeypatch):
    questions = [
        problems.Problem(f"p{i}", "lcb", 1, "q", "a", "exact", {"date": date})
        for i, date in enumerate(["2025-03-02", "2025-02-01T00:00:00"])
    ]
    monkeypatch.setattr(problems, "load", lambda *_: questions)
    answers |= {"p0": ["a"], "p1": ["b"]}
    scores, _ = benchmarks.run(MODEL, "data:livecodebench?{from: 2025-02-01}", samples=1)
    assert (
        scores["settings"][0]["dates"] == ["2025-02-01", "2025-03-02"]
        and scores["benchmark"][0] == "livecodebench?{from: 2025-02-01}"
    )


def test_sampling_settings_reach_the_engine(monkeypatch):
    seen = {}

    def per_question(model, suite, **settings):
        seen.update(settings, suite=suite)
        return pd.DataFrame(
            [
                {
                    "family": "lab:reverse",
                    "question": q.id,
                    "seed": 0,
                    "value": 1.0,
                    "verdict": "correct",
                    "n_tokens": 3,
                    "think": True,
                }
                for q in suite["lab:reverse"]
            ]
        )

    monkeypatch.setattr(evaluation, "per_question", per_question)
    benchmarks.run(
        MODEL,
        "lab:reverse",
        limit=6,
        samples=3,
        temperature=0.1,
        top_p=0.5,
        seed=4,
        max_tokens=9,
        workers=1,
    )
    assert {
        k: seen[k] for k in ("samples", "temperature", "top_p", "seed", "max_tokens", "workers")
    } == {"samples": 3, "temperature": 0.1, "top_p": 0.5, "seed": 4, "max_tokens": 9, "workers": 1}
    assert seen["suite"]["lab:reverse"] == problems.load("lab:reverse", 6, "test", "benchmark")
    benchmarks.run("lab:student_2", "lab:reverse", limit=6)
    assert (
        seen["suite"]["lab:reverse"] == problems.load("lab:reverse", 6, "test", "benchmark")
        and seen["max_tokens"] == 512
    )  # the lab's context


@pytest.mark.parametrize(
    ("model", "source", "limit", "message"),
    [
        ("lab:nobody", "lab:reverse", 4, "no lab model 'nobody'"),
        ("lab:student_1", "lab:nothing", 4, "families are"),
        ("lab:student_1", "lab:reverse", 0, "no end: give a limit"),
        ("lab:student_1", "data:aime_2042", 0, "the data sets are"),
    ],
)
def test_what_cannot_run_is_said_before_any_work(monkeypatch, model, source, limit, message):
    monkeypatch.setattr(evaluation, "per_question", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        benchmarks.run(model, source, limit=limit)


# ---------------------------------------------------------------- two models


def test_compare_is_the_paired_difference():
    rng = np.random.default_rng(0)
    a, b = (samples_of(simulated(rng, 40, n), group=["x", "y"] * 20) for n in (3, 5))
    table = benchmarks.compare(a, b).set_index("group")
    whole = stats.paired_questions(a, b)
    assert table.index.tolist() == ["all", "x", "y"]
    assert table.loc["all", ["difference", "low", "high", "n"]].tolist() == pytest.approx(
        [whole.estimate, whole.low, whole.high, 40]
    )
    assert table.loc["all", "a"] - table.loc["all", "b"] == pytest.approx(
        table.loc["all", "difference"]
    )
    assert table.loc["x", "difference"] == pytest.approx(
        stats.paired_questions(a[a["group"] == "x"], b[b["group"] == "x"]).estimate
    )


def test_compare_names_the_better_and_judges_no_broken_run():
    good, bad = (
        samples_of([["correct"] * 3] * 20),
        samples_of([["wrong"] * 3] * 19 + [["correct"] * 3]),
    )
    assert (
        benchmarks.compare(good, bad)["better"][0] == "a"
        and benchmarks.compare(bad, good)["better"][0] == "b"
    )
    assert benchmarks.compare(bad, bad)[["better", "difference"]].iloc[0].tolist() == ["", 0.0]
    broken = samples_of([["wrong"] * 3] * 18 + [["error"] * 3, ["correct"] * 3])
    row = benchmarks.compare(good, broken).iloc[0]
    assert row["better"] == "" and row["note"].startswith("not judged")


def test_compare_wants_the_same_questions():
    a, b = samples_of([["correct"]] * 4), samples_of([["correct"]] * 5)
    with pytest.raises(BenchmarkError, match=r"different questions.*'q4'.*same source and limit"):
        benchmarks.compare(a, b)
    with pytest.raises(BenchmarkError, match="no benchmark in common: b against c"):
        benchmarks.compare(a, samples_of([["correct"]] * 4, name="c"))


# ---------------------------------------------------------------- records and published numbers


def test_a_record_keeps_other_benchmarks_and_replaces_its_own(tmp_path):
    first, second = (
        samples_of([["correct", "error"], ["wrong", "wrong"]], name="one"),
        samples_of([["correct"]] * 3, name="two"),
    )
    for table in (first, second, samples_of([["wrong"]] * 2, name="two")):
        benchmarks.save(
            tmp_path, "hf:o/m", benchmarks.summarise(table, "hf:o/m", {"k": [1, None]}), table
        )
    scores, samples = benchmarks.read(tmp_path, "hf:o/m")
    assert (
        scores["benchmark"].tolist() == ["one", "two"]
        and scores["value"].tolist() == [0.5, 0.0]
        and scores["settings"][1] == {"k": [1, None]}
    )
    pd.testing.assert_frame_equal(samples[samples["benchmark"] == "one"], first)
    assert len(samples) == 6 and pd.read_csv(tmp_path / "hf_o_m.csv")["n"].tolist() == [2, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "hf_o_m.csv",
        "hf_o_m.json",
        "hf_o_m.lock",
    ]
    with pytest.raises(BenchmarkError, match="no results of model 'hf:o/n'"):
        benchmarks.read(tmp_path, "hf:o/n")


def test_published_numbers_stand_beside_and_never_in_our_column():
    ours = pd.concat(
        [
            benchmarks.summarise(
                samples_of([["correct"], ["wrong"]], name="aime_2024"),
                "hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-32B@abc",
                {"samples": 1},
            ),
            benchmarks.summarise(
                samples_of(
                    [["correct"], ["wrong"]] * 2,
                    name="livecodebench?{to: 2025-05-31}",
                    group=["easy", "hard"] * 2,
                ),
                "path:/x/mine",
                {"samples": 1},
            ),
        ],
        ignore_index=True,
    )
    table = benchmarks.beside(ours, {"path:/x/mine": "NTele-R1-32B-Code"})
    ds = table[
        (table["model"] == "DeepSeek-R1-Distill-Qwen-32B") & (table["benchmark"] == "aime_2024")
    ]
    assert (
        ds["ours"].tolist() == [50.0, 50.0]
        and sorted(ds["published"]) == [65.63, 72.6]
        and ds["settings"].tolist() == ["samples 1"] * 2
    )
    code = table[table["model"] == "NTele-R1-32B-Code"].set_index("group")
    assert code.index.tolist() == ["all", "easy", "hard"] and code.loc[
        "hard", ["ours", "published"]
    ].tolist() == [0.0, 28.43]
    assert math.isnan(code.loc["all", "published"]) and code.loc["all", "ours"] == 50
    unmeasured = table[table["benchmark"] == "aider_polyglot"].iloc[0]
    assert (
        math.isnan(unmeasured["ours"]) and unmeasured["published"] == 12.4 and unmeasured["source"]
    )
    assert set(table["model"]) == {"DeepSeek-R1-Distill-Qwen-32B", "NTele-R1-32B-Code"}
    text = tables.table(code.reset_index().round(2), "beside").markdown()
    assert (
        text.count("\n") == 6
        and "| hard | NTele-R1-32B-Code |" in " ".join(text.split())
        and "| 28.43 |" in " ".join(text.split())
        and "nan" not in text
    )
    assert r"P(A \| B)" in tables.table(pd.DataFrame({"group": ["P(A | B)"]}), "").markdown()


def test_the_published_table_agrees_with_the_reported_one():
    """Two files hold the paper's scores: params/reported.yml for the report, published.yml for
    benchmarks."""
    reported = yaml.safe_load((Path(__file__).parents[1] / "params" / "reported.yml").read_text())
    names = {
        "aime_2024": ("aime_2024", "all"),
        "aime_2025": ("aime_2025", "all"),
        "aime_2025_i": ("aime_2025", "I"),
        "math_500": ("math_500", "all"),
        "lcb_hard": ("livecodebench", "hard"),
        "aider_pass2": ("aider_polyglot", "all"),
    }
    scores = {
        (row["model"], *names[key], float(row[key]))
        for row in (*reported["scores"], *reported["figure_1"])
        for key in names
        if row.get(key) is not None
    }
    table = benchmarks.published()
    assert {
        tuple(row)
        for row in table[["model", "benchmark", "group", "published"]].itertuples(index=False)
    } >= scores
    assert table["source"].str.len().min() > 5


# ---------------------------------------------------------------- the command


def command(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_the_command_scores_compares_and_writes(tiny, tmp_path):
    for model in ("lab:student_1", "lab:random"):
        result = command(
            model,
            "lab:reverse/5",
            "--limit",
            4,
            "--samples",
            2,
            "--max-tokens",
            6,
            "--out",
            tmp_path,
        )
        assert (
            result.exit_code == 0
            and "pass@2" in result.output
            and model.replace(":", "_") in result.output
        )
    assert benchmarks.read(tmp_path, MODEL)[0].loc[0, ["n", "samples"]].tolist() == [4, 2]
    result = command("--compare", MODEL, "lab:random", "--out", tmp_path)
    assert result.exit_code == 0 and "difference" in result.output


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_scored(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(benchmarks, "run", lambda *_, **__: pytest.fail("it was scored"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = command("lab:student_1", "lab:reverse", "--limit", 4, "--out", out)
        assert isinstance(result.exception, DedError)
        assert f"--out {out}: cannot be written to" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab:nobody", "lab:reverse", "--limit", 4], "nobody"),
        (["lab:student_1", "lab:nothing", "--limit", 4], "families are"),
        (["lab:student_1"], "no source is named"),
        (["lab:student_1", "lab:reverse", "--limit", 4, "--engine", "vlm"], "nearest: vllm"),
        (["--compare", "lab:a", "lab:b"], "no results of model 'lab:a'"),
        (["lab:student_1", "lab:reverse"], "no end"),
    ],
)
def test_the_command_says_in_one_error_what_is_wrong(tmp_path, arguments, message):
    result = command(*arguments, "--out", tmp_path)
    assert (
        isinstance(result.exception, DedError)
        and message in str(result.exception)
        and not list(tmp_path.glob("*.json"))
    )
