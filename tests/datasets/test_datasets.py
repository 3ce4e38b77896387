"""Datasets as people use them: rows in, versions, rows out, differences, over restarts."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ipfs_kit import CID, Kit
from ipfs_kit.datasets import where
from ipfs_kit.datasets.bloom import Bloom
from ipfs_kit.errors import AlreadyExists, Conflict, FormatError, InvalidInput, NotFound, Unsupported

ROWS = [{"id": n, "price": n / 4, "name": f"item {n}", "live": n % 2 == 0} for n in range(20)]


@pytest.fixture
def kit(tmp_path: Path) -> Any:
    with Kit.open(tmp_path / "store") as opened:
        yield opened


def rows_of(kit: Kit, version: str, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        page = kit.dataset.rows(version, offset=offset, limit=7, **options)
        found += [dict(zip(page.columns, row, strict=True)) for row in page.rows]
        offset = page.offset
    return found


def written(tmp_path: Path, form: str) -> Path:
    path = tmp_path / f"in.{form}"
    table = pa.Table.from_pylist(ROWS)
    if form == "parquet":
        parquet.write_table(table, path)
    elif form == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as out:
            out.write_table(table)
    elif form in ("csv", "tsv"):
        mark = "," if form == "csv" else "\t"
        lines = [mark.join(ROWS[0])] + [mark.join(json.dumps(v).strip('"') for v in row.values()) for row in ROWS]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    else:
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "tsv", "jsonl", "json"])
def test_rows_come_in_from_every_format_and_are_the_same_after_a_restart(tmp_path: Path, form: str) -> None:
    source = written(tmp_path, form)
    with Kit.open(tmp_path / "store") as kit:
        kit.dataset.create("sales", description="what was sold", tags=["shop"])
        made = kit.dataset.put(str(source), "sales")
        assert (made.added, made.rows, made.created) == (20, 20, True)
    with Kit.open(tmp_path / "store") as kit:
        assert rows_of(kit, "sales") == ROWS
        info = kit.dataset.info("sales")
        assert [(c.name, c.type) for c in info.columns] == [
            ("id", "int64"), ("price", "double"), ("name", "string"), ("live", "bool"),
        ]  # fmt: skip
        assert info.root == made.root
        assert "what was sold" in info.card
        assert kit.store.verify().ok


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "jsonl", "json"])
def test_what_is_written_out_is_read_by_others_and_comes_back_the_same(kit: Kit, tmp_path: Path, form: str) -> None:
    kit.dataset.create("a")
    kit.dataset.append("a", rows=ROWS)
    out = tmp_path / f"out.{form}"
    told = kit.dataset.get("a", str(out))
    assert (told.rows, told.size) == (20, out.stat().st_size)
    if form == "parquet":
        assert parquet.read_table(out).to_pylist() == ROWS
    kit.dataset.create("b")
    kit.dataset.put(str(out), "b")
    assert rows_of(kit, "b") == ROWS
    with pytest.raises(AlreadyExists):
        kit.dataset.get("a", str(out))
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "store"]


def test_the_same_rows_have_the_same_root_wherever_they_came_from(kit: Kit, tmp_path: Path) -> None:
    roots = set()
    for number, form in enumerate(("parquet", "arrow", "jsonl")):
        name = "same"
        with Kit.open(tmp_path / f"other{number}") as other:
            other.dataset.create(name)
            roots.add(other.dataset.put(str(written(tmp_path, form)), name).root)
    assert len(roots) == 1
    kit.dataset.create("same")
    again = kit.dataset.put(str(written(tmp_path, "json")), "same")
    assert roots == {again.root}
    unchanged = kit.dataset.put(str(written(tmp_path, "json")), "same", mode="replace")
    assert (unchanged.created, unchanged.root) == (False, again.root)


def test_older_versions_stay_as_they_were_and_undo_takes_the_last_one_back(kit: Kit) -> None:
    kit.dataset.create("log")
    first = kit.dataset.append("log", rows=ROWS[:3])
    second = kit.call("dataset.append", dataset="log", rows=ROWS[3:5])
    assert rows_of(kit, f"log@{first.commit}") == ROWS[:3]
    assert rows_of(kit, "log") == ROWS[:5]
    told = kit.dataset.versions("log").versions
    assert [(v.rows, v.added) for v in told] == [(5, 2), (3, 3)]
    kit.versions.undo(second.op_id)
    assert rows_of(kit, "log") == ROWS[:3]


def test_rows_that_do_not_fit_are_refused_and_nothing_is_stored(kit: Kit, tmp_path: Path) -> None:
    kit.dataset.create("t")
    before = kit.dataset.append("t", rows=ROWS[:2])
    for bad, why in (
        ([{"id": "x"}], "int64"),
        ([{"other": 1}], "evolve"),
        ([], "no row"),
        ([{"id": 1 << 70}], "fit"),
    ):
        with pytest.raises(InvalidInput, match=why):
            kit.dataset.append("t", rows=bad)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1" + random.Random(3).randbytes(400) + b"PAR1")
    damaged = {"a.csv": b"id,price\n1\n1,2,3\n", "a.jsonl": b"{not json\n", "a.json": b'{"a":1}', "a.arrow": b"x" * 80}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidInput):
            kit.dataset.put(str(tmp_path / name), "t")
    with pytest.raises(InvalidInput):
        kit.dataset.put(str(broken), "t")
    with pytest.raises(NotFound):
        kit.dataset.put(str(tmp_path / "none.csv"), "t")
    assert kit.dataset.info("t").root == before.root
    kit.bucket.create("plain")
    with pytest.raises(Unsupported, match=r"dataset\.create"):
        kit.dataset.info("plain")
    kit.files.write("t:/note.txt", text="by hand")
    with pytest.raises(Conflict, match="uncommitted"):
        kit.dataset.append("t", rows=ROWS[:1])


def test_columns_may_come_later_and_are_null_before(kit: Kit) -> None:
    kit.dataset.create("t")
    kit.dataset.append("t", rows=[{"id": 1}])
    kit.dataset.append("t", rows=[{"id": 2, "note": "new"}], evolve=True)
    assert rows_of(kit, "t") == [{"id": 1, "note": None}, {"id": 2, "note": "new"}]
    assert rows_of(kit, "t", where="note is null") == [{"id": 1, "note": None}]


def test_many_small_appends_leave_few_files_and_keep_the_order(kit: Kit) -> None:
    kit.dataset.create("stream")
    for number in range(70):
        made = kit.dataset.append("stream", rows=[{"n": number}])
    assert made.parts == 70 // 16 + 70 % 16
    assert [row["n"] for row in rows_of(kit, "stream")] == list(range(70))
    names = {entry.name for entry in kit.files.list("stream:/data/train").entries}
    assert len(names) == made.parts
    assert len(kit.files.list("stream:/index/train").entries) == made.parts


def test_small_files_are_joined_too_and_large_rows_are_not(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipfs_kit.datasets.writing.JOINED_BYTES", 3_000)
    kit.dataset.create("t")
    wanted: list[dict[str, Any]] = []
    for number in range(40):
        rows = [{"n": number, "text": "x" * (4_000 if number == 20 else 10)}]
        path = tmp_path / "next.jsonl"
        path.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
        made = kit.dataset.put(str(path), "t")
        wanted += rows
    assert rows_of_all(kit, "t") == wanted
    # 16 joined, 4 before the large one, the large one, 16 joined, 3.
    assert made.parts == 1 + 4 + 1 + 1 + 3


def test_an_append_sent_twice_with_one_key_counts_once_also_after_a_restart(tmp_path: Path) -> None:
    given = {"dataset": "t", "rows": [{"n": 1}]}
    with Kit.open(tmp_path / "s") as kit:
        kit.dataset.create("t")
        first = kit.call_with("dataset.append", given, idempotency_key="batch-1")
    with Kit.open(tmp_path / "s") as kit:
        again = kit.call_with("dataset.append", given, idempotency_key="batch-1")
        assert again.replayed
        assert again.op_id == first.op_id
        assert kit.dataset.info("t").rows == 1


APPENDER = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    for n in range(int(sys.argv[3])):
        kit.call_with("dataset.append", {"dataset": "t", "rows": [{"who": sys.argv[2], "n": n}]},
                      idempotency_key=f"{sys.argv[2]}-{n}")
        print(n, flush=True)
"""


