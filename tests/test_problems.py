"""Problems: a record by content, splits by hash, draws that a seed fixes, sources that are read or
refused.
"""

import random
from collections import Counter
from dataclasses import replace

import pytest

from ded import problems
from ded.problems import Problem
from ded.problems import lab as tasks

GOLDEN = {
    "sum": ("sum:6236c5f9143df669", "5 +4 +1 +6 -6 =", "3"),
    "code": (
        "code:74cb962c53e00672",
        "python subtract 6 , subtract 7 , times 7",
        "def f ( x ) : x = x - 6 ; x = x - 7 ; x = x * 7 ; return x",
    ),
    "reverse": ("reverse:7a5a38501181c4dc", "reverse j e i b h", "h b i e j"),
    "sort": ("sort:0cc5b55d758b7234", "sort 0 0 7 3 7", "0 0 3 7 7"),
    "maximum": ("maximum:143d173d03b9fd86", "maximum 8 6 9 1 9", "9"),
    "shift": ("shift:8ea399dbb33ba708", "shift i b f c h", "j c g d i"),
    "swap": ("swap:895a6c8900c818b8", "swap b d d j c", "c d d j b"),
    "filter": ("filter:e16b9e409c382f98", "filter b 5 6 3 e 6", "5 6 3 6"),
}


def make(rng):
    number = rng.randrange(1000)
    return f"number {number}", lambda: Problem(f"n:{number}", "number", 1, f"{number}", f"{number}")


# ---- hash and split


def test_hash_and_split_are_those_of_every_machine():
    # other values would move questions between splits: into corpora that evaluation questions must
    # stay out of
    assert problems.content_hash("ded") == 0x0E57BC31490E0BC5
    initials = "".join(
        "Rdt"[("train", "dev", "test").index(problems.split_of(f"sum {i}"))] for i in range(40)
    )
    assert initials == "RRRRdRdRRRRRRRRRRtRRRRRRRRtRRRRRttRtRdRR"


def test_splits_are_80_10_10():
    counts = Counter(problems.split_of(f"text {i}") for i in range(10_000))
    assert set(counts) == set(problems.SPLITS)
    assert (
        abs(counts["train"] - 8000) < 200
        and abs(counts["dev"] - 1000) < 150
        and abs(counts["test"] - 1000) < 150
    )


# ---- draws


def test_draw_is_fixed_by_its_seed_and_starts_with_the_shorter_one():
    long = problems.draw(make, 60, "train", "a")
    assert problems.draw(make, 60, "train", "a") == long
    assert problems.draw(make, 20, "train", "a") == long[:20]
    assert problems.draw(make, 60, "train", "b") != long


@pytest.mark.parametrize("split", problems.SPLITS)
def test_draw_gives_distinct_problems_of_its_split(split):
    drawn = problems.draw(make, 40, split, "s")
    assert len({p.id for p in drawn}) == 40
    assert {problems.split_of(f"number {p.prompt}") for p in drawn} == {split}


def test_draw_refuses_an_unknown_split_and_stops_at_a_dry_source():
    with pytest.raises(ValueError, match="'testing'"):
        problems.draw(make, 1, "testing", "s")
    with pytest.raises(ValueError, match=r"found only \d+ of 12 distinct problems in split 'test'"):
        problems.draw(lambda rng: make(rng.__class__(rng.randrange(40))), 12, "test", "s")


# ---- sources


def test_load_spreads_evenly_and_starts_with_the_shorter_one():
    long = problems.load("lab:sum/7-9", 31, "dev", "s")
    assert Counter(p.level for p in long) == {7: 11, 8: 10, 9: 10}
    assert problems.load("lab:sum/7-9", 13, "dev", "s") == long[:13]
    assert problems.load("lab:sum/7-9", 0, "dev", "s") == []
    assert {p.level for p in problems.load("lab:sum", 8, "dev", "s")} == set(tasks.LEVELS["sum"])
    assert {p.level for p in problems.load("lab:code/4", 8, "dev", "s")} == {4}


