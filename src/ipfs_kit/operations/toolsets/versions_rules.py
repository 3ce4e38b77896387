"""Protected branches and rules of commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.settings import Protection, Rule, Settings
from ipfs_kit.errors import NotFound
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import with_value
from ipfs_kit.operations.places import READ, WRITE, Touch
from ipfs_kit.operations.toolsets.versions import ADMIN

Name = Annotated[str, Arg("the bucket", positional=True)]
Branch = Annotated[str, Arg("the branch, or a pattern with * and ?", positional=True)]
Patterns = list[str] | None


def _bucket(bound: Mapping[str, Any]) -> str:
    return str(bound["bucket"])


@dataclass(frozen=True, slots=True)
class ProtectionList:
    """Protected branches of a bucket, by pattern."""

    protections: list[Protection]


@dataclass(frozen=True, slots=True)
class CommitRules:
    """Rules of a bucket, by name."""

    rules: list[Rule]


@operation(
    "versions.protect",
    Mode.WRITE,
    ADMIN,
    idempotent=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def versions_protect(
    ctx: Context,
    bucket: Name,
    branch: Branch,
    merges_only: Annotated[bool, Arg("let only merges of other branches move it")] = False,
) -> ProtectionList:
    """Protect branches: none may be deleted, nor lose a commit by reset, rebase or undo, nor its bucket be deleted."""
    done: ProtectionList = ctx.commit(
        lambda: with_value(
            ctx.engine.buckets.change_settings(
                bucket, lambda settings: settings.with_protection(Protection(branch, merges_only))
            ),
            _protections,
        )
    )
    return done


@operation(
    "versions.unprotect",
    Mode.WRITE,
    ADMIN,
    destructive=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def versions_unprotect(ctx: Context, bucket: Name, branch: Branch) -> ProtectionList:
    """Remove the protection of a branch or pattern."""

    def change(settings: Settings) -> Settings:
        found = settings.without_protection(branch)
        if found is None:
            raise NotFound(f"bucket {bucket!r} has no protection of {branch!r}; list them with versions.protections")
        return found

    done: ProtectionList = ctx.commit(
        lambda: with_value(ctx.engine.buckets.change_settings(bucket, change), _protections)
    )
    return done


@operation("versions.protections", Mode.READ, "files:read", target=_bucket, places=(Touch("bucket", READ, whole=True),))
def versions_protections(ctx: Context, bucket: Name) -> ProtectionList:
    """List the protected branches of a bucket."""
    return _protections(ctx.engine.buckets.settings(bucket))


@operation(
    "versions.rule_set",
    Mode.WRITE,
    ADMIN,
    idempotent=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def versions_rule_set(
    ctx: Context,
    bucket: Name,
    name: Annotated[str, Arg("its name in refusals", positional=True)],
    paths: Annotated[Patterns, Arg("paths it is for, as in .gitignore; all when left out")] = None,
    branches: Annotated[Patterns, Arg("branches it is for, with * and ?; all when left out")] = None,
    deny: Annotated[bool, Arg("let nothing be added or changed there")] = False,
    max_bytes: Annotated[int | None, Arg("largest file", minimum=0)] = None,
    types: Annotated[Patterns, Arg("allowed media types, such as image/*")] = None,
    kinds: Annotated[Patterns, Arg("allowed kinds: file, dir, symlink")] = None,
    advice: Annotated[str, Arg("what a refusal tells people to do")] = "",
) -> CommitRules:
    """Set a rule that every new head of a branch must keep: sizes, media types, kinds and paths of what it changes."""
    rule = Rule(
        name,
        tuple(paths or ()),
        tuple(branches or ()),
        deny,
        max_bytes,
        tuple(types or ()),
        tuple(kinds or ()),
        advice,
    )
    done: CommitRules = ctx.commit(
        lambda: with_value(
            ctx.engine.buckets.change_settings(bucket, lambda settings: settings.with_rule(rule)), _rules
        )
    )
    return done


@operation(
    "versions.rule_delete",
    Mode.WRITE,
    ADMIN,
    destructive=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def versions_rule_delete(
    ctx: Context, bucket: Name, name: Annotated[str, Arg("the rule's name", positional=True)]
) -> CommitRules:
    """Remove a rule of a bucket."""

    def change(settings: Settings) -> Settings:
        found = settings.without_rule(name)
        if found is None:
            raise NotFound(f"bucket {bucket!r} has no rule {name!r}; list them with versions.rule_list")
        return found

    done: CommitRules = ctx.commit(lambda: with_value(ctx.engine.buckets.change_settings(bucket, change), _rules))
    return done


@operation("versions.rule_list", Mode.READ, "files:read", target=_bucket, places=(Touch("bucket", READ, whole=True),))
def versions_rule_list(ctx: Context, bucket: Name) -> CommitRules:
    """List the rules that commits to a bucket must keep."""
    return _rules(ctx.engine.buckets.settings(bucket))


def _protections(settings: Settings) -> ProtectionList:
    return ProtectionList(list(settings.protections))


def _rules(settings: Settings) -> CommitRules:
    return CommitRules(list(settings.rules))
