"""What the command line shows of datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ipfs_kit.operations.views import iso_time
from ipfs_kit.surfaces.cli.tables import cell, table
from ipfs_kit.surfaces.text import human_size


def _info(value: Any) -> list[str]:
    rows = [
        ("dataset", value.name),
        ("version", value.commit or "none yet"),
        ("root", value.root),
        ("rows", value.rows),
        ("size", human_size(value.size)),
        ("compression", value.compression),
    ]
    splits = table([(s.name, s.rows, human_size(s.size), s.parts) for s in value.splits], _SPLITS)
    columns = table([(c.name, c.type) for c in value.columns], ("COLUMN", "TYPE"))
    return [*table(rows), *((["", *splits, "", *columns]) if value.columns else [])]


_SPLITS: Final = ("SPLIT", "ROWS", "SIZE", "FILES")


def _list(value: Any) -> list[str]:
    rows = [(d.name, d.head or "no version yet") for d in value.datasets]
    return table(rows, ("DATASET", "VERSION")) if rows else ["no datasets yet: ipfs-kit dataset create NAME"]


def _versions(value: Any) -> list[str]:
    rows = [
        (
            v.commit,
            iso_time(v.time_ns)[:19] + "Z",
            _known(v.rows),
            _known(v.added),
            v.message or "",
            " ".join(v.parents),
        )
        for v in value.versions
    ]
    more = [f"… continue with --cursor {value.cursor}"] if value.cursor else []
    shown = table(rows, ("VERSION", "TIME", "ROWS", "ADDED", "MESSAGE", "FROM")) if rows else ["no version yet"]
    return shown + more


def _known(count: int | None) -> str:
    return "" if count is None else str(count)


def _lineage(value: Any) -> list[str]:
    rows = [(s.depth, s.version, s.parent, s.transformation or "") for s in value.steps]
    more = ["… and more: raise --depth or --limit"] if value.truncated else []
    return (table(rows, ("STEP", "VERSION", "MADE FROM", "HOW")) if rows else ["nothing is recorded before it"]) + more


def _rows(value: Any) -> list[str]:
    shown = table([["" if each is None else cell(each) for each in row] for row in value.rows], value.columns)
    more = [f"… continue with --offset {value.offset}"] if value.offset is not None else []
    parts = [
        f"{p.split} part {p.part}, {p.rows} rows: {'read' if p.left_out is None else f'not read, {p.left_out}'}"
        for p in value.parts or ()
    ]
    return (shown if value.rows else ["no rows"]) + more + parts


def _diff(value: Any) -> list[str]:
    head = f"{value.added} added, {value.removed} removed, {value.changed} changed"
    columns = [f"column {name} added" for name in value.columns_added]
    columns += [f"column {name} removed" for name in value.columns_removed]
    columns += [f"column {name} has another type" for name in value.columns_changed]
    lines = []
    for row in value.rows:
        if row.change == "changed":
            lines += [f"- {cell(row.before)}", f"+ {cell(row.after)}"]
        else:
            lines.append(f"- {cell(row.before)}" if row.after is None else f"+ {cell(row.after)}")
    return [head, *columns, *lines]


def _profile(value: Any) -> list[str]:
    rows = [
        (c.name, c.type, c.nulls, _known(c.distinct), cell(c.low), cell(c.high), _short(c.mean), _short(c.deviation))
        for c in value.columns
    ]
    head = ("COLUMN", "TYPE", "NULLS", "DISTINCT", "MIN", "MAX", "MEAN", "DEVIATION")
    pairs = [f"{c.one} ~ {c.other}: {c.coefficient:+.3f}" for c in (value.correlations or ())[:10]]
    return [f"{value.rows} rows", *table(rows, head), *pairs]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _drift(value: Any) -> list[str]:
    rows = [
        (d.name, f"{d.psi:.4f}", f"{d.distance:.4f}", f"{d.nulls_before:.1%}", f"{d.nulls_after:.1%}", _mark(d.drifted))
        for d in value.columns
    ]
    shown = table(rows, ("COLUMN", "PSI", "DISTANCE", "NULLS BEFORE", "NULLS AFTER", ""))
    return [*shown, *([f"not compared: {', '.join(value.left_out)}"] if value.left_out else [])]


def _mark(drifted: bool) -> str:
    return "drifted" if drifted else ""


DATASETS: Final[dict[str, Callable[[Any], list[str]]]] = {
    "dataset.info": _info,
    "dataset.list": _list,
    "dataset.versions": _versions,
    "dataset.lineage": _lineage,
    "dataset.rows": _rows,
    "dataset.diff": _diff,
    "dataset.profile": _profile,
    "dataset.drift": _drift,
}
"""Shapes results of operations for people, by name."""
