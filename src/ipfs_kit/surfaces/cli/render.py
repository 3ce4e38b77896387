"""Results as a person reads them, or as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ipfs_kit.operations.catalogue import Operation
from ipfs_kit.operations.results import Content, Result, to_json
from ipfs_kit.surfaces.cli.render_buckets import BUCKETS
from ipfs_kit.surfaces.cli.render_datasets import DATASETS
from ipfs_kit.surfaces.cli.render_metadata import METADATA
from ipfs_kit.surfaces.cli.render_versions import VERSIONS
from ipfs_kit.surfaces.cli.tables import cell, fields_of, table
from ipfs_kit.surfaces.cli.watching import LINES as WATCHING
from ipfs_kit.surfaces.text import human_size, safe


def render(operation: Operation, result: Result, as_json: bool) -> None:
    """Write a result to standard output.

    Args:
        operation: What was called.
        result: What it returned.
        as_json: One JSON object ``{"result": …, "op": …}`` instead of text.
    """
    if as_json:
        shown = {
            "result": to_json(result.value),
            "op": {
                "id": result.op_id,
                "log": result.log,
                "index": result.index,
                "record": to_json(result.record_cid),
                "cid": to_json(result.cid),
                "ack": result.ack,
                "recorded": result.op_id is not None,
                "replayed": result.replayed,
            },
        }
        if result.warning is not None:
            shown["warning"] = result.warning
        sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
        return
    value = result.value
    if isinstance(value, Content):
        sys.stdout.flush()
        for piece in value.open():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    elif isinstance(value, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
    else:
        lines = _LINES.get(operation.name, fields_of)(value)
        sys.stdout.write("".join(f"{safe(line, lines=True)}\n" for line in lines))


def _cid_last(value: Any) -> list[str]:
    lines = [
        f"{problem.path}: {problem.reason} {problem.detail}".rstrip() for problem in getattr(value, "problems", [])
    ]
    return [*lines, str(value.cid)]


def _got(value: Any) -> list[str]:
    # What was left out is named on standard error.
    rows = [("path", value.path), ("cid", value.cid), ("files", value.files), ("size", value.size)]
    return table(rows + ([("left out", value.problems_count)] if value.problems_count else []))


def _entries(value: Any) -> list[str]:
    marks = {"dir": "/", "symlink": "@"}
    refused = {problem.path: problem.reason for problem in getattr(value, "refused", ())}
    rows = [
        (
            e.cid,
            human_size(e.size) if e.kind != "dir" else "-",
            e.name
            + marks.get(str(e.kind), "")
            + (f"  (get refuses this: {refused[e.path]})" if e.path in refused else ""),
        )
        for e in value.entries
    ]
    return table(rows) + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _buckets(value: Any) -> list[str]:
    rows = [(b.name, b.type, b.kind, b.head or "no commit yet") for b in value.buckets]
    return table(rows, ("NAME", "TYPE", "KIND", "HEAD")) if rows else ["no buckets yet: ipfs-kit bucket create NAME"]


def _ops(value: Any) -> list[str]:
    rows = [(op.op, op.time[:23] + "Z", op.operation, op.status, op.surface, op.target or "") for op in value.ops]
    return table(rows, ("OP", "TIME", "OPERATION", "STATUS", "SURFACE", "TARGET"))


def _streams(value: Any) -> list[str]:
    rows = [(each.name, each.log, each.about, " ".join(each.fields) or "(calls)") for each in value.streams]
    return table(rows, ("STREAM", "LOG", "HOLDS", "FIELDS"))


def _events(value: Any) -> list[str]:
    rows = []
    for row in value.rows:
        event = "(erased)" if row.erased else "(not kept)" if not row.kept else cell(row.event)
        rows.append((row.op, (row.time or "")[:23] + "Z", row.operation or "", row.status or "", event))
    return table(rows, ("OP", "TIME", "OPERATION", "STATUS", "EVENT")) if rows else ["no records"]


def _flushes(value: Any) -> list[str]:
    rows = [(each.seq, each.time[:23] + "Z", each.count, each.cid) for each in value.batches]
    return table(rows, ("SEQ", "TIME", "RECORDS", "CID")) if rows else ["no batches yet"]


def _flushed(value: Any) -> list[str]:
    return (
        ["nothing was ever recorded in this stream"]
        if value.cid is None
        else [f"{value.count} records", str(value.cid)]
    )


def _sql(value: Any) -> list[str]:
    rows = [["" if cell is None else to_json(cell) for cell in row] for row in value.rows]
    note = [f"({value.row_count} rows{', cut at the limit' if value.truncated else ''}, {value.elapsed_ms:.0f} ms)"]
    return [*table(rows, value.columns), *note]


def _queries(value: Any) -> list[str]:
    rows = [
        (query.name, " ".join(p.name if p.required else f"[{p.name}]" for p in query.parameters), query.about)
        for query in value.queries
    ]
    return table(rows, ("QUERY", "PARAMETERS", "ABOUT"))


def _repaired(value: Any) -> list[str]:
    lines = list(value.mended) or ["nothing to mend"]
    return lines + [f"remaining: {fault.where}: {fault.what}; {fault.mend}" for fault in value.remaining]


def _undone(value: Any) -> list[str]:
    if not isinstance(value, list | tuple):
        return fields_of(value)
    return [line for part in value for line in fields_of(part)] or ["undone"]


def _expired(value: Any) -> list[str]:
    rows = [
        (
            f"{f.log}:{f.first}-{f.last}",
            f.stream,
            f.records,
            human_size(f.bytes),
            f.newest,
            f.why,
            f"hold {f.hold}" if f.hold else "",
        )
        for f in (*value.files, *value.held)
    ]
    verb = "would expire" if value.dry_run else "expired"
    more = "; call again for more" if value.more else ""
    lines = table(rows, ("RECORDS", "STREAM", "COUNT", "SIZE", "NEWEST", "LIMIT", "KEPT BY")) if rows else []
    return [*lines, f"{value.records} records {verb}, {human_size(value.bytes)}{more}"]


def _holds(value: Any) -> list[str]:
    rows = [
        (
            h.id,
            h.stream or "all",
            h.since or "-",
            h.until or "-",
            h.lapses or "-",
            "yes" if h.active else "no",
            h.reason,
        )
        for h in value.holds
    ]
    lines = table(rows, ("HOLD", "STREAM", "SINCE", "UNTIL", "LAPSES", "BINDS", "REASON")) if rows else []
    return lines + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _publication_rows(publications: Sequence[Any]) -> list[str]:
    rows = [
        (
            p.id,
            "own" if p.own else p.name,
            ", ".join(f"{held.records} of {held.log}:{held.size}" for held in p.logs),
            (p.imported or "-")[:19],
            p.root,
        )
        for p in publications
    ]
    return table(rows, ("PUBLICATION", "OF", "RECORDS", "IMPORTED", "ROOT"))


def _publications(value: Any) -> list[str]:
    lines = _publication_rows(value.publications) if value.publications else ["nothing published or imported yet"]
    return lines + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _published(value: Any) -> list[str]:
    rows = [
        ("scope", value.scope),
        ("records", ", ".join(f"{held.records} of {held.log}:{held.size}" for held in value.logs)),
        ("new", "nothing" if value.unchanged else f"{value.new_blocks} blocks"),
        ("parent", value.parent or "-"),
        ("pin", value.pin),
        ("vkey", value.vkey),
    ]
    return [*table(rows), str(value.cid)]


def _taken(value: Any) -> list[str]:
    went = f", {value.withdrawn} files withdrawn" if value.withdrawn else ""
    return [
        *_publication_rows([value.publication]),
        f"{value.records} new records verified in {value.files} files{went}",
    ]


def _entered(value: Any) -> list[str]:
    rows = [
        (e.time[:19], e.operation_type, e.status, e.path, e.entry_id, (e.transaction_id or "-")[-12:])
        for e in value.entries
    ]
    lines = table(rows, ("TIME", "KIND", "STATUS", "PATH", "ENTRY", "TRANSACTION")) if rows else ["no entries"]
    return lines + (["… there are more: raise --limit"] if value.more else [])


def _journal_state(value: Any) -> list[str]:
    rows = [(e.kind, human_size(e.size), e.cid, e.path) for e in value.entries]
    lines = table(rows, ("KIND", "SIZE", "CID", "PATH")) if rows else ["nothing"]
    return [f"root {value.root}", *lines] + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _journal_health(value: Any) -> list[str]:
    lines = [f"{value.journal} is {value.status}"]
    lines += [f"{issue.severity}: {issue.type}: {issue.message}" for issue in value.issues]
    lines += [f"alert raised: {rule}" for rule in value.raised] + [f"alert cleared: {rule}" for rule in value.cleared]
    return lines + fields_of(value.figures)


def _hits(value: Any) -> list[str]:
    lines = []
    for hit in value.hits:
        where = "" if hit.start is None else f" bytes {hit.start}-{hit.stop}"
        under = f"  [{hit.heading}]" if hit.heading else ""
        lines += [f"{hit.bucket}:{hit.path}{where}  {hit.score:.2f}{under}", f"    {' '.join(hit.snippet.split())}"]
    lines = lines or ["nothing found"]
    if value.terms is not None:
        lines.append("words: " + ", ".join(f"{word} in {rows} rows" for word, rows in value.terms.items()))
    if value.left_out:
        lines.append(f"sealed, not searched: {', '.join(value.left_out)}")
    return lines + ([f"… continue with --offset {value.offset}"] if value.offset is not None else [])


def _indexes(value: Any) -> list[str]:
    found = value.indexes if hasattr(value, "indexes") else [value]
    rows = [
        (
            one.bucket, one.root or "(being made)", one.holds.files, one.holds.passages,
            human_size(one.holds.size_bytes), ", ".join(f"{n} {how}" for how, n in one.holds.outcomes.items()),
        )
        for one in found
    ]  # fmt: skip
    return table(rows, ("BUCKET", "ROOT", "FILES", "PASSAGES", "SIZE", "CONTENTS")) if rows else ["no index yet"]


_LINES: dict[str, Callable[[Any], list[str]]] = {
    **WATCHING,
    **VERSIONS,
    **BUCKETS,
    **DATASETS,
    **METADATA,
    "search.query": _hits,
    "search.index": _indexes,
    "search.status": _indexes,
    "journal.entries": _entered,
    "journal.state": _journal_state,
    "journal.check": _journal_health,
    "ledger.expire": _expired,
    "ledger.hold_list": _holds,
    "ledger.publication_create": _published,
    "ledger.publication_list": _publications,
    "ledger.publication_import": _taken,
    "ledger.publication_load": _taken,
    "store.add": _cid_last,
    "files.put": _cid_last,
    "files.get": _got,
    "store.get": _got,
    "files.list": _entries,
    "store.ls": _entries,
    "bucket.list": _buckets,
    "ledger.tail": _ops,
    "ledger.sql": _sql,
    "dataset.sql": _sql,
    "ledger.query": _sql,
    "ledger.queries": _queries,
    "stream.list": _streams,
    "stream.query": _events,
    "stream.load": _events,
    "stream.batches": _flushes,
    "stream.flush": _flushed,
    "ledger.prove": lambda value: value.proof.rstrip("\n").split("\n"),
    "ledger.checkpoint": lambda value: value.text.rstrip("\n").split("\n"),
    "ledger.vkey": lambda value: [value.vkey],
    "block.put": lambda value: [str(value.cid)],
    "block.list": lambda value: [str(cid) for cid in value.blocks],
    "dag.put": lambda value: [str(value.cid)],
    "dag.resolve": lambda value: [f"{value.cid}{'/' + value.remainder if value.remainder else ''}"],
    "dag.links": lambda value: [str(cid) for cid in value.links],
    "pin.list": lambda value: table([(p.cid, p.kind, p.name or "") for p in value.pins]),
    "store.repair": _repaired,
    "versions.undo": _undone,
    "system.operations": lambda value: table([(o.name, o.mode, o.summary) for o in value.operations]),
}
