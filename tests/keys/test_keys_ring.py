"""The key ring: additions survive, destroyed keys and names leave no byte behind, processes agree."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_kit.durable import faults
from ipfs_kit.errors import Denied, FormatError, IntegrityError, InvalidName, KitError, ReadOnly, StoreNotFound
from ipfs_kit.keys import KeyRing


def reopen(ring: KeyRing, directory: Path) -> KeyRing:
    ring.close()
    return KeyRing.open(directory)


def all_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()))


def in_child(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_missing_ring_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="create the store"):
        KeyRing.open(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


def test_everything_is_private_to_the_owner(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys", create=True)
    ring.subject_for("alice@example.org")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == dict.fromkeys(
        ("current", "epoch", "kek-1", "ring-1.mdb", "ring.lock", "signing.key"), 384
    )
    ring.close()
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(Denied, match="chmod 700"):
        KeyRing.open(tmp_path / "keys")


def test_subjects_and_domains_survive_reopening(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys", create=True)
    alice, domain, signer = ring.subject_for("alice"), ring.new_domain_key(), ring.signer().verify_key
    key, domain_key = ring.subject_key(alice), ring.domain_key(domain)
    ring = reopen(ring, tmp_path / "keys")
    assert (ring.subject_for("alice"), ring.subject_key(alice), ring.domain_key(domain)) == (alice, key, domain_key)
    assert ring.subject("alice") == (alice, key)
    assert ring.subject_name(alice) == "alice"
    assert ring.signer().verify_key == signer
    assert ring.subject_key(domain) is None
    assert ring.domain_key(alice) is None
    assert ring.subjects() == [(alice, "alice")]
    assert ring.domains() == [domain]
    ring.close()


def test_names_are_compared_exactly_and_bounded(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys", create=True)
    names = ["Ana", "ana", "an\u00e3", "ana\u0303", "\udcff odd", ""]
    assert len({ring.subject_for(name) for name in names}) == len(names)
    assert sorted(name for _, name in ring.subjects()) == sorted(names)
    with pytest.raises(InvalidName, match="4096"):
        ring.subject_for("x" * 5000)
    ring.close()


def test_destroyed_key_and_name_leave_no_byte_and_others_stay(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    ring = KeyRing.open(directory, create=True)
    doomed, kept, domain = ring.subject_for("canary-person-77"), ring.subject_for("bob"), ring.new_domain_key()
    doomed_key, kept_key, domain_key = ring.subject_key(doomed), ring.subject_key(kept), ring.domain_key(domain)
    old_kek = (directory / "kek-1").read_bytes()
    assert doomed_key is not None
    assert ring.destroy(doomed)
    assert not ring.destroy(doomed)
    left = all_bytes(directory)
    assert doomed_key not in left
    assert b"canary-person-77" not in left
    assert old_kek not in left
    assert ring.subject_key(doomed) is None
    assert ring.subject_name(doomed) is None
    assert (ring.subject_key(kept), ring.domain_key(domain)) == (kept_key, domain_key)
    assert ring.subject_for("canary-person-77") != doomed
    assert ring.verify() == []
    assert ring.destroy(domain)
    assert ring.domain_key(domain) is None
    ring = reopen(ring, directory)
    assert ring.subject_key(kept) == kept_key
    ring.close()


def test_old_files_are_overwritten_before_they_are_removed(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    ring = KeyRing.open(directory, create=True)
    alice = ring.subject_for("alice")
    held = {name: (directory / name).open("rb") for name in ("kek-1", "ring-1.mdb")}
    ring.destroy(alice)
    for file in held.values():
        with file:
            assert set(file.read()) == {0}
    ring.close()


def test_destruction_in_another_process_takes_effect_at_the_next_call(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    ring = KeyRing.open(directory, create=True)
    alice, bob = ring.subject_for("alice"), ring.subject_for("bob")
    assert ring.subject("alice").id == alice
    assert ring.subject_key(alice) is not None
    code = "import sys; from ipfs_kit.keys import KeyRing; print(KeyRing.open(sys.argv[1]).destroy(sys.argv[2]))"
    assert in_child(code, str(directory), alice) == "True"
    assert ring.subject_key(alice) is None
    assert ring.subject_for("alice") != alice
    assert ring.subject_for("bob") == bob
    ring.close()


def test_additions_of_another_process_are_found(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    ring = KeyRing.open(directory, create=True)
    ring.subject_for("first")
    code = "import sys; from ipfs_kit.keys import KeyRing; print(KeyRing.open(sys.argv[1]).subject_for('carol'))"
    surrogate = in_child(code, str(directory))
    assert ring.subject_for("carol") == surrogate
    assert ring.subject_name(surrogate) == "carol"
    ring.close()


def test_processes_that_meet_a_name_at_once_agree_on_its_id(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    KeyRing.open(directory, create=True).close()
    code = (
        "import sys; from ipfs_kit.keys import KeyRing; r = KeyRing.open(sys.argv[1]);"
        "print(','.join(r.subject_for(f'n{i}') for i in range(50)))"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = {child.communicate(timeout=60)[0].strip() for child in children}
    assert len(answers) == 1
    assert len(answers.pop().split(",")) == 50


def test_one_path_opened_twice_gives_one_ring(tmp_path: Path) -> None:
    first = KeyRing.open(tmp_path / "keys", create=True)
    second = KeyRing.open(tmp_path / "keys" / ".." / "keys")
    assert first is second
    first.close()
    assert second.subject_for("still open")
    second.close()


def test_read_only_ring_reads_and_refuses_to_add(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    writable = KeyRing.open(directory, create=True)
    alice = writable.subject_for("alice")
    writable.close()
    ring = KeyRing.open(directory, read_only=True)
    assert ring.subject_for("alice") == alice
    for attempt in (lambda: ring.subject_for("bob"), ring.new_domain_key, lambda: ring.destroy(alice)):
        with pytest.raises(ReadOnly):
            attempt()
    ring.close()


def test_readable_and_writable_rings_live_side_by_side_in_one_process(tmp_path: Path) -> None:
    writable = KeyRing.open(tmp_path / "keys", create=True)
    alice = writable.subject_for("alice")
    reader = KeyRing.open(tmp_path / "keys", read_only=True)
    assert reader.subject_for("alice") == alice
    assert writable.destroy(alice)
    assert reader.subject_key(alice) is None
    reader.close()
    writable.close()


def test_forked_child_uses_the_ring_safely(tmp_path: Path) -> None:
    code = """
