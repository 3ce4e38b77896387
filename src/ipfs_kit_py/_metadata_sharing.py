"""How the published metadata index is shared: with peers, and with other processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ipfs_kit import Kit
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._metadata_partitions import data_of, listed, partition_of
from ipfs_kit_py._metadata_tables import opened

DEFAULT = "~/.ipfs_metadata"


class MetadataSharing(Adapter):
    """An index that peers may ask and other processes may map."""

    enable_c_interface = True

    def do(self, operation: str, work: Callable[[], Any]) -> dict[str, Any]:
        """The published shape of one call, run on the compute layer when there is one."""
        pool = self.compute_layer
        return self.answer(operation, work if pool is None else lambda: pool.submit(work).result())

    def publish_index_dag(self) -> dict[str, Any]:
        """Write the index as a signed DAG, pinned; data: cid, statements, leaves, upto, vkey."""
        return self.do("publish_index_dag", lambda: self.call("metadata.publish"))

    def handle_partition_request(self, request_data: Mapping[str, Any] | None) -> dict[str, Any]:
        """Answer a peer that asks what there is; data: root, node, vkey, partitions with their CIDs.

        Args:
            request_data: ``since`` asks for what operations after that one changed alone.
        """
        return self.do("handle_partition_request", lambda: listed(self, request_data or {}))

    def handle_partition_data_request(self, request_data: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a peer that asks for a partition of this index; data: cid, size, content as base64.

        Args:
            request_data: ``root``, and ``cid`` or ``partition_id`` as a partition request listed them.
        """
        return self.do("handle_partition_data_request", lambda: data_of(self, partition_of(self, request_data)))

    def get_c_data_interface(self) -> dict[str, Any] | None:
        """What another process needs to map the index; data: files, records, op. None when it is off."""
        if not self.enable_c_interface:
            return None
        return self.do("get_c_data_interface", lambda: self.call("metadata.share"))

    @staticmethod
    def access_via_c_data_interface(index_dir: str | Path | None = DEFAULT) -> dict[str, Any]:
        """The index of a store as a ``pyarrow.Table`` over its mapped files, from any process; writes nothing.

        Returns:
            Data: table, num_rows, schema, store.
        """
        return opened(Kit.store_path(chosen(index_dir)))


def chosen(index_dir: str | Path | None) -> str | Path | None:
    """The store that is named; None where the published default stands."""
    return None if index_dir is None or str(index_dir) == DEFAULT else index_dir
