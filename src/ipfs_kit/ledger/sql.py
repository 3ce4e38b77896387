"""SQL over both logs: sealed segments and live tail as the views ``ops``, ``records`` and one per stream (``docs/guide/sql.md``).

One query sees one snapshot of ``state.db``: the segments registered then and the records not yet sealed. The
engine runs in ``sandbox``; this module decides what it may see.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import FormatError, MissingExtra, Stale
from ipfs_kit.ledger.batches import unframe
from ipfs_kit.ledger.columns import INDEX, need_pyarrow, schema, to_table
from ipfs_kit.ledger.record import FIELDS, LOGS, SEALED_FIELDS, record_cid_bytes
from ipfs_kit.ledger.sandbox import Answer, Limits, Sandbox
from ipfs_kit.ledger.streams import views
from ipfs_kit.ledger.streams.registry import STREAMS

if TYPE_CHECKING:
    import pyarrow as pa

OPS_COLUMNS: Final = {
    "log": "VARCHAR", "idx": "BIGINT", "time": "TIMESTAMP WITH TIME ZONE", "op_id": "VARCHAR", "record_cid": "VARCHAR",
    "node": "VARCHAR", "actor": "VARCHAR", "actor_name": "VARCHAR", "surface": "VARCHAR", "operation": "VARCHAR",
    "stream": "VARCHAR", "subject": "VARCHAR", "target": "VARCHAR", "args": "VARCHAR", "effect": "VARCHAR",
    "status": "VARCHAR", "error_kind": "VARCHAR", "error_message": "VARCHAR", "duration_ms": "DOUBLE",
    "before": "VARCHAR", "after": "VARCHAR", "ack": "VARCHAR", "parent": "VARCHAR", "trace": "VARCHAR",
    "bytes_in": "BIGINT", "bytes_out": "BIGINT", "ext": "VARCHAR",
}  # fmt: skip
"""The columns of ``ops``; ``records`` has ``phase`` besides, one row per record instead of one per op id."""
_COMPUTED: Final = ("record_cid", "actor_name", *SEALED_FIELDS, "before", "after", "ext")
"""Columns that our functions make; they cost time only where a query names them."""
_STORED: Final = (INDEX, *FIELDS)
_PLAIN: Final = {
    "log": "log", "idx": '"index"', "time": "CAST(time_ns AS TIMESTAMPTZ)", "op_id": "lower(hex(op_id))",
    "duration_ms": "duration_us / 1000.0",
    "parent": "lower(hex(parent))", "trace": "lower(hex(trace))",
}  # fmt: skip


class Keys(Protocol):
    """What SQL needs of a key ring; give one that answers None for what the principal may not read."""

    def subject_key(self, surrogate: str) -> bytes | None:
        """The key that seals this subject's fields; see ``KeyRing.subject_key``."""

    def subject_name(self, surrogate: str) -> str | None:
        """The name behind a surrogate id."""


