"""From sequenced to published: integrate new records into the tiles, swap the high-water mark, sign (decision 17).

One process at a time, the holder of the lease ``ledger-publish``. The order is derived from "a checkpoint covers only
durable records": tiles and bundles are synced, the new tree is checked against the last signed checkpoint, ``(size,
root)`` moves in ``state.db``, the checkpoint is signed and renamed into place, and last the partial tiles that nothing
names any more are removed. A crash leaves files that the next publisher finds again or removes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from ipfs_kit.durable import Lease, StateDB, make_dirs, replace
from ipfs_kit.durable.files import storage_failed
from ipfs_kit.errors import FormatError, IntegrityError, LockTimeout
from ipfs_kit.keys import Signer, verify_signature
from ipfs_kit.ledger import batches, kept, merkle
from ipfs_kit.ledger.checkpoint import NOTE_BYTES_MAX, Checkpoint, bulk_extension, parse, sign
from ipfs_kit.ledger.layout import CHECKPOINT
from ipfs_kit.ledger.record import BULK, CID_PREFIX, LOGS, MAIN
from ipfs_kit.ledger.tiles import Growth, TileFiles, remove_partials

LEAVES_PER_SWAP: Final = 262_144
"""New leaves between two moves of the high-water mark: what a crash makes the next publisher do again."""
_ORDER: Final = (BULK, MAIN)
"""``main`` last: its checkpoint carries ``bulk``'s root."""


