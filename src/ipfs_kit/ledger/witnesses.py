"""The witnesses of a store: who they are, how many must agree, asking them, and the checkpoint they cosigned last.

Only ``main`` is witnessed: its checkpoint carries the root of ``bulk``. What a refusing witness says is not signed, so it
stops nothing; it is kept, shown by ``ledger.witness_list`` and is a finding of ``ledger.verify``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import StateDB
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import AlreadyExists, Conflict, InvalidInput, KitError, NotFound, NotWitnessed
from ipfs_kit.ledger import witness
from ipfs_kit.ledger.check import read_note
from ipfs_kit.ledger.checkpoint import Checkpoint, parse
from ipfs_kit.ledger.outbound import checked_url, post
from ipfs_kit.ledger.record import MAIN

WITNESSES_MAX: Final = 32
ASK_TIMEOUT_S: Final = 5.0
RETRY_AFTER_NS: Final = 60 * 10**9
"""A witness that failed is left alone that long by background publication; ``ack=witnessed`` always asks."""
_ATTEMPTS: Final = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """A witness of this store.

    Args:
        name: Its key name.
        vkey: Its verifier key.
        url: Its submission prefix.
        size: Size it cosigned last.
        time_s: When, by its clock; 0 before the first time.
        refusal: Why it refuses this log's history; empty when it does not.
        trouble: Why it could not be asked the last time; empty when it could.
        failed_ns: When that was.
    """

    name: str
    vkey: str
    url: str
    size: int
    time_s: int
    refusal: str
    trouble: str
    failed_ns: int


class Log(Protocol):
    """What asking needs of a ledger."""

    def publish(self, timeout_s: float = 30.0) -> dict[str, Checkpoint]:
        """Bring checkpoints up to everything committed."""

    def consistency(self, log: str, old: int, new: int) -> list[bytes]:
        """Proof that one published tree extends another."""

    def vkey(self, log: str = MAIN) -> str:
        """Verifier key of a log."""

    def attach(self, note: Checkpoint) -> None:
        """Add cosignatures to the published checkpoint, if it is still that one."""


@dataclass(frozen=True, slots=True)
class _Answer:
    known: Known
    lines: str = ""
    ahead: int = 0
    refusal: str = ""
    trouble: str = ""


def add(tx: Tx, vkey: str, url: str, quorum: int | None) -> str:
    """Name a witness inside a transaction; its name.

    Raises:
        InvalidInput: Key, address or quorum are none.
        AlreadyExists: A witness of this name or key is there.
    """
    found = witness.read_cosigner(vkey)
    checked_url(url)
    known = _known(tx)
    if any(
        found.name == each.name or found.public_key == witness.read_cosigner(each.vkey).public_key for each in known
    ):
        raise AlreadyExists(f"{found.name} is a witness already: remove it first")
    if len(known) >= WITNESSES_MAX:
        raise InvalidInput(f"a store has at most {WITNESSES_MAX} witnesses")
    tx.execute(
        "INSERT INTO ledger_witnesses(name, vkey, url, size, time_s, refusal, trouble, failed_ns) VALUES(?,?,?,0,0,'','',0)",
        (found.name, vkey.strip(), url.rstrip("/")),
    )
    if quorum is not None:
        _set_quorum(tx, quorum, len(known) + 1)
    return found.name


def remove(tx: Tx, name: str, quorum: int | None) -> None:
    """Forget a witness inside a transaction.

    Raises:
        NotFound: There is none of this name.
        InvalidInput: Fewer would be left than must agree.
    """
    if not tx.execute("DELETE FROM ledger_witnesses WHERE name = ? RETURNING name", (name,)):
        raise NotFound(f"there is no witness {name!r}: see 'ipfs-kit ledger witness-list'")
    left = len(_known(tx))
    rows = tx.execute("SELECT quorum FROM ledger_quorum")
    wanted = quorum if quorum is not None else min(rows[0][0], left) if rows else 0
    _set_quorum(tx, wanted, left)


def _set_quorum(tx: Tx, quorum: int, count: int) -> None:
    if not 0 <= quorum <= count:
        raise InvalidInput(f"{quorum} of {count} witnesses cannot agree: the quorum is 1 to {count}, or 0 for all")
    tx.execute("INSERT OR REPLACE INTO ledger_quorum(id, quorum) VALUES(1, ?)", (quorum,))


def _known(tx: Tx) -> list[Known]:
    return [Known(*row) for row in tx.execute("SELECT * FROM ledger_witnesses ORDER BY name")]


class Witnesses:
    """Asks the witnesses of one store; safe to use from any thread.

    Args:
        state: ``state.db``.
        log: The ledger.
        now_ns: Wall clock.
    """

    def __init__(self, state: StateDB, log: Log, now_ns: Callable[[], int]) -> None:
        self._state, self._log, self._now_ns = state, log, now_ns

    def known(self) -> list[Known]:
        """Every witness, by name."""
        if not self._state.query("SELECT 1 FROM sqlite_schema WHERE name = 'ledger_witnesses'"):
            return []  # opened for reading only, and made before witnesses were
        return [Known(*row) for row in self._state.query("SELECT * FROM ledger_witnesses ORDER BY name")]

    def quorum(self) -> int:
        """How many must have cosigned; 0 when there are no witnesses."""
        count = len(self.known())
        rows = self._state.query("SELECT quorum FROM ledger_quorum") if count else []
        return min(rows[0][0], count) if rows and rows[0][0] else count

    def witnessed(self, index: int = 0) -> Checkpoint | None:
        """The last checkpoint that enough witnesses cosigned, when it covers an index."""
        if not self.known():
            return None
        rows = self._state.query("SELECT note FROM ledger_witnessed WHERE log = ? AND size > ?", (MAIN, index))
        if not rows:
            return None
        read_note(rows[0][0], self._log.vkey())
        return parse(rows[0][0])

    def findings(self) -> list[str]:
        """What witnesses that refuse this log's history say."""
        return [f"witness {each.name}: {each.refusal}" for each in self.known() if each.refusal]

    def publish(self) -> None:
        """After a publication: ask those that can be expected to answer; whoever does not is asked again later."""
        now_ns = self._now_ns()
        due = [each for each in self.known() if now_ns - each.failed_ns > RETRY_AFTER_NS or now_ns < each.failed_ns]
        if due:
            try:
                self._ask(due, ASK_TIMEOUT_S)
            except NotWitnessed as exc:
                _log.warning("%s", exc.message)

    def require(self, timeout_s: float = ASK_TIMEOUT_S) -> Checkpoint:
        """Have everything recorded so far cosigned by as many witnesses as must agree.

        Raises:
            InvalidInput: The store has no witnesses.
            NotWitnessed: Too few agreed; the message says why each did not.
        """
        known = self.known()
        if not known:
            raise InvalidInput("the store has no witnesses: name one with 'ipfs-kit ledger witness-add'")
        return self._ask(known, timeout_s)

    def _ask(self, known: list[Known], timeout_s: float) -> Checkpoint:
        cosigners = [witness.read_cosigner(each.vkey) for each in self.known()]
        answers: list[_Answer] = []
        for _ in range(_ATTEMPTS):
            note = self._log.publish()[MAIN]
            have = witness.cosigned(note, cosigners)
            due = [each for each in known if each.name not in have]
            with ThreadPoolExecutor(max(1, len(due)), "ipfs-kit-witness") as pool:
                answers = list(pool.map(lambda each, note=note: self._answer(each, note, timeout_s), due))
            note = witness.merged(note, [each.lines for each in answers], cosigners)
            times = witness.cosigned(note, cosigners)
            self._keep(note, times, answers)
            self._log.attach(note)
            if len(times) >= self.quorum():
                return note
            if not any(each.ahead and not each.refusal for each in answers):
                break
        why = "; ".join(f"{each.known.name}: {each.refusal or each.trouble}" for each in answers if not each.lines)
        raise NotWitnessed(
            f"{len(times)} of {len(cosigners)} witnesses cosigned, {self.quorum()} must: {why}. What was recorded is durable; "
            "'ipfs-kit ledger witness' asks again",
            cosigned=sorted(times), needed=self.quorum(), refused=[each.known.name for each in answers if each.refusal],
        )  # fmt: skip

    def _answer(self, known: Known, note: Checkpoint, timeout_s: float) -> _Answer:
        try:
            status, kind, body = self._post(known, note, min(known.size, note.size), timeout_s)
            if status == 409 and kind == witness.SIZE_TYPE:
                size = _size(body)
                if size > note.size:
                    return self._is_ahead(known, note, size)
                status, kind, body = self._post(known, note, size, timeout_s)
            if status == 200:
                return self._taken(known, note, body)
            if status in (409, 422):
                return _Answer(known, refusal=f"it cosigned a history that this store's {note.size} records do not extend: "
                               "records were rewritten, or the store was restored from a copy and went another way")  # fmt: skip
            return _Answer(known, trouble=f"it answers {status} {body[:200].decode(errors='replace').strip()!r}")
        except KitError as exc:
            return _Answer(known, trouble=exc.message)

    def _post(self, known: Known, note: Checkpoint, old: int, timeout_s: float) -> tuple[int, str, bytes]:
        proof = self._log.consistency(MAIN, old, note.size) if 0 < old < note.size else []
        return post(f"{known.url}/add-checkpoint", witness.encode_request(old, proof, note.text), timeout_s)

    def _taken(self, known: Known, note: Checkpoint, body: bytes) -> _Answer:
        cosigner = witness.read_cosigner(known.vkey)
        lines = body.decode(errors="replace")
        if not witness.cosigned(witness.merged(note, [lines], [cosigner]), [cosigner]):
            return _Answer(known, trouble="its answer holds no good cosignature of its key")
        return _Answer(known, lines)

    def _is_ahead(self, known: Known, note: Checkpoint, size: int) -> _Answer:
        if self._log.publish()[MAIN].size >= size:
            return _Answer(known, ahead=size, trouble="it has cosigned a newer checkpoint meanwhile")
        return _Answer(known, ahead=size, refusal=f"it cosigned {size} records of this log, and this store has {note.size}: "
                       "the store is an older copy; restore the newer one")  # fmt: skip

    def _keep(self, note: Checkpoint, times: dict[str, int], answers: list[_Answer]) -> None:
        now_ns = self._now_ns()
        with self._state.transaction() as tx:
            for each in answers:
                if each.lines:
                    tx.execute(
                        "UPDATE ledger_witnesses SET size = max(size, ?), time_s = ?, refusal = '', trouble = '', failed_ns = 0 "
                        "WHERE name = ?",
                        (note.size, times.get(each.known.name, 0), each.known.name),
                    )
                else:
                    tx.execute(
                        "UPDATE ledger_witnesses SET refusal = ?, trouble = ?, failed_ns = ? WHERE name = ?",
                        (each.refusal, each.trouble[:500], now_ns, each.known.name),
                    )
            if len(times) >= self.quorum():
                tx.execute(
                    "INSERT INTO ledger_witnessed(log, size, note) VALUES(?, ?, ?) ON CONFLICT(log) DO UPDATE SET "
                    "size = excluded.size, note = excluded.note WHERE excluded.size >= size",
                    (MAIN, note.size, note.text),
                )


def _size(body: bytes) -> int:
    text = body.removesuffix(b"\n")
    if not text.isdigit() or len(text) > 19:
        raise Conflict("the witness names no size in its refusal")
    return int(text)
