"""Expressions and sets of real numbers, compared by math-verify and SymPy: in workers only, where
limits of time and memory hold.

https://github.com/huggingface/Math-Verify, called with exact decimals and without its tolerance for
near misses.
"""

import re
from typing import Any

from ded.grading import structure
from ded.grading.rules import Unreadable
from ded.grading.units import WRAPPER


class _NoSet(Exception):
    """Raised where a text is not a set of real numbers."""


def equal(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    """Whether two expressions, or two sets of real numbers, are equal. Raises `Unreadable` where
    one cannot be read.
    """
    from math_verify import verify
    from sympy import Basic, Expr, N, Ne, Symbol

    if structure.is_set(gold) or structure.is_set(answer):
        try:
            return _same_sets(gold, answer)
        except _NoSet:
            pass
    true, given = parse(gold), parse(answer)
    numeric = all(isinstance(value, Basic) and value.is_number for value in (true, given))
    if numeric and tolerance:
        return bool(abs(N(true) - N(given)) <= tolerance * max(1, abs(N(true))))
    if isinstance(true, Symbol) and isinstance(given, Symbol):
        return true == given  # math-verify ignores the case of names
    if true.is_Matrix != given.is_Matrix or isinstance(true, Ne) or isinstance(given, Ne):
        return true == given  # which it cannot compare
    formulas = not numeric and isinstance(true, Expr) and isinstance(given, Expr)
    if formulas and _differ_somewhere(true, given):
        return False
    exactly: Any = {"float_rounding": 15, "allow_set_relation_comp": True, "raise_on_error": True}
    same = verify([true], [given], timeout_seconds=None, **exactly)
    if not same or not numeric:
        return same
    # its numerical comparison is absolute: 1/2004! and 1/2006! are both nothing
    true, given = true.doit(), given.doit()
    return true == given or bool(abs(N(true - given, 30)) <= abs(N(true, 30)) * 10**-12)


def _differ_somewhere(true: Any, given: Any) -> bool:
    """Whether two expressions have different values at one point: cheaper than to simplify them."""
    from sympy import N

    letters = sorted(true.free_symbols | given.free_symbols, key=str)
    point = {letter: 0.73 + 0.217 * i for i, letter in enumerate(letters)}
    first, second = (N(value, subs=point) for value in (true, given))
    difference = N(first - second)
    comparable = difference.is_number and difference.is_finite
    return bool(comparable and abs(difference) > 1e-6 * max(abs(first), abs(second)))


def parse(text: str) -> Any:
    """The SymPy object for LaTeX or plain mathematics, exact: decimals become fractions, i is the
    imaginary unit. Raises `Unreadable`.
    """
    from latex2sympy2_extended import latex2sympy2 as reader
    from sympy import Basic, I, Symbol

    latex = re.sub(r"(?<![\\a-zA-Z])(sqrt|sin|cos|tan|log|ln|exp)(?![a-zA-Z])", r"\\\1", text)
    while match := re.search(r"\\sqrt\s*\(([^()]*)\)", latex):
        latex = f"{latex[: match.start()]}\\sqrt{{{match[1]}}}{latex[match.end() :]}"
    latex = re.sub(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi ", latex).replace("*", r" \cdot ")
    latex = re.sub(r"(\d*)\.(\d+)", _as_fraction, latex)
    latex = re.sub(r"(?<=[A-Za-z])'+", "_{prime}", latex)
    # 3(4) is no mixed number
    latex = re.sub(r"(?<![_^\d])(\d+|\)) ?(?=\()|(\)) ?(?=\d)", r"\1\2 \\cdot ", latex)
    latex = WRAPPER.sub(lambda match: match[1] if len(match[1]) == 1 else match[0], latex)
    if re.search(r"(?<![\\A-Za-z{])[A-Za-z]{2,} [A-Za-z]{2,}", latex):
        raise Unreadable(f"words, not mathematics: {text[:60]!r}")
    forms = reader.NormalizationConfig(malformed_operators=True, nits=True, boxed="none")
    names = reader.ConversionConfig(lowercase_symbols=False)
    i = Symbol("i", real=True)
    try:
        value = reader.latex2sympy(latex, None, True, False, forms, names)
        is_complex = isinstance(value, Basic) and i in value.free_symbols
        return value.xreplace({i: I}) if is_complex else value
    except Exception as failure:  # whatever its parser throws
        raise Unreadable(f"cannot be read: {text[:80]!r}") from failure


def _as_fraction(decimal: re.Match) -> str:
    return rf"\frac{{{int(decimal[1] + decimal[2])}}}{{{10 ** len(decimal[2])}}}"


# --- sets of real numbers -------------------------------------------------------------------------
def _same_sets(gold: str, answer: str) -> bool:
    true, given = _Solutions(gold), _Solutions(answer)
    if true.letters and given.letters and true.letters != given.letters:
        return False
    difference = true.numbers.symmetric_difference(given.numbers)
    return true.numbers == given.numbers or bool(difference.is_empty)


class _Solutions:
    """A text read as a set of real numbers.

    letters: the unknown, if the text names one. numbers: SymPy's set. Read are intervals, unions,
    intersections, differences, {x | ...} and inequalities in one letter, joined by "and" and "or".
    A comma between these is "and", or "or" where nothing solves them all. Raises `_NoSet`.
    """

    def __init__(self, text: str) -> None:
        self.letters: set[str] = set()
        self.numbers = self.read(WRAPPER.sub(r"\1", text))
        if len(self.letters) > 1:
            raise _NoSet

    def read(self, text: str) -> Any:
        from sympy import Complement, Intersection, Union

        joins = zip(structure.CONNECTIVES, (Union, Intersection, Complement), strict=True)
        for separator, join in joins:
            if len(parts := structure.split(text, separator)) > 1:
                return join(*map(self.read, parts))
        frame, inside = structure.brackets(text)
        condition = structure.split(inside, r"\\mid(?![a-z])|\||:") if frame == "{}" else []
        if len(condition) == 2:
            return self.read(", ".join(condition[r"\in" not in condition[0] :]))
        if not frame and len(parts := structure.split(text, "[,;]")) > 1:
            return self.listed(parts)
        if len(parts := structure.split(text, r"\\in(?![a-z])")) == 2:
            self.letters.add(parts[0])
            return self.read(parts[1])
        signs = structure.both_signs(text)
        return self.listed(signs) if len(signs) > 1 else self.single(text)

    def listed(self, parts: list[str]) -> Any:
        from sympy import Intersection, S, Union

        relation = ""
        for i, part in enumerate(parts):  # in "x \ne 0, 1" the second is x \ne 1
            if signs := list(structure.RELATION.finditer(part)):
                relation = part[: signs[-1].end()]
            elif relation and r"\in" not in part:
                parts[i] = f"{relation} {part}"
        sets = [self.read(part) for part in parts]
        together = Intersection(*sets)
        return Union(*sets) if together == S.EmptySet else together

    def single(self, text: str) -> Any:
        """An interval, a set by its elements, an inequality in one letter or a number."""
        from sympy import Expr, FiniteSet, S, Set, Symbol, simplify
        from sympy.core.function import AppliedUndef
        from sympy.logic.boolalg import Boolean

        if structure.EMPTY.fullmatch(text):
            return S.EmptySet
        value = parse(text)
        if isinstance(value, Expr) and not isinstance(value, Symbol):
            return FiniteSet(simplify(value))
        if isinstance(value, Set):
            return simplify(value)
        functions = value.atoms(AppliedUndef)  # f(x) is a letter here
        value = value.xreplace({each: Symbol(str(each), real=True) for each in functions})
        if not isinstance(value, Boolean) or len(value.free_symbols) != 1:
            raise _NoSet
        self.letters |= set(map(str, value.free_symbols))
        try:
            return value.as_set()
        except NotImplementedError as failure:  # SymPy cannot solve it
            raise _NoSet from failure
