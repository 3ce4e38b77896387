"""One bucket seen through the published ``BucketVFS``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipfs_kit import to_json
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._bucket import described, export
from ipfs_kit_py._listing import files_below, last_modified


class BucketVFS:
    """Files of one bucket; the bucket's versions stay available through the engine.

    Args:
        manager: The manager whose store is used; its own is opened when left out. The other options are published ones;
            bridges, cache manager and DuckDB connection are kept as attributes.
    """

    def __init__(
        self,
        name: str,
        bucket_type: Any,
        vfs_structure: Any,
        storage_path: str | Path | None,
        ipfs_client: Any = None,
        parquet_bridge: Any = None,
        car_bridge: Any = None,
        cache_manager: Any = None,
        duckdb_conn: Any = None,
        *,
        manager: Adapter | None = None,
    ) -> None:
        self.name, self.bucket_type, self.vfs_structure = name, bucket_type, vfs_structure
        self.ipfs_client, self.parquet_bridge, self.car_bridge = ipfs_client, parquet_bridge, car_bridge
        self.cache_manager, self.duckdb_conn = cache_manager, duckdb_conn
        self._own = manager is None
        self._on = manager or Adapter("ipfs_kit_py.bucket_vfs_manager", storage_path, ipfs_client)
        self.storage_path = self._on.storage_path

    def _at(self, path: str) -> str:
        return f"{self.name}:/{path.lstrip('/')}"

    async def initialize(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Create the bucket with labels; data: root_cid."""
        given = {"type": to_json(self.bucket_type), "structure": to_json(self.vfs_structure), "metadata": metadata}
        return await self._on.run(
            "initialize", lambda: described(self._on.call("bucket.create", name=self.name, **given))
        )

    async def load_existing(self) -> dict[str, Any]:
        """Confirm that the bucket is there and return its facts."""
        return await self._on.run("load_existing", lambda: described(self._on.call("bucket.info", name=self.name)))

    async def add_file(
        self, file_path: str, content: bytes | str, metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write a file; data: file_path, size, cid, local_path (None: the bytes lie in the store's packs)."""
        data = content.encode() if isinstance(content, str) else content
        tags = None if metadata is None else {key: str(value) for key, value in metadata.items()}

        def work() -> Any:
            done = self._on.call("files.write", path=self._at(file_path), data=data, tags=tags)
            return done, {
                "file_path": file_path,
                "size": done.value.size,
                "cid": str(done.value.cid),
                "local_path": None,
            }

        return await self._on.run("add_file", work)

    async def get_file(self, file_path: str, local_path: str) -> dict[str, Any]:
        """Copy a file to the local disk, replacing what is there; data: file_path, local_path, size, cid."""

        def work() -> Any:
            done = self._on.call("files.get", path=self._at(file_path), destination=str(local_path), overwrite=True)
            found = {"file_path": file_path, "local_path": str(local_path)}
            return done, {**found, "size": done.value.size, "cid": str(done.value.cid)}

        return await self._on.run("get_file", work)

    async def cat_file(self, file_path: str) -> dict[str, Any]:
        """Read a file into memory; data: file_path, content (bytes), size, cid."""

        def work() -> Any:
            done = self._on.call("files.read", path=self._at(file_path))
            content = done.value.read()
            return done, {"file_path": file_path, "content": content, "size": len(content), "cid": str(done.value.cid)}

        return await self._on.run("cat_file", work)

    async def remove_file(self, file_path: str) -> dict[str, Any]:
        """Remove a file; earlier versions keep it."""

        def work() -> Any:
            return self._on.call("files.rm", path=self._at(file_path)), {"file_path": file_path}

        return await self._on.run("remove_file", work)

    async def list_files(self, prefix: str = "") -> dict[str, Any]:
        """All files whose path starts with a prefix; data: files, file_count, total_size."""
        return await self._on.run("list_files", lambda: files_below(self._on, self.name, prefix))

    async def get_file_count(self) -> int:
        """Number of files."""
        return int((await self.load_existing())["files"])

    async def get_total_size(self) -> int:
        """Bytes of all files."""
        return int((await self.load_existing())["size_bytes"])

    async def get_last_modified(self) -> str | None:
        """Newest modification of any file, ISO 8601 in UTC; None when there is no file."""
        found: str | None = await self._on.thread(lambda: last_modified(self._on, self.name))
        return found

    async def export_to_car(self, include_indexes: bool = True) -> dict[str, Any]:
        """Write the present tree to a CAR file; data: car_path, cid, blocks, size, indexes (none exist yet)."""
        return await self._on.run("export_to_car", lambda: export(self._on, self.name))

    async def register_duckdb_tables(self, duckdb_conn: Any) -> None:
        """Register the list of files as the table ``BUCKET_files`` of a DuckDB connection."""
        import pyarrow  # type: ignore[import-untyped]  # pyarrow ships no stubs

        rows = (await self.list_files())["files"]
        columns = {key: [row[key] for row in rows] for key in ("file_path", "size", "cid", "modified")}
        duckdb_conn.register(f"{self.name.replace('-', '_').replace('.', '_')}_files", pyarrow.table(columns))

    async def cleanup(self) -> None:
        """Release the store when this object opened it."""
        if self._own:
            await self._on.thread(self._on.close)
