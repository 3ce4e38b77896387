"""Plain dictionaries as trees, for the tests of diff, merge and history: bytes are files, dicts are folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.tree import View
from ipfs_kit.errors import BlockNotFound
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import PROFILES, Kind, build_bytes

Model = dict[bytes, Any]

# Folders of more than about four names are sharded, so that small random trees cross the threshold both ways.
TINY = replace(PROFILES["unixfs-v1-2025"], hamt_fanout=16, hamt_threshold=220)


class Blocks:
    """Blocks in memory that count what is read and written."""

    def __init__(self) -> None:
        self.held: dict[CID, bytes] = {}
        self.reads = 0
        self.writes = 0

    def get(self, cid: CID) -> bytes:
        self.reads += 1
        try:
            return self.held[cid]
        except KeyError:
            raise BlockNotFound(f"no block {cid}") from None

    def put(self, cid: CID, data: bytes) -> None:
        self.writes += 1
        self.held[cid] = data

    def view(self, profile: Any = TINY) -> View:
        return View(profile, self.get, self.put)


def build(view: View, blocks: Blocks, model: Model) -> Item:
    """The folder a model stands for; a file may be ``(bytes, attrs)``."""
    edits = []
    for name, value in model.items():
        if isinstance(value, dict):
            edits.append((name, build(view, blocks, value)))
        else:
            content, attrs = value if isinstance(value, tuple) else (value, None)
            item = Item.of(build_bytes(content, view.profile, blocks.put), attrs=attrs)
            edits.append((name, item))
    return view.edit(view.empty(blocks.put), edits, blocks.put)


def read(view: View, blocks: Blocks, folder: Item) -> Model:
    """The model of a folder."""
    out: Model = {}
    for name, item in view.children(folder):
        if item.kind is Kind.DIR:
            out[name] = read(view, blocks, item)
        else:
            content = blocks.held[item.cid]
            out[name] = (content, dict(item.attrs)) if item.attrs else content
    return out


def bare(item: Item) -> Item:
    """The same folder as it comes from elsewhere: without index."""
    return replace(item, meta=None)


NAMES = st.sampled_from([bytes([c]) * n for c in b"abcdefgh" for n in (1, 3)])
CONTENTS = st.sampled_from([b"", b"one", b"two", b"three", (b"one", {"tags": {"k": "v"}}), (b"two", {"mode": 0o600})])
TREES = st.recursive(
    st.dictionaries(NAMES, CONTENTS, max_size=9),
    lambda below: st.dictionaries(NAMES, CONTENTS | below, max_size=9),
    max_leaves=24,
)


@st.composite
def edited(draw: st.DrawFn, model: Model) -> Model:
    """A model near another: a few of its entries changed, removed, added or swapped for a folder."""
    out: Model = {}
    for name, value in model.items():
        action = draw(st.sampled_from(["keep", "keep", "keep", "set", "drop", "below"]))
        if action == "drop":
            continue
        if action == "below" and isinstance(value, dict):
            out[name] = draw(edited(value))
        elif action == "set":
            out[name] = draw(CONTENTS | st.dictionaries(NAMES, CONTENTS, max_size=6))
        else:
            out[name] = value
    out.update(draw(st.dictionaries(NAMES, CONTENTS, max_size=3)))
    return out


TRIPLES = TREES.flatmap(lambda base: st.tuples(st.just(base), edited(base), edited(base)))
PAIRS = TREES.flatmap(lambda base: st.tuples(st.just(base), edited(base) | TREES))
