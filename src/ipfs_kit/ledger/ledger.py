"""The ledger of one store: record, read, publish, prove."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ipfs_kit.durable import StateDB
from ipfs_kit.durable.files import PathLike
from ipfs_kit.errors import Expired, IntegrityError, InvalidInput, KitError, LockTimeout, OpNotFound, ReadOnly
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.keys import KeyRing, Signer
from ipfs_kit.ledger import manifest, proof
from ipfs_kit.ledger.batches import LogState, Reader
from ipfs_kit.ledger.checkpoint import Checkpoint
from ipfs_kit.ledger.committer import Committer, Item
from ipfs_kit.ledger.layout import TILE_WIDTH, full_tiles, partial_width
from ipfs_kit.ledger.publish import Publisher
from ipfs_kit.ledger.receipts import BatchReceipt, Receipt, Ticket
from ipfs_kit.ledger.record import (
    BUFFERED,
    LOGS,
    MAIN,
    Draft,
    OpenRecord,
    Record,
    decode,
    encode,
    keys_of,
    new_op_id,
    open_record,
)
from ipfs_kit.ledger.segments import Segments
from ipfs_kit.ledger.select import Where, select
from ipfs_kit.ledger.tiles import TileFiles

if TYPE_CHECKING:
    from ipfs_kit.ledger import check, verify
    from ipfs_kit.ledger.receipts import Effect
    from ipfs_kit.ledger.witnesses import Witnesses

_log = logging.getLogger(__name__)

PUBLISH_INTERVAL_S: Final = 1.0
SUBMIT_MANY_MAX: Final = 65_536
TAIL_MAX: Final = 10_000
_POLL_S: Final = 0.05
_PROVE_ATTEMPTS: Final = 5


class Ledger:
    """Both logs of one store; safe to use from any thread. Use ``Ledger.open``."""

    def __init__(
        self,
        directory: str,
        state: StateDB,
        keys: KeyRing,
        sync_blocks: Callable[[], None],
        now_ns: Callable[[], int],
        random: Callable[[int], bytes],
        read_only: bool,
        segments: Segments | None,
    ) -> None:
        signer = keys.signer()
        self.directory = directory
        store = os.path.dirname(os.path.abspath(directory))
        self.node = signer.name.rpartition("/")[2]
        self.read_only = read_only
        self._state = state
        self._keys = keys
        self._now_ns = now_ns
        self._random = random
        self._signers = {log: signer.named(f"{signer.name}/{log}") for log in LOGS}
        self.segments = segments if segments is not None else Segments(state, store, self.leaves, self._families)
        self.reader = Reader(state, self.segments)
        self._publisher = Publisher(directory, state, self._signers, store, self._on_fault)
        self._committer = Committer(state, self.node, keys.subject_key, sync_blocks, now_ns, self._on_commit)
        self._unpublished = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._guard = threading.Lock()
        if not read_only:
            self._stop_if_rewritten()

    @classmethod
    def open(
        cls,
        directory: PathLike,
        state: StateDB,
        keys: KeyRing,
        *,
        sync_blocks: Callable[[], None],
        now_ns: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
        read_only: bool = False,
        segments: Segments | None = None,
    ) -> Ledger:
        """Open the ledger of a store.

        Args:
            directory: The store's ``ledger`` directory.
            state: ``state.db``, opened with ``batches.SCHEMA`` among its schemas.
            keys: The store's key ring.
            sync_blocks: Makes every block put so far durable; called before each transaction.
            now_ns: Wall clock in nanoseconds.
            random: Source of randomness for op ids made here.
            read_only: Record and publish nothing.
            segments: Where sealed records live; by default the store's own segments.
        """
        return cls(os.fspath(directory), state, keys, sync_blocks, now_ns, random, read_only, segments)

    def new_op_id(self) -> bytes:
        """A fresh op id from this ledger's clock and randomness."""
        return new_op_id(self._now_ns(), self._random)

    # -- recording -----------------------------------------------------------------------------------------------

    def submit(self, draft: Draft, effect: Effect | None = None) -> Ticket:
        """Record one operation, with its effect on ``state.db`` in the same transaction.

        Args:
            draft: The operation; it may be submitted again after ``Stale``.
            effect: Runs inside the transaction; its record is always acknowledged ``fsync``.

        Returns:
            A ticket. With ``ack='buffered'`` and no effect it is done at once, its receipt without an index; the
            record is durable within 50 ms, unless the process is killed before.

        Raises:
            ReadOnly: The ledger is open for reading only.
            BudgetExceeded: The record would be over 32 KiB (without an effect; with one the ticket raises it).
            StorageFailed: The ledger stopped recording.
        """
        log = draft.log
        if self.read_only or log not in LOGS:
            raise self._refusal(log)
        ticket = Ticket()
        if effect is not None:
            self._committer.put(Item(ticket, log, draft, effect, [], [], []), False)
            return ticket
        now_ns = self._now_ns()
        record = self._encode(draft, now_ns)
        if draft.ack == BUFFERED:
            self._committer.put(Item(None, log, None, None, [record], [draft.op_id], [now_ns]), True)
            ticket.settle(Receipt(log, None, draft.op_id, record, BUFFERED))
        else:
            self._committer.put(Item(ticket, log, None, None, [record], [draft.op_id], [now_ns]), False)
        return ticket

    def submit_many(self, drafts: Sequence[Draft]) -> Ticket:
        """Record many operations of one log at consecutive indices, acknowledged together.

        Args:
            drafts: 1 to 65,536 drafts of one log and one ack, without effects.

        Returns:
            A ticket whose result is a ``BatchReceipt``.

        Raises:
            InvalidInput: None, too many, or of several logs or acks.
        """
        if not 0 < len(drafts) <= SUBMIT_MANY_MAX:
            raise InvalidInput(f"submit_many takes 1 to {SUBMIT_MANY_MAX} drafts, not {len(drafts)}")
        log, ack = drafts[0].log, drafts[0].ack
        if self.read_only or log not in LOGS:
            raise self._refusal(log)
        if any(draft.log != log or draft.ack != ack for draft in drafts):
            raise InvalidInput("submit_many takes drafts of one log and one ack: submit each kind by itself")
        now_ns = self._now_ns()
        records = [self._encode(draft, now_ns) for draft in drafts]
        op_ids = [draft.op_id for draft in drafts]
        ticket = Ticket()
        buffered = ack == BUFFERED
        item = Item(None if buffered else ticket, log, None, None, records, op_ids, [now_ns] * len(records), many=True)
        self._committer.put(item, buffered)
        if buffered:
            ticket.settle(BatchReceipt(log, None, op_ids, records, BUFFERED))
        return ticket

    def flush(self, log: str = MAIN) -> CID | None:
        """Commit and publish everything submitted before, and name it.

        Args:
            log: The log whose manifest is wanted.

        Returns:
            CID of the log's last manifest (decision 15); None when the log is empty.
        """
        if self.read_only or log not in LOGS:
            raise self._refusal(log)
        with self.publishing() as sizes:
            files = self._publisher.files[log]
            return manifest.extend(files.directory, self._state, files, log, self.origin(log), sizes[log])

    @contextmanager
    def publishing(self) -> Iterator[dict[str, int]]:
        """Commit and publish everything submitted before, and keep others from publishing meanwhile; sizes by log."""
        if self.read_only:
            raise self._refusal(MAIN)
        self._committer.flush()
        lease = self._publisher.lease(self._state.lock_timeout_s)
        try:
            yield {log: found.size for log, found in self._publisher.publish_leased().items()}
        except IntegrityError as exc:
            self._on_fault(exc)
            raise
        finally:
            lease.release()

    @cached_property
    def witnesses(self) -> Witnesses:
        """Who cosigns the main log's checkpoints."""
        from ipfs_kit.ledger.witnesses import Witnesses

        return Witnesses(self._state, self, self._now_ns)

    def attach(self, note: Checkpoint) -> None:
        """Put cosignatures into the published checkpoint; nothing where a newer one has been published since.

        Args:
            note: A checkpoint of this store with more signature lines.
        """
        self._publisher.attach(note)

    def tile_files(self, log: str) -> TileFiles:
        """The published tree of a log."""
        return self._publisher.files[log]

    def select(
        self, log: str, where: Where, start: int = 0, stop: int | None = None, *, newest_first: bool = False
    ) -> Iterator[tuple[int, Record]]:
        """Index and record of every op in ``[start, stop)`` that is kept and meets a condition on stored columns."""
        for index, data in select(self._state, self.segments, log, where, start, stop, newest_first=newest_first):
            yield index, decode(data)

    def close(self) -> None:
        """Commit what is queued, publish it unless another process is doing so, and stop."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if self.read_only:
            return
        self._closing.set()
        self._unpublished.set()
        self._committer.close()
        if thread is not None:
            thread.join()
        if self._committer.dead is None and not self._state.failed:
            self._publish_quietly()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def size(self, log: str = MAIN) -> int:
        """Records committed to a log."""
        return self.reader.state(log).next_index

    def state(self, log: str = MAIN) -> LogState:
        """How far a log is sequenced, integrated and sealed."""
        return self.reader.state(log)

    def record_at(self, log: str, index: int) -> Record:
        """The record at an index.

        Raises:
            OpNotFound: The log is shorter.
            Expired: The record is not kept any more.
        """
        return decode(self.reader.record_at(log, index))

    def encoded_at(self, log: str, index: int) -> bytes:
        """The record at an index as it was encoded: what its CID is made of."""
        return self.reader.record_at(log, index)

    def record_cid(self, log: str, index: int) -> CID:
        """CID of the record at an index, which is the log's entry."""
        return CID.of(self.reader.record_at(log, index), DAG_CBOR)

    def read(self, log: str, start: int, stop: int) -> Iterator[tuple[int, Record]]:
        """Index and record of every op in ``[start, stop)`` that is kept, in order."""
        for index, data in self.reader.read(log, start, stop):
            if data is not None:
                yield index, decode(data)

    def leaves(self, log: str, start: int, stop: int) -> Iterator[bytes]:
        """Leaf hashes of ``[start, stop)``, from the level-0 tiles: what sealing compares records with.

        Raises:
            InvalidInput: The range is not integrated yet.
        """
        size = self.reader.state(log).size
        if not 0 <= start <= stop <= size:
            raise InvalidInput(f"log {log} has {size} leaves, so not [{start}, {stop})")
        files = self._publisher.files[log]
        for tile in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            width = TILE_WIDTH if tile < full_tiles(0, size) else partial_width(0, size)
            base = tile * TILE_WIDTH
            yield from files.hashes(0, tile, width)[max(0, start - base) : stop - base]

    def find(self, op_id: bytes) -> list[tuple[str, int]]:
        """Log and index of the records with an op id: one, or intent and outcome in this order.

        Raises:
            OpNotFound: Neither log holds it.
        """
        try:
            return self.reader.find(op_id)
        except OpNotFound:
            if self.read_only:
                raise
            # It may be among the records still being gathered.
            self._committer.flush()
            return self.reader.find(op_id)

    def index_at_time(self, time_ns: int, log: str = MAIN) -> int | None:
        """The largest index whose recorded time is at or before a time; None when the log begins later."""
        return self.reader.index_at_time(log, time_ns)

    def tail(
        self, log: str, cursor: int, limit: int = 1000, timeout_s: float = 0.0
    ) -> tuple[list[tuple[int, Record]], int]:
        """Follow a log.

        Args:
            log: ``main`` or ``bulk``.
            cursor: Index of the first record wanted; continue with the returned one.
            limit: Most records returned, at most 10,000.
            timeout_s: How long to wait for the first of them.

        Returns:
            Index and record of each, and the next cursor.
        """
        limit = min(limit, TAIL_MAX)
        pause = threading.Event()
        for attempt in range(int(timeout_s / _POLL_S) + 1):
            if attempt:
                pause.wait(_POLL_S)
            stop = min(self.size(log), cursor + limit)
            if stop > cursor:
                return list(self.read(log, cursor, stop)), stop
        return [], cursor

    def open_record(self, record: Record) -> OpenRecord:
        """Open what the keys of a record's subject and sealed buckets still open."""
        return open_record(record, *self._keys_of(record))

    # -- publishing and proving ----------------------------------------------------------------------------------

    def origin(self, log: str = MAIN) -> str:
        """The origin line of a log's checkpoints."""
        return self._signer(log).name

    def vkey(self, log: str = MAIN) -> str:
        """The log's verifier key in C2SP signed-note form."""
        return self._signer(log).verify_key

    def publish(self, timeout_s: float = 30.0) -> dict[str, Checkpoint]:
        """Integrate and sign everything committed; each log's checkpoint.

        Raises:
            LockTimeout: Another process kept publishing.
            IntegrityError: What is stored contradicts itself; recording has stopped.
        """
        if self.read_only:
            raise self._refusal(MAIN)
        return self._publisher.publish(timeout_s)

    def checkpoint(self, log: str = MAIN) -> Checkpoint:
        """Publish what is committed and return the signed checkpoint; read-only, the last one published.

        Raises:
            OpNotFound: Read-only, and none was published yet.
        """
        self._signer(log)
        if not self.read_only:
            return self._publisher.publish()[log]
        found = self._publisher.checkpoint(log)
        if found is None:
            raise OpNotFound(f"log {log} has no signed checkpoint yet: open the store for writing once")
        return found

    def sign_at(self, log: str, size: int, extensions: Sequence[str]) -> str:
        """A signed checkpoint of the first ``size`` records of a log, which must be published; nothing is stored."""
        self._signer(log)
        return self._publisher.sign_at(log, size, extensions)

    def prove(self, log: str, index: int) -> proof.Proof:
        """Prove that an op is in a log, publishing a checkpoint first when none covers it.

        Raises:
            OpNotFound: The log is shorter.
            IntegrityError: What is stored contradicts itself.
        """
        self._signer(log)
        try:
            record: bytes | None = self.reader.record_at(log, index)
        except Expired:
            record = None
        found = (self._witnessed(index) if log == MAIN else None) or self._publisher.checkpoint(log)
        for _ in range(_PROVE_ATTEMPTS):
            if found is None or found.size <= index:
                found = self.checkpoint(log)
            try:
                return proof.prove(self._publisher.files[log], log, index, found, record)
            except IntegrityError:
                # A newer checkpoint may have replaced the partial tiles between our two reads.
                latest = self._publisher.checkpoint(log)
                if latest is None or latest.size == found.size:
                    raise
                found = latest
        raise LockTimeout(f"log {log} is published faster than a proof can be read: try again")

    def _witnessed(self, index: int) -> Checkpoint | None:
        """The checkpoint that enough witnesses cosigned, if it covers an index; the published one may be newer."""
        return self.witnesses.witnessed(index) if self._has_witnesses() else None

    def _has_witnesses(self) -> bool:
        if self.read_only and not self._state.query("SELECT 1 FROM sqlite_schema WHERE name = 'ledger_witnesses'"):
            return False  # made before witnesses were
        return bool(self._state.query("SELECT 1 FROM ledger_witnesses LIMIT 1"))

    def consistency(self, log: str, old: int, new: int) -> list[bytes]:
        """Proof that the published tree of ``new`` leaves extends that of ``old``."""
        self._signer(log)
        return proof.consistency(self._publisher.files[log], old, new)

    def check_proof(self, text: str, vkey: str | None = None) -> check.ProofShown:
        """Check a proof with the independent verifier.

        Args:
            text: The proof file.
            vkey: The log's verifier key; this store's own, chosen by the proof's origin, when None.

        Raises:
            IntegrityError: It does not verify.
        """
        # At use: ``python -m ipfs_kit.ledger.check`` must not find itself imported by its own package.
        from ipfs_kit.ledger import check

        if vkey is not None:
            return check.verify_proof(text, vkey)
        for log in LOGS:
            if f"\n{self.origin(log)}\n" in text:
                return check.verify_proof(text, self.vkey(log))
        raise IntegrityError("the proof is of another log: pass that log's verifier key")

    def verify(
        self,
        against: Sequence[str] = (),
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> verify.Report:
        """Check every byte of ``ledger/`` with the independent verifier, which writes nothing.

        Args:
            against: Texts of older signed checkpoints that the logs must extend.
            progress: Called with records done and in all.
        """
        from ipfs_kit.ledger import verify

        return verify.verify_ledger(
            self.directory,
            self._state.query,
            {log: self.vkey(log) for log in LOGS},
            sealed=self.segments.records,
            against=against,
            progress=progress,
        )

    # -- inside --------------------------------------------------------------------------------------------------

    def _encode(self, draft: Draft, now_ns: int) -> bytes:
        key, naming_key = self._keys_of(draft)
        return encode(draft, key, node=self.node, time_ns=now_ns, naming_key=naming_key)

    def _keys_of(self, named: Record | Draft) -> tuple[bytes | None, bytes | None]:
        return keys_of(self._keys.subject_key, named)

    def _families(self) -> dict[str, int]:
        from ipfs_kit.ledger.streams.settings import families

        return families(self._state)

    def _signer(self, log: str) -> Signer:
        if log not in self._signers:
            raise InvalidInput(f"there is no log {log!r}: it is main or bulk")
        return self._signers[log]

    def _refusal(self, log: str) -> KitError:
        if log not in LOGS:
            return InvalidInput(f"there is no log {log!r}: it is main or bulk")
        return ReadOnly("the store is open for reading only: nothing is recorded")

    def _stop_if_rewritten(self) -> None:
        """Record nothing on a state older than, or other than, what was signed (decision 16); reading and verifying go on."""
        for log in LOGS:
            try:
                self._publisher.check_heads(log)
            except IntegrityError as exc:
                self._on_fault(exc)

    def _on_commit(self) -> None:
        if not self._unpublished.is_set():
            self._unpublished.set()
            if self._thread is None:
                with self._guard:
                    if self._thread is None and not self._closed:
                        self._thread = threading.Thread(
                            target=self._publish_now_and_then, name="ipfs-kit-publisher", daemon=True
                        )
                        self._thread.start()

    def _on_fault(self, error: IntegrityError) -> None:
        self._committer.stop(error)

    def _publish_now_and_then(self) -> None:
        while not self._closing.is_set():
            self._unpublished.wait()
            if self._closing.wait(PUBLISH_INTERVAL_S):
                return
            self._unpublished.clear()
            self._publish_quietly()

    def _publish_quietly(self) -> None:
        """Publish; what cannot be published now is published by whoever comes next."""
        try:
            if self._publisher.try_publish() and self._has_witnesses():
                self.witnesses.publish()
        except IntegrityError as exc:
            _log.error("the ledger contradicts itself and records nothing more: %s", exc.message)
        except KitError as exc:
            _log.warning("publishing a checkpoint failed and will be tried again: %s", exc.message)
