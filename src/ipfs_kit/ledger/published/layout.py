"""What a publication is made of: its scope, its manifest and its names (``docs/format/publication.md``)."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import FormatError, InvalidInput, KitError
from ipfs_kit.ipld import CID, dag_json
from ipfs_kit.ledger.check import read_vkey
from ipfs_kit.ledger.record import LOGS
from ipfs_kit.ledger.streams.registry import stream_named

MANIFEST: Final = "publication.json"
KIND: Final = "ipfs-kit/publication"
LOG: Final = "log"
STREAM: Final = "stream"
SEGMENT: Final = re.compile(r"([0-9]{12})-([0-9]{12})-([0-9a-f]{64})\.parquet\Z")
_NODE: Final = re.compile(r"[0-9a-f]{12}\Z")
_FIELDS: Final = {"kind", "v", "node", "scope", "logs", "parent"}
_COUNTS: Final = ("size", "records", "files")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records a publication holds.

    Args:
        kind: ``log`` or ``stream``.
        name: ``main`` or ``bulk``, or the stream's name.
    """

    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``log-main``, ``log-bulk`` or ``stream-NAME``.

        Raises:
            InvalidInput: It is none of them.
        """
        kind, _, name = text.partition("-")
        if kind == LOG and name in LOGS:
            return cls(LOG, name)
        if kind == STREAM:
            return cls(STREAM, stream_named(name).name)
        raise InvalidInput(f"{text[:80]!r} is no scope of a publication: log-main, log-bulk or stream-NAME")

    @property
    def text(self) -> str:
        """``log-main``, ``stream-audit`` and the like."""
        return f"{self.kind}-{self.name}"

    @property
    def logs(self) -> tuple[str, ...]:
        """The logs its records may lie in."""
        return (self.name,) if self.kind == LOG else LOGS

    @property
    def stream(self) -> str | None:
        """The stream whose records alone it holds; None for a whole log."""
        return self.name if self.kind == STREAM else None

    @property
    def pin(self) -> str:
        """Name of the pin that keeps a store's own publication."""
        return f"publication/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a publication holds of one log.

    Args:
        size: Leaves of the tree that its checkpoint signs.
        records: Records in its files.
        files: Parquet files.
    """

    size: int
    records: int
    files: int


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication's manifest.

    Args:
        node: Surrogate id of the store that published.
        scope: What it holds.
        logs: What it holds of each log.
        parent: The publication before it; None for the first.
    """

    node: str
    scope: Scope
    logs: Mapping[str, Counts]
    parent: CID | None

    @property
    def id(self) -> str:
        """``NODE-SCOPE``: what an imported publication is called, and the name of its folder."""
        return f"{self.node}-{self.scope.text}"

    def encode(self) -> bytes:
        """The bytes of ``publication.json``, canonical dag-json."""
        return dag_json.encode(
            {
                "kind": KIND,
                "v": 1,
                "node": self.node,
                "scope": self.scope.text,
                "logs": {
                    log: {name: getattr(held, name) for name in _COUNTS} for log, held in sorted(self.logs.items())
                },
                "parent": self.parent,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Publication:
        """Read a manifest that a stranger may have written.

        Raises:
            FormatError: It is none, or one of a later version.
        """
        try:
            body = dag_json.decode(data)
        except KitError as exc:
            raise FormatError(f"{MANIFEST} does not parse: {exc.message}") from exc
        if not isinstance(body, dict) or body.get("kind") != KIND:
            raise FormatError(f"{MANIFEST} is not that of a publication")
        if body.get("v") != 1:
            raise FormatError("the publication has a format that this build does not know: upgrade")
        logs, node, parent = body.get("logs"), body.get("node"), body.get("parent")
        try:
            scope = Scope.parse(str(body.get("scope")))
        except InvalidInput as exc:
            raise FormatError(f"{MANIFEST}: {exc.message}") from exc
        if (
            set(body) != _FIELDS
            or not (isinstance(node, str) and _NODE.match(node))
            or not (parent is None or isinstance(parent, CID))
            or not isinstance(logs, dict)
            or not 0 < len(logs) <= len(LOGS)
            or not set(logs) <= set(scope.logs)
        ):
            raise FormatError(f"{MANIFEST} lacks node, scope, logs or parent, or holds other fields")
        return cls(node, scope, {log: _counts(held) for log, held in logs.items()}, parent)


def _counts(held: Any) -> Counts:
    if not isinstance(held, dict) or set(held) != set(_COUNTS):
        raise FormatError(f"{MANIFEST} does not say size, records and files of a log")
    values = [held[name] for name in _COUNTS]
    if not all(type(value) is int and 0 <= value < 1 << 40 for value in values) or values[0] < 1:
        raise FormatError(f"{MANIFEST} holds a count that is none")
    return Counts(*values)


def signed_line(scope: Scope, counts: Counts, names: Iterable[str]) -> str:
    """The extension line by which a publication's checkpoint vouches for its files, whose names hold their hashes.

    Args:
        scope: What is published.
        counts: What it holds of the checkpoint's log.
        names: Every file of that log.
    """
    digest = sha256("\n".join(sorted(names)).encode()).hexdigest()
    return f"publication {scope.text} {counts.records} {counts.files} {digest}"


def node_of(vkey: str) -> str:
    """The node whose log a verifier key is of.

    Raises:
        InvalidInput: It is no verifier key of a store's log.
    """
    try:
        name = read_vkey(vkey)[0]
    except KitError as exc:
        raise InvalidInput(f"{exc.message}: give what 'ipfs-kit ledger vkey' prints at the publisher") from exc
    product, _, rest = name.partition("/")
    node, _, log = rest.partition("/")
    if product != "ipfs-kit" or not _NODE.match(node) or log not in LOGS:
        raise InvalidInput(f"the verifier key is of {name[:80]!a}, not of a store's log: see 'ipfs-kit ledger vkey'")
    return node


def vkey_of(vkey: str, log: str) -> str:
    """The verifier key of another log of the same store: one key signs both, each under its own name.

    Args:
        vkey: The verifier key of either log.
        log: The log wanted.
    """
    name, _, public = read_vkey(vkey)
    origin = f"{name.rpartition('/')[0]}/{log}"
    raw = b"\x01" + public
    key_id = sha256(origin.encode() + b"\n" + raw).digest()[:4]
    return f"{origin}+{key_id.hex()}+{base64.b64encode(raw).decode()}"


def group_spans(names: Iterable[str]) -> dict[tuple[int, int], list[str]]:
    """Files by the span that their names state, first and last index."""
    spans: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name in names:
        spans[int(name[:12]), int(name[13:25])].append(name)
    return dict(spans)
