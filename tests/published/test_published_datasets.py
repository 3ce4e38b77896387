"""The published dataset classes, over restarts."""

from __future__ import annotations

from pathlib import Path

from ipfs_kit import Kit
from ipfs_kit_py.ipfs_datasets_integration import DatasetIPFSBackend, IPFSDatasetsManager
from ipfs_kit_py.ipfs_datasets_search import DatasetSearchIndexer, integrate_with_dataset_manager


def test_what_is_stored_is_loaded_by_cid_id_and_version_after_a_restart(tmp_path: Path) -> None:
    source = tmp_path / "measures"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.csv").write_text("x\n1\n", encoding="utf-8")
    backend = DatasetIPFSBackend(base_path=tmp_path / "store")
    stored = backend.store_dataset(source, {"owner": "lab"})
    assert stored["success"]
    assert stored["distributed"] is False
    with Kit.open(tmp_path / "store") as kit:
        assert str(kit.store.add(str(source), only_hash=True).cid) == stored["cid"]
    assert backend.version_dataset("measures", "1.0", {"note": "first"})["version"] == "1.0"
    (source / "deep" / "a.csv").write_text("x\n1\n2\n", encoding="utf-8")
    changed = backend.store_dataset(source)
    assert changed["cid"] != stored["cid"]
    backend.close()

    again = DatasetIPFSBackend(base_path=tmp_path / "store")
    for number, identifier in enumerate((stored["cid"], "measures@1.0")):
        got = again.load_dataset(identifier, tmp_path / f"out{number}")
        assert (Path(got["path"]) / "deep" / "a.csv").read_text(encoding="utf-8") == "x\n1\n"
    newest = again.load_dataset("measures")
    assert (Path(newest["path"]) / "deep" / "a.csv").read_text(encoding="utf-8") == "x\n1\n2\n"
    assert again.get_metadata("measures@1.0") == {"note": "first", "cid": stored["cid"], "dataset_id": "measures"}
    assert again.get_metadata("other") is None
    refused = again.version_dataset("measures", "1.0")
    assert (refused["success"], refused["error_type"]) == (False, "already_exists")
    assert again.load_dataset("measures@2.0", tmp_path / "none")["success"] is False
    again.close()


def test_events_and_provenance_are_read_from_the_store(tmp_path: Path) -> None:
    data = tmp_path / "words.txt"
    data.write_text("one\n", encoding="utf-8")
    manager = IPFSDatasetsManager(storage_path=tmp_path / "store")
    assert manager.is_available()
    assert manager.store(data)["success"]
    assert manager.version("words.txt", "1")["success"]
    assert manager.version("words.txt", "2", parent_version="1", transformations=["lower case"])["success"]
    assert not manager.store(tmp_path / "absent")["success"]
    manager.close()
    manager = IPFSDatasetsManager(storage_path=tmp_path / "store")
    assert manager.get_provenance_log() == [
        {"dataset_id": "words.txt", "version": "1", "parent_version": None, "transformations": []},
        {"dataset_id": "words.txt", "version": "2", "parent_version": "1", "transformations": ["lower case"]},
    ]
    events = manager.get_event_log()
    assert [(each["operation"], each["success"]) for each in events] == [
        ("store", True), ("version", True), ("version", True), ("store", False),
    ]  # fmt: skip
    assert events[0]["path"] == str(data)
    off = IPFSDatasetsManager(enable=False)
    assert not off.is_available()
    assert off.store(data)["success"] is False
    manager.close()


def test_datasets_are_found_by_what_is_said_of_them_and_by_what_they_hold(tmp_path: Path) -> None:
    for name, text in (("birds", "the heron waits in the reeds"), ("ships", "a schooner leaves the harbour")):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    indexer = DatasetSearchIndexer(base_path=tmp_path / "store")
    assert indexer.search_datasets("heron") == []
    for name, told in (
        ("raw-birds", {"domain": "nature", "tags": ["text"], "title": "Field notebook"}),
        ("birds", {"domain": "nature", "parents": ["raw-birds"]}),
    ):
        assert indexer.index_dataset(name, tmp_path / "birds.txt", told)["indexed"]
    assert indexer.index_dataset("ships", tmp_path / "ships.txt", {"domain": "sea", "parents": ["birds"]})["success"]
    wrong = indexer.index_dataset("ships", tmp_path / "ships.txt", cid=indexer.get_metadata("birds")["cid"])
    assert (wrong["success"], wrong["error_type"]) == (False, "conflict")
    indexer.close()

    indexer = DatasetSearchIndexer(base_path=tmp_path / "store")
    assert {row["dataset_id"] for row in indexer.search_datasets("herons")} == {"birds", "raw-birds"}
    assert [row["dataset_id"] for row in indexer.search_datasets("notebook")] == ["raw-birds"]
    assert [row["dataset_id"] for row in indexer.search_datasets("heron", {"tags": "text"})] == ["raw-birds"]
    (ship,) = indexer.search_datasets("schooner", {"domain": ["sea", "air"]})
    assert (ship["semantic"], ship["score"] > 0, "schooner" in ship["snippet"]) == (False, True, True)
    lineage = indexer.get_dataset_lineage("birds")
    assert (lineage["parents"], lineage["children"]) == (["raw-birds"], ["ships"])
    assert indexer.get_dataset_lineage("ships")["parents"] == ["birds", "raw-birds"]
    assert indexer.get_dataset_lineage("none") is None
    assert [row["dataset_id"] for row in indexer.list_indexed_datasets({"domain": "nature"})] == ["birds", "raw-birds"]
    manager = IPFSDatasetsManager(storage_path=tmp_path / "store")
    assert integrate_with_dataset_manager(manager, indexer)["integrated"]
    manager.close()
    indexer.close()
