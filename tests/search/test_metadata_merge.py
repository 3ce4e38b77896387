"""Metadata indices of several nodes: merged without loss, alike in every order, and only after every check."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import BlockNotFound, Denied, FormatError, IntegrityError, InvalidInput, InvalidName
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.operations.toolsets import metadata_peers
from ipfs_kit.search.metadata import parts
from ipfs_kit.search.metadata.fields import encode_record
from ipfs_kit.search.metadata.statements import Statement, Writer


def cid_of(number: int) -> str:
    return str(CID.of(b"content %d" % number))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Kit]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Kit.open(tmp_path / name)) for name in ("a", "b", "c")]


def send(source: Kit, target: Kit, since: int | None = None) -> Any:
    """Publish at one node, carry the blocks over as a CAR, merge at the other."""
    published = source.metadata.publish(since=since)
    path = source.engine.path.parent / f"{time.time_ns()}.car"
    source.car.export(str(published.cid), str(path))
    target.car.import_(str(path))
    merged = target.metadata.merge(published.cid, vkey=published.vkey)
    while merged.cursor is not None:
        merged = target.metadata.merge(published.cid, cursor=merged.cursor)
    return merged


def contents(kit: Kit) -> list[dict[str, Any]]:
    return list(kit.engine.metadata.every(()))


def test_two_nodes_end_with_the_same_index_whoever_merges_first_and_nothing_is_overwritten(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    a.metadata.add(
        records=[{"cid": cid_of(1), "tags": ["a"], "size_bytes": 1, "metadata": {"title": "from a"}, "access_count": 2}]
    )
    b.metadata.add(
        records=[
            {
                "cid": cid_of(1),
                "tags": ["b"],
                "mime_type": "text/csv",
                "metadata": {"license": "MIT"},
                "access_count": 3,
            },
            {"cid": cid_of(2), "path": "/only/b"},
        ]
    )
    a.metadata.add(records=[{"cid": cid_of(3), "properties": {"k": "v"}}])
    first, second = send(a, b), send(b, a)
    assert (first.taken, second.taken) == (2, 2)
    assert contents(a) == contents(b)
    record = a.metadata.get(cid_of(1)).record
    assert record["tags"] == ["a", "b"]
    assert (record["size_bytes"], record["mime_type"], record["access_count"]) == (1, "text/csv", 5)
    assert (record["metadata"]["title"], record["metadata"]["license"]) == ("from a", "MIT")
    assert len(contents(a)) == 3
    assert send(a, b).taken == send(b, a).taken == 0
    a.metadata.rebuild()
    assert contents(a) == contents(b)
    for kit in (a, b):
        assert kit.store.verify().ok


def test_what_one_node_deletes_goes_everywhere_unless_another_stated_it_anew(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    a.metadata.add(records=[{"cid": cid_of(1), "tags": ["x"]}, {"cid": cid_of(2), "tags": ["x"]}])
    send(a, b)
    b.metadata.delete(cids=[cid_of(1), cid_of(2)])
    a.metadata.add(records=[{"cid": cid_of(2), "tags": ["anew"]}])
    send(a, b), send(b, a)
    assert contents(a) == contents(b)
    assert [(record["cid"], record["tags"]) for record in contents(a)] == [(cid_of(2), ["anew"])]
    undone = b.call("metadata.delete", cid=cid_of(2)).index
    b.versions.undo(str(undone))
    send(b, a), send(a, b)
    assert contents(a) == contents(b)
    assert contents(a)[0]["tags"] == ["anew"]


def test_three_nodes_that_meet_at_random_end_with_the_same_index(nodes: list[Kit]) -> None:
    rng = random.Random(5)
    upto: dict[tuple[int, int], int | None] = {}
    for _ in range(25):
        number = rng.randrange(3)
        kit = nodes[number]
        if rng.random() < 0.5:
            given = [
                {
                    "cid": cid_of(n),
                    "tags": [f"{number}-{rng.randrange(9)}"],
                    "size_bytes": rng.choice([None, rng.randrange(99)]),
                }
                for n in rng.sample(range(12), 4)
            ]
            kit.metadata.add(records=given)
        elif rng.random() < 0.4:
            kit.metadata.delete(cids=[cid_of(rng.randrange(12))])
        else:
            other = rng.choice([n for n in range(3) if n != number])
            merged = send(kit, nodes[other], upto.get((number, other)))
            upto[number, other] = merged.upto
    for source, target in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2)]:
        send(nodes[source], nodes[target])
    assert contents(nodes[0]) == contents(nodes[1]) == contents(nodes[2])
    for kit in nodes:
        before = contents(kit)
        kit.metadata.rebuild()
        assert contents(kit) == before
        assert kit.store.verify().ok


def test_statements_taken_in_any_order_leave_the_same_rows(nodes: list[Kit]) -> None:
    cid = CID.of(b"x").binary
    records = [encode_record({"size_bytes": size}) for size in range(3)]
    given = [
        Statement(cid, "aa", 5, False, records[0]), Statement(cid, "aa", 5, False, records[1]),
        Statement(cid, "aa", 5, True, None), Statement(cid, "bb", 9, False, records[2]), Statement(cid, "aa", 4, True, None),
    ]  # fmt: skip
    state = nodes[0].engine.state
    results = set()
    for order in permutations(given):
        with state.transaction() as tx:
            tx.op_index = 0
            tx.execute("DELETE FROM metadata_statements")
            writer = Writer(tx, "cc", 1)
            for statement in order:
                writer.take(statement)
                assert not writer.take(statement)
        results.add(tuple(state.query("SELECT node, version, removed, record FROM metadata_statements ORDER BY node")))
    assert results == {(("aa", 5, 1, None), ("bb", 9, 0, records[2]))}


def test_a_part_holds_what_changed_and_a_whole_index_shares_what_did_not(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    a.metadata.add(records=[{"cid": cid_of(number), "tags": ["t"]} for number in range(2_000)])
    whole = a.metadata.publish()
    send(a, b)
    a.metadata.add(records=[{"cid": cid_of(7), "tags": ["new"]}])
    part = a.metadata.publish(since=whole.upto, name="metadata-index-part")
    assert (part.statements, part.leaves) == (1, 1)
    assert send(a, b, whole.upto).statements == 1
    assert contents(a) == contents(b)
    peer = b.metadata.peers().peers[0]
    assert (peer.node, peer.upto) == (a.store.info().node, part.upto)
    again = a.metadata.publish()
    leaves = [parts.read(root, a.engine.blocks.get)[0].leaves for root in (whole.cid, again.cid)]
    assert len(leaves[0]) > 3
    assert len(set(leaves[1]) - set(leaves[0])) == 1


def test_a_large_index_is_merged_a_page_at_a_time(nodes: list[Kit], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_peers, "MERGED_MAX", 100)
    monkeypatch.setattr(parts, "LEAF_STATEMENTS_MAX", 40)
    a, b, _ = nodes
    a.metadata.add(records=[{"cid": cid_of(number)} for number in range(300)])
    published = a.metadata.publish()
    a.car.export(str(published.cid), str(a.engine.path / "x.car"))
    b.car.import_(str(a.engine.path / "x.car"))
    first = b.metadata.merge(published.cid, vkey=published.vkey)
    assert first.cursor is not None
    assert first.upto is None
    assert [peer.upto for peer in b.metadata.peers().peers] == [None]
    skipped = b.metadata.merge(published.cid, cursor=first.cursor + 1)
    assert (skipped.cursor, skipped.upto) == (skipped.cursor, None)
    assert send(a, b).upto == published.upto
    assert contents(a) == contents(b)


def test_an_empty_index_is_merged_like_any_other(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    assert send(a, b).statements == 0
    assert contents(b) == []


def test_a_part_that_leaves_a_gap_is_taken_but_does_not_count_as_everything(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    seen = []
    for number in range(3):
        a.metadata.add(records=[{"cid": cid_of(number)}])
        seen.append(a.metadata.publish(name=f"metadata-index-{number}").upto)
    assert send(a, b, seen[1]).upto is None
    assert send(a, b, -1).upto == seen[2]
    a.metadata.add(records=[{"cid": cid_of(9)}])
    assert send(a, b, seen[2]).upto is not None
    assert contents(a) == contents(b)


def test_publishing_moves_no_pin_of_other_content(nodes: list[Kit]) -> None:
    kit = nodes[0]
    kit.pin.add(str(kit.block.put(b"kept").cid), name="keep")
    with pytest.raises(InvalidName, match="metadata-index"):
        kit.metadata.publish(name="keep")
    first = kit.metadata.publish()
    kit.metadata.add(records=[{"cid": cid_of(1)}])
    second = kit.call("metadata.publish")
    named = {pin.name: pin.cid for pin in kit.pin.list().pins if pin.name}
    assert named["metadata-index"] == second.value.cid != first.cid
    assert "keep" in named
    kit.versions.undo(str(second.index))
    assert {pin.name: pin.cid for pin in kit.pin.list().pins}["metadata-index"] == first.cid


# -- what is refused -------------------------------------------------------------------------------------------------


def forged(kit: Kit, publisher: Kit, statements: list[Any], **more: Any) -> CID:
    """A root with given statements, signed by the publisher, as a hostile node could make it."""

    def put(value: Any) -> CID:
        data = dag_cbor.encode(value)
        cid = CID.of(data, DAG_CBOR)
        kit.block.put(data, codec="dag-cbor")
        return cid

    engine = publisher.engine
    body = {
        "node": engine.ledger.node, "vkey": engine.ledger.vkey("main"), "since": -1, "upto": 0, "count": 1,
        "leaves": (put(statements),),
    } | more  # fmt: skip
    part = parts.Part(**body)
    message = f"{parts.FORMAT}/{parts.VERSION}\n".encode() + dag_cbor.encode(part.body())
    return put({**part.body(), "signature": engine.keys.signer().sign(message)})


GOOD = [CID.of(b"x").binary, "aa", 5, False, encode_record({"tags": ["t"]})]


def test_a_part_of_an_unknown_node_or_with_a_wrong_key_is_refused(nodes: list[Kit]) -> None:
    a, b, c = nodes
    root = forged(b, a, [GOOD])
    with pytest.raises(InvalidInput, match="not known here"):
        b.metadata.merge(root)
    with pytest.raises(IntegrityError, match="verifier key is of node"):
        b.metadata.merge(root, vkey=c.ledger.vkey().vkey)
    impostor = forged(b, c, [GOOD], node=a.engine.ledger.node, vkey=a.ledger.vkey().vkey)
    with pytest.raises(IntegrityError, match="not signed"):
        b.metadata.merge(impostor, vkey=a.ledger.vkey().vkey)
    assert b.metadata.merge(root, vkey=a.ledger.vkey().vkey).taken == 1
    assert b.metadata.merge(root).taken == 0
    own = a.ledger.vkey().vkey
    for bad in (own.replace("+", "-"), "x", "", own[:-4] + "AAA="):
        with pytest.raises((InvalidInput, IntegrityError, Denied)):
            b.metadata.merge(root, vkey=bad)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row[:4], lambda row: [b"no cid", *row[1:]], lambda row: [row[0], "Z", *row[2:]],
        lambda row: [*row[:2], -1, *row[3:]], lambda row: [*row[:2], (time.time_ns() + (2 << 60)) % (1 << 62), *row[3:]],
        lambda row: [*row[:3], True, row[4]], lambda row: [*row[:4], None], lambda row: [*row[:4], b"\xff"],
        lambda row: [*row[:4], dag_cbor.encode({"size_bytes": -1})], lambda row: [*row[:4], dag_cbor.encode({"colour": 1})],
        lambda row: [*row[:4], dag_cbor.encode({"tags": ["b", "a"]})], lambda row: [*row[:4], dag_cbor.encode({"cid": "x"})],
        lambda row: [*row[:4], dag_cbor.encode({"path": "/a/b.txt"})], lambda row: [*row[:4], dag_cbor.encode([1])],
        lambda row: [*row[:2], True, *row[3:]], lambda row: {"a": 1}, lambda row: [*row[:2], 1 << 63, *row[3:]],
    ],
)  # fmt: skip
def test_a_part_with_one_statement_that_does_not_check_is_refused_whole(
    nodes: list[Kit], change: Callable[[list[Any]], Any]
) -> None:
    a, b, _ = nodes
    root = forged(b, a, [GOOD, change(list(GOOD))])
    with pytest.raises(FormatError):
        b.metadata.merge(root, vkey=a.ledger.vkey().vkey)
    assert contents(b) == []


def test_roots_that_are_none_are_refused(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    vkey = a.ledger.vkey().vkey
    missing = forged(b, a, [GOOD], leaves=(CID.of(b"\x80", DAG_CBOR),))
    with pytest.raises(BlockNotFound):
        b.metadata.merge(missing, vkey=vkey)
    for root in (
        forged(b, a, []), forged(b, a, [GOOD], leaves=(CID.of(b"raw"),)), forged(b, a, [GOOD], count="x"),
        b.block.put(b"raw bytes").cid, b.block.put(dag_cbor.encode({"format": parts.FORMAT, "version": 1}), codec="dag-cbor").cid,
        b.block.put(dag_cbor.encode([1]), codec="dag-cbor").cid,
        b.block.put(dag_cbor.encode({"format": parts.FORMAT, "version": 2}), codec="dag-cbor").cid,
    ):  # fmt: skip
        with pytest.raises(FormatError):
            b.metadata.merge(root, vkey=vkey)
    assert contents(b) == []


def test_a_peer_cannot_speak_for_this_node_but_gives_back_what_an_old_backup_lacks(nodes: list[Kit]) -> None:
    a, b, _ = nodes
    b.metadata.add(records=[{"cid": str(CID.of(b"x")), "tags": ["mine"]}])
    before = contents(b)
    invented = [GOOD[0], b.engine.ledger.node, time.time_ns(), False, encode_record({"tags": ["yours"]})]
    root = forged(b, a, [invented])
    merged = b.metadata.merge(root, vkey=a.ledger.vkey().vkey)
    assert (merged.taken, merged.refused) == (0, 1)
    assert contents(b) == before
    assert b.metadata.merge(root, restore=True).taken == 1
    assert contents(b)[0]["tags"] == ["yours"]