def test_loaded_problems_are_those_of_every_machine():
    # the question text that the lab's models are trained on and every stored result belongs to
    assert [
        (p.id, p.prompt, p.answer)
        for f in GOLDEN
        for p in problems.load(f"lab:{f}", 1, "test", "golden")
    ] == list(GOLDEN.values())


@pytest.mark.parametrize(
    "source, names",
    [
        ("sum", "lab:<family>"),
        ("lab:", "lab:<family>"),
        ("hub:sum", "lab:<family>"),
        ("lab:sum/", "between 5 and 12"),
        ("lab:sums", "families are sum, code"),
        ("lab:sum?levels=7-9", "families are sum, code"),
        ("lab:sum/4-6", "between 5 and 12"),
        ("lab:sum/9-7", "between 5 and 12"),
        ("lab:sum/7-", "between 5 and 12"),
        ("lab:sum/a-b", "between 5 and 12"),
        ("lab:sum/-7", "between 5 and 12"),
        ("lab:sum/7,9", "between 5 and 12"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(source, names):
    with pytest.raises(problems.SourceError, match=names) as caught:
        problems.load(source, 1, "dev", "s")
    assert repr(source) in str(caught.value)


# ---- chance


@pytest.mark.parametrize(
    "answers, kind, expected",
    [
        ("121212", "exact", 1 / 2),
        ("ABCDABCD", "choice", 1 / 4),
        ("1234512345", "math", 1 / 5),
        ("123451", "exact", 0),  # open: more than half of the answers differ
        ("111111", "code", 0),
        ("", "exact", 0),
    ],
)
def test_chance_is_one_in_as_many_as_there_are_answers(answers, kind, expected):
    asked = [Problem.made("f", 0, str(i), answer, kind) for i, answer in enumerate(answers)]
    assert problems.chance(asked) == pytest.approx(expected)


# ---- fingerprint


def test_fingerprint_is_of_content_and_order():
    drawn = problems.load("lab:sum", 6, "dev", "s")
    base = problems.fingerprint(drawn)
    assert problems.fingerprint(problems.load("lab:sum", 6, "dev", "s")) == base
    others = [
        drawn[:5],
        drawn[::-1],
        [*drawn[:5], replace(drawn[5], answer="x")],
        [*drawn[:5], replace(drawn[5], meta={})],
    ]
    assert len({base, *map(problems.fingerprint, others)}) == 5


def test_the_next_problem_is_from_its_split_alone():
    rng = random.Random(0)
    drawn = [tasks.next_problem("reverse", 5, "dev", rng) for _ in range(50)]
    assert {problems.split_of(p.prompt) for p in drawn} == {"dev"}


@pytest.mark.parametrize(
    "text, reasons",
    [
        ("so 4 +2 ; 6 ; 6", True),  # two steps follow
        ("4 +2 ; now 6 </think> 6", True),  # the closing tag alone
        ("4 +2 ; 5", False),  # the second does not follow: one may be chance
        ("4 +2 ; 6 +1 ; 0", False),
        ("6", False),  # an answer at once
        ("6 ; 6", False),
        ("+3 1 ; 6 ; 6", False),  # noise
        ("<think> 4 +2 ; 6 </think> 6", False),  # with the tag
        ("", False),
    ],
)
def test_a_sum_worked_out_without_a_tag(text, reasons):
    question = tasks.sums.problem_of(((1, 1), (1, 3), (1, 2)))
    assert problems.reasons_untagged(question, text) is reasons


def test_reasoning_without_a_tag_is_told_by_its_lines_where_steps_cannot_be_checked():
    question = Problem.made("open", 1, "What is 6 times 7?", "42")
    assert problems.reasons_untagged(question, "Six sevens.\n\nThat is 42.\nAnswer: 42")
    assert not problems.reasons_untagged(question, "It is forty-two.\n\nAnswer: 42")
    assert not problems.reasons_untagged(question, "```python\na = 6\nb = 7\nprint(a * b)\n```")
    assert not problems.reasons_untagged(question, "<think>\na\nb\nc\n</think>\n42")
