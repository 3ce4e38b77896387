"""The verifier's view of files: tiles, bundles, manifests and names below ``ledger/<log>/``, and its own Merkle tree.

Part of the independent verifier: nothing here is shared with the writer.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, cast

from ipfs_kit.errors import KitError
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ledger._verify_gaps import expired_files

CID_HEAD: Final = bytes.fromhex("01711220")
FAULTS_MAX: Final = 200
"""Faults named; the rest are counted. A rewritten log would otherwise name every leaf."""
_FILE_BYTES_MAX: Final = 16 << 20
_LENGTH: Final = (36).to_bytes(2, "big")
_TILE_NAME: Final = re.compile(
    r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z"
)
_SEGMENT_NAME: Final = re.compile(r"segments/([0-9]{12})-([0-9]{12})-([0-9a-f]{64})\.parquet\Z")
_TEMPORARY: Final = re.compile(r"\..*\.kit-tmp\Z")

Query = Callable[..., list[tuple[Any, ...]]]


class Faults:
    """Collects what is wrong, bounded."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._more = 0

    def add(self, where: str, what: str) -> None:
        """Note one fault."""
        if len(self._found) < FAULTS_MAX:
            self._found.append(f"{where}: {what}")
        else:
            self._more += 1

    def found(self) -> list[str]:
        """Every fault noted, and how many more there were."""
        return self._found + ([f"and {self._more} more faults"] if self._more else [])


