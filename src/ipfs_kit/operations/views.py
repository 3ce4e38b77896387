"""Records, commits and the store as people see them: personal fields opened where their key is held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ipfs_kit.buckets import LogEntry
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ledger import Record
from ipfs_kit.operations.toolsets.ledger import OpInfo
from ipfs_kit.operations.toolsets.store import StoreInfo
from ipfs_kit.operations.toolsets.versions import CommitInfo

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PHASES = ("whole", "intent", "outcome")
"""Names of a record's phases, by number."""


class Views:
    """Read-only views over one engine.

    Args:
        engine: The open store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def op(self, log: str, index: int, record: Record) -> OpInfo:
        """One record with its personal fields opened.

        Args:
            log: Its log.
            index: Its index there.
            record: The decoded record.
        """
        opened = self._engine.ledger.open_record(record)
        return OpInfo(
            op=f"{log}:{index}",
            op_id=record.op_id.hex(),
            cid=self._engine.ledger.record_cid(log, index),
            time=iso_time(record.time_ns),
            operation=record.operation,
            surface=record.surface,
            actor=record.actor,
            actor_name=self._engine.keys.subject_name(record.actor),
            status=record.status,
            error_kind=record.error_kind,
            target=opened.target,
            args=opened.args,
            effect=self.effect(opened.effect),
            before=_first(record.before),
            after=_first(record.after),
            duration_us=record.duration_us,
            parent=record.parent.hex() if record.parent else None,
            phase=_PHASES[record.phase],
            stream=record.stream,
            error=opened.error_message,
            trace=record.trace.hex() if record.trace else None,
        )

    def effect(self, effect: Any) -> Any:
        """A record's effect; a large one is read from its block."""
        if isinstance(effect, CID) and effect.codec == DAG_CBOR:
            return dag_cbor.decode(self._engine.blocks.get(effect))
        return effect

    def commit(self, entry: LogEntry) -> CommitInfo:
        """One commit with its author's name, if the author's key exists."""
        name = self._engine.keys.subject_name(entry.author) if entry.author else None
        kept = dict(entry.metadata) if entry.metadata is not None else None
        parents = list(entry.parents)
        return CommitInfo(entry.cid, entry.root, parents, iso_time(entry.time_ns), name, entry.message, kept)

    def store(self) -> StoreInfo:
        """The store and its sizes."""
        engine = self._engine
        packs = engine.blocks.pack_stats()
        room = engine.room()
        return StoreInfo(
            path=str(engine.path),
            node=engine.ledger.node,
            vkey=engine.ledger.vkey("main"),
            blocks=sum(pack.live_blocks for pack in packs),
            size=sum(pack.size_bytes for pack in packs),
            buckets=engine.buckets.count(),
            main_records=engine.ledger.size("main"),
            bulk_records=engine.ledger.size("bulk"),
            free=room.free_bytes,
            reserve=room.reserve_bytes,
        )


def iso_time(time_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the nanosecond."""
    whole = (_EPOCH + timedelta(seconds=time_ns // 1_000_000_000)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time_ns % 1_000_000_000:09d}Z"


def _first(versions: CID | list[CID] | None) -> CID | None:
    if isinstance(versions, list):
        return versions[0] if versions else None
    return versions
