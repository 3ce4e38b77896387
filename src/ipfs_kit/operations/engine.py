"""The engine: every layer of one store, assembled once per process and shared by its handles."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfs_kit import buckets
from ipfs_kit.blocks.holds import HOLDS_SCHEMA, Holds
from ipfs_kit.blocks.pins import PINS_SCHEMA, Pins
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.buckets import Buckets
from ipfs_kit.durable import StateDB, files, shared
from ipfs_kit.durable.reserve import Reserve, Room
from ipfs_kit.errors import FormatError, InvalidInput, NoSpace, OpNotFound, StoreNotFound
from ipfs_kit.keys import KeyRing
from ipfs_kit.ledger import SCHEMAS as LEDGER_SCHEMAS
from ipfs_kit.ledger.freeze import Freeze
from ipfs_kit.ledger.ledger import Ledger
from ipfs_kit.operations.clock import Clock, StepRecorder
from ipfs_kit.operations.maintenance import Maintenance
from ipfs_kit.operations.principal import Principal
from ipfs_kit.operations.sampling import Sampling
from ipfs_kit.operations.sealed_names import SealedNames
from ipfs_kit.search.metadata.statements import SCHEMA as METADATA_SCHEMA

if TYPE_CHECKING:
    from ipfs_kit.buckets.folder_tracker import FolderTracker
    from ipfs_kit.buckets.path_history import PathHistories
    from ipfs_kit.ledger.erasure import Erasure
    from ipfs_kit.ledger.published.importing import Imports
    from ipfs_kit.ledger.streams.batches import StreamBatches
    from ipfs_kit.monitoring.alerts import AlertStates
    from ipfs_kit.operations.observing import Observed
    from ipfs_kit.operations.scrape import Scrape
    from ipfs_kit.operations.upkeep import Upkeep
    from ipfs_kit.operations.views import Views
    from ipfs_kit.search.catalogue import Indexes
    from ipfs_kit.search.metadata.index import MetadataIndex

_log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the store's layout; older builds refuse newer ones by name."""