import os, sys
from ipfs_kit.keys import KeyRing
ring = KeyRing.open(sys.argv[1], create=True)
alice = ring.subject_for("alice")
child = os.fork()
if child == 0:
    fine = ring.subject_for("alice") == alice and ring.subject_name(ring.subject_for("bob")) == "bob"
    os._exit(0 if fine else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ring.subject_for("bob") == ring.subject_for("bob"))
"""
    assert in_child(code, str(tmp_path / "keys")) == "0 True"


def test_damaged_files_are_named_with_advice(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    ring = KeyRing.open(directory, create=True)
    ring.subject_for("alice")
    ring.close()
    (directory / "kek-1").write_bytes(bytes(32))
    ring = KeyRing.open(directory)
    assert [fault.mend for fault in ring.verify()] == ["restore keys/ from its backup"]
    with pytest.raises(IntegrityError):
        ring.subjects()
    ring.close()
    (directory / "current").write_text("x", encoding="ascii")
    ring = KeyRing.open(directory)
    with pytest.raises(FormatError, match="current"):
        ring.subject_for("alice")
    ring.close()


def test_verify_names_unknown_files_and_open_modes(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys", create=True)
    (tmp_path / "keys" / "note.txt").write_text("?", encoding="ascii")
    (tmp_path / "keys" / "note.txt").chmod(0o600)
    (tmp_path / "keys" / "current").chmod(0o644)
    found = [fault.fault for fault in ring.verify()]
    assert "unknown file in keys/" in found
    assert "mode 0644 lets others use it" in found
    ring.close()


class Killed(BaseException):
    """Stands for the end of the process at a durable call."""


def run_until(directory: Path, doomed: str, stop: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> bool:
    """Destroy with the ``stop``-th durable call failing; True when it was reached."""
    calls = 0

    def hook(operation: str, path: str) -> None:
        nonlocal calls
        calls += 1
        if calls > stop:
            raise error

    ring = KeyRing.open(directory)
    ring.subject_key(doomed)
    monkeypatch.setattr(faults, "hook", hook)
    try:
        ring.destroy(doomed)
        return False
    except (Killed, KitError, OSError):
        return True
    finally:
        monkeypatch.setattr(faults, "hook", None)
        ring.close()


@pytest.mark.parametrize("error", [Killed(), OSError(5, "Input/output error")])
def test_destruction_cut_short_at_any_durable_call_keeps_every_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    stop, reached = 0, True
    while reached:
        directory = tmp_path / f"keys-{stop}"
        ring = KeyRing.open(directory, create=True)
        doomed, kept = ring.subject_for("canary-doomed"), ring.subject_for("kept")
        doomed_key, kept_key = ring.subject_key(doomed), ring.subject_key(kept)
        assert doomed_key is not None
        ring.close()
        reached = run_until(directory, doomed, stop, monkeypatch, error)
        ring = KeyRing.open(directory)
        assert ring.subject_key(kept) == kept_key
        survived = ring.subject_key(doomed)
        assert survived in (doomed_key, None)
        assert ring.verify() == []
        if survived is not None:
            assert ring.destroy(doomed)
        left = all_bytes(directory)
        assert doomed_key not in left
        assert b"canary-doomed" not in left
        assert len([name for name in os.listdir(directory) if name.startswith(("kek-", "ring-"))]) == 2
        ring.close()
        stop += 1
    assert stop > 10


def test_creation_cut_short_at_any_durable_call_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, reached = 0, True
    while reached:
        directory = tmp_path / f"keys-{stop}"
        calls = 0

        def hook(operation: str, path: str, limit: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise Killed

        monkeypatch.setattr(faults, "hook", hook)
        reached = False
        try:
            KeyRing.open(directory, create=True).close()
        except Killed:
            reached = True
        monkeypatch.setattr(faults, "hook", None)
        ring = KeyRing.open(directory, create=True)
        assert ring.subject_key(ring.subject_for("alice")) is not None
        assert ring.verify() == []
        ring.close()
        stop += 1
    assert stop > 10


def test_an_emptied_ring_is_refused_and_not_begun_anew(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    ring = KeyRing.open(directory, create=True)
    ring.new_domain_key()
    ring.close()
    (directory / "ring-1.mdb").write_bytes(b"")
    ring = KeyRing.open(directory)
    (fault,) = ring.verify()
    assert f"{directory / 'ring-1.mdb'} is empty" in fault.fault
    with pytest.raises(FormatError, match="is empty: restore keys/"):
        ring.new_domain_key()
    ring.close()
    assert (directory / "ring-1.mdb").read_bytes() == b""


def test_a_key_that_was_lost_is_told_from_one_that_was_destroyed(tmp_path: Path) -> None:
    directory, backup = tmp_path / "keys", tmp_path / "backup"
    ring = KeyRing.open(directory, create=True)
    erased = ring.new_domain_key()
    assert ring.destroy(erased)
    assert not ring.destroy(erased)
    ring.close()
    shutil.copytree(directory, backup)
    ring = KeyRing.open(directory)
    newer = ring.new_domain_key()
    ring.close()
    ring = KeyRing.open(backup)
    assert ring.domain_key(erased) is None
    with pytest.raises(IntegrityError, match="restore keys/"):
        ring.domain_key(newer)
    assert ring.domains() == []
    assert ring.verify() == []
    ring.destroy(ring.new_domain_key())
    assert ring.domain_key(erased) is None
    ring.close()


def contents(directory: Path) -> tuple[object, ...]:
    """Everything the ring can tell."""
    ring = KeyRing.open(directory)
    try:
        names = ("alice", "bob", "carol")
        subjects = [ring.subject(name) for name in names]
        domains = sorted((domain, ring.domain_key(domain)) for domain in ring.domains())
        return (ring.signer().verify_key, sorted(ring.subjects()), subjects, domains, ring.verify())
    finally:
        ring.close()


def outcome_of(directory: Path, honest: object) -> str:
    """What reading a ring comes to, in a child: LMDB trusts its pages, and a damaged one may end the process."""
    child = os.fork()
    if child == 0:
        code = 3
        with contextlib.suppress(BaseException):
            try:
                found = contents(directory)
                code = 0 if found == honest else 1 if found[-1] else 2
            except KitError:
                code = 1
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
        return "reported"
    return {0: "same", 1: "reported", 2: "silent"}[os.waitstatus_to_exitcode(status)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ring-1.mdb", "epoch", "kek-1", "current", "signing.key"])
def test_a_flipped_byte_is_reported_or_changes_nothing(tmp_path: Path, name: str) -> None:
    good = tmp_path / "keys"
    ring = KeyRing.open(good, create=True)
    for person in ("alice", "bob", "carol"):
        ring.subject_for(person)
    ring.new_domain_key()
    ring.close()
    honest = contents(good)
    assert honest[-1] == []
    data = (good / name).read_bytes()
    # Every byte of the small files and of what LMDB keeps beside the entries; in the entries, one in seventeen.
    offsets = range(len(data)) if len(data) < 4096 else [*range(64), *range(4096, 4160), *range(64, len(data), 97)]
    changed = 0
    for at in offsets:
        bad = tmp_path / f"bad-{at}"
        shutil.copytree(good, bad)
        flipped = bytearray(data)
        flipped[at] ^= 0x41
        (bad / name).write_bytes(flipped)
        (bad / name).chmod(0o600)
        outcome = outcome_of(bad, honest)
        assert outcome != "silent", f"byte {at} of {name} changed the ring and nothing was reported"
        changed += outcome == "reported"
        shutil.rmtree(bad)
    assert changed or name == "epoch", "some byte of a key file must matter"
