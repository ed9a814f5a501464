"""How an answer is built: lists, equations, figures and matrices, read off its text."""

import re

from ded.grading.units import WRAPPER, names_in

_OPEN, _CLOSE = "([{", ")]}"
LIST = r",|;|\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b|(?<=\))(?:and|or)(?=\()"
EQUALS = r"(?<![<>!\\])=(?!=)"
CONNECTIVES = (  # or, and, without
    r"\bor\b|\\(?:cup|vee)(?![a-z])",
    r",?\s*\band\b|\\(?:cap|wedge)(?![a-z])",
    r"\\setminus(?![a-z])|\bexcept\b|(?<=\\mathbb\{R\}) ?-",
)
RELATION = re.compile(r"\\[lgn]e(?![a-z])|<|>|=")
EMPTY = re.compile(
    r"\\emptyset|none|(?:there (?:is|are) )?no (?:real )?(?:solutions?|roots?)(?: exists?)?"
    r"|(?:the )?empty set",
    re.I,
)
_SET = re.compile(r"\\(?:[lgn]e|cup|cap|vee|wedge|setminus|emptyset|in)(?![a-z])|<|>|\\mathbb\{R\}")
_MATRIX = r"(.*?)[\[(\s]*\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\2\}"
# x, \theta, AB, \overline{AB}, Area, |z|, \sin A, m\angle A
_NAME = (
    r"\|?(?:m? ?(?:\\(?!sqrt|frac|pi|infty)[a-zA-Z]+ ?)+(?:[A-Z]+|[a-zA-Z]|\{[A-Za-z ]*\})?"
    r"|[A-Z]+|[a-zA-Z]|[A-Za-z]{4,}(?: [a-z]{2,})*)\|?"
)
_LABEL = re.compile(
    rf"\(?{_NAME}(?: ?[,:/] ?{_NAME})*\)?|\\frac\{{{_NAME}\}}\{{{_NAME}\}}|\[[A-Z]+\]"
)
# what a name may carry: a subscript, arguments, a prime, a power of a matrix
_CARRIED = re.compile(
    r"_ ?(?:\{[^{}]*\}|\w)|(?<=[A-Za-z}'])\([^()]*\)|'"
    r"|(?<=[A-Za-z])\^ ?\{-1\}|(?<=[A-Z])\^ ?\{?(?:\d|T|\\top)\}?"
)
_FIGURE = re.compile(r"(?:\\?([A-Za-z][a-z]+) *)?\{? ?((?:[A-Z](?:_\{?\d\}?|')?){2,}) ?\}?")


def depths(text: str) -> list[int]:
    """For each character, how many brackets are open around it."""
    all_depths, depth = [], 0
    for character in text:
        depth -= character in _CLOSE
        all_depths.append(depth)
        depth += character in _OPEN
    return all_depths


def split(text: str, separator: str) -> list[str]:
    """`text` cut where the pattern `separator` matches outside all brackets; empty parts are
    dropped.
    """
    at_depth, parts, start = [*depths(text), 0], [], 0
    for match in re.finditer(separator, text):
        if at_depth[match.start()] == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def is_set(text: str) -> bool:
    """Whether a text describes a set of real numbers otherwise than by one interval or a list."""
    return bool(_SET.search(text)) and r"\begin" not in text


def is_list(*texts: str) -> bool:
    """Whether one of these texts is a bare list."""
    return any(len(split(text, LIST)) > 1 for text in texts)


def brackets(text: str) -> tuple[str, str]:
    """(the pair of brackets around a whole text, such as "[)", what is inside), or ("", text)."""
    bare = text.replace("\\{", "{").replace("\\}", "}")
    at_depth = depths(bare)
    framed = len(bare) > 1 and bare[0] in _OPEN and bare[-1] in _CLOSE
    if not framed or 0 in at_depth[1:-1] or at_depth[-1]:
        return "", text
    return bare[0] + bare[-1], bare[1:-1].strip()


