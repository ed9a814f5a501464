# ruff: noqa: RUF001
"""What counts as the answer in a completion: values after a correction, in a list, in other words
and languages, and when there is none.
"""

import pandas as pd
import pytest

from ded.grading import choice, grade
from ded.problems import Problem
from ded.problems.extraction import extract

# what is stated: (completion, the answer in it)
STATED = {
    "the last statement": [
        ("The answer is 5. Wait, no. The answer is 12.", "12"),
        ("The answer is 5. Actually, 12.", "12"),
        ("The answer is 5 - wait, 12.", "12"),
        ("The answer is 5 (no, 12).", "12"),
        ("The answer is 5.\nActually, 12.", "12"),
        ("The answer is 5. Scratch that, it should be 12.", "12"),
        ("The answer is 5. Wait, that's wrong. It's 12.", "12"),
        ("The answer is 5... hmm, actually it is 12.", "12"),
        ("**Answer: 5**\n\nOn second thought, it should be 12.", "12"),
        ("Answer: 5\n\nCorrection: 12", "12"),
        ("Answer: 5\n\nAnswer: 12", "12"),
        ("The answer is 5, not 6.", "5"),
        ("The answer is not 5 but 12.", "12"),
        ("The answer isn't 6, it's 5", "5"),
        ("The answer is 5. The answer is not 6.", "5"),
        (r"First try \boxed{5}. That is wrong; the answer is \boxed{7}.", "7"),
        (r"\boxed{5}. Wait, the answer is 7.", "7"),
        (r"The answer is 7, as \boxed{} says", "7"),
        ("One might think the answer is 5, but the answer is actually 6.", "6"),
        ("One might think the answer is 5, but it is actually 6.", "6"),
        ("The wrong answer is 5.", None),
        ("The answer cannot be 5.", None),
        (r"\boxed{5}, not \boxed{6}", "5"),
        (r"\boxed{5}. It isn't $\boxed{6}$", "5"),
        ("The answer is <b>12</b><|im_end|>", "12"),
        (r"\boxed{44}\pmod{83}. We check our answer: $17 \cdot 44 = 748$.", "44"),
    ],
    "taken back": [
        ("The answer is 5. Wait, that is wrong.", None),
        ("The answer is 5. Scratch that.", None),
        ("The answer is 5. Wait, no.", None),
        ("The answer is 5. Hold on, that can't be right.", None),
        ("The answer is 5. Oops, I made an arithmetic error.", None),
        ("The answer is 5. Never mind.", None),
        (r"\boxed{5}. Hmm, that's not right.", None),
        (r"\boxed{5} is wrong.", None),
        ("The answer is not 5.", None),
        ("答案不是5。", None),
    ],
    "exact before about": [
        (r"\boxed{\sqrt{2}}. The answer is about 1.414.", r"\sqrt{2}"),
        ("The answer is approximately 5.", "5"),
    ],
    "a value before words": [
        ("Answer: 5\n\nThe answer is reasonable.", "5"),
        (r"\boxed{42}. The answer is that only one number works.", "42"),
    ],
    "boxes": [
        (r"\boxed{3}, \boxed{5}, \boxed{7}", "3, 5, 7"),
        (r"$\boxed{3}$ and $\boxed{5}$", "3, 5"),
        (r"$x=\boxed{3}$ or $x=\boxed{5}$", "3 or 5"),
        (r"x is \boxed{3} and y is \boxed{5}", "3, 5"),
        (r"\[ \boxed{-2} \quad \text{and} \quad \boxed{1}. \]", "-2, 1"),
        ("- \\boxed{3}\n- \\boxed{5}", "3, 5"),
        (r"(\boxed{3}, \boxed{5}]", "(3, 5]"),
        (r"\boxed{1} papers and \boxed{2} bins", "1, 2"),
        ("\\boxed{4}\n\n\\boxed{4}", "4"),
        (r"First case: \boxed{2}. In all: \boxed{3}", "3"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{5}", "5"),
        (r"\framebox{204} minutes", "204"),
        (r"$\boxed5$.", "5"),
        (r"\boxed 12", "12"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\text{The answer is } 5}", "5"),
        (r"\boxed{5}\text{ cm}", r"5\text{ cm}"),
        (r"\boxed{5} \boxed{ }", "5"),
        (r"The answer is 5. \boxed{}", "5"),
        (r"I put the answer in \boxed{}", None),
        (r"\boxed{...}", None),
        (r"\boxed{5", None),
    ],
    "headings and marks": [
        ("**Final Answer**\n\n42", "42"),
        ("### Final Answer\n\n$42$", "42"),
        ("**Final Answer**\n\n---\n\n**42**", "42"),
        ("Final Answer:\nThe last digits are:\n\\[Answer: 009\\]", "009"),
        ("Final Answer:\nThe last digits of \\(2^{2^{9}}\\) are:\n\\[009\\]", "009"),
        ("Final Answer: The largest $n$ is 34. I hope it is correct.", "34"),
        ("**Answer** 42", "42"),
        ("__Answer__: 42", "42"),
        ("Answer - 42", "42"),
        ("Answer — 42", "42"),
        ("Ans. 42", "42"),
        ("<answer>42</answer>", "42"),
        ("The answer should be `42`.", "42"),
        ("The answer comes out to 42.", "42"),
        ('The answer is "$12 $ and $13 $".', "12 and 13"),
        ("Answer:\n- x = 3\n- x = 5", "x = 3, x = 5"),
        ("Answer:\n1. x = 3\n2. x = 5", "x = 3, x = 5"),
        ("<final_answer>42</final_answer>", "42"),
        ('{"answer": "42"}', "42"),
        (r"\[\textbf{Answer: 42}\]", "42"),
        ("(Answer: 42)", "42"),
        ("The answer is... 42 ✅", "42"),
        ("**Final Answer:**\n\n- 42", "42"),
        ("#### -5", "-5"),
        ("#### 1. First step\nand so on", None),
    ],
    "the last line": [
        ("so x^2 = 4\n= 42", "42"),
        ("60%", "60%"),
        (r"x = 60\%", r"60\%"),
        ("60 percent.", "60 percent"),
        ("It has to be even.\n$5", "$5"),
        ("10^{5}", "10^{5}"),
        ("7:30", "7:30"),
        ("5km", None),
        ("One number works:\n- 42", "42"),  # a bullet
        ("- 60%", "60%"),
        ("-60%", "-60%"),
        ("= - 42", "- 42"),
        ("One number works:\n1. 42", None),  # and not 1.42
        ("`42`", "42"),
        ("42 is the answer.", "42"),
        ("So $42$ is the final answer.", "42"),
        ("42 is not the answer.", None),
        ("Solution: 42", "42"),
        ("**Solution:** x = 42", "42"),
        ("Solution: 2 + 3 = 5", None),
        ("It follows.\nTherefore, x = 42.", "42"),
        ("We get\n\\[\nx = 42\n\\]\n", "42"),
        (".4", ".4"),
        ("We know\n$$x^2 + y^2 = 1$$", None),
    ],
    "qualifiers": [
        ("The answer is 12 (approximately).", "12"),
        ("The answer is 5, which is the total.", "5"),
        ("The answer is $x = 5$, where $x$ counts hens.", "x = 5"),
        ("The answer is $5$ because 2+3=5.", "5"),
        ("The answer is 5 – the sum of both.", "5"),
        ("The answer is $3$ or $5$", "3 or 5"),
        ("The answer is $5$ inches", "5 inches"),
        ("The answer is 2**10", "2**10"),
    ],
    "other languages": [
        ("最终答案是：5", "5"),
        ("答：5", "5"),
        ("因此答案为5。", "5"),
        ("【答案】5", "5"),
        ("**最终答案**：\\(5\\)", "5"),
        ("答案是5，因为2+3=5。", "5"),
        ("答案为5个。", "5"),
        ("所以，x=５。", "5"),
        ("答案是5。不对，答案是6。", "6"),
        ("答案是（1，2）。", "(1,2)"),
        ("La réponse est 5.", "5"),
        ("Die Antwort lautet: 5.", "5"),
        ("La respuesta es 5.", "5"),
        ("A resposta é 5.", "5"),
        ("答えは5です。", "5"),
        ("정답은 5입니다.", "5"),
        ("Ответ: 5", "5"),
    ],
    "words": [
        ("The answer is Tuesday.", "Tuesday"),
        ("The answer is 5. Wait, the answer is undefined.", "undefined"),
        ("The answer is: does not exist", "does not exist"),
        ("the answer is that there is no simple way to say", None),
        ("Final Answer: Jane started growing it 3 hours ago.", None),
        ("The answer is unknown, as we need 5 more facts than there are", "unknown"),
    ],
}


@pytest.mark.parametrize("kind", STATED)
def test_statements(kind):
    read = [(text, extract(text)) for text, _ in STATED[kind]]
    assert read == STATED[kind]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It costs .4", ".4"),
        ("so x=-.5", "-.5"),
        ("A: 1/5", "1/5"),
        ("2 1/2 cups", "2 1/2"),
        ("It is $3^4$", "3^4"),
        ("it is 1e-5", "1e-5"),
        ("it is 10^5.", "10^5"),
        ("at 5:30", "5:30"),
        ("2 * 3 = $<<2*3=6>>6", "$6"),
        ("she earns $1,234.50.", "$1,234.50"),
        ("proceeds of $118 000.", "$118 000"),
        ("pays $3 + $4 = $7", "$7"),
        ("28 percent", "28 percent"),
        ("$18,000/year", "$18,000"),
        ("That is 12km.", "12"),
        ("finishes 5th", "5"),
        ("**42**</b>", "42"),
        ("version 3.2.1", None),
        ("on 2024-05-06", None),
        ("takes 3-5 days", None),
        ("room #5", None),
        ("a loss of 5 million", "5 million"),
        ("7x", None),
        (r"it is \frac{1}{2}", None),
        ("The answer is 5. Wait, that is wrong.", None),
    ],
)
def test_the_last_number_is_whole(text, number):
    assert extract(text, last_number=True) == number


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
    [
        ("12", r"\boxed{\textbf{(C)}\ 12}", "correct"),
        ("C", r"\boxed{\textbf{(C)}\ 12}", "correct"),
        ("D", r"\boxed{\textbf{(C)}\ 12}", "wrong"),
        ("13", r"\boxed{\textbf{(C)}\ 12}", "wrong"),
        ("12", "Answer: C. 12", "correct"),
        ("12", r"\boxed{\text{(C) }12}", "correct"),
        ("(1,2)", r"\boxed{\textbf{(A)}\ (1,2)}", "correct"),
        (r"\textbf{(C)}\ 12", "The answer is C", "correct"),
        (r"\textbf{(C)}\ 12", r"\boxed{12}", "correct"),
        (r"\textbf{(C)}\ 12", r"\boxed{(D) 12}", "wrong"),
        ("12", r"\boxed{(C)}", "wrong"),
        (r"5\text{ inches}", r"\boxed{5}\text{ cm}", "wrong"),
        ("3", r"\boxed{3} and \boxed{5}", "wrong"),
        ("(1,2)", r"\boxed{（1，2）}", "correct"),
        ("1,2", "答案是1和2", "correct"),
        ("5", "The answer is less than $5$", "unparsed"),
        (r"60\%", "60%", "correct"),
        ("60", "60%", "wrong"),
        ("5", "The answer is found by adding 2 and 3", "unparsed"),
        ("5", "The answer is one of 5 options", "unparsed"),
        (r"\text{Tuesday}", "The answer is Monday, not Tuesday.", "wrong"),
    ],
)
def test_verdicts_end_to_end(gold, text, verdict):
    frame = pd.DataFrame({"problem_id": ["m"], "text": [text], "finish_reason": "stop"})
    graded = grade(frame, [Problem("m", "m", 1, "", gold, "math")], progress=False)
    assert graded["verdict"][0] == verdict


