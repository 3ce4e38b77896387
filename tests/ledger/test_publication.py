"""Publications: what one store sealed, another verifies, imports and queries; nothing else gets in."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import Conflict, Denied, FormatError, IntegrityError, InvalidInput, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.budgets import Budgets
from ipfs_kit.ledger import Where, exporting
from ipfs_kit.ledger.published.folder import Folder, Tree
from ipfs_kit.ledger.published.importing import Imports
from ipfs_kit.ledger.published.layout import Counts, Publication, signed_line, vkey_of

pq = pytest.importorskip("pyarrow.parquet")


def grow(kit: Kit, count: int = 40, stream: str = "audit", start: int = 0) -> None:
    made: dict[str, Callable[[int], dict[str, Any]]] = {
        "audit": lambda n: {
            "event_type": "user",
            "action": "made",
            "user_id": "ann",
            "status": "failure",
            "details": {"n": n},
        },
        "health": lambda n: {"check_id": f"c{n}", "status": "healthy"},
    }
    kit.stream.append(stream, events=[made[stream](n) for n in range(start, start + count)], ack="fsync")


def publish(kit: Kit, folder: Path, stream: str | None = "audit", log: str | None = None) -> Any:
    """Publish, and leave the publication as a CAR file and as a folder."""
    made = kit.ledger.publication_create(stream, log=log)  # type: ignore[arg-type]
    for path in (folder.with_suffix(".car"), folder):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    kit.car.export(str(made.cid), str(folder.with_suffix(".car")))
    kit.store.get(str(made.cid), str(folder))
    return made


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A store with two spans of audit among other records, its publication of them, its key."""
    root = tmp_path_factory.mktemp("publisher")
    with Kit.open(root / "s") as kit:
        grow(kit, 700)
        grow(kit, 5, "health")
        kit.ledger.seal()
        grow(kit, 30, start=700)
        made = publish(kit, root / "audit")
        return root, made.vkey, str(made.cid)


@pytest.mark.slow
def test_another_node_verifies_imports_and_queries_after_restarts(
    published: tuple[Path, str, str], tmp_path: Path
) -> None:
    root, vkey, cid = published
    with Kit.open(tmp_path / "b") as kit:
        grow(kit, 3)
        taken = kit.ledger.publication_load(str(root / "audit.car"), vkey=vkey, name="berlin")
        assert (taken.records, taken.files, str(taken.publication.root)) == (730, 2, cid)
        node = taken.publication.node
    with Kit.open(tmp_path / "b") as kit:
        own = kit.store.info().node
        rows = kit.ledger.sql("SELECT node, count(*) FROM audit GROUP BY ALL", all_nodes=True).rows
        assert {row[0]: row[1] for row in rows} == {node: 730, own: 3}
        assert kit.ledger.sql("SELECT count(*) FROM audit").rows == [[3]], "without all_nodes nothing changes"
        personal = "SELECT DISTINCT node FROM ops WHERE coalesce(target, args, effect, actor_name) IS NOT NULL"
        seen = kit.ledger.sql(personal, all_nodes=True).rows
        assert {row[0] for row in seen} == {own}, "no personal field of another node is readable"
        rates = {r[0]: r for r in kit.ledger.query("error_rate_by_node", all_nodes=True).rows}
        assert rates[node][1] == 730
        cids = kit.ledger.sql(
            "SELECT record_cid FROM ops WHERE node = $n ORDER BY idx", params={"n": node}, all_nodes=True
        )
        with Kit.open(root / "s", read_only=True) as publisher:
            query = "SELECT record_cid FROM ops WHERE stream = 'audit' ORDER BY idx"
            assert cids.rows == publisher.ledger.sql(query).rows
        assert [p.name for p in kit.ledger.publication_list().publications] == ["berlin"]
        assert kit.ledger.verify().ok
        assert kit.store.verify().ok
        kit.ledger.publication_drop("berlin-stream-audit")
    with Kit.open(tmp_path / "b") as kit:
        assert kit.ledger.publication_list().publications == []
        assert not list((tmp_path / "b/imported").iterdir())
        assert kit.ledger.verify().ok
        folder = kit.ledger.publication_load(str(root / "audit"), vkey=vkey)
        assert str(folder.publication.root) == cid, "the plain folder is the same publication"


