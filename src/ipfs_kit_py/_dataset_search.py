"""Hits, filters and lineage of datasets, from what their records say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ipfs_kit import KitError
from ipfs_kit_py._shape import shape


def hits_by_dataset(hits: Iterable[Any]) -> dict[str, tuple[float, str]]:
    """The best score and its snippet by dataset, best first; hits come best first."""
    found: dict[str, tuple[float, str]] = {}
    for hit in hits:
        parts = hit.path.strip("/").split("/")
        name = parts[1].removesuffix(".json") if parts[0] == ".versions" and len(parts) > 1 else parts[0]
        found.setdefault(name, (hit.score, hit.snippet))
    return found


def meets(told: Mapping[str, Any], filters: Mapping[str, Any] | None) -> bool:
    """Whether metadata has every value asked for; one of several when a list is asked for, within a list of its own."""
    for name, wanted in (filters or {}).items():
        value = told.get(name)
        choices = wanted if isinstance(wanted, list) else [wanted]
        if not any(choice in value if isinstance(value, list) else choice == value for choice in choices):
            return False
    return True


def lineage_of(dataset: str, every: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Parents and children over any number of steps, nearest first, each once."""
    parents = {name: [str(each) for each in told.get("parents", ())] for name, told in every.items()}
    children: dict[str, list[str]] = {}
    for name, above in parents.items():
        for each in above:
            children.setdefault(each, []).append(name)
    return {"parents": _followed(dataset, parents), "children": _followed(dataset, children)}


def _followed(start: str, steps: Mapping[str, list[str]]) -> list[str]:
    found: dict[str, None] = {}
    level = [start]
    while level:
        level = [each for name in level for each in steps.get(name, ()) if each != start and each not in found]
        found.update(dict.fromkeys(level))
    return list(found)


def integrate_with_dataset_manager(dataset_manager: Any, search_indexer: Any) -> dict[str, Any]:
    """Whether what a manager stores is found by an indexer: when both work on one store, nothing is left to do."""
    same = dataset_manager.storage_path == search_indexer.storage_path
    told = {"store": str(search_indexer.storage_path), "integrated": same}
    if same:
        return shape("integrate_with_dataset_manager", told)
    error = KitError("the manager and the indexer work on two stores: open both with the same path")
    return shape("integrate_with_dataset_manager", told, error=error)
