"""The process that reads Parquet files of strangers: it derives every record's CID and compares it with the log's leaves.

Started as ``python -I _records_child.py``; takes one JSON request on standard input, answers with one JSON line a file.
Before it opens a file it is confined like the SQL sandbox: no network, no file may grow, only the publication's folder can
be read, memory and time are bounded. A file that brings it down harms nobody else.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any


def main() -> None:
    """Entry point of the child."""
    request = json.loads(sys.stdin.readline())
    sys.path.append(request["source"])
    from ipfs_kit.ledger import _sandbox_child as walls

    standing = walls.confine_process()
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet as pq

    assert pq
    pa.set_memory_pool(pa.system_memory_pool())
    standing += walls.confine_files([request["directory"]])
    walls.limit(request["memory_bytes"], request["wall_s"], 1)
    _say({"walls": standing})
    for part in request["logs"]:
        _Log(request, part).run()
    _say({"done": True})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class _Log:
    """The files of one log.

    Args:
        request: What holds for the whole publication.
        part: The log, its signed head and the files by span.
    """

    def __init__(self, request: dict[str, Any], part: dict[str, Any]) -> None:
        from ipfs_kit.ledger.published.tree import TrustedTiles

        self._node = request["node"]
        self._stream = request["stream"]
        self._bounds = request["bounds"]
        self._log = part["log"]
        self._spans = part["spans"]
        self._directory = os.path.join(request["directory"], self._log)
        self._tiles = TrustedTiles(self._read, part["size"], bytes.fromhex(part["root"]))

    def run(self) -> None:
        """Check every file and say what came of it."""
        from ipfs_kit.errors import KitError

        for first, last, names in self._spans:
            seen: set[int] = set()
            for name in names:
                message: dict[str, Any] = {"log": self._log, "file": name}
                try:
                    message["records"] = self._file(name, first, last, seen)
                except KitError as exc:
                    message["fault"] = exc.message
                except (pa_error(), OSError, ValueError, TypeError, MemoryError, OverflowError) as exc:
                    message["fault"] = f"cannot be read: {type(exc).__name__}: {str(exc)[:300]}"
                _say(message)

    def _file(self, name: str, first: int, last: int, seen: set[int]) -> int:
        from ipfs_kit.errors import IntegrityError

        if last >= self._tiles.size:
            raise IntegrityError(f"states records up to {last}, but {self._tiles.size} are signed")
        count, before = 0, -1
        for table in self._tables(os.path.join(self._directory, "segments", name)):
            for index, leaf in self._leaves(table):
                if not first <= index <= last or index <= before or index in seen:
                    raise IntegrityError(f"its record {index} is out of order, twice, or outside of what its name says")
                if self._tiles.leaf(index) != leaf:
                    raise IntegrityError(f"its record {index} is not the one that the log holds at {index}")
                seen.add(index)
                before = index
                count += 1
            if len(seen) > self._bounds["span"]:
                raise IntegrityError(f"holds more than {self._bounds['span']} records")
        if not count:
            raise IntegrityError("holds no record")
        return count

    def _leaves(self, table: Any) -> Iterator[tuple[int, bytes]]:
        import pyarrow.compute as pc

        from ipfs_kit.errors import IntegrityError
        from ipfs_kit.ledger.columns import INDEX, RAW, record_cids
        from ipfs_kit.ledger.merkle import leaf_hash
        from ipfs_kit.ledger.record import decode

        kept = table.filter(pc.is_null(table[RAW]))
        wanted = {"node": self._node} | ({} if self._stream is None else {"stream": self._stream})
        for column, value in wanted.items():
            if set(pc.unique(kept[column]).to_pylist()) - {value}:
                raise IntegrityError(f"holds a record whose {column} is not {value}")
        for data in table[RAW].drop_null().to_pylist():
            record = decode(data)
            if record.node != self._node or self._stream not in (None, record.stream):
                raise IntegrityError(f"holds a record that is not one of {self._stream or 'this node'}")
        indices = table[INDEX].to_pylist()
        yield from zip(indices, map(leaf_hash, record_cids(table)), strict=True)

    def _tables(self, path: str) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from ipfs_kit.errors import IntegrityError
        from ipfs_kit.ledger.columns import DICTIONARY_NAMES, schema

        with pq.ParquetFile(path) as file:
            stated, wanted = file.schema_arrow, schema()
            plain = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in stated]
            if stated.names != wanted.names or plain != list(wanted.types):
                raise IntegrityError("has other columns than a segment")
            groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        for group in groups:
            if group.num_rows > self._bounds["rows"] or group.total_byte_size > self._bounds["bytes"]:
                raise IntegrityError(f"has a row group of {group.num_rows} rows and {group.total_byte_size} bytes")
        with pq.ParquetFile(path, read_dictionary=list(DICTIONARY_NAMES)) as file:
            for number in range(len(groups)):
                yield file.read_row_group(number, use_threads=False)

    def _read(self, name: str, limit: int) -> bytes | None:
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                return file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None


def pa_error() -> type[Exception]:
    """What pyarrow raises on damaged bytes."""
    import pyarrow as pa

    kind: type[Exception] = pa.ArrowException
    return kind


if __name__ == "__main__":
    main()
    # Skip destructors: the answer is out.
    os._exit(0)
