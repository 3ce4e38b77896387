"""The catalogue of buckets agrees with a walk of what they hold, over restarts and in the past."""

from __future__ import annotations

from pathlib import Path

from ipfs_kit import Kit
from ipfs_kit.operations.principal import Principal
from ipfs_kit.search.bucket_index import figures
from ipfs_kit_py.bucket_vfs_manager import BucketVFSManager
from ipfs_kit_py.enhanced_bucket_index import EnhancedBucketIndex, format_size


def filled(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.bucket.create("photos", type="media", metadata={"owner": "ada"})
        kit.bucket.create("notes")
        kit.bucket.create("secret", kind="sealed")
        kit.bucket.create("empty", type="archive", structure="graph")
        for number in range(30):
            kit.files.write(f"photos:/{number % 3}/p{number}", data=bytes(number))
        kit.files.write("notes:/a.txt", text="hello")
        kit.versions.commit("notes", message="first")
        kit.files.write("notes:/b.txt", text="more")
        kit.files.write("secret:/x", text="hidden")


def test_counts_are_those_of_a_walk_and_sums_add_up_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path)
    with Kit.open(tmp_path) as kit:
        found = kit.bucket.catalogue()
        for bucket in found.buckets:
            walked = [each for each in kit.engine.buckets.walk(f"{bucket.name}:/") if each.kind != "dir"]
            assert (bucket.files, bucket.size) == (len(walked), sum(each.size for each in walked)), bucket.name
            assert (bucket.files_grown, bucket.size_grown) == (bucket.files, bucket.size), "all are younger than a week"
        assert found.files == sum(bucket.files or 0 for bucket in found.buckets) == 33
        for groups in (found.by_type, found.by_structure):
            assert sum(group.buckets for group in groups.values()) == 4
            assert sum(group.files for group in groups.values()) == found.files
            assert sum(group.size for group in groups.values()) == found.size
        assert [b.name for b in kit.bucket.catalogue("ADA").buckets] == ["photos"]
        assert [b.name for b in kit.bucket.catalogue("graph", within="structure").buckets] == ["empty"]
        assert kit.bucket.catalogue("graph", within="name").buckets == []
        assert kit.bucket.catalogue(days=0).buckets[0].files_grown is None


def test_growth_is_measured_between_two_moments(tmp_path: Path) -> None:
    filled(tmp_path)
    with Kit.open(tmp_path) as kit:
        real = kit.engine.clock()
        kit.files.rm("photos:/0", recursive=True)
        kit.files.write("notes:/c.txt", text="third")
        info = {name: kit.engine.buckets.info(name) for name in ("photos", "notes")}
        grown = {name: figures(kit.engine.buckets, each, real) for name, each in info.items()}
        assert (grown["photos"].files_grown, grown["notes"].files_grown) == (-10, 1)
        assert grown["notes"].size_grown == len("third")


def test_growth_from_a_state_that_is_no_longer_kept_is_unknown_and_not_a_guess(tmp_path: Path) -> None:
    filled(tmp_path)
    with Kit.open(tmp_path) as kit:
        before = kit.engine.clock()
        kit.files.write("notes:/late.txt", text="late")
        assert figures(kit.engine.buckets, kit.engine.buckets.info("notes"), before).files_grown == 1
    with Kit.open(tmp_path) as kit:
        buckets = kit.engine.buckets
        assert buckets.expire(kit.engine.clock() + 2 * buckets.horizon_ns) > 0
        then = figures(buckets, buckets.info("notes"), before)
        assert (then.files, then.files_grown, then.size_grown) == (3, None, None)


def test_a_destroyed_key_leaves_figures_unknown_and_narrowed_callers_see_their_own(tmp_path: Path) -> None:
    filled(tmp_path)
    with Kit.open(tmp_path) as kit:
        kit.bucket.erase("secret")
        found = kit.bucket.catalogue()
        (secret,) = [each for each in found.buckets if each.name == "secret"]
        assert (secret.files, secret.size, found.unreadable) == (None, None, 1)
        agent = Principal("agent", frozenset({"bucket:read@notes"}))
        seen = kit.call_with("bucket.catalogue", {}, principal=agent).value
        assert [each.name for each in seen.buckets] == ["notes"]


def test_the_published_index_answers_from_the_store(tmp_path: Path) -> None:
    filled(tmp_path)
    index = EnhancedBucketIndex(bucket_vfs_manager=BucketVFSManager(tmp_path))
    assert index.list_buckets() == ["empty", "notes", "photos", "secret"]
    info = index.get_bucket_info("photos")
    assert info is not None
    assert (info["file_count"], info["size_bytes"]) == (30, sum(range(30)))
    assert index.get_bucket_info("nothing") is None
    assert [each["name"] for each in index.search_buckets("media", "type")] == ["photos"]
    assert index.get_bucket_types() == {"archive": 1, "general": 2, "media": 1}
    metrics = index.get_comprehensive_metrics()
    assert metrics["total_files"] == sum(each["file_count"] for each in index.bucket_index.values())
    assert metrics["largest_buckets"][0]["name"] == "photos"
    assert metrics["size_growth_7_days"] == metrics["total_size_bytes"]
    assert index.refresh_index()["buckets"] == index.update_from_bucket_manager()["buckets"] == 4
    assert (format_size(999), format_size(1536), format_size(3 << 30)) == ("999 B", "1.50 KB", "3.00 GB")
    index.close()
