"""When what a program returned or printed is what its problem expects."""

import math
from typing import Any


def same_value(expected: Any, value: Any, tolerance: float = 0.0) -> bool:
    """Whether a returned value, in the tagged JSON form of the sandbox, is the expected plain
    value.

    As == in Python, but a tuple is a list. The walk follows `expected`, so a hostile value costs no
    more than that.
    """
    if isinstance(expected, dict):
        return _same_dict(expected, value, tolerance)
    if isinstance(expected, (set, frozenset)):
        items = _tagged(value, "set", len(expected))
        return items is not None and {_frozen(item) for item in items} == {
            _frozen(item) for item in expected
        }
    if isinstance(value, dict):
        value = value.get("tuple")
    if isinstance(expected, (list, tuple)):
        if not isinstance(value, list) or len(value) != len(expected):
            return False
        pairs = zip(expected, value, strict=True)
        return all(same_value(wanted, item, tolerance) for wanted, item in pairs)
    if tolerance and all(isinstance(number, (int, float)) for number in (expected, value)):
        return close(expected, value, tolerance)
    return type(value) in (bool, int, float, str, type(None)) and value == expected


def _same_dict(expected: dict, value: Any, tolerance: float) -> bool:
    items = _tagged(value, "dict", len(expected))
    if items is None:
        return False
    given = {_frozen(key): item for key, item in items}
    wanted = {_frozen(key): item for key, item in expected.items()}
    return wanted.keys() == given.keys() and all(
        same_value(item, given[key], tolerance) for key, item in wanted.items()
    )


def _tagged(value: Any, tag: str, length: int) -> list | None:
    """The items of a tagged value, None where it has another tag or length."""
    items = value.get(tag) if isinstance(value, dict) else None
    return items if items is not None and len(items) == length else None


def _frozen(value: Any) -> Any:
    """A hashable form of a value, the same for its plain and its tagged form."""
    if isinstance(value, dict):
        (value,) = value.values()
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def close(expected: float, value: float, tolerance: float) -> bool:
    """Within the tolerance, absolute or relative to what is expected; never for a nan or an
    infinity.
    """
    try:
        return math.isfinite(value) and abs(expected - value) <= tolerance * max(1.0, abs(expected))
    except OverflowError:
        return False


def same_output(expected: str, printed: str, tolerance: float = 0.0) -> bool:
    """Line by line and token by token, as contests compare.

    Blank lines, the ends of lines and the width of gaps do not count; with a tolerance, numbers may
    differ by it.
    """
    wanted, given = _tokens(expected), _tokens(printed)
    if [len(line) for line in wanted] != [len(line) for line in given]:
        return False
    return wanted == given or all(
        _same_token(*tokens, tolerance)
        for lines in zip(wanted, given, strict=True)
        for tokens in zip(*lines, strict=True)
    )


def _tokens(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def _same_token(expected: str, printed: str, tolerance: float) -> bool:
    if expected == printed or not tolerance:
        return expected == printed
    try:
        return close(float(expected), float(printed), tolerance)
    except ValueError:
        return False
