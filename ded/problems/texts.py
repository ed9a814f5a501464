"""What the text of a trajectory is made of: thinking, the answer, control tokens of chat templates
(docs/grading.md, "Thinking"; docs/sources.md, "Recorded traces").
"""

import re
from functools import lru_cache
from typing import NamedTuple

from ded.files import beside

THINK, CLOSE = "<think>", "</think>"

# --- thinking and answer --------------------------------------------------------------------------
_TAG = re.compile(r"(?P<first>^[ \t]*)?(?P<tag></?think>)(?P<last>[ \t]*$)?", re.M)
_QUOTED = re.compile(
    r"(?<!`)(``?)(?!`)[^`\n]*\1(?!`)|[\"'\u201c\u2018](?:</?think>(?:\\n)*)+[\"'\u201d\u2019]"
)
_FENCED = re.compile(r"^[ \t]*(```+|~~~+).*?(?:(?P<end>^[ \t]*\1[ \t]*$)|\Z)", re.M | re.S)
_GLUED = re.compile(r"\n|\S</?think>|</?think>\S")


class Parts(NamedTuple):
    """A text taken apart.

    thinking: None where no block closes. answer: what follows, None where a block stays open.
    tags: those that open or close a block or stand, unquoted, in the thinking.
    """

    thinking: str | None
    answer: str | None
    tags: list[str]


@lru_cache(maxsize=1024)  # grading and the filters take the same texts apart
def split(text: str) -> Parts:
    """The thinking in a trajectory's text and its answer, both stripped.

    The thinking ends where the last block closes; one that stays open leaves no answer. Tags in
    quotation marks, backticks and code fences of the answer are text. So are, after the first
    block, tags within a line, but in a text of one line whose tags are words of their own, as the
    lab's. Of closing tags one that begins or ends its line goes before one within a line. The
    opening tag may be missing: templates put it into the prompt.
    """
    text = text.strip()
    masked = _QUOTED.sub(_blank, text)
    closing = [match for match in _TAG.finditer(masked) if match["tag"] == CLOSE]
    standing = [match for match in closing if _stands(match)]
    if closing:
        answer_at = (standing or closing)[0].end()
        masked = masked[:answer_at] + _FENCED.sub(_blank, masked[answer_at:])
    words, last = not _GLUED.search(text), standing[-1].start() if standing else -1
    depth, end, deciding, tags = 0, 0, "", []
    for match in _TAG.finditer(masked):
        tag, inside = match["tag"], match.start() > last and (depth or not end)
        decides = words or inside or _stands(match)
        tags.append((tag, decides, match.start()))
        if not decides:
            continue
        deciding = tag
        if tag == THINK:
            depth += not _follows(match, THINK)  # twice in a row is once
        elif words or depth or not end or text[match.end() :].strip():
            depth, end = max(0, depth - 1), match.end("tag")
    return Parts(
        text[: end - len(CLOSE)].removeprefix(THINK).strip() if end else None,
        None if deciding == THINK else text[end:].removesuffix(CLOSE).strip(),
        [tag for tag, decides, at in tags if decides or at < end],
    )


def thinks(text: str) -> bool:
    """Whether a think block closes in a text; tags that are quoted close none."""
    return split(text).thinking is not None


def _blank(match: re.Match) -> str:
    """As many other characters; a fence that nothing ends stays."""
    ends = match.groupdict().get("end", "")
    return match.group() if ends is None else "\0" * len(match.group())


def _stands(match: re.Match) -> bool:
    """Whether a tag begins its line or, a closing one, ends it; one that opens may follow another
    block's end on its line."""
    ends = match["last"] is not None if match["tag"] == CLOSE else _follows(match, CLOSE)
    return ends or match["first"] is not None


def _follows(match: re.Match, tag: str) -> bool:
    """Whether only white space stands between a tag and the one before it."""
    at = match.start("tag")
    return match.string[max(0, at - 50) : at].rstrip().endswith(tag)


