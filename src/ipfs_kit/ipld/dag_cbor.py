"""dag-cbor (ipld.io/specs/codecs/dag-cbor): strict and deterministic, links are ``CID`` objects.

The C codec of cbrrr does the work. It refuses indefinite lengths, tags other than 42, non-minimal integers, floats of
other than 64 bits, NaN and infinities, unsorted or repeated keys, invalid UTF-8 and trailing bytes. What it lacks is a
bound on nesting and on list sizes claimed before their items arrive; a look at the bytes adds that.
"""

from __future__ import annotations

from typing import Any, Final

import cbrrr

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidCid, InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT, MIB, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR

Node = Any
"""None, bool, int (64 bits and sign), float, str, bytes, CID, list or dict with str keys, of the same."""

_CONTAINERS: Final = frozenset((list, dict, tuple))
# Initial bytes of arrays (major type 4) and maps (5); any other byte cannot open a level.
_OPENERS: Final = bytes(range(0x80, 0xC0))
# The decoder allocates 8 bytes per claimed list item before it has read the items.
_ITEM_BYTES: Final = 8
_CLAIM_LIMIT_BYTES: Final = 16 * MIB


def encode(obj: Node, budgets: Budgets = DEFAULT) -> bytes:
    """Return the one encoding of a value.

    Args:
        obj: A data-model value; tuples are written as lists.
        budgets: Bounds on nesting and size, the same as ``decode`` applies.

    Raises:
        InvalidInput: A type, number or string has no dag-cbor form.
        BudgetExceeded: The value is nested too deeply (or contains itself) or is too large.
    """
    kind = type(obj)
    if kind in _CONTAINERS:
        values = obj.values() if kind is dict else obj
        if kind is tuple or not _CONTAINERS.isdisjoint(map(type, values)):
            obj = _measured(obj, budgets)
    return _encoded(obj, budgets)


def encode_flat(row: list[Node], budgets: Budgets = DEFAULT) -> bytes:
    """Return the one encoding of a list whose items hold nothing themselves: scalars, links, empty lists and maps.

    The same bytes as ``encode`` without the walk that bounds nesting, which costs six times the encoding.
    """
    return _encoded(row, budgets)


def _encoded(obj: Node, budgets: Budgets) -> bytes:
    try:
        data = cbrrr.encode_dag_cbor(obj, False, CID)
    except TypeError as exc:
        raise InvalidInput(f"no dag-cbor form: {exc}; use None, bool, int, float, str, bytes, CID, list, dict") from exc
    except ValueError as exc:
        raise InvalidInput(f"no dag-cbor form: {exc}") from exc
    if len(data) > budgets.cbor_items or len(data) > budgets.cbor_bytes:
        # Fewer bytes cannot hold too many items, and depth was bounded above.
        _look(data, budgets)
    return data


def decode(data: bytes, budgets: Budgets = DEFAULT, *, own: bool = False) -> Node:
    """Read exactly one value.

    Args:
        data: The block.
        budgets: Bounds on hostile input.
        own: The bytes were encoded here and checked against their address since: nobody else's claims need bounding.

    Raises:
        FormatError: The bytes are not strict dag-cbor.
        BudgetExceeded: They are too many, too deeply nested or hold too many items.
    """
    if not own and len(data) > budgets.cbor_depth:
        _look(data, budgets)
    try:
        return cbrrr.decode_dag_cbor(data, False, CID)
    except InvalidCid as exc:
        raise FormatError(f"dag-cbor link is not a CID: {exc.message}") from exc
    except (ValueError, OverflowError, MemoryError) as exc:
        raise FormatError(f"not strict dag-cbor: {exc}") from exc


def block(obj: Node, budgets: Budgets = DEFAULT) -> tuple[CID, bytes]:
    """Encode a value and address it with sha2-256."""
    data = encode(obj, budgets)
    return CID.of(data, DAG_CBOR), data


