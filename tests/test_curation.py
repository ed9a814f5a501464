"""Filters and funnel, question compression, distances, the farthest-P rule against brute force,
equal budgets.
"""

import math
import random
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ded import curation, problems, reading
from ded.problems import lab as tasks

GOOD = "<think> 1 ; 2 </think> 3"


def levenshtein(a, b):
    """The textbook double loop, the reference for every distance here."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def trajectories(texts, **columns):
    rows = {
        "problem_id": "q",
        "sample_index": range(len(texts)),
        "text": texts,
        "n_tokens": 5,
        "finish_reason": "stop",
    }
    return pd.DataFrame(rows | {"verdict": "correct"} | columns)


def sampled(questions, seed=0, letters=6, length=12, copies=1):
    """A table of random token lists: questions = {id: number}, each list `copies` times."""
    rng, rows = random.Random(seed), []
    for name, n in questions.items():
        ids = [
            [rng.randrange(letters) for _ in range(rng.randrange(1, length))] for _ in range(n)
        ] * copies
        rows += [
            {"problem_id": name, "sample_index": i, "token_ids": x, "n_tokens": len(x)}
            for i, x in enumerate(ids)
        ]
    scores = {"rsr": [len(row["token_ids"]) % 3 for row in rows], "lalp": 0.0}
    return pd.DataFrame(rows).assign(text=lambda table: table.token_ids.map(as_steps), **scores)


def as_steps(ids):
    """A text with a step for each token id."""
    return f"<think> {' ; '.join(map(str, ids))} </think> 0"


def of_ids(lists):
    """The columns of trajectories that distances are computed from."""
    return pd.DataFrame({"token_ids": lists, "text": [as_steps(ids) for ids in lists]})


# --- filters -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, reason",
    [
        (GOOD, ""),
        ("\n<think></think>4\n", ""),
        ("<think> 1 </think> ", "no answer"),
        ("3", "no think block"),
        ("1 </think> 3", "think block never opened"),
        ("<think> 1 3", "think block never closed"),
        ("</think> 1 <think> 3", "text before the think block"),
        ("so <think> 1 </think> 3", "text before the think block"),
        ("<think> 1 </think> 2 <think> 1 </think> 3", "more than one think tag"),
        ("<think> <think> 1 </think> 3", "more than one think tag"),
        ("<think> 1 </think> </think> 3", "more than one think tag"),
    ],
)
def test_format(text, reason):
    kept, _, dropped = curation.filter_format(trajectories([text]))
    assert len(kept) == (not reason) and dropped.reason.tolist() == ([reason] if reason else [])
    assert (curation.split_think(text) is None) == bool(reason)


def test_length_drops_the_long_and_the_cut_off():
    table = trajectories(
        [GOOD] * 4, n_tokens=[5, 6, 7, 6], finish_reason=["stop", "stop", "stop", "length"]
    )
    kept, funnel, dropped = curation.filter_length(table, max_tokens=6)
    assert kept.sample_index.tolist() == [0, 1]
    assert dropped.reason.tolist() == ["over 6 tokens", "cut off while sampling"]
    assert funnel.to_dict("records") == [
        {
            "step": "length",
            "kept": 2,
            "dropped": 2,
            "reason": "over 6 tokens: 1; cut off while sampling: 1",
        }
    ]


def test_loops_are_counted_and_dropped_only_where_asked():
    loop = f"<think> 1 </think> {'2 3 ' * 20}"
    table = trajectories([GOOD, loop, loop], finish_reason=["stop", "stop", "length"])
    assert curation.repeats(table).tolist() == [False, True, True]
    assert reading.repeats(table) == (
        "Of 3 trajectories 2 end in a loop, 1 of them cut off at max_tokens."
    )
    assert curation.curate(table, [], max_tokens=9).kept.sample_index.tolist() == [0, 1]
    kept, funnel, dropped = curation.curate(table, [], max_tokens=9, drop_repeats=True)
    assert kept.sample_index.tolist() == [0] and "repeats" in funnel.step.tolist()
    assert dropped.set_index("sample_index").reason[1] == "ends in a loop"
    assert curation.curate(table[:0], [], max_tokens=9, drop_repeats=True).kept.empty


def test_curate_accounts_for_every_row():
    verdicts = ["correct", "wrong", "error", "truncated", "correct", "correct"]
    table = trajectories(
        [GOOD, GOOD, GOOD, GOOD, "3", GOOD], verdict=verdicts, n_tokens=[5, 5, 5, 9, 5, 5]
    )
    kept, funnel, dropped = curation.curate(table, [], max_tokens=6)
    pd.testing.assert_frame_equal(kept, table.iloc[[0, 5]].reset_index(drop=True))
    assert funnel.step.tolist() == ["sampled", "length", "format", "answer"]
    assert funnel.kept.tolist() == [6, 5, 4, 2] and funnel.dropped.tolist() == [0, 1, 1, 2]
    fates = dropped.set_index("sample_index")[["step", "reason"]].apply(tuple, axis=1).to_dict()
    assert fates == {
        1: ("answer", "wrong"),
        2: ("answer", "error"),
        3: ("length", "over 6 tokens"),
        4: ("format", "no think block"),
    }


def test_nothing_left_and_nothing_given():
    for table in (trajectories(["3"]), trajectories([GOOD]).iloc[:0]):
        kept, funnel, _ = curation.curate(table, [], max_tokens=6)
        assert kept.empty and list(kept) == list(table) and funnel.kept.tolist()[-1] == 0
        chosen, statistics = curation.select_trajectories(kept.assign(token_ids=[]), 2)
        assert chosen.empty and statistics.empty


def test_steps_find_the_lucky_chain():
    terms = ((1, 6), (-1, 5), (1, 2), (1, 3))  # 6 modulo 7
    problem, lie = (
        tasks.sums.problem_of(terms),
        tasks.sums.solve(((1, 2), (1, 0), (1, 4)), "left", random.Random(0)),
    )
    work = tasks.sums.solve(terms, "random", random.Random(0))
    texts = [f"<think> {think} </think> 6" for think in (work, lie, "no steps")]
    table = trajectories(texts, problem_id=problem.id)

    result = curation.curate(table, [problem], max_tokens=50, verify="steps")
    assert (
        result.funnel.step.tolist()[-2:] == ["answer", "steps"]
        and result.funnel.kept.tolist()[-2] == 3
    )
    assert result.kept.sample_index.tolist() == [0] and set(result.dropped.reason) == {
        "invalid step"
    }
    assert len(curation.curate(table, [problem], max_tokens=50).kept) == 3


def test_compression_drops_what_is_answered_too_often():
    rates = pd.DataFrame(
        {"problem_id": list("abcde"), "pass_rate": [0.0, 0.5, 0.75, 1.0, math.nan]}
    )
    hard = curation.compress_questions(rates, {"pass_rate": 0.5})
    assert hard.kept.problem_id.tolist() == ["a", "b"]
    assert hard.dropped.problem_id.tolist() == ["c", "d", "e"]
    assert hard.dropped.reason.tolist() == ["pass rate above 0.5"] * 2 + ["no pass rate"]
    assert hard.funnel.reason.tolist() == ["pass rate above 0.5: 2; no pass rate: 1"]
    always = curation.compress_questions(rates, {"pass_rate": 0.99})
    assert always.dropped.reason.tolist() == ["pass rate above 0.99", "no pass rate"]
    for wrong in (0, 1.5, "0.5", {"pass_rate": 2}, {"rate": 0.5}, math.nan):
        with pytest.raises(ValueError, match="is no share above 0, up to 1"):
            curation.compress_questions(rates, wrong)


def test_compression_to_a_share_keeps_the_lowest_pass_rates_and_draws_among_ties():
    rates = pd.DataFrame(
        {"problem_id": range(100), "pass_rate": [0.0] * 10 + [0.25] * 40 + [1] * 50}
    )
    kept = [curation.compress_questions(rates, 0.24, seed) for seed in (1, 1, 2)]
    ids = [set(part.kept.problem_id) for part in kept]
    assert all(len(part) == 24 and set(range(10)) <= part <= set(range(50)) for part in ids)
    assert ids[0] == ids[1] != ids[2]
    reasons = kept[0].dropped.reason.value_counts().to_dict()
    assert reasons == {"pass rate above 0.25": 50, "pass rate 0.25, by lot": 26}
    rates.loc[99, "pass_rate"] = math.nan  # not rated: no part of the share
    assert len(curation.compress_questions(rates, 0.5).kept) == 50  # of 99
    assert curation.compress_questions(rates.head(0), 0.5).kept.empty


def test_the_parts_by_difficulty_are_equal_and_share_no_question():
    rates = pd.DataFrame(
        {"problem_id": range(100), "pass_rate": [0.0] * 10 + [0.25] * 20 + [0.5] * 40 + [1] * 30}
    )
    for share, size in ((0.24, 24), (0.5, 25), (0.01, 1), (1.0, 0)):
        kept = curation.compress_questions(rates, share, 7).kept["problem_id"]
        by_id = pd.Series(curation.difficulty_parts(rates, len(kept), 7))
        hard, middle, easy = (by_id.index[by_id == part] for part in ("hard", "middle", "easy"))
        assert set(hard) == set(kept), "what question compression keeps, its lot included"
        assert len(middle) == len(easy) == size
        places = rates.set_index("problem_id")["pass_rate"]
        assert size == 0 or places[hard].max() <= places[middle].min()
        assert size == 0 or places[middle].max() <= places[easy].min()
    assert set(curation.difficulty_parts(rates, 24, 7)) == set(range(100))
    unrated = rates.assign(pass_rate=rates["pass_rate"].mask(rates["problem_id"] == 99))
    assert 99 not in curation.difficulty_parts(unrated, 24, 7)
    assert curation.difficulty_parts(rates.head(0), 0) == {}


# --- distances and selection ---------------------------------------------------------------------
@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4) | st.integers(0, 10**6), max_size=30), max_size=5))
def test_distances_are_those_of_the_double_loop(lists):
    plain, normalised = (
        curation.pairwise_distances(of_ids(lists), metric)
        for metric in ("levenshtein", "normalised")
    )
    assert plain.shape == normalised.shape == (len(lists),) * 2 and plain.dtype == np.int64
    for (i, a), (j, b) in combinations(enumerate(lists), 2):
        assert plain[i, j] == plain[j, i] == levenshtein(a, b)
        assert normalised[i, j] == levenshtein(a, b) / max(1, len(a), len(b))
    assert not plain.diagonal().any()


def test_distances_of_many_different_tokens():
    lists = [
        list(range(n, n + 70_000)) for n in (0, 5)
    ]  # more than one plane of Unicode, the surrogates included
    assert curation.pairwise_distances(of_ids(lists), workers=2).tolist() == [[0, 10], [10, 0]]
    with pytest.raises(ValueError, match="hamming"):
        curation.pairwise_distances(of_ids(lists), "hamming")


def test_steps_of_a_lab_sum_are_the_states_that_it_passes_through():
    """However it is told; trajectories that differ in fillers alone are no steps apart."""
    told = tasks.sums.Manner(filler=0.7)
    for seed, style in enumerate(("left", "ends", "pairs", "random") * 5):
        problem = problems.load("lab:sum/7-9", 1, "train", str(seed))[0]
        texts = [
            tasks.solution(problem, style, random.Random(seed), manner=manner)
            for manner in (tasks.sums.PLAIN, told, told)
        ]
        thinks = [curation.split_think(text)[0] for text in texts]
        traces = [problems.trace(problem, think) for think in thinks]
        for text, states in zip(texts, traces, strict=True):
            assert curation.steps_of(text) == [tasks.sums.show(state) for state in states[1:]]
        table = of_ids([[1], [2], [3]]).assign(text=texts)
        apart = curation.pairwise_distances(table, "steps")
        for i, j in combinations(range(3), 2):
            assert apart[i, j] == levenshtein(traces[i], traces[j])
            assert (apart[i, j] == 0) == (traces[i] == traces[j])


def test_steps_of_a_real_trace_are_what_is_worked_out_on_its_lines():
    text = "<think>\nSo, we have 3x + 4 = 10.\nThen 3x = 6.\n\nThus 3x = 6.\nWait.\n</think>\n2"
    assert curation.steps_of(text) == ["3x + 4 = 10.", "3x = 6.", "wait."]
    assert curation.steps_of("no tags: x = 2") == ["x = 2"]


def test_steps_decide_which_are_chosen_and_not_which_are_candidates():
    """So that arms by different metrics keep the same questions."""
    texts = [f"<think> {think} </think> 3" for think in ("1 ; 2", "so 1 ; 2", "4 ; 5 ; 6")]
    table = of_ids([[1], [2], [3]]).assign(text=texts, problem_id="q", sample_index=range(3))
    chosen, statistics = curation.select_trajectories(table, 2, "farthest", "steps")
    assert chosen.sample_index.tolist() == [0, 2] and statistics.distinct.tolist() == [3]
    assert statistics.min_distance.tolist() == [3]
    assert len(curation.select_trajectories(table, 3, "farthest", "steps").chosen) == 3


def brute_force(distances, p, nearest=False):
    """The rule as written: best worst pair, then the best sum, then the lowest indices."""
    sign = -1 if nearest else 1

    def rank(subset):
        pairs = [sign * distances[i, j] for i, j in combinations(subset, 2)]
        return -min(pairs), -sum(pairs), subset

    return list(min(combinations(range(len(distances)), p), key=rank))


@pytest.mark.parametrize("p", [2, 3, 4])
def test_farthest_and_nearest_agree_with_brute_force(p):
    for seed in range(20):
        table = sampled({"q": 9}, seed, letters=3, length=6)  # few letters: many ties
        distances = curation.pairwise_distances(table)
        assert curation.choose_farthest(distances, p) == brute_force(distances, p)
        assert curation.choose_nearest(distances, p) == brute_force(distances, p, nearest=True)


def test_greedy_keeps_its_guarantee(monkeypatch):
    for seed in range(20):
        distances = curation.pairwise_distances(sampled({"q": 12}, seed))
        best, closest = (
            curation.choose_farthest(distances, 4),
            curation.choose_nearest(distances, 4),
        )
        with monkeypatch.context() as patch:
            patch.setattr(curation, "EXACT", 0)
            far, near = (
                curation.choose_farthest(distances, 4),
                curation.choose_nearest(distances, 4),
            )
        assert far == sorted(set(far)) and near == sorted(set(near)) and len(far) == len(near) == 4
        assert 2 * spread(distances, far, min) >= spread(distances, best, min)
        assert spread(distances, near, max) <= 2 * spread(distances, closest, max)


def spread(distances, subset, best):
    return best(distances[i, j] for i, j in combinations(subset, 2))


def test_greedy_is_used_where_subsets_are_too_many():
    distances = np.abs(
        np.subtract.outer(np.arange(40), np.arange(40))
    )  # 40 points on a line; comb(40, 4) > EXACT
    chosen = curation.choose_farthest(distances, 4)
    assert {0, 39} < set(chosen) and spread(distances, chosen, min) >= 13 / 2
    assert spread(distances, curation.choose_nearest(distances, 4), max) == 3


def test_rules_keep_the_same_questions_and_equally_many_rows():
    table = sampled({"a": 8, "b": 2, "c": 5})
    found = {rule: curation.select_trajectories(table, 3, rule) for rule in curation.RULES}
    for rule, (chosen, statistics) in found.items():
        assert chosen.problem_id.tolist() == ["a"] * 3 + ["c"] * 3, rule
        assert list(chosen) == list(table)
        assert statistics.chosen.tolist() == [3, 0, 3] and statistics.candidates.tolist() == [
            8,
            2,
            5,
        ]
        assert chosen.groupby("problem_id").sample_index.nunique().unique().tolist() == [
            1 if rule == "single" else 3
        ]
    low = {rule: statistics.min_distance[0] for rule, (_, statistics) in found.items()}
    assert low["farthest"] >= low["random"] >= low["nearest"] >= low["single"] == 0
    assert math.isnan(found["random"][1].min_distance[1])


def test_selection_matches_the_rule_on_its_own_ids():
    table = sampled({"a": 9, "b": 7}, seed=3)
    for metric in curation.METRICS:
        chosen, statistics = curation.select_trajectories(table, 3, "farthest", metric)
        for name, part in table.groupby("problem_id"):
            part = part.loc[~part.token_ids.map(tuple).duplicated()]
            distances = curation.pairwise_distances(part, metric)
            best = brute_force(distances, 3)
            assert (
                chosen[chosen.problem_id == name].sample_index.tolist()
                == part.sample_index.iloc[best].tolist()
            )
            row = statistics[statistics.problem_id == name].iloc[0]
            assert row.min_distance == spread(distances, best, min)


def test_equal_trajectories_count_once():
    table = sampled({"a": 3}, copies=2)
    assert table.token_ids.map(tuple).nunique() == 3
    for rule in ("farthest", "random", "nearest"):
        chosen, statistics = curation.select_trajectories(table, 3, rule)
        assert chosen.sample_index.tolist() == [0, 1, 2] and statistics.distinct.tolist() == [3]
        assert curation.select_trajectories(table, 4, rule)[0].empty
        assert len(curation.select_trajectories(table, 4, rule, short="keep")[0]) == 3
    assert (
        curation.select_trajectories(table, 4, "single", short="keep")[0].sample_index.nunique()
        == 1
    )


def test_draws_depend_on_seed_and_question_alone():
    table = sampled({"a": 9, "b": 9, "c": 9})
    shuffled = table.sample(frac=1, random_state=0)
    for rule in curation.RULES:
        whole = (
            curation.select_trajectories(table, 2, rule, seed=1)[0]
            .groupby("problem_id")
            .sample_index.agg(list)
        )
        again = (
            curation.select_trajectories(shuffled, 2, rule, seed=1)[0]
            .groupby("problem_id")
            .sample_index.agg(list)
        )
        alone = curation.select_trajectories(table[table.problem_id == "b"], 2, rule, seed=1)[
            0
        ].sample_index.tolist()
        assert whole.to_dict() == again.to_dict() and whole["b"] == alone
    draws = {
        tuple(curation.select_trajectories(table, 2, "random", seed=s)[0].sample_index)
        for s in range(5)
    }
    assert len(draws) > 1


def test_a_rule_by_a_score_takes_the_least_distinct_ones():
    table = trajectories(["a", "b", "c", "c", "d"], token_ids=[[1], [2], [3], [3], [4]])
    table = table.assign(rsr=[5, 3, 1, 1, 3], lalp=[-5, -3, -1, -1, -3], n_tokens=[5, 3, 1, 1, 3])
    for rule in ("rsr", "lalp", "shortest"):
        chosen, _ = curation.select_trajectories(table, 2, rule)
        assert chosen["text"].tolist() == ["b", "c"], rule


def test_branch_heavy_trajectories_are_dropped_by_their_rate():
    heavy = "<think> 1. Wait, no. Alternatively 2. Hmm, another way: 3. </think> 3"
    table = trajectories([heavy, heavy, GOOD, "The waiter waits."], n_tokens=[100, 1000, 5, 9])
    kept, _, dropped = curation.filter_branches(table, 10)
    assert kept["sample_index"].tolist() == [1, 2, 3]
    assert dropped["reason"].tolist() == ["over 10 branches in 1,000 tokens"]
    assert len(curation.filter_branches(table, 3.9).kept) == 2


def test_one_a_question():
    table = sampled({"a": 4})
    for rule in curation.RULES:
        chosen, statistics = curation.select_trajectories(table, 1, rule)
        assert len(chosen) == 1 and math.isnan(statistics.min_distance[0])