# --- control tokens -------------------------------------------------------------------------------
_WRITTEN = beside(__file__, "texts.yml")
_TOKEN = f"(?:{'|'.join(_WRITTEN['tokens'])})"
_BEFORE = re.compile(rf"\A(?:\s*{_TOKEN})+")
_AFTER = re.compile(rf"(?:{_TOKEN}\s*)+\Z")  # no white space before it: runs of it would be slow
_ASSISTANT, _NEXT_TURN = (
    re.compile("|".join(_WRITTEN[name]).replace("TOKEN", _TOKEN), re.I)
    for name in ("assistant", "next turn")
)
_BLOCKS = [
    (re.compile(rf"(?:{_TOKEN}\s*)*?{opening}"), re.compile(closing))
    for opening, closing in _WRITTEN["blocks"]
]


def is_control(token: str) -> bool:
    """Whether a token has the form of a control token of a public family of chat templates."""
    return re.fullmatch(_TOKEN, token) is not None


def plain(text: str) -> str:
    """The text that a model meant, of what others recorded.

    The assistant's first turn; without control tokens at the edges of text, thinking and answer
    (within they are text); think blocks of other families as <think> ... </think>; an opening tag
    that stood in the prompt put back.
    """
    given = text.strip()
    text = _turn(_block(_turn(_block(given))))
    thinking, answer, _ = split(text)
    others = text != given or re.search(_TOKEN, text)
    if others and thinking is not None and answer is not None:
        return f"{THINK}\n{_bare(thinking)}\n{CLOSE}\n{_bare(answer)}"
    return opened(_bare(text))


def opened(text: str) -> str:
    """The text with its opening tag, where a template had put that into the prompt."""
    thinking, _, tags = split(text)
    return text if thinking is None or THINK in tags else f"{THINK}\n{text}"


def _block(text: str) -> str:
    for opening, closing in _BLOCKS:
        if match := opening.match(text):
            return THINK + closing.sub(CLOSE, text[match.end() :], count=1)
    return text


def _turn(text: str) -> str:
    """The assistant's first turn, without what a rendered template shows before and after it."""
    if _BEFORE.match(text) and (header := _ASSISTANT.search(text)):
        text = text[header.end() :]
    return _NEXT_TURN.split(text, maxsplit=1)[0].strip()


def _bare(text: str) -> str:
    return _AFTER.sub("", _BEFORE.sub("", text)).strip()


def ended(text: str, end: str) -> str:
    """The text without the control tokens and the `end` tokens that it ends in."""
    bare = re.sub(rf"(?:(?:{_TOKEN}|{re.escape(end)})\s*)+\Z", "", text)
    return text if bare == text else bare.rstrip()


_BRANCHES = re.compile("|".join(_WRITTEN["branches"]), re.I)


def branches(text: str) -> int:
    """How many times a text opens another attempt, by the words of texts.yml."""
    return len(_BRANCHES.findall(text))


# --- loops ----------------------------------------------------------------------------------------
REPEATS, LOOP_WORDS = 3, 30
_WORD = re.compile(r"[A-Za-z0-9_]+|\S")  # a letter of a script without spaces is a word, too


def loops(text: str) -> bool:
    """Whether a text ends in a loop: one phrase, `REPEATS` times or more, `LOOP_WORDS` words or
    more in all, the last time perhaps cut off.

    After Holtzman et al. 2020 (arXiv 1904.09751), who count a phrase of two tokens or more that
    ends a text three times; theirs has no least length, ours looks at words. What counts up as it
    repeats ("step 7 ... step 8 ...") is no loop. Phrases of up to 1,000 words, in linear time.
    """
    words = _WORD.findall(text[-20_000:])[: -REPEATS * 1000 - 1 : -1]
    return any(_repeats(words[cut:]) for cut in (0, 1))  # the last word may be cut, too


def _repeats(words: list[str]) -> bool:
    """Whether a beginning of `words` is long enough and has a short enough period (by the borders
    of Knuth, Morris and Pratt).
    """
    borders = [0]
    for n, word in enumerate(words[1:], 2):
        border = borders[-1]
        while border and word != words[border]:
            border = borders[border - 1]
        borders.append(border + (word == words[border]))
        if n >= max(LOOP_WORDS, REPEATS * (n - borders[-1])):
            return True
    return False
