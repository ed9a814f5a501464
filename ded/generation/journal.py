"""What stands beside the store: rows of shards that are not whole yet, each written down as soon as
it is finished, so that a kill loses none of them; and with which max_tokens shards were drawn."""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from ded import store
from ded.generation.engines import Row, Shard, Tables, Unfinished


def lengths(lineage: str, max_tokens: int) -> list[int]:
    """The max_tokens that shards of a lineage (a shard but for its max_tokens) were asked for with
    before, the largest first; notes this one.

    One small file a lineage, a number a line. It promises nothing: whether a draw is there the
    store says.
    """
    file = store.root() / "lengths" / lineage[:2] / lineage
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        stream.seek(0)
        noted = {int(word) for word in stream.read().split() if word.isdigit()}
        if max_tokens not in noted:
            stream.write(f"{max_tokens}\n")
    return sorted(noted, reverse=True)


def file_of(shard: Shard) -> Path:
    """Where the finished rows of a shard stand, a line each: [place, row]."""
    return store.root() / "journal" / f"{shard.key}.jsonl"


def read(shard: Shard) -> dict[int, Row]:
    """The rows written down, by place; half a line, left by a kill, is none."""
    rows: dict[int, Row] = {}
    text = file_of(shard).read_text(errors="replace") if file_of(shard).is_file() else ""
    for line in text.split("\n"):
        with suppress(ValueError, TypeError):
            place, row = json.loads(line)
            rows[place] = row
    return rows


def add(shard: Shard, place: int, row: Row) -> None:
    """Writes one finished row down. For any thread."""
    file_of(shard).parent.mkdir(parents=True, exist_ok=True)
    # unbuffered, so one write: the lines of several threads do not mix
    with file_of(shard).open("ab", buffering=0) as stream:
        # a line of its own, whatever half a line a kill has left
        stream.write(f"\n{json.dumps([place, row])}\n".encode())


class Drawing:
    """What several shards still lack, and the shards as they become whole.

    Made under the lock of the engine: what another process drew while this one waited for it is
    no longer asked for, and what an interrupted one had finished is in the journal.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.shards = [shard for shard in shards if not store.has(shard.key)]
        self.unfinished: list[Unfinished] = []
        self._rows: dict[str, list[Row | None]] = {}
        for shard in self.shards:
            finished = read(shard)
            self._rows[shard.key] = [finished.get(i, row) for i, row in enumerate(shard.rows())]
            self.unfinished += [row for row in shard.unfinished() if row.place not in finished]

    def tables(
        self, asked: Collection[Unfinished], drawn: Iterable[tuple[Unfinished, Row]]
    ) -> Tables:
        """(shard, its table), as shards become whole by what is `drawn`: the rows `asked`, in any
        order. Rows that are not asked for stay as they are."""
        n_missing = Counter(row.shard.key for row in asked)
        for shard in self.shards:
            if not n_missing[shard.key]:
                yield from self._whole(shard)
        for row, measured in drawn:
            self._rows[row.shard.key][row.place] = measured
            n_missing[row.shard.key] -= 1
            if not n_missing[row.shard.key]:
                yield from self._whole(row.shard)

    def _whole(self, shard: Shard) -> Tables:
        yield shard, shard.table(self._rows[shard.key])
        if store.has(shard.key):  # now that the table is stored, the journal goes
            file_of(shard).unlink(missing_ok=True)
