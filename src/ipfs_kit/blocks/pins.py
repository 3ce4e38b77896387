"""Pins: what stays in the store because somebody said so.

A *recursive* pin promises the whole DAG and is refused unless it is complete. A *direct* pin promises one block. Each
CID has at most one unnamed pin and any number of named ones; a name belongs to one pin. Garbage collection keeps the
present descendants of every pinned block, since reference counts know no depth; a direct pin only does not *promise*
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.state import Schema, StateDB, Tx
from ipfs_kit.errors import AlreadyExists, BlockNotFound, BudgetExceeded, InvalidName, NotFound
from ipfs_kit.ipld import links as ipld_links
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW

if TYPE_CHECKING:
    from ipfs_kit.blocks._base import BlockStore
    from ipfs_kit.blocks.holds import Holds

PINS_SCHEMA: Final = Schema(
    "pins",
    1,
    (
        "CREATE TABLE pins(id INTEGER PRIMARY KEY AUTOINCREMENT, cid BLOB, kind TEXT, name TEXT, added_ns INTEGER)",
        "CREATE UNIQUE INDEX pins_unnamed ON pins(cid) WHERE name IS NULL",
        "CREATE UNIQUE INDEX pins_named ON pins(name) WHERE name IS NOT NULL",
        "CREATE INDEX pins_by_cid ON pins(cid)",
    ),
)
_SELECT: Final = "SELECT id, cid, kind, name, added_ns FROM pins WHERE "
_PAGE_MAX: Final = 1000
_NAME_BYTES_MAX: Final = 255
_BATCH: Final = 256

Links = Callable[[CID, bytes], list[CID]]
Conditions = list[str]
Values = list[Any]
Progress = Callable[[int, int], object]
"""Called with blocks and bytes seen so far; an exception from it cancels."""


class PinKind(StrEnum):
    """How much a pin promises."""

    RECURSIVE = "recursive"
    DIRECT = "direct"


class PinState(StrEnum):
    """How a block is pinned."""

    DIRECT = "direct"
    RECURSIVE = "recursive"
    INDIRECT = "indirect"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Pin:
    """One pin.

    Args:
        id: Its number; pages go by it.
        cid: The pinned block.
        kind: Recursive or direct.
        name: Its unique name, or None.
        added_ns: When it was made.
    """

    id: int
    cid: CID
    kind: PinKind
    name: str | None
    added_ns: int


@dataclass(frozen=True, slots=True)
class PinChange:
    """What an effect did.

    Args:
        pin: The pin as it is, or as it was before its removal.
        before: The pin it took the place of, or None.
        changed: False when the pin was there already.
    """

    pin: Pin
    before: Pin | None
    changed: bool


class Pins:
    """The pins of one store; changes are effects to run inside a state transaction.

    Args:
        state: The store's state file, opened with ``PINS_SCHEMA``.
        store: Where the blocks are.
        links: The children of a stored block; give one that opens sealed blocks where there are any.
        budgets: Bounds on the walks.
        holds: Holds that forbid unpinning.
    """

    def __init__(
        self,
        state: StateDB,
        store: BlockStore,
        *,
        links: Links = ipld_links.links,
        budgets: Budgets = DEFAULT,
        holds: Holds | None = None,
    ) -> None:
        self._state = state
        self._store = store
        self._links = links
        self._budgets = budgets
        self._holds = holds

    def add(
        self,
        cid: CID,
        kind: PinKind | str = PinKind.RECURSIVE,
        name: str | None = None,
        *,
        now_ns: int,
        replace: bool = False,
        complete: bool = False,
        progress: Progress | None = None,
    ) -> Callable[[Tx], PinChange]:
        """Check that the blocks are there and prepare a pin.

        Call it, and commit the effect, inside one ``store.window()``: blocks seen here then stay until the pin counts.

        Args:
            cid: What to pin.
            kind: Recursive or direct.
            name: A unique name.
            now_ns: The present time.
            replace: Let the name move from another CID.
            complete: Within this window the caller wrote every block below it, or took it over from a pinned graph.
            progress: Told of blocks and bytes walked.

        Returns:
            The effect; it raises ``AlreadyExists`` when the name belongs to another CID.

        Raises:
            BlockNotFound: The DAG is incomplete; ``details['missing']`` counts the absent blocks seen.
            BudgetExceeded: The DAG is larger than the budgets allow.
            InvalidName: The name is empty, too long or holds control characters.
        """
        wanted = PinKind(kind)
        if name is not None and not _name_ok(name):
            raise InvalidName(f"a pin's name has 1 to {_NAME_BYTES_MAX} bytes and no control characters")
        with self._window():
            self._require(cid, PinKind.DIRECT if complete else wanted, progress)

        def effect(tx: Tx) -> PinChange:
            retain = getattr(self._store, "retain", None)
            if retain is not None:
                retain(tx, (cid,))
            before = _one(tx, "name=?", name) if name is not None else _one(tx, "cid=? AND name IS NULL", cid.binary)
            if before is not None and before.cid != cid and not replace:
                raise AlreadyExists(
                    f"the pin name {name!r} belongs to {before.cid}: remove it or replace it", name=name
                )
            # A recursive pin already promises what a direct one would.
            stronger = before is not None and before.cid == cid and before.kind is PinKind.RECURSIVE
            if before is not None and (stronger or (before.cid == cid and before.kind is wanted)):
                return PinChange(before, before, changed=False)
            if before is not None:
                tx.execute("DELETE FROM pins WHERE id=?", (before.id,))
            rows = tx.execute(
                "INSERT INTO pins(cid, kind, name, added_ns) VALUES(?,?,?,?) RETURNING id, cid, kind, name, added_ns",
                (cid.binary, wanted.value, name, now_ns),
            )
            return PinChange(_pin(rows[0]), before, changed=True)

        return effect

    def remove(self, target: CID | str, *, now_ns: int) -> Callable[[Tx], PinChange]:
        """Prepare the removal of a named pin, or of a CID's unnamed one.

        Returns:
            The effect; it raises ``NotFound`` when there is none and ``Held`` when a hold forbids it.
        """

        def effect(tx: Tx) -> PinChange:
            if isinstance(target, CID):
                found = _one(tx, "cid=? AND name IS NULL", target.binary)
            else:
                found = _one(tx, "name=?", target)
            if found is None:
                names = _names(tx, target) if isinstance(target, CID) else ""
                raise NotFound(f"{target} has no {'unnamed ' if names else ''}pin{names}; list the pins to see them")
            if self._holds is not None:
                self._holds.refuse(found.cid, now_ns, tx)
            tx.execute("DELETE FROM pins WHERE id=?", (found.id,))
            return PinChange(found, found, changed=True)

        return effect

    def list(
        self, *, kind: PinKind | str | None = None, cid: CID | None = None, after: int = 0, limit: int = 100
    ) -> list[Pin]:
        """Pins in order of number.

        Args:
            kind: Only of this kind.
            cid: Only of this CID.
            after: The number of the last pin of the page before.
            limit: At most 1,000.
        """
        where: Conditions = ["id>?"]
        values: Values = [after]
        if kind is not None:
            where.append("kind=?")
            values.append(PinKind(kind).value)
        if cid is not None:
            where.append("cid=?")
            values.append(cid.binary)
        sql = _SELECT + " AND ".join(where) + " ORDER BY id LIMIT ?"
        return [_pin(row) for row in self._state.query(sql, (*values, min(max(limit, 1), _PAGE_MAX)))]

    def get(self, name: str) -> Pin:
        """The pin of a name.

        Raises:
            NotFound: There is none.
        """
        rows = self._state.query(_SELECT + "name=?", (name,))
        if not rows:
            raise NotFound(f"no pin named {name!r}: list the pins to see their names", name=name)
        return _pin(rows[0])

    def count(self) -> int:
        """How many pins there are."""
        return int(self._state.query("SELECT count(*) FROM pins")[0][0])

    def roots(self) -> Iterator[CID]:
        """Every pinned CID, for garbage collection."""
        after = b""
        while True:
            rows = self._state.query("SELECT DISTINCT cid FROM pins WHERE cid>? ORDER BY cid LIMIT 10000", (after,))
            for (binary,) in rows:
                yield CID(binary)
            if not rows:
                return
            after = rows[-1][0]

    def is_pinned(self, cid: CID, *, indirect: bool = True, progress: Progress | None = None) -> PinState:
        """How a block is pinned.

        Args:
            cid: The block; another version of its CID counts as the same.
            indirect: Also walk the recursive pins, which costs as much as they are large.
            progress: Told of blocks and bytes walked.
        """
        kinds = {pin.kind for form in _forms(cid) for pin in self.list(cid=form, limit=_PAGE_MAX)}
        if PinKind.RECURSIVE in kinds:
            return PinState.RECURSIVE
        if PinKind.DIRECT in kinds:
            return PinState.DIRECT
        if not indirect:
            return PinState.NO
        roots = (CID(row[0]) for row in self._state.query("SELECT DISTINCT cid FROM pins WHERE kind='recursive'"))
        key = cid.multihash
        found = any(
            seen.multihash == key for seen, _ in walk(self._store.get, roots, self._links, self._budgets, progress)
        )
        return PinState.INDIRECT if found else PinState.NO

    def incomplete(self, progress: Progress | None = None) -> Iterator[tuple[Pin, CID]]:
        """Every pin whose promise is broken, with the first absent block; for ``verify``."""
        after = 0
        while True:
            page = self.list(after=after, limit=_PAGE_MAX)
            for pin in page:
                try:
                    if pin.kind is PinKind.DIRECT:
                        if not self._store.has(pin.cid):
                            yield pin, pin.cid
                    else:
                        for _ in walk(self._store.get, (pin.cid,), self._links, self._budgets, progress):
                            continue
                except BlockNotFound as exc:
                    yield pin, CID.parse(exc.details["cid"])
            if not page:
                return
            after = page[-1].id

    def _require(self, cid: CID, kind: PinKind, progress: Progress | None) -> None:
        if kind is PinKind.DIRECT:
            self._rescue([cid])
            if not self._store.has(cid):
                raise BlockNotFound(f"block {cid} is not here: add or fetch it, then pin it", cid=str(cid))
            return
        try:
            for _ in walk(self._present, (cid,), self._links, self._budgets, progress, self._rescue):
                continue
        except BlockNotFound as exc:
            raise BlockNotFound(
                f"{cid} is incomplete: block {exc.details.get('cid')} is not here; fetch it, or pin the root directly",
                cid=str(cid),
                missing=exc.details.get("cid"),
            ) from exc

    def _present(self, cid: CID) -> bytes:
        """A block, to find what it links to; raw leaves link to nothing, so that they are there is enough."""
        if cid.codec == RAW and self._store.has(cid):
            return b""
        return self._store.get(cid)

    def _rescue(self, cids: Sequence[CID]) -> None:
        """Take back condemned blocks before they are read: afterwards each one is here to stay, or gone."""
        rescue = getattr(self._store, "rescue", None)
        if rescue is not None:
            keys = [cid.multihash for cid in cids if not cid.is_identity]
            marked = self._store.index.marked(keys)  # type: ignore[attr-defined]  # stores that rescue have an index
            if marked:
                rescue(marked)

    def _window(self) -> AbstractContextManager[object]:
        window = getattr(self._store, "window", None)
        return window() if window is not None else nullcontext()


def walk(
    get: Callable[[CID], bytes],
    roots: Iterable[CID],
    links: Links,
    budgets: Budgets = DEFAULT,
    progress: Progress | None = None,
    before: Callable[[Sequence[CID]], object] | None = None,
) -> Iterator[tuple[CID, bytes]]:
    """Yield every block reachable from some roots once, parents first, without recursion.

    Args:
        get: Block source.
        roots: Where to start.
        links: The children of a block.
        budgets: Bound on the number of blocks.
        progress: Told of blocks and bytes seen.
        before: Called with the CIDs about to be read, some at a time.

    Raises:
        BlockNotFound: A block is absent.
        BudgetExceeded: There are more blocks than allowed.
    """
    stack = list(roots)
    seen: set[bytes] = set()
    count = size = 0
    while stack:
        batch: list[CID] = []
        while stack and len(batch) < _BATCH:
            cid = stack.pop()
            key = cid.binary if cid.version else cid.to_v1().binary
            if key not in seen:
                seen.add(key)
                batch.append(cid)
        if len(seen) > budgets.dag_nodes:
            raise BudgetExceeded(f"the DAG has more than {budgets.dag_nodes} blocks: raise the budget or pin its parts")
        if before is not None and batch:
            before(batch)
        for cid in batch:
            data = get(cid)
            count, size = count + 1, size + len(data)
            yield cid, data
            stack.extend(links(cid, data))
        if progress is not None:
            progress(count, size)


def _forms(cid: CID) -> list[CID]:
    """A CID and its other version, which names the same block."""
    return [cid, cid.to_v1()] if cid.version == 0 else [cid]


def _one(tx: Tx, where: str, value: object) -> Pin | None:
    rows = tx.execute(_SELECT + where, (value,))
    return _pin(rows[0]) if rows else None


def _names(tx: Tx, cid: CID) -> str:
    rows = tx.execute("SELECT name FROM pins WHERE cid=? AND name IS NOT NULL ORDER BY name LIMIT 10", (cid.binary,))
    return f" (but named ones: {', '.join(str(row[0]) for row in rows)})" if rows else ""


def _pin(row: tuple[Any, ...]) -> Pin:
    return Pin(int(row[0]), CID(row[1]), PinKind(row[2]), row[3], int(row[4]))


def _name_ok(name: str) -> bool:
    return bool(name) and len(name.encode("utf-8", "replace")) <= _NAME_BYTES_MAX and name.isprintable()
