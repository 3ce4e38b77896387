from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.buckets.refs import (
    NONCES_KEPT,
    REFS_SCHEMA,
    Outcome,
    RefStore,
    RefValue,
    SqliteRefStore,
    branch_ref,
    check_full_name,
    outcome_of,
    require_conditional_writes,
    successor,
    tag_ref,
)
from ipfs_kit.durable import StateDB
from ipfs_kit.errors import FormatError, InvalidName, RefConflict, Unsupported
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.testing.ref_store_suite import BUCKET, NAME, RefStoreSuite, commit, nonce, swap


def open_refs(path: str) -> SqliteRefStore:
    return SqliteRefStore(StateDB.open(path, [REFS_SCHEMA]))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDB]:
    db = StateDB.open(tmp_path / "state.db", [REFS_SCHEMA])
    yield db
    db.close()


class TestSqliteRefStore(RefStoreSuite):
    @pytest.fixture
    def store(self, state: StateDB) -> SqliteRefStore:
        return SqliteRefStore(state)

    def another(self, store: RefStore) -> RefStore:
        assert isinstance(store, SqliteRefStore)
        return SqliteRefStore(store._state)

    def opener(self, store: RefStore) -> Callable[[], RefStore]:
        assert isinstance(store, SqliteRefStore)
        return functools.partial(open_refs, store._state.path)


class MemoryRefStore(RefStore):
    """The smallest store there is; ``careless`` ignores conditions."""

    def __init__(self, careless: bool = False) -> None:
        self.held: dict[tuple[str, str], RefValue] = {}
        self.careless = careless

    def read(self, bucket: str, name: str) -> RefValue | None:
        return self.held.get((bucket, name))

    def write(self, bucket: str, name: str, current: RefValue | None, value: RefValue) -> bool:
        # setdefault and the comparison of one value stand for If-None-Match and If-Match; the GIL makes each atomic.
        if not self.careless and self.held.get((bucket, name)) != current:
            return False
        self.held[bucket, name] = value
        return True

    def names(self, bucket: str, prefix: str, after: str, limit: int) -> Sequence[tuple[str, RefValue]]:
        found = sorted(
            (name, value)
            for (where, name), value in self.held.items()
            if where == bucket and name.startswith(prefix) and name > after and value.commit is not None
        )
        return found[:limit]


def test_a_store_that_ignores_conditions_is_refused() -> None:
    nonces = (nonce(1), nonce(2), nonce(3))
    require_conditional_writes(MemoryRefStore(), "probe", commit(0), nonces)
    with pytest.raises(Unsupported):
        require_conditional_writes(MemoryRefStore(careless=True), "probe", commit(0), nonces)


def test_a_swap_happens_with_the_transaction_it_is_part_of(state: StateDB) -> None:
    refs = SqliteRefStore(state)
    with state.transaction() as tx:
        refs.swap_in(tx, BUCKET, NAME, 0, commit(1), op_id=b"op", nonce=nonce(1))
        assert refs.read_in(tx, BUCKET, NAME) is not None
        assert refs.get(BUCKET, NAME) is None
    assert refs.generation(BUCKET, NAME) == 1


def test_a_swap_in_a_transaction_that_fails_did_not_happen(state: StateDB) -> None:
    refs = SqliteRefStore(state)
    with pytest.raises(RuntimeError), state.transaction() as tx:
        refs.swap_in(tx, BUCKET, NAME, 0, commit(1), op_id=b"op", nonce=nonce(1))
        raise RuntimeError
    assert refs.generation(BUCKET, NAME) == 0


def test_a_conflict_in_a_savepoint_leaves_the_rest_of_the_transaction(state: StateDB) -> None:
    refs = SqliteRefStore(state)
    with state.transaction() as tx:
        refs.swap_in(tx, BUCKET, NAME, 0, commit(1), op_id=b"op", nonce=nonce(1))
        with pytest.raises(RefConflict), tx.savepoint():
            refs.swap_in(tx, BUCKET, NAME, 0, commit(2), op_id=b"op", nonce=nonce(2))
    value = refs.get(BUCKET, NAME)
    assert value is not None
    assert value.commit == commit(1)


def test_a_damaged_value_is_reported_as_such(state: StateDB) -> None:
    refs = SqliteRefStore(state)
    swap(refs, 1, 0)
    with state.transaction() as tx:
        tx.execute("UPDATE refs SET value=?", (dag_cbor.encode([None, 0, b"", nonce(1), []]),))
    with pytest.raises(FormatError):
        refs.get(BUCKET, NAME)


@given(st.lists(st.binary(min_size=8, max_size=32), min_size=1, max_size=25, unique=True), st.booleans())
def test_values_survive_encoding_at_every_generation(nonces: list[bytes], deleted: bool) -> None:
    value = None
    for number, each in enumerate(nonces):
        value = successor(value, None if deleted else commit(number), b"op", each)
        assert RefValue.decode(value.encode()) == value
        assert len(value.nonces) == min(number, NONCES_KEPT)
    for expected, each in enumerate(nonces):
        near = len(nonces) - expected - 1 <= NONCES_KEPT
        assert outcome_of(value, expected, each) is (Outcome.DONE if near else Outcome.UNKNOWN)
        assert outcome_of(value, expected, b"somebody") is (Outcome.NOT_DONE if near else Outcome.UNKNOWN)
    assert outcome_of(value, len(nonces), b"somebody") is Outcome.PENDING
    assert outcome_of(value, len(nonces) + 1, b"somebody") is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "fields",
    [
        ["x", 1, b"", nonce(1), []],
        [None, True, b"", nonce(1), []],
        [None, 1, b"", b"short", []],
        [None, 2, b"", nonce(1), []],
        [None, 1, b"", nonce(1), [nonce(2)]],
        [None, 1, b"", nonce(1)],
        {"a": 1},
    ],
)
def test_values_of_another_form_are_refused(fields: object) -> None:
    with pytest.raises(FormatError):
        RefValue.decode(dag_cbor.encode(fields))


def test_oversized_values_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(FormatError):
        RefValue.decode(b"\xff" * 5_000)


@pytest.mark.parametrize(
    "name",
    ["heads/main", "tags/v1.0", "heads/feature/x", "heads/größe", "heads/a-b_c+d", "heads/日本"],
)
def test_good_names_are_kept_as_they_are(name: str) -> None:
    assert check_full_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "main",
            "",
            "heads",
            "heads//a",
            "/heads/a",
            "heads/a/",
            "heads/.a",
            "heads/a.",
            "heads/a.lock",
            "heads/a..b",
        ),
        *(
            "heads/a b",
            "heads/a\u00a0b",
            "heads/a\x00",
            "heads/\u202ea",
            "heads/a~1",
            "heads/a^",
            "heads/a:b",
            "heads/a?",
        ),
        *("heads/a*", "heads/[a", "heads/a\\b", "heads/a@{1}", "heads/@", "heads/a#b", "heads/-a", "heads/\udc80"),
        *("heads/" + "a" * 250, "heads/" + "é" * 130),
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        check_full_name(name)


def test_branches_and_tags_have_namespaces() -> None:
    assert (branch_ref("main"), tag_ref("v1")) == ("heads/main", "tags/v1")
    assert isinstance(commit(1), CID)
