"""Results as MCP replies: data fields, resource links for what is big, and provenance in ``_meta``."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from ipfs_kit.errors import InvalidInput, KitError, NotFound
from ipfs_kit.ipld import CID, codecs
from ipfs_kit.operations.dispatcher import MustWait
from ipfs_kit.operations.results import Content, Result, to_json

if TYPE_CHECKING:
    import mcp_types as types

    from ipfs_kit.operations.kit import Kit

INLINE_BYTES_MAX = 128 * 1024
"""Larger results come as a resource link: an agent's context is small."""
RESOURCE_BYTES_MAX = 8 << 20
"""Most bytes of one resource read; larger files are read by range with files_read."""
URI_PREFIX = "ipfs://"
PATH_PREFIX = "ipfs-kit:///"
"""A file by bucket path: content of sealed buckets cannot be read by its address alone."""

_HIDDEN = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def reply(kit: Kit, result: Result, path: Any = None, *, may_wait: bool = True) -> types.CallToolResult:
    """Render a result.

    Args:
        kit: Where results too big to inline are kept as blocks.
        result: From the dispatcher.
        path: The path argument of the call, which names sealed content where a CID alone cannot be read.
        may_wait: Whether a block may be written.

    Raises:
        MustWait: A block has to be written and may not.
    """
    import mcp_types as types

    value = result.value
    content: list[Any]
    if isinstance(value, Content) and value.length > INLINE_BYTES_MAX:
        data: dict[str, Any] = {
            "cid": str(value.cid),
            "size": value.size,
            "offset": value.offset,
            "length": value.length,
        }
        content = [_link(_uri(value.cid, path), str(value.cid), value.size, "the file's content; or read it by range")]
    else:
        data = {"result": to_json(value)}
        raw = json.dumps(data, ensure_ascii=False)
        if len(raw) > INLINE_BYTES_MAX:
            if not may_wait:
                raise MustWait
            block = raw.encode("utf-8", "backslashreplace")
            cid = CID.of(block)
            kit.engine.blocks.put(cid, block, verify=False)
            content = [_link(_uri(cid), str(cid), len(block), "the whole result as JSON")]
            data = {"cid": str(cid), "size": len(block)}
        else:
            content = [types.TextContent(type="text", text=_escaped(raw))]
    return types.CallToolResult(content=content, structured_content=data, _meta=provenance(result))


def provenance(result: Result) -> dict[str, Any]:
    """The ``_meta`` of every result."""
    return ({} if result.warning is None else {"ipfs-kit/warning": result.warning}) | {
        "ipfs-kit/op": result.op_id,
        "ipfs-kit/cid": to_json(result.cid),
        "ipfs-kit/ack": result.ack,
        "ipfs-kit/proof": {
            "log": result.log,
            "index": result.index,
            "record": to_json(result.record_cid),
            "tool": "ledger_prove",
        },
    }


def failure(kit: Kit, error: KitError) -> types.CallToolResult:
    """Render an error the agent can act on; details are data, the message is ours.

    Args:
        kit: Where the failure is recorded.
        error: What the call raised.
    """
    import mcp_types as types

    data = {"error": {"kind": str(error.kind), "message": error.message, "details": to_json(error.details)}}
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=as_text(data))],
        structured_content=data,
        is_error=True,
        _meta=_provenance_of_failure(kit, error),
    )


def _provenance_of_failure(kit: Kit, error: KitError) -> dict[str, Any]:
    """The ``_meta`` of an error; a failed read may not have its place in the log yet, so its proof is asked for by id."""
    meta: dict[str, Any] = {
        "ipfs-kit/op": error.op or "none",
        "ipfs-kit/cid": "none",
        "ipfs-kit/ack": "buffered" if error.op else "none",
        "ipfs-kit/proof": {"op": error.op, "tool": "ledger_prove"},
    }
    if error.op is None:
        return meta
    try:
        log, index = kit.engine.find_op(error.op)
        record = str(kit.engine.ledger.record_cid(log, index))
    except NotFound:
        return meta
    proof = {"log": log, "index": index, "record": record, "tool": "ledger_prove"}
    return meta | {"ipfs-kit/cid": record, "ipfs-kit/ack": "fsync", "ipfs-kit/proof": proof}


def as_text(data: Any) -> str:
    """JSON text in which control, bidirectional and invisible characters are escaped; it decodes to the same data."""
    return _escaped(json.dumps(data, ensure_ascii=False))


def _escaped(text: str) -> str:
    return text if text.isascii() and "\x7f" not in text else _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def resource(uri: str, data: bytes) -> types.ReadResourceResult:
    """Render the content of a resource: text when it is UTF-8, else base64."""
    import mcp_types as types

    try:
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=uri, mime_type="text/plain", text=data.decode("utf-8"))]
        )
    except UnicodeDecodeError:
        blob = base64.b64encode(data).decode("ascii")
        return types.ReadResourceResult(
            contents=[types.BlobResourceContents(uri=uri, mime_type="application/octet-stream", blob=blob)]
        )


def reference(uri: str) -> tuple[str, str]:
    """The operation and path that read a resource.

    Raises:
        InvalidInput: The URI is none of this server's.
    """
    for prefix, operation in ((URI_PREFIX, "store.cat"), (PATH_PREFIX, "files.read")):
        if uri.startswith(prefix):
            return operation, unquote(uri.removeprefix(prefix), errors="surrogateescape")
    raise InvalidInput(f"resources here are {URI_PREFIX}CID and {PATH_PREFIX}BUCKET:/path")


def _uri(cid: CID, path: Any = None) -> str:
    if codecs.plain_codec(cid.codec) != cid.codec and isinstance(path, str):
        return PATH_PREFIX + quote(path.encode("utf-8", "surrogateescape"), safe="/:@#")
    return f"{URI_PREFIX}{cid}"


def _link(uri: str, name: str, size: int, description: str) -> types.ResourceLink:
    import mcp_types as types

    return types.ResourceLink(type="resource_link", uri=uri, name=name, size=size, description=description)