@pytest.mark.parametrize(
    "hard", [r"\(", "$", r"\boxed{", r"\text{", "the answer is ", "wait ", "\n", "1 000 ", "<<"]
)
def test_a_text_of_nothing_but_openings_has_no_short_answer(hard):
    for start in ("", "Answer: "):
        answer = extract(start + hard * 50_000, last_number=True)
        assert answer is None or len(answer) > 1000 or "000" in hard


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("We know \\boxed{\\langle H\\rangle \\ll \\Delta E}.\n\n**Answer: D**", "D"),
        ("the correct option is (B)", "B"),
        ("Final answer - B", "B"),
        ("Option C is correct", "C"),
        ("Hence, option B.", "B"),
        ("(B) is correct, since (A) is not.", "B"),
        ("I would go with B.", "B"),
        ("选 B", "B"),
        ("选项B正确", "B"),
        ("正确答案是（Ｂ）", "B"),
        ("答案是B，因为A不对。", "B"),
        (r"\boxed{\text{B}}", "B"),
        (r"\boxed{C. 1.5 eV}", "C"),
        (r"\boxed{1.5\ \text{eV}}", "C"),
        ("B.", "B"),
        ("Some thoughts.\n\nB", "B"),
        ("the answer is B because A is wrong", "B"),
        ("The answer is B. Note that A is tempting.", "B"),
        ("The answer is not A but B", "B"),
        ("The answer is B and not A.", "B"),
        ("The answer is (b)", "B"),
        ("Answer: B. Actually, C.", "C"),
        ("Answer: B\n\nThe answer is not A.", "B"),
        ("The answer is both", "D"),
        ("A cat sat on the mat", None),
        ("The answer is a cat", None),
        ("I think so", None),
        ("The answer is E", None),
        ("The answer is A or B", None),
        ("Both A and B are correct.", None),
        (r"\boxed{A, C}", None),
        (r"\boxed{A} and \boxed{C}", None),
        ("Answer: B. Wait, that's wrong.", None),
        ("I cannot determine the answer.", None),
        ("Answer: B. The final answer is that I cannot say.", None),
        ("The answer is none of the above", None),
        ("A) is wrong. B) is wrong.", None),
    ],
)
def test_which_option_is_chosen(text, letter):
    options = ["conserved", "larger", "1.5 eV", "both"]
    question = Problem("c", "c", 1, "", "B", "choice", {"options": options})
    assert choice.extract(text, question) == letter
