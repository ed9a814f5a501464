"""Texts of trajectories: where thinking ends, what is quoted, control tokens, loops."""

import pytest

from ded.curation import split_think
from ded.grading import answer_part
from ded.problems import texts

BOX = r"\boxed{4}"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # tags that the answer speaks about
        (
            f"<think>\na\n</think>\nThe tag <think> opens it. {BOX}",
            f"The tag <think> opens it. {BOX}",
        ),
        (f"<think>\na\n</think>\n{BOX}, and `<think>` opens.", f"{BOX}, and `<think>` opens."),
        (f"<think>\na\n</think>\n{BOX}: I ended with </think>.", f"{BOX}: I ended with </think>."),
        (
            f"<think>a</think>Write <think> and </think>: {BOX}",
            f"Write <think> and </think>: {BOX}",
        ),
        ("<think>\na\n</think>\n```\n<think>\nb\n</think>\n```", "```\n<think>\nb\n</think>\n```"),
        ("<think>\na\n</think>\nprint('<think>\\n')", "print('<think>\\n')"),
        # tags that the thinking speaks about
        (f"<think>\nI end with </think>, maybe 5\n</think>\n\n{BOX}", BOX),
        ("<think>\n```\n<think>x</think>\n```\nno\n</think>\n4", "4"),
        ("<think>\n```\na\n</think>\nHere:\n```python\nx\n```", "Here:\n```python\nx\n```"),
        # several blocks, one in another, one opened twice
        ("<think>\na\n</think>\n5?\n<think>\nb\n</think>\n4", "4"),
        ("<think>a</think><think>b</think>4", "4"),
        ("<think>a<think>b</think>c</think>4", "4"),
        ("<think>\n<think>\na\n</think>\n4", "4"),
        # no opening tag: it stood in the prompt; text before it; a closing tag too many
        ("a\n</think>\n4", "4"),
        ("Well: <think>\nmaybe 5\n</think>\n4", "4"),
        ("<think>\na\n</think>\n4\n</think>", "4"),
        # still thinking
        ("<think>\na\n</think>\n5\n<think>\nwait", None),
        (f"<think>a<think>b</think>{BOX}</think>", None),
        (f"Well: <think> maybe {BOX}", None),
    ],
)
def test_the_answer_is_what_follows_the_thinking(text, answer):
    assert answer_part(text)[0] == answer
    assert not answer or texts.split(text).answer == answer


def test_a_quoted_tag_costs_no_trajectory_its_place_in_a_corpus():
    assert split_think("<think>\na\n</think>\nThe tag <think> opens.") == (
        "a",
        "The tag <think> opens.",
    )
    assert split_think("<think>\n`</think>` closes\n</think>\n4") == ("`</think>` closes", "4")
    assert split_think("<think>\n</think> closes it\n</think>\n4") is None  # who can tell?


@pytest.mark.parametrize(
    "odd",
    ["```x\n`a <think> y\n", "<think>", "<think>a</think>", "</s> a ", "\n", " ", "<|", '"<think>'],
)
def test_odd_texts_take_linear_time(odd):  # else this would not end
    text = f"<think>\na\n</think>\nb{odd * 30_000}b"
    assert texts.plain(text).startswith("<think>\na\n</think>\nb")
    assert texts.ended(text, "<eos>") == text and texts.loops(text) in (True, False)


@pytest.mark.parametrize(
    ("recorded", "meant"),
    [
        *(
            (f"<think>\n6*7\n</think>\nIt is 42{end}", "<think>\n6*7\n</think>\nIt is 42")
            for end in (
                *(
                    "<|im_end|>",
                    "<|endoftext|>\n",
                    "</s>",
                    "<|eot_id|>",
                    "<|im_end|>\n<|endoftext|>",
                ),
                *(
                    "<\uff5cend\u2581of\u2581sentence\uff5c>",
                    "<end_of_turn>",
                    "<|return|>",
                    "<eos><pad>",
                ),
                "<|im_end|>\n<|im_start|>user\nAnd 6*8?<|im_end|>",  # went on by itself
                "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThanks",
                "<\uff5cend\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Thanks",
            )
        ),
        # a rendered template before it
        ("<|im_start|>assistant\n42<|im_end|>", "42"),
        ("<|im_start|>user\n6*7?<|im_end|>\n<|im_start|>assistant\n42<|im_end|>\n", "42"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\n42", "42"),
        ("<start_of_turn>model\n42<end_of_turn>", "42"),
        ("<s>[INST] 6*7? [/INST] 42</s>", "42"),
        ("<\uff5cbegin\u2581of\u2581sentence\uff5c>42", "42"),
        # think blocks of other families
        (
            "<|begin_of_thought|>\n\na\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n4\n\n"
            "<|end_of_solution|>",
            "<think>\na\n</think>\n4",
        ),
        ("<|im_start|>think\na\n<|im_start|>answer\n4", "<think>\na\n</think>\n4"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>4",
            "<think>\na\n</think>\n4",
        ),
        ("[THINK]a[/THINK]4</s>", "<think>\na\n</think>\n4"),
        # an opening tag that stood in the prompt; one at the end of the thinking
        ("a\n</think>\n\n4", "<think>\na\n</think>\n\n4"),
        ("<think>\na<|im_end|>\n</think>\n4", "<think>\na\n</think>\n4"),
        ("<think>\nstill<|im_end|>", "<think>\nstill"),
        # as they are
        ("<think>\na\n\n</think>\n\n4", "<think>\na\n\n</think>\n\n4"),
        ("In ChatML <|im_end|> ends a turn.", "In ChatML <|im_end|> ends a turn."),
        ("$\\langle a|b\\rangle < |x| > 0$", "$\\langle a|b\\rangle < |x| > 0$"),
    ],
)
def test_recorded_texts_lose_control_tokens_at_their_edges(recorded, meant):
    assert texts.plain(recorded) == texts.plain(meant) == meant


PHRASE = "Wait, let me check 6*7 once more. "


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("<think>\nSo 42. " + 5 * PHRASE, True),
        ("<think>\nSo 42. " + 5 * PHRASE + "Wait, let me che", True),  # cut off
        ("x" + 40 * " 0", True),
        (40 * "\u518d", True),
        (3 * "".join(f"{i} " for i in range(900)), True),
        (2 * PHRASE, False),
        (5 * PHRASE + "</think>\n42", False),
        (" ".join(f"Step {i}: go on." for i in range(99)), False),  # counts up
        (r"\boxed{1, 1, 1, 1, 1, 1}", False),
        ("no, no, no, no", False),
        ("", False),
    ],
)
def test_a_text_that_ends_in_one_phrase_over_and_over_is_a_loop(text, loop):
    assert texts.loops(text) == loop


def test_long_texts_are_looked_through_in_one_pass():
    assert texts.loops("ab " * 10**6)
    assert not texts.loops(("a " * 40 + "b ") * 2 + "a " * 20 + "c")
