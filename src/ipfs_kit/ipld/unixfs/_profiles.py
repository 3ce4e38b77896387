"""Named sets of import settings: with one profile, the same content has one CID everywhere (IPIP-499)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.ipld.chunkers import CDC_64K, CDC_V1

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that decides the CID of given content."""

    name: str
    cid_version: Literal[0, 1]
    raw_leaves: bool
    """Leaves are raw blocks; otherwise dag-pb nodes of UnixFS type File."""
    chunker: Literal["fixed", "fastcdc"]
    chunk_size: int
    """Bytes of a fixed chunk, or the average parameter of the content-defined chunker, see ``chunkers.CDC_BY_AVERAGE``."""
    max_links: int
    """Links of one file node."""
    hamt_fanout: int
    hamt_threshold: int
    """A directory is sharded exactly when its size is above this many bytes."""
    hamt_by: Literal["block", "links"]
    """Size of a directory: its serialized plain block, or the sum of name and binary CID lengths."""

    @property
    def cid_head(self) -> bytes:
        """Bytes before the digest of the CIDs of this profile's dag-pb nodes."""
        return _HEADS[self.cid_version]


_HEADS: Final = (b"\x12\x20", b"\x01\x70\x12\x20")

DEFAULT_PROFILE: Final = Profile("unixfs-v1-2025", 1, True, "fixed", 1024 * KIB, 1024, 256, 256 * KIB, "block")
"""IPIP-499 ``unixfs-v1-2025``."""

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "unixfs-v1-2025": DEFAULT_PROFILE,
        "unixfs-v0-2015": Profile("unixfs-v0-2015", 0, False, "fixed", 256 * KIB, 174, 256, 256 * KIB, "links"),
        "unixfs-v1-cdc": Profile("unixfs-v1-cdc", 1, True, "fastcdc", CDC_V1.avg_bytes, 1024, 256, 256 * KIB, "block"),
        "unixfs-v1-cdc-64k": Profile(
            "unixfs-v1-cdc-64k", 1, True, "fastcdc", CDC_64K.avg_bytes, 1024, 256, 256 * KIB, "block"
        ),
    }
)
"""Profiles by name. The two IPIP-499 profiles equal Kubo's of the same names; the ``unixfs-v1-cdc`` ones are ours."""
