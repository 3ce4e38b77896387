"""What watching shows a person: the audit trail, telemetry, health, log files and the journal of file systems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ipfs_kit.surfaces.cli.tables import cell, figure, known, table
from ipfs_kit.surfaces.text import human_size


def _log_rows(value: Any) -> list[str]:
    lines = []
    for row in value.rows:
        where = f" {row.component}" if row.component else ""
        shown = "(erased)" if row.level is None else row.message
        lines.append(f"{(row.time or '')[:23]}Z {row.level or '-':8}{where}: {shown}")
        lines += [f"    {line}" for line in (row.exception or "").splitlines()]
    return (lines or ["no lines"]) + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _logs(value: Any) -> list[str]:
    rows = [(each.name, human_size(each.size), len(each.files), each.changed[:19] + "Z") for each in value.logs]
    head = ("LOG", "SIZE", "FILES", "CHANGED")
    return table(rows, head) if rows else [f"no logs in {value.directory}"]


def _rotated(value: Any) -> list[str]:
    lines = []
    for each in value.logs:
        lines += [f"{each.name} -> {each.rotated_to}"] if each.rotated_to else [f"{each.name} is not due"]
        lines += [f"compressed {name}" for name in each.compressed] + [f"removed {name}" for name in each.removed]
    return lines or [f"no logs in {value.directory}"]


def _log_versions(value: Any) -> list[str]:
    rows = [(" ".join(each.versions) or "-", each.time[:19] + "Z", each.cid, each.commit) for each in value.versions]
    lines = table(rows, ("VERSION", "TIME", "CID", "COMMIT")) if rows else ["no logs were stored"]
    return lines + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _log_diff(value: Any) -> list[str]:
    lines = []
    for each in value.files:
        lines += [f"{each.change} {each.path}: {each.added} lines more, {each.removed} fewer", *each.lines]
    return lines or ["no difference"]


def _health(value: Any) -> list[str]:
    rows = [
        (
            each.check,
            each.status,
            (each.time or "now")[:19],
            f"{each.duration_ms or 0:.0f} ms",
            each.error or cell(each.details),
        )
        for each in value.results
    ]
    lines = table(rows, ("CHECK", "STATUS", "TIME", "TOOK", "WHAT")) if rows else ["no results yet: run health run"]
    lines += [f"the whole is {value.status}"] if hasattr(value, "status") else []
    lines += [f"alert raised: {each}" for each in getattr(value, "raised", ())]
    return lines + [f"alert cleared: {each}" for each in getattr(value, "cleared", ())]


def _checks(value: Any) -> list[str]:
    rows = [
        (c.id, "on" if c.enabled else "off", f"{c.interval_s:g} s", f"{c.timeout_s:g} s", "yes" if c.critical else "no")
        for c in value.checks
    ]
    return table(rows, ("CHECK", "RUN", "EVERY", "LIMIT", "CRITICAL"))


def _metrics(value: Any) -> list[str]:
    rows = [
        (each.metric, each.operation_type or "", each.backend or "", each.status or "", figure(each.value), each.count,
         figure(each.percentile_95), each.unit)
        for each in value.figures
    ]  # fmt: skip
    return table(rows, ("METRIC", "OPERATION", "BACKEND", "STATUS", "VALUE", "OF", "P95", "UNIT"))


def _history(value: Any) -> list[str]:
    rows = []
    for series in value.series:
        name = " ".join(each for each in (series.operation_type, series.backend, series.status) if each) or "all"
        rows += [(point.start[:23], name, figure(point.value), point.count) for point in series.points]
    return table(rows, ("BEGINS", "OF", value.metric.upper(), "COUNT"))


def _audit_rows(value: Any) -> list[str]:
    rows = [
        (
            row.op, row.time[:19] + "Z", row.severity or "-", row.event_type or "(erased)", row.action or "-",
            row.user_id or "-", row.ip_address or "-", row.resource_id or "-", row.status or "-",
        )
        for row in value.rows
    ]  # fmt: skip
    head = ("OP", "TIME", "SEVERITY", "TYPE", "ACTION", "USER", "ADDRESS", "RESOURCE", "STATUS")
    return (table(rows, head) if rows else ["no rows"]) + (
        [f"… continue with --cursor {value.cursor}"] if value.cursor else []
    )


def _audit_report(value: Any) -> list[str]:
    lines = [f"{value.kind}: {value.events} events, {value.denials} refused calls, {value.first} to {value.last}"]
    for each in value.tables:
        cells = [tuple("-" if cell is None else str(cell) for cell in row) for row in each.rows]
        lines += ["", each.title, *(table(cells, tuple(each.columns)) if cells else ["none"])]
        lines += [f"… and {each.left_out} more"] if each.left_out else []
    return lines


def _audit_verdict(value: Any) -> list[str]:
    return [f"the trail is what was recorded: {value.events} audit rows, {value.records} records checked"]


def _alert_check(value: Any) -> list[str]:
    lines = [f"{each.state} {each.rule}: {each.message} [{each.severity}]" for each in value.changes]
    standing = [f"active {rule}: {key}" for rule, key in value.active]
    return [*lines, *standing] or ["no alerts"]


def _rules(value: Any) -> list[str]:
    rows = [
        (each.rule, "on" if each.enabled else "off", each.threshold, f"{each.window_s:g} s", each.severity, each.about)
        for each in value.rules
    ]
    return table(rows, ("RULE", "STATE", "FROM", "WITHIN", "SEVERITY", "ABOUT"))


def _detection(value: Any) -> list[str]:
    lines = [
        f"{each.detector} {each.subject}: {each.what}: {each.value:g} (usual {each.baseline:g}, told from "
        f"{each.threshold:g}), {len(each.ops)} ops from {each.ops[0]}"
        for each in value.hits
    ]
    return [*lines, f"{len(value.hits)} hits in {value.judged} rows, judged by {value.learned} before"]


def _timeline(value: Any) -> list[str]:
    rows = [
        (each.start[:19] + "Z", each.count, ", ".join(f"{k} {n}" for k, n in each.by.items())) for each in value.parts
    ]
    return table(rows, ("FROM", "COUNT", "BY")) if rows else ["no rows"]


def _vfs_rows(value: Any) -> list[str]:
    rows = [
        (
            row.op, row.time[:19] + "Z", row.backend or "(erased)", row.operation or "-", row.status or "-",
            "-" if row.duration_ms is None else f"{row.duration_ms:.3g} ms", row.path or "-",
        )
        for row in value.rows
    ]  # fmt: skip
    head = ("OP", "TIME", "BACKEND", "OPERATION", "STATUS", "TOOK", "PATH")
    return (table(rows, head) if rows else ["no rows"]) + (
        [f"… continue with --cursor {value.cursor}"] if value.cursor else []
    )


def _vfs_statistics(value: Any) -> list[str]:
    rows = []
    for one in value.backends:
        errors = "unknown" if one.error_rate is None else f"{one.error_rate:.1%}"
        mean = "unknown" if one.duration_ms_mean is None else f"{one.duration_ms_mean:.3g} ms"
        size = "unknown" if one.bytes is None else human_size(one.bytes)
        by = ", ".join(f"{name} {count}" for name, count in one.by_operation.items())
        rows.append((one.backend, one.operations, one.failed, errors, mean, size, by))
    head = ("BACKEND", "OPERATIONS", "FAILED", "ERRORS", "MEAN", "BYTES", "BY")
    lines = table(rows, head) if rows else ["no rows"]
    return lines + (["… older rows were left out"] if value.truncated else [])


def _watched(value: Any) -> list[str]:
    found = value.places if hasattr(value, "places") else [value]
    rows = [
        (
            one.path + ("" if one.present else "  (not there)"), one.bucket or "-", (one.compared or "never")[:19],
            "-" if one.files is None else one.files, "-" if one.size is None else human_size(one.size),
        )
        for one in found
    ]  # fmt: skip
    head = ("FOLDER", "OF", "COMPARED", "FILES", "SIZE")
    return table(rows, head) if rows else ["nothing is watched: ipfs-kit observer watch FOLDER"]


MARKS = {"added": "A", "modified": "M", "deleted": "D", "more": "…"}


def change_line(one: Any) -> str:
    """A change of a watched folder as one line."""
    if one.change is None:
        return "(erased)"
    by = f"  by {one.made_by}" if one.made_by else ""
    size = "" if one.size is None else f"  {human_size(one.size)}"
    counted = f"{cell(one.details)} not recorded singly" if one.change == "more" else one.path
    return f"{MARKS.get(one.change, '?')} {one.origin}  {os.path.join(one.place, counted)}{size}{by}"


def _compared(value: Any) -> list[str]:
    lines = [change_line(one) for one in value.changes]
    lines += [f"{path}: {why}" for path, why in value.problems]
    lines += [f"begun anew: {path}" for path in value.begun]
    more = value.added + value.modified + value.deleted - len(value.changes)
    lines += [f"… and {more} more, recorded: ipfs-kit observer changes"] if more else []
    total = f"{value.added} added, {value.modified} modified, {value.deleted} deleted, {value.inside} of them inside"
    return [*lines, f"{total}; {value.entries} entries looked at"]


def _observed(value: Any) -> list[str]:
    lines = [f"{one.time[:19]}Z  {change_line(one)}" for one in value.changes]
    return (lines or ["no changes"]) + ([f"… continue with --cursor {value.cursor}"] if value.cursor else [])


def _observer_figures(value: Any) -> list[str]:
    groups = ("cache_performance", "access_patterns", "filesystem_metrics", "text_index_status", "resource_utilization")
    lines = []
    for name in groups:
        lines += [name.replace("_", " "), *(f"  {line}" for line in known(getattr(value, name)))]
    for name in ("vector_index_status", "knowledge_base_status"):
        lines.append(
            f"{name.replace('_', ' ')}: {'unknown' if getattr(value, name) is None else cell(getattr(value, name))}"
        )
    for one in value.recommendations:
        lines.append(f"advice: {one.advice} ({one.figure} {one.value:.3g}, limit {one.threshold:g} {one.unit})")
    return lines


LINES: Mapping[str, Callable[[Any], list[str]]] = {
    "audit.query": _audit_rows,
    "audit.report": _audit_report,
    "audit.verify": _audit_verdict,
    "audit.timeline": _timeline,
    "audit.rules": _rules,
    "audit.check_alerts": _alert_check,
    "audit.detect": _detection,
    "vfs_journal.query": _vfs_rows,
    "vfs_journal.statistics": _vfs_statistics,
    "vfs_journal.timeline": _timeline,
    "observer.watch": _watched,
    "observer.unwatch": _watched,
    "observer.watched": _watched,
    "observer.scan": _compared,
    "observer.changes": _observed,
    "observer.figures": _observer_figures,
    "telemetry.metrics": _metrics,
    "telemetry.history": _history,
    "telemetry.prometheus": lambda value: value.text.splitlines(),
    "health.run": _health,
    "health.report": _health,
    "health.status": _health,
    "health.history": _health,
    "health.checks": _checks,
    "logs.list": _logs,
    "logs.query": _log_rows,
    "logs.tail": lambda value: [*value.lines, f"(cursor {value.cursor})"],
    "logs.rotate": _rotated,
    "logs.versions": _log_versions,
    "logs.diff": _log_diff,
}
"""Lines of each operation's result."""
