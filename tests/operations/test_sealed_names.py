"""Names in a sealed bucket go with its key: from records, from SQL, from sealed segments, from kept results."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import AlreadyExists, Expired, InvalidPath, KitError, NotFound
from ipfs_kit.ledger.record import DOMAINS

CANARY = "canary-of-the-letters"


def told(kit: Kit) -> list[tuple[object, ...]]:
    """What SQL shows of the names in all records."""
    sql = "SELECT operation, target, args, effect, error_message FROM records ORDER BY log, idx"
    return [tuple(row) for row in kit.ledger.sql(sql, limit=10_000).rows]


def names_of(kit: Kit) -> str:
    """All that can be read of all records, over records and over SQL."""
    engine = kit.engine
    engine.ledger.flush()
    shown = []
    for log in ("main", "bulk"):
        for _, record in engine.ledger.read(log, 0, engine.ledger.size(log)):
            opened = engine.ledger.open_record(record)
            shown.append((opened.target, opened.args, opened.effect, opened.error_message))
    return repr(shown) + repr(told(kit))


def use_everywhere(kit: Kit, folder: Path) -> None:
    """Call what takes a path of a bucket: what works, what is refused, and what is no path at all."""
    path = f"s:/{CANARY}.txt"
    kit.files.write(path, text="words")
    kit.files.append(path, text=" and more")
    kit.files.edit(path, old="more", new="fewer")
    assert kit.files.read(path)
    kit.files.stat(path)
    kit.files.list("s:/")
    kit.files.mkdir(f"s:/{CANARY}")
    kit.versions.commit("s", message=f"a message with {CANARY}")
    kit.files.cp(path, f"s:/{CANARY}/copy")
    kit.files.mv(f"s:/{CANARY}/copy", f"s:/{CANARY}/moved")
    undone = kit.call("files.rm", path=f"s:/{CANARY}/moved")
    kit.versions.undo(str(undone.index))
    kit.files.read(f"s@main:{path.partition(':')[2]}")
    kit.versions.diff("s@main", "s")
    kit.files.get(path, str(folder / "out"))
    (folder / "in").write_text("put")
    kit.files.put(str(folder / "in"), f"s:/{CANARY}/put")
    kit.call_with("files.write", {"path": f"s:/{CANARY}/once", "text": "once"}, idempotency_key="k1")
    for wrong in (f"s:/../{CANARY}", f"s@nowhere:/{CANARY}", f"s:/{CANARY}-absent", f"s#none:/{CANARY}"):
        with pytest.raises(KitError):
            kit.files.read(wrong)
    with pytest.raises(KitError):
        kit.call("files.read", path=path, nonsense=CANARY)
    with pytest.raises((AlreadyExists, KitError)):
        kit.files.mkdir(f"s:/{CANARY}")
    with pytest.raises(KitError):
        kit.search.query(CANARY, path=f"s:/{CANARY}")


@pytest.mark.slow
def test_with_the_key_of_a_bucket_the_names_in_it_go(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Kit.open(store) as kit:
        kit.bucket.create("s", kind="sealed")
        kit.bucket.create("open")
        kit.files.write("open:/plain.txt", text="kept")
        use_everywhere(kit, tmp_path)
        assert CANARY in names_of(kit)
        kit.ledger.seal()
        kit.ledger.seal(log="bulk")
        kit.files.read(f"s:/{CANARY}.txt")
    with Kit.open(store) as kit:
        assert CANARY in names_of(kit)
        kit.bucket.erase("s")
        for _ in range(2):  # somebody goes on asking
            with pytest.raises(Expired):
                kit.files.read(f"s:/{CANARY}.txt")
            with pytest.raises(KitError):
                kit.files.write(f"s:/{CANARY}-new.txt", text="late")
    with Kit.open(store) as kit:
        left = names_of(kit)
        assert CANARY not in left
        assert "plain.txt" in left
        assert "'files.read'" in left
        rows = kit.ledger.sql("SELECT operation, target FROM ops WHERE error_kind = 'expired'", limit=10).rows
        assert ["files.read", "s"] in [list(row) for row in rows]
        assert kit.ledger.verify().ok
        assert kit.store.verify().ok
        kit.ledger.export(str(tmp_path / "export.parquet"))
        with pytest.raises(KitError):
            kit.call_with("files.write", {"path": f"s:/{CANARY}/once", "text": "once"}, idempotency_key="k1")
        assert kit.engine.erasure.residues([CANARY.encode()]) == []
    assert CANARY.encode() not in (tmp_path / "export.parquet").read_bytes()


@pytest.mark.slow
def test_with_the_key_of_the_caller_the_names_go_too(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Kit.open(store, principal="ann") as kit:
        kit.bucket.create("s", kind="sealed")
        kit.files.write(f"s:/{CANARY}.txt", text="words")
        assert CANARY in names_of(kit)
    with Kit.open(store, principal="root") as kit:
        kit.ledger.erase("ann")
        assert CANARY not in names_of(kit)
        assert kit.store.verify().ok
        assert [entry.name for entry in kit.files.list("s:/").entries] == [f"{CANARY}.txt"]


def test_another_process_that_has_the_bucket_open_records_no_name_after_the_erasure(tmp_path: Path) -> None:
    store = tmp_path / "store"
    erase = "import sys; from ipfs_kit import Kit\nwith Kit.open(sys.argv[1]) as kit: kit.bucket.erase('s')"
    with Kit.open(store) as kit:
        kit.bucket.create("s", kind="sealed")
        kit.files.write(f"s:/{CANARY}.txt", text="words")
        kit.files.read(f"s:/{CANARY}.txt")
        subprocess.run([sys.executable, "-c", erase, str(store)], check=True)
        with pytest.raises(Expired):
            kit.files.read(f"s:/{CANARY}.txt")
        with pytest.raises(KitError):
            kit.files.write(f"s:/{CANARY}2.txt", text="late")
        assert CANARY not in names_of(kit)
        assert kit.store.verify().ok


@pytest.mark.slow
def test_a_bucket_of_a_name_that_an_erased_one_had_is_recorded_in_full(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("s", kind="sealed")
        kit.files.write("s:/first.txt", text="1")
        kit.bucket.erase("s")
        kit.bucket.delete("s", force=True)
        with pytest.raises(NotFound):
            kit.files.read(f"s:/{CANARY}.txt")
        assert CANARY not in names_of(kit)
        kit.bucket.create("s", kind="sealed")
        kit.files.write("s:/second.txt", text="2")
        shown = names_of(kit)
        assert "second.txt" in shown
        assert "first.txt" not in shown
        kit.bucket.create("plain")
        written = kit.call("files.write", path="plain:/third.txt", text="3")
        assert DOMAINS not in kit.engine.ledger.record_at("main", written.index).ext
        assert "third.txt" in names_of(kit)


def test_copying_between_two_sealed_buckets_takes_both_keys(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        for name in ("one", "two"):
            kit.bucket.create(name, kind="sealed")
        kit.files.write(f"one:/{CANARY}", text="x")
        with contextlib.suppress(KitError):
            kit.files.cp(f"one:/{CANARY}", f"two:/{CANARY}")
        kit.engine.ledger.flush()
        log, index = "main", kit.engine.ledger.size("main") - 1
        assert len(kit.engine.ledger.record_at(log, index).ext[DOMAINS]) == 2
        kit.bucket.erase("two")
        assert kit.engine.ledger.open_record(kit.engine.ledger.record_at(log, index)).args is None


def test_a_path_that_is_refused_before_it_is_understood_is_sealed_as_well(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("s", kind="sealed")
        with pytest.raises(InvalidPath):
            kit.files.write(f"s:/a/../{CANARY}", text="x")
        assert CANARY in names_of(kit)
        kit.bucket.erase("s")
        assert CANARY not in names_of(kit)
