"""One SELECT over segments and tail, in a child that can do nothing else."""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_segments_support import KEY, T0, Ring, Store, intent_and_outcome, record

from ipfs_kit import Kit
from ipfs_kit.errors import BudgetExceeded, Cancelled, Denied, InvalidInput, KitError, MissingExtra, Timeout
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger.sandbox import Limits, Sandbox
from ipfs_kit.ledger.segments import SealPolicy
from ipfs_kit.ledger.sql import OPS_COLUMNS, LedgerSql

SEALED = 600
ROWS = 1000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("sql"))
    made.append([record(i) for i in range(SEALED)])
    made.segments.seal("main", SealPolicy(rows=300, age_s=0), T0 + 10**12)
    made.append([record(i) for i in range(SEALED, ROWS - 3)])
    made.append([*intent_and_outcome(ROWS - 3), intent_and_outcome(ROWS - 1)[0]])
    made.append([record(i, operation="stats.poll", subject=None) for i in range(50)], log="bulk")
    yield made
    made.state.close()


@pytest.fixture(scope="module")
def sql(store: Store) -> Iterator[LedgerSql]:
    with LedgerSql(store.state, store.directory, keys=Ring()) as made:
        yield made


def test_ops_counts_segments_tail_and_both_logs(sql: LedgerSql) -> None:
    result = sql.query("SELECT log, count(*) AS n FROM ops GROUP BY log ORDER BY log")
    assert result.columns == ("log", "n")
    assert result.rows == [("bulk", 50), ("main", ROWS - 1)]
    assert not result.truncated
    assert {"landlock", "netns"} - set(result.walls) or result.walls


def test_intent_and_outcome_are_one_row_in_ops_and_two_in_records(sql: LedgerSql) -> None:
    query = "SELECT status, target, effect FROM {} WHERE operation = 'pin.remote' ORDER BY idx"
    assert sql.query(query.format("ops")).rows == [
        ("ok", f"b:/p/{ROWS - 3}.txt", '{"step":"send"}'),
        ("open", f"b:/p/{ROWS - 1}.txt", '{"step":"send"}'),
    ]
    assert sql.query("SELECT phase FROM records WHERE operation = 'pin.remote' ORDER BY idx").rows == [(1,), (2,), (1,)]


@pytest.mark.parametrize("index", [5, SEALED + 5])
def test_every_column_of_a_row_is_readable(sql: LedgerSql, store: Store, index: int) -> None:
    result = sql.query(f"SELECT * FROM ops WHERE log = 'main' AND idx = {index}")
    (row,) = result.dicts()
    assert list(row) == list(OPS_COLUMNS)
    assert row["record_cid"] == str(CID(store.entries["main"][index]))
    assert row["time"] == datetime.datetime.fromtimestamp(T0 / 1e9, datetime.UTC) + datetime.timedelta(
        milliseconds=index
    )
    assert (row["target"], row["args"]) == (f"b:/p/{index}.txt", f'{{"n":{index}}}')
    assert row["actor_name"] == f"Name of a-{index % 4}"
    assert row["duration_ms"] == index % 977 / 1000
    assert len(row["op_id"]) == 32


def test_versions_are_cid_texts(sql: LedgerSql) -> None:
    rows = sql.query("SELECT before, after, ext FROM ops WHERE idx = 150 AND log = 'main'").rows
    root = str(CID.of(b"root"))
    assert rows[0][:2] == (root, f"{root} {root}")


def test_a_destroyed_key_gives_null_and_the_record_cid_stays(store: Store) -> None:
    ring = Ring()
    ring.destroyed.add("s-1")
    with LedgerSql(store.state, store.directory, keys=ring) as sql:
        rows = sql.query(
            "SELECT subject, target, record_cid FROM ops WHERE idx IN (1, 2) AND log = 'main' ORDER BY idx"
        ).rows
    assert [(s, t) for s, t, _ in rows] == [("s-1", None), ("s-2", "b:/p/2.txt")]
    assert rows[0][2] == str(CID(store.entries["main"][1]))


def test_keys_are_asked_only_for_subjects_a_query_decrypts(store: Store) -> None:
    ring = Ring()
    with LedgerSql(store.state, store.directory, keys=ring) as sql:
        sql.query("SELECT operation, count(*) FROM ops GROUP BY 1")
        assert ring.asked == []
        sql.query("SELECT target FROM ops WHERE idx = 1 AND log = 'main'")
        assert "s-2" not in ring.asked
        assert "s-1" in ring.asked


def test_without_keys_sealed_columns_are_null(store: Store) -> None:
    with LedgerSql(store.state, store.directory) as sql:
        assert sql.query("SELECT target, actor_name FROM ops WHERE idx = 1 AND log = 'main'").rows == [(None, None)]


