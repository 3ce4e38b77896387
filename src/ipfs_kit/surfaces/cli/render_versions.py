"""What the command line shows of versions and of settings of buckets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ipfs_kit.surfaces.cli.tables import table
from ipfs_kit.surfaces.text import human_size


def _changes(changes: Sequence[Any], truncated: bool) -> list[str]:
    marks = {"added": "A", "removed": "D", "modified": "M", "metadata": "m", "type_changed": "T"}
    return [f"{marks.get(str(c.change), '?')} {c.path}" for c in changes] + (
        ["… and more: raise --limit"] if truncated else []
    )


def _diff(value: Any) -> list[str]:
    return _changes(value.changes, value.truncated)


def _status(value: Any) -> list[str]:
    head = f"on {value.branch}, last commit {value.head or 'none'}"
    return [head, "clean: nothing to commit"] if value.clean else [head, *_changes(value.changes, value.truncated)]


def _log(value: Any) -> list[str]:
    lines = []
    for commit in value.commits:
        who = commit.author if commit.author is not None else "(erased)"
        lines += [f"commit {commit.cid}", f"  {commit.time}  {who}", f"  root {commit.root}"]
        lines += [f"  {line}" for line in (commit.message if commit.message is not None else "(erased)").splitlines()]
        lines += [f"  {key}: {kept}" for key, kept in (commit.metadata or {}).items()]
    more = [f"… continue with --cursor {value.cursor}"] if value.cursor else []
    return (lines or ["no commits"]) + more


def _refs(value: Any) -> list[str]:
    return table([(ref.name, ref.cid or "(no commit)") for ref in value.refs])


def _committed(value: Any) -> list[str]:
    said = f"committed to {value.branch}" if value.created else "nothing to commit"
    return [f"{said}: {value.commit}", f"root {value.root}"]


def _blame(value: Any) -> list[str]:
    rows = []
    for each in value.entries:
        name = each.path.rpartition("/")[2] + ("/" if each.kind == "dir" else "")
        found = each.commit
        if found is None:
            rows.append((name, "(older)", "", "", ""))
        else:
            subject = "(erased)" if found.message is None else found.message.partition("\n")[0]
            rows.append((name, f"{found.time[:19]}Z", str(found.cid)[-12:], found.author or "(erased)", subject))
    more = [f"… continue with --cursor {value.cursor}"] if value.cursor else []
    return (table(rows, ("NAME", "CHANGED", "COMMIT", "BY", "WHAT")) if rows else ["nothing is committed there"]) + more


def _rebased(value: Any) -> list[str]:
    dropped = f", {value.dropped} left out" if value.dropped else ""
    said = f"{value.replayed} commits replayed{dropped}" if value.created else f"nothing to replay{dropped}"
    return [f"{value.branch} is at {value.commit}: {said}", f"root {value.root}"]


def _merged(value: Any) -> list[str]:
    return _committed(value) if value.created else _moved(value)


def _moved(value: Any) -> list[str]:
    return [f"{value.branch} is at {value.commit}", f"root {value.root}"]


def _protections(value: Any) -> list[str]:
    rows = [(each.branch, "merges only" if each.merges_only else "forward only") for each in value.protections]
    return table(rows, ("BRANCH", "MAY BE MOVED BY")) if rows else ["no protected branches"]


def _rules(value: Any) -> list[str]:
    rows = []
    for rule in value.rules:
        demands = ["nothing at all"] if rule.deny else []
        demands += [f"files up to {human_size(rule.max_bytes)}"] if rule.max_bytes is not None else []
        demands += [f"types {' '.join(rule.types)}"] if rule.types else []
        demands += [f"kinds {' '.join(rule.kinds)}"] if rule.kinds else []
        rows.append(
            (rule.name, " ".join(rule.paths) or "(all)", " ".join(rule.branches) or "(all)", "; ".join(demands))
        )
    return table(rows, ("RULE", "PATHS", "BRANCHES", "ALLOWED")) if rows else ["no rules"]


def _bucket_status(value: Any) -> list[str]:
    def of(held: str, limit: str | None) -> str:
        return f"{held} of {limit}" if limit is not None else f"{held}, no limit"

    size = None if value.quota_bytes is None else human_size(value.quota_bytes)
    entries = None if value.quota_entries is None else str(value.quota_entries)
    rows = [
        ("bucket", value.name),
        ("branch", value.branch),
        ("head", value.head or "no commit yet"),
        ("bytes", of(human_size(value.size_bytes), size)),
        ("files", of(str(value.files), entries)),
        ("protected", " ".join(value.protected) or "none"),
        ("rules", " ".join(value.rules) or "none"),
    ]
    return table(rows)


def _problems(value: Any) -> list[str]:
    lines = [f"not read: {each.path}: {each.detail}" for each in value.problems[:20]]
    left = value.problems_count - len(lines)
    return lines + ([f"… and {left} more"] if left > 0 else [])


def _snapshot(value: Any) -> list[str]:
    what = f"version {value.commit} on {value.branch}" if value.created else f"nothing changed since {value.commit}"
    read = f"{value.changed} paths changed; read {value.read} of {value.files} files, {human_size(value.read_bytes)}"
    return [what, f"root {value.root}", read, *_problems(value)]


def _folder_status(value: Any) -> list[str]:
    lines = _changes(value.changes, value.truncated) or ["nothing changed"]
    return [*lines, f"read {value.read} of {value.files} files", *_problems(value)]


def _folder_restored(value: Any) -> list[str]:
    done = f"{value.folder} holds {value.state}: {value.changed} paths differed, {value.files} files written"
    return [done, f"root {value.root}", *_problems(value)]


def _share(value: Any) -> list[str]:
    # A share too long for a link is the file itself.
    return [value.link] if value.link is not None else [value.text]


def _share_check(value: Any) -> list[str]:
    return [
        f"verified: {value.path} of version {value.commit} is {value.cid}",
        f"made by {value.op} of {value.origin}",
    ]


def _exported(value: Any) -> list[str]:
    since = f", after {len(value.since)} commits the receiver has" if value.since else ""
    return [
        f"{value.bucket}: {value.commits} commits, {value.blocks} blocks, {human_size(value.size)}{since}",
        f"refs {' '.join(value.refs)}",
        f"root {value.cid}",
    ]


def _imported(value: Any) -> list[str]:
    what = "made" if value.created else "brought forward" if value.refs else "already there"
    moved = [f"refs {' '.join(name.partition('/')[2] for name in value.refs)}"] if value.refs else []
    return [f"{value.bucket}: {what}, {value.commits} commits and {value.blocks} blocks checked", *moved]


VERSIONS: Final[dict[str, Callable[[Any], list[str]]]] = {
    "bucket.status": _bucket_status,
    "bucket.export": _exported,
    "bucket.import": _imported,
    "versions.diff": _diff,
    "versions.status": _status,
    "versions.log": _log,
    "versions.blame": _blame,
    "versions.commit": _committed,
    "versions.merge": _merged,
    "versions.revert": _committed,
    "versions.cherry_pick": _committed,
    "versions.reset": _moved,
    "versions.rebase": _rebased,
    "versions.protect": _protections,
    "versions.unprotect": _protections,
    "versions.protections": _protections,
    "versions.rule_set": _rules,
    "versions.rule_delete": _rules,
    "versions.rule_list": _rules,
    "versions.share": _share,
    "versions.check_share": _share_check,
    "versions.snapshot": _snapshot,
    "versions.folder_status": _folder_status,
    "versions.folder_restore": _folder_restored,
    "versions.branch_list": _refs,
    "versions.tag_list": _refs,
}
"""Shapes results of operations for people, by name."""
