"""What a witness keeps on disk: its key, the logs it trusts, the checkpoint of each it cosigned last, evidence."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from ipfs_kit.durable import Schema, StateDB, files
from ipfs_kit.errors import AlreadyExists, InvalidInput, NotFound
from ipfs_kit.keys import Signer
from ipfs_kit.ledger import witness
from ipfs_kit.ledger.check import read_vkey

EVIDENCE_MAX: Final = 1000
"""Refused requests kept, each signed by its log; the first ones, which an attacker cannot push out."""
_KEY: Final = "witness.key"
_SCHEMA: Final = Schema(
    "witness",
    1,
    (
        "CREATE TABLE logs(origin TEXT NOT NULL, vkey TEXT NOT NULL, PRIMARY KEY(origin, vkey)) WITHOUT ROWID",
        """CREATE TABLE seen(
            origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL, time_s INTEGER NOT NULL
            ) WITHOUT ROWID""",
        "CREATE TABLE evidence(id INTEGER PRIMARY KEY, time_s INTEGER NOT NULL, status INTEGER NOT NULL, request BLOB NOT NULL)",
    ),
)


class Book:
    """A witness's directory.

    Args:
        directory: Where it is; made when absent.
        name: The witness's key name; needed when the key is made.
        now_s: POSIX time.
        random: Source of the key.
    """

    def __init__(
        self, directory: str, name: str | None, now_s: Callable[[], int], random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._now_s = now_s
        files.make_dirs(directory, 0o700)
        path = os.path.join(directory, _KEY)
        if not os.path.exists(path):
            if os.path.exists(os.path.join(directory, "witness.db")):
                raise NotFound(
                    f"{path} is lost: restore it, or start a new witness under another name in another directory"
                )
            if name is None:
                raise InvalidInput("a new witness needs a name: --name HOST/PATH, an address without its scheme")
            try:
                files.create_exclusive(path, Signer(name, random(32)).private_line().encode(), mode=0o600)
            except AlreadyExists as exc:
                raise AlreadyExists(f"{path} was made by another process just now: start again") from exc
        with open(path, encoding="ascii") as file:
            self.signer = Signer.parse(file.read(4096))
        if name is not None and name != self.signer.name:
            raise InvalidInput(f"the witness in {directory} is named {self.signer.name!r}, not {name!r}")
        self._db = StateDB.open(os.path.join(directory, "witness.db"), (_SCHEMA,))

    @property
    def vkey(self) -> str:
        """The witness's verifier key."""
        return witness.cosigner_vkey(self.signer)

    def trust(self, vkey: str) -> str:
        """Trust a log's key for the origin it is named like, durably; the origin."""
        origin = read_vkey(vkey.strip())[0]
        with self._db.transaction() as tx:
            tx.execute("INSERT OR IGNORE INTO logs(origin, vkey) VALUES(?, ?)", (origin, vkey.strip()))
        return origin

    def origins(self) -> list[tuple[str, int]]:
        """Logs trusted and the size of each cosigned last."""
        return self._db.query(
            "SELECT DISTINCT l.origin, coalesce(s.size, 0) FROM logs l LEFT JOIN seen s ON s.origin = l.origin ORDER BY 1"
        )

    def add_checkpoint(self, request: witness.Request, raw: bytes) -> tuple[witness.Verdict, str]:
        """Decide about a request and, when it is good, store it before its cosignature exists.

        Args:
            request: The request.
            raw: Its bytes, kept as evidence when a log contradicts itself.

        Returns:
            The verdict, and the cosignature line when it is 200.
        """
        note = request.note
        with self._db.transaction() as tx:
            vkeys = [
                row[0] for row in tx.execute("SELECT vkey FROM logs WHERE origin = ? ORDER BY vkey", (note.origin,))
            ]
            rows = tx.execute("SELECT size, root, time_s FROM seen WHERE origin = ?", (note.origin,))
            seen = witness.Seen(rows[0][0], rows[0][1]) if rows else witness.NEVER
            verdict = witness.judge(request, vkeys, seen)
            # A clock set back must not let a cosignature claim to be older than one given before.
            time_s = max(self._now_s(), rows[0][2] if rows else 0)
            if verdict.status == 200:
                tx.execute(
                    "INSERT OR REPLACE INTO seen(origin, size, root, note, time_s) VALUES(?, ?, ?, ?, ?)",
                    (note.origin, note.size, note.root, note.text, time_s),
                )
            elif verdict.evidence and tx.execute("SELECT count(*) FROM evidence")[0][0] < EVIDENCE_MAX:
                tx.execute(
                    "INSERT INTO evidence(time_s, status, request) VALUES(?, ?, ?)", (time_s, verdict.status, raw)
                )
        if verdict.status != 200:
            return verdict, ""
        return verdict, witness.cosign(self.signer, note.body, time_s)

    def evidence(self) -> list[tuple[int, int, bytes]]:
        """Time, status and request of each contradiction kept."""
        return self._db.query("SELECT time_s, status, request FROM evidence ORDER BY id")

    def close(self) -> None:
        """Close the files."""
        self._db.close()