@pytest.mark.slow
def test_new_records_and_new_segments_show_in_the_next_query(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with LedgerSql(store.state, tmp_path, keys=Ring()) as sql:
        count = "SELECT count(*), min(idx), max(idx) FROM ops"
        assert sql.query(count).rows == [(0, None, None)]
        store.append([record(i) for i in range(250)])
        assert sql.query(count).rows == [(250, 0, 249)]
        store.segments.seal("main", SealPolicy(rows=100, age_s=1e9), T0)
        store.append([record(i) for i in range(250, 300)])
        assert sql.query(count).rows == [(300, 0, 299)]
        assert sql.query("SELECT count(DISTINCT op_id) FROM ops").rows == [(300,)]
    store.state.close()


@pytest.mark.slow
def test_a_row_filter_hides_other_rows_even_from_side_effects(sql: LedgerSql) -> None:
    own = "actor = 'a-1'"
    assert sql.query("SELECT DISTINCT actor FROM ops", row_filter=own).rows == [("a-1",)]
    assert sql.query("SELECT DISTINCT actor FROM records", row_filter=own).rows == [("a-1",)]
    with pytest.raises(InvalidInput) as caught:
        sql.query("SELECT error(actor || coalesce(target, '')) FROM ops", row_filter=own)
    assert "a-1b:/p/" in str(caught.value)
    rows = sql.query(
        "SELECT * FROM ops WHERE CASE WHEN actor <> 'a-1' THEN error(target) IS NULL ELSE true END", row_filter=own
    )
    assert {row[OPS_COLUMNS_AT["actor"]] for row in rows.rows} == {"a-1"}
    assert sql.query("SELECT count(*) FROM ops", row_filter="target = 'b:/p/7.txt' AND log = 'main'").rows == [(1,)]


OPS_COLUMNS_AT = {name: at for at, name in enumerate(OPS_COLUMNS)}

ATTACKS = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM parquet_metadata('x')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "COPY ops TO '/tmp/stolen'",
    "COPY (SELECT 1) TO '/tmp/stolen.parquet'",
    "ATTACH '/tmp/evil.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "SET threads = 8",
    "SET enable_external_access = true",
    "RESET ALL",
    "EXPORT DATABASE '/tmp/stolen'",
    "CREATE TABLE t (a INT)",
    "INSERT INTO ops SELECT * FROM ops",
    "WITH a AS (INSERT INTO ops VALUES (1) RETURNING 1) SELECT * FROM a",
    "DROP VIEW ops",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW ops",
    "",
    ";",
    "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE x AS SELECT 1",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM _kit_main",
    "SELECT * FROM _kit_tail",
    "SELECT * FROM main.ops",
    "SELECT _kit_unseal('target', 's-1', op_id, op_id) FROM ops",
    "SELECT * FROM query('SELECT * FROM _kit_tail')",
    "SELECT * FROM query_table('_kit_tail')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM request",
    "SELECT * FROM tail",
    "SELECT * FROM df",
    "SHOW TABLES",
    "SELECT nonsense FROM ops",
    "SELECT 1 FROM",
    "\x00",
    "SELECT CAST(operation AS INTEGER) FROM ops",
    "SELECT * FROM range(10) t(ops), pandas_scan(1)",
]


# Each costs one child; one in six stands for the rest in the fast tier.
@pytest.mark.parametrize(
    "attack", [pytest.param(a, marks=[] if at % 6 == 0 else pytest.mark.slow) for at, a in enumerate(ATTACKS)]
)
def test_anything_but_one_select_over_our_views_is_refused(sql: LedgerSql, attack: str) -> None:
    with pytest.raises((InvalidInput, Denied)):
        sql.query(attack)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "wall_s"),
    [
        ("SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3", 1.0),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t", 1.0),
        ("SELECT list(a.range) FROM range(100000000) a", 5.0),
        ("SELECT repeat('x', 1000000000) || repeat('y', 1000000000)", 5.0),
        ("SELECT a.*, b.* FROM range(100000) a, range(100000) b ORDER BY hash(a.range, b.range)", 3.0),
        ("SELECT " + "(" * 8000 + "1" + ")" * 8000, 3.0),
        ("SELECT " + "+".join(["1"] * 20000), 3.0),
        ("SELECT '" + "x" * 70_000 + "'", 1.0),
    ],
)
def test_bombs_end_typed_and_in_time(sql: LedgerSql, attack: str, wall_s: float) -> None:
    began = time.monotonic()
    limits = Limits(wall_s=wall_s, memory_bytes=128 << 20)
    with pytest.raises((Timeout, BudgetExceeded, InvalidInput)):
        sql.query(attack, limits=limits)
    # The wall limit, the start of a child on a busy machine, and its reaping.
    assert time.monotonic() - began < wall_s + 20