def read_file(path: str, limit: int = _FILE_BYTES_MAX) -> bytes | None:
    """A file's bytes, at most ``limit`` + 1; None when it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None


def split_payload(payload: bytes) -> list[bytes] | None:
    """Records of a batch payload: count, ends, bytes; None when they do not fill it."""
    if len(payload) < 4:
        return None
    count = int.from_bytes(payload[:4], "big")
    base = 4 + 4 * count
    if len(payload) < base:
        return None
    ends = struct.unpack_from(f">{count}I", payload, 4)
    starts = (0, *ends[:-1])
    if (ends and ends[-1] != len(payload) - base) or any(start > end for start, end in zip(starts, ends, strict=False)):
        return None
    return [payload[base + start : base + end] for start, end in zip(starts, ends, strict=False)]


def pair_up(row: list[bytes]) -> bytes:
    """Root of a perfect subtree."""
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


class Tree:
    """The right edge of a growing RFC 6962 tree: for each tile level the hashes of its unfinished tile."""

    def __init__(self) -> None:
        self.rows: list[list[bytes]] = []

    def root_with(self, leaves: list[bytes]) -> bytes:
        """Root when up to 256 more leaves follow what was taken, which is a multiple of 256."""
        peaks: list[bytes] = []
        for row in [*reversed(self.rows[1:]), leaves]:
            at = 0
            for width in (256, 128, 64, 32, 16, 8, 4, 2, 1):
                if len(row) - at >= width:
                    peaks.append(pair_up(row[at : at + width]))
                    at += width
        if not peaks:
            return sha256(b"").digest()
        root = peaks.pop()
        while peaks:
            root = sha256(b"\x01" + peaks.pop() + root).digest()
        return root


class FilesCheck:
    """Checks one log's files against its records.

    Args:
        directory: ``ledger/<log>``.
        log: ``main`` or ``bulk``.
        query: Reads ``state.db``.
        size: Leaves integrated: tiles must exist up to here.
        sealed_upto: Records sealed.
        faults: Where faults go.
    """

    def __init__(self, directory: str, log: str, query: Query, size: int, sealed_upto: int, faults: Faults) -> None:
        self.tree = Tree()
        self._directory = directory
        self._log = log
        self._query = query
        self._size = size
        self._sealed_upto = sealed_upto
        self._faults = faults
        self._leaves = 0
        self._last_entries: list[bytes] = []
        self._gone: set[str] = set()

    # -- records, bundles, tiles ---------------------------------------------------------------------------------

    def check_chunk(self, base: int, records: list[bytes | None]) -> list[bytes]:
        """Check the bundle and leaf tile of up to 256 records and return the leaf hashes."""
        bundle = base // 256
        needed = max(0, min(len(records), self._size - base))
        stored = self._bundle(bundle, needed)
        if None in records:
            entries = self._entries_of(base, records, stored)
        else:
            entries = [CID_HEAD + sha256(record).digest() for record in records]  # type: ignore[arg-type]  # no Nones
        if stored is not None and b"".join(_LENGTH + entry for entry in entries[:needed]) != stored[: 38 * needed]:
            at = next(i for i in range(needed) if stored[38 * i : 38 * i + 38] != _LENGTH + entries[i])
            self._fault(_name("entries", bundle), f"its entry {base + at} is not the CID of record {base + at}")
        leaves = [sha256(b"\x00" + entry).digest() for entry in entries]
        self._last_entries = entries
        return leaves

    def take(self, base: int, leaves: list[bytes]) -> None:
        """Add a chunk's leaves to the tree and check every tile that has become full."""
        self._leaves = base + len(leaves)
        if not self.tree.rows:
            self.tree.rows.append([])
        self.tree.rows[0] = leaves
        level = 0
        while len(self.tree.rows[level]) == 256:
            row = self.tree.rows[level]
            self._check_tile(level, (self._leaves >> 8 * (level + 1)) - 1, row)
            if level + 1 == len(self.tree.rows):
                self.tree.rows.append([])
            self.tree.rows[level + 1].append(pair_up(row))
            self.tree.rows[level] = []
            level += 1

    def _bundle(self, bundle: int, needed: int) -> bytes | None:
        name = _name("entries", bundle)
        stored = read_file(self._path(name))
        if stored is not None:
            if len(stored) != 256 * 38:
                self._fault(name, f"has {len(stored)} bytes instead of {256 * 38}")
                return None
            return stored
        if needed == 0:
            return None
        partial = f"{name}.p/{needed}"
        stored = read_file(self._path(partial)) if needed < 256 else None
        if stored is None:
            self._fault(name if needed == 256 else partial, "is missing: publish again to write it anew")
            return None
        if len(stored) != needed * 38:
            self._fault(partial, f"has {len(stored)} bytes instead of {needed * 38}")
            return None
        return stored

    def _entries_of(self, base: int, records: list[bytes | None], stored: bytes | None) -> list[bytes]:
        """Entries of records some of which are not kept: theirs come from the bundle, for which the root vouches."""
        entries: list[bytes] = []
        for at, record in enumerate(records):
            if record is not None:
                entries.append(CID_HEAD + sha256(record).digest())
                continue
            entry = b"" if stored is None else stored[38 * at + 2 : 38 * at + 38]
            if len(entry) != 36 or entry[:4] != CID_HEAD:
                self._faults.add(f"log {self._log}", f"record {base + at} is neither kept nor named by a bundle")
                entry = CID_HEAD + bytes(32)
            entries.append(entry)
        return entries

    def _check_tile(self, level: int, index: int, row: list[bytes]) -> None:
        name = _name(level, index)
        stored = read_file(self._path(name))
        if stored is None:
            if (index + 1) << 8 * (level + 1) <= self._size:
                self._fault(name, "is missing: publish again to write it anew")
            return
        self._compare(name, stored, b"".join(row), level, index)

    def _compare(self, name: str, stored: bytes, expected: bytes, level: int, index: int) -> None:
        if stored == expected:
            return
        if len(stored) != len(expected):
            self._fault(name, f"has {len(stored)} bytes instead of {len(expected)}")
            return
        at = next(
            i for i in range(len(expected) // 32) if stored[32 * i : 32 * i + 32] != expected[32 * i : 32 * i + 32]
        )
        self._fault(name, f"its hash {at} is not that of leaves from {(index * 256 + at) << 8 * level}")

    # -- manifests -----------------------------------------------------------------------------------------------

    def manifest_roots(self) -> Iterator[tuple[int, bytes, str]]:
        """Check each manifest by itself and yield the roots they claim."""
        directory = self._path("manifests")
        registered = {
            str(CID(cid)): (first, count)
            for first, count, cid in self._query(
                "SELECT first_index, count, cid FROM ledger_manifests WHERE log = ? ORDER BY first_index", (self._log,)
            )
        }
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        for missing in sorted(set(registered) - set(names)):
            self._fault(f"manifests/{missing}", "is missing: restore it from a backup")
        for name in names:
            if _TEMPORARY.match(name):
                continue
            body = self._manifest(name)
            if body is None:
                continue
            if name in registered and registered[name] != (body["first"], body["count"]):
                self._fault(f"manifests/{name}", "covers other records than state.db says")
            if body["size"] <= self._size:
                yield body["size"], body["root"], f"manifests/{name}"
            else:
                self._fault(
                    f"manifests/{name}", f"covers {body['size']} records, the tree only {self._size}: it was truncated"
                )

    def _manifest(self, name: str) -> dict[str, Any] | None:
        where = f"manifests/{name}"
        data = read_file(self._path(where)) or b""
        try:
            CID.parse(name).check(data)
            body = dag_cbor.decode(data)
        except KitError as exc:
            self._fault(where, f"its bytes are not what its name says ({exc.message}): restore it from a backup")
            return None
        fields = ("count", "first", "last", "size")
        sound = isinstance(body, dict) and all(type(body.get(key)) is int for key in fields)
        if (
            not sound
            or body.get("log") != self._log
            or not isinstance(body.get("root"), bytes)
            or body["count"] != body["last"] - body["first"] + 1
            or body["size"] != body["last"] + 1
            or not isinstance(body.get("records"), list)
            or len(body["records"]) != body["count"]
        ):
            self._fault(where, "is no manifest of this log")
            return None
        self._manifest_records(where, body)
        return cast(dict[str, Any], body)

    def _manifest_records(self, where: str, body: dict[str, Any]) -> None:
        first, records = body["first"], body["records"]
        for bundle in range(first // 256, body["last"] // 256 + 1):
            stored = self._bundle(bundle, max(0, min(256, self._size - bundle * 256)))
            if stored is None:
                continue
            for at in range(max(first, bundle * 256), min(body["size"], bundle * 256 + len(stored) // 38)):
                entry = stored[38 * (at % 256) + 2 : 38 * (at % 256) + 38]
                if not isinstance(records[at - first], CID) or records[at - first].binary != entry:
                    self._fault(where, f"its record {at} is not the log's")
                    return

    # -- batches of streams --------------------------------------------------------------------------------------

    def stream_roots(self) -> Iterator[tuple[int, bytes, str]]:
        """Check each batch of a stream by itself and yield the roots they claim."""
        directory = self._path("streams")
        rows = self._query(
            "SELECT cid FROM stream_batches WHERE log = ? UNION SELECT cid FROM stream_flushes WHERE log = ?",
            (self._log, self._log),
        )
        registered = {str(CID(cid)) for (cid,) in rows}
        names = set(os.listdir(directory)) if os.path.isdir(directory) else set()
        for missing in sorted(registered - names):
            self._fault(f"streams/{missing}", "is missing: restore it from a backup")
        for name in sorted(names):
            if _TEMPORARY.match(name):
                continue
            body = self._stream_batch(f"streams/{name}", name)
            if body is not None:
                yield body["size"], body["root"], f"streams/{name}"

    def _stream_batch(self, where: str, name: str) -> dict[str, Any] | None:
        """A sound batch of records; None for a node of batches, and for what is noted as a fault."""
        data = read_file(self._path(where)) or b""
        try:
            CID.parse(name).check(data)
            body = dag_cbor.decode(data)
        except KitError as exc:
            self._fault(where, f"its bytes are not what its name says ({exc.message}): restore it from a backup")
            return None
        if isinstance(body, dict) and body.get("kind") == "ipfs-kit/stream-dataset":
            return None
        indices, records = (body.get("indices"), body.get("records")) if isinstance(body, dict) else (None, None)
        if (
            not isinstance(body, dict)
            or body.get("kind") != "ipfs-kit/stream-batch"
            or body.get("log") != self._log
            or not isinstance(body.get("root"), bytes)
            or not isinstance(indices, list)
            or not isinstance(records, list)
            or not 0 < len(indices) == len(records) == body.get("count")
            or not all(type(index) is int for index in indices)
            or any(b <= a for a, b in pairwise(indices))
            or [body.get("first"), body.get("last")] != [indices[0], indices[-1]]
            or body.get("size") != indices[-1] + 1
        ):
            self._fault(where, "is no batch of this log")
            return None
        if body["size"] > self._size:
            self._fault(where, f"covers {body['size']} records, the tree only {self._size}: it was truncated")
            return None
        bundle, stored = -1, None
        for index, record in zip(indices, records, strict=True):
            if index // 256 != bundle:
                bundle = index // 256
                stored = self._bundle(bundle, max(0, min(256, self._size - bundle * 256)))
            if stored is not None and len(stored) >= 38 * (index % 256 + 1):
                entry = stored[38 * (index % 256) + 2 : 38 * (index % 256) + 38]
                if not isinstance(record, CID) or record.binary != entry:
                    self._fault(where, f"its record {index} is not the log's")
                    return None
        return body

    # -- names ---------------------------------------------------------------------------------------------------

    def check_names(self) -> None:
        """Account for every file: partial tiles against the last rows, segments by their names; others are faults."""
        for level in range(len(self.tree.rows)):
            self._check_last(level)
        self._check_last_bundle()
        registered = self._segments()
        # What expired may still lie here after a crash; the next sealing or expiry removes it.
        self._gone = {f"segments/{file}" for file in expired_files(self._query, self._log)}
        stack = [""]
        while stack:
            folder = stack.pop()
            path = self._path(folder)
            if not os.path.isdir(path):
                continue
            with os.scandir(path) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(name)
                    elif not self._accounted(name, entry, registered):
                        self._fault(name, "is no file of this log: remove it")

    def _accounted(self, name: str, entry: os.DirEntry[str], registered: dict[str, tuple[int, int]]) -> bool:
        if not entry.is_file(follow_symlinks=False):
            return False
        if name == "checkpoint" or _TEMPORARY.match(entry.name):
            return True
        if name.startswith("manifests/"):
            return name.count("/") == 1
        if name.startswith("streams/"):
            return name.count("/") == 1
        if name.startswith("segments/"):
            return self._segment_file(name, registered)
        match = _TILE_NAME.match(name)
        if match is None:
            return False
        index = int(match[2].replace("x", "").replace("/", ""))
        if match[2] != _digits(index):
            return False
        level = 0 if match[1] == "entries" else int(match[1])
        available = min(256, max(0, (self._leaves >> 8 * level) - index * 256))
        if match[3] is None:
            return available == 256
        width = int(match[3])
        return 0 < width < 256 and width <= available and self._partial_holds(match[1], level, index, width)

    def _partial_holds(self, kind: str, level: int, index: int, width: int) -> bool:
        """Whether a partial tile or bundle is the beginning of what stands at its place; a fault is noted otherwise."""
        name = f"{_name(kind, index)}.p/{width}"
        unit = 38 if kind == "entries" else 32
        last = index == self._leaves >> 8 * (level + 1)
        if last and kind == "entries":
            expected = b"".join(_LENGTH + one for one in self._last_entries)
        elif last:
            expected = b"".join(self.tree.rows[level])
        else:
            expected = read_file(self._path(_name(kind, index))) or b""
        if not expected:
            # Its full tile is missing, which has been noted where it is required.
            return True
        if read_file(self._path(name)) != expected[: width * unit]:
            self._fault(name, "is not the beginning of its tile")
        return True

    def _check_last(self, level: int) -> None:
        """The partial tile that the integrated size needs must exist, unless its full tile does."""
        width, index = (self._size >> 8 * level) % 256, self._size >> 8 * (level + 1)
        if width and not os.path.exists(self._path(_name(level, index))):
            name = f"{_name(level, index)}.p/{width}"
            if not os.path.exists(self._path(name)):
                self._fault(name, "is missing: publish again to write it anew")

    def _check_last_bundle(self) -> None:
        width, index = self._size % 256, self._size >> 8
        if width and not os.path.exists(self._path(_name("entries", index))):
            name = f"{_name('entries', index)}.p/{width}"
            if not os.path.exists(self._path(name)):
                self._fault(name, "is missing: publish again to write it anew")

    def _segments(self) -> dict[str, tuple[int, int]]:
        if not self._query("SELECT 1 FROM sqlite_master WHERE name = 'ledger_segments'"):
            return {}
        found: dict[str, tuple[int, int]] = {}
        rows = self._query(
            "SELECT first_index, stop, name, manifest, family, count, size, sha256, time_min, time_max, op_id_min, op_id_max "
            "FROM ledger_segments WHERE log = ?",
            (self._log,),
        )
        for first, stop, name, manifest, *stated in rows:
            self._check_row(first, stop, name, manifest, stated)
            for file in (name, f"{CID(manifest)}.manifest"):
                found[f"segments/{file}"] = (first, stop - first)
                if not os.path.exists(self._path(f"segments/{file}")):
                    self._fault(f"segments/{file}", "is missing: restore it from a backup")
        return found

    def _check_row(self, first: int, stop: int, name: str, manifest: bytes, stated: list[Any]) -> None:
        """Compare a row of ``ledger_segments`` with the manifest it names: what may expire is judged by it."""
        where = f"segments/{CID(manifest)}.manifest"
        data = read_file(self._path(where))
        if data is None:
            return  # noted where the file is accounted for
        try:
            CID(manifest).check(data)
            body = dag_cbor.decode(data)
            meant = [body["log"], body["first"], body["last"] + 1, body["file"]]
            meant += [body["family"], body["count"], body["size"], body["sha256"], *body["times"], *body["op_ids"]]
        except (KitError, KeyError, TypeError):
            self._fault(where, "is no manifest of a segment: restore it from a backup")
            return
        if meant != [self._log, first, stop, name, *stated]:
            self._fault(where, "does not say what state.db says of its segment: restore state.db from its backup")

    def _segment_file(self, name: str, registered: dict[str, tuple[int, int]]) -> bool:
        """Check that a segment's or its manifest's bytes are what its name says."""
        match = _SEGMENT_NAME.match(name)
        if match is not None:
            digest = sha256()
            with open(self._path(name), "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            if digest.hexdigest() != match[3]:
                self._fault(name, "its bytes are not what its name says: restore it from a backup")
                return True
            first = int(match[1])
        elif name.endswith(".manifest"):
            data = read_file(self._path(name)) or b""
            try:
                CID.parse(name.removeprefix("segments/").removesuffix(".manifest")).check(data)
                first = int(dag_cbor.decode(data)["first"])
            except (KitError, KeyError, TypeError, ValueError):
                self._fault(name, "its bytes are not what its name says: restore it from a backup")
                return True
        else:
            return False
        if name in registered or name in self._gone:
            return True
        # A crash before registration leaves a sound file that no registered one overlaps.
        return not any(at <= first < at + count for at, count in registered.values())

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name) if name else self._directory

    def _fault(self, name: str, what: str) -> None:
        self._faults.add(f"ledger/{self._log}/{name}", what)


def _digits(index: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def _name(kind: int | str, index: int) -> str:
    return f"tile/{kind}/{_digits(index)}"
