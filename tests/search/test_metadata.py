"""The metadata index: records survive, questions are answered rightly, and the cache is only a cache."""

from __future__ import annotations

import builtins
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ipfs_kit import Kit
from ipfs_kit.errors import (
    AlreadyExists,
    BudgetExceeded,
    Conflict,
    IntegrityError,
    InvalidInput,
    MissingExtra,
    NotFound,
    ReadOnly,
)
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.search.metadata import conditions, evaluate, fields, index, projection, table
from ipfs_kit.search.metadata import files as metadata_files


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "s") as opened:
        yield opened


def cid_of(number: int) -> str:
    return str(CID.of(b"content %d" % number))


def add(kit: Kit, number: int, **more: Any) -> str:
    kit.metadata.add(records=[{"cid": cid_of(number), **more}])
    return cid_of(number)


def found(kit: Kit, *filters: Any) -> list[str]:
    records = kit.metadata.query(filters=list(filters), limit=10_000).records
    assert kit.metadata.count(filters=list(filters)).records == len(records)
    return sorted(record["cid"] for record in records)


# -- records ---------------------------------------------------------------------------------------------------------


def test_a_record_has_the_26_published_fields_and_survives_a_restart(tmp_path: Path) -> None:
    given = {
        "cid": cid_of(1), "size_bytes": 12, "blocks": 1, "links": 0, "mime_type": "text/csv", "local": True, "pinned": False,
        "pin_types": ["recursive"], "replication": 2, "created_at": "2026-01-02T03:04:05+01:00", "last_accessed": 1_700_000_000,
        "access_count": 3, "path": "/data/Rain.CSV", "tags": ["b", "a", "b"], "properties": {"rows": 10, "raw": None, "x": "y"},
        "metadata": {"title": "Rain", "creator": "me", "license": None},
    }  # fmt: skip
    with Kit.open(tmp_path / "s") as kit:
        kit.metadata.add(records=[given])
        node = kit.store.info().node
        before = kit.metadata.get(cid_of(1)).record
    with Kit.open(tmp_path / "s") as kit:
        record = kit.metadata.get(cid_of(1)).record
        assert kit.metadata.query().records == [record]
    assert record == before
    assert list(record) == list(fields.FIELDS)
    assert len(record) == 26
    assert record | {"indexed_at": None} == {
        "cid": cid_of(1), "cid_version": 1, "multihash_type": "sha2-256", "size_bytes": 12, "blocks": 1, "links": 0,
        "mime_type": "text/csv", "local": True, "pinned": False, "pin_types": ["recursive"], "replication": 2,
        "created_at": "2026-01-02T02:04:05.000Z", "last_accessed": "2023-11-14T22:13:20.000Z", "access_count": 3,
        "path": "/data/Rain.CSV", "filename": "Rain.CSV", "extension": "csv", "tags": ["a", "b"],
        "metadata": {"title": "Rain", "description": None, "creator": "me", "source": None, "license": None},
        "properties": {"rows": "10", "x": "y"}, "embedding_available": None, "embedding_type": None,
        "embedding_dimensions": None, "indexed_at": None, "index_version": "1", "indexer_node_id": node,
    }  # fmt: skip


def test_what_a_record_shows_can_be_added_again_and_changes_nothing(kit: Kit) -> None:
    cid = add(kit, 1, path="/a/b.txt", tags=["x"], created_at=1.5, access_count=2, properties={"a": [1, 2]})
    record = kit.metadata.get(cid).record
    assert kit.metadata.add(records=[record]).changed == 0
    assert kit.metadata.get(cid).record == record


def test_a_record_takes_the_place_of_the_one_before_and_keeps_its_accesses(kit: Kit) -> None:
    cid = add(kit, 1, path="/a", tags=["x"], size_bytes=1)
    kit.metadata.touch(cid)
    assert kit.metadata.touch(cid, access="pin", count=4).access_count == 5
    add(kit, 1, tags=["y"])
    record = kit.metadata.get(cid).record
    assert (record["path"], record["size_bytes"], record["tags"], record["access_count"]) == (None, None, ["y"], 5)
    assert found(kit) == [cid]