def decode_links(data: bytes, budgets: Budgets = DEFAULT) -> list[CID]:
    """Return every link of a block in order of appearance, repeats included.

    Raises:
        FormatError: The bytes are not strict dag-cbor.
        BudgetExceeded: They break a bound.
    """
    if len(data) > budgets.cbor_depth:
        _look(data, budgets)
    found: list[CID] = []

    def collect(binary: bytes) -> None:
        found.append(CID(binary))

    try:
        cbrrr.decode_dag_cbor(data, False, collect)
    except InvalidCid as exc:
        raise FormatError(f"dag-cbor link is not a CID: {exc.message}") from exc
    except (ValueError, OverflowError, MemoryError) as exc:
        raise FormatError(f"not strict dag-cbor: {exc}") from exc
    if len(found) > budgets.links_per_node:
        raise BudgetExceeded(f"block holds {len(found)} links, more than {budgets.links_per_node}")
    return found


def _measured(obj: Node, budgets: Budgets) -> Node:
    """Bound depth and count level by level, so that a value containing itself ends, and turn tuples into lists."""
    level = [obj]
    seen = 1
    tuples = False
    for _ in range(budgets.cbor_depth):
        below: list[Node] = []
        for node in level:
            tuples = tuples or type(node) is tuple
            values = node.values() if type(node) is dict else node
            if not _CONTAINERS.isdisjoint(map(type, values)):
                below += [value for value in values if type(value) in _CONTAINERS]
        if not below:
            return _listed(obj) if tuples else obj
        seen += len(below)
        if seen > budgets.cbor_items:
            raise BudgetExceeded(f"value holds more than {budgets.cbor_items} lists and maps")
        level = below
    raise BudgetExceeded(f"value is nested more than {budgets.cbor_depth} levels deep, or contains itself")


def _listed(node: Node) -> Node:
    """Copy a value with lists for tuples; its depth has been bounded before."""
    if type(node) is dict:
        return {key: _listed(value) if type(value) in _CONTAINERS else value for key, value in node.items()}
    return [_listed(value) if type(value) in _CONTAINERS else value for value in node]


def _look(data: bytes, budgets: Budgets) -> None:
    """Bound depth, items and claimed list sizes; exact only when a quick upper estimate does not settle it."""
    size = len(data)
    if size > budgets.cbor_bytes:
        raise BudgetExceeded(f"dag-cbor block of {size} bytes is larger than {budgets.cbor_bytes}")
    openers = size - len(data.translate(None, _OPENERS))
    if (
        openers <= budgets.cbor_depth
        and size <= budgets.cbor_items
        and openers * size * _ITEM_BYTES <= _CLAIM_LIMIT_BYTES
    ):
        return
    _scan(data, budgets.cbor_depth, budgets.cbor_items)


def _scan(data: bytes, max_depth: int, max_items: int) -> None:
    """Walk the heads of all items without building any; content is left to the decoder."""
    size = len(data)
    open_counts: list[int] = []
    left = 1
    items = 1
    i = 0
    try:
        while True:
            while left == 0:
                if not open_counts:
                    return
                left = open_counts.pop()
            left -= 1
            head = data[i]
            i += 1
            major = head >> 5
            count = head & 31
            if major == 7:
                if count == 27:
                    i += 8
                continue
            if count >= 24:
                if count > 27:
                    raise FormatError("not strict dag-cbor: indefinite or reserved length")
                width = 1 << (count - 24)
                count = int.from_bytes(data[i : i + width], "big")
                i += width
            if major == 2 or major == 3:
                i += count
            elif major == 6:
                left += 1
            elif major >= 4:
                count *= major - 3
                items += count
                if items > size:
                    raise FormatError("not strict dag-cbor: a list or map claims more items than bytes remain")
                if items > max_items:
                    raise BudgetExceeded(f"dag-cbor block holds more than {max_items} items")
                open_counts.append(left)
                if len(open_counts) > max_depth:
                    raise BudgetExceeded(f"dag-cbor block is nested more than {max_depth} levels deep")
                left = count
    except IndexError as exc:
        raise FormatError("not strict dag-cbor: cut off") from exc