class Publisher:
    """Publishes both logs of one store.

    Args:
        directory: The ``ledger`` directory.
        state: ``state.db``.
        signers: The key of each log, named like its origin.
        lease_directory: Where the lease file lives: the store's directory.
        fault: Called with an integrity error before it is raised, so that appends stop too (decision 16).
    """

    def __init__(
        self,
        directory: str,
        state: StateDB,
        signers: dict[str, Signer],
        lease_directory: str,
        fault: Callable[[IntegrityError], None],
    ) -> None:
        self._directory = directory
        self._state = state
        self._signers = signers
        self._lease = Lease(lease_directory, "ledger-publish")
        self._fault = fault
        self.files = {log: TileFiles(os.path.join(directory, log)) for log in LOGS}

    def lease(self, timeout_s: float) -> Lease:
        """Take the lease; the caller releases it.

        Raises:
            LockTimeout: Another process is publishing for longer than that.
        """
        self._lease.acquire(timeout_s)
        return self._lease

    def publish(self, timeout_s: float = 30.0) -> dict[str, Checkpoint]:
        """Bring tiles and checkpoints up to everything committed.

        Args:
            timeout_s: Longest wait for another publisher; 0 tries once.

        Returns:
            Each log's signed checkpoint.

        Raises:
            LockTimeout: Another process kept publishing.
            IntegrityError: Records, tiles, high-water mark and checkpoint contradict each other; nothing was signed.
        """
        lease = self.lease(timeout_s)
        try:
            return self.publish_leased()
        except IntegrityError as exc:
            self._fault(exc)
            raise
        finally:
            lease.release()

    def try_publish(self) -> bool:
        """Publish unless another process is doing so; False when it is."""
        try:
            self.publish(0)
        except LockTimeout:
            return False
        return True

    def publish_leased(self) -> dict[str, Checkpoint]:
        """Like ``publish``, for a caller that holds the lease."""
        published: dict[str, Checkpoint] = {}
        for log in _ORDER:
            signed = self.checkpoint(log)
            if signed is None and batches.log_state(self._state, log).size == 0:
                # From here on a log with leaves and no checkpoint is one whose checkpoint was taken away.
                empty = (bulk_extension(0, merkle.EMPTY_ROOT),) if log == MAIN else ()
                signed = self._sign(log, 0, merkle.EMPTY_ROOT, empty)
            stale = self._integrate(log, signed)
            state = batches.log_state(self._state, log)
            extensions: Sequence[str] = ()
            if log == MAIN:
                bulk = published[BULK]
                extensions = (bulk_extension(bulk.size, bulk.root),)
            if signed is None or signed.size != state.size or signed.extensions != tuple(extensions):
                signed = self._sign(log, state.size, state.root, extensions)
            published[log] = signed
            for size in stale:
                remove_partials(os.path.join(self._directory, log), size, state.size)
        return published

    def _sign(self, log: str, size: int, root: bytes, extensions: Sequence[str]) -> Checkpoint:
        text = sign(self._signers[log], size, root, extensions)
        path = os.path.join(self._directory, log, CHECKPOINT)
        make_dirs(os.path.dirname(path))
        replace(path, text.encode())
        return parse(text)

    def checkpoint(self, log: str) -> Checkpoint | None:
        """The checkpoint as published, its signature checked; None before the first.

        Raises:
            IntegrityError: It does not parse or is not signed by this store's key.
        """
        path = os.path.join(self._directory, log, CHECKPOINT)
        try:
            with open(path, "rb") as file:
                data = file.read(NOTE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise storage_failed("read", path, exc) from exc
        try:
            return self._signed(log, data.decode(), path)
        except UnicodeDecodeError as exc:
            raise FormatError(f"{path} is not UTF-8: run ledger verify") from exc

    def sign_at(self, log: str, size: int, extensions: Sequence[str]) -> str:
        """A checkpoint of the published tree's first ``size`` leaves; nothing is stored.

        The same size and extension lines always give the same bytes: Ed25519 is deterministic.

        Raises:
            IntegrityError: The tiles contradict what was signed before.
        """
        signed = self.checkpoint(log)
        if signed is None or size > signed.size:
            raise IntegrityError(f"{size} records of log {log} are not published yet: run ledger checkpoint", log=log)
        nodes = self.files[log].nodes(signed.size)
        if merkle.root(nodes, signed.size) != signed.root:
            raise _rewritten(log, signed.size)
        return sign(self._signers[log], size, merkle.root(nodes, size), extensions)

    def check_heads(self, log: str) -> None:
        """Check that the tree extends the newest checkpoint that was replaced, and the published one where it is as large.

        Raises:
            IntegrityError: It does not, or state.db is older than what was signed.
        """
        # In this order: the state is moved before its checkpoint is signed, so it is never behind it.
        signed = self.checkpoint(log)
        state = batches.log_state(self._state, log)
        if signed is not None and signed.size > state.size:
            raise IntegrityError(
                f"state.db holds {state.size} published records of log {log}, but {signed.size} were signed: it is an older "
                "copy. Restore the newer state.db, or the whole store from one backup; run ledger verify",
                log=log,
            )
        if signed is not None and signed.size == state.size and signed.root != state.root:
            raise _rewritten(log, signed.size)
        note = kept.newest(self._state, log)
        if note is not None:
            older = self._signed(log, note, f"state.db's checkpoint of log {log}")
            if signed is None or signed.size < older.size:
                raise IntegrityError(
                    f"the checkpoint of log {log} is older than one signed before, at {older.size}: it is an older copy; "
                    "run ledger verify",
                    log=log,
                )
            if older.size > state.size or merkle.root(self.files[log].nodes(older.size), older.size) != older.root:
                raise _rewritten(log, older.size)

    def _signed(self, log: str, text: str, path: str) -> Checkpoint:
        found = parse(text)
        signer = self._signers[log]
        good = any(
            line.name == signer.name
            and line.key_id == signer.key_id
            and verify_signature(signer.public_key, found.body, line.signature)
            for line in found.signatures
        )
        if not good or found.origin != signer.name:
            raise IntegrityError(f"{path} is not signed by this store's key: run ledger verify", path=path)
        return found

    def attach(self, note: Checkpoint, timeout_s: float = 5.0) -> None:
        """Put the signature lines of a note into ``main``'s published checkpoint while that still has the same text.

        Args:
            note: The checkpoint with cosignatures.
            timeout_s: Longest wait for another publisher.
        """
        lease = self.lease(timeout_s)
        try:
            now = self.checkpoint(MAIN)
            if now is not None and now.body == note.body and len(now.signatures) < len(note.signatures):
                replace(os.path.join(self._directory, MAIN, CHECKPOINT), note.text.encode())
        finally:
            lease.release()

    def _integrate(self, log: str, signed: Checkpoint | None) -> list[int]:
        """Extend the tree to everything committed so far; returns the sizes whose partial tiles may go afterwards.

        What is committed meanwhile is for the next time: chasing a busy log would write partial tiles and take the state
        transaction over and over, and slow the very callers it runs after.
        """
        files = self.files[log]
        state = batches.log_state(self._state, log)
        target = state.next_index
        if signed is not None:
            self._check_signed(log, signed, state)
        stale = [signed.size] if signed is not None else []
        while state.size < target:
            growth = Growth(files, state.size)
            if growth.root() != state.root:
                raise IntegrityError(
                    f"the tiles of log {log} do not give the root in state.db at {state.size}: "
                    "nothing is signed; run ledger verify"
                )
            stop = min(target, state.size + LEAVES_PER_SWAP)
            for batch in batches.batches(self._state, log, state.size, stop):
                records = batch.records()[max(0, state.size - batch.first_index) : stop - batch.first_index]
                growth.add([CID_PREFIX + sha256(record).digest() for record in records])
            growth.finish()
            files.forget()
            self._check_extends(log, state.size, state.root, growth)
            self._swap(log, state.size, growth, signed)
            stale.append(state.size)
            state = batches.log_state(self._state, log)
        return stale

    def _check_signed(self, log: str, signed: Checkpoint, state: batches.LogState) -> None:
        if signed.size > state.size:
            raise IntegrityError(
                f"the checkpoint of log {log} covers {signed.size} records but state.db knows {state.size}: "
                "it was truncated or restored from an older copy; nothing is signed; run ledger verify"
            )
        root = state.root if signed.size == state.size else merkle.root(self.files[log].nodes(signed.size), signed.size)
        if root != signed.root:
            raise _rewritten(log, signed.size)

    def _check_extends(self, log: str, old: int, old_root: bytes, growth: Growth) -> None:
        """The tree just written, read back from its tiles, must extend what was signed and have the root computed."""
        nodes = self.files[log].nodes(growth.size)
        if merkle.root(nodes, old) != old_root or merkle.root(nodes, growth.size) != growth.root():
            raise IntegrityError(
                f"the tiles just written for log {log} do not extend the tree of {old}: nothing is signed"
            )

    def _swap(self, log: str, old: int, growth: Growth, signed: Checkpoint | None) -> None:
        with self._state.transaction() as tx:
            state = batches.log_state_in(tx, log)
            if state.size != old or state.next_index < growth.size:
                raise IntegrityError(
                    f"the high-water mark of log {log} moved without the publishing lease: run ledger verify"
                )
            tx.execute("UPDATE ledger_logs SET size = ?, root = ? WHERE log = ?", (growth.size, growth.root(), log))
            if signed is not None and signed.size:
                kept.keep(tx, log, signed)


def _rewritten(log: str, size: int) -> IntegrityError:
    return IntegrityError(
        f"log {log} does not extend its signed checkpoint at {size}: history was rewritten or a tile is damaged; nothing "
        "is recorded or signed; run ledger verify",
        log=log,
        size=size,
    )