def test_a_batch_with_one_wrong_record_changes_nothing(kit: Kit) -> None:
    with pytest.raises(InvalidInput, match="size_bytes"):
        kit.metadata.add(records=[{"cid": cid_of(1)}, {"cid": cid_of(2), "size_bytes": -1}])
    assert found(kit) == []


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, "cid"), ({"cid": "nonsense"}, "CID"), ({"cid": cid_of(1), "colour": 1}, "properties"),
        ({"cid": cid_of(1), "tags": "a"}, "tags"), ({"cid": cid_of(1), "metadata": {"name": "x"}}, "title"),
        ({"cid": cid_of(1), "created_at": "yesterday"}, "created_at"), ({"cid": cid_of(1), "local": 1}, "local"),
        ({"cid": cid_of(1), "size_bytes": 1 << 63}, "size_bytes"), ({"cid": cid_of(1), "path": "\ud800"}, "path"),
        ({"cid": cid_of(1), "properties": {"x": float("nan")}}, "JSON"), ({"cid": cid_of(1), "path": "x" * 40_000}, "path"),
        ({"cid": cid_of(1), "tags": [f"t{n}" for n in range(1_001)]}, "tags"),
        ({"cid": cid_of(1), "created_at": 1e300}, "time"), ({"cid": cid_of(1), "created_at": 10**400}, "time"),
        ({"cid": cid_of(1), "created_at": 1e18}, "years"), ({"cid": cid_of(1), "properties": {"x": 10**5_000}}, "JSON"),
        ({"cid": cid_of(1), "tags": [1]}, "tags"),
    ],
)  # fmt: skip
def test_a_record_that_does_not_check_is_refused_and_the_message_names_the_field(
    kit: Kit, record: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        kit.metadata.add(records=[record])


def test_undo_takes_back_what_was_added_changed_and_deleted_unless_it_changed_since(kit: Kit) -> None:
    cid = cid_of(1)
    added = kit.call("metadata.add", records=[{"cid": cid, "tags": ["x"]}]).index
    changed = kit.call("metadata.add", records=[{"cid": cid, "tags": ["y"]}]).index
    with pytest.raises(Conflict, match="changed since"):
        kit.versions.undo(str(added))
    undone = kit.call("versions.undo", op=str(changed)).index
    assert kit.metadata.get(cid).record["tags"] == ["x"]
    kit.versions.undo(str(undone))
    assert kit.metadata.get(cid).record["tags"] == ["y"]
    gone = kit.call("metadata.delete", cid=cid).index
    assert found(kit) == []
    kit.versions.undo(str(gone))
    assert found(kit, "tags contains y") == [cid]
    same = kit.call("metadata.add", records=[{"cid": cid, "tags": ["y"]}])
    assert same.value.changed == 0
    kit.versions.undo(str(same.index))
    last = kit.call("metadata.add", records=[{"cid": cid_of(2)}]).index
    kit.versions.undo(str(last))
    assert found(kit) == [cid]
    assert kit.store.verify().ok


def test_what_is_acknowledged_survives_a_kill_and_stands_once(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from ipfs_kit import Kit\n"
        "from ipfs_kit.ipld import CID\n"
        "kit = Kit.open(sys.argv[1])\n"
        "cids = [str(CID.of(b'content %d' % n)) for n in range(50)]\n"
        "for tag in ('first', 'second'):\n"
        "    for cid in cids:\n"
        "        kit.metadata.add(records=[{'cid': cid, 'tags': [tag]}])\n"
        "kit.metadata.delete(cids[0])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=False, timeout=120)
    assert done.returncode == -9
    with Kit.open(tmp_path / "s") as kit:
        assert len(found(kit)) == len(found(kit, 'tags == ["second"]')) == 49
        assert kit.store.verify().ok


def test_rows_changed_behind_the_ledger_are_found_by_verify(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        for number in range(3):
            add(kit, number, tags=["t"])
        assert kit.store.verify().ok
    for change, kind in (
        ("UPDATE metadata_statements SET version=version+1 WHERE op_index=0", "row_differs"),
        ("DELETE FROM metadata_statements WHERE op_index=1", "row_missing"),
        ("UPDATE metadata_statements SET op_index=0 WHERE op_index=2", "row_extra"),
        ("INSERT INTO metadata_statements VALUES(x'01', 'n', 1, 1, NULL, 99)", "row_extra"),
    ):
        copy = shutil.copytree(tmp_path / "s", tmp_path / f"copy-{abs(hash(change))}")
        with closing(sqlite3.connect(copy / "state.db")) as db, db:
            db.execute(change)
        with Kit.open(copy) as kit:
            with pytest.raises(IntegrityError) as caught:
                kit.store.verify()
            assert kind in [fault[3] for fault in caught.value.details["faults"]], change


def test_more_than_one_operation_can_record_is_refused_whole(kit: Kit) -> None:
    large = [{"cid": cid_of(number), "metadata": {"description": "x" * 30_000}} for number in range(300)]
    with pytest.raises(BudgetExceeded, match="fewer"):
        kit.metadata.add(records=large)
    assert found(kit) == []
    kit.metadata.add(records=large[:100])
    assert len(found(kit)) == 100


# -- questions -------------------------------------------------------------------------------------------------------

FILTERS = [
    "size_bytes > 50", "size_bytes in [1, 2, 3, 50.5]", "size_bytes != 5", "size_bytes <= 50.5", "local == true",
    "local != true", "local in [true]", "local is_null", "tags contains a", "tags contains dä", 'tags == ["a", "b"]',
    'tags != ["a"]', 'tags in ["a", "c"]', "tags starts_with d", "tags ends_with ä", "tags is_null", "tags is_null false",
    "path contains /f1", "path starts_with /p1", "path ends_with .CSV", "filename == f3.txt", "extension == csv",
    'extension in ["csv", "txt"]', "metadata.title contains o W", "metadata.title == aaa", "metadata.title > b",
    'metadata.title in ["aaa"]', "metadata.title is_null", "metadata.creator == x", "metadata.creator != x",
    "metadata.creator is_null", "metadata contains title", "metadata is_null", "properties.n > 4", "properties.n == 4",
    'properties.n == "4"', 'properties.n in [1, 2, "zz"]', "properties.k == v", "properties.k is_null",
    "properties.n != 3", "properties contains n", "properties is_null", "created_at > 2022-01-01",
    "created_at == 1600000000", "created_at in [1600000000]", "mime_type == a/b", "mime_type starts_with text",
    "mime_type is_null", "cid is_null", "path contains zzz", "metadata.title contains ab", "metadata.title contains ",
    'properties."k" ends_with v', "cid_version == 1", "multihash_type == sha2-256", "index_version == 1",
]  # fmt: skip


def expected(records: list[dict[str, Any]], text: str) -> list[str]:
    """What a filter must find, by the plainest reading of the rules."""
    one = conditions.parse(text)
    return sorted(record["cid"] for record in records if meets(record[one.field], one))


def meets(value: Any, one: conditions.Condition) -> bool:
    if one.key is not None:
        value = value.get(one.key)
    elif one.field == "metadata":
        value = {key: item for key, item in value.items() if item is not None}
    operator, wanted = one.operator, one.value
    if operator == "is_null":
        return (value is None or value in ([], {})) is wanted
    if value is None or value in ([], {}):
        return False
    if isinstance(value, list):
        tests = {
            "==": set(value) == set(wanted), "!=": set(value) != set(wanted), "contains": wanted in value,
            "in": bool(set(value) & set(wanted)), "starts_with": any(each.startswith(wanted) for each in value),
            "ends_with": any(each.endswith(wanted) for each in value),
        }  # fmt: skip
        return tests[operator]
    if isinstance(value, dict):
        return wanted in value
    if one.kind is fields.Kind.TIME:
        value = fields.time_ms("", value)
    if operator == "in":
        return any(compared(value, "==", each) for each in wanted)
    return compared(value, operator, wanted)


def compared(value: Any, operator: str, wanted: Any) -> bool:
    if isinstance(value, str) and not isinstance(wanted, str):
        try:
            value = float(value)
        except ValueError:
            return False
    return bool(
        {
            "==": lambda: value == wanted, "!=": lambda: value != wanted, ">": lambda: value > wanted,
            ">=": lambda: value >= wanted, "<": lambda: value < wanted, "<=": lambda: value <= wanted,
            "contains": lambda: wanted in value, "starts_with": lambda: value.startswith(wanted),
            "ends_with": lambda: value.endswith(wanted),
        }[operator]()
    )  # fmt: skip


def some_record(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "cid": cid_of(number),
        "path": f"/p{rng.randrange(5)}/f{number}.{rng.choice(['txt', 'CSV', 'bin'])}",
        "tags": rng.sample(["a", "b", "c", "dä"], rng.randrange(4)),
        "size_bytes": rng.choice([None, rng.randrange(100)]),
        "metadata": {
            "title": rng.choice([None, "Hello World", "bert base", "aaa", "ababab"]), "creator": rng.choice([None, "x", "y"]),
        },
        "properties": rng.choice([{}, {"n": rng.randrange(9), "k": "v"}, {"n": "zz"}]),
        "local": rng.choice([None, True, False]),
        "created_at": rng.choice([None, 1.6e9, 1.7e9]),
        "mime_type": rng.choice([None, "text/plain", "a/b"]),
    }  # fmt: skip


def small_parts(patch: pytest.MonkeyPatch) -> None:
    """Let files be written, joined and read in pieces at sizes of a test."""
    for name, value in (("TAIL_ROWS", 64), ("CHUNK_ROWS", 50), ("SEGMENT_ROWS", 300)):
        patch.setattr(projection, name, value)
    patch.setattr(index, "WINDOW_ROWS", 32)


@pytest.mark.slow
def test_every_filter_finds_exactly_what_it_says_whatever_came_and_went_and_a_rebuild_gives_the_same(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    rng = random.Random(11)
    engine = kit.engine
    for step in range(20):
        kit.metadata.add(records=[some_record(rng, rng.randrange(600)) for _ in range(rng.randrange(1, 60))])
        kit.metadata.delete(cids=[cid_of(rng.randrange(600)) for _ in range(rng.randrange(1, 20))])
        records = list(engine.metadata.every(()))
        assert records == [engine.metadata.get(CID.parse(record["cid"])) for record in records]
        assert len(records) == len({record["cid"] for record in records})
        for text in FILTERS if step % 10 == 9 else rng.sample(FILTERS, 4):
            assert found(kit, text) == expected(records, text), text
        several = rng.sample(FILTERS, 3)
        both = set.intersection(*(set(expected(records, text)) for text in several))
        assert found(kit, *several) == sorted(both), several
        if step % 10 == 9:
            assert len(engine.metadata.projection.segments()) > 1
            kit.metadata.rebuild()
            assert list(engine.metadata.every(())) == records
    state = engine.state.query("SELECT count(*) FROM metadata_statements WHERE NOT removed")
    assert state[0][0] == kit.metadata.count().records == len(records)


def test_a_part_of_a_text_is_found_however_many_rows_hold_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_LONG", 100)
    monkeypatch.setattr(index, "THREADED_ROWS", 100)
    marks = ["", ".*", "\\x", "\0", "ä$", "[a]", "\n^", "a|b", "😀", "ab"]
    titles = [f"{mark}{'ab' * (number % 3)}{mark if number % 2 else ''}" for number in range(60) for mark in marks]
    kit.metadata.add(records=[{"cid": cid_of(n), "metadata": {"title": title}} for n, title in enumerate(titles)])
    kit.metadata.share()
    kit.metadata.add(records=[{"cid": cid_of(n), "metadata": {"title": "new ab"}} for n in range(5)])
    titles[:5] = ["new ab"] * 5
    for part in [mark for mark in marks if mark] + ["a", "ba", "abab", "b.", "ä$a", "new", "nowhere"]:
        wanted = sorted(cid_of(n) for n, title in enumerate(titles) if part in title)
        assert found(kit, ["metadata.title", "contains", part]) == wanted, part


def test_lists_of_one_length_and_of_many_are_compared_alike(kit: Kit) -> None:
    rng = random.Random(8)
    pool = ["a", "b", "c", "d"]
    for lengths in ((2,), (0,), (1,), (0, 1, 2, 3, 4)):
        tags = [sorted(rng.sample(pool, rng.choice(lengths))) for _ in range(200)]
        kit.metadata.add(records=[{"cid": cid_of(n), "tags": given} for n, given in enumerate(tags)])
        for wanted in ([], ["a"], ["a", "b"], ["b", "nowhere"], pool):
            equal = sorted(cid_of(n) for n, given in enumerate(tags) if given == wanted)
            other = sorted(cid_of(n) for n, given in enumerate(tags) if given and given != wanted)
            assert found(kit, ["tags", "==", wanted]) == (equal if wanted else sorted(set(equal)))
            assert found(kit, ["tags", "!=", wanted]) == other
            some = sorted(cid_of(n) for n, given in enumerate(tags) if set(given) & set(wanted))
            assert found(kit, ["tags", "in", wanted]) == some


def test_pages_go_through_all_records_once(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    kit.metadata.add(records=[{"cid": cid_of(number), "size_bytes": number} for number in range(300)])
    kit.metadata.add(records=[{"cid": cid_of(number), "size_bytes": number} for number in range(290, 310)])
    seen: list[str] = []
    cursor = None
    while True:
        page = kit.metadata.query(filters=["size_bytes >= 100"], columns=["size_bytes"], limit=7, cursor=cursor)
        assert all(list(record) == ["cid", "size_bytes"] for record in page.records)
        seen += [record["cid"] for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 210


def test_a_page_of_large_records_ends_early_and_goes_on(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PAGE_CHARS", 10_000)
    monkeypatch.setattr(index, "CHECKED", 2)
    kit.metadata.add(
        records=[{"cid": cid_of(number), "metadata": {"title": "x " + "y" * 3_000}} for number in range(20)]
    )
    first = kit.metadata.query(limit=20)
    assert len(first.records) == 3
    assert len({record["cid"] for record in kit.engine.metadata.every(())}) == 20
    seen: list[str] = []
    offset: int | None = 0
    while offset is not None:
        hits = kit.metadata.search("x", offset=offset)
        seen += [record["cid"] for record in hits.records]
        offset = hits.offset
    assert len(seen) == len(set(seen)) == 20


def test_records_whose_keys_are_equal_are_told_apart(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "key_of", lambda cid: cid[-1] % 3)
    for number in range(30):
        add(kit, number, size_bytes=number)
        kit.metadata.count()
    kit.metadata.delete(cid_of(4))
    add(kit, 5, size_bytes=500)
    assert found(kit) == sorted(cid_of(number) for number in range(30) if number != 4)
    assert found(kit, "size_bytes == 500") == [cid_of(5)]
    assert len(list(kit.engine.metadata.every((), ["cid"]))) == 29
    seen: list[str] = []
    cursor = None
    while cursor is not None or not seen:
        page = kit.metadata.query(limit=4, cursor=cursor)
        seen += [record["cid"] for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 29


def test_text_search_finds_parts_of_words_in_all_fields_or_some_and_whole_words_first(kit: Kit) -> None:
    part = add(kit, 1, metadata={"title": "Thunderstorms"}, tags=["Weather"])
    whole = add(kit, 2, path="/weather/storm.csv")
    third = add(kit, 3, properties={"about": "storm over weather"}, metadata={"description": "ÄRGER"})
    add(kit, 4, metadata={"title": "calm"})

    def hits(text: str, **more: Any) -> list[str]:
        return [record["cid"] for record in kit.metadata.search(text, **more).records]

    assert set(hits("storm")) == {part, whole, third}
    assert hits("storm")[-1] == part
    assert set(hits("STORM weather")) == {part, whole, third}
    assert hits("storm", fields=["metadata.title"]) == [part]
    assert hits("storm", fields=["properties"]) == hits("storm", fields=["properties.about"]) == [third]
    assert hits("weather", filters=["extension == csv"]) == [whole]
    assert hits("ärger") == [third]
    assert hits("nowhere") == []
    first = kit.metadata.search("storm", limit=2)
    assert len(first.records) == 2
    assert [r["cid"] for r in kit.metadata.search("storm", limit=2, offset=first.offset).records] == [part]
    kit.metadata.delete(whole)
    assert set(hits("storm")) == {part, third}
    for text in ("", " - ", "\x00"):
        with pytest.raises(InvalidInput, match="word"):
            hits(text)
    with pytest.raises(BudgetExceeded, match="32 words"):
        hits(" ".join(f"w{number}" for number in range(40)))
    with pytest.raises(InvalidInput, match="searched"):
        hits("x", fields=["size_bytes"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["colour", "==", 1], "colour"), (["path", "~", "x"], "operator"), (["tags", ">", "x"], "contains"),
        (["properties", "==", "x"], "KEY"), (["metadata.name", "==", "x"], "title"), (["size_bytes", "==", "x"], "number"),
        (["local", "==", "yes"], "true or false"), (["path", "in", "x"], "list"), (["created_at", ">", "soon"], "time"),
        (["path"], "filter"), ("path", "filter"), ([1, 2, 3], "operator"), (["path", "==", "\ud800"], "surrogates"),
        (["size_bytes", "==", float("inf")], "64 bits"),
        (["size_bytes", "==", 10**400], "64 bits"), (["created_at", "<", 10**400], "time"),
        (["properties.x", "==", float("nan")], "64 bits"),
        (["path.x", "==", "y"], "KEY"), (["tags", "==", "a"], "contains"),
        ("path ==", "") , (["path", "is_null", "x"], "true or false"), (["path", "=="], "value"), (None, "filter"),
    ],
)  # fmt: skip
def test_a_filter_without_meaning_is_refused_and_the_message_says_why(kit: Kit, given: Any, told: str) -> None:
    add(kit, 1)
    if told:
        with pytest.raises(InvalidInput, match=told):
            kit.metadata.query(filters=[given])
    else:
        assert kit.metadata.query(filters=[given]).records == []


def test_a_cursor_of_another_kind_is_refused(kit: Kit) -> None:
    for cursor in ("", "x", "zz:y", "-1:a", "f" * 20 + ":a"):
        with pytest.raises(InvalidInput, match="cursor"):
            kit.metadata.query(cursor=cursor)


# -- the cache -------------------------------------------------------------------------------------------------------


def cache(kit: Kit) -> Path:
    return kit.engine.path / "cache" / "metadata"


def test_the_cache_may_vanish_or_be_damaged_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    records = [{"cid": cid_of(number), "tags": ["t"], "path": f"/{number}"} for number in range(200)]
    with Kit.open(tmp_path / "s") as kit:
        kit.metadata.add(records=records)
        before = list(kit.engine.metadata.every(()))
        folder = cache(kit)
    assert list(folder.glob("*.arrow"))
    for harm in range(6):
        files = sorted(folder.iterdir())
        arrow = next(path for path in files if path.suffix == ".arrow")
        if harm == 0:
            shutil.rmtree(folder)
        elif harm == 1:
            data = bytearray(arrow.read_bytes())
            data[len(data) // 2] ^= 0xFF
            arrow.write_bytes(bytes(data))
        elif harm == 2:
            arrow.unlink()
        elif harm == 3:
            (folder / projection.MANIFEST).write_text('{"layout": 1, "segments": 7}', encoding="utf-8")
        elif harm == 4:
            (folder / projection.MANIFEST).write_bytes(b"\xff" * 50)
        else:
            arrow.write_bytes(b"")
        with Kit.open(tmp_path / "s") as kit:
            assert list(kit.engine.metadata.every(())) == before
            assert kit.metadata.count(filters=["tags contains t"]).records == 200


def test_files_of_another_history_are_not_believed(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        add(kit, 1, tags=["first"])
    shutil.copytree(tmp_path / "s", tmp_path / "backup")
    with Kit.open(tmp_path / "s") as kit:
        add(kit, 2)
        kit.metadata.share()
        kept = cache(kit)
    with Kit.open(tmp_path / "backup") as kit:
        add(kit, 3)
    shutil.rmtree(tmp_path / "backup" / "cache" / "metadata", ignore_errors=True)
    shutil.copytree(kept, tmp_path / "backup" / "cache" / "metadata")
    with Kit.open(tmp_path / "backup") as kit:
        assert found(kit) == sorted([cid_of(1), cid_of(3)])


def test_another_process_maps_the_files_without_any_part_of_the_kit(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    kit.metadata.add(records=[{"cid": cid_of(number), "size_bytes": number, "tags": ["x"]} for number in range(400)])
    kit.metadata.add(records=[{"cid": cid_of(number), "size_bytes": 10_000 + number} for number in range(0, 400, 7)])
    kit.metadata.delete(cids=[cid_of(number) for number in range(0, 400, 11)])
    shared = kit.metadata.share()
    assert shared.records == kit.metadata.count().records
    script = (
        "import sys, pyarrow as pa, pyarrow.compute as pc\n"
        "tables = [pa.ipc.open_file(pa.memory_map(path)).read_all() for path in sys.argv[1:]]\n"
        "print(sum(t.num_rows for t in tables), sum(pc.sum(t['size_bytes']).as_py() for t in tables),\n"
        "      len({c for t in tables for c in t['cid'].to_pylist()}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *shared.files], capture_output=True, text=True, check=True, timeout=60
    )
    sizes = [record["size_bytes"] for record in kit.metadata.query(columns=["size_bytes"], limit=1_000).records]
    assert done.stdout.split() == [str(len(sizes)), str(sum(sizes)), str(len(sizes))]
    assert kit.metadata.share() == shared
    for turn in range(12):
        kit.metadata.add(records=[{"cid": cid_of(number), "size_bytes": turn} for number in range(150)])
        kit.metadata.count()
    assert all(os.path.exists(path) for path in shared.files)
    sizes = [record["size_bytes"] for record in kit.metadata.query(columns=["size_bytes"], limit=1_000).records]
    kit.metadata.share()
    assert not any(os.path.exists(path) for path in shared.files)
    assert pa.types.is_list(kit.engine.metadata.table().schema.field("tags").type)
    assert kit.engine.metadata.table().num_rows == len(sizes)


def test_two_processes_state_and_ask_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    script = (
        "import sys\n"
        "from ipfs_kit import Kit\n"
        "from ipfs_kit.ipld import CID\n"
        "from ipfs_kit.search.metadata import projection\n"
        "projection.TAIL_ROWS, projection.SEGMENT_ROWS = 32, 200\n"
        "with Kit.open(sys.argv[1]) as kit:\n"
        "    for n in range(0, 400, 20):\n"
        "        kit.metadata.add(records=[{'cid': str(CID.of(b'content %d' % k)), 'tags': ['other']} for k in range(n, n + 20)])\n"
        "        kit.metadata.count(filters=['tags contains other'])\n"
    )
    with Kit.open(tmp_path / "s") as kit:
        with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "s")]) as other:
            for number in range(1_000, 1_100):
                add(kit, number, tags=["own"])
                assert kit.metadata.count(filters=["tags contains own"]).records == number - 999
            assert other.wait(120) == 0
        assert kit.metadata.count(filters=["tags contains other"]).records == 400
        before = list(kit.engine.metadata.every(()))
        kit.metadata.rebuild()
        assert list(kit.engine.metadata.every(())) == before
        assert kit.store.verify().ok


def test_a_store_open_for_reading_answers_and_writes_nothing(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        add(kit, 1, tags=["x"])
    with Kit.open(tmp_path / "s", read_only=True) as kit:
        assert found(kit, "tags contains x") == [cid_of(1)]
        assert not cache(kit).exists()
        for call in (kit.metadata.rebuild, kit.metadata.share, lambda: add(kit, 2)):
            with pytest.raises(ReadOnly):
                call()


def test_without_pyarrow_records_are_kept_and_questions_name_what_to_install(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name=name)
        return really(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    cid = add(kit, 1, tags=["x"])
    assert kit.metadata.get(cid).record["tags"] == ["x"]
    with pytest.raises(MissingExtra, match="pip install pyarrow"):
        kit.metadata.query()
    monkeypatch.undo()
    assert found(kit, "tags contains x") == [cid]


def test_a_record_that_is_not_there_is_a_typed_error(kit: Kit) -> None:
    for call in (kit.metadata.get, kit.metadata.touch):
        with pytest.raises(NotFound, match=r"metadata\.add"):
            call(cid_of(1))
    assert kit.metadata.delete(cid_of(1)).changed == 0


def test_many_changes_leave_few_files_and_no_row_that_does_not_count(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    for turn in range(30):
        kit.metadata.add(records=[{"cid": cid_of(number), "size_bytes": turn} for number in range(100)])
        assert kit.metadata.count(filters=[f"size_bytes == {turn}"]).records == 100
        assert len(os.listdir(cache(kit))) <= 12
    rows = sum(each.rows for each in kit.engine.metadata.projection.segments())
    assert rows <= 500
    kit.metadata.share()
    assert sum(each.rows for each in kit.engine.metadata.projection.segments()) == 100


def test_what_was_deleted_leaves_the_cache_with_the_next_collection_of_garbage(kit: Kit) -> None:
    kit.store.gc()
    assert not cache(kit).exists()
    kit.metadata.add(records=[{"cid": cid_of(number), "path": f"/{number}"} for number in range(100)])
    add(kit, 7, metadata={"title": "zebracanary"})
    kit.metadata.share()
    kit.metadata.delete(cid_of(7))

    def traces() -> int:
        return sum(path.read_bytes().count(b"zebracanary") for path in cache(kit).iterdir())

    assert traces() > 0
    kit.store.gc()
    assert traces() == 0
    assert kit.metadata.count().records == 99


# -- content and files -----------------------------------------------------------------------------------------------


def test_a_record_is_made_from_stored_content_and_added(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("Grüße aus dem Norden\n" * 20_000, encoding="utf-8")
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    text, image = (kit.store.add(str(tmp_path / name)).cid for name in ("note.txt", "p.png"))
    kit.pin.add(str(text), name="keep")
    told = kit.metadata.describe(text, content=True).record
    assert told["size_bytes"] == (tmp_path / "note.txt").stat().st_size
    assert (told["mime_type"], told["local"], told["pinned"], told["pin_types"]) == (
        "text/plain",
        True,
        True,
        ["recursive"],
    )
    assert told["blocks"] == kit.dag.stat(str(text)).blocks
    kit.metadata.add(records=[told, kit.metadata.describe(image).record])
    assert kit.metadata.search("norden").records[0]["cid"] == str(text)
    assert found(kit, "mime_type == image/png") == [str(image)]
    node = kit.dag.put('{"a": 1}').cid
    assert kit.metadata.describe(node).record["size_bytes"] == len(dag_cbor.encode({"a": 1}))
    with pytest.raises(NotFound):
        kit.metadata.describe(cid_of(1))
    block = dag_cbor.encode({"child": CID.of(b"not here")})
    assert kit.metadata.describe(kit.block.put(block, codec="dag-cbor").cid).record["local"] is False


def test_records_are_written_as_parquet_and_json_lines_and_come_back_the_same(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_files, "_PART", 100)
    rng = random.Random(3)
    kit.metadata.add(records=[some_record(rng, number) for number in range(250)])
    everything = list(kit.engine.metadata.every(()))
    written = kit.metadata.export(str(tmp_path / "all.parquet"))
    assert written.records == 250
    table_ = parquet.read_table(tmp_path / "all.parquet")
    assert table_.schema.names == list(fields.FIELDS)
    assert parquet.ParquetFile(tmp_path / "all.parquet").num_row_groups == 3
    assert table_.to_pylist() == metadata_files.table_of(everything).to_pylist()
    kit.metadata.export(str(tmp_path / "some.jsonl"), file_format="jsonl", filters=["tags contains a"])
    lines = [json.loads(line) for line in (tmp_path / "some.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(line["cid"] for line in lines) == found(kit, "tags contains a")
    assert kit.metadata.add(records=lines).changed == 0
    with pytest.raises(AlreadyExists):
        kit.metadata.export(str(tmp_path / "all.parquet"))
    assert kit.metadata.export(str(tmp_path / "all.parquet"), overwrite=True).records == 250
