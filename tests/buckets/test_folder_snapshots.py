"""Versions of a folder outside: what changed is found, nothing else is read, and any version comes back."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.buckets import folder_tracker
from ipfs_kit.errors import Conflict, InvalidInput, PathNotFound, QuotaExceeded, ReadOnly

OLD_NS = 1_600_000_000_000_000_000


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("b")
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "d" / "e").mkdir(parents=True)
    for name in ("a", "d/b", "d/e/c"):
        (made / name).write_text(name)
    (made / "link").symlink_to("a")
    settle(made)
    return made


def settle(folder: Path) -> None:
    """Make everything look changed long ago, as in a folder at rest: then figures are proof."""
    for each in folder.rglob("*"):
        os.utime(each, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


class Later:
    """The kit's clock, put ahead so that changes of this moment (their ctime) lie long ago."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.real = kit.engine.buckets.now
        kit.engine.buckets.now = lambda: self.real() + 3_600_000_000_000


def contents(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in sorted(folder.rglob("*")):
        name = str(each.relative_to(folder))
        found[name] = os.readlink(each) if each.is_symlink() else each.read_bytes() if each.is_file() else None
    return found


def changes(kit: Kit, folder: Path, state: str = "b") -> dict[str, str]:
    return {each.path: each.change for each in kit.versions.folder_status(str(folder), state).changes}


def test_status_is_clean_after_a_snapshot_and_names_exactly_what_changed(kit: Kit, folder: Path) -> None:
    first = kit.versions.snapshot(str(folder), "b", message="first")
    assert (first.created, first.files, first.problems_count) == (True, 4, 0)
    assert kit.versions.folder_status(str(folder), "b").clean
    (folder / "a").write_text("edited")
    (folder / "new").write_text("new")
    (folder / "d" / "b").unlink()
    assert changes(kit, folder) == {"/a": "modified", "/new": "added", "/d/b": "removed"}
    status = kit.versions.folder_status(str(folder), "b")
    second = kit.versions.snapshot(str(folder), "b", message="second")
    assert (second.changed, second.root) == (3, status.root)
    assert [entry.message for entry in kit.versions.log("b").commits] == ["second", "first"]
    differ = kit.versions.diff(f"b@{first.commit}", f"b@{second.commit}").changes
    assert {each.path: each.change for each in differ} == {"/a": "modified", "/new": "added", "/d/b": "removed"}
    assert kit.versions.snapshot(str(folder), "b").created is False
    assert kit.versions.snapshot(str(folder), "b", force=True).created is True


def test_only_what_may_have_changed_is_read_also_after_a_restart(tmp_path: Path, folder: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        Later(kit)
        assert kit.versions.snapshot(str(folder), "b").read == 4
        assert kit.versions.snapshot(str(folder), "b").read == 0
    with Kit.open(tmp_path / "store") as kit:
        Later(kit)
        (folder / "a").write_text("other")
        again = kit.versions.snapshot(str(folder), "b")
        assert (again.read, again.changed, again.files) == (1, 1, 4)
        shutil.rmtree(tmp_path / "store" / "cache" / "folders")
        lost = kit.versions.snapshot(str(folder), "b")
        assert (lost.read, lost.created) == (4, False)


def test_a_store_open_for_reading_compares_and_writes_nothing(tmp_path: Path, folder: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        kit.versions.snapshot(str(folder), "b")
    shutil.rmtree(tmp_path / "store" / "cache" / "folders")
    (folder / "a").write_text("edited")
    with Kit.open(tmp_path / "store", read_only=True) as kit:
        assert changes(kit, folder) == {"/a": "modified"}
        with pytest.raises(ReadOnly):
            kit.versions.snapshot(str(folder), "b")
        with pytest.raises(ReadOnly):
            kit.versions.folder_restore(str(folder), "b", force=True)
    assert (folder / "a").read_text() == "edited"
    assert not (tmp_path / "store" / "cache" / "folders").exists()


def test_a_change_that_leaves_size_and_time_as_they_were_is_not_missed(kit: Kit, folder: Path) -> None:
    kit.versions.snapshot(str(folder), "b")
    status = (folder / "a").stat()
    with open(folder / "a", "r+b") as file:
        file.write(b"X")
    os.utime(folder / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (folder / "a").stat().st_size == status.st_size
    assert "/a" in changes(kit, folder)
    assert kit.versions.snapshot(str(folder), "b").changed == 1
    assert kit.files.read("b:/a").read() == b"X"


def test_any_version_comes_back_exactly_and_unsaved_changes_are_not_lost(kit: Kit, folder: Path) -> None:
    first = kit.versions.snapshot(str(folder), "b").commit
    before = contents(folder)
    shutil.rmtree(folder / "d")
    (folder / "d").write_text("now a file")
    (folder / "a").unlink()
    (folder / "a").mkdir()
    (folder / "a" / "inner").write_text("x")
    (folder / "link").unlink()
    (folder / "more" / "deep").mkdir(parents=True)
    (folder / "more" / "deep" / "f").write_text("f")
    with pytest.raises(Conflict, match="snapshot"):
        kit.versions.folder_restore(str(folder), f"b@{first}")
    second = kit.versions.snapshot(str(folder), "b").commit
    changed = contents(folder)
    for version, expected in ((first, before), (second, changed), (first, before)):
        done = kit.versions.folder_restore(str(folder), f"b@{version}", force=True)
        assert done.problems_count == 0
        assert contents(folder) == expected
        assert kit.versions.folder_status(str(folder), f"b@{version}").clean
    fresh = folder.parent / "fresh"
    kit.versions.folder_restore(str(fresh), f"b@{second}")
    assert contents(fresh) == changed


def test_ignored_files_are_left_out_and_left_alone(kit: Kit, folder: Path) -> None:
    (folder / ".kitignore").write_text("*.tmp\nbuild/\n")
    (folder / "x.tmp").write_text("x")
    (folder / "build").mkdir()
    (folder / "build" / "out").write_text("o")
    taken = kit.versions.snapshot(str(folder), "b")
    assert taken.ignored == 2
    assert not kit.engine.buckets.exists_at("b:/x.tmp")
    (folder / "a").write_text("changed")
    kit.versions.folder_restore(str(folder), "b", force=True)
    assert (folder / "a").read_text() == "a"
    assert (folder / "x.tmp").exists()
    assert (folder / "build" / "out").exists()


def test_what_cannot_be_read_is_named_and_its_last_version_kept(kit: Kit, folder: Path) -> None:
    kit.versions.snapshot(str(folder), "b")
    (folder / "a").unlink()
    os.mkfifo(folder / "a")
    done = kit.versions.snapshot(str(folder), "b")
    assert [problem.path for problem in done.problems] == ["/a"]
    assert kit.files.read("b:/a").read() == b"a"


def test_a_snapshot_is_refused_where_it_cannot_be_right(kit: Kit, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PathNotFound):
        kit.versions.snapshot(str(tmp_path / "nowhere"), "b")
    for bad in (str(tmp_path), str(tmp_path / "store" / "packs"), "/tmp/\0"):
        with pytest.raises(InvalidInput):
            kit.versions.snapshot(bad, "b")
    kit.files.write("b:/own", text="uncommitted")
    with pytest.raises(Conflict, match="uncommitted"):
        kit.versions.snapshot(str(folder), "b")
    kit.files.rm("b:/own")
    kit.bucket.set_quota("b", entries=2)
    with pytest.raises(QuotaExceeded):
        kit.versions.snapshot(str(folder), "b")
    assert kit.versions.log("b").commits == []
    kit.bucket.set_quota("b", size_bytes=20_000_000)
    for number in range(40):
        (folder / f"n{number:02}").write_bytes(os.urandom(1 << 20))
    blocks = kit.store.info().blocks
    with pytest.raises(QuotaExceeded):
        kit.versions.snapshot(str(folder), "b")
    assert kit.store.info().blocks < blocks + 30, "it stops when the quota is reached"


@pytest.mark.parametrize("kind", ["open", "sealed"])
def test_snapshots_of_a_changing_folder_equal_a_fresh_import(
    kit: Kit, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_tracker, "FLUSH_EVERY", 2)
    kit.bucket.create("t", kind=kind)
    chosen = random.Random(7)
    for turn in range(12):
        for _ in range(3):
            target = folder / chosen.choice(["a", "n1", "d/b", "d/n2", "d/e/c", "d/e/n3", "z/y/x"])
            if target.exists() and chosen.random() < 0.4:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(str(turn) * chosen.randrange(1, 50))
        taken = kit.versions.snapshot(str(folder), "t", message=str(turn))
        assert kit.versions.folder_status(str(folder), "t").clean
        kit.files.mkdir("b:/w", parents=True)
        kit.files.put(str(folder), f"b:/w/{turn}")
        if kind == "open":
            assert kit.files.stat(f"b:/w/{turn}").cid == taken.root
    assert kit.store.verify().ok
