"""The metadata index: records about CIDs over Arrow; every call is one recorded operation of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipfs_kit import Kit, to_json
from ipfs_kit.errors import Unsupported
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._metadata_index import ArrowMetadataIndex
from ipfs_kit_py._metadata_words import resource_arguments

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "ArrowMetadataIndex",
    "create_metadata_from_ipfs_file",
    "find_ai_ml_resources",
    "find_datasets_for_task",
    "find_similar_models",
]


def create_metadata_from_ipfs_file(ipfs_client: Any, cid: str, include_content: bool = False) -> dict[str, Any]:
    """A record of stored content, made from the content; give it to ``add``.

    Args:
        ipfs_client: A Kit, an ``ArrowMetadataIndex``, or None for the default store.
        cid: The content.
        include_content: Keep the beginning of a text in it, so that text search finds it.

    Raises:
        Unsupported: The client is of another kind.
        NotFound: The content is not in the store.
    """
    given = {"cid": str(cid), "content": include_content}
    if isinstance(ipfs_client, ArrowMetadataIndex | Kit):
        record: dict[str, Any] = to_json(ipfs_client.call("metadata.describe", **given).value.record)
        return record
    if ipfs_client is not None:
        raise Unsupported("content is read from the embedded store: pass a Kit, an ArrowMetadataIndex, or None")
    with Kit.open() as kit:
        return dict(to_json(kit.call("metadata.describe", **given).value.record))


def find_ai_ml_resources(
    metadata_index: ArrowMetadataIndex, query_params: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Models and datasets that have everything asked for; data: results, count.

    Args:
        metadata_index: The index.
        query_params: ``type`` (model or dataset), ``tags``, ``text``, ``limit``, and attributes such as ``framework``,
            ``task``, ``min_size``; every other name is a property.
    """

    def work() -> Any:
        return _matches(metadata_index, "metadata.resources", "resources", **resource_arguments(query_params or {}))

    return metadata_index.answer("find_ai_ml_resources", work)


def find_similar_models(
    metadata_index: ArrowMetadataIndex,
    model_id: str,
    similarity_criteria: Mapping[str, Any] | Sequence[str] | None = None,
    limit: int = 5,
) -> dict[str, Any]:
    """Models that have most in common with one, each with score and reasons; data: results, count."""
    criteria = similarity_criteria
    if criteria is not None and not isinstance(criteria, Mapping):
        criteria = dict.fromkeys(criteria, True)
    given = {"model": str(model_id), "criteria": criteria, "limit": limit}
    return metadata_index.answer(
        "find_similar_models", lambda: _matches(metadata_index, "metadata.similar_models", "similar_models", **given)
    )


def find_datasets_for_task(
    metadata_index: ArrowMetadataIndex,
    task: str,
    domain: str | None = None,
    min_rows: int | None = None,
    format: str | None = None,  # noqa: A002 - published name
    limit: int = 10,
) -> dict[str, Any]:
    """Datasets for a task, those that name it first; data: results, count."""
    given = {"task": task, "domain": domain, "min_rows": min_rows, "format": format, "limit": limit}
    return metadata_index.answer(
        "find_datasets_for_task", lambda: _matches(metadata_index, "metadata.datasets_for", "datasets", **given)
    )


def _matches(index: ArrowMetadataIndex, name: str, called: str, /, **arguments: Any) -> Any:
    result = index.call(name, **arguments)
    rows = [
        {**to_json(each.record), "score": each.score, "matched": list(each.matched)} for each in result.value.matches
    ]
    return result, {"results": rows, called: rows, "count": len(rows)}
