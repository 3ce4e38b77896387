"""The published metadata index: records survive, filters and text search over Arrow, peers, resources, other processes."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, Unsupported
from ipfs_kit.ipld import CID
from ipfs_kit_py.arrow_metadata_index import (
    ArrowMetadataIndex,
    create_metadata_from_ipfs_file,
    find_ai_ml_resources,
    find_datasets_for_task,
    find_similar_models,
)


def cid_of(number: int) -> str:
    return str(CID.of(b"content %d" % number))


def test_records_are_added_asked_for_and_deleted_and_survive_a_reopening(tmp_path: Path) -> None:
    index = ArrowMetadataIndex(index_dir=tmp_path / "s")
    for number in range(20):
        record = {
            "cid": cid_of(number), "size_bytes": number * 100, "tags": ["even" if number % 2 == 0 else "odd"],
            "metadata": {"title": f"Report {number}"}, "properties": {"rows": number}, "mime_type": "text/csv",
        }  # fmt: skip
        done = index.add(record)
        assert (done["success"], done["cid"], done["changed"]) == (True, cid_of(number), 1)
    assert index.add({"cid": cid_of(3), "tags": ["odd"], "size_bytes": 7})["success"]
    assert index.update_stats(cid_of(3))["access_count"] == 1
    assert index.delete_by_cid(cid_of(4))["changed"] == 1
    index.close()
    again = ArrowMetadataIndex(storage_path=tmp_path / "s")
    assert again.count() == 19
    record = again.get_by_cid(cid_of(3)) or {}
    assert (record["size_bytes"], record["access_count"], record["metadata"]["title"]) == (7, 1, None)
    assert again.get_by_cid(cid_of(4)) is None
    table = again.query([("tags", "contains", "odd"), ("size_bytes", ">", 1_000)], columns=["cid", "size_bytes"])
    assert isinstance(table, pa.Table)
    assert table.schema.names == ["cid", "size_bytes"]
    assert sorted(table["size_bytes"].to_pylist()) == [1_100, 1_300, 1_500, 1_700, 1_900]
    assert (
        again.query([("properties.rows", "in", [5, 6])]).num_rows
        == again.count([("properties.rows", "in", [5, 6])])
        == 2
    )
    assert again.query(limit=3).num_rows == 3
    assert again.query([("mime_type", "==", "none")]).num_rows == 0
    assert len(again.query().schema.names) == 26
    assert again.search_text("report 11", fields=["metadata.title"])["cid"].to_pylist() == [cid_of(11)]
    assert again.search_text("report", limit=2).num_rows == 2
    with pytest.raises(InvalidInput):
        again.query([("colour", "==", 1)])
    failed = again.add({"cid": cid_of(1), "size_bytes": "many"})
    assert (failed["success"], failed["error_type"]) == (False, "invalid_input")
    assert again.kit.ledger.show(failed["correlation_id"]).stream == "metadata_index"
    again.close()


def test_a_question_of_many_pages_gives_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfs_kit_py._metadata_tables.PAGE", 7)
    with Kit.open(tmp_path / "s") as kit:
        kit.metadata.add(records=[{"cid": cid_of(number), "path": f"/x/{number}"} for number in range(40)])
        index = ArrowMetadataIndex(ipfs_client=kit)
        assert index.storage_path == kit.engine.path
        assert len(set(index.query()["cid"].to_pylist())) == 40
        assert index.query(limit=20).num_rows == 20
        assert index.search_text("x").num_rows == 40


def carried(source: ArrowMetadataIndex, target: ArrowMetadataIndex, since: int | None = None) -> dict[str, Any]:
    """Everything one index says carried to another by the published requests alone."""
    listed = source.handle_partition_request({"since": since})
    assert listed["success"]
    wanted: list[dict[str, Any]] = [{}, *({"partition_id": each["partition_id"]} for each in listed["partitions"])]
    for each in wanted:
        answer = source.handle_partition_data_request({"root": listed["root"], **each})
        put = target.kit.block.put(base64.b64decode(answer["content"]), codec="dag-cbor")
        assert str(put.cid) == answer["cid"]
    merged = target.kit.metadata.merge(CID.parse(listed["root"]), vkey=listed["vkey"])
    assert merged.cursor is None
    return listed


def test_peers_exchange_partitions_and_end_alike(tmp_path: Path) -> None:
    a, b = (ArrowMetadataIndex(tmp_path / name) for name in "ab")
    for number in range(40):
        (a if number % 3 else b).add({"cid": cid_of(number), "tags": [f"t{number}"]})
    a.add({"cid": cid_of(0), "tags": ["both"]})
    first = carried(a, b)
    carried(b, a)
    assert a.query().to_pylist() == b.query().to_pylist()
    assert (a.get_by_cid(cid_of(0)) or {})["tags"] == ["both", "t0"]
    a.add({"cid": cid_of(1), "tags": ["later"]})
    assert carried(a, b, first["upto"])["records"] >= 1
    assert (b.get_by_cid(cid_of(1)) or {})["tags"] == ["later"]
    published = a.publish_index_dag()
    assert published["success"]
    assert a.kit.pin.list().pins
    for request, kind in (
        ({}, "invalid_input"), ({"root": first["root"], "partition_id": 99}, "not_found"),
        ({"root": first["root"], "cid": cid_of(1)}, "not_found"), ({"root": "x"}, "invalid_cid"),
        ({"root": first["root"], "partition_id": True}, "not_found"),
    ):  # fmt: skip
        assert a.handle_partition_data_request(request)["error_type"] == kind
    a.close(), b.close()


def test_another_process_reads_the_index_through_the_interface(tmp_path: Path) -> None:
    index = ArrowMetadataIndex(tmp_path / "s")
    for number in range(10):
        index.add({"cid": cid_of(number), "size_bytes": number})
    told = index.get_c_data_interface() or {}
    assert (told["success"], told["records"]) == (True, 10)
    assert sum(pa.ipc.open_file(pa.memory_map(path)).read_all().num_rows for path in told["files"]) == 10
    index.add({"cid": cid_of(10), "size_bytes": 10})
    script = (
        "import sys\n"
        "from ipfs_kit_py.arrow_metadata_index import ArrowMetadataIndex\n"
        "seen = ArrowMetadataIndex.access_via_c_data_interface(sys.argv[1])\n"
        "print(seen['success'], seen['num_rows'], sum(seen['table']['size_bytes'].to_pylist()))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "11", "55"]
    index.close()
    assert ArrowMetadataIndex(tmp_path / "s", enable_c_interface=False).get_c_data_interface() is None
    assert ArrowMetadataIndex.access_via_c_data_interface(tmp_path / "none")["error_type"] == "store_not_found"


def test_resources_are_found_by_the_published_functions(tmp_path: Path) -> None:
    index = ArrowMetadataIndex(tmp_path / "s", enable_compute_layer=True)
    for number, record in enumerate(
        [
            {"properties": {"type": "model", "framework": "pytorch", "task": "ner", "model_id": "one"}},
            {"properties": {"type": "model", "framework": "pytorch", "task": "ner", "model_id": "two"}},
            {"properties": {"type": "dataset", "task": "ner", "rows": 50, "domain": "news"}, "extension": "parquet"},
            {"properties": {"type": "dataset", "task": "asr"}},
            {"tags": ["other"]},
        ]
    ):
        assert index.add({"cid": cid_of(number), **record})["compute"]["device"] == "cpu"
    assert find_ai_ml_resources(index)["count"] == 4
    found = find_ai_ml_resources(index, {"type": "Models", "framework": "PyTorch", "model_id": "two"})
    assert [each["cid"] for each in found["results"]] == [cid_of(1)]
    alike = find_similar_models(index, "one", ["framework", "task"])
    assert [(each["cid"], each["score"]) for each in alike["similar_models"]] == [(cid_of(1), 1.0)]
    datasets = find_datasets_for_task(index, "NER", domain="news", min_rows=10, format="parquet")
    assert [each["cid"] for each in datasets["datasets"]] == [cid_of(2)]
    assert find_similar_models(index, "three")["error_type"] == "not_found"
    assert find_ai_ml_resources(index, {"type": "banana"})["error_type"] == "invalid_input"
    index.close()


def test_a_record_is_made_from_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words", encoding="utf-8")
    with Kit.open(tmp_path / "s") as kit:
        cid = str(kit.store.add(str(tmp_path / "a.txt")).cid)
        record = create_metadata_from_ipfs_file(kit, cid, include_content=True)
        index = ArrowMetadataIndex(ipfs_client=kit)
        index.add(record)
        assert (record["size_bytes"], record["mime_type"]) == (10, "text/plain")
        assert index.search_text("words")["cid"].to_pylist() == [cid]
        assert create_metadata_from_ipfs_file(index, cid)["cid"] == cid
        with pytest.raises(Unsupported):
            create_metadata_from_ipfs_file(object(), cid)


def test_calls_are_gathered_as_a_dataset_when_asked_for(tmp_path: Path) -> None:
    index = ArrowMetadataIndex(tmp_path / "s", enable_dataset_storage=True, dataset_batch_size=100)
    for number in range(3):
        index.add({"cid": cid_of(number)})
    index.count()
    flushed = index.flush_to_dataset()
    assert (flushed["success"], flushed["count"]) == (True, 4)
    assert index.dataset_manager is not None
    assert len(index.dataset_manager.load(flushed["cid"])) == 4
    index.close()
    off = ArrowMetadataIndex(tmp_path / "s")
    assert off.flush_to_dataset() == {"success": False, "error": "dataset storage is off"}
    off.close()
