"""What counts as the answer of a completion, and equality up to white space."""

import pandas as pd
import pytest

from ded.grading import GRADERS, Decision, Grader, answer_part, grade
from ded.problems import Problem

PROBLEM = Problem("p", "reverse", 3, "reverse a b c", "c b a")


def table(*rows):
    return pd.DataFrame(
        [{"problem_id": "p", "text": text, "finish_reason": finish} for text, finish in rows]
    )


@pytest.mark.parametrize(
    ("text", "finish", "verdict", "answer"),
    [
        ("<think> x </think> c b a", "stop", "correct", "c b a"),
        ("<think> x </think>\n c  b\ta \n", "stop", "correct", "c  b\ta"),
        ("c b a", "stop", "correct", "c b a"),
        ("<think> x </think> c b", "stop", "wrong", "c b"),
        ("<think> x </think> wrong <think> y </think> c b a", "stop", "correct", "c b a"),
        ("x </think> c b a", "stop", "correct", "c b a"),
        ("<think> c b a", "stop", "unparsed", None),
        ("<think> x </think> c b a <think> y", "stop", "unparsed", None),
        ("<think> x </think>  ", "stop", "unparsed", None),
        ("", "stop", "unparsed", None),
        (None, "stop", "unparsed", None),
        (float("nan"), "stop", "unparsed", None),
        ("<think> x", "length", "truncated", None),
        ("<think> x </think> c b a", "length", "truncated", "c b a"),
    ],
)
def test_exact(text, finish, verdict, answer):
    row = grade(table((text, finish)), [PROBLEM]).iloc[0]
    assert row.verdict == verdict and (
        pd.isna(row.answer) if answer is None else row.answer == answer
    )
    assert row.reason or verdict == "correct"


def test_the_table_is_kept_and_grading_again_changes_nothing():
    frame = (
        table(("c b a", "stop"), ("a", "stop"), ("", "stop"))
        .set_index(pd.Index([7, 3, 3]))
        .assign(extra=[1, 2, 3])
    )
    graded = grade(frame, [PROBLEM])
    assert list(graded.columns) == [*frame.columns, "verdict", "answer", "reason", "rule"]
    assert graded.index.equals(frame.index) and "verdict" not in frame
    pd.testing.assert_frame_equal(grade(graded, [PROBLEM]), graded)
    assert len(grade(frame.iloc[:0], [PROBLEM])) == 0


def test_answer_part_gives_a_reason():
    assert answer_part("<think> x") == (None, "a think block never closes")
    assert answer_part(" 5 ") == ("5", "")


def test_unknown_problems_and_kinds_are_errors():
    with pytest.raises(ValueError, match="'p'"):
        grade(table(("c b a", "stop")), [])
    with pytest.raises(ValueError, match="'guess'"):
        grade(table(("c b a", "stop")), [Problem("p", "f", 1, "", "", kind="guess")])


def test_a_new_kind_is_one_grader(monkeypatch):
    def decide(pairs, settings):
        return [
            Decision("correct") if answer == problem.answer[::-1] else Decision("wrong", "forwards")
            for problem, answer in pairs
        ]

    mirrored = Grader(lambda text, problem: text.strip("!") or None, decide, absent="only marks")
    monkeypatch.setitem(GRADERS, "mirrored", mirrored)
    frame = table(("cba!", "stop"), ("abc", "stop"), ("!!", "stop"), ("cba", "length"))
    graded = grade(frame, [Problem("p", "f", 1, "", "abc", kind="mirrored")])
    assert graded["verdict"].tolist() == ["correct", "wrong", "unparsed", "truncated"]
    assert graded["answer"].tolist()[:2] == ["cba", "abc"]
    assert graded["reason"].tolist()[1:3] == ["forwards", "only marks"]
