"""Every way to tamper with a ledger is detected, and what is no tampering is survived: all of it counted and printed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.durable import faults
from ipfs_kit.errors import KitError, NoSpace
from ipfs_kit.ledger.batches import frame, unframe
from ipfs_kit.operations.catalogue import Surface
from ipfs_kit.operations.clock import Clock
from ipfs_kit.operations.engine import Engine
from ipfs_kit.operations.principal import LOCAL

SEED = 20261124
Mutant = tuple[str, str, Callable[[], None]]
"""Kind, what is changed, and the change; the caller puts everything back afterwards."""
WRITER = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    for number in range(40):
        kit.bucket.create(f"{sys.argv[2]}{number}")
"""


def grow(path: Path, name: str, count: int, *, seal: bool = False) -> None:
    with Kit.open(path) as kit:
        for number in range(count):
            kit.bucket.create(f"{name}{number}")
            kit.stream.append("health", events=[{"check_id": "disk", "status": "healthy"}])
        kit.ledger.checkpoint()
        kit.stream.flush("health")
        if seal:
            kit.ledger.seal(log="main")
            kit.ledger.seal(log="bulk")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sealed segments, a live tail, manifests, batches of a stream, kept checkpoints, in both logs."""
    path = tmp_path_factory.mktemp("mutations") / "base"
    grow(path, "a", 300, seal=True)
    grow(path, "b", 12)
    grow(path, "c", 3)
    return path


def detected(path: Path) -> str | None:
    """What opening and verifying says; None when nothing is noticed."""
    try:
        with Kit.open(path, read_only=True) as kit:
            kit.ledger.verify()
    except KitError as exc:
        return exc.message
    return None


def run(path: Path, mutants: Iterator[Mutant], keep: Path) -> None:
    """Try each mutant on a copy that is put back after it, and print how many were detected."""
    tried: Counter[str] = Counter()
    missed: list[str] = []
    for kind, what, change in mutants:
        change()
        if detected(path) is None:
            missed.append(f"{kind}: {what}")
        tried[kind] += 1
        restore(keep, path)
    assert detected(path) is None, "the store is sound again"
    done = sum(tried.values())
    print(f"\nseed {SEED}: {done - len(missed)} of {done} mutants detected; {dict(sorted(tried.items()))}")
    assert tried
    assert missed == []


def restore(keep: Path, path: Path) -> None:
    """Put the ledger's files and the state back."""
    shutil.rmtree(path / "ledger")
    shutil.copytree(keep / "ledger", path / "ledger")
    for name in path.glob("state.db*"):
        name.unlink()
    shutil.copy(keep / "state.db", path / "state.db")


def ledger_files(path: Path) -> list[Path]:
    return sorted(name for name in (path / "ledger").rglob("*") if name.is_file())


