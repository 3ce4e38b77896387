"""The class of the published metadata index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipfs_kit import Result, to_json
from ipfs_kit.errors import NotFound
from ipfs_kit_py._metadata_sharing import DEFAULT, MetadataSharing, chosen
from ipfs_kit_py._metadata_tables import paged


class ArrowMetadataIndex(MetadataSharing):
    """Records about CIDs with the 26 published fields: stated, asked for by any of them, shared with other nodes.

    Args:
        index_dir: The store; the default one when it is left at its published default.
        partition_size: Kept as an attribute; the engine chooses the size of its files.
        role: Kept as an attribute: every node may state and merge.
        sync_interval: Kept as an attribute: nodes are merged when asked to.
        enable_c_interface: Whether the files are shown to other processes.
        node_id: Kept as an attribute; statements bear the store's own node, which its key proves.
        cluster_id: Kept as an attribute.
    """

    def __init__(
        self,
        index_dir: str | Path | None = DEFAULT,
        partition_size: int = 1_000_000,
        role: str = "leecher",
        sync_interval: float = 300,
        enable_c_interface: bool = True,
        ipfs_client: Any = None,
        node_id: str | None = None,
        cluster_id: str = "default",
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        given = (enable_dataset_storage, enable_compute_layer, dataset_batch_size)
        path = storage_path or chosen(index_dir)
        super().__init__("ipfs_kit_py.arrow_metadata_index", path, ipfs_client, *given, stream="metadata_index")
        self.index_dir, self.partition_size, self.role = index_dir, partition_size, role
        self.sync_interval, self.enable_c_interface = sync_interval, enable_c_interface
        self.node_id, self.cluster_id = node_id, cluster_id

    def add(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """State a record in the place of this node's last one of its CID; data: cid, changed."""

        def work() -> tuple[Result, dict[str, Any]]:
            done = self.call("metadata.add", records=[dict(record)])
            return done, {"cid": str(record.get("cid")), "changed": done.value.changed}

        return self.do("add", work)

    def get_by_cid(self, cid: str) -> dict[str, Any] | None:
        """The record of a CID with all 26 fields; None when there is none."""
        try:
            record: dict[str, Any] = to_json(self.call("metadata.get", cid=str(cid)).value.record)
        except NotFound:
            return None
        return record

    def update_stats(self, cid: str, access_type: str = "read") -> dict[str, Any]:
        """Count an access; data: cid, access_count, last_accessed."""
        return self.do("update_stats", lambda: self.call("metadata.touch", cid=str(cid), access=access_type))

    def delete_by_cid(self, cid: str) -> dict[str, Any]:
        """Delete what is known of a CID; data: records, changed."""
        return self.do("delete_by_cid", lambda: self.call("metadata.delete", cid=str(cid)))

    def query(
        self, filters: Sequence[Any] | None = None, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> Any:
        """The records that meet every filter ``(field, operator, value)``, as a ``pyarrow.Table``."""
        return paged(self, "metadata.query", "cursor", columns, limit, filters=list(filters or ()))

    def search_text(self, text: str, fields: Sequence[str] | None = None, limit: int | None = None) -> Any:
        """The records that hold every word of a text, as a ``pyarrow.Table``, whole words first."""
        where = None if fields is None else list(fields)
        return paged(self, "metadata.search", "offset", None, limit, text=text, fields=where)

    def count(self, filters: Sequence[Any] | None = None) -> int:
        """How many records meet every filter."""
        return int(self.call("metadata.count", filters=list(filters or ())).value.records)
