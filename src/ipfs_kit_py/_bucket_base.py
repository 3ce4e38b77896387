"""One bucket under its published constructor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipfs_kit import to_json
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._bucket import described


class BucketBase:
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
        self._on = manager or Adapter("ipfs_kit_py.bucket_vfs_manager", storage_path, ipfs_client, stream="bucket")
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