class Engine:
    """All layers of one open store; use ``Engine.open``."""

    def __init__(self, path: Path, *, read_only: bool, lock_timeout_s: float, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.random = os.urandom
        self.read_only = read_only
        self.reserve = Reserve(path)
        self.freeze = Freeze(path)
        if not read_only:
            self.reserve.relieve()  # opening itself writes
        schemas = (PINS_SCHEMA, HOLDS_SCHEMA, *LEDGER_SCHEMAS, *buckets.SCHEMAS, METADATA_SCHEMA)
        self.state = StateDB.open(path / "state.db", schemas, read_only=read_only, lock_timeout_s=lock_timeout_s)
        # Keys are made once: in a store that has recorded something, absent ones are lost and must not be replaced.
        unused = not self.state.query("SELECT 1 FROM ledger_logs WHERE next_index > 0 LIMIT 1")
        self.keys = KeyRing.open(path / "keys", unused, read_only=read_only, lock_timeout_s=lock_timeout_s)
        self.blocks = PackStore.open(path, self.state, read_only=read_only)
        self.pins = Pins(self.state, self.blocks)
        self.holds = Holds(self.state)
        self.ledger = Ledger.open(
            path / "ledger",
            self.state,
            self.keys,
            sync_blocks=self.blocks.sync,
            now_ns=clock,
            random=os.urandom,
            read_only=read_only,
        )
        self.buckets = Buckets(self.state, self.blocks, self.keys, clock, op_at_time=self._op_at_time)
        self._maintenance = Maintenance(self)
        self._clock_steps = StepRecorder(self.ledger, clock)
        self.sealed_names = SealedNames(self)
        self.sampling = Sampling(self)
        self._actors: dict[str, str] = {}
        self._guard = threading.Lock()
        if read_only:
            return
        # Threads come last: they use all of the above, and nobody would stop them if opening failed.
        try:
            self.keep_reserve()
        except BaseException:
            self._really_close()
            raise
        self._clock_steps.start()
        self._maintenance.start()

    @classmethod
    def open(
        cls, path: Path, *, create: bool, read_only: bool, lock_timeout_s: float, clock: Clock | None = None
    ) -> Engine:
        """Open a store directory; the same directory gives the same engine in one process.

        Args:
            path: The directory.
            create: Make the store when the directory is absent or empty.
            read_only: Write nothing.
            lock_timeout_s: Longest wait for another process.
            clock: Where times come from, when this opens the engine; the machine's when None.

        Raises:
            StoreNotFound: There is no store and ``create`` is False.
            InvalidInput: The path is a file.
            FormatError: The directory holds something that is not a store.
        """
        if not (path / "state.db").exists():
            if path.exists() and not path.is_dir():
                raise InvalidInput(f"{path} is a file, and a store is a directory: name another with --store")
            if path.is_dir() and any(path.iterdir()) and not (path / "keys").is_dir():
                raise FormatError(f"{path} is not empty and holds no store: choose an empty or new directory")
            if not create:
                raise StoreNotFound(
                    f"there is no store in {path}: run 'ipfs-kit --store {path} init', or name another with --store"
                )
            files.make_dirs(path, 0o700)
        return _engines.open(
            path,
            read_only,
            lambda: cls(path, read_only=read_only, lock_timeout_s=lock_timeout_s, clock=clock or Clock()),
        )

    @property
    def format(self) -> int:
        """Version of this store's layout."""
        return FORMAT

    @property
    def failed(self) -> bool:
        """Whether a durable write failed, so that the store must be reopened."""
        return self.state.failed

    def has_room(self) -> bool:
        """Whether a call can be recorded; gives the reserve back when the disk is nearly full."""
        return self.read_only or self.reserve.relieve()

    def room(self) -> Room:
        """What is free on the store's disk and what is set aside."""
        return self.reserve.room(self.blocks.size_bytes)

    def keep_reserve(self) -> None:
        """Set disk space aside again where there is some."""
        self.reserve.restore(self.blocks.size_bytes)

    def actor(self, principal: Principal) -> str:
        """The surrogate id of a principal; made on its first call, empty when nothing may be written."""
        found = self._actors.get(principal.name)
        if found is not None and self.keys.subject_key(found) is not None:
            return found
        if self.read_only:
            return ""
        found = self.keys.subject_for(principal.name)
        with self._guard:
            if len(self._actors) >= ACTORS_CACHED_MAX:
                self._actors.clear()
            self._actors[principal.name] = found
        return found

    def find_op(self, text: str) -> tuple[str, int]:
        """Log and index of an op named by ``INDEX``, ``LOG:INDEX`` or hex id.

        Raises:
            OpNotFound: There is no such op.
        """
        from ipfs_kit.operations.toolsets.ledger import parse_op

        named = parse_op(text)
        if isinstance(named, tuple):
            log, index = named
            if index >= self.ledger.size(log):
                raise OpNotFound(f"the {log} log has {self.ledger.size(log)} ops; there is no {index}")
            return log, index
        return self.ledger.find(named)[-1]

    @cached_property
    def views(self) -> Views:
        """Records and commits as people see them."""
        from ipfs_kit.operations.views import Views

        return Views(self)

    @cached_property
    def upkeep(self) -> Upkeep:
        """Garbage collection, verification, repair."""
        from ipfs_kit.operations.upkeep import Upkeep

        return Upkeep(self)

    @cached_property
    def streams(self) -> StreamBatches:
        """Batches of the ledger's streams."""
        from ipfs_kit.ledger.streams.batches import StreamBatches

        return StreamBatches(self.ledger, self.state, self.clock)

    @cached_property
    def imports(self) -> Imports:
        """Publications of other nodes."""
        from ipfs_kit.ledger.published.importing import Imports

        return Imports(self.state, str(self.path), self.ledger.node)

    @cached_property
    def alert_states(self) -> AlertStates:
        """How every rule stands by the recorded alerts."""
        from ipfs_kit.operations.alerting import alert_states

        return alert_states(self)

    @cached_property
    def scrape(self) -> Scrape:
        """Figures for Prometheus that follow the ledger."""
        from ipfs_kit.operations.scrape import Scrape

        return Scrape(self)

    @cached_property
    def indexes(self) -> Indexes:
        """Full-text indexes of the buckets."""
        from ipfs_kit.search.catalogue import Indexes

        return Indexes(self.path, self.buckets, self.read_only, self.state.lock_timeout_s)

    @cached_property
    def metadata(self) -> MetadataIndex:
        """Records about CIDs, found by any of their fields."""
        from ipfs_kit.search.metadata.index import MetadataIndex

        def mark(op: int) -> str:
            return str(self.ledger.record_cid("main", op))

        return MetadataIndex(self.path, self.state, mark, self.read_only, self.state.lock_timeout_s)

    @cached_property
    def observed(self) -> Observed:
        """Folders outside the store that are watched."""
        from ipfs_kit.operations.observing import Observed

        return Observed(self.path, self.ledger, self.state.lock_timeout_s)

    @cached_property
    def histories(self) -> PathHistories:
        """Histories of paths in buckets."""
        from ipfs_kit.buckets.path_history import PathHistories

        return PathHistories(self.path, self.buckets, self.read_only, self.state.lock_timeout_s)

    @cached_property
    def folders(self) -> FolderTracker:
        """Folders outside, tracked in buckets."""
        from ipfs_kit.buckets.folder_tracker import FolderTracker

        return FolderTracker(self.path, self.buckets, self.read_only, self.state.lock_timeout_s)

    @cached_property
    def erasure(self) -> Erasure:
        """Everything that forgets a person; whoever keeps something personal registers here."""
        from ipfs_kit.ledger.erasure import Erasure, FileScan, IdempotencyRows, KeyOf

        return Erasure(
            [KeyOf(self.keys), IdempotencyRows(self.state), _ActorCache(self), self.observed, FileScan(self.path)]
        )

    def has_actor(self, principal: Principal) -> bool:
        """Whether a call of a principal needs no new key, as far as is known without looking at the disk."""
        found = self._actors.get(principal.name)
        return self.read_only or (found is not None and self.keys.subject_key(found) is not None)

    def forget_erased(self) -> None:
        """Drop the names of callers whose key was destroyed, by whichever process."""
        for surrogate in set(self._actors.copy().values()):
            if self.keys.subject_key(surrogate) is None:
                self.forget_actor(surrogate)

    def forget_actor(self, surrogate: str) -> int:
        """Drop a caller's name from memory; how many entries went."""
        with self._guard:
            names = [name for name, found in self._actors.items() if found == surrogate]
            for name in names:
                del self._actors[name]
        return len(names)

    @cached_property
    def sql(self) -> Any:
        """SQL over the ledger; starts its sandbox on first use."""
        from ipfs_kit.ledger.sql import LedgerSql

        return LedgerSql(self.state, self.path, keys=self.keys)

    def _op_at_time(self, time_ns: int) -> int:
        found = self.ledger.index_at_time(time_ns)
        return -1 if found is None else found

    def close(self) -> None:
        """Release one handle; the last one flushes, snapshots, publishes and closes."""
        _engines.release(self, self._really_close)

    def _really_close(self) -> None:
        steps: list[Callable[[], object]] = [self._maintenance.stop, self._clock_steps.close]
        if "sql" in self.__dict__:
            steps.append(self.sql.close)
        if not self.read_only:
            steps.append(self.sampling.settle)
        steps += [self.buckets.close, self.ledger.close, self.blocks.close, self.keys.close, self.state.close]
        error: BaseException | None = None
        for step in steps:
            try:
                step()
            except NoSpace as exc:
                if self.failed:
                    error = error or exc
                else:
                    # What was acknowledged is durable; snapshots and checkpoints are made by the next close with room.
                    _log.warning("closing left work for later: %s", exc.message)
            except Exception as exc:  # every layer is closed; the first failure is the one reported
                error = error or exc
        if error is not None:
            raise error


class _ActorCache:
    """The names of callers in an engine's memory, as something that forgets a person.

    Args:
        engine: The engine.
    """

    name = "callers in memory"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def erase(self, subject: str) -> int:
        """Drop the person's name."""
        return self._engine.forget_actor(subject)

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        """Nothing of it is stored."""
        return iter(())


ACTORS_CACHED_MAX = 10_000
"""Principals whose surrogate ids are kept in memory."""

_engines: shared.Registry[Engine] = shared.Registry(lambda engine: not engine.failed)
