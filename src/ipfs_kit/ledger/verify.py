"""The independent verifier: every byte below ``ledger/``, derived again from the records; it writes nothing.

Shares no code with the writer. For each log: batch checksums -> records -> CIDs -> bundles -> leaves -> tiles -> roots,
compared with the high-water mark in ``state.db``, the signed checkpoint, every manifest, ``bulk``'s root in ``main``'s
checkpoint, and any older checkpoint the caller kept. Files that none of this accounts for are faults. Memory is bounded
by one batch and one row of hashes per tile level.

What a crash leaves is no fault: tiles of records not yet signed, a checkpoint one publication behind, an unregistered
segment or manifest whose name matches its bytes, a temporary file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Any, Final, cast

from ipfs_kit.errors import IntegrityError, KitError
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ledger._verify_files import Faults, FilesCheck, read_file, split_payload
from ipfs_kit.ledger._verify_gaps import Gaps, Named, names_of
from ipfs_kit.ledger.check import Head, read_note

Query = Callable[..., list[tuple[Any, ...]]]
Sealed = Callable[[str, int, int], Iterator[tuple[int, "bytes | None"]]]
Progress = Callable[[int, int], None]

_LOGS: Final = ("main", "bulk")
_RERUNS: Final = 4
"""A publisher at work beside us can make a file differ from what we read a moment before; then we look again."""


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found.

    Args:
        records: Records checked, both logs.
        findings: Each fault: where it is, what is wrong, how to mend it.
        unkept: Records that are not kept any more, whose entries stand alone.
    """

    records: int
    findings: list[str]
    unkept: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.findings


@dataclass(slots=True)
class _State:
    """A log's row in ``state.db``."""

    next_index: int
    sealed_upto: int
    size: int
    root: bytes