@dataclass(frozen=True)
class Result:
    """What a query returned.

    Args:
        columns: Names in order.
        types: The engine's types as Arrow names.
        row_count: Rows returned.
        truncated: More existed than the limits allow.
        elapsed_s: From call to answer.
        walls: Which walls stood around the child, for example ``landlock`` and ``netns``.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    row_count: int
    truncated: bool
    elapsed_s: float
    walls: tuple[str, ...]
    table: pa.Table = field(repr=False, compare=False)
    """The rows as an Arrow table."""

    @cached_property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as Python values; times are aware datetimes in UTC."""
        columns = [column.to_pylist() for column in self.table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Each row as a mapping from column name."""
        for row in self.rows:
            yield dict(zip(self.columns, row, strict=True))


@dataclass
class _Tail:
    """Records of one log already turned into columns, so that a query converts only what came since."""

    start: int = 0
    stop: int = 0
    tables: list[pa.Table] = field(default_factory=list)


class LedgerSql:
    """Runs user queries over one store's ledger; safe to use from any thread.

    Args:
        state: ``state.db``.
        directory: The store's directory.
        keys: The key ring; None leaves every sealed column null.
        sandbox: A pool to share; None makes one, closed with this object.
        now: Monotonic seconds, for the elapsed time.
    """

    def __init__(
        self,
        state: StateDB,
        directory: str | os.PathLike[str],
        *,
        keys: Keys | None = None,
        sandbox: Sandbox | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._directory = os.path.abspath(directory)
        self._keys = keys
        self._own = sandbox is None
        self._sandbox = sandbox if sandbox is not None else Sandbox()
        self._now = now
        self._guard = threading.Lock()
        self._tails = {log: _Tail() for log in LOGS}

    @property
    def sandbox(self) -> Sandbox:
        """Where queries run; other questions may share it."""
        return self._sandbox

    def prepare(self) -> None:
        """Start the sandbox's idle child now, so that the first query finds it ready."""
        _need_engine()
        self._sandbox.prepare()

    def query(
        self,
        sql: str,
        *,
        params: Mapping[str, Any] | None = None,
        keys: Keys | None = None,
        row_filter: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        all_nodes: bool = False,
        check: Callable[[], None] | None = None,
    ) -> Result:
        """Run one SELECT over ``ops`` and ``records``.

        Args:
            sql: The user's text.
            params: Values of ``$name`` in it: JSON types.
            keys: What this principal may decrypt; None uses the key ring the object was made with.
            row_filter: A condition over the columns of ``ops`` in SQL, written by us and never by a user: the query
                sees only rows it holds for.
            limits: Time, memory, rows and bytes.
            all_nodes: The views hold the records of imported publications too; personal fields of those are null.
            check: Called every tenth of a second; what it raises ends the query.

        Raises:
            InvalidInput: Not exactly one SELECT that the engine accepts.
            Denied: It reaches for files, settings or functions that are walled off.
            Timeout: It ran over its time and was killed.
            BudgetExceeded: It needed more memory than it may use, or is itself too large.
            MissingExtra: duckdb, pyarrow or, for sealed columns, numpy is not installed.
        """
        _need_engine()
        started = self._now()
        ring = keys if keys is not None else self._keys
        # Load the child's engine while we read the tail.
        self._sandbox.prepare()
        for attempt in range(3):
            request, tail = self._request(sql, params, row_filter, all_nodes)
            try:
                answer = self._sandbox.run(
                    request,
                    tail,
                    limits,
                    keys=None if ring is None else lambda ids: {i: ring.subject_key(i) for i in ids},
                    names=None if ring is None else lambda ids: {i: ring.subject_name(i) for i in ids},
                    check=check,
                )
            except Stale:
                if attempt == 2:
                    raise
                continue
            return result_of(answer, self._now() - started)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the children of an own sandbox."""
        if self._own:
            self._sandbox.close()

    def __enter__(self) -> LedgerSql:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _request(
        self, sql: str, params: Mapping[str, Any] | None, row_filter: str | None, all_nodes: bool
    ) -> tuple[dict[str, Any], memoryview]:
        pa: Any = need_pyarrow()
        files: dict[str, list[str]] = {}
        foreign: dict[str, list[str]] = {}
        tails: list[Any] = []
        with self._guard, self._state.snapshot() as view:
            for log in LOGS:
                names = view.query(
                    "SELECT name FROM ledger_segments WHERE log = ? ORDER BY first_index, family", (log,)
                )
                files[log] = [f"ledger/{log}/segments/{name}" for (name,) in names]
                tails.append(self._tail(view, log))
                if all_nodes:
                    foreign[log] = _imported_files(view, log)
        table = pa.concat_tables(tails)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        own = [log for log, paths in files.items() if paths]
        others = [log for log, paths in foreign.items() if paths]
        request = {
            "sql": sql,
            "params": dict(params) if params else None,
            "row_filter": row_filter,
            "datasets": [{"name": f"_kit_{log}", "log": log, "files": files[log]} for log in own]
            + [{"name": f"_kit_{log}_imported", "log": None, "files": foreign[log]} for log in others],
            "root": self._directory,
            "directories": [os.path.join(self._directory, "ledger", log, "segments") for log in own]
            + ([os.path.join(self._directory, "imported")] if others else []),
            "relations": {
                "ops": list(OPS_COLUMNS),
                "records": [*OPS_COLUMNS, "phase"],
                **views.relations(list(OPS_COLUMNS)),
            },
            "computed": list(_COMPUTED),
            "streams": list(STREAMS),
            "functions": _FUNCTIONS,
            "setup": _views(own, others, computed=True),
            "setup_plain": _views(own, others, computed=False),
        }
        return request, memoryview(sink.getvalue())

    def _tail(self, view: Any, log: str) -> pa.Table:
        """The records of a log that no segment holds, as columns; the caller holds the guard."""
        pa = need_pyarrow()
        kept = self._tails[log]
        (sealed,) = view.query("SELECT sealed_upto FROM ledger_logs WHERE log = ?", (log,))[0]
        if not kept.start <= sealed <= kept.stop:
            kept.start = kept.stop = sealed
            kept.tables = []
        while kept.tables and kept.start + kept.tables[0].num_rows <= sealed:
            kept.start += kept.tables.pop(0).num_rows
        if kept.start < sealed and kept.tables:
            kept.tables[0] = kept.tables[0].slice(sealed - kept.start)
        kept.start = sealed
        fresh: list[bytes] = []
        for first, payload in view.iterate(
            "SELECT first_index, payload FROM batches WHERE log = ? AND first_index >= ? ORDER BY first_index",
            (log, kept.stop),
        ):
            if first != kept.stop + len(fresh):
                raise FormatError(f"log {log} has no record {kept.stop + len(fresh)}: run ledger verify", log=log)
            fresh += unframe(payload)
        if fresh:
            cids = pa.array([record_cid_bytes(sha256(data).digest()) for data in fresh], pa.binary())
            kept.tables.append(to_table(fresh, kept.stop, verify=False).append_column("cid", cids))
            kept.stop += len(fresh)
            if len(kept.tables) > 64:
                kept.tables = [pa.concat_tables(kept.tables).combine_chunks()]
        table = pa.concat_tables(kept.tables) if kept.tables else _empty(pa)
        return table.append_column("log", pa.array([log] * table.num_rows, pa.string()))


def _empty(pa: Any) -> pa.Table:
    return schema().empty_table().append_column("cid", pa.array([], pa.binary()))


_FUNCTIONS: Final = [
    {"name": "_kit_unseal", "kind": "unseal", "takes": ["VARCHAR", "VARCHAR", "BLOB", "BLOB", "BLOB"]},
    {"name": "_kit_name", "kind": "name", "takes": ["VARCHAR"]},
    {"name": "_kit_json", "kind": "json_text", "takes": ["BLOB"]},
    {"name": "_kit_cid", "kind": "cid_text", "takes": ["BLOB"]},
    {"name": "_kit_record_cid", "kind": "record_cid", "takes": ["VARCHAR", "BIGINT", "BLOB"]},
]


def _imported_files(view: Any, log: str) -> list[str]:
    """The sealed files of a log in all imported publications."""
    if not view.query("SELECT 1 FROM sqlite_schema WHERE name = 'ledger_import_files'"):
        return []
    rows = view.query("SELECT id, file FROM ledger_import_files WHERE log = ? ORDER BY id, file", (log,))
    return [f"imported/{publication}/{log}/segments/{file}" for publication, file in rows]


def _views(logs: list[str], others: list[str], *, computed: bool) -> list[str]:
    """The statements that define ``records`` and ``ops`` over the registered data.

    ``source`` says where a record's CID is derived from: a log of this store, or a file of another's. ``own`` keeps this
    store's keys away from the records of others, whatever subject those name.
    """
    stored = ", ".join(f'"{name}"' for name in _STORED)
    none = "CAST(NULL AS BLOB) AS cid"
    parts = [f"SELECT '{log}' AS log, '{log}' AS source, TRUE AS own, {stored}, {none} FROM _kit_{log}" for log in logs]  # noqa: S608 - our own names
    parts += [
        f"SELECT '{log}' AS log, filename AS source, FALSE AS own, {stored}, {none} FROM _kit_{log}_imported"  # noqa: S608 - our own names
        for log in others
    ]
    parts.append(f"SELECT log, log AS source, TRUE AS own, {stored}, cid FROM _kit_tail")  # noqa: S608 - our own names
    base = " UNION ALL ".join(parts)
    shown = ", ".join(f'{_expression(name, computed)} AS "{name}"' for name in OPS_COLUMNS)
    names = ", ".join(f'"{name}"' for name in OPS_COLUMNS)
    folded = ", ".join(f'{_folded(name)} AS "{name}"' for name in OPS_COLUMNS)
    records = f"CREATE VIEW records AS SELECT {shown}, phase FROM ({base})"  # noqa: S608 - our own names
    # Those with phases are few and found by the statistics of row groups: one scan for both.
    ops = f"""CREATE VIEW ops AS WITH phased AS MATERIALIZED (SELECT * FROM records WHERE phase >= 1)
        SELECT {names} FROM records WHERE phase = 0 OR phase IS NULL UNION ALL
        SELECT {folded} FROM (SELECT * FROM phased WHERE phase = 2) AS o
        FULL JOIN (SELECT * FROM phased WHERE phase = 1) AS i ON o.op_id = i.op_id AND o.node = i.node"""  # noqa: S608 - our own names
    return [records, ops, *views.statements(list(OPS_COLUMNS), computed=computed)]


def _expression(name: str, computed: bool) -> str:
    if name in _PLAIN:
        return _PLAIN[name]
    if name not in _COMPUTED:
        return f'"{name}"'
    if not computed:
        return "CAST(NULL AS VARCHAR)"
    if name == "actor_name":
        return "_kit_name(CASE WHEN own THEN actor END)"
    if name == "record_cid":
        return '_kit_record_cid(source, "index", cid)'
    if name in SEALED_FIELDS:
        # No subject has the empty name, so nothing of ours opens a field of another node.
        subject = "CASE WHEN own OR subject IS NULL THEN subject ELSE '' END"
        return f"_kit_unseal('{name}', {subject}, op_id, \"{name}\", ext)"
    return f'_kit_{"json" if name == "ext" else "cid"}("{name}")'


def _folded(name: str) -> str:
    """An op with an intent and an outcome shows the outcome, and of the intent what only it knows."""
    if name == "status":
        return "coalesce(o.status, 'open')"
    if name == "time":
        return 'coalesce(o."time", i."time")'
    return f'coalesce(o."{name}", i."{name}")'


def result_of(answer: Answer, elapsed_s: float) -> Result:
    """What a child returned as rows.

    Args:
        answer: The child's answer.
        elapsed_s: Seconds it took.

    Raises:
        FormatError: It is no table.
    """
    pa = need_pyarrow()
    try:
        shape = pa.ipc.read_schema(pa.py_buffer(answer.parts[0]))
        tables = [pa.ipc.open_stream(pa.py_buffer(part)).read_all() for part in answer.parts[1:]]
        table = pa.Table.from_batches([b for t in tables for b in t.to_batches()], schema=shape)
        table.validate(full=True)
    except (pa.ArrowException, OSError, IndexError) as exc:
        raise FormatError(f"the SQL sandbox returned no table: {exc}") from exc
    return Result(
        tuple(table.column_names), tuple(str(f.type) for f in table.schema), table.num_rows, answer.truncated,
        elapsed_s, answer.walls, table,
    )  # fmt: skip


def _need_engine() -> None:
    """Refuse early, without loading the engine into this process."""
    for name in ("duckdb", "pyarrow"):
        if find_spec(name) is None:
            raise MissingExtra(f"SQL over the ledger needs {name}: pip install {name}", package=name)
