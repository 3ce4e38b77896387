"""What ``/metrics`` shows: figures that follow the ledger, and sizes of the store and the machine."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import BULK, LOGS
from ipfs_kit.ledger.streams.registry import APPEND
from ipfs_kit.monitoring import health
from ipfs_kit.monitoring.prometheus import PREFIX, WINDOW_US, Figures, family
from ipfs_kit.operations.sampling import LEFT_OUT
from ipfs_kit.operations.telemetry_counts import call_reading, event_reading

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

FIRST_MAX = 10_000
"""Records of each log that the first scrape looks back on."""
READ_MAX = 50_000
"""Records of each log that one scrape reads; what is left is shown and read by the next."""
EVENTS = ("telemetry", "wal", "replication", "lifecycle")


class Scrape:
    """The figures of one open store; a scrape reads what was recorded since the one before.

    Args:
        engine: The store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guard = threading.Lock()
        self._figures = Figures()
        self._at: dict[str, int] = {}
        self._cpu: tuple[int, int] | None = None
        self._left_out: Counter[str] = Counter()
        self.read = 0

    def text(self) -> str:
        """The figures in the Prometheus text format 0.0.4."""
        now_us = self._engine.clock() // 1000
        with self._guard:
            if not self._engine.read_only:
                self._engine.ledger.flush()
            behind = {log: self._catch_up(log, now_us) for log in LOGS}
            lines = [*self._sizes(behind), *self._machine(), *self._figures.lines(now_us)]
        return "\n".join(lines) + "\n"

    def _catch_up(self, log: str, now_us: int) -> int:
        """Read what came; how many records are left for the next scrape."""
        ledger = self._engine.ledger
        end = ledger.size(log)
        first = log not in self._at
        start = max(0, end - FIRST_MAX) if first else min(self._at[log], end)
        stop = min(end, start + READ_MAX)
        # Calls before the window would only be counted as if they were new; the newest state of a check is not old.
        since_us = now_us - WINDOW_US if first else 0
        for _, record in ledger.select(log, Where(), start, stop):
            self.read += 1
            reading = call_reading(record)
            if reading is None:
                continue
            if record.operation == LEFT_OUT and (told := ledger.open_record(record).args):
                self._left_out[str(told["operation"])] += int(told["left_out"])
            if reading.time_us >= since_us:
                self._figures.call(reading, record.surface)
            if record.operation == APPEND and record.stream in EVENTS:
                event = event_reading(self._engine, record.stream, record)
                if event is not None:
                    self._figures.measured(event)
            elif record.operation == APPEND and record.stream == "health" and log == BULK:
                result = ledger.open_record(record).args
                if result:
                    self._figures.checked(result)
        self._at[log] = stop
        return end - stop

    def _sizes(self, behind: dict[str, int]) -> list[str]:
        info = self._engine.views.store()
        plain: list[tuple[str, str, Any]] = [
            ("blocks", "Blocks in the store", info.blocks),
            ("stored_bytes", "Bytes of all packs", info.size),
            ("buckets", "Buckets", info.buckets),
            ("ledger_main_records", "Records in the main log", info.main_records),
            ("ledger_bulk_records", "Records in the bulk log", info.bulk_records),
            ("telemetry_records_behind", "Records that the next scrape will count", sum(behind.values())),
        ]
        lines = [
            line for name, told, value in plain for line in family(f"{PREFIX}_{name}", told, "gauge", [((), value)])
        ]
        stored = [((("backend", "local"),), float(info.size))]
        left_out = [((("operation", name),), float(count)) for name, count in sorted(self._left_out.items())]
        if left_out:
            told = "Reads that sampling left out of the other figures"
            lines += family(f"{PREFIX}_reads_left_out_total", told, "counter", left_out)
        return [*lines, *family("backend_stored_bytes", "Bytes stored", "gauge", stored)]

    def _machine(self) -> list[str]:
        before, self._cpu = self._cpu, health.cpu_times(_stat())
        cpu = None
        if before and self._cpu and self._cpu[1] > before[1]:
            cpu = 100.0 * (1 - (self._cpu[0] - before[0]) / (self._cpu[1] - before[1]))
        asked = health.Check("usage", "")
        told = (
            ("cpu", "Percent of processor time in use since the scrape before", cpu),
            ("memory", "Percent of memory in use", health.memory(asked).details.get("percent")),
            (
                "disk",
                "Percent of the store's disk in use",
                health.disk(asked, self._engine.path).details.get("percent"),
            ),
        )
        return [
            line for name, text, value in told for line in family(f"system_{name}_usage", text, "gauge", [((), value)])
        ]


def _stat() -> str | None:
    try:
        with open("/proc/stat", encoding="ascii", errors="replace") as stream:
            return stream.readline()
    except OSError:
        return None