def test_publishing_again_costs_what_is_new_and_names_its_parent(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 3000)
        first = kit.ledger.publication_create("audit")
        same = kit.ledger.publication_create("audit")
        assert (same.cid, same.unchanged, same.new_blocks) == (first.cid, True, 0)
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 10, "health")
        assert kit.ledger.publication_create("audit").cid == first.cid, "other streams change nothing"
        grow(kit, 10, start=3000)
        second = kit.ledger.publication_create("audit")
        assert second.parent == first.cid
        # One file, two right-edge tiles, checkpoint, manifest, one full tile; folders on the way to them.
        assert second.new_blocks <= 16 < first.new_blocks
        assert kit.pin.list().pins[0].cid == second.cid
        kit.pin.rm(second.pin)
        again = kit.ledger.publication_create("audit")
        assert again.parent is None
        assert again.new_blocks <= 3, "the same files and tiles: only the manifest lacks its parent"
        kit.store.gc()
        assert kit.ledger.publication_create("audit").cid == again.cid
        assert kit.store.verify().ok
    fresh = tmp_path / "copy"
    shutil.copytree(tmp_path / "s", fresh)
    (fresh / "keys").chmod(0o700)
    with Kit.open(fresh) as kit:
        kit.pin.rm(again.pin)
        assert kit.ledger.publication_create("audit").cid == again.cid, "the same sealed records give the same root"


def test_a_whole_log_is_published_with_its_own_records_once(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 5)
        first = kit.ledger.publication_create(log="main")
        assert kit.ledger.publication_create(log="main").unchanged, "the record of publishing alone is nothing new"
        grow(kit, 5)
        second = publish(kit, tmp_path / "p", None, "main")
        assert second.parent == first.cid
        assert [held.records for held in second.logs] == [second.logs[0].size]
        with pytest.raises(InvalidInput, match="not both"):
            kit.ledger.publication_create("audit", log="main")
        with pytest.raises(NotFound, match="nothing"):
            kit.ledger.publication_create("telemetry")
    with Kit.open(tmp_path / "b") as kit:
        kit.ledger.publication_load(str(tmp_path / "p"), vkey=second.vkey)
        with Kit.open(tmp_path / "s") as publisher:
            publish(publisher, tmp_path / "q")
        with pytest.raises(Conflict, match="holds records that"):
            kit.ledger.publication_load(str(tmp_path / "q"))
        assert kit.ledger.verify().ok


@pytest.mark.slow
def test_later_imports_extend_and_bring_only_what_is_new(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 300)
        first = publish(kit, tmp_path / "1")
        grow(kit, 600, start=300)
        publish(kit, tmp_path / "2")
        grow(kit, 20, "health")
        publish(kit, tmp_path / "h", "health")
        grow(kit, 30, start=900)
        publish(kit, tmp_path / "3")
    with Kit.open(tmp_path / "b") as kit:
        kit.ledger.publication_load(str(tmp_path / "1"), vkey=first.vkey)
        skipped = kit.ledger.publication_load(str(tmp_path / "3.car"))
        assert (skipped.records, skipped.files) == (630, 2), "a publication between them may be left out"
        assert kit.ledger.publication_load(str(tmp_path / "3.car")).records == 0
        assert kit.ledger.publication_load(str(tmp_path / "h")).records == 20, (
            "another stream of the node, in the other log"
        )
        with pytest.raises(IntegrityError, match="rollback"):
            kit.ledger.publication_load(str(tmp_path / "2"))
    with Kit.open(tmp_path / "b") as kit:
        assert kit.ledger.sql("SELECT count(*), count(DISTINCT idx) FROM audit", all_nodes=True).rows == [[930, 930]]
        assert kit.ledger.verify().ok
        tiles = tmp_path / "b/imported" / f"{skipped.publication.id}" / "main/tile/0"
        assert len([p for p in tiles.rglob("*") if p.is_dir() and p.name.endswith(".p")]) <= 1, "old edges are gone"


