"""What stands between a change and a bucket: room, protected branches, rules and hooks. Settings are in ``settings``."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.buckets import commits
from ipfs_kit.buckets import diff as diffs
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.buckets.refs import BRANCHES
from ipfs_kit.buckets.settings import Judge, Protection, Settings
from ipfs_kit.buckets.tree import Step, growth
from ipfs_kit.errors import InvalidInput, KitError, Protected, QuotaExceeded, RuleRefused
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Kind, open_file

if TYPE_CHECKING:
    from ipfs_kit.buckets.space import Space
    from ipfs_kit.buckets.workspace import Query, Workspace

REFUSALS_MAX: Final = 100
"""Refusals named in one error; checking stops there."""
HOOKS_MAX: Final = 100
HOOK_READ_MAX: Final = 64 * 1024 * 1024
"""Most bytes of one file that a hook is given."""


@dataclass(frozen=True, slots=True)
class ProposedChange:
    """One path that a commit would change, as a hook sees it.

    Args:
        path: The path, ``/a/b``.
        change: ``added``, ``removed``, ``modified``, ``type_changed`` or ``meta``.
        kind: ``file``, ``dir`` or ``symlink``; None for what is removed.
        size: Content bytes; 0 for what is removed.
        cid: CID of the content; None for what is removed.
        read: Returns the content of a file, at most 64 MiB of it.
    """

    path: str
    change: str
    kind: str | None
    size: int
    cid: CID | None
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A commit before it is made.

    Args:
        bucket: Name of the bucket.
        branch: Branch it goes to.
        changes: Gives every path it changes, in path order; reads only what differs.
    """

    bucket: str
    branch: str
    changes: Callable[[], Iterator[ProposedChange]]


Hook = Callable[[Proposal], str | None]
"""Looks at a commit before it is made; returns why it is refused, or None. Asked again when others move the branch meanwhile."""


class Hooks:
    """Hooks that an embedding program registered in this process; safe to use from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._hooks: tuple[tuple[str, str | None, Hook], ...] = ()

    def add(self, name: str, hook: Hook, *, bucket: str | None = None) -> None:
        """Have every commit of this process looked at first.

        Args:
            name: Names it in refusals; one of the same name is replaced.
            hook: Returns why the commit is refused, or None. What it raises refuses the commit, too.
            bucket: Only commits of this bucket; None for all.

        Raises:
            InvalidInput: The name is empty, or there are too many.
        """
        if not name or len(name) > 64 or not name.isprintable():
            raise InvalidInput("a hook's name has 1 to 64 printable characters")
        with self._guard:
            kept = tuple(each for each in self._hooks if each[0] != name)
            if len(kept) >= HOOKS_MAX:
                raise InvalidInput(f"at most {HOOKS_MAX} hooks can be registered; remove some")
            self._hooks = (*kept, (name, bucket, hook))

    def remove(self, name: str) -> bool:
        """Forget a hook; whether there was one."""
        with self._guard:
            kept = tuple(each for each in self._hooks if each[0] != name)
            gone = len(kept) < len(self._hooks)
            self._hooks = kept
        return gone

    def of(self, bucket: str) -> list[tuple[str, Hook]]:
        """Those that look at commits of a bucket, in the order they were added."""
        return [(name, hook) for name, only, hook in self._hooks if only is None or only == bucket]


def settings_are_kept(query: Query) -> bool:
    """Whether ``state.db`` has settings at all: not so where a store of before them is open for reading only."""
    return bool(query("SELECT 1 FROM sqlite_schema WHERE name='bucket_settings'", ()))


def settings_now(query: Query, space: Space) -> Settings:
    """The settings of a bucket as they stand; ``query`` is the transaction's inside one."""
    if space.state.read_only and not settings_are_kept(query):
        return Settings()
    rows = query(
        "SELECT op_index, value FROM bucket_settings WHERE bucket=? ORDER BY op_index DESC LIMIT 1", (space.row.id,)
    )
    if not rows:
        return Settings()
    index, value = int(rows[0][0]), bytes(rows[0][1])
    known = space.settings
    if known is not None and known[0] == value and known[1].op_index == index:
        return known[1]
    found = Settings.decode(space.unseal(value), index)
    space.settings = (value, found)
    return found


# -- room ----------------------------------------------------------------------------------------------------------


def check_room(settings: Settings, workspace: Workspace, steps: Sequence[Step]) -> None:
    """Under the lock, before anything is recorded: the session stays within the quota, or shrinks.

    Raises:
        QuotaExceeded: It would not.
    """
    if not settings.quota.unlimited:
        more, larger = growth(workspace.space.view, steps)
        check_totals(settings, workspace.space, workspace.totals(), more, larger)


def check_totals(settings: Settings, space: Space, now: tuple[int, int], more: int, larger: int) -> None:
    """What a session holds and grows by, against the quota.

    Args:
        settings: Of the bucket.
        space: The bucket.
        now: Entries and bytes held.
        more: Entries it grows by; may be negative.
        larger: Bytes it grows by; may be negative.

    Raises:
        QuotaExceeded: It grows beyond the quota.
    """
    quota = settings.quota
    for what, limit, held, grown in (
        ("bytes", quota.size_bytes, now[1], larger),
        ("entries", quota.entries, now[0], more),
    ):
        if limit is not None and grown > 0 and held + grown > limit:
            raise QuotaExceeded(
                f"bucket {space.name!r} may hold {limit} {what}; it holds {held}, and {grown} more do not fit: remove "
                "something, or have the quota raised (bucket.set_quota)",
                bucket=space.name,
                limit=limit,
                held=held,
                wanted=grown,
                unit=what,
            )


