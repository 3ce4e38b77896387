"""A wall clock that is set: recorded as an op, while ``@time`` keeps to what was recorded (decision 23)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput
from ipfs_kit.operations.catalogue import Surface
from ipfs_kit.operations.clock import STEP_NS, STEP_OPERATION, Clock, Step, StepRecorder
from ipfs_kit.operations.engine import Engine
from ipfs_kit.operations.principal import LOCAL
from ipfs_kit.operations.toolsets.ledger import OpInfo

S = 1_000_000_000
START_NS = 1_700_000_000 * S  # 2023-11-14T22:13:20Z
WAIT_S = 30.0


class Hands:
    """Both clocks, moved by the test: time passes on both, setting moves only the wall's."""

    def __init__(self) -> None:
        self.wall_ns, self.mono_ns = START_NS, 5 * S

    def passes(self, seconds: float) -> None:
        self.wall_ns += int(seconds * S)
        self.mono_ns += int(seconds * S)

    def clock(self) -> Clock:
        return Clock(lambda: self.wall_ns, lambda: self.mono_ns)


@contextlib.contextmanager
def opened(path: Path, hands: Hands, *, read_only: bool = False) -> Iterator[Kit]:
    engine = Engine.open(path, create=True, read_only=read_only, lock_timeout_s=WAIT_S, clock=hands.clock())
    with Kit(engine, LOCAL, Surface.PYTHON) as kit:
        yield kit


def steps(kit: Kit, count: int = 0) -> list[OpInfo]:
    """Recorded steps, once there are as many as expected: they are recorded beside the op that saw them."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        found = [op for op in kit.ledger.tail(limit=1000).ops if op.operation == STEP_OPERATION]
        if len(found) >= count:
            return found
        pause.wait(0.01)
    raise AssertionError(f"{count} steps were not recorded")


def read(kit: Kit, time: str) -> bytes:
    return kit.files.read(f"notes@time:2023-11-14T{time}Z:/a").read()


def test_time_across_a_backward_step_is_the_last_op_recorded_at_or_before_it(tmp_path: Path) -> None:
    hands = Hands()
    with opened(tmp_path / "store", hands) as kit:
        kit.bucket.create("notes")
        kit.files.write("notes:/a", text="first")  # 22:13:20
        hands.passes(600)
        kit.files.write("notes:/a", text="second")  # 22:23:20
        hands.passes(60)
        hands.wall_ns -= 360 * S  # from 22:24:20 to 22:18:20
        kit.files.write("notes:/a", text="third")
        [step] = steps(kit, 1)
        assert step.effect == {"expected": START_NS + 660 * S, "found": START_NS + 300 * S}
        assert (step.surface, step.status, step.time) == ("system", "ok", "2023-11-14T22:18:20.000000000Z")
        with pytest.raises(InvalidInput, match="nothing to undo"):
            kit.versions.undo(step.op_id)
        for sealed in (False, True):
            if sealed:
                kit.ledger.seal()
            assert read(kit, "22:15:00") == b"first"
            assert read(kit, "22:18:19") == b"first"
            assert read(kit, "22:18:20") == b"third"
            # The clock showed this time twice; the later op counts.
            assert read(kit, "22:23:20") == b"third"
        assert kit.files.read("notes@op:2:/a").read() == b"second"
        assert kit.store.verify().ok
        assert len(steps(kit)) == 1


def test_a_forward_step_is_recorded_and_the_gap_reads_as_before_it(tmp_path: Path) -> None:
    hands = Hands()
    with opened(tmp_path / "store", hands) as kit:
        kit.bucket.create("notes")
        kit.files.write("notes:/a", text="first")
        hands.wall_ns += 600 * S
        kit.files.write("notes:/a", text="second")
        [step] = steps(kit, 1)
        assert step.effect == {"expected": START_NS, "found": START_NS + 600 * S}
        assert (read(kit, "22:23:19"), read(kit, "22:23:20")) == (b"first", b"second")


def test_time_that_passes_and_small_corrections_are_no_steps(tmp_path: Path) -> None:
    hands = Hands()
    with opened(tmp_path / "store", hands) as kit:
        kit.bucket.create("notes")
        for correction in (STEP_NS, -STEP_NS, 0):
            hands.passes(86_400)
            hands.wall_ns += correction
            kit.files.write("notes:/a", text="x")
            hands.wall_ns -= correction
    with opened(tmp_path / "store", hands, read_only=True) as kit:
        assert steps(kit) == []


def test_a_step_back_between_two_processes_is_recorded_by_the_first_that_opens(tmp_path: Path) -> None:
    hands = Hands()
    with opened(tmp_path / "store", hands) as kit:
        kit.bucket.create("notes")
    hands.wall_ns -= 3600 * S
    with opened(tmp_path / "store", hands, read_only=True) as kit:
        assert steps(kit) == [], "nothing is recorded by whoever may not"
    for _ in range(2):
        with opened(tmp_path / "store", hands):
            pass
    with opened(tmp_path / "store", hands) as kit:
        [step] = steps(kit, 1)
        assert step.effect == {"expected": START_NS, "found": START_NS - 3600 * S}


def test_a_step_noted_before_the_close_is_recorded_by_it(tmp_path: Path) -> None:
    hands = Hands()
    with opened(tmp_path / "store", hands) as kit:
        kit.bucket.create("notes")
        hands.wall_ns += 10 * S
        kit.engine.clock()
    with opened(tmp_path / "store", hands, read_only=True) as kit:
        assert len(steps(kit)) == 1


def test_a_process_suspended_between_the_two_clocks_sees_no_step() -> None:
    hands, told = Hands(), list[Step]()
    late = [5 * S, 5 * S, 0]

    def wall() -> int:
        shown = hands.wall_ns
        hands.passes(late.pop() / S if late else 0)  # as if stopped right after the reading
        return shown

    clock = Clock(wall, lambda: hands.mono_ns)
    clock.watch(told.append)
    assert clock() == START_NS
    assert told == []
    hands.wall_ns += 2 * S
    clock()
    assert [step.found_ns - step.expected_ns for step in told] == [2 * S]


def test_threads_that_see_the_same_step_tell_it_once() -> None:
    hands, told = Hands(), list[Step]()
    clock = hands.clock()
    clock.watch(told.append)
    hands.wall_ns -= 100 * S
    threads = [threading.Thread(target=clock) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [step.expected_ns - step.found_ns for step in told] == [100 * S]


def test_a_clock_that_flaps_is_recorded_within_bounds(tmp_path: Path) -> None:
    hands = Hands()
    with opened(tmp_path / "store", hands) as kit:
        recorder = StepRecorder(kit.engine.ledger, hands.clock())
        for number in range(500):
            recorder.note(Step(START_NS, START_NS + number))
        recorder.close()
        recorder.note(Step(START_NS, START_NS))
        assert 0 < len(steps(kit)) <= 500
        assert kit.store.verify().ok
