"""What the command line shows of the metadata index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ipfs_kit.surfaces.cli.tables import cell, table
from ipfs_kit.surfaces.text import human_size

_ALL: Final = 26


def _records(records: Sequence[dict[str, Any]]) -> list[str]:
    if not records:
        return ["no records"]
    names = list(records[0])
    if len(names) < _ALL:
        return table([[cell(_short(row[name])) for name in names] for row in records], [name.upper() for name in names])
    rows = [
        (
            row["cid"], "-" if row["size_bytes"] is None else human_size(row["size_bytes"]), row["mime_type"] or "-",
            ",".join(row["tags"]) or "-", row["metadata"]["title"] or row["path"] or row["filename"] or "",
        )
        for row in records
    ]  # fmt: skip
    return table(rows, ("CID", "SIZE", "TYPE", "TAGS", "TITLE OR PATH"))


def _short(value: Any) -> Any:
    """A map without the keys that have no value."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


def _page(value: Any) -> list[str]:
    return _records(value.records) + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _found(value: Any) -> list[str]:
    lines = _records(value.records) if value.records else ["nothing found"]
    return lines + ([f"… continue with --offset {value.offset}"] if value.offset is not None else [])


def _record(value: Any) -> list[str]:
    rows: list[tuple[str, str]] = []
    for name, given in value.record.items():
        if isinstance(given, dict):
            rows += [(f"{name}.{key}", cell(item)) for key, item in given.items() if item is not None]
        elif given is not None and given != []:
            rows.append((name, cell(given)))
    return table(rows)


def _changed(value: Any) -> list[str]:
    same = value.records - value.changed
    return [f"{value.changed} records changed{f', {same} as before' if same else ''}"]


def _files(value: Any) -> list[str]:
    return [f"{value.records} records, {human_size(value.size)}", *value.files]


def _published(value: Any) -> list[str]:
    since = "" if value.since is None else f" after op {value.since}"
    return [str(value.cid), f"{value.statements} statements{since} up to op {value.upto}", f"verifier key {value.vkey}"]


def _merged(value: Any) -> list[str]:
    lines = [f"node {value.node}: {value.taken} of {value.statements} statements were new"]
    if value.refused:
        lines.append(f"{value.refused} in this node's own name were not taken: it never made them (or see --restore)")
    return lines + ([f"… continue with --cursor {value.cursor}"] if value.cursor is not None else [])


def _peers(value: Any) -> list[str]:
    rows = [(peer.node, "-" if peer.upto is None else peer.upto, peer.root, peer.vkey) for peer in value.peers]
    return table(rows, ("NODE", "UPTO", "ROOT", "VERIFIER KEY")) if rows else ["no index was merged yet"]


def _matches(value: Any) -> list[str]:
    rows = [
        (
            f"{match.score:.2f}", match.record["cid"], ", ".join(match.matched) or "-",
            match.record["metadata"]["title"] or match.record["path"] or match.record["filename"] or "",
        )
        for match in value.matches
    ]  # fmt: skip
    return table(rows, ("SCORE", "CID", "MATCHED", "TITLE OR PATH")) if rows else ["nothing found"]


METADATA: Final[dict[str, Callable[[Any], list[str]]]] = {
    "metadata.add": _changed,
    "metadata.delete": _changed,
    "metadata.get": _record,
    "metadata.describe": _record,
    "metadata.query": _page,
    "metadata.search": _found,
    "metadata.count": lambda value: [str(value.records)],
    "metadata.rebuild": lambda value: [f"{value.records} records"],
    "metadata.resources": _matches,
    "metadata.similar_models": _matches,
    "metadata.datasets_for": _matches,
    "metadata.export": lambda value: [f"{value.records} records in {value.path}"],
    "metadata.share": _files,
    "metadata.publish": _published,
    "metadata.merge": _merged,
    "metadata.peers": _peers,
}