# -- protected branches --------------------------------------------------------------------------------------------


def check_move(
    settings: Settings, space: Space, name: str, before: CID | None, after: CID | None, *, merge: bool
) -> None:
    """Whether a ref may be moved so.

    Args:
        settings: Of the bucket.
        space: The bucket.
        name: Full name of the ref.
        before: The commit it names.
        after: The commit it will name; None when it is deleted.
        merge: Whether a merge of another branch moves it.

    Raises:
        Protected: It is a protected branch and this takes commits from it, or is no merge where only merges may.
    """
    if before is None or before == after or not name.startswith(BRANCHES):
        return
    branch = name.removeprefix(BRANCHES)
    protection = settings.protecting(branch)
    if protection is None:
        return
    if after is None:
        raise _protected(space, branch, protection, "it may not be deleted")
    parents = commits.load(space.get, after).parents
    if before not in parents and not commits.is_ancestor(space.get, before, after):
        raise _protected(space, branch, protection, "it may only move forward, and this would take commits from it")
    if protection.merges_only and not merge:
        raise _protected(
            space, branch, protection, "only a merge of another branch may move it: commit to one and merge"
        )


def protected_branch(settings: Settings, branches: Sequence[str]) -> str | None:
    """The first of some branches that is protected; None when none is."""
    return next((branch for branch in branches if settings.protecting(branch) is not None), None)


def _protected(space: Space, branch: str, protection: Protection, why: str) -> Protected:
    return Protected(
        f"branch {branch!r} of bucket {space.name!r} is protected: {why}. Whoever holds bucket:admin may pass override, "
        "or remove the protection (versions.unprotect)",
        bucket=space.name,
        branch=branch,
        pattern=protection.branch,
    )


# -- rules and hooks -----------------------------------------------------------------------------------------------


def check_changes(settings: Settings, hooks: Hooks, space: Space, branch: str, before: Item, after: Item) -> None:
    """Ask the rules of a bucket and the hooks of this process about what a branch would gain.

    Args:
        settings: Of the bucket.
        hooks: Those of this process.
        space: The bucket.
        branch: The branch.
        before: Root of its present head.
        after: Root of the head it would have.

    Raises:
        RuleRefused: A rule or hook refuses; ``details["refusals"]`` names each rule, path and reason.
    """
    judge = Judge(settings, branch)
    if judge:
        found: list[dict[str, str]] = []
        for change in diffs.diff(space.view, before, after):
            refusal = judge.refusal(change)
            if refusal is not None:
                found.append({"rule": refusal[0], "path": change.path, "reason": refusal[1]})
                if len(found) == REFUSALS_MAX:
                    break
        if found:
            raise _refused(space, branch, found)
    proposal = Proposal(space.name, branch, lambda: _proposed(space, before, after))
    for name, hook in hooks.of(space.name):
        try:
            why = hook(proposal)
        except KitError:
            raise
        except Exception as exc:  # a program's own check: whatever it raises is its refusal
            why = f"it failed: {type(exc).__name__}: {exc}"
        if why:
            raise _refused(space, branch, [{"rule": name, "path": "/", "reason": str(why)[:1000]}])


def _proposed(space: Space, before: Item, after: Item) -> Iterator[ProposedChange]:
    for change in diffs.diff(space.view, before, after):
        item = change.after
        yield ProposedChange(
            change.path,
            change.kind.value,
            item.kind.value if item is not None else None,
            item.size if item is not None else 0,
            item.cid if item is not None else None,
            _reader(space, item),
        )


def _reader(space: Space, item: Item | None) -> Callable[[], bytes]:
    def read() -> bytes:
        if item is None or item.kind is not Kind.FILE:
            return b""
        with open_file(item.cid, space.get) as stream:
            return bytes(stream.read(min(item.size, HOOK_READ_MAX)))

    return read


def _refused(space: Space, branch: str, found: list[dict[str, str]]) -> RuleRefused:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return RuleRefused(
        f"rule {first['rule']!r} of bucket {space.name!r} refuses {first['path']!a} on branch {branch!r}: "
        f"{first['reason']}{more}. Mend or remove it, then commit again",
        bucket=space.name,
        branch=branch,
        rule=first["rule"],
        path=first["path"],
        refusals=found,
    )


def settings_digest(row: Sequence[Any]) -> bytes:
    """What an op's record keeps of a row of ``bucket_settings``: half of the SHA-256 of its dag-cbor list."""
    return hashlib.sha256(dag_cbor.encode(list(row))).digest()[:16]


def told_settings(space: Space, settings: Settings) -> list[Any] | None:
    """Settings for an op's record; None for a sealed bucket, whose patterns must not outlive its key."""
    if space.row.kind is BucketKind.SEALED:
        return None
    told: list[Any] = dag_cbor.decode(settings.encode())
    return told
