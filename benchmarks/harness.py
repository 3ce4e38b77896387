"""What every benchmark shares: the machine, timing, figures with their peer and target, and the report."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PACKAGES = ("apsw", "blake3", "cbrrr", "cryptography", "duckdb", "lmdb", "mcp", "pyarrow")
SWING_MAX = 1.5
"""Identical runs of a peer may differ by this factor; beyond it the figure is printed without a verdict."""
RAW_KEPT = 2_000
"""Raw timings kept per figure: all of a slow one, an even sample of a fast one."""


@dataclass(frozen=True)
class Figure:
    """One published number.

    Args:
        name: What was measured.
        value: The number compared with the target.
        unit: Its unit.
        given: The input.
        statistic: How ``value`` comes from the raw timings.
        warmup: What ran before and was not counted.
        repetitions: Timings taken.
        median: Median of the raw timings, in ``raw_unit``.
        spread: Interquartile range of the raw timings, in ``raw_unit``.
        raw: The timings, at most ``RAW_KEPT``, evenly sampled.
        raw_unit: Their unit.
        peer: What it is compared with, measured in the same run; None when the target is a plain number.
        peer_value: The peer's number.
        peer_raw: The peer's timings, in ``raw_unit``.
        ratio: ``value`` over ``peer_value``.
        target: What was set out to be reached, as text; empty when none was.
        reached: Whether it is; None where no target was set, or a reduced input makes the question meaningless.
    """

    name: str
    value: float
    unit: str
    given: str
    statistic: str
    warmup: str
    repetitions: int
    median: float
    spread: float
    raw: list[float]
    raw_unit: str
    peer: str | None = None
    peer_value: float | None = None
    peer_raw: list[float] = field(default_factory=list)
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None
    peer_swing: float | None = None
    """The peer's slowest timing over its fastest; above ``SWING_MAX`` a ratio to it settles nothing."""


class Bench:
    """One run: its working folder, its sizes and what it found.

    Args:
        quick: Reduced sizes, for a check that everything runs.
        directory: Where files are made; on the file system that is to be measured.
    """

    def __init__(self, quick: bool, directory: Path) -> None:
        self.quick = quick
        self.directory = directory
        self.figures: list[Figure] = []
        self.notes: list[str] = []

    def size(self, full: int, quick: int) -> int:
        """The full size, or the reduced one."""
        return quick if self.quick else full

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A fresh folder on the measured file system, removed afterwards."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def note(self, text: str) -> None:
        """Say something that is no figure, such as a peer that is absent."""
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def figure(
        self,
        name: str,
        raw: Sequence[float],
        *,
        unit: str,
        given: str,
        value: float | None = None,
        statistic: str = "median",
        raw_unit: str = "s",
        warmup: str = "none",
        peer: str | None = None,
        peer_value: float | None = None,
        peer_raw: Sequence[float] = (),
        at_least: float | None = None,
        at_most: float | None = None,
        ratio_at_least: float | None = None,
        ratio_at_most: float | None = None,
        over_peer_at_most: float | None = None,
        steady_peer: bool = False,
    ) -> Figure:
        """Keep and print one figure.

        Args:
            name: What was measured.
            raw: Timings.
            unit: Unit of the value.
            given: The input.
            value: The number; the median of the timings when left out.
            statistic: How the number comes from the timings.
            raw_unit: Unit of the timings.
            warmup: What ran before and was not counted.
            peer: What it is compared with.
            peer_value: The peer's number in the same unit.
            peer_raw: The peer's timings.
            at_least: Target for the value.
            at_most: Target for the value.
            ratio_at_least: Target for value over peer.
            ratio_at_most: Target for value over peer.
            over_peer_at_most: Target for value minus peer.
            steady_peer: The peer's timings are runs of equal work; judge nothing when they swing.
        """
        number = statistics.median(raw) if value is None else value
        ratio = number / peer_value if peer_value else None
        checks: list[tuple[bool, str]] = []
        if at_least is not None:
            checks.append((number >= at_least, f">= {_short(at_least)} {unit}"))
        if at_most is not None:
            checks.append((number <= at_most, f"<= {_short(at_most)} {unit}"))
        if ratio is not None and ratio_at_least is not None:
            checks.append((ratio >= ratio_at_least, f">= {ratio_at_least:g}x"))
        if ratio is not None and ratio_at_most is not None:
            checks.append((ratio <= ratio_at_most, f"<= {ratio_at_most:g}x"))
        if over_peer_at_most is not None and peer_value is not None:
            checks.append((number <= peer_value + over_peer_at_most, f"<= peer + {over_peer_at_most:g} {unit}"))
        ordered = sorted(raw)
        quartiles = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else [ordered[0]] * 3
        swing = max(peer_raw) / min(peer_raw) if steady_peer and peer_raw else None
        judged = bool(checks) and not self.quick and (swing is None or swing <= SWING_MAX)
        found = Figure(
            name, number, unit, given, statistic, warmup, len(raw), statistics.median(ordered),
            quartiles[2] - quartiles[0], _sample(raw), raw_unit, peer, peer_value, _sample(peer_raw), ratio,
            " and ".join(text for _, text in checks), all(ok for ok, _ in checks) if judged else None,
            swing,
        )  # fmt: skip
        self.figures.append(found)
        print(line_of(found), flush=True)
        return found


