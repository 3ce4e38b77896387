# ruff: noqa: D102  a test's name is its sentence
"""The conformance kit of ref stores: subclass ``RefStoreSuite``, provide the fixture, run pytest.

::

    class TestMine(RefStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyRefStore(tmp_path)

        def another(self, store):            # as a second process would open it
            return MyRefStore(store.path)

        def opener(self, store):             # picklable: opens the store in a spawned process
            return functools.partial(MyRefStore, store.path)
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from ipfs_kit.buckets.refs import (
    NONCES_KEPT,
    Outcome,
    RefStore,
    RefValue,
    outcome_of,
    require_conditional_writes,
    successor,
)
from ipfs_kit.errors import InvalidInput, InvalidName, RefConflict, Unavailable
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR

BUCKET = "b0"
NAME = "heads/main"
THREADS = 8
PROCESSES = 4
ROUNDS = 12
WAIT_S = 60.0


def commit(number: int) -> CID:
    """A distinct commit CID."""
    return CID.of(b"commit %d" % number, DAG_CBOR)


def nonce(*parts: int) -> bytes:
    """A distinct nonce."""
    return b"".join(part.to_bytes(4) for part in parts).ljust(16, b"\0")


class LossyRefStore(RefStore):
    """Another store whose answers get lost as told, to play a network.

    Args:
        inner: The real store.
    """

    def __init__(self, inner: RefStore) -> None:
        self.inner = inner
        self.lose_answers = 0
        """Next writes that happen but whose answer is lost."""
        self.lose_requests = 0
        """Next writes that never arrive."""
        self.lose_reads = 0
        """Next reads that fail, once a write was lost."""
        self.before_loss: Callable[[], object] | None = None
        """What others do between a lost write and the read that looks for it."""
        self.writes = 0
        self._lost = False

    def read(self, bucket: str, name: str) -> RefValue | None:
        if self._lost and self.lose_reads > 0:
            self.lose_reads -= 1
            raise Unavailable("the answer to a read was lost")
        return self.inner.read(bucket, name)

    def write(self, bucket: str, name: str, current: RefValue | None, value: RefValue) -> bool:
        self.writes += 1
        if self.lose_requests > 0:
            self.lose_requests -= 1
            self._lose()
        done = self.inner.write(bucket, name, current, value)
        if self.lose_answers > 0:
            self.lose_answers -= 1
            self._lose()
        return done

    def names(self, bucket: str, prefix: str, after: str, limit: int) -> Sequence[tuple[str, RefValue]]:
        return self.inner.names(bucket, prefix, after, limit)

    def _lose(self) -> None:
        self._lost = True
        if self.before_loss is not None:
            self.before_loss()
        raise Unavailable("the answer to a write was lost")


def swap(store: RefStore, number: int, expected: int, *, name: str = NAME) -> RefValue:
    """Move the ref to commit ``number``."""
    return store.compare_and_swap(
        BUCKET, name, expected, commit(number), op_id=nonce(number), nonce=nonce(number, expected)
    )


def race(open_store: Callable[[], RefStore], who: int, rounds: int) -> list[int]:
    """Try to win each generation in turn; returns those won. Runs in threads and in spawned processes."""
    store = open_store()
    won = []
    for generation in range(rounds):
        try:
            swap(store, who * 1_000 + generation, generation)
            won.append(generation)
        except RefConflict:
            continue
    return won


class RefStoreSuite:
    """What every ref store must do; see the rules of ``ipfs_kit.buckets.refs.RefStore``."""

    @pytest.fixture
    def store(self) -> Iterator[RefStore]:
        """An empty store."""
        raise NotImplementedError("provide the fixture `store`")

    def another(self, store: RefStore) -> RefStore | None:
        """The same refs through another object; None where that is impossible."""
        return None

    def opener(self, store: RefStore) -> Callable[[], RefStore] | None:
        """A picklable callable that opens the same refs in a spawned process; None where that is impossible."""
        return None

    # -- values --------------------------------------------------------------------------------------------------

    def test_a_ref_that_never_was_reads_as_nothing(self, store: RefStore) -> None:
        assert store.read(BUCKET, NAME) is None
        assert store.get(BUCKET, NAME) is None
        assert store.generation(BUCKET, NAME) == 0

    def test_a_swap_is_read_back_whole(self, store: RefStore) -> None:
        value = store.compare_and_swap(BUCKET, NAME, 0, commit(1), op_id=b"op", nonce=nonce(1))
        assert value == RefValue(commit(1), 1, b"op", nonce(1))
        assert store.get(BUCKET, NAME) == value
        other = self.another(store)
        if other is not None:
            assert other.get(BUCKET, NAME) == value

    def test_a_swap_of_another_generation_is_a_conflict_and_changes_nothing(self, store: RefStore) -> None:
        first = swap(store, 1, 0)
        for expected in (0, 2, 7):
            with pytest.raises(RefConflict) as caught:
                swap(store, 2, expected)
            assert caught.value.details["generation"] == 1
            assert caught.value.details["commit"] == str(commit(1))
        assert store.get(BUCKET, NAME) == first

    def test_the_last_sixteen_nonces_before_the_head_are_kept_newest_first(self, store: RefStore) -> None:
        for number in range(NONCES_KEPT + 4):
            swap(store, number, number)
        value = store.get(BUCKET, NAME)
        assert value is not None
        last = NONCES_KEPT + 3
        assert value.nonce == nonce(last, last)
        assert value.nonces == tuple(nonce(n, n) for n in range(last - 1, last - 1 - NONCES_KEPT, -1))

    def test_the_generation_survives_delete_and_recreate(self, store: RefStore) -> None:
        swap(store, 1, 0)
        gone = store.compare_and_swap(BUCKET, NAME, 1, None, op_id=b"d", nonce=nonce(9, 1))
        assert gone.commit is None
        assert store.get(BUCKET, NAME) is None
        assert store.list(BUCKET).refs == ()
        assert store.generation(BUCKET, NAME) == 2
        with pytest.raises(RefConflict):
            swap(store, 3, 0)
        assert swap(store, 3, 2).generation == 3

    def test_refs_of_other_buckets_and_names_are_untouched(self, store: RefStore) -> None:
        swap(store, 1, 0)
        assert store.generation("b1", NAME) == 0
        assert store.generation(BUCKET, "heads/Main") == 0
        store.compare_and_swap("b1", NAME, 0, commit(2), op_id=b"", nonce=nonce(2))
        first = store.get(BUCKET, NAME)
        assert first is not None
        assert first.commit == commit(1)

    def test_bad_names_and_arguments_are_refused(self, store: RefStore) -> None:
        for name in (
            "main",
            "heads/",
            "heads/a..b",
            "heads/a b",
            "heads/.a",
            "heads/a.lock",
            "heads/a@b",
            "heads/\x07",
        ):
            with pytest.raises(InvalidName):
                swap(store, 1, 0, name=name)
        with pytest.raises(InvalidName):
            store.get("../b", NAME)
        with pytest.raises(InvalidInput):
            store.compare_and_swap(BUCKET, NAME, -1, commit(1), op_id=b"", nonce=nonce(1))
        with pytest.raises(InvalidInput):
            store.compare_and_swap(BUCKET, NAME, 0, commit(1), op_id=b"", nonce=b"short")

    # -- listing -------------------------------------------------------------------------------------------------

    def test_pages_join_to_every_live_ref_of_the_prefix_in_order(self, store: RefStore) -> None:
        names = ["heads/a", "heads/a/b", "heads/a-b", "heads/z", "heads/é", "tags/v1", "tags/v2"]
        for number, name in enumerate(names):
            swap(store, number, 0, name=name)
        swap(store, 50, 0, name="heads/gone")
        store.compare_and_swap(BUCKET, "heads/gone", 1, None, op_id=b"", nonce=nonce(51))
        for limit in (1, 2, 7, 100):
            found: list[str] = []
            after = None
            while True:
                page = store.list(BUCKET, "heads/", after=after, limit=limit)
                assert len(page.refs) <= limit
                found += [ref.name for ref in page.refs]
                after = page.cursor
                if after is None:
                    break
            assert found == sorted(name for name in names if name.startswith("heads/"))
        assert [ref.value.commit for ref in store.list(BUCKET, "tags/").refs] == [commit(5), commit(6)]

    # -- lost answers --------------------------------------------------------------------------------------------

    def test_a_swap_whose_answer_is_lost_succeeds_once(self, store: RefStore) -> None:
        lossy = LossyRefStore(store)
        lossy.lose_answers = 1
        value = swap(lossy, 1, 0)
        assert (value.generation, value.nonce) == (1, nonce(1, 0))
        assert lossy.writes == 1

    def test_a_swap_whose_request_is_lost_is_written_again(self, store: RefStore) -> None:
        lossy = LossyRefStore(store)
        lossy.lose_requests = 1
        assert swap(lossy, 1, 0).generation == 1
        assert lossy.writes == 2

    def test_a_lost_answer_is_found_in_the_list_after_others_moved_on(self, store: RefStore) -> None:
        lossy = LossyRefStore(store)
        lossy.lose_answers = 1
        lossy.before_loss = lambda: [swap(store, 2, 1), swap(store, 3, 2)]
        value = swap(lossy, 1, 0)
        assert value.generation == 3
        assert value.nonces[1] == nonce(1, 0)

    def test_a_lost_request_that_others_overtook_is_a_conflict(self, store: RefStore) -> None:
        lossy = LossyRefStore(store)
        lossy.lose_requests = 1
        lossy.before_loss = lambda: swap(store, 2, 0)
        with pytest.raises(RefConflict):
            swap(lossy, 1, 0)

    def test_an_answer_that_cannot_be_looked_for_is_unknown(self, store: RefStore) -> None:
        lossy = LossyRefStore(store)
        lossy.lose_answers = lossy.lose_reads = 1
        with pytest.raises(Unavailable) as caught:
            swap(lossy, 1, 0)
        assert caught.value.details["outcome"] == "unknown"
        assert store.probe(BUCKET, NAME, 0, nonce(1, 0)) is Outcome.DONE
        assert swap(store, 1, 0).generation == 1

    def test_requests_that_never_arrive_end_as_unknown(self, store: RefStore) -> None:
        lossy = LossyRefStore(store)
        lossy.lose_requests = 99
        with pytest.raises(Unavailable) as caught:
            swap(lossy, 1, 0)
        assert caught.value.details["outcome"] == "unknown"
        assert store.probe(BUCKET, NAME, 0, nonce(1, 0)) is Outcome.PENDING

    def test_a_swap_tried_again_with_its_nonce_happens_once(self, store: RefStore) -> None:
        first = swap(store, 1, 0)
        assert swap(store, 1, 0) == first
        assert store.generation(BUCKET, NAME) == 1

    def test_a_swap_further_back_than_the_nonces_reach_is_unknown(self, store: RefStore) -> None:
        swap(store, 0, 0)
        for generation in range(1, NONCES_KEPT + 1):
            swap(store, generation, generation)
        assert store.probe(BUCKET, NAME, 0, nonce(0, 0)) is Outcome.DONE
        assert store.probe(BUCKET, NAME, 0, nonce(7, 7)) is Outcome.NOT_DONE
        swap(store, 99, NONCES_KEPT + 1)
        assert store.probe(BUCKET, NAME, 0, nonce(0, 0)) is Outcome.UNKNOWN

    def test_writes_honour_their_condition(self, store: RefStore) -> None:
        require_conditional_writes(store, "probe0", commit(0), (nonce(1), nonce(2), nonce(3)))

    # -- concurrency ---------------------------------------------------------------------------------------------

    def test_each_generation_has_exactly_one_winner_among_threads(self, store: RefStore) -> None:
        gate = threading.Barrier(THREADS)
        won: dict[int, list[int]] = {}

        def run(who: int) -> None:
            gate.wait(WAIT_S)
            won[who] = race(lambda: self.another(store) or store, who, ROUNDS)

        threads = [threading.Thread(target=run, args=(who,), daemon=True) for who in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        self._one_winner_each(store, won)

    def test_each_generation_has_exactly_one_winner_among_processes(self, store: RefStore) -> None:
        opener = self.opener(store)
        if opener is None:
            pytest.skip("this store cannot be opened from another process")
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            tasks = [pool.apply_async(race, (opener, who, ROUNDS)) for who in range(PROCESSES)]
            won = {who: task.get(WAIT_S) for who, task in enumerate(tasks)}
        self._one_winner_each(store, won)

    def _one_winner_each(self, store: RefStore, won: dict[int, list[int]]) -> None:
        assert sorted(generation for wins in won.values() for generation in wins) == list(range(ROUNDS))
        value = store.get(BUCKET, NAME)
        assert value is not None
        assert value.generation == ROUNDS
        winner = {generation: who for who, wins in won.items() for generation in wins}
        history = [value.nonce, *value.nonces]
        assert history == [nonce(winner[g] * 1_000 + g, g) for g in range(ROUNDS - 1, -1, -1)]
        assert outcome_of(value, 0, history[-1]) is Outcome.DONE
        assert successor(value, None, b"", nonce(1)).nonces[0] == value.nonce
