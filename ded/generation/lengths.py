"""Which max_tokens a shard was drawn with before: where to look for rows to go on from.

One small file for each shard but for its max_tokens, `<store>/lengths/../<lineage>`, a number a
line. It promises nothing: whether a draw is there the store says.
"""

from __future__ import annotations

from pathlib import Path

from ded import store


def note(lineage: str, max_tokens: int) -> None:
    """Adds a max_tokens to those of a lineage, once."""
    if max_tokens not in _noted(lineage):
        _file(lineage).parent.mkdir(parents=True, exist_ok=True)
        with _file(lineage).open("a") as stream:
            stream.write(f"{max_tokens}\n")


def shorter(lineage: str, max_tokens: int) -> list[int]:
    """The noted numbers below max_tokens, the largest first."""
    return sorted((n for n in _noted(lineage) if n < max_tokens), reverse=True)


def _noted(lineage: str) -> set[int]:
    file = _file(lineage)
    words = file.read_text().split() if file.is_file() else []
    return {int(word) for word in words if word.isdigit()}


def _file(lineage: str) -> Path:
    return store.root() / "lengths" / lineage[:2] / lineage
