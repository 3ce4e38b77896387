"""Import and export of real folders."""

from __future__ import annotations

import os

import pytest
from engine import Engine
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.buckets.exporter import stays_inside
from ipfs_kit.buckets.ignore import Rules, parse_rules
from ipfs_kit.errors import Cancelled, PathNotFound


@pytest.fixture
def kit(tmp_path):
    engine = Engine(tmp_path / "store")
    engine.run(lambda: engine.buckets.create("B"))
    yield engine
    engine.close()


def take(kit, folder, at="B:/in", **options):
    with kit.buckets.window():
        report = kit.buckets.import_local("B", folder, **options)
        kit.run(lambda: kit.buckets.put_entry(at, report.item))
    return report


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "a.txt").write_bytes(b"a")
    (top / "sub" / "big").write_bytes(os.urandom(3_000_000))
    (top / "sub" / "deep" / "z").write_bytes(b"")
    (top / "link").symlink_to("sub/big")
    (top / "out").symlink_to("/etc/passwd")
    for n in range(150):
        (top / "sub" / f"n{n:03d}").write_bytes(b"%d" % n)
    return top


def test_what_goes_in_comes_out(kit, tree, tmp_path):
    report = take(kit, tree)
    assert (report.files, report.folders, report.problems) == (155, 4, [])
    out = tmp_path / "out"
    exported = kit.buckets.export_local("B:/in", out)
    assert [(problem.path, problem.reason) for problem in exported.problems] == [("/out", "link outside")]
    for path in tree.rglob("*"):
        twin = out / path.relative_to(tree)
        if path.name == "out":
            assert not twin.is_symlink()
        elif path.is_symlink():
            assert os.readlink(twin) == os.readlink(path)
        elif path.is_file():
            assert twin.read_bytes() == path.read_bytes()
            assert twin.stat().st_mtime_ns == path.stat().st_mtime_ns
        else:
            assert twin.is_dir()
    assert take(kit, tree, "B:/twice").item == report.item


def test_what_cannot_be_stored_is_reported_and_the_rest_kept(kit, tree):
    os.mkfifo(tree / "pipe")
    report = take(kit, tree)
    assert [(problem.path, problem.reason) for problem in report.problems] == [("/pipe", "special")]
    assert kit.buckets.cat("B:/in/a.txt") == b"a"
    with pytest.raises(PathNotFound):
        kit.buckets.import_local("B", tree / "absent")


def test_ignore_rules_leave_out_files_and_whole_folders(kit, tree):
    (tree / ".kitignore").write_text("n*\n!n007\n/empty/\n", encoding="utf-8")
    (tree / "sub" / ".kitignore").write_text("deep/\n", encoding="utf-8")
    report = take(kit, tree, ignore=["*.txt"])
    found = {entry.path for entry in kit.buckets.walk("B:/in")}
    assert found == {
        "/in/.kitignore", "/in/link", "/in/out", "/in/sub", "/in/sub/.kitignore", "/in/sub/big", "/in/sub/n007",
    }  # fmt: skip
    assert report.ignored == 152


@pytest.mark.parametrize(
    ("rule", "path", "is_dir", "ignored"),
    [
        ("*.o", "a/b.o", False, True),
        ("/x", "x", False, True),
        ("/x", "a/x", False, False),
        ("a/**/z", "a/z", False, True),
        ("a/**/z", "a/b/c/z", False, True),
        ("**/y", "q/y", True, True),
        ("d/**", "d", True, False),
        ("d/**", "d/e", False, True),
        ("d/", "d", False, False),
        ("[ab]?", "bz", False, True),
        ("\\#x", "#x", False, True),
        ("\\*", "x", False, False),
        ("\\*", "*", False, True),
        ("# comment", "# comment", False, False),
    ],
)
def test_rules_mean_what_git_means(rule, path, is_dir, ignored):
    rules = Rules().below(0, parse_rules([rule]))
    assert rules.ignores([part.encode() for part in path.split("/")], is_dir) is ignored


def test_export_neither_follows_links_nor_overwrites_unasked(kit, tree, tmp_path):
    take(kit, tree)
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "sub").symlink_to(outside)
    (out / "a.txt").write_bytes(b"mine")
    report = kit.buckets.export_local("B:/in", out)
    assert list(outside.iterdir()) == []
    assert (out / "a.txt").read_bytes() == b"mine"
    assert {"/sub", "/a.txt"} <= {problem.path for problem in report.problems}
    kit.buckets.export_local("B:/in", out, overwrite=True)
    assert (out / "a.txt").read_bytes() == b"a"


def test_names_that_differ_in_case_alone_are_reported(kit, tmp_path):
    for name in ("Readme", "README"):
        kit.run(lambda name=name: kit.buckets.put_bytes(f"B:/d/{name}", name.encode()))
    report = kit.buckets.export_local("B:/d", tmp_path / "out")
    assert [problem.reason for problem in report.problems] == ["collision"]
    assert kit.buckets.export_local("B:/d", tmp_path / "both", allow_collisions=True).problems == []


def test_a_cancelled_import_stores_nothing_visible(kit, tree):
    def stop(files, size):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        kit.buckets.import_local("B", tree, progress=stop)
    assert kit.buckets.ls("B:/").entries == ()


@given(st.lists(st.sampled_from([b"..", b"a", b"b", b".", b""]), max_size=6), st.integers(1, 4))
def test_links_that_are_kept_never_leave_the_folder(parts, depth):
    target = b"/".join(parts)
    if stays_inside(tuple([b"d"] * depth), target):
        here = depth - 1
        for part in parts:
            here += {b"..": -1, b".": 0, b"": 0}.get(part, 1)
            assert here >= 0
        assert not target.startswith(b"/")
