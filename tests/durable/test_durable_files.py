"""Files and locks: whole or absent after a crash at any call; locks are fair, bounded and name their holder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.durable import files
from ipfs_kit.durable._filesystem import filesystem_of, is_network
from ipfs_kit.durable.locks import FileLock, Lease
from ipfs_kit.errors import AlreadyExists, InvalidName, LockTimeout, StorageFailed
from ipfs_kit.testing.faults import Recorder, fork_until_call, injected


def test_create_exclusive_refuses_a_taken_name(tmp_path: Path) -> None:
    files.create_exclusive(tmp_path / "a", [b"one", b"two"], mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        files.create_exclusive(tmp_path / "a", b"three")
    assert os.listdir(tmp_path) == ["a"]


def test_create_idempotent_accepts_the_same_bytes_only(tmp_path: Path) -> None:
    assert files.create_idempotent(tmp_path / "a", b"one") is True
    assert files.create_idempotent(tmp_path / "a", b"one") is False
    with pytest.raises(AlreadyExists):
        files.create_idempotent(tmp_path / "a", b"two")


def test_replace_keeps_the_permissions(tmp_path: Path) -> None:
    files.create_exclusive(tmp_path / "key", b"old", mode=0o600)
    files.replace(tmp_path / "key", b"new")
    assert (tmp_path / "key").read_bytes() == b"new"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_remove_and_overwrite(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"secret")
    files.overwrite(tmp_path / "key", b"\0")
    assert (tmp_path / "key").read_bytes() == bytes(6)
    assert files.remove(tmp_path / "key") is True
    assert files.remove(tmp_path / "key") is False
    with pytest.raises(StorageFailed):
        files.remove(tmp_path / "key", missing_ok=False)


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    (tmp_path / ".a.999999999-0.kit-tmp").write_bytes(b"x")
    mine = tmp_path / f".a.{os.getpid()}-0.kit-tmp"
    mine.write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"x")
    assert files.sweep_temporaries(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [mine.name, "a"]


@pytest.mark.parametrize("call", [files.create_exclusive, files.create_idempotent, files.replace])
def test_killed_at_any_call_a_file_is_old_or_new_and_never_between(
    tmp_path: Path, call: Callable[[Path, bytes], object]
) -> None:
    old = b"old" if call is files.replace else None
    for number in range(1, 50):
        path = tmp_path / str(number) / "file"
        path.parent.mkdir()
        if old is not None:
            path.write_bytes(old)
        end = fork_until_call(lambda tell, path=path: call(path, b"new" * 1000), number)
        found = path.read_bytes() if path.exists() else None
        assert found in (old, b"new" * 1000)
        if not end.killed:
            assert found == b"new" * 1000
            return
    raise AssertionError("more durable calls than expected")


@pytest.mark.parametrize(("error", "advice"), [(errno.ENOSPC, "free disk space"), (errno.EROFS, "read-only")])
def test_a_refused_call_says_what_to_do(tmp_path: Path, error: int, advice: str) -> None:
    with injected(Recorder(fail_at=1, error=error)), pytest.raises(StorageFailed, match=advice):
        files.create_exclusive(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == []


@given(st.lists(st.lists(st.binary(max_size=50), max_size=5), max_size=5))
def test_appended_buffers_lie_one_after_another(batches: list[list[bytes]]) -> None:
    name = f"/dev/shm/kit-append-{os.getpid()}" if os.path.isdir("/dev/shm") else f"/tmp/kit-append-{os.getpid()}"
    with files.AppendFile(name) as file:
        try:
            want = b""
            for batch in batches:
                assert file.append(batch) == len(want)
                want += b"".join(batch)
            assert file.size == len(want)
            file.sync()
            assert file.synced == len(want)
            assert Path(name).read_bytes() == want
        finally:
            os.unlink(name)


def test_more_buffers_than_one_call_takes_are_all_written(tmp_path: Path) -> None:
    with files.AppendFile(tmp_path / "a") as file:
        file.append([bytes([n % 256]) for n in range(5000)])
    assert (tmp_path / "a").read_bytes() == bytes(n % 256 for n in range(5000))


def test_an_append_file_is_dead_after_a_refused_sync(tmp_path: Path) -> None:
    with files.AppendFile(tmp_path / "a") as file:
        file.append([b"x"])
        with injected(Recorder(fail_at=1)), pytest.raises(StorageFailed):
            file.sync()
        for call in (file.sync, lambda: file.append([b"y"]), lambda: file.truncate(0)):
            with pytest.raises(StorageFailed, match="reopen"):
                call()


def test_a_lock_is_exclusive_between_objects_and_shared_when_asked(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    with first.acquire():
        assert not second.try_acquire()
        assert not second.try_acquire(shared=True)
        with pytest.raises(LockTimeout, match="another thread"):
            first.acquire(0)
    with first.acquire(shared=True), second.acquire(shared=True):
        pass
    with second:
        assert second.held
    first.close()
    second.close()


def test_a_waiter_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    first.acquire()
    got = threading.Event()

    def wait() -> None:
        with second.acquire(30):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.05)
    first.release()
    assert got.wait(30)
    thread.join(30)
    # A wait that was given up leaves nobody behind who takes the lock later.
    with first.acquire(), pytest.raises(LockTimeout):
        second.acquire(0.05)
    with second.acquire(5):
        assert not first.try_acquire()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    def hold(tell: Callable[[str], None]) -> None:
        FileLock(tmp_path / "l").acquire()
        files.sync_dir(tmp_path)

    assert fork_until_call(hold, 2).killed
    lock = FileLock(tmp_path / "l")
    holder = lock.holder()
    assert holder is not None
    assert not holder.alive
    assert lock.try_acquire()
    lock.close()


def test_a_lock_file_names_the_program_but_not_its_arguments(tmp_path: Path) -> None:
    script = "import sys; from ipfs_kit.durable.locks import FileLock; FileLock(sys.argv[1]).acquire()  # canary-code"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "l"), "canary-word"], check=True)
    held = (tmp_path / "l").read_bytes()
    assert b"canary" not in held
    holder = FileLock(tmp_path / "l").holder()
    assert holder is not None
    assert holder.command.startswith("python")


def test_a_lease_is_named_for_its_work(tmp_path: Path) -> None:
    with Lease(tmp_path, "gc"):
        assert (tmp_path / "gc.lock").exists()
        assert not Lease(tmp_path, "gc").try_acquire()
        assert Lease(tmp_path, "seal").try_acquire()
    with pytest.raises(InvalidName):
        Lease(tmp_path, "../x")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /mnt/share rw - nfs4 server:/x rw
31 22 0:26 / /mnt/a\\040b rw - fuse.sshfs host: rw
32 30 0:27 / /mnt/share/local rw master:3 - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/home/x", "ext4", False),
        ("/mnt/share/store", "nfs4", True),
        ("/mnt/shared", "ext4", False),
        ("/mnt/a b/store", "fuse.sshfs", True),
        ("/mnt/share/local/store", "tmpfs", False),
    ],
)
def test_network_file_systems_are_told_from_local_ones(path: str, kind: str, network: bool) -> None:
    assert filesystem_of(path, MOUNTS) == kind
    assert is_network(kind) is network
