"""Quick start 3 and the published bucket API, on real stores."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import StorageFailed
from ipfs_kit.ipld import car
from ipfs_kit_py.bucket_vfs_manager import BucketType, BucketVFSManager, VFSStructureType

QUICK_START = """
from ipfs_kit_py.bucket_vfs_manager import BucketVFSManager
manager = BucketVFSManager(storage_path={path!r}, enable_dataset_storage=True, enable_compute_layer=True)
"""


def operations(kit: Kit, log: str = "main") -> list[str]:
    return [op.operation for op in kit.ledger.tail(log=log, limit=1000).ops]


def test_quick_start_runs_verbatim_and_every_bucket_operation_is_recorded_once(tmp_path: Path) -> None:
    space: dict[str, object] = {}
    exec(QUICK_START.format(path=str(tmp_path / "store")), space)
    manager = space["manager"]
    assert isinstance(manager, BucketVFSManager)
    assert (manager.enable_dataset_storage, manager.enable_compute_layer, manager.dataset_batch_size) == (
        True,
        True,
        100,
    )

    async def use() -> None:
        made = await manager.create_bucket("photos", BucketType.MEDIA, VFSStructureType.UNIXFS, {"owner": "ann"})
        assert made["success"], made
        assert made["data"]["bucket_type"] == made["bucket_type"] == "media"
        assert made["compute"]["device"] == "cpu"
        bucket = await manager.get_bucket("photos")
        assert bucket is not None
        added = await bucket.add_file("a/b.bin", b"\x00\xff" * 9, {"kind": "raw"})
        assert added["success"], added
        assert (added["size"], added["file_path"]) == (18, "a/b.bin")
        assert (await bucket.cat_file("/a/b.bin"))["content"] == b"\x00\xff" * 9
        assert (await bucket.get_file_count(), await bucket.get_total_size()) == (1, 18)
        assert (await bucket.list_files("a/"))["files"][0]["metadata"] == {"kind": "raw"}
        assert await bucket.get_last_modified()
        assert (await bucket.get_file("a/b.bin", str(tmp_path / "out.bin")))["success"]
        assert (tmp_path / "out.bin").read_bytes() == b"\x00\xff" * 9
        assert (await manager.list_buckets())["total_count"] == 1
        refused = await manager.delete_bucket("photos")
        assert (refused["success"], refused["error_type"]) == (False, "not_empty")
        assert (await bucket.remove_file("a/b.bin"))["success"]
        assert (await manager.delete_bucket("photos", force=True))["success"]
        assert await manager.get_bucket("photos") is None

    anyio.run(use)
    wanted = ["bucket.create", "files.write", "bucket.delete", "files.rm", "bucket.delete"]
    assert operations(manager.kit) == wanted
    flushed = manager.flush_to_dataset()
    assert flushed["success"]
    assert manager.dataset_manager is not None
    rows = manager.dataset_manager.load(flushed["cid"])
    assert [row["operation"] for row in rows if row["op"].startswith("main:")] == wanted
    assert {row["stream"] for row in rows} == {"bucket"}
    assert len({row["op_id"] for row in rows}) == len(rows) == flushed["count"]
    manager.close()


def test_files_are_identical_after_a_restart_of_the_process(tmp_path: Path) -> None:
    script = QUICK_START + (
        "import anyio\n"
        "async def main():\n"
        "    await manager.create_bucket('docs')\n"
        "    await (await manager.get_bucket('docs')).add_file('x.bin', bytes(range(256)) * 5000)\n"
        "anyio.run(main)\n"
    )
    path = str(tmp_path / "store")
    subprocess.run([sys.executable, "-c", script.format(path=path)], check=True, timeout=60)

    async def read() -> bytes:
        bucket = await BucketVFSManager(storage_path=path).get_bucket("docs")
        assert bucket is not None
        content: bytes = (await bucket.cat_file("x.bin"))["content"]
        return content

    assert anyio.run(read) == bytes(range(256)) * 5000


def test_export_is_a_car_whose_root_is_the_buckets_root(tmp_path: Path) -> None:
    async def run() -> dict[str, object]:
        manager = BucketVFSManager(tmp_path / "store")
        await manager.create_bucket("b")
        bucket = await manager.get_bucket("b")
        assert bucket is not None
        await bucket.add_file("f.txt", "hello")
        exported = await manager.export_bucket_to_car("b")
        manager.close()
        return exported

    exported = anyio.run(run)
    assert exported["success"], exported
    with open(str(exported["car_path"]), "rb") as stream:
        reader = car.read_car(stream)
        blocks = dict(reader)
    assert [str(root) for root in reader.roots] == [exported["cid"]]
    assert len(blocks) == exported["blocks"] == 2


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a\x00b", "a//../..//b"])
def test_paths_that_escape_are_refused_with_a_typed_error(tmp_path: Path, path: str) -> None:
    async def run() -> dict[str, object]:
        manager = BucketVFSManager(tmp_path / "store")
        await manager.create_bucket("b")
        bucket = await manager.get_bucket("b")
        assert bucket is not None
        return await bucket.add_file(path, b"x")

    answer = anyio.run(run)
    assert (answer["success"], answer["error_type"]) == (False, "invalid_path")


def test_cross_bucket_sql_says_what_is_missing_and_is_recorded(tmp_path: Path) -> None:
    manager = BucketVFSManager(tmp_path / "store")
    answer = anyio.run(manager.cross_bucket_query, "SELECT 1")
    assert (answer["success"], answer["error_type"]) == (False, "unsupported")
    assert "datasets" in answer["error"]
    (op,) = manager.kit.ledger.tail().ops
    assert (op.operation, op.status, op.op_id) == ("bucket.cross_bucket_query", "error", answer["correlation_id"])
    manager.close()


def test_storage_off_seals_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        manager = BucketVFSManager(tmp_path / "store")
    assert len(caplog.records) == 1
    assert "dataset storage off" in caplog.text
    assert manager.dataset_manager is None
    assert manager.compute_layer is None
    assert manager.flush_to_dataset() == {"success": False, "error": "dataset storage is off"}


def test_without_a_path_the_environment_names_the_store_and_nothing_is_written_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPFS_KIT_STORE", str(tmp_path / "chosen"))
    manager = BucketVFSManager()
    assert manager.storage_path == tmp_path / "chosen"
    assert not (tmp_path / "chosen").exists()
    with Kit.open(tmp_path / "other") as kit:
        assert BucketVFSManager(ipfs_client=kit).storage_path == tmp_path / "other"


def test_a_full_batch_is_sealed_without_being_asked(tmp_path: Path) -> None:
    manager = BucketVFSManager(tmp_path / "store", enable_dataset_storage=True, dataset_batch_size=2)

    async def run() -> None:
        await manager.create_bucket("one")
        await manager.create_bucket("two")

    anyio.run(run)
    assert manager.dataset_manager is not None
    (cid,) = manager.dataset_manager.batches()
    assert [row["target"] for row in manager.dataset_manager.load(cid)] == ["one", "two"]
    manager.close()


def test_what_a_crash_left_without_a_batch_gets_one_when_the_store_is_next_opened(tmp_path: Path) -> None:
    script = QUICK_START + (
        "import anyio, os\n"
        "async def main():\n"
        "    for name in ('a', 'b', 'c'):\n"
        "        await manager.create_bucket(name)\n"
        "    os._exit(9)\n"
        "anyio.run(main)\n"
    )
    path = str(tmp_path / "store")
    assert subprocess.run([sys.executable, "-c", script.format(path=path)], timeout=60).returncode == 9
    manager = BucketVFSManager(storage_path=path, enable_dataset_storage=True)
    assert manager.dataset_manager is not None
    (cid,) = manager.dataset_manager.batches()
    assert [row["target"] for row in manager.dataset_manager.load(cid)] == ["a", "b", "c"]
    again = manager.flush_to_dataset()
    assert (again["cid"], again["count"]) == (cid, 3), "nothing new: the same batch"
    manager.close()


def test_a_batch_holds_the_records_since_storage_was_turned_on_and_of_this_stream_only(tmp_path: Path) -> None:
    before = BucketVFSManager(tmp_path / "store")
    anyio.run(before.create_bucket, "before")
    with Kit.open(tmp_path / "store") as kit:
        manager = BucketVFSManager(ipfs_client=kit, enable_dataset_storage=True)
        anyio.run(manager.create_bucket, "mine")
        kit.call("block.put", data=b"by another")
        anyio.run(before.create_bucket, "later")
        flushed = manager.flush_to_dataset()
        assert manager.dataset_manager is not None
        rows = manager.dataset_manager.load(flushed["cid"])
        manager.close()
    before.close()
    assert [(row["target"], row["stream"]) for row in rows] == [("mine", "bucket"), ("later", "bucket")]


def test_a_batch_that_cannot_be_written_keeps_its_records_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manager = BucketVFSManager(tmp_path / "store", enable_dataset_storage=True, dataset_batch_size=2)
    streams = manager.kit.engine.streams
    with monkeypatch.context() as broken:

        def fail(stream: str) -> None:
            raise StorageFailed(f"no batch of {stream}")

        broken.setattr(streams, "flush", fail)
        for name in ("a", "b"):
            assert anyio.run(manager.create_bucket, name)["success"]
    assert "tried again" in caplog.text
    assert anyio.run(manager.create_bucket, "c")["success"]
    assert manager.dataset_manager is not None
    (cid,) = manager.dataset_manager.batches()
    assert [row["target"] for row in manager.dataset_manager.load(cid)] == ["a", "b", "c"]
    manager.close()
