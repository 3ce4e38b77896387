"""Publishing, proofs and manifests."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from ledger_kit import Store, open_store

from ipfs_kit.durable import Lease
from ipfs_kit.errors import IntegrityError, InvalidInput, LockTimeout, OpNotFound
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.keys import Signer
from ipfs_kit.ledger import check, merkle, proof
from ipfs_kit.ledger.checkpoint import bulk_extension, parse, sign
from ipfs_kit.ledger.record import CID_PREFIX
from ipfs_kit.ledger.tiles import Growth, TileFiles


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def test_a_proof_verifies_alone_and_any_change_to_it_does_not(store: Store, tmp_path: Path) -> None:
    store.record(300, batch=300)
    made = store.ledger.prove("main", 137)
    path = tmp_path / "op.tlog-proof"
    path.write_text(made.text, encoding="utf-8")
    shown = check.verify_proof_file(str(path), store.ledger.vkey())
    assert (shown.op, shown.size, shown.record_cid) == ("main:137", 300, store.ledger.record_cid("main", 137))
    assert shown.record == store.ledger.encoded_at("main", 137)
    data = made.text.encode()
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(IntegrityError):
            check.verify_proof_file(str(path), store.ledger.vkey())
    with pytest.raises(IntegrityError):
        store.ledger.check_proof(made.text, store.ledger.vkey("bulk"))
    with pytest.raises(IntegrityError):
        store.ledger.check_proof(made.text.replace("index 137", "index 138"))
    with pytest.raises(IntegrityError):
        store.ledger.check_proof(made.text, Signer(store.ledger.origin(), b"x" * 32).verify_key)


def test_the_proof_is_in_tlog_proof_form(store: Store) -> None:
    store.record(5)
    made = store.ledger.prove("main", 4)
    lines = made.text.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + base64.b64encode(store.ledger.encoded_at("main", 4)).decode()
    assert lines[2] == "index 4"
    assert len(lines[3]) == 44
    assert lines[4] == ""
    assert lines[5] == store.ledger.origin()
    assert parse("\n".join(lines[5:])).size == 5


def test_a_record_no_longer_kept_is_proven_by_its_cid(store: Store) -> None:
    store.record(9)
    head = store.ledger.checkpoint()
    made = proof.prove(store.ledger._publisher.files["main"], "main", 3, head, None)
    shown = check.verify_proof(made.text, store.ledger.vkey())
    assert shown.record is None
    assert shown.record_cid == store.ledger.record_cid("main", 3)


def test_there_is_no_proof_of_what_is_not_there(store: Store) -> None:
    with pytest.raises(OpNotFound):
        store.ledger.prove("main", 0)
    with pytest.raises(InvalidInput):
        store.ledger.prove("other", 0)


def test_checkpoints_extend_each_other(store: Store) -> None:
    heads = []
    for count in (1, 254, 3, 300):
        store.record(count, batch=count)
        heads.append(store.ledger.checkpoint())
    for old in heads:
        path = store.ledger.consistency("main", old.size, heads[-1].size)
        assert merkle.check_consistency(old.size, old.root, heads[-1].size, heads[-1].root, path)


def test_mains_checkpoint_carries_bulks_root(store: Store) -> None:
    store.record(3, "bulk", batch=3)
    main, bulk = store.ledger.checkpoint("main"), store.ledger.checkpoint("bulk")
    assert main.extensions == (bulk_extension(3, bulk.root),)
    assert main.origin != bulk.origin
    assert check.read_note(main.text, store.ledger.vkey("main")).size == 0


def test_publishing_again_without_news_writes_nothing(store: Store) -> None:
    store.record(3)
    store.ledger.publish()
    before = {path: path.stat().st_mtime_ns for path in (store.path / "ledger").rglob("*")}
    store.ledger.publish()
    assert {path: path.stat().st_mtime_ns for path in (store.path / "ledger").rglob("*")} == before


def test_one_process_publishes_at_a_time(store: Store) -> None:
    store.record(1)
    with Lease(store.path, "ledger-publish"), pytest.raises(LockTimeout):
        store.ledger.publish(0.05)
    assert store.ledger.publish()["main"].size == 1


def test_closing_publishes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.record(2)
    store.close()
    assert parse((tmp_path / "store/ledger/main/checkpoint").read_text(encoding="utf-8")).size == 2


@pytest.mark.slow
def test_a_long_life_is_published_in_the_background(store: Store) -> None:
    store.record(1)
    path = store.path / "ledger/main/checkpoint"
    deadline = time.monotonic() + 20
    while not path.exists() or parse(path.read_text(encoding="utf-8")).size != 1:
        assert time.monotonic() < deadline
        store.ledger.tail("main", 1, timeout_s=0.05)


def test_a_flush_names_the_batch_by_its_manifest(store: Store) -> None:
    assert store.ledger.flush() is None
    store.record(5)
    first = store.ledger.flush()
    assert store.ledger.flush() == first
    store.record(5_000, batch=5_000)
    last = store.ledger.flush()
    assert last is not None
    covered, cid = [], last
    while cid is not None:
        data = (store.path / "ledger/main/manifests" / str(cid)).read_bytes()
        cid.check(data)
        body = dag_cbor.decode(data)
        assert body["size"] == body["last"] + 1
        assert body["records"][0] == store.ledger.record_cid("main", body["first"])
        covered.append((body["first"], body["last"]))
        cid = body["prev"]
        assert cid is None or isinstance(cid, CID)
    assert covered == [(4_101, 5_004), (5, 4_100), (0, 4)]
    assert store.ledger.verify().ok


@pytest.mark.slow
def test_a_proof_among_a_million_is_small_and_the_cost_of_growth_is_flat(tmp_path: Path) -> None:
    directory = tmp_path / "main"
    entries = [CID_PREFIX + sha256(number.to_bytes(4, "big")).digest() for number in range(1_000_000)]
    growth = Growth(TileFiles(str(directory)), 0)
    growth.add(entries)
    growth.finish()
    files = TileFiles(str(directory))
    signer = Signer("ipfs-kit/0123456789ab/main", bytes(32))
    head = parse(sign(signer, 1_000_000, growth.root(), [bulk_extension(1_000_000, bytes(32))]))
    made = proof.prove(files, "main", 1_234, head, None)
    check.verify_proof(made.text, signer.verify_key)
    assert len(made.path) == 20
    # Without the record or its CID, which the verifier has: 1.2 KB.
    assert len(made.render(None)) <= 1_229
    opened: list[str] = []
    files.forget()
    read = files._read
    files._read = lambda *names: opened.append(names[0]) or read(*names)  # type: ignore[method-assign]
    Growth(files, 1_000_000)
    assert len(opened) <= 4