def verify_ledger(
    directory: str,
    query: Query,
    vkeys: Mapping[str, str],
    *,
    sealed: Sealed | None = None,
    against: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Check every byte of a ledger.

    Args:
        directory: The ``ledger`` directory.
        query: Reads ``state.db``: ``query(sql, params) -> rows``.
        vkeys: Verifier key of each log.
        sealed: Yields sealed records of ``(log, start, stop)`` with their index, None where not kept.
        against: Older signed checkpoints that the logs must extend.
        progress: Called with records done and in all.

    Returns:
        The report; ``report.ok`` tells.
    """
    for attempt in range(_RERUNS):
        before = _sizes(query)
        report = _verify_once(directory, query, vkeys, sealed, against, progress)
        if report.ok or attempt == _RERUNS - 1 or _sizes(query) == before:
            return report
    raise AssertionError("unreachable")


def _sizes(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT log, size, sealed_upto FROM ledger_logs ORDER BY log")


def _verify_once(
    directory: str,
    query: Query,
    vkeys: Mapping[str, str],
    sealed: Sealed | None,
    against: Sequence[str],
    progress: Progress | None,
) -> Report:
    faults = Faults()
    total = sum(row[0] for row in query("SELECT next_index FROM ledger_logs"))
    done = unkept = 0
    older = _read_older(against, vkeys, faults)
    named: Named = set()
    bulk_head: tuple[int, bytes] | None = None
    for log in _LOGS:
        check = _LogCheck(os.path.join(directory, log), log, query, sealed, faults, named)
        head = check.read_head(vkeys[log])
        if log == "main" and head is not None:
            bulk_head = check.bulk_root(head)
        for size, note in query("SELECT size, note FROM ledger_checkpoints WHERE log = ? ORDER BY size", (log,)):
            check.want_kept(size, note, vkeys[log], head)
        for origin_head in older.get(log, []):
            check.want(origin_head.size, origin_head.root, "the older checkpoint given")
        if log == "bulk" and bulk_head is not None:
            check.want(*bulk_head, "main's checkpoint")
        check.run(progress, done, total)
        done += check.records
        unkept += check.unkept
    if os.path.isdir(directory):
        for name in sorted(os.listdir(directory)):
            if name not in _LOGS:
                faults.add(os.path.join(directory, name), "is no part of a ledger: remove it")
    return Report(done, faults.found(), unkept)


def _read_older(against: Sequence[str], vkeys: Mapping[str, str], faults: Faults) -> dict[str, list[Head]]:
    found: dict[str, list[Head]] = {}
    for text in against:
        for log, vkey in vkeys.items():
            if text.startswith(vkey.partition("+")[0] + "\n"):
                try:
                    found.setdefault(log, []).append(read_note(text, vkey))
                except IntegrityError as exc:
                    faults.add("the older checkpoint given", exc.message)
                break
        else:
            faults.add("the older checkpoint given", "is of another store: compare its first line with 'ledger vkey'")
    return found


class _LogCheck:
    """Verifies one log."""

    def __init__(
        self, directory: str, log: str, query: Query, sealed: Sealed | None, faults: Faults, named: Named
    ) -> None:
        self.log = log
        self.records = 0
        self.unkept = 0
        self._directory = directory
        self._query = query
        self._sealed = sealed
        self._faults = faults
        self._named = named
        self._wanted: dict[int, list[tuple[bytes, str]]] = {}
        # Read before the state row: a publisher moves the row first and the checkpoint after it.
        self._note = read_file(os.path.join(directory, "checkpoint"), 1 << 18)
        rows = query("SELECT next_index, sealed_upto, size, root FROM ledger_logs WHERE log = ?", (log,))
        self._state = _State(*rows[0]) if rows else _State(0, 0, 0, sha256(b"").digest())
        if not rows:
            faults.add(f"state.db, log {log}", "its row is missing: restore state.db from its backup")

    def read_head(self, vkey: str) -> Head | None:
        """The signed checkpoint, or None with a fault noted when there should be one."""
        where = os.path.join(self._directory, "checkpoint")
        if self._note is None:
            if self._state.size:
                self._faults.add(where, "is missing: restore it from a backup, or publish again after checking the log")
            return None
        try:
            head = read_note(self._note.decode(), vkey)
        except (IntegrityError, UnicodeDecodeError) as exc:
            self._faults.add(where, f"{exc}: restore it from a backup")
            return None
        if head.size > self._state.size:
            self._faults.add(
                where,
                f"covers {head.size} records, state.db only {self._state.size}: "
                "the log was truncated or restored from an older copy",
            )
        self.want(head.size, head.root, "the signed checkpoint")
        return head

    def bulk_root(self, head: Head) -> tuple[int, bytes] | None:
        """The size and root of ``bulk`` that ``main``'s checkpoint carries."""
        import base64

        for line in head.extensions:
            parts = line.split(" ")
            if len(parts) == 3 and parts[0] == "bulk" and parts[1].isdecimal():
                return int(parts[1]), base64.b64decode(parts[2])
        self._faults.add(os.path.join(self._directory, "checkpoint"), "does not carry the root of bulk")
        return None

    def want(self, size: int, root: bytes, who: str) -> None:
        """Require the tree of ``size`` leaves to have a root."""
        self._wanted.setdefault(size, []).append((root, who))

    def want_kept(self, size: int, note: str, vkey: str, published: Head | None) -> None:
        """Require the tree and the published checkpoint to extend a checkpoint signed earlier."""
        who = f"state.db's checkpoint of log {self.log} at {size}"
        try:
            head = read_note(note, vkey)
        except IntegrityError as exc:
            self._faults.add(who, f"{exc}: restore state.db from its backup")
            return
        if head.size != size:
            self._faults.add(who, f"is one at {head.size}: it was changed by hand")
        self.want(head.size, head.root, who)
        if published is not None and published.size < head.size:
            self._faults.add(
                os.path.join(self._directory, "checkpoint"),
                f"covers {published.size} records, but {head.size} were signed before: it is an older copy",
            )

    def run(self, progress: Progress | None, done: int, total: int) -> None:
        """Check records, tree and files."""
        state = self._state
        self.want(state.size, state.root, "state.db's high-water mark")
        if not state.sealed_upto <= state.size <= state.next_index:
            self._faults.add(
                f"state.db, log {self.log}",
                "its sizes contradict each other: it was changed by hand or restored in part",
            )
        files = FilesCheck(self._directory, self.log, self._query, state.size, state.sealed_upto, self._faults)
        for size, root, who in chain(files.manifest_roots(), files.stream_roots()):
            self.want(size, root, who)
        sizes = sorted(self._wanted)
        self._check_root(0, sha256(b"").digest())
        pending = [size for size in sizes if size > 0]
        gaps = Gaps(self._query, self.log, state.sealed_upto)
        for base, records in self._chunks():
            leaves = files.check_chunk(base, records)
            while pending and pending[0] <= base + len(leaves):
                self._check_root(pending[0], files.tree.root_with(leaves[: pending[0] - base]))
                pending.pop(0)
            files.take(base, leaves)
            gaps.take(base, records)
            if self.log == "main":
                self._named.update(names_of(records))
            self.records += sum(record is not None for record in records)
            self.unkept += sum(record is None for record in records)
            if progress is not None:
                progress(done + base + len(leaves), total)
        for size in pending:
            for _, who in self._wanted[size]:
                self._faults.add(
                    f"log {self.log}", f"has {state.next_index} records but {who} covers {size}: it was truncated"
                )
        for what in gaps.faults(self._named):
            self._faults.add(f"log {self.log}", what)
        files.check_names()

    def _check_root(self, size: int, root: bytes) -> None:
        for expected, who in self._wanted.get(size, []):
            if expected != root:
                self._faults.add(
                    f"log {self.log}",
                    f"the root of its first {size} records is not that of {who}: "
                    "history was rewritten or the mark damaged",
                )

    def _chunks(self) -> Iterator[tuple[int, list[bytes | None]]]:
        """All records in order, 256 at a time, each chunk starting at a tile."""
        base, held = 0, []
        for part in self._parts():
            held += part
            while len(held) >= 256:
                yield base, held[:256]
                base += 256
                del held[:256]
        if held:
            yield base, held

    def _parts(self) -> Iterator[list[bytes | None]]:
        state = self._state
        if state.sealed_upto:
            yield from self._sealed_parts(state.sealed_upto)
        index = state.sealed_upto
        while index < state.next_index:
            part = self._batch(index)
            index += len(part)
            yield part
        if self._query(
            "SELECT 1 FROM batches WHERE log = ? AND first_index < ? LIMIT 1", (self.log, state.sealed_upto)
        ):
            self._faults.add(f"state.db, log {self.log}", f"holds batches before {state.sealed_upto}, which are sealed")
        self._stray()

    def _stray(self) -> None:
        """Batches beyond the end, unless records are being appended right now."""
        row = self._query("SELECT max(first_index + count) FROM batches WHERE log = ?", (self.log,))[0][0]
        now = self._query("SELECT next_index FROM ledger_logs WHERE log = ?", (self.log,))[0][0]
        if row is not None and row > now:
            self._faults.add(f"state.db, log {self.log}", f"holds batches up to {row} beyond its end at {now}")

    def _sealed_parts(self, stop: int) -> Iterator[list[bytes | None]]:
        index = 0
        if self._sealed is not None:
            held: list[bytes | None] = []
            try:
                for at, record in self._sealed(self.log, 0, stop):
                    if at != index:
                        break
                    held.append(record)
                    index += 1
                    if len(held) == 4096:
                        yield held
                        held = []
            except KitError as exc:
                self._faults.add(f"log {self.log}, sealed record {index}", exc.message)
            if held:
                yield held
        while index < stop:
            # What cannot be read is carried by the bundles, so that the rest is still checked.
            part: list[bytes | None] = [None] * min(4096, stop - index)
            index += len(part)
            yield part

    def _batch(self, index: int) -> list[bytes | None]:
        """The records of one row; Nones, with a fault noted, when the row cannot be trusted."""
        state, where = self._state, f"state.db, log {self.log}, batch at {index}"
        rows = self._query(
            "SELECT count, op_id_min, op_id_max, checksum, payload, time_min, time_max FROM batches "
            "WHERE log = ? AND first_index = ?",
            (self.log, index),
        )
        if not rows:
            after = self._query(
                "SELECT min(first_index) FROM batches WHERE log = ? AND first_index > ?", (self.log, index)
            )[0][0]
            stop = state.next_index if after is None else min(after, state.next_index)
            self._faults.add(where, f"records {index} to {stop - 1} are missing: restore state.db from its backup")
            return [None] * (stop - index)
        count, op_id_min, op_id_max, checksum, payload, *times = rows[0]
        missing: list[bytes | None] = [None] * max(1, min(count, state.next_index - index))
        if sha256(payload).digest() != checksum:
            self._faults.add(where, "does not match its checksum: restore state.db from its backup")
            return missing
        records = split_payload(payload)
        if records is None or len(records) != count or not records:
            self._faults.add(where, "its records do not fill it: restore state.db from its backup")
            return missing
        op_ids = [record[4:20] for record in records]
        if min(op_ids) != op_id_min or max(op_ids) != op_id_max:
            self._faults.add(where, "its range of op ids is not that of its records")
        if (fault := _times_fault(records, times)) is not None:
            self._faults.add(where, fault)
        return list(records[: state.next_index - index])


def _times_fault(records: Sequence[bytes], stated: Sequence[int]) -> str | None:
    """What is wrong with the span of times of a batch: ``@time`` looks records up by it."""
    try:
        times = [_time_of(record) for record in records]
    except (KitError, IndexError, TypeError):
        return "holds a record that does not decode: restore state.db from its backup"
    if [min(times), max(times)] != list(stated):
        return "its span of times is not that of its records"
    return None


def _time_of(record: bytes) -> int:
    """The fifth element of a record: after its head, schema, op id and phase come a text and this integer."""
    if record[20] < 0x18 and 0x60 <= record[21] < 0x78:
        at = 22 + record[21] - 0x60
        if record[at] == 0x1B:
            return int.from_bytes(record[at + 1 : at + 9], "big")
    return cast(int, dag_cbor.decode(record)[4])


if __name__ == "__main__":
    raise SystemExit(
        "this module checks an open store: run 'ipfs-kit ledger verify'; proofs: python -m ipfs_kit.ledger.check"
    )
