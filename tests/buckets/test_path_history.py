"""``log PATH`` and last changes: the index gives what looking at every commit gives, and survives loss and crashes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.buckets import commits
from ipfs_kit.buckets.path_history import touches
from ipfs_kit.errors import Cancelled, RefNotFound
from ipfs_kit.operations.context import Progress


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("b")
        yield opened


def commit(kit: Kit, path: str, text: str, **values: Any) -> Any:
    kit.files.mkdir("b:" + (path.rpartition("/")[0] or "/"), parents=True)
    kit.files.write(f"b:{path}", text=text)
    return kit.versions.commit("b", message=f"{path} is {text}", metadata=values or None).commit


def slow_log(kit: Kit, path: str, ref: str = "b") -> list[Any]:
    """What looking at every commit gives."""
    buckets = kit.engine.buckets
    space = buckets.workspace("b").space
    head = kit.versions.log(ref).commits[0].cid
    parts = tuple(part.encode() for part in path.split("/") if part)
    return [cid for cid, found in commits.walk(space.get, [head]) if touches(space, found, parts)]


def fast_log(kit: Kit, path: str, ref: str = "b", **options: Any) -> list[Any]:
    return [entry.cid for entry in kit.versions.log(f"{ref}:{path}", **options).commits]


def tangled(kit: Kit, seed: int = 5, rounds: int = 60) -> list[str]:
    """Commits, branches, merges, renames and removals at random."""
    chosen = random.Random(seed)
    paths = ["/a", "/d/a", "/d/b", "/d/e/c", "/x/1", "/x/2"]
    commit(kit, "/a", "0")
    kit.versions.branch_create("b", "topic")
    for turn in range(rounds):
        what = chosen.randrange(10)
        if what < 6:
            commit(kit, chosen.choice(paths), str(turn))
        elif what == 6:
            other = chosen.choice(["main", "topic"])
            kit.versions.checkout("b", other)
        elif what == 7:
            here = kit.versions.status("b").branch
            kit.versions.merge("b", "topic" if here == "main" else "main", strategy="theirs")
        elif kit.engine.buckets.exists_at("b:/d"):
            kit.files.rm("b:/d", recursive=True) if what == 8 else kit.files.mv("b:/d", f"b:/moved-{turn}")
            kit.versions.commit("b", message=f"turn {turn}")
    return [*paths, "/", "/d", "/d/e", "/x", "/never"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_index_gives_what_looking_at_every_commit_gives(kit: Kit, seed: int) -> None:
    paths = tangled(kit, seed)
    for ref in ("b", "b@main", "b@topic"):
        for path in paths:
            if path != "/":
                assert sorted(map(str, fast_log(kit, path, ref))) == sorted(map(str, slow_log(kit, path, ref))), path
    for entry in kit.versions.blame("b:/").entries:
        assert entry.commit is not None
        assert entry.commit.cid in slow_log(kit, entry.path)[:2]


def test_a_page_continues_where_the_last_ended_and_new_commits_are_found(kit: Kit) -> None:
    made = [commit(kit, "/d/f", str(turn)) for turn in range(7)]
    for turn in range(5):
        commit(kit, "/other", str(turn))
    page = kit.versions.log("b:/d", limit=3)
    assert [entry.cid for entry in page.commits] == made[:3:-1]
    rest = kit.versions.log("b:/d", limit=10, cursor=page.cursor)
    assert [entry.cid for entry in rest.commits] == made[3::-1]
    assert rest.cursor is None
    newest = commit(kit, "/d/g", "new")
    assert fast_log(kit, "/d", limit=1) == [newest]
    with pytest.raises(RefNotFound):
        kit.versions.log("b:/d", cursor=kit.files.stat("b:/d").cid)


def test_a_damaged_a_lost_and_a_cut_index_are_made_again(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        made = [commit(kit, "/f", str(turn)) for turn in range(3)]
        assert fast_log(kit, "/f") == made[::-1]
        (index,) = (tmp_path / "store" / "cache" / "history").glob("*.db")
    index.write_bytes(b"not a database" * 1000)
    with Kit.open(tmp_path / "store") as kit:
        assert fast_log(kit, "/f") == made[::-1]
        index.unlink()
        assert fast_log(kit, "/f") == made[::-1]
        many = [commit(kit, "/f", f"again {turn}") for turn in range(3)]

        def stop(progress: Progress) -> None:
            raise Cancelled("enough")

        with pytest.raises(Cancelled):
            kit.call_with("versions.log", {"state": "b:/f"}, progress=stop)
        assert fast_log(kit, "/f") == [*many[::-1], *made[::-1]]
        assert kit.store.verify().ok


def test_an_index_damaged_inside_is_made_again(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        made = [commit(kit, f"/d/f{turn % 20}", str(turn)) for turn in range(120)]
        wanted = fast_log(kit, "/d", limit=500)
        assert wanted == made[::-1]
        (index,) = (tmp_path / "store" / "cache" / "history").glob("*.db")
    data = bytearray(index.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 600] = b"\xff" * 600
    index.write_bytes(data)
    with Kit.open(tmp_path / "store") as kit:
        assert fast_log(kit, "/d", limit=500) == wanted
        assert len(kit.versions.blame("b:/d").entries) == 20


def test_sealed_and_read_only_buckets_are_answered_without_an_index(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b", kind="sealed")
        first = commit(kit, "/d/f", "1")
        commit(kit, "/g", "2")
        assert fast_log(kit, "/d") == [first]
        assert [(each.path, each.commit.message) for each in kit.versions.blame("b:/").entries if each.commit] == [
            ("/d", "/d/f is 1"),
            ("/g", "/g is 2"),
        ]
        assert not (tmp_path / "store" / "cache" / "history").exists()
    with Kit.open(tmp_path / "store", read_only=True) as kit:
        assert fast_log(kit, "/d/f") == [first]


def test_values_of_commits_are_shown_and_choose_commits(kit: Kit) -> None:
    commit(kit, "/f", "1", ticket=7, team="red")
    two = commit(kit, "/f", "2", ticket=8, team="red")
    three = commit(kit, "/g", "3", ticket=8)
    shown = kit.versions.log("b").commits
    assert [entry.metadata for entry in shown] == [
        {"ticket": 8},
        {"ticket": 8, "team": "red"},
        {"ticket": 7, "team": "red"},
    ]
    chosen = kit.versions.log("b", metadata={"ticket": 8}).commits
    assert [entry.cid for entry in chosen] == [three, two]
    assert fast_log(kit, "/f", metadata={"ticket": "8"}) == [two]
    page = kit.versions.log("b", metadata={"team": "red"}, limit=1)
    assert [entry.cid for entry in page.commits] == [two]
    assert len(kit.versions.log("b", metadata={"team": "red"}, cursor=page.cursor).commits) == 1


def test_the_history_of_a_path_as_it_was_then(kit: Kit) -> None:
    commit(kit, "/f", "1")
    then = kit.call("versions.commit", bucket="b", message="nothing").index
    commit(kit, "/f", "2")
    for state in (f"b@op:{then}", f"b@main@op:{then}"):
        assert len(kit.versions.log(f"{state}:/f").commits) == 1
        assert [entry.commit.message for entry in kit.versions.blame(f"{state}:/").entries if entry.commit] == [
            "/f is 1"
        ]
    assert len(kit.versions.log("b@time:2100-01-01T00:00:00Z:/f").commits) == 2


def test_last_changes_are_paged_and_leave_out_what_is_uncommitted(kit: Kit) -> None:
    for name in ("c", "a", "b"):
        commit(kit, f"/{name}", "1")
    last = commit(kit, "/a", "2")
    kit.files.write("b:/uncommitted", text="x")
    page = kit.versions.blame("b:/", limit=2)
    assert [entry.path for entry in page.entries] == ["/a", "/b"]
    assert page.entries[0].commit is not None
    assert page.entries[0].commit.cid == last
    rest = kit.versions.blame("b:/", limit=2, cursor=page.cursor)
    assert ([entry.path for entry in rest.entries], rest.cursor) == (["/c"], None)


def test_the_index_of_a_deleted_bucket_goes_with_its_blocks(kit: Kit, tmp_path: Path) -> None:
    commit(kit, "/f", "1")
    fast_log(kit, "/f")
    kit.bucket.delete("b", force=True)
    kit.store.gc()
    assert not list((tmp_path / "store" / "cache" / "history").glob("*.db"))