@pytest.mark.slow
def test_several_processes_append_and_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with Kit.open(store) as kit:
        kit.dataset.create("t")
    running = [
        subprocess.Popen([sys.executable, "-c", APPENDER, store, name, "12"], stdout=subprocess.DEVNULL)
        for name in "abc"
    ]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    with Kit.open(store) as kit:
        rows = rows_of(kit, "t")
        assert sorted((row["who"], row["n"]) for row in rows) == [(who, n) for who in "abc" for n in range(12)]
        for who in "abc":
            assert [row["n"] for row in rows if row["who"] == who] == list(range(12))


def test_a_killed_appender_loses_nothing_it_was_told_of_and_goes_on_where_it_was(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with Kit.open(store) as kit:
        kit.dataset.create("t")
    process = subprocess.Popen([sys.executable, "-c", APPENDER, store, "a", "1000"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Kit.open(store) as kit:
        rows = [row["n"] for row in rows_of(kit, "t")]
        assert rows == list(range(len(rows)))
        assert len(rows) > told
        for n in range(len(rows) + 2):
            given = {"dataset": "t", "rows": [{"who": "a", "n": n}]}
            kit.call_with("dataset.append", given, idempotency_key=f"a-{n}")
        assert [row["n"] for row in rows_of(kit, "t")] == list(range(len(rows) + 2))
        assert kit.store.verify().ok


def test_parts_that_cannot_hold_what_is_sought_are_not_opened(kit: Kit) -> None:
    kit.dataset.create("t", bloom=["user"])
    for base in (0, 100, 200):
        kit.dataset.append("t", rows=[{"n": base + i, "user": f"u{base + i * 7 % 10}"} for i in range(10)])
    page = kit.dataset.rows("t", where="n >= 105 and n < 108", explain=True)
    assert [row[0] for row in page.rows] == [105, 106, 107]
    assert [part.left_out is None for part in page.parts] == [False, True, False]
    found = kit.dataset.rows("t", where="user = 'u203'", explain=True)
    assert len(found.rows) == 1
    assert sum(part.left_out is None for part in found.parts) < 3
    assert kit.dataset.rows("t", where="user in ('nobody')", explain=True).rows == []


def test_differences_between_versions_are_named_row_by_row(kit: Kit) -> None:
    kit.dataset.create("t")
    first = kit.dataset.append("t", rows=ROWS[:10])
    changed = [dict(row, price=99.0) if row["id"] == 4 else row for row in ROWS[1:12]]
    kit.dataset.create("u")
    kit.dataset.append("u", rows=changed)
    found = kit.dataset.diff("t", "u", key=["id"])
    assert (found.added, found.removed, found.changed) == (2, 1, 1)
    by_kind = {row.change: row for row in found.rows}
    assert by_kind["changed"].before["price"] == 1.0
    assert by_kind["changed"].after["price"] == 99.0
    assert by_kind["removed"].before == ROWS[0]
    whole = kit.dataset.diff("t", "u")
    assert (whole.added, whole.removed, whole.changed) == (3, 2, 0)
    kit.dataset.append("t", rows=ROWS[10:12])
    step = kit.dataset.diff(f"t@{first.commit}", "t")
    assert (step.added, step.removed, step.parts_shared, step.parts_read) == (2, 0, 1, 1)
    with pytest.raises(InvalidInput, match="no key"):
        kit.dataset.diff("t", "u", key=["live"])


def test_one_edited_row_of_many_stores_a_few_per_cent_again(kit: Kit, tmp_path: Path) -> None:
    draw = random.Random(5)
    table = pa.table(
        {
            "id": pa.array(range(300_000)),
            "value": [draw.random() for _ in range(300_000)],
            "text": [f"note {draw.randrange(10**9)}" for _ in range(300_000)],
        }
    )
    path = tmp_path / "big.parquet"
    parquet.write_table(table, path)
    kit.dataset.create("big")
    kit.dataset.put(str(path), "big")
    size = kit.dataset.info("big").size
    stored = blocks_of(kit)
    edited = pa.concat_tables([table.slice(0, 150_000), table.slice(7, 1), table.slice(150_000)])
    parquet.write_table(edited, path)
    kit.dataset.put(str(path), "big", mode="replace")
    assert kit.dataset.info("big").rows == 300_001
    new = sum(length for cid, length in blocks_of(kit).items() if cid not in stored)
    assert size * 0.001 < new < size * 0.2  # pages are 64 KiB and more, whatever the size of the file


def blocks_of(kit: Kit) -> dict[CID, int]:
    found: dict[CID, int] = {}
    cursor = None
    while True:
        page = kit.block.list(cursor=cursor)
        found |= {cid: len(kit.engine.blocks.get(cid)) for cid in page.blocks}
        cursor = page.cursor
        if cursor is None:
            return found


def test_a_row_put_in_early_leaves_later_parts_as_they_are(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipfs_kit.datasets.writing.PART_ROWS", 1_000)
    monkeypatch.setattr("ipfs_kit.datasets.writing.WINDOW_ROWS", 200)
    rows = [{"n": n, "text": f"row {n * 7919 % 10007}"} for n in range(10_000)]
    for name, wanted in (("a", rows), ("b", [*rows[:5], {"n": -1, "text": "new"}, *rows[5:]])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in wanted), encoding="utf-8")
        kit.dataset.create(name)
        kit.dataset.put(str(path), name)
        assert rows_of_all(kit, name) == wanted
    found = kit.dataset.diff("a", "b")
    assert (found.added, found.removed) == (1, 0)
    assert found.parts_read == 2
    assert found.parts_shared >= 9


def rows_of_all(kit: Kit, name: str) -> list[dict[str, Any]]:
    return [row for table in kit.dataset_batches(name) for row in table.to_pylist()]


def test_lineage_crosses_datasets_and_names_addresses(kit: Kit) -> None:
    for name in ("raw", "clean", "model-input"):
        kit.dataset.create(name)
    raw = kit.dataset.append("raw", rows=ROWS[:5])
    out = Path(kit.engine.path).parent / "clean.jsonl"
    kit.dataset.get("raw", str(out), where="live = true")
    clean = kit.dataset.put(
        str(out), "clean", parents=["raw", "s3://bucket/rules.yml"], transformation="drop dead rows"
    )
    kit.dataset.put(str(out), "model-input", parents=[f"clean@{clean.commit}"], transformation="as it is")
    steps = kit.dataset.lineage("model-input").steps
    assert [(s.depth, s.parent, s.transformation) for s in steps] == [
        (1, f"clean@{clean.commit}", "as it is"),
        (2, f"raw@{raw.commit}", "drop dead rows"),
        (2, "s3://bucket/rules.yml", "drop dead rows"),
    ]


def test_folders_are_read_by_split_and_splits_are_kept_apart(kit: Kit, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name, rows in (("train-0.csv", ROWS[:4]), ("train-1.csv", ROWS[4:6]), ("val/part.csv", ROWS[6:9])):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id,price\n" + "".join(f"{r['id']},{r['price']}\n" for r in rows), encoding="utf-8")
    (folder / "linked.csv").symlink_to("/etc/hostname")
    kit.dataset.create("t")
    kit.dataset.put(str(folder), "t")
    assert {s.name: s.rows for s in kit.dataset.info("t").splits} == {"train": 6, "validation": 3}
    assert [row["id"] for row in rows_of(kit, "t", split="validation")] == [6, 7, 8]
    with pytest.raises(NotFound, match="validation"):
        kit.dataset.rows("t", split="test")


def test_a_damaged_manifest_is_an_error_that_says_so(kit: Kit) -> None:
    kit.dataset.create("t")
    kit.dataset.append("t", rows=ROWS[:2])
    for text in ("[]", "{", '{"format": 99}', '{"format": 1, "splits": {"../x": {}}}', "[" * 100_000):
        kit.files.write("t:/dataset.json", text=text)
        with pytest.raises(FormatError):
            kit.dataset.info("t")
    kit.files.write("t:/dataset.json", text="{}")
    kit.versions.restore("t:/dataset.json", "main", force=True)
    kit.files.write("t:/data/train/00000000.parquet", text="not parquet")
    with pytest.raises(FormatError):
        kit.dataset.rows("t")


def test_every_dataset_call_is_recorded(kit: Kit) -> None:
    kit.dataset.create("t")
    made = kit.call("dataset.append", dataset="t", rows=ROWS[:2])
    assert isinstance(made.cid, CID)
    assert made.ack == "fsync"
    names = [op.operation for op in kit.ledger.tail(limit=5).ops]
    assert {"dataset.create", "dataset.append"} <= set(names)
    assert [d.name for d in kit.dataset.list().datasets] == ["t"]


def test_batches_for_training_hold_every_row_once_and_are_shuffled_alike_by_one_seed(kit: Kit) -> None:
    kit.dataset.create("t")
    for base in (0, 3000, 6000):
        kit.dataset.append("t", rows=[{"n": base + i} for i in range(3000)])

    def order(**options: Any) -> list[int]:
        return [n for table in kit.dataset_batches("t", **options) for n in table["n"].to_pylist()]

    first = kit.dataset_batches("t", batch_rows=700)
    assert next(first).num_rows == 700
    kit.dataset.append("t", rows=[{"n": 9000}])
    assert sum(table.num_rows for table in first) == 8300
    assert order() == list(range(9001))
    mixed = order(shuffle=7)
    assert mixed == order(shuffle=7) != order(shuffle=8)
    assert sorted(mixed) == list(range(9001))
    shares = [order(shard=(which, 3), shuffle=1) for which in range(3)]
    assert sorted(n for share in shares for n in share) == list(range(9001))
    assert order(where="n >= 8999") == [8999, 9000]
    for bad in ({"batch_rows": 0}, {"shard": (3, 3)}, {"columns": ["z"]}, {"where": "z = 1"}):
        with pytest.raises(InvalidInput):
            order(**bad)


# -- conditions ------------------------------------------------------------------------------------------------------

CELLS = st.one_of(st.none(), st.integers(-5, 5))
OPS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@given(
    st.lists(st.tuples(CELLS, st.sampled_from(["a", "b", "it's", None])), min_size=1, max_size=12),
    OPS,
    st.integers(-6, 6),
)
@settings(max_examples=60, deadline=None)
def test_a_condition_keeps_the_rows_that_python_keeps_and_never_leaves_a_part_out_wrongly(
    cells: list[tuple[int | None, str | None]], op: str, value: int
) -> None:
    from ipfs_kit.datasets.figures import decode, encode, figures_of

    schema = pa.schema([("n", pa.int64()), ("s", pa.string())])
    table = pa.table([[n for n, _ in cells], [s for _, s in cells]], schema=schema)
    condition = where.Condition(where.parse(f"n {op} {value} and s != 'a'"), schema)
    python = {"=": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[op]
    wanted = [(n, s) for n, s in cells if n is not None and getattr(n, python)(value) and s is not None and s != "a"]
    found = [(row["n"], row["s"]) for row in condition.filtered(table).to_pylist()]
    assert found == wanted
    figures = decode(encode(figures_of(table, 10, ("n", "s"))))
    if condition.may_hold(figures) is not None:
        assert wanted == []


@pytest.mark.parametrize(
    "text",
    [
        *("n", "n >", "n > 'x", "n > 1 or n < 2", "n in ()", "n in (1", "n is maybe", "(n > 1)", "> 1"),
        *("n contains 5", "n > 1;", "z = 1", "n = 'x'"),
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    schema = pa.schema([("n", pa.int64())])
    with pytest.raises(InvalidInput):
        where.Condition(where.parse(text), schema)


def test_conditions_read_texts_and_odd_names() -> None:
    (found,) = where.parse('"odd ""name""" = \'it\'\'s\'')
    assert found == where.Comparison('odd "name"', "==", "it's")


@given(st.sets(st.one_of(st.integers(), st.text(max_size=20)), max_size=300))
@settings(max_examples=30, deadline=None)
def test_a_bloom_filter_never_denies_what_it_holds(values: set[Any]) -> None:
    made = Bloom.decode(Bloom.of(values).encode())
    assert all(made.may_hold(value) for value in values)
    strangers = [f"stranger {n}" for n in range(1000)]
    assert sum(made.may_hold(value) for value in strangers) < 60


def test_other_programs_read_a_version_through_fsspec(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("fsspec")
    store = tmp_path / "store"
    with Kit.open(store) as kit:
        kit.dataset.create("t")
        kit.dataset.append("t", rows=ROWS)
        kit.versions.tag_create("t", "v1")
        kit.dataset.append("t", rows=[dict(ROWS[0], id=99)])
    frame = pandas.read_parquet("kit://t@v1/data/train/00000000.parquet", storage_options={"store": str(store)})
    assert frame.to_dict("records") == ROWS