def test_forks_are_refused_and_so_is_another_key(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 10)
        first = publish(kit, tmp_path / "1")
    shutil.copytree(tmp_path / "s", tmp_path / "older")
    (tmp_path / "older/keys").chmod(0o700)
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 5)
        second = publish(kit, tmp_path / "2")
    with Kit.open(tmp_path / "older") as kit:
        grow(kit, 400)
        publish(kit, tmp_path / "fork")
        grow(kit, 4, "health")
        publish(kit, tmp_path / "forked-log", None, "main")
    with Kit.open(tmp_path / "other") as kit:
        grow(kit, 5)
        other = publish(kit, tmp_path / "foreign")
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises(InvalidInput, match="--vkey"):
            kit.ledger.publication_load(str(tmp_path / "2"))
        with pytest.raises(Denied, match="is of node"):
            kit.ledger.publication_load(str(tmp_path / "2"), vkey=other.vkey)
        with pytest.raises(IntegrityError, match="signature"):
            kit.ledger.publication_load(str(tmp_path / "2"), vkey=same_name(second.vkey, other.vkey))
        kit.ledger.publication_load(str(tmp_path / "2"), vkey=vkey_of(second.vkey, "bulk"))
        with pytest.raises(IntegrityError, match="fork"):
            kit.ledger.publication_load(str(tmp_path / "fork.car"))
        with pytest.raises(IntegrityError, match="rollback"):
            kit.ledger.publication_load(str(tmp_path / "1"))
        with pytest.raises(Denied, match="known here by another verifier key"):
            kit.ledger.publication_load(str(tmp_path / "2"), vkey=same_name(second.vkey, other.vkey))
        before = kit.ledger.publication_list()
        with pytest.raises(InvalidInput, match="own publication"), Kit.open(tmp_path / "s") as owner:
            owner.ledger.publication_load(str(tmp_path / "1"), vkey=first.vkey)
        assert kit.ledger.publication_list() == before
        assert kit.ledger.verify().ok
        assert sorted(p.name for p in (tmp_path / "b/imported").iterdir()) == [before.publications[0].id]


def same_name(vkey: str, other: str) -> str:
    """The verifier key that another store's key would have under this name."""
    raw = base64.b64decode(other[-44:])
    name = vkey.partition("+")[0]
    key_id = sha256(name.encode() + b"\n" + raw).hexdigest()[:8]
    return f"{name}+{key_id}+{base64.b64encode(raw).decode()}"


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


