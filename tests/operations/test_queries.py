"""Named queries on a known workload, after a restart: each answer is counted again without SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import Denied, InvalidInput, KitError, NotFound
from ipfs_kit.ledger.streams.queries import QUERIES
from ipfs_kit.operations.principal import Principal
from ipfs_kit.operations.toolsets.ledger import OpInfo

TRACE = bytes(range(16))
ANN = Principal("ann")
READER = Principal("reader", frozenset({"files:read"}))
GIVEN: dict[str, dict[str, Any]] = {
    "who_touched": {"object": "docs:/a"}, "object_timeline": {"object": "docs"}, "changed_between": {"first": "main:2"},
    "by_actor": {"actor": "ann"}, "by_trace": {"trace": TRACE.hex()}, "around": {"op": "main:3"},
    "causes": {"op": "main:3"}, "caused_by": {"op": "main:3"},
}  # fmt: skip


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    store = tmp_path_factory.mktemp("queries") / "store"
    with Kit.open(store) as made:
        made.bucket.create("docs")
        made.bucket.create("docs2")
        made.files.mkdir("docs:/sub")
        for number in range(4):
            made.call_with("files.write", {"path": "docs:/a", "text": str(number)}, principal=ANN, trace=TRACE)
        made.files.write("docs:/sub/b", text="b")
        made.files.write("docs2:/c", text="c")
        made.versions.commit("docs", message="m")
        for _ in range(3):
            with pytest.raises(KitError):
                made.files.read("docs:/none")
            with pytest.raises(Denied):
                made.call_with("files.rm", {"path": "docs:/a"}, principal=READER)
        made.stream.append("audit", events=[{"event_type": "user", "action": str(n), "user_id": "u"} for n in range(3)])
        made.ledger.seal()
    with Kit.open(store) as opened:
        opened.files.append("docs:/a", text="after the restart")
        yield opened


@pytest.fixture(scope="module")
def ops(kit: Kit) -> list[OpInfo]:
    """All that was recorded, read without SQL."""
    return [op for log in ("main", "bulk") for op in kit.ledger.tail(log=log, limit=1000).ops]


def ask(kit: Kit, name: str, **params: Any) -> list[dict[str, Any]]:
    found = kit.ledger.query(name, params=params)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUERIES)
def test_every_query_runs_and_is_listed_with_what_it_needs(kit: Kit, name: str) -> None:
    listed = {query.name: query for query in kit.ledger.queries().queries}[name]
    needed = {p.name for p in listed.parameters if p.required}
    assert needed == set(GIVEN.get(name, {}))
    result = kit.ledger.query(name, params=GIVEN.get(name))
    assert result.columns
    values = {p.name: p.default for p in listed.parameters} | GIVEN.get(name, {})
    assert kit.ledger.sql(listed.sql, params=values).columns == result.columns
    if needed:
        with pytest.raises(InvalidInput, match="needs"):
            kit.ledger.query(name)


@pytest.mark.slow
def test_error_rates_are_those_of_the_record(kit: Kit, ops: list[OpInfo]) -> None:
    calls, failed = (
        Counter(op.operation for op in ops),
        Counter(op.operation for op in ops if op.status in ("error", "denied")),
    )
    rows = {row["operation"]: row for row in ask(kit, "error_rate_by_tool")}
    for name in ("files.write", "files.read", "files.rm", "stream.append", "bucket.create"):
        assert (rows[name]["calls"], rows[name]["errors"] + rows[name]["denials"]) == (calls[name], failed[name])
        assert rows[name]["error_rate"] == failed[name] / calls[name]
    assert rows["files.rm"]["denials"] == 3
    assert len(ask(kit, "denials")) == 3
    assert {row["who"] for row in ask(kit, "denials")} == {"reader"}


@pytest.mark.slow
def test_who_touched_an_object_means_it_and_what_is_below_it(kit: Kit) -> None:
    rows = {(row["who"], row["operation"]): row["calls"] for row in ask(kit, "who_touched", object="docs:/a")}
    assert rows == {("ann", "files.write"): 4, ("local", "files.append"): 1, ("reader", "files.rm"): 3}
    assert {row["target"] for row in ask(kit, "object_timeline", object="docs:/sub")} == {"docs:/sub", "docs:/sub/b"}
    whole = {row["target"] for row in ask(kit, "object_timeline", object="docs")}
    assert {"docs", "docs:/a", "docs:/sub/b"} <= whole
    assert not any(target.startswith("docs2") for target in whole)


@pytest.mark.slow
def test_what_changed_between_two_ops_is_what_lies_between(kit: Kit, ops: list[OpInfo]) -> None:
    first = next(op.op for op in ops if op.target == "docs:/a")
    last = next(op.op for op in ops if op.target == "docs2:/c")
    rows = ask(kit, "changed_between", first=first, last=last)
    assert [row["target"] for row in rows] == ["docs:/a"] * 3 + ["docs:/sub/b", "docs2:/c"]
    assert all(later["before"] == row["after"] for row, later in pairwise(rows[:3]))
    newest = ask(kit, "changed_between", first=last)
    assert newest[-1]["operation"] == "files.append"
    assert ask(kit, "changed_between", first="bulk:0") == []


@pytest.mark.slow
def test_correlation_by_trace_actor_and_window(kit: Kit, ops: list[OpInfo]) -> None:
    assert [row["target"] for row in ask(kit, "by_trace", trace=TRACE.hex().upper())] == ["docs:/a"] * 4
    (row,) = ask(kit, "by_actor", actor="ann")
    assert (row["operation"], row["calls"]) == ("files.write", 4)
    middle = ops[3]
    assert middle.op in {row["op"] for row in ask(kit, "around", op=middle.op, seconds=60)}
    assert {row["op"] for row in ask(kit, "around", op=middle.op, seconds=0)} == {
        op.op for op in ops if op.time == middle.time
    }
    rows = ask(kit, "co_occurring_failures", window_s=3600)
    pairs = {(row["failure"].split(":")[0], row["other"].split(":")[0]) for row in rows}
    assert ("files.read", "files.rm") in pairs


@pytest.mark.slow
def test_causes_and_consequences_follow_the_parents(kit: Kit, ops: list[OpInfo]) -> None:
    child = next(op for op in ops if op.parent is not None)
    chain = ask(kit, "causes", op=child.op)
    assert [row["step"] for row in chain] == [0, 1]
    assert chain[0]["op"] == child.op
    consequences = ask(kit, "caused_by", op=chain[1]["op"])
    assert {row["op"] for row in consequences} == {op.op for op in ops if op.parent == child.parent}


@pytest.mark.parametrize(
    ("name", "params", "error"),
    [
        ("nope", {}, NotFound),
        ("denials", {"since": "yesterday"}, InvalidInput),
        ("denials", {"since": 1e300}, InvalidInput),
        ("denials", {"top": "many"}, InvalidInput),
        ("denials", {"limit": 3}, InvalidInput),
        ("denials", {"since": ["2026-01-01"]}, InvalidInput),
        ("around", {"op": "main:999999"}, NotFound),
        ("around", {"op": "' OR 1=1"}, NotFound),
        ("who_touched", {"object": "x" * 5000}, InvalidInput),
    ],
)
def test_wrong_values_are_refused(kit: Kit, name: str, params: dict[str, Any], error: type[KitError]) -> None:
    with pytest.raises(error):
        kit.ledger.query(name, params=params)


@pytest.mark.slow
def test_values_are_bound_and_never_read_as_sql(kit: Kit) -> None:
    hostile = "x' OR TRUE --"
    assert ask(kit, "who_touched", object=hostile) == []
    found = kit.ledger.sql("SELECT $v AS v, $n + 1 AS n, $none IS NULL AS z, $many AS m", params={
        "v": hostile, "n": 41, "none": None, "many": ["a", "b"],
    })  # fmt: skip
    assert found.rows == [[hostile, 42, True, ["a", "b"]]]
    for query, params in (("SELECT $v", {}), ("SELECT 1", {"v": 1}), ("SELECT $v", {"w": 1})):
        with pytest.raises(InvalidInput):
            kit.ledger.sql(query, params=params)


@pytest.mark.slow
def test_times_are_taken_as_text_or_seconds_alike(kit: Kit) -> None:
    before = ask(kit, "denials", since="2000-01-01")
    assert len(before) == 3
    assert ask(kit, "denials", since=946_684_800) == before
    assert ask(kit, "denials", since="2999-01-01T00:00:00+02:00") == []
    assert len(ask(kit, "denials", top=2)) == 2
