"""What may be remembered beside an entry's content: mode, media type, tags and user metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld import dag_cbor

ATTRS_BYTES_MAX = 16_384
"""Largest encoded mode, type, tags and user metadata of one entry."""


def check_attrs(attrs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Attributes that may be stored: known keys, plain values, bounded size; None when nothing is set.

    Raises:
        InvalidInput: an unknown key, a wrong type, or more than 16 KiB.
    """
    kept = {key: value for key, value in attrs.items() if value not in (None, {}, "")}
    unknown = kept.keys() - {"mode", "type", "tags", "user"}
    if unknown:
        raise InvalidInput(f"unknown entry attributes: {', '.join(sorted(map(str, unknown)))}")
    mode = kept.get("mode")
    if mode is not None and (not isinstance(mode, int) or not 0 <= mode <= 0o7777):
        raise InvalidInput("mode must be permission bits, 0 to 0o7777")
    if not isinstance(kept.get("type", ""), str):
        raise InvalidInput("content_type must be text")
    tags = kept.get("tags", {})
    if not isinstance(tags, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in tags.items()):
        raise InvalidInput("tags must map text to text")
    if not isinstance(kept.get("user", {}), Mapping):
        raise InvalidInput("metadata must be a mapping")
    if kept and len(dag_cbor.encode(kept)) > ATTRS_BYTES_MAX:
        raise InvalidInput(
            f"tags and metadata of one entry take more than {ATTRS_BYTES_MAX} bytes; store them as a file"
        )
    return kept or None
