"""A person is forgotten: no byte of theirs is left in the store or in a backup of its data, and every proof still holds."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ipfs_kit import Kit, KitError
from ipfs_kit.durable import faults
from ipfs_kit.errors import Held, InvalidInput, NotFound
from ipfs_kit.ledger.erasure import FileScan
from ipfs_kit.operations.principal import Principal

USER, ADDRESS, DETAIL = "canary-user-9c1d", "203.0.113.77-canary-ip", "canary-detail-4e2b"
ARGUMENT, TARGET, PATH = "canary-argument-77aa", "canary-target-b0c3", "canary-error-e5f6"
CANARIES = [text.encode() for text in (USER, ADDRESS, DETAIL, ARGUMENT, TARGET, PATH)]
FORMS = [*CANARIES, *(text.encode("utf-16-le") for text in (USER, ADDRESS, DETAIL))]


def fill(kit: Kit, user: str = USER) -> None:
    """Events about a person and calls by the same person, in both logs, with results, failures and kept results."""
    kit.stream.append(
        "audit",
        events=[
            {"event_type": "authentication", "action": "login", "user_id": user, "ip_address": ADDRESS,
             "details": {"text": DETAIL, "n": n}}
            for n in range(3)
        ],
    )  # fmt: skip
    who = Principal(user, frozenset({"*"}))
    errors: list[str] = []
    for name, given in (
        ("files.write", {"path": f"absent:/{TARGET}", "text": ARGUMENT}),
        ("files.read", {"path": f"docs:/{PATH}"}),
        ("stream.query", {"stream": "audit", "text": ARGUMENT}),
    ):
        try:
            kit.call_with(name, given, principal=who)
        except KitError as error:
            errors.append(error.message)
    assert PATH in errors[1], "the canary must have been in the error's text"
    kit.call_with("bucket.list", {"cursor": ARGUMENT}, principal=who)
    kit.call_with("stream.note", {"name": "mcp.x", "arguments": {"a": ARGUMENT}}, principal=who, idempotency_key="k")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s"
    with Kit.open(path) as kit:
        kit.bucket.create("docs")
        fill(kit)
        kit.ledger.seal(log="main")
        kit.ledger.seal(log="bulk")
        fill(kit)
        kit.stream.append("audit", events=[{"event_type": "user", "action": "made", "user_id": "bob"}])
        kit.stream.flush("audit")
    return path


def told(kit: Kit) -> list[str | None]:
    return [row.event and row.event.get("user_id") for row in kit.stream.query("audit", limit=1000).rows]


@pytest.mark.slow
def test_no_byte_of_an_erased_person_is_left_and_every_proof_holds(store: Path, tmp_path: Path) -> None:
    with Kit.open(store) as kit:
        first = kit.stream.query("audit", oldest_first=True).rows[0]
        assert first.event is not None
        assert first.event["ip_address"] == ADDRESS
        # Not asked by value: the text of a query stays under the key of whoever asked.
        assert kit.ledger.sql("SELECT DISTINCT ip_address FROM audit WHERE ip_address IS NOT NULL").rows == [[ADDRESS]]
        proof = kit.ledger.prove(first.op).proof
        batch = str(kit.stream.batches("audit").batches[0].cid)
    data = shutil.copytree(store, tmp_path / "data", ignore=shutil.ignore_patterns("keys"))
    with Kit.open(store) as kit:
        done = kit.ledger.erase(USER)
        assert done.removed["key"] == 1
        assert kit.engine.erasure.residues(FORMS) == []
    with Kit.open(store) as kit:
        assert told(kit) == ["bob", *[None] * 6]
        assert kit.stream.query("audit", oldest_first=True).rows[0].erased
        assert [row.erased for row in kit.stream.load(batch).rows].count(True) == 6
        assert kit.ledger.sql("SELECT count(*) FROM audit WHERE ip_address IS NULL").rows == [[7]]
        shown = kit.ledger.sql("SELECT * FROM records").rows
        assert not [canary for canary in (USER, ADDRESS, DETAIL, ARGUMENT, TARGET, PATH) if canary in str(shown)]
        assert kit.ledger.check_proof(proof).op == first.op
        assert kit.ledger.prove(first.op).cid == first.cid
        assert kit.ledger.verify().ok
        assert kit.call("store.verify").value.ok
        record = next(op for op in kit.ledger.tail(limit=100).ops if op.operation == "ledger.erase")
        assert (record.phase, record.status, record.args) == ("outcome", "ok", {"subject": done.subject})
        with pytest.raises(NotFound):
            kit.ledger.erase(USER)
    # With the keys that are left, a backup of the data from before tells no more than the store does.
    assert list(FileScan(store).residues(FORMS)) == []
    assert list(FileScan(data).residues(FORMS)) == []
    shutil.copytree(store / "keys", data / "keys", copy_function=shutil.copy2)
    (data / "keys").chmod(0o700)
    with Kit.open(data, read_only=True) as kit:
        assert told(kit) == ["bob", *[None] * 6]


def test_the_scan_would_find_what_is_in_the_clear(store: Path) -> None:
    (store / "note").write_bytes(b"x" * (4 << 20) + USER.encode())
    assert list(FileScan(store).residues(CANARIES)) == ["note"]
    with Kit.open(store) as kit:
        assert any(place.startswith("key: ") for place in kit.engine.erasure.residues(CANARIES))
        with pytest.raises(InvalidInput):
            kit.engine.erasure.residues([b"abc"])


OTHER = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1], surface="python") as kit:
    for _ in sys.stdin:
        rows = kit.stream.query("audit", limit=1000).rows
        print([row.event and row.event.get("user_id") for row in rows].count(sys.argv[2]), flush=True)
"""