@pytest.mark.slow
def test_a_huge_result_is_cut_and_says_so(sql: LedgerSql) -> None:
    result = sql.query("SELECT * FROM range(1000000000)", limits=Limits(rows=5000))
    assert (result.row_count, result.truncated) == (5000, True)
    result = sql.query("SELECT repeat('x', 1000) FROM range(100000)", limits=Limits(rows=100_000, bytes=1 << 20))
    assert result.truncated
    assert 500 < result.row_count < 1100
    with pytest.raises(BudgetExceeded):
        sql.query("SELECT repeat('x', 2000000)", limits=Limits(bytes=1 << 20))


@pytest.mark.slow
def test_selects_of_every_shape_are_allowed(sql: LedgerSql) -> None:
    for text in [
        "WITH t AS (SELECT stream, count(*) n FROM ops GROUP BY 1) SELECT * FROM t ORDER BY n DESC;",
        "FROM ops SELECT count(*)",
        "SELECT operation, row_number() OVER (PARTITION BY stream ORDER BY idx) FROM ops LIMIT 3 -- a comment",
        "SELECT a.idx FROM ops a JOIN records b USING (op_id) WHERE a.idx < 3",
        "SELECT time_bucket(INTERVAL 1 hour, time) h, count(*) FROM ops GROUP BY 1",
        "SELECT args->>'n' FROM ops WHERE idx = 4",
        "SELECT count(*) FROM ops WHERE time < now()",
        "SELECT 1 UNION SELECT 2",
        "VALUES (1), (2)",
        "DESCRIBE ops",
        "SELECT * FROM (SELECT unnest([1, 2]))",
    ]:
        assert sql.query(text).row_count >= 1, text


def test_order_by_survives_the_row_limit(sql: LedgerSql) -> None:
    rows = sql.query("SELECT idx FROM ops WHERE log = 'main' ORDER BY idx DESC", limits=Limits(rows=5)).rows
    assert [idx for (idx,) in rows] == [999, 998, 996, 995, 994]


def test_the_child_shows_no_key_in_arguments_or_environment(sql: LedgerSql) -> None:
    sql.prepare()
    (pid, *_) = sql._sandbox.pids()
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert KEY not in arguments
    assert b"SELECT" not in arguments


def test_children_die_with_the_pool_and_leave_no_zombie(store: Store) -> None:
    with Sandbox(warm=2) as pool, LedgerSql(store.state, store.directory, sandbox=pool) as sql:
        sql.query("SELECT 1")
        pids = pool.pids()
        assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(Cancelled):
        pool.run({"sql": "SELECT 1"}, None, Limits())


@pytest.mark.slow
def test_children_die_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ipfs_kit.ledger.sandbox import Sandbox\n"
        "s = Sandbox(warm=2)\ns.prepare()\nprint(*s.pids(), flush=True)\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_several_threads_query_at_once(sql: LedgerSql) -> None:
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(sql.query("SELECT count(*) FROM ops WHERE log = 'bulk'", limits=Limits(wall_s=60)).rows)
        except KitError as exc:
            found.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [[(50,)]] * 4


@pytest.mark.parametrize("package", ["duckdb", "pyarrow"])
def test_a_missing_package_is_named(sql: LedgerSql, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=f"pip install {package}"):
        sql.query("SELECT 1")


def test_limits_outside_their_bounds_are_refused() -> None:
    with pytest.raises(InvalidInput):
        Limits(rows=0)
    with pytest.raises(InvalidInput):
        Limits(threads=1000)


def test_queries_leave_the_store_untouched(sql: LedgerSql, store: Store) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(p): (p.stat().st_size, p.stat().st_mtime_ns)
            for p in store.directory.rglob("*")
            if p.is_file() and not p.name.startswith("state.db-")
        }

    before = state()
    for attack in ("COPY ops TO 'x'", "SELECT * FROM ops", "SELECT error('x')"):
        with contextlib.suppress(InvalidInput, Denied):
            sql.query(attack)
    assert state() == before
    assert not os.path.exists("/tmp/stolen")


def test_a_store_in_a_folder_of_any_name_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "a'b [x]* ?{1,2}"
    with Kit.open(directory) as kit:
        kit.bucket.create("docs")
        kit.ledger.seal()
        kit.bucket.create("more")
        found = kit.ledger.sql("SELECT target FROM ops WHERE operation = 'bucket.create' ORDER BY idx")
        assert found.rows == [["docs"], ["more"]]