def line_of(figure: Figure) -> str:
    """One figure as a line of the report."""
    text = f"  {figure.name}: {_short(figure.value)} {figure.unit}"
    if figure.peer is not None and figure.peer_value is not None:
        text += f" | {figure.peer}: {_short(figure.peer_value)} {figure.unit}"
        if figure.ratio is not None:
            text += f" | ratio {figure.ratio:.2f}x"
    if figure.target:
        verdict = {True: "reached", False: "NOT reached", None: "not judged at reduced size"}[figure.reached]
        if figure.reached is None and figure.peer_swing is not None and figure.peer_swing > SWING_MAX:
            verdict = f"UNSETTLED, the peer's own runs differ {figure.peer_swing:.1f}x"
        text += f" | target {figure.target}: {verdict}"
    return (
        f"{text}\n      {figure.given}; {figure.statistic} of {figure.repetitions}, raw median "
        f"{_short(figure.median)} {figure.raw_unit}, IQR {_short(figure.spread)}; warm-up: {figure.warmup}"
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def each(work: Callable[[int], object], count: int, warmup: int = 0) -> list[float]:
    """Seconds of each of many calls; the garbage collector runs as it would."""
    for number in range(warmup):
        work(number)
    clock = time.perf_counter
    found = []
    for number in range(warmup, warmup + count):
        start = clock()
        work(number)
        found.append(clock() - start)
    return found


def per_call(work: Callable[[], object], calls: int, rounds: int = 7) -> list[float]:
    """Seconds per call of something too short to time alone, one number per round."""
    found = []
    for number in range(rounds + 1):
        gc.collect()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        spent = time.perf_counter() - start
        if number:
            found.append(spent / calls)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all lies at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def child(*words: str, timeout_s: float = 900.0) -> dict[str, Any]:
    """Run ``benchmarks.child`` in a process of its own and return what it measured there."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", *words],
        check=True,
        capture_output=True,
        timeout=timeout_s,
        env=environment(),
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def environment() -> dict[str, str]:
    """Our environment, with bytecode caching on as installed programs have it; else every start compiles anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def fdatasync_seconds(directory: Path, count: int, size: int = 4096) -> list[float]:
    """Seconds of appending one page and syncing it, on the file system measured."""
    path = directory / "fdatasync.probe"
    page = os.urandom(size)
    with open(path, "wb", buffering=0) as out:

        def once(_: int) -> None:
            out.write(page)
            os.fdatasync(out.fileno())

        found = each(once, count, 5)
    path.unlink()
    return found


def machine(directory: Path) -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = _first("/proc/cpuinfo", "model name") or platform.processor()
    memory = _first("/proc/meminfo", "MemTotal") or "?"
    kind, device = _mount(directory)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "filesystem": f"{kind} on {device}",
        "load": list(os.getloadavg()),
        "versions": {name: importlib.metadata.version(name) for name in ("ipfs-kit-py", *PACKAGES)},
    }


def report(bench: Bench, facts: dict[str, Any], started: float) -> dict[str, Any]:
    """Everything as JSON types."""
    return {
        "format": 1,
        "quick": bench.quick,
        "started": started,
        "machine": facts,
        "load_after": list(os.getloadavg()),
        "figures": [asdict(figure) for figure in bench.figures],
        "notes": bench.notes,
    }


def _sample(values: Sequence[float]) -> list[float]:
    step = max(1, -(-len(values) // RAW_KEPT))
    return list(values)[::step]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _first(path: str, key: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)
    except OSError:
        return None


def _mount(directory: Path) -> tuple[str, str]:
    best = ("", "?", "?")
    with open("/proc/mounts", encoding="utf-8") as lines:
        for line in lines:
            device, point, kind, *_ = line.split()
            if Path(point) in (directory.resolve(), *directory.resolve().parents) and len(point) >= len(best[0]):
                best = (point, kind, device)
    return best[1], best[2]
