"""Share links: one entry of a version with the proof of where it comes from."""

from __future__ import annotations

from typing import Annotated

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.ipld import CID
from ipfs_kit.operations import sharing
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import PAST, READ, Everywhere, Touch


@dataclass(frozen=True, slots=True)
class ShareInfo:
    """A share.

    Args:
        cid: CID of the entry.
        path: Its path in the version.
        commit: The version.
        root: CID of the version's content.
        op: The op that made the version.
        link: The whole share as one link; None when it is too long for one.
        text: The whole share as a JSON file.
    """

    cid: CID
    path: str
    commit: CID
    root: CID
    op: str
    link: str | None
    text: str


@dataclass(frozen=True, slots=True)
class ShareCheck:
    """What a checked share shows: this log recorded the op that made this version, which holds this entry there.

    Args:
        cid: CID of the entry; fetch its content from anywhere.
        path: Its path in the version.
        commit: The version.
        root: CID of the version's content.
        op: The op that made the version.
        origin: The log that signed.
    """

    cid: CID
    path: str
    commit: CID
    root: CID
    op: str
    origin: str


@operation("versions.share", Mode.READ, "files:read", places=(Touch("state", READ | PAST, whole=True),))
def versions_share(
    ctx: Context,
    state: Annotated[str, Arg("what to share: BUCKET[@branch|@tag|@commit|@op:N|@time:T][:/path]", positional=True)],
) -> ShareInfo:
    """Make a self-contained link to one entry of a version: its CID, its commit, and the log's proof of that commit."""
    made = sharing.make(ctx.engine, state)
    return ShareInfo(made.cid, made.path, made.commit, made.root, made.op, made.link(), made.text())


@operation("versions.check_share", Mode.READ, "ledger:read", places=Everywhere("reads the log's key"))
def versions_check_share(
    ctx: Context,
    share: Annotated[str, Arg("the link, or the text of the file", positional=True, content=True)],
    vkey: Annotated[str | None, Arg("verifier key of the log that signed; this store's own when left out")] = None,
) -> ShareCheck:
    """Check a share: the proof of its op, the commit that op made, and the way from that commit to the CID."""
    found = sharing.read(share)
    origin = sharing.check(ctx.engine, found, vkey)
    return ShareCheck(found.cid, found.path, found.commit, found.root, found.op, origin)
