"""One bucket seen through the published ``BucketVFS``."""

from __future__ import annotations

from typing import Any

from ipfs_kit_py._bucket import export
from ipfs_kit_py._bucket_base import BucketBase
from ipfs_kit_py._listing import files_below, last_modified


class BucketVFS(BucketBase):
    """Files of one bucket; its versions stay available through the engine."""

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