def test_a_process_that_had_the_key_in_memory_forgets_it(store: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(store), USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def asked() -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write("again\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        assert asked() == "6"
        with Kit.open(store) as kit:
            kit.ledger.erase(USER)
        assert asked() == "0"
        other.stdin.close()
        assert other.wait(30) == 0


def test_a_hold_on_a_persons_record_refuses_the_erasure_by_name(store: Path) -> None:
    with Kit.open(store) as kit:
        hold = kit.ledger.hold_add("inquiry 4", stream="audit")
        elsewhere = kit.ledger.hold_add("other", stream="journal")
        with pytest.raises(Held, match="hold 1: inquiry 4") as caught:
            kit.ledger.erase(USER)
        assert USER not in caught.value.message
    with Kit.open(store) as kit:
        assert told(kit).count(USER) == 6
        kit.ledger.hold_release(hold.id)
        assert kit.ledger.erase(USER).removed["key"] == 1
        assert elsewhere.active


def test_who_erases_themselves_is_still_on_record_without_a_name(store: Path) -> None:
    with Kit.open(store) as kit:
        who = Principal(USER, frozenset({"*"}))
        done = kit.call_with("ledger.erase", {"subject": USER}, principal=who, idempotency_key="once").value
        record = next(op for op in kit.ledger.tail(limit=10).ops if op.operation == "ledger.erase")
        assert (record.actor, record.actor_name) == (done.subject, None)
        assert kit.ledger.verify().ok
        fill(kit)  # the same name again is a new person
        assert told(kit).count(USER) == 3


class Shelf:
    """A component that keeps something personal."""

    name = "shelf"

    def __init__(self) -> None:
        self.kept = {"x": b"canary-on-the-shelf"}
        self.asked: list[str] = []

    def erase(self, subject: str) -> int:
        self.asked.append(subject)
        self.kept.clear()
        return 1

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        return (name for name, value in self.kept.items() if any(needle in value for needle in needles))


def test_whoever_keeps_something_registers_and_is_asked_to_forget(store: Path) -> None:
    with Kit.open(store) as kit:
        shelf = Shelf()
        kit.engine.erasure.register(shelf)
        with pytest.raises(InvalidInput):
            kit.engine.erasure.register(Shelf())
        assert kit.engine.erasure.residues([b"canary-on-the-shelf"]) == ["shelf: x"]
        done = kit.ledger.erase(USER)
        assert (shelf.asked, done.removed["shelf"]) == ([done.subject], 1)
        assert kit.engine.erasure.residues([b"canary-on-the-shelf"]) == []


@pytest.mark.slow
def test_a_failure_at_any_durable_step_of_an_erasure_leaves_all_or_nothing(store: Path, tmp_path: Path) -> None:
    step, finished = 0, False
    while not finished:
        step += 1
        assert step < 100
        copy = shutil.copytree(store, tmp_path / f"copy{step}")
        (copy / "keys").chmod(0o700)
        calls = [0]

        def hook(operation: str, path: str, calls: list[int] = calls, step: int = step) -> None:
            calls[0] += 1
            if calls[0] == step:
                raise OSError(5, "injected")

        faults.hook = lambda *_: None  # so that the state file is opened with the seam
        with contextlib.suppress(KitError, OSError), Kit.open(copy) as kit:
            surrogate = kit.engine.keys.find_subject(USER)
            faults.hook = hook
            try:
                kit.ledger.erase(USER)
                finished = True
            finally:
                faults.hook = None
        assert surrogate is not None
        with Kit.open(copy) as kit:
            assert told(kit).count(USER) in (0, 6), f"half erased after a failure at step {step}"
            kit.ledger.erase(surrogate)
            assert told(kit).count(USER) == 0
            assert kit.engine.keys.verify() == []
            assert kit.ledger.verify().ok
            assert kit.engine.erasure.residues(FORMS) == []
        shutil.rmtree(copy)
    assert step > 20


def test_a_process_forgets_the_names_of_callers_who_were_erased_elsewhere(store: Path) -> None:
    with Kit.open(store) as kit:
        who = Principal(USER, frozenset({"*"}))
        kit.call_with("bucket.list", {}, principal=who)
        assert kit.engine.has_actor(who)
        kit.engine.keys.destroy(str(kit.engine.keys.find_subject(USER)))
        assert not kit.engine.has_actor(who)
        kit.engine.forget_erased()
        assert USER not in kit.engine._actors
