"""``Kit``: a store opened by one principal over one surface."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipfs_kit.operations.catalogue import Surface
from ipfs_kit.operations.context import Progress
from ipfs_kit.operations.dispatcher import Caller, Dispatcher
from ipfs_kit.operations.engine import Engine
from ipfs_kit.operations.namespaces import Namespaces
from ipfs_kit.operations.principal import LOCAL, Principal
from ipfs_kit.operations.results import Result
from ipfs_kit.operations.store_path import store_path

if TYPE_CHECKING:
    from ipfs_kit.buckets.guards import Hook
    from ipfs_kit.operations.follow import Feed


class Kit(Namespaces):
    """A store and everything done to it; every call is one recorded operation.

    ``kit.bucket.create("photos")`` calls the operation ``bucket.create`` and returns its value; ``kit.call`` returns
    the value with the op id, index, CIDs and ack. Usable from any thread; use it as a context manager or ``close`` it.
    """

    def __init__(self, engine: Engine, principal: Principal, surface: Surface) -> None:
        self.engine = engine
        self.principal = principal
        self.surface = surface
        self._dispatcher = Dispatcher(engine)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        principal: Principal | str = LOCAL,
        surface: Surface | str = Surface.PYTHON,
        lock_timeout_s: float = 30.0,
    ) -> Kit:
        """Open a store.

        Args:
            path: Its directory; when left out, ``store_path`` decides.
            create: Make it when the directory is absent or empty.
            read_only: Read and verify only; nothing is recorded, and results say so.
            principal: Who calls; a surface passes what it authenticated.
            surface: By which surface.
            lock_timeout_s: Longest wait for another process.

        Returns:
            An open store; one path opened twice in a process shares one engine.

        Raises:
            StoreNotFound: There is no store and ``create`` is False.
            LockTimeout: Another process held a lock too long.
            FormatError: The directory holds something else, or a newer format.
        """
        engine = Engine.open(
            cls.store_path(path), create=create and not read_only, read_only=read_only, lock_timeout_s=lock_timeout_s
        )
        who = Principal(principal) if isinstance(principal, str) else principal
        return cls(engine, who, Surface(surface))

    @staticmethod
    def store_path(path: str | os.PathLike[str] | None = None) -> Path:
        """The directory of a store: the one given, else ``$IPFS_KIT_STORE``, else ``$XDG_DATA_HOME/ipfs-kit``.

        Args:
            path: The directory given, if any.
        """
        return store_path(path)

    def call(self, name: str, /, **arguments: Any) -> Result:
        """Run one operation.

        Args:
            name: Operation name, for example ``files.write``.
            arguments: Its arguments.

        Returns:
            The value with op id, index, CIDs and ack.

        Raises:
            KitError: What the operation raised; it is recorded too.
        """
        return self.call_with(name, arguments)

    def call_with(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        parent: bytes | None = None,
        trace: bytes | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancelled: threading.Event | None = None,
        principal: Principal | None = None,
        surface: Surface | None = None,
        may_wait: bool = True,
        stream: str | None = None,
        ack: str | None = None,
    ) -> Result:
        """Run one operation with everything a surface may pass.

        Args:
            name: Operation name, tool name or alias.
            arguments: Its arguments by name.
            idempotency_key: Makes a repeated write return the first result.
            parent: Op id of the op that caused this one.
            trace: Trace id, 16 bytes.
            progress: Receives reports of long work.
            cancelled: Set to stop long work.
            principal: The caller, when it is not the kit's own.
            surface: The surface, when it is not the kit's own.
            may_wait: False for a read called where nothing may wait: what would wait for the disk is not done.
            stream: The family the call is recorded under, when it is not the operation's own.
            ack: ``witnessed`` waits until enough witnesses have cosigned a checkpoint that covers the call.

        Returns:
            The value with op id, index, CIDs and ack.

        Raises:
            KitError: What the operation raised; it is recorded too.
            MustWait: Only without ``may_wait``; nothing was done and nothing recorded: call again with it.
        """
        caller = Caller(
            principal or self.principal,
            surface or self.surface,
            idempotency_key,
            parent,
            trace,
            progress,
            cancelled,
            may_wait,
            stream,
            ack,
        )
        return self._dispatcher.call(name, arguments, caller)

    def follow(
        self, stream: str | None = None, *, log: str | None = None, cursor: str | None = None, last: int = 0
    ) -> Feed:
        """Follow ops as they are recorded, by this process or another.

        Args:
            stream: The family of ops, such as ``audit``; None for all.
            log: ``main`` or ``bulk``; None for both.
            cursor: That of an earlier feed, to continue where it ended; None begins at the present end.
            last: Ops recorded before that to begin with, 0 to 10,000.

        Returns:
            An endless iterator; its ``cursor`` resumes after the op it returned last, its ``close`` ends it.

        Raises:
            InvalidInput: The stream, the log or the cursor is not one of this store.
        """
        from ipfs_kit.operations.follow import Feed

        return Feed(self, stream, log, cursor, last)

    def dataset_batches(
        self,
        version: str,
        *,
        split: str | None = None,
        columns: list[str] | None = None,
        where: str | None = None,
        batch_rows: int = 1_024,
        shuffle: int | None = None,
        buffer_rows: int = 65_536,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Any]:
        """Read a dataset as Arrow tables, for training; it stays the same version however it changes meanwhile.

        Args:
            version: ``DATASET[@ref]``; recorded as one ``dataset.info``.
            split: One split; all when left out.
            columns: Which columns; all when left out.
            where: Only rows that meet this, as ``dataset.rows`` takes it.
            batch_rows: Rows of one table, 1 or more; the last may be shorter.
            shuffle: A seed; None keeps the order of the rows.
            buffer_rows: Rows mixed with each other and held in memory, 1 to 10 million.
            shard: Which of how many disjoint shares, ``(0, 4)`` for the first of four.

        Returns:
            An iterator over Arrow tables.

        Raises:
            InvalidInput: A number is out of bounds, or a column does not exist.
        """
        from ipfs_kit.buckets.paths import Location, Ref
        from ipfs_kit.datasets.state import DatasetState, check_columns
        from ipfs_kit.datasets.streaming import batches
        from ipfs_kit.datasets.where import Condition, parse

        self.call("dataset.info", version=version)
        item, space, _ = self.engine.buckets.item_with_space(Location(Ref.parse(version), ()))
        state = DatasetState(space, item)
        check_columns(columns, state.schema)
        condition = Condition(parse(where), state.schema) if where else None
        return batches(
            state,
            split,
            columns,
            condition,
            batch_rows=batch_rows,
            shuffle=shuffle,
            buffer_rows=buffer_rows,
            shard=shard,
        )

    def add_commit_hook(self, name: str, hook: Hook, *, bucket: str | None = None) -> None:
        """Have a function of this program look at every new head of a branch before it is made.

        It sees what the branch would gain and returns why that is refused, or None; what it raises refuses it, too. It
        holds for this store in this process until it is removed; other processes are held by ``versions.rule_set`` alone.

        Args:
            name: Names it in refusals; one of the same name is replaced.
            hook: Takes an ``ipfs_kit.buckets.Proposal``.
            bucket: Only this bucket; None for all.
        """
        self.engine.buckets.hooks.add(name, hook, bucket=bucket)

    def remove_commit_hook(self, name: str) -> bool:
        """Forget a function of ``add_commit_hook``; whether there was one."""
        return self.engine.buckets.hooks.remove(name)

    def close(self) -> None:
        """Flush, publish and release; the last close of a shared engine really closes it."""
        if not self._closed:
            self._closed = True
            self.engine.close()

    def __enter__(self) -> Kit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