KINDS = {
    "manifest": "publication.json",
    "checkpoint": "main/checkpoint",
    "edge tile": "main/tile/0/*.p/*",
    "full tile": "main/tile/0/001",
    "upper tile": "main/tile/1/*.p/*",
    "segment": "main/segments/*.parquet",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_anywhere_is_refused_and_nothing_stays(
    published: tuple[Path, str, str], tmp_path: Path, kind: str
) -> None:
    root, vkey, _ = published
    folder = tmp_path / "p"
    shutil.copytree(root / "audit", folder)
    victim = sorted(folder.glob(KINDS[kind]))[-1]
    data = victim.read_bytes()
    victim.write_bytes(_flipped(data, data.index(b'"node":') + 9 if kind == "manifest" else len(data) // 3))
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises((IntegrityError, Denied)):
            kit.ledger.publication_load(str(folder), vkey=vkey)
        assert kit.ledger.publication_list().publications == []
        assert not list((tmp_path / "b/imported").glob("*/*/*"))
        assert kit.ledger.verify().ok


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("manifest", "checkpoint")])
def test_verify_names_the_imported_file_in_which_a_byte_flipped(
    published: tuple[Path, str, str], tmp_path: Path, kind: str
) -> None:
    root, vkey, _ = published
    with Kit.open(tmp_path / "b") as kit:
        taken = kit.ledger.publication_load(str(root / "audit.car"), vkey=vkey)
    folder = tmp_path / "b/imported" / taken.publication.id
    victim = sorted(folder.glob(KINDS[kind]))[-1]
    data = victim.read_bytes()
    victim.write_bytes(_flipped(data, len(data) // 2))
    stray = folder / "main/segments/stray"
    stray.write_bytes(b"x")
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises(IntegrityError) as found:
            kit.ledger.verify()
        assert str(victim.relative_to(tmp_path / "b")) in found.value.message
        assert "segments/stray: is no file" in found.value.message
        victim.unlink()
        stray.unlink()
        with pytest.raises(IntegrityError) as gone:
            kit.ledger.verify()
        assert victim.relative_to(folder / "main").as_posix() in gone.value.message
        # Importing the same publication again leaves registered files alone; dropping it and importing mends.
        kit.ledger.publication_drop(taken.publication.id)
        kit.ledger.publication_load(str(root / "audit.car"), vkey=vkey)
        assert kit.ledger.verify().ok


def test_rows_that_were_changed_by_hand_are_named(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    with Kit.open(tmp_path / "b") as kit:
        kit.ledger.publication_load(str(root / "audit.car"), vkey=vkey, name="berlin")
        with kit.engine.state.transaction() as tx:
            tx.execute("UPDATE ledger_imports SET name = 'paris'")
        with pytest.raises(IntegrityError, match="not what the op that made it says"):
            kit.ledger.verify()
        with kit.engine.state.transaction() as tx:
            tx.execute("UPDATE ledger_imports SET name = 'berlin', notes = replace(notes, 'main', 'nain')")
        with pytest.raises(IntegrityError, match="checkpoint"):
            kit.ledger.verify()


@pytest.mark.parametrize("part", [0.2, 0.6, 0.999])
def test_a_truncated_archive_is_refused(published: tuple[Path, str, str], tmp_path: Path, part: float) -> None:
    root, vkey, _ = published
    data = (root / "audit.car").read_bytes()
    (tmp_path / "cut.car").write_bytes(data[: int(len(data) * part)])
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises((FormatError, NotFound)):
            kit.ledger.publication_load(str(tmp_path / "cut.car"), vkey=vkey)
        assert kit.ledger.publication_list().publications == []
        with pytest.raises(NotFound):
            kit.ledger.publication_load(str(tmp_path / "absent.car"), vkey=vkey)


def rewritten(folder: Path, change: Callable[[Any], Any]) -> None:
    """Change a publication's last Parquet file and give it the name of its new bytes."""
    victim = sorted(folder.glob("main/segments/*.parquet"))[-1]
    table = change(pq.read_table(victim))
    victim.unlink()
    made = victim.with_name("new")
    pq.write_table(table, made, compression="zstd")
    made.rename(victim.with_name(f"{victim.name[:26]}{sha256(made.read_bytes()).hexdigest()}.parquet"))


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a record edited": lambda t: t.set_column(
        t.column_names.index("status"), "status", [["denied", *t["status"].to_pylist()[1:]]]
    ),
    "two exchanged": lambda t: t.take([1, 0, *range(2, t.num_rows)]),
    "one twice": lambda t: t.take([0, 0, *range(1, t.num_rows)]),
    "one left out": lambda t: t.slice(1),
    "none": lambda t: t.slice(0, 0),
    "too large a row group": lambda t: t.take([0] * 70_000),
    "a column more": lambda t: t.append_column("more", [list(range(t.num_rows))]),
    "of another node": lambda t: t.set_column(t.column_names.index("node"), "node", [["0" * 12] * t.num_rows]),
}


def sign_again(store: Path, folder: Path) -> None:
    """Vouch for the files of a changed publication with its publisher's own key, as a lying publisher would."""
    manifest = Publication.decode((folder / "publication.json").read_bytes())
    names = [path.name for path in (folder / "main/segments").iterdir()]
    held = manifest.logs["main"]
    with Kit.open(store) as kit:
        note = kit.engine.ledger.sign_at("main", held.size, (signed_line(manifest.scope, held, names),))
    (folder / "main/checkpoint").write_text(note, encoding="utf-8")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_records_that_the_log_does_not_hold_are_refused(
    published: tuple[Path, str, str], tmp_path: Path, change: str, signed: bool
) -> None:
    root, vkey, _ = published
    folder = tmp_path / "p"
    shutil.copytree(root / "audit", folder)
    rewritten(folder, CHANGES[change])
    if signed:
        sign_again(root / "s", folder)
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises(IntegrityError, match=r"parquet|manifest says" if signed else "vouches for other files"):
            kit.ledger.publication_load(str(folder), vkey=vkey)
        assert kit.ledger.publication_list().publications == []


def test_a_file_left_out_on_the_way_is_noticed(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    folder = tmp_path / "p"
    shutil.copytree(root / "audit", folder)
    sorted(folder.glob("main/segments/*.parquet"))[0].unlink()
    made = Publication.decode((folder / "publication.json").read_bytes())
    fewer = Counts(made.logs["main"].size, 30, 1)
    (folder / "publication.json").write_bytes(dataclasses.replace(made, logs={"main": fewer}).encode())
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises(IntegrityError, match="left out"):
            kit.ledger.publication_load(str(folder), vkey=vkey)
        assert kit.ledger.publication_list().publications == []


@pytest.mark.slow
def test_a_small_graph_that_claims_endless_folders_is_refused(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    folder = tmp_path / "p"
    shutil.copytree(root / "audit", folder)
    blocks: dict[CID, bytes] = {}
    bomb = Folder(blocks.__getitem__)
    cid, _ = bomb.flush(blocks.__setitem__)
    for _ in range(7):
        bomb = Folder(blocks.__getitem__)
        for name in range(1000):
            bomb.set(f"x{name:03d}", cid, 1)
        cid, _ = bomb.flush(blocks.__setitem__)
    with Kit.open(tmp_path / "b") as kit:
        kit.engine.blocks.put_many(blocks.items())
        made = Folder(kit.engine.blocks.get, kit.store.add(str(folder)).cid)
        made.set("main/tile/7", cid, 1)
        bad, _ = made.flush(kit.engine.blocks.put)
        imports = Imports(kit.engine.state, str(tmp_path / "b"), "0" * 12, Budgets(publication_tiles=20_000))
        tree = Tree(kit.engine.blocks.get, bad)
        with imports.importing(), pytest.raises(IntegrityError, match="more than 20000 entries"):
            imports.accept(tree, vkey, None, 0, lambda _done, _total, _what: None)
        assert kit.ledger.verify().ok


@pytest.mark.parametrize(
    "name",
    [
        "main/segments/x",
        "main/segments/" + f"{5:012d}-{1:012d}-" + "0" * 64 + ".parquet",
        "main/tile/0/9",
        "main/tile/0/005",
        "main/tile/9/000.p/1",
        "main/tile/0/a/b/c/d/e/f/g/h/i/j/k",
    ],
)
def test_files_that_do_not_belong_are_refused(published: tuple[Path, str, str], tmp_path: Path, name: str) -> None:
    root, vkey, _ = published
    folder = tmp_path / "p"
    shutil.copytree(root / "audit", folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(bytes(32))
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises(IntegrityError):
            kit.ledger.publication_load(str(folder), vkey=vkey)
        assert kit.ledger.publication_list().publications == []


def manifest(**changed: Any) -> bytes:
    counts = {"files": 1, "records": 0, "size": 1}
    body = {
        "kind": "ipfs-kit/publication",
        "logs": {"main": counts},
        "node": "0" * 12,
        "parent": None,
        "scope": "log-main",
    }
    return json.dumps(body | {"v": 1} | changed, separators=(",", ":"), sort_keys=True).encode()


def test_a_manifest_reads_back_as_it_was_written() -> None:
    assert Publication.decode(manifest()).encode() == manifest()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff" * 100,
        b"[" * 100_000,
        manifest(v=2),
        manifest(logs={}),
        manifest(logs={"main": {"files": -1, "records": 0, "size": 1}}),
        manifest(logs={"../x": {"files": 1, "records": 0, "size": 1}}),
        manifest(logs={"bulk": {"files": 1, "records": 0, "size": 1}}),
        manifest(node="../../../..x"),
        manifest(scope="stream-../x"),
        manifest(parent="x"),
        manifest(more=1),
    ],
)
def test_manifests_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Publication.decode(data)


def test_expired_records_stay_in_older_publications_and_leave_newer_ones(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.configure("health", keep_s=0, keep_ops=10)
        grow(kit, 20, "health")
        first = publish(kit, tmp_path / "1", "health")
        grow(kit, 15, "health", start=20)
        kit.ledger.seal(log="bulk")
        assert kit.ledger.expire().records == 20
        second = publish(kit, tmp_path / "2", "health")
        assert [(held.records, held.files) for held in second.logs] == [(15, 1)]
        assert kit.ledger.verify().ok
    with Kit.open(tmp_path / "b") as kit:
        assert kit.ledger.publication_load(str(tmp_path / "1.car"), vkey=first.vkey).records == 20
        assert kit.ledger.publication_load(str(tmp_path / "2.car")).withdrawn == 1
        assert kit.ledger.sql("SELECT count(*) FROM health", all_nodes=True).rows == [[15]]
        assert kit.ledger.verify().ok


@pytest.mark.slow
def test_a_forgotten_person_is_null_in_every_copy(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 5)
        made = publish(kit, tmp_path / "1")
        kit.ledger.erase("ann")
        assert kit.ledger.publication_create("audit").unchanged, "publications hold ciphertext: erasing changes none"
    assert b"ann" not in b"".join(p.read_bytes() for p in (tmp_path / "1").rglob("*.parquet"))
    with Kit.open(tmp_path / "b") as kit:
        kit.ledger.publication_load(str(tmp_path / "1.car"), vkey=made.vkey)
        assert kit.ledger.sql("SELECT DISTINCT user_id FROM audit", all_nodes=True).rows == [[None]]
        assert kit.ledger.verify().ok


_IMPORT = """
import os, signal, sys
from ipfs_kit import Kit
from ipfs_kit.durable import faults

count = 0
def trip(call, path):
    global count
    if "imported" in path:
        count += 1
        if count == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
faults.hook = trip
with Kit.open(sys.argv[1]) as kit:
    kit.ledger.publication_load(sys.argv[2], vkey=sys.argv[3])
"""


_BOTH = """
import sys
from ipfs_kit import Kit
from ipfs_kit.errors import Conflict

with Kit.open(sys.argv[1]) as kit:
    for _ in range(3):
        try:
            kit.ledger.publication_create("audit")
        except Conflict:
            continue
        kit.ledger.publication_load(sys.argv[2], vkey=sys.argv[3])
"""


def test_a_file_that_kills_its_reader_harms_nobody_else(
    published: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipfs_kit.ledger.published import records

    script = tmp_path / "dies.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return real([*command[:-1], str(script)] if command[-1].endswith("_records_child.py") else command, **options)

    monkeypatch.setattr(records.subprocess, "Popen", start)
    root, vkey, _ = published
    with Kit.open(tmp_path / "b") as kit:
        with pytest.raises(IntegrityError, match="process that checks records"):
            kit.ledger.publication_load(str(root / "audit"), vkey=vkey)
        assert kit.ledger.publication_list().publications == []
        assert kit.ledger.verify().ok


def test_export_is_plain_parquet_that_others_read(published: tuple[Path, str, str], tmp_path: Path) -> None:
    import duckdb
    import pyarrow as pa

    root, vkey, _ = published
    with Kit.open(tmp_path / "b") as kit:
        grow(kit, 7)
        kit.ledger.seal()
        grow(kit, 2, start=7)
        kit.ledger.publication_load(str(root / "audit.car"), vkey=vkey)
        path = tmp_path / "all.parquet"
        done = kit.ledger.export(str(path), all_nodes=True)
        audit = kit.ledger.export(str(tmp_path / "audit.parquet"), stream="audit")
        wanted = kit.ledger.sql("SELECT count(*) FROM ops", all_nodes=True).rows[0][0]
        none = kit.ledger.export(str(tmp_path / "none.parquet"), until=1.0)
        with pytest.raises(InvalidInput, match="name a new file"):
            kit.ledger.export(str(path))
    # The export and the queries after it are ops themselves.
    assert (audit.rows, none.rows) == (9, 0)
    assert 740 < done.rows <= wanted
    table = pq.read_table(path)
    assert table.num_rows == done.rows
    assert table.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert {str(f.type) for f in table.schema} == {"string", "int64", "double", "timestamp[us, tz=UTC]"}
    found = duckdb.execute(f"SELECT stream, count(*), count(args) FROM '{path}' GROUP BY 1 ORDER BY 1").fetchall()
    assert ("audit", 739, 9) in found, "own personal fields are in clear, those of another node null"
    own = duckdb.execute(f"SELECT args FROM '{tmp_path / 'audit.parquet'}' ORDER BY idx LIMIT 1").fetchall()
    assert '"user_id":"ann"' in own[0][0]
    times = duckdb.execute(
        f"SELECT typeof(time), min(time) > TIMESTAMPTZ '2020-01-01' FROM '{path}' GROUP BY 1"
    ).fetchall()
    assert times == [("TIMESTAMP WITH TIME ZONE", True)]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(path)
    assert len(frame) == done.rows
    assert str(frame["time"].dtype).startswith("datetime64")


@pytest.mark.slow
def test_our_keys_are_never_tried_on_records_of_others(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    query = "SELECT DISTINCT user_id, actor_name FROM audit"
    with Kit.open(tmp_path / "b") as kit, Kit.open(root / "s", read_only=True) as publisher:
        keys = publisher.engine.keys
        kit.ledger.publication_load(str(root / "audit.car"), vkey=vkey)
        assert publisher.engine.sql.query(query).rows == [("ann", "local")]
        # Not even keys that would open them, as a reader has whose own subject a foreign record names.
        assert kit.engine.sql.query(query, keys=keys, all_nodes=True).rows == [(None, None)]
        with (tmp_path / "x.parquet").open("wb") as out:
            found = exporting.imported_records(kit.engine.state, str(tmp_path / "b"), ("main",), Where())
            assert exporting.write(out, found, keys, "zstd", lambda _rows: None).rows == 730
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["args"].null_count == table["actor_name"].null_count == 730


@pytest.mark.slow
def test_two_processes_publish_and_import_at_once(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 50)
        others = [
            subprocess.Popen([sys.executable, "-c", _BOTH, str(tmp_path / "s"), str(root / "audit"), vkey])
            for _ in range(2)
        ]
        assert [other.wait(120) for other in others] == [0, 0]
        assert len(kit.ledger.publication_list().publications) == 2
        assert kit.ledger.publication_create("audit").unchanged
        assert kit.store.verify().ok


def test_a_folder_with_a_link_in_it_is_refused(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    folder = tmp_path / "p"
    shutil.copytree(root / "audit", folder)
    victim = folder / "main/checkpoint"
    victim.rename(tmp_path / "elsewhere")
    victim.symlink_to(tmp_path / "elsewhere")
    with Kit.open(tmp_path / "b") as kit, pytest.raises(IntegrityError, match="checkpoint is no file"):
        kit.ledger.publication_load(str(folder), vkey=vkey)


def test_an_op_in_two_records_is_one_row_of_an_export(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        grow(kit, 2)
        kit.ledger.seal()
        kit.ledger.export(str(tmp_path / "x.parquet"), log="main")
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    sealed = [row for row in rows if row["operation"] == "ledger.seal"]
    assert [(row["status"], row["effect"] is not None) for row in sealed] == [("ok", True)]
    assert len({row["op_id"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_an_import_killed_anywhere_is_finished_by_the_next(published: tuple[Path, str, str], tmp_path: Path) -> None:
    root, vkey, _ = published
    died = 0
    for at in (1, 2, 3, 5, 8, 12, 17, 23, 30):
        store = tmp_path / f"b{at}"
        with Kit.open(store):
            pass
        ended = subprocess.run(
            [sys.executable, "-c", _IMPORT, str(store), str(root / "audit"), vkey, str(at)],
            capture_output=True,
            check=False,
        )
        died += ended.returncode == -signal.SIGKILL
        with Kit.open(store) as kit:
            assert kit.ledger.verify().ok, at
            kit.ledger.publication_load(str(root / "audit"), vkey=vkey)
            assert kit.ledger.sql("SELECT count(*) FROM audit", all_nodes=True).rows == [[730]]
            assert kit.ledger.verify().ok
            assert not list((store / "imported").rglob("importing"))
    assert died >= 5, "the processes were killed within the import"