def write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def in_files(path: Path, chance: random.Random, flips: int) -> Iterator[Mutant]:
    """Flipped bits, cuts, additions, removals and swaps in every file of ``ledger/``."""
    names = ledger_files(path)
    for name in names:
        good = name.read_bytes()
        where = str(name.relative_to(path))
        at = {0, len(good) // 2, len(good) - 1} | {chance.randrange(len(good)) for _ in range(flips)} if good else set()
        for byte in sorted(at):
            bit = 1 << chance.randrange(8)
            bad = good[:byte] + bytes([good[byte] ^ bit]) + good[byte + 1 :]
            yield "bit flip", f"{where} at {byte}", partial(write, name, bad)
        for kind, bad in (("truncate", good[: len(good) // 2]), ("lengthen", good + b"\0")):
            yield kind, where, partial(write, name, bad)
        yield "remove", where, name.unlink
    for one, other in pairwise(names):
        if one.parent == other.parent and one.read_bytes() != other.read_bytes():
            yield "swap files", str(one.relative_to(path)), partial(swap, one, other)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    write(one, second)
    write(other, first)


def sql(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    state = sqlite3.connect(path / "state.db")
    for text, values in statements:
        assert state.execute(text, values).rowcount > 0, text
    state.commit()
    state.close()


def in_state(path: Path) -> Iterator[Mutant]:
    """Changed, reordered, removed and forged records of the live tail, and turned counters."""
    state = sqlite3.connect(path / "state.db")
    batches = state.execute("SELECT log, first_index, count, payload FROM batches").fetchall()
    kept = state.execute("SELECT log, size, note FROM ledger_checkpoints").fetchall()
    state.close()
    replace = "UPDATE batches SET payload = ?, checksum = ? WHERE log = ? AND first_index = ?"
    for log, first, count, payload in batches:
        records = unframe(payload)
        where = f"{log}:{first}"
        forged = [records[0].replace(b"bucket.", b"bukket.").replace(b"stream.", b"strean."), *records[1:]]
        changes = {"edit": forged, "drop record": records[1:], "repeat record": [*records, records[-1]]}
        if count > 1:
            changes["reorder"] = [records[1], records[0], *records[2:]]
        for kind, new in changes.items():
            if new != records:
                data = frame(new) if new else b""
                yield (
                    kind,
                    where,
                    partial(sql, path, (replace, (data, sha256(data).digest(), log, first))),
                )
        yield (
            "remove batch",
            where,
            partial(sql, path, ("DELETE FROM batches WHERE log = ? AND first_index = ?", (log, first))),
        )
        for column in ("count", "time_min", "time_max"):
            yield (
                f"batches.{column}",
                where,
                partial(
                    sql,
                    path,
                    (f"UPDATE batches SET {column} = {column} + 1 WHERE log = ? AND first_index = ?", (log, first)),
                ),
            )
    for log in ("main", "bulk"):
        for column in ("next_index", "sealed_upto", "size"):
            for step in (1, -1):
                yield (
                    f"ledger_logs.{column}",
                    f"{log} {step}",
                    partial(sql, path, (f"UPDATE ledger_logs SET {column} = {column} + ? WHERE log = ?", (step, log))),
                )
        yield (
            "ledger_logs.root",
            log,
            partial(sql, path, ("UPDATE ledger_logs SET root = zeroblob(32) WHERE log = ?", (log,))),
        )
    for log, size, note in kept:
        origin, _, rest = note.partition("\n")
        for kind, forged in (
            ("kept origin", f"{origin}x\n{rest}"),
            ("kept size", note.replace(f"\n{size}\n", f"\n{size + 1}\n", 1)),
            ("kept signature", note[:-8] + ("A" if note[-8] != "A" else "B") + note[-7:]),
        ):
            assert forged != note
            yield (
                kind,
                f"{log} {size}",
                partial(
                    sql,
                    path,
                    ("UPDATE ledger_checkpoints SET note = ? WHERE log = ? AND size = ?", (forged, log, size)),
                ),
            )


def replaced(path: Path, source: Path, *parts: str) -> None:
    for part in parts:
        if (path / part).is_dir():
            shutil.rmtree(path / part)
            shutil.copytree(source / part, path / part)
        else:
            shutil.copy(source / part, path / part)


def of_two_lives(path: Path, other: Path, older: Path) -> Iterator[Mutant]:
    """Parts of a fork of the same store, and of an older copy, put under this one."""
    for kind, source in (("fork", other), ("older copy", older)):
        for parts in (["state.db"], ["ledger"], ["ledger/main"], ["ledger/bulk"], ["ledger/main/tile"], ["ledger/main/checkpoint"],
                      ["ledger/main", "state.db"]):  # fmt: skip
            yield kind, ", ".join(parts), partial(replaced, path, source, *parts)
    theirs = sqlite3.connect(other / "state.db")
    rows = theirs.execute(
        "SELECT payload, checksum, log, first_index FROM batches ORDER BY first_index DESC"
    ).fetchall()
    theirs.close()
    for row in rows[:6]:
        mine = sqlite3.connect(path / "state.db")
        same = mine.execute("SELECT payload FROM batches WHERE log = ? AND first_index = ?", row[2:]).fetchone()
        mine.close()
        if same is not None and same[0] != row[0]:
            change = "UPDATE batches SET payload = ?, checksum = ? WHERE log = ? AND first_index = ?"
            yield "suffix swap", f"{row[2]}:{row[3]}", partial(sql, path, (change, row))


@pytest.fixture
def lives(base: Path, tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """A store, the copy it is put back from, a fork of it, and an older copy."""
    older, path, other = tmp_path / "older", tmp_path / "one", tmp_path / "other"
    for made in (older, path, other):
        shutil.copytree(base, made)
    grow(path, "d", 8)
    grow(other, "e", 8)
    shutil.copytree(path, tmp_path / "keep")
    return path, tmp_path / "keep", other, older


@pytest.mark.slow
def test_tampering_is_detected(lives: tuple[Path, Path, Path, Path]) -> None:
    path, keep, other, older = lives
    chance = random.Random(SEED)

    def some() -> Iterator[Mutant]:
        mutants = [*in_files(path, chance, 0), *in_state(path)]
        yield from chance.sample(mutants, 60)
        yield from of_two_lives(path, other, older)

    run(path, some(), keep)


@pytest.mark.slow
def test_all_tampering_is_detected(lives: tuple[Path, Path, Path, Path]) -> None:
    path, keep, other, older = lives

    def every() -> Iterator[Mutant]:
        yield from in_files(path, random.Random(SEED), 6)
        yield from in_state(path)
        yield from of_two_lives(path, other, older)

    run(path, every(), keep)


def test_what_is_no_tampering_is_survived(lives: tuple[Path, Path, Path, Path]) -> None:
    path, _, _, _ = lives
    survived = []
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"w{one}-"]) for one in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert detected(path) is None
    with Kit.open(path, read_only=True) as kit:
        found = kit.ledger.sql(
            "SELECT count(*), count(DISTINCT idx), max(idx) + 1 FROM records WHERE log = 'main'"
        ).rows[0]
        assert found[0] == found[1] == found[2] == kit.engine.ledger.size("main")
    survived.append("two writers")

    back = Clock(lambda: 1_700_000_000_000_000_000, lambda: 1)
    engine = Engine.open(path, create=False, read_only=False, lock_timeout_s=60, clock=back)
    with Kit(engine, LOCAL, Surface.PYTHON) as kit:
        kit.bucket.create("in-the-past")
    assert detected(path) is None
    survived.append("clock going back")

    full = set()

    def no_room(kind: str, name: str) -> None:
        if "segments" in str(name):
            full.add(kind)
            raise OSError(28, os.strerror(28))

    faults.hook = no_room
    try:
        with Kit.open(path) as kit, pytest.raises(NoSpace):
            kit.ledger.seal(log="main")
    finally:
        faults.hook = None
    assert full
    assert detected(path) is None
    with Kit.open(path) as kit:
        kit.ledger.seal(log="main")
        assert kit.engine.ledger.state("main").sealed_upto > 0
    assert detected(path) is None
    survived.append("disk full while sealing")
    print(f"\nsurvived: {', '.join(survived)}")
