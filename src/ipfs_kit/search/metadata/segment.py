"""One part of the queryable index: an immutable batch of rows with its words, in memory or mapped from files."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
from bisect import bisect_left
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from ipfs_kit.durable import create_exclusive, remove
from ipfs_kit.errors import BudgetExceeded, IntegrityError
from ipfs_kit.search.metadata.conditions import Clause
from ipfs_kit.search.metadata.evaluate import containing, matching
from ipfs_kit.search.metadata.table import KEY, LIVE, WORD, WORD_CHARS_MAX, Words, need_pyarrow

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROWS_SUFFIX: Final = ".arrow"
WORDS_SUFFIX: Final = ".words"
WORDS_MAX: Final = 32
"""Words of one search."""


class Segment:
    """Rows sorted by key, of which some no longer count.

    Args:
        batch: The rows, coded.
        words: Their words.
        name: Name of its files; None while it is in memory alone.
        digests: BLAKE3 of its files, by suffix.
    """

    def __init__(
        self, batch: pa.RecordBatch, words: Words, name: str | None = None, digests: dict[str, str] | None = None
    ) -> None:
        self.batch = batch
        self.words = words
        self.name = name
        self.digests = digests or {}
        self.keys: np.ndarray = batch.column(KEY).to_numpy()
        self.stated: np.ndarray = batch.column(LIVE).to_numpy(zero_copy_only=False)
        """Rows that hold a record; the others say that one was deleted."""
        self.current: np.ndarray = self.stated | True
        """Rows that nothing newer takes the place of."""
        self.live: np.ndarray = self.stated
        """Rows that are records of now."""

    @property
    def rows(self) -> int:
        """Rows, also those that no longer count."""
        return int(self.batch.num_rows)

    @property
    def pure(self) -> bool:
        """Whether every row counts."""
        return bool(self.live.all())

    def outdated_by(self, newer: Segment) -> Segment:
        """The same segment without the rows whose CID stands in a newer one; itself where there is none."""
        import numpy as np

        lows = np.searchsorted(self.keys, newer.keys, "left")
        highs = np.searchsorted(self.keys, newer.keys, "right")
        met = np.flatnonzero(highs > lows)
        if len(met) == 0:
            return self
        pa = need_pyarrow()
        import pyarrow.compute as pc

        mine, theirs = self.batch.column("cid"), newer.batch.column("cid")
        single = met[highs[met] - lows[met] == 1]
        same = pc.equal(mine.take(pa.array(lows[single])), theirs.take(pa.array(single)))
        current = self.current.copy()
        current[lows[single][same.to_numpy(zero_copy_only=False)]] = False
        for at in met[highs[met] - lows[met] > 1]:  # different CIDs of one key: hardly ever
            wanted = theirs[int(at)].as_py()
            for place in range(int(lows[at]), int(highs[at])):
                if mine[place].as_py() == wanted:
                    current[place] = False
        found = copy(self)
        found.current, found.live = current, self.stated & current
        return found

    def find(self, clauses: tuple[Clause, ...], start: int, stop: int) -> np.ndarray:
        """Rows in ``[start, stop)`` that count and meet every clause, ascending."""
        if start >= stop:
            import numpy as np

            return np.empty(0, np.int64)
        whole = start == 0 and stop == self.rows
        batch = self.batch if whole else self.batch.slice(start, stop - start)
        return matching(batch, self.live[start:stop], clauses) + start

    def with_words(self, text: str, *, exact: bool = False) -> np.ndarray:
        """Which rows that count hold every word of a text, each as a part of a word, or ``exact`` as a whole one."""
        import numpy as np

        mask = self.live.copy()
        for word in searched_words(text):
            mask &= self._with_word(word, exact)
        return np.flatnonzero(mask)

    def _with_word(self, word: str, exact: bool) -> np.ndarray:
        import numpy as np

        tokens, offsets, rows = self.words
        if exact:
            at = bisect_left(range(len(tokens)), word, key=lambda place: tokens[place].as_py())
            chosen = np.array([at] if at < len(tokens) and tokens[at].as_py() == word else [], np.int64)
        else:
            chosen = np.flatnonzero(containing(tokens, word))
        mask = np.zeros(self.rows, bool)
        counts = offsets[chosen + 1] - offsets[chosen]
        # The places of all chosen words' rows: each word's run begins where its offset says.
        shifts = offsets[chosen] - np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)[:-1]])[: len(chosen)]
        mask[rows[np.repeat(shifts, counts) + np.arange(counts.sum())]] = True
        return mask

    # -- files ---------------------------------------------------------------------------------------------------

    def write(self, folder: str, name: str) -> None:
        """Write the files of a segment; they are complete before they bear their names."""
        pa = need_pyarrow()
        words = pa.RecordBatch.from_arrays(
            [
                self.words.tokens,
                pa.ListArray.from_arrays(pa.array(self.words.offsets, pa.int32()), pa.array(self.words.rows)),
            ],
            names=["token", "rows"],
        )
        for suffix, batch in ((ROWS_SUFFIX, self.batch), (WORDS_SUFFIX, words)):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
            data = memoryview(sink.getvalue())
            create_exclusive(os.path.join(folder, name + suffix), data, mode=0o600, sync_name=False)
            self.digests[suffix] = blake3(data).hexdigest()
        self.name = name

    @classmethod
    def open(cls, folder: str, name: str, digests: dict[str, Any]) -> Segment:
        """Map the files of a segment.

        Raises:
            IntegrityError: They are absent, or not those that were written.
        """
        pa = need_pyarrow()
        import pyarrow.compute as pc

        batches = []
        for suffix in (ROWS_SUFFIX, WORDS_SUFFIX):
            path = os.path.join(folder, name + suffix)
            try:
                # Arrow trusts offsets in what it maps, so bytes that are not those written are never given to it.
                if blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() != digests.get(suffix):
                    raise IntegrityError(f"{path} is damaged")
                batches.append(pa.ipc.open_file(pa.memory_map(path)).get_batch(0))
            except (OSError, pa.ArrowException, IndexError) as exc:
                raise IntegrityError(f"{path} cannot be read: {exc}") from exc
        words = batches[1]
        lists = words.column(1)
        offsets = pc.cast(lists.offsets, pa.int64()).to_numpy()
        return cls(batches[0], Words(words.column(0), offsets, lists.values.to_numpy()), name, dict(digests))

    @staticmethod
    def discard(folder: str, name: str) -> None:
        """Remove the files of a segment; who has them mapped keeps them."""
        for suffix in (ROWS_SUFFIX, WORDS_SUFFIX):
            remove(os.path.join(folder, name + suffix), sync=False)


def searched_words(text: str) -> list[str]:
    """The words that text search looks for.

    Raises:
        BudgetExceeded: There are more than 32.
    """
    words = list(dict.fromkeys(word[:WORD_CHARS_MAX] for word in WORD.findall(text.casefold())))
    if len(words) > WORDS_MAX:
        raise BudgetExceeded(f"a search takes at most {WORDS_MAX} words, this one has {len(words)}")
    return words