class Collection:
    """A text read as a list.

    brackets, inside: as in `brackets`. ordered: whether this is a tuple or an interval. items: its
    elements, or those of a bare or braced list, every plus-minus as two of them.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.brackets, self.inside = brackets(text)
        elements = split(self.inside, ",|;")
        self.ordered = self.brackets[:1] in ("(", "[") and len(elements) > 1
        if not self.ordered:
            listed = self.inside if self.brackets[:1] == "{" else text
            elements = [form for item in split(listed, LIST) for form in both_signs(item)]
        self.items = elements
        self.without_brackets = text if self.brackets[:1] == "[" else self.inside


def both_signs(item: str) -> list[str]:
    """An item as it is; one with a plus-minus as the two that it stands for."""
    if r"\pm" not in item and r"\mp" not in item:
        return [item]
    forms = (item.replace(r"\pm", a).replace(r"\mp", b) for a, b in ("+-", "-+"))
    return [form.strip().removeprefix("+").strip() for form in forms]


def matrix(text: str) -> list[list[str]]:
    """The cells of a matrix row by row, times the factor before it; none of other texts."""
    match = re.fullmatch(_MATRIX, text.rstrip("]) "), re.S)
    if not match or r"\begin" in match[3]:
        return []
    rows = [row for row in re.split(r"\\\\|\\cr", match[3]) if row.strip()]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    factor = match[1].strip()
    return [[f"{factor}({cell})" for cell in row] for row in cells] if factor else cells


# --- equations and names --------------------------------------------------------------------------
def sides(text: str) -> list[str]:
    """The sides of an equation or a chain of them; one for what is no equation."""
    return split(text, EQUALS)


def is_label(side: str) -> bool:
    """Whether this names what an equation gives the value of: x, f(x), (p,q), AB:CD, \\text{Area}.
    xy and x+y do not: x+y=5 says more than 5.
    """
    bare = _CARRIED.sub("", WRAPPER.sub(r"\1", side)).strip()
    return bool(_LABEL.fullmatch(bare) or WRAPPER.fullmatch(side))


def assignments(text: str) -> list[dict[str, str]] | None:
    """What a list of equations such as "x=1, y=2 or x=3, y=4" says, solution by solution:
    [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}]; also of (x,y)=(1,2). None for other texts.
    """
    equations = [sides(item) for item in split(text, LIST)]
    if len(equations) == 1 and len(equations[0]) == 2:
        names, values = (split(brackets(side)[1], ",|;") for side in equations[0])
        equations = [list(pair) for pair in zip(names, values, strict=False)]
        if len(names) != len(values):
            return None
    if not all(len(each) == 2 and is_label(each[0]) for each in equations):
        return None
    solutions: list[dict[str, str]] = []
    for name, value in equations:
        name = name.replace(" ", "")
        if not solutions or name in solutions[-1]:
            solutions.append({})
        solutions[-1][name] = value
    alike = all(each.keys() == solutions[0].keys() for each in solutions)
    return solutions if solutions and alike and len(solutions[0]) > 1 else None


def figure(text: str) -> tuple[str, set[str]] | None:
    """(the way to read it, all names that it then has) of a figure named by its points, the way ""
    for three and more bare letters; None for other texts.
    """
    match, ways = _FIGURE.fullmatch(WRAPPER.sub(r"\1 ", text).strip("{} ")), names_in("figures.yml")
    if not match or (match[1] and match[1].lower() not in ways):
        return None
    points = re.findall(r"[A-Z][^A-Z]*", match[2])
    is_line = len(points) == 2 and not re.fullmatch("[IVX]+", match[2])  # but IV is not VI
    way = ways[match[1].lower()] if match[1] else "backwards" if is_line else ""
    orders = [points, points[::-1]] if way in ("backwards", "round") else [points]
    starts = range(len(points)) if way == "round" else [0]
    return way, {"".join(order[i:] + order[:i]) for order in orders for i in starts}
