"""Which file system a path lies on; network ones are refused because their locks and syncs do not hold (decision 2)."""

from __future__ import annotations

import os
import re
from typing import Final

from ipfs_kit.durable.files import PathLike
from ipfs_kit.errors import Unsupported

_NETWORK: Final = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "coda", "ceph", "lustre", "glusterfs", "gpfs"}
    | {"beegfs", "orangefs", "pvfs2", "gfs2", "ocfs2"}
)
_NETWORK_FUSE: Final = frozenset(
    {"sshfs", "s3fs", "rclone", "gcsfuse", "goofys", "glusterfs", "ceph", "cephfs", "davfs", "curlftpfs", "smbnetfs"}
    | {"juicefs", "mfs", "moosefs", "blobfuse", "blobfuse2", "mount-s3", "geesefs", "hdfs"}
)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def filesystem_of(path: PathLike, mountinfo: str | None = None) -> str | None:
    """Name the file system type a path lies on.

    Args:
        path: An existing file or directory.
        mountinfo: The text of ``/proc/self/mountinfo``; read when None.

    Returns:
        The type as the kernel names it, for example ``ext4`` or ``fuse.sshfs``; None when it cannot be told.
    """
    if mountinfo is None:
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                mountinfo = file.read()
        except OSError:
            return None
    real = os.path.realpath(path)
    best, found = -1, None
    for line in mountinfo.splitlines():
        # proc(5): the fields before " - " vary in number; the mount point is the fifth, the type the first after.
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = real == point or real.startswith(point if point.endswith("/") else point + "/")
        # A later line of equal length is mounted over the earlier one.
        if inside and len(point) >= best:
            best, found = len(point), right.split(" ", 1)[0]
    return found


def is_network(kind: str) -> bool:
    """Whether a file system type is shared between machines."""
    if kind.startswith("fuse."):
        return kind[5:] in _NETWORK_FUSE
    return kind in _NETWORK


def refuse_network(path: PathLike) -> None:
    """Refuse a store on a file system shared between machines.

    Raises:
        Unsupported: The path lies on a network file system.
    """
    kind = filesystem_of(path)
    if kind is not None and is_network(kind):
        raise Unsupported(
            f"{os.fspath(path)} lies on {kind}, where locks and syncs do not hold: put the store on a local disk",
            path=os.fspath(path),
            filesystem=kind,
        )
