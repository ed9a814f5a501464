"""Extraction, the rules of equality, and limits."""

import pandas as pd
import pytest

from ded.grading import choice, grade
from ded.grading.decision import Settings
from ded.grading.math import grade_answers
from ded.problems import Problem
from ded.problems.extraction import extract

# Pairs of (reference, answer), labelled by hand.
EQUAL = [
    (r"\frac{1}{2}", "0.5"),
    ("0.5", r"\frac12"),
    (r"\frac{1}{2}", r"\dfrac{1}{2}"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac{3}{2}", r"1\frac{1}{2}"),
    (r"\frac{7}{3}", "2 1/3"),
    ("12", r"\$12"),
    (r"\$12", "12"),
    (r"\$36", "36 dollars"),
    ("36", r"\$36.00"),
    ("1,234", "1234"),
    ("1234", "1,234"),
    (r"10,\!080", "10080"),
    (r"10,\!080", "10,080"),
    ("5", r"5 \text{ cm}"),
    (r"5 \text{ cm}", "5"),
    (r"5 \text{ cm}", "5 cm"),
    (r"5 \text{ cm}", r"5\,\text{centimeters}"),
    ("12", "12 apples"),
    (r"12\text{ cm}^2", "12 square centimeters"),
    (r"90^\circ", "90"),
    ("90", r"90^\circ"),
    (r"90^\circ", "90 degrees"),
    (r"\frac{\pi}{2}", r"90^\circ"),
    (r"90^\circ", r"\frac{\pi}{2}"),
    (r"75^\circ", "75°"),
    (r"50\%", "50 percent"),
    (r"50\%", "50%"),
    ("(1,2)", r"\left(1, 2\right)"),
    ("(1,2)", "( 1 , 2 )"),
    (r"\{1,2\}", "1 and 2"),
    (r"\{1,2\}", "2, 1"),
    ("1,2", r"\{2,1\}"),
    ("-2,1", r"1 \text{ and } -2"),
    ("[0,3)", r"0 \le x < 3"),
    (r"(-\infty,3]", r"x \leq 3"),
    (r"(-\infty, 3]", "x <= 3"),
    (r"(2,\infty)", "x>2"),
    (r"(2,\infty)", "2 < x"),
    (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"),
    (r"(0,9) \cup (9,36)", r"x \in (0,9) \cup (9,36)"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{3}+\sqrt{2}"),
    (r"2\sqrt{5}", r"\sqrt{20}"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"2\sqrt{5}", r"2 \cdot \sqrt{5}"),
    (r"2\sqrt{5}", "2*sqrt(5)"),
    (r"6\sqrt{2}", "6√2"),
    (r"11 \sqrt{5} + 11", r"11(1+\sqrt5)"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"3 \pm 2 \sqrt{2}", r"3-2\sqrt2 \text{ or } 3+2\sqrt2"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2,1+\sqrt{5},1-\sqrt{5}\}"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{bmatrix} 0.2 \\ -3.6 \end{bmatrix}"),
    (r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", r"\begin{pmatrix}-1&0\\0&-1\end{pmatrix}"),
    (
        r"\begin{pmatrix} 16/49 \\ 48/49 \end{pmatrix}",
        r"\begin{pmatrix} \frac{16}{49} \\ \frac{48}{49} \end{pmatrix}",
    ),
    ("y = 2x + 3", "y = 3 + 2x"),
    ("y = 2x + 3", "2x+3"),
    ("5", "x = 5"),
    ("x=5", "5"),
    ("33", "m+n = 33"),
    ("33", "m+n=20+13=33"),
    ("y = -2x", "-2x"),
    ("(a+5)(b+2)", "(b+2)(a+5)"),
    ("x^3+3x-6", "x^3 + 3x - 6"),
    (r"\frac{11+9a}{20}", r"\frac{9a+11}{20}"),
    ("p - q", "-q+p"),
    ("15x - 80", "5(3x-16)"),
    (r"\cot x", r"\cot(x)"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    ("1+274i", "274i+1"),
    ("6+9i", "6 + 9 i"),
    ("1 - 12i", "1-12i"),
    (r"18+2\pi", r"2\pi+18"),
    (r"8 \pi", "8π"),
    (r"8\pi", "8 pi"),
    ("4343_6", "4343_{6}"),
    ("1011_2", r"1011_{\text{two}}"),
    ("1011", "1011_{10}"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\text{even}", r"\text{Even}"),
    (r"\text{(B)}", "B"),
    (r"\text{(B)}", "(B)"),
    (r"\text{ellipse}", "an ellipse"),
    (r"\text{June 20}", "June 20"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    (".0000672", r"6.72 \times 10^{-5}"),
    ("4.5", r"\frac{9}{2}"),
    ("4.5", "4.50"),
    ("28800", r"2.88 \times 10^4"),
    ("1251", "1251."),
    ("204", "$204$"),
    ("204", r"\boxed{204}"),
    ("204", "**204**"),
    ("073", "73"),
    ("25", "025"),
    ("2^{10}", "1024"),
    ("1024", "2^{10}"),
    (r"\frac{1}{2004!}", r"\frac{1}{2004!}"),
    ("2k+2", "2(k+1)"),
    ("3R^2", "3 R^2"),
    (r"\frac{448}{15625}", "448/15625"),
    (r"-\frac{3}{8}", r"\frac{-3}{8}"),
    (r"-\frac{3}{8}", "-0.375"),
    (r"5.4 \text{ cents}", "5.4"),
    ("18.90", r"\$18.9"),
    ("6 - 5i", "6-5i"),
    ("1,-2", "-2,1"),
    ("12:30", "12:30"),
    (r"\emptyset", r"\emptyset"),
    (r"\infty", r"\infty"),
    (r"\frac{20000}{\pi}", r"20000/\pi"),
    ("(6,31,-1)", "(6, 31, -1)"),
    ("3, 5, 7", "3,5,7"),
    ("3,5,7", "x = 3, 5, 7"),
    ("-2,1", "x=-2, x=1"),
    ("(2,4)", "x=2,y=4"),
    (r"\ln 2", r"\ln(2)"),
    (r"\log_2 3", r"\frac{\ln 3}{\ln 2}"),
    ("2x+3y=6", "3y+2x=6"),
    ("x^2+y^2=1", "y^2 = 1 - x^2"),
    ("e^{2}", "e^2"),
    (r"\tan 30^\circ", r"\tan 30^\circ"),
    ("16", r"16\text{ students}"),
    ("100", r"100\text{ km/h}"),
    (r"\frac{1}{3}", r"\frac{2}{6}"),
    (r"3\sqrt{13}", r"3 \sqrt {13}"),
    ("|x|", "|x|"),
    ("5!", "120"),
    (r"\binom{5}{2}", "10"),
    (r"x \le 3", r"x \leq 3"),
    (r"x \le 3", r"3 \ge x"),
    (r"\text{no solution}", "No solution"),
    (r"\frac{5\pi}{6}", r"150^\circ"),
    ("7", r"7\text{ hours}"),
    (r"1\frac{4}{5}", r"\frac95"),
    (r"1\frac{4}{5}", "1.8"),
    ("52_8", "52_{8}"),
    ("26000", "26,000"),
    (r"\$32,\!348", r"\$32,348"),
    (r"\$32,\!348", "32348"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    (r"12\text{ cm}^2", "12 square units"),
    (r"16\text{ square units}", "16"),
    (r"5\text{ red apples}", "5 apples"),
    (r"60\text{ mph}", "60"),
    (r"\frac{1}{2}\pi", r"\frac{\pi}{2}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\ 2\end{pmatrix}"),
    (r"10 \text{ miles per hour}", "10 mph"),
    (r"\text{(A)}", "A"),
    (r"\text{(A)}", "(A)"),
    ("A", r"\text{(A)}"),
    (r"\{1,2\}", "x=1 or x=2"),
    (r"\{1,2\}", r"x = 1 \text{ or } x = 2"),
    ("1234", "1 234"),
    (r"\frac{1}{2}", r"\frac 1 2"),
    (r"\frac{1}{2}", "2^-1"),
    (r"\frac{1}{3}", r"0.\overline{3}"),
    (r"\frac{7}{30}", r"0.2\overline{3}"),
    (r"\frac{1}{7}", r"0.\overline{142857}"),
    (r"(-\infty,\infty)", r"\mathbb{R}"),
    (r"(-\infty,\infty)", r"x \in \mathbb{R}"),
    (r"(-\infty,\infty)", "all real numbers"),
    (r"(-\infty,3)\cup(5,\infty)", r"x < 3 \text{ or } x > 5"),
]
DIFFERENT = [
    ("12", "13"),
    ("12", "-12"),
    ("-4", "4"),
    ("(1,2)", "(2,1)"),
    ("(8,-2)", "(-2,8)"),
    ("(8,-2)", "(8,2)"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"\frac{1}{3}", "0.3333333"),
    (r"\frac{1}{3}", "0.333333333333333333"),
    (r"\sqrt{2}", "1.41421356"),
    (r"\pi", "3.14159265"),
    (r"\pi", r"\frac{22}{7}"),
    (r"\frac{2}{3}", "0.67"),
    (r"5 \text{ cm}", "5 inches"),
    (r"5 \text{ cm}", r"5 \text{ m}"),
    (r"12\text{ cm}^2", r"12 \text{ cm}"),
    (r"\$12", "12 euros"),
    ("50", r"50\%"),
    (r"50\%", "50"),
    ("0.5", r"50\%"),
    (r"50\%", "0.5"),
    ("1011_2", "1011_3"),
    ("4343_6", "4343_7"),
    ("1011_2", "1011"),
    ("11", "1011_2"),
    ("[0,3)", "[0,3]"),
    ("[0,3)", "(0,3)"),
    ("[0,3)", "0 < x < 3"),
    (r"(-\infty,3]", "x < 3"),
    (r"(-\infty,3]", r"x \ge 3"),
    (r"(0,9) \cup (9,36)", "(0,36)"),
    (r"(0,9) \cup (9,36)", "(0,9)"),
    (r"\{1,2\}", r"\{1\}"),
    ("1,2", "1,2,3"),
    ("1,2,3", "1,2"),
    (r"\{1,2\}", "1 and 3"),
    ("-2,1", "2,-1"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt{2}"),
    (r"1 \pm \sqrt{19}", r"1 \pm \sqrt{17}"),
    (r"2\sqrt{5}", r"\sqrt{5}"),
    (r"2\sqrt{5}", r"5\sqrt{2}"),
    (
        r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}",
        r"\begin{pmatrix} -1 & 0 \\ 0 & 1 \end{pmatrix}",
    ),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    ("y = 2x + 3", "y = 2x - 3"),
    ("x=5", "y=5"),
    ("x=5", "6"),
    ("(a+5)(b+2)", "(a+2)(b+5)"),
    ("x^3+3x-6", "x^3+3x+6"),
    ("x^3+3x-6", "3"),
    ("p - q", "q - p"),
    (r"\cot x", r"\tan x"),
    ("1+274i", "1-274i"),
    ("6+9i", "15"),
    (r"8 \pi", "8"),
    ("8", r"8\pi"),
    (r"\text{Evelyn}", "Navin"),
    (r"\text{even}", "odd"),
    (r"\text{(B)}", "(C)"),
    (r"\text{ellipse}", "hyperbola"),
    (r"90^\circ", r"\frac{\pi}{3}"),
    ("90", r"91^\circ"),
    (r"\frac{\pi}{2}", "90"),
    ("12:30", r"\frac{2}{5}"),
    ("12:30", "12:31"),
    ("3:4", "4:3"),
    ("10080", "1008"),
    ("2k+2", "2k-2"),
    ("4.5", "4.50001"),
    (".0000672", ".000067"),
    ("1/2", "1/3"),
    (r"-\frac{3}{8}", r"\frac{3}{8}"),
    ("2^{10}", "1025"),
    ("10^{100}", "10^{100}+1"),
    ("2004!", "2005!"),
    (r"(2,\infty)", r"[2,\infty)"),
    (r"(2,\infty)", "(2,5)"),
    (r"x \le 3", "x < 3"),
    ("x>2", "x<2"),
    ("2x+3y=6", "2x+3y=7"),
    (r"1\frac{4}{5}", r"\frac45"),
    (r"137 \frac{1}{2}", r"\frac{137}{2}"),
    ("3, 5, 7", "3,5,8"),
    ("(6,31,-1)", "(6,31,1)"),
    ("e^{2}", "e^{-2}"),
    (r"\ln 2", r"\ln 3"),
    ("204", "203"),
    ("204", "205"),
    ("204", "2040"),
    ("0", "1"),
    ("0", "-1"),
    ("0", "10^{-30}"),
    ("3", "3!"),
    ("9", "3^3"),
    (r"\frac{1}{2}", "2"),
    (r"\sqrt{3}", r"\sqrt[3]{3}"),
    ("x+y", "x-y"),
    ("xy", "x+y"),
    ("(1,2)", "[1,2]"),
    ("(1,2,3)", "(1,2)"),
    (r"\frac{20000}{\pi}", r"20000\pi"),
    (r"\infty", r"-\infty"),
    (r"5 \text{ km}", r"5 \text{ miles}"),
    (r"10 \text{ hours}", "10 minutes"),
    (r"10 \text{ hours}", r"10 \text{ days}"),
    (r"5 \text{ square inches}", r"5 \text{ cubic inches}"),
    (r"60 \text{ km/h}", r"60 \text{ m/s}"),
    ("23", "2 3"),
    ("12", "1 2"),
    ("123", "1 2 3"),
    (r"\{1,2\}", "(1,2)"),
    ("(1,2)", r"\{1,2\}"),
    ("[1,2]", r"\{1,2\}"),
    (r"\text{(A)}", "B"),
    (r"\text{(A)}", "the"),
    (r"\{1,2\}", "x=1 or x=3"),
    (r"\frac{1}{3}", r"0.\overline{31}"),
    (r"\frac{1}{2}", "2^1"),
    (r"(-\infty,3)\cup(5,\infty)", r"x < 3 \text{ or } x \ge 5"),
    (r"(-\infty,\infty)", r"(0,\infty)"),
]


def math(gold, **meta):
    return Problem("m", "math", 1, "What is it?", gold, "math", meta)


def verdicts(pairs, workers=1):
    jobs = [(math(gold), answer) for gold, answer in pairs]
    return grade_answers(jobs, Settings(workers, progress=False))


def test_rules_of_equality():
    pairs, truth = EQUAL + DIFFERENT, ["correct"] * len(EQUAL) + ["wrong"] * len(DIFFERENT)
    decisions = verdicts(pairs)
    assert not [
        (pair, decision)
        for pair, decision, true in zip(pairs, decisions, truth, strict=True)
        if decision.verdict != true
    ]


def test_every_reference_equals_itself():
    golds = list(dict.fromkeys(gold for gold, _ in EQUAL + DIFFERENT))
    assert {verdict for verdict, _ in verdicts([(gold, f"$ {gold} $") for gold in golds])} == {
        "correct"
    }


def test_verdicts_do_not_depend_on_workers_or_order():
    pairs = EQUAL[40:52] + DIFFERENT[34:42]
    by_one, by_three = verdicts(pairs), verdicts(pairs[::-1], workers=3)
    assert by_one == by_three[::-1]


def test_a_bad_expression_costs_itself_only(monkeypatch):
    monkeypatch.setattr("ded.grading.pool.CPU_SECONDS", 0.5)
    bad = [
        "9^{9^{9^{9}}}",
        "x^{100000!}",
        "(" * 300 + "1" + ")" * 300 + "^x",
        r"\sqrt{" * 90 + "2" + "}" * 90,
    ]
    *decisions, good = verdicts([("x", answer) for answer in bad] + [(r"\sqrt{8}", r"2\sqrt{2}")])
    assert good == ("correct", "") and {verdict for verdict, _ in decisions} <= {
        "error",
        "unparsed",
        "wrong",
    }


def test_time_and_length_limits(monkeypatch):
    monkeypatch.setattr("ded.grading.pool.CPU_SECONDS", 0.2)
    ((large, reason),) = verdicts([("7", "1450000!")])
    assert (large, reason) == ("error", "time limit")
    ((long, reason),) = verdicts([("1", "1" * 1_000_000)])
    assert long == "unparsed" and "1000000 characters" in reason


def test_tolerance_only_where_the_task_asks():
    third, root = math("1/3", tolerance=1e-3), math(r"\sqrt{2}", tolerance=0.01)
    jobs = [
        (third, "0.333"),
        (third, "0.34"),
        (root, "1.41"),
        (root, "1.5"),
        (math("1/3"), "0.333"),
    ]
    decisions = grade_answers(jobs, Settings(progress=False))
    assert [verdict for verdict, _ in decisions] == [
        "correct",
        "wrong",
        "correct",
        "wrong",
        "wrong",
    ]


@pytest.mark.parametrize(
    ("question", "gold", "answer", "strict", "same"),
    [
        ("What percentage of the cars are red?", "60", r"60\%", "wrong", "correct"),
        ("By what percent does it rise?", r"60\%", "60", "wrong", "correct"),
        ("Which percent?", "60", "60 percent", "wrong", "correct"),
        ("What percentage is it?", r"60\%", "60%", "correct", "correct"),
        ("What percentage is it?", r"60\%", "0.6", "wrong", "wrong"),
        ("What percentage is it?", "60", r"61\%", "wrong", "wrong"),
        ("What is 20 percent of 300?", "60", r"60\%", "wrong", "wrong"),
    ],
)
def test_a_percent_sign_may_be_left_out_where_the_question_asks(
    question, gold, answer, strict, same
):
    pairs = [(Problem("m", "math", 1, question, gold, "math"), answer)]
    for percent, verdict in (("strict", strict), ("same", same)):
        ((decided, _),) = grade_answers(pairs, Settings(progress=False, percent=percent))
        assert decided == verdict


def test_what_cannot_be_read_is_unparsed():
    assert [verdict for verdict, _ in verdicts([("5", "no solution exists"), ("5", "}{")])] == [
        "unparsed"
    ] * 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{99} wait, no: \boxed{100}", "100"),
        (r"\boxed{\frac{1}{2}} and \boxed{unclosed", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("The answer is 42.", "42"),
        ("The final answer is: $x = 5$, as shown.", "x = 5"),
        ("**Answer:** 3/4", "3/4"),
        ("**Final Answer**\nThe final answer is $\\sqrt{2}$. I hope it is correct.", r"\sqrt{2}"),
        ("the answer was 7. Then the answer is 3.5 meters.", "3.5 meters"),
        ("work\n#### 1,234", "1,234"),
        ("Answer:\n17", "17"),
        ("The answer is\n$$\nx + 1\n$$\nas $y$ shows", "x + 1"),
        ("The answer is 5.\n\n$y$ was not needed", "5"),
        (r"\boxed{1} " + r"\boxed{" * 20_000, None),
        ("42", "42"),
        ("$\\frac{3}{4}$", r"\frac{3}{4}"),
        ("I think it may be 42 or 43", None),
        ("", None),
        (r"\boxed{}", None),
    ],
)
def test_extraction(text, answer):
    assert extract(text) == answer


def test_the_last_number_counts_only_where_the_task_allows():
    assert extract("it takes 10-12 days", last_number=True) is None  # a range is no number
    text = "She has 3 + 4 = 7 eggs and earns $1,234.50 in all"
    assert extract(text) is None and extract(text, last_number=True) == "$1,234.50"
    graded = grade(
        pd.DataFrame({"problem_id": "m", "text": [text], "finish_reason": "stop"}),
        [math("1234.5", last_number=True)],
        progress=False,
    )
    assert graded["verdict"][0] == "correct"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{(B)}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{\textbf{(B)}\ 12}", "B"),
        ("The answer is (b).", "B"),
        ("Answer: B) Paris", "B"),
        ("B", "B"),
        ("**B**", "B"),
        ("(B) Paris", "B"),
        ("The answer is Paris", "B"),
        (r"\boxed{Paris}", "B"),
        (r"\boxed{D}", "D"),
        (r"\boxed{E}", None),
        ("Option C", "C"),
        ("Being late is bad", None),
        ("I do not know", None),
    ],
)
def test_multiple_choice(text, letter):
    options = ["Rome", "Paris", "Oslo", "Bern"]
    question = Problem("c", "c", 1, "", "B", "choice", {"options": options})
    assert choice.extract(text, question) == letter


def test_kinds_side_by_side():
    problems = [
        Problem("c", "f", 1, "", "B", "choice"),
        math(r"\frac{1}{2}"),
        Problem("e", "f", 1, "", "a b"),
    ]
    rows = [
        ("c", "(B)"),
        ("m", r"\boxed{0.5}"),
        ("m", r"\boxed{0.6}"),
        ("e", "a b"),
        ("c", "hm hm"),
        ("m", "so be it"),
    ]
    frame = pd.DataFrame(rows, columns=["problem_id", "text"]).assign(finish_reason="stop")
    graded = grade(frame, problems, progress=False)
    assert graded["verdict"].tolist() == [
        "correct",
        "correct",
        "wrong",
        "correct",
        "unparsed",
        "unparsed",
    ]
    assert graded["answer"].tolist()[:3] == ["B", "0.5", "0.6"]
