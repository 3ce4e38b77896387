"""Datasets found again: by words of what is said of them and of what they hold, by filters, and along their lineage."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._dataset_records import BUCKET
from ipfs_kit_py._dataset_search import hits_by_dataset, integrate_with_dataset_manager, lineage_of, meets
from ipfs_kit_py._file_datasets import FileDatasets

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "DatasetSearchIndexer",
    "get_dataset_search_indexer",
    "integrate_with_dataset_manager",
    "reset_indexer",
]


class DatasetSearchIndexer(FileDatasets):
    """Full text (BM25) over metadata and content of the datasets of a store; it follows what is stored by itself.

    Args:
        base_path: The store's directory; the default store when left out. The switches are kept as attributes: ranking is
            by words alone until a model for embeddings is there, and results say ``semantic: False``.
    """

    def __init__(
        self,
        ipfs_client: Any = None,
        enable_graphrag: bool = True,
        enable_knowledge_graph: bool = True,
        enable_arrow_index: bool = True,
        base_path: str | Path | None = None,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(__name__, base_path or storage_path, ipfs_client, stream="dataset")
        self.base_path, self.enable_graphrag = self.storage_path, enable_graphrag
        self.enable_knowledge_graph, self.enable_arrow_index = enable_knowledge_graph, enable_arrow_index

    def index_dataset(
        self, dataset_id: str, dataset_path: str | Path, metadata: dict[str, Any] | None = None, cid: str | None = None
    ) -> dict[str, Any]:
        """Store a dataset and what is said of it; ``parents`` in the metadata names datasets it was made from.

        With ``cid`` the content must be just that.
        """
        stored = self._store(dataset_path, metadata, dataset_id=dataset_id, expected=cid)
        return {**stored, "operation": "index_dataset", "indexed": stored["success"]}

    def search_datasets(
        self,
        query: str,
        filters: Mapping[str, Any] | None = None,
        use_semantic_search: bool = True,
        limit: int = 10,
    ) -> list[dict[str, Any]]:
        """Datasets that match, best first: dataset_id, score, metadata, cid, snippet; nothing before the first is stored."""
        if not self.kit.engine.buckets.exists(BUCKET):
            return []
        page = self.call("search.query", text=query, path=BUCKET, limit=100, per_file=1).value
        found = []
        for name, (score, snippet) in hits_by_dataset(page.hits).items():
            told = self.get_metadata(name)
            if told is not None and meets(told, filters):
                row = {"dataset_id": name, "score": score, "metadata": told, "cid": told["cid"], "snippet": snippet}
                found.append(row | {"semantic": False})
        return found[: max(0, limit)]

    def get_dataset_lineage(self, dataset_id: str) -> dict[str, Any] | None:
        """dataset_id, parents, children (each over any number of steps, nearest first) and transformations."""
        if self.get_metadata(dataset_id) is None:
            return None
        every = {name: self.get_metadata(name) or {} for name in self._names()}
        steps = [each for each in self._records() if each["dataset_id"] == dataset_id]
        how = [each for step in steps for each in step["transformations"]]
        return {"dataset_id": dataset_id, **lineage_of(dataset_id, every), "transformations": how}

    def list_indexed_datasets(self, filters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Datasets with what is said of them, by name."""
        found = ((name, self.get_metadata(name)) for name in self._names())
        return [
            {"dataset_id": name, "metadata": told} for name, told in found if told is not None and meets(told, filters)
        ]


_indexer: list[DatasetSearchIndexer] = []
_guard = threading.Lock()


def get_dataset_search_indexer(
    ipfs_client: Any = None, enable_graphrag: bool = True, enable_knowledge_graph: bool = True
) -> DatasetSearchIndexer:
    """The process's one indexer."""
    with _guard:
        if not _indexer:
            _indexer.append(DatasetSearchIndexer(ipfs_client, enable_graphrag, enable_knowledge_graph))
        return _indexer[0]


def reset_indexer() -> None:
    """Close and forget the process's indexer."""
    with _guard:
        while _indexer:
            _indexer.pop().close()
