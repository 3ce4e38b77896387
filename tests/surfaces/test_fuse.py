"""A bucket as a mounted folder: used by the programs people use, and whole after a kill."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipfs_kit import Kit

HERE = os.path.exists("/dev/fuse") and os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("fusermount3")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="no FUSE here: install fuse3 and allow /dev/fuse"),
]


@contextmanager
def mounted(store: Path, what: str, folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The bucket mounted by the command, until the block ends."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "ipfs_kit", "--store", str(store), *options, "mount", what, str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "is mounted at" in line, line + process.stderr.read()
        parent = folder.parent.stat().st_dev
        for _ in range(3_000):  # the line is said just before the kernel knows
            if process.poll() is not None or folder.stat().st_dev != parent:
                break
            os.sched_yield()
            subprocess.run(["true"], check=True)
        if process.poll() is not None and "mounting failed" in (said := process.stderr.read()):
            pytest.skip(f"mounting is not allowed here: {said.strip()}")
        assert folder.stat().st_dev != parent
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
            subprocess.run(["fusermount3", "-u", "-z", str(folder)], check=False, capture_output=True)


def run(*command: str, folder: Path) -> str:
    environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/first.txt", text="one")
        kit.versions.commit("b", message="one")
        kit.versions.tag_create("b", "v1")
    return tmp_path / "s"


def test_cp_grep_git_and_an_editor_work_in_it_and_all_of_it_is_in_the_bucket(store: Path, tmp_path: Path) -> None:
    folder, source = tmp_path / "mnt", tmp_path / "src"
    source.mkdir()
    for number in range(20):
        (source / f"f{number}.txt").write_text(f"word{number}\n" * (number + 1))
    (source / "big").write_bytes(os.urandom(9 << 20))
    (source / "link").symlink_to("f1.txt")
    with mounted(store, "b", folder) as process:
        run("cp", "-r", str(source), str(folder / "in"), folder=folder)
        assert run("grep", "-rl", "word7", ".", folder=folder) == "./in/f7.txt\n"
        run("diff", "-r", str(source), str(folder / "in"), folder=folder)
        assert os.readlink(folder / "in" / "link") == "f1.txt"
        run("git", "init", "-q", "repo", folder=folder)
        repo = folder / "repo"
        run("git", "config", "user.email", "a@example.org", folder=repo)
        run("git", "config", "user.name", "a", folder=repo)
        for text in ("one", "two", "three"):
            (repo / "file").write_text(text)
            run("git", "add", ".", folder=repo)
            run("git", "commit", "-qm", text, folder=repo)
        run("git", "gc", "-q", folder=repo)
        assert run("git", "log", "--format=%s", folder=repo).split() == ["three", "two", "one"]
        run("git", "fsck", folder=repo)
        # As editors save: a new file beside it, synced, renamed over the old one.
        with open(folder / ".first.swp", "w", encoding="utf-8") as file:
            file.write("edited")
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / ".first.swp", folder / "first.txt")
        with open(folder / "first.txt", "a", encoding="utf-8") as file:
            file.write(" and appended")
        with open(folder / "in" / "big", "r+b") as file:
            file.seek(5_000_000)
            file.write(b"patched")
            file.truncate(6_000_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert list(folder.iterdir()) == []
    with Kit.open(store) as kit:
        assert kit.files.read("b:/first.txt").read() == b"edited and appended"
        big = (source / "big").read_bytes()
        assert kit.files.read("b:/in/big").read() == (big[:5_000_000] + b"patched" + big[5_000_007:6_000_000])
        assert kit.files.read("b:/in/f7.txt").read() == (source / "f7.txt").read_bytes()
        assert kit.files.stat("b:/in/link").target == "f1.txt"
        assert not [entry for entry in kit.files.list("b:/").entries if "swp" in entry.name]
        assert kit.store.verify().ok


def test_what_posix_says_of_names_and_open_files(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mnt"
    with mounted(store, "b", folder):
        (folder / "d").mkdir()
        (folder / "d" / "x").write_text("x")
        for work, number in (
            (lambda: os.rmdir(folder / "d"), errno.ENOTEMPTY), (lambda: os.mkdir(folder / "d"), errno.EEXIST),
            (lambda: os.rename(folder / "first.txt", folder / "d"), errno.EISDIR),
            (lambda: os.open(folder / "no", os.O_RDONLY), errno.ENOENT),
            (lambda: os.mkdir(folder / "first.txt" / "y"), errno.ENOTDIR),
            (lambda: os.chown(folder / "d", 12345, -1), errno.EPERM),
        ):  # fmt: skip
            with pytest.raises(OSError) as refused:
                work()
            assert refused.value.errno == number
        (folder / "empty").mkdir()
        os.rename(folder / "d", folder / "empty")
        assert (folder / "empty" / "x").read_text() == "x"
        with open(folder / "gone", "w+", encoding="utf-8") as file:
            file.write("still here")
            file.flush()
            os.unlink(folder / "gone")
            assert not (folder / "gone").exists()
            file.seek(0)
            assert file.read() == "still here"
        with open(folder / "old", "w", encoding="utf-8") as file:
            file.write("1")
            file.flush()
            os.rename(folder / "old", folder / "new")
            file.write("2")
        assert (folder / "new").read_text() == "12"
        os.chmod(folder / "new", 0o600)
        os.utime(folder / "new", (1_000, 2_000))
        assert ((folder / "new").stat().st_mode & 0o777, (folder / "new").stat().st_mtime) == (0o600, 2_000)
        with open(folder / "new", "r+", encoding="utf-8") as one, open(folder / "new", encoding="utf-8") as two:
            one.write("shared")
            one.flush()
            assert two.read() == "shared"
    with Kit.open(store) as kit:
        assert sorted(entry.name for entry in kit.files.list("b:/").entries) == ["empty", "first.txt", "new"]


def test_a_version_is_mounted_for_reading_and_others_edits_show_at_once(store: Path, tmp_path: Path) -> None:
    with mounted(store, "b@v1", tmp_path / "old"), mounted(store, "b", tmp_path / "now"):
        with Kit.open(store) as kit:
            kit.files.write("b:/first.txt", text="changed by another process")
            kit.files.write("b:/second.txt", text="2")
        assert (tmp_path / "now" / "first.txt").read_text() == "changed by another process"
        assert sorted(os.listdir(tmp_path / "now")) == ["first.txt", "second.txt"]
        assert (tmp_path / "old" / "first.txt").read_text() == "one"
        with pytest.raises(OSError) as refused:
            (tmp_path / "old" / "x").write_text("x")
        assert refused.value.errno == errno.EROFS


def test_a_kill_leaves_what_was_synced_and_a_store_that_verifies(store: Path, tmp_path: Path) -> None:
    with mounted(store, "b", tmp_path / "mnt") as process:
        for number in range(5):
            with open(tmp_path / "mnt" / f"synced-{number}", "w", encoding="utf-8") as file:
                file.write("kept")
                file.flush()
                os.fsync(file.fileno())
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    with Kit.open(store) as kit:
        assert kit.store.verify().ok
        assert [kit.files.read(f"b:/synced-{n}").read() for n in range(5)] == [b"kept"] * 5


def test_what_cannot_be_mounted_is_said_before(store: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "mnt").mkdir()
    for what, folder, word in (
        ("b", tmp_path / "full", "empty folder"), ("nobucket", tmp_path / "mnt", "nobucket"),
        ("b:/first.txt", tmp_path / "mnt", "file"), ("b@none", tmp_path / "mnt", "none"),
    ):  # fmt: skip
        command = [sys.executable, "-m", "ipfs_kit", "--store", str(store), "mount", what, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode not in (0, 1)
        assert word in done.stderr
