"""Upkeep of a store across its layers: garbage collection, verification, repair."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ipfs_kit.blocks.check import CheckReport, repair, verify
from ipfs_kit.blocks.gc import Collector
from ipfs_kit.blocks.sealed import links_of
from ipfs_kit.errors import Cancelled, KitError
from ipfs_kit.ipld import CID
from ipfs_kit.operations.replay import replay
from ipfs_kit.operations.toolsets.ledger import LedgerReport
from ipfs_kit.operations.toolsets.store import Fault, GcInfo, RepairReport, VerifyReport

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

Report = Callable[[int, int | None, str, str], None]
"""``(done, total, unit, note)``; raises to cancel."""


class Upkeep:
    """What keeps one store healthy.

    Args:
        engine: The open store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def roots(self) -> Iterator[CID]:
        """Every CID that must stay, with all below it: pins, holds, refs, sessions, recent states."""
        now_ns = time.time_ns()
        yield from self._engine.pins.roots()
        yield from self._engine.holds.roots(now_ns)
        yield from self._engine.buckets.roots(now_ns)

    def collector(self) -> Collector:
        """The garbage collector of this store."""
        keys = self._engine.keys
        return Collector(
            self._engine.blocks,
            self._engine.state,
            self.roots,
            links_of=links_of(keys.domain_key),
            key_alive=lambda domain: keys.domain_key(domain) is not None,
        )

    def collect_garbage(self, *, dry_run: bool, progress: Callable[[int, int], None]) -> GcInfo:
        """Remove what nothing refers to, or say what would be removed.

        Args:
            dry_run: Remove nothing.
            progress: Told of blocks removed and to be removed.
        """
        if not dry_run:
            self._engine.buckets.checkpoint()
            self._engine.buckets.expire(time.time_ns())
        done = self.collector().collect(time.time_ns(), dry_run=dry_run, progress=progress)
        if not dry_run:
            self._engine.indexes.sweep()
            self._engine.observed.sweep()
            self._engine.histories.sweep()
            self._engine.folders.sweep()
            self._engine.metadata.tidy()
            self._engine.keep_reserve()
        return GcInfo(
            dry_run,
            done.condemned,
            done.condemned_bytes,
            done.removed,
            done.freed_bytes,
            done.awaiting_writers,
            done.problems,
        )

    def reference_to(self, cid: CID) -> str | None:
        """Why a block may not be removed by itself, or None."""
        if any(root == cid for root in self.roots()):
            return "a pin, hold, version or session names it"
        if self.collector().references(cid):
            return "another block links to it"
        return None

    def verify_ledger(self, against: str | None, progress: Callable[[int, int], None] | None) -> LedgerReport:
        """Check every byte of the ledger with the independent verifier.

        Args:
            against: Text of an older signed checkpoint.
            progress: Told of records done and in all.
        """
        report = self._engine.ledger.verify(() if against is None else (against,), progress=progress)
        findings = [*report.findings, *self._engine.ledger.witnesses.findings()]
        told = report.records

        def tick() -> None:
            if progress is not None:
                progress(told, told)  # lets a caller stop here

        findings += self._import_findings(tick, sound=not report.findings)
        return LedgerReport(not findings, report.records, findings)

    def _import_findings(self, tick: Callable[[], None], *, sound: bool) -> Iterator[str]:
        """Every fault of publications of other nodes, and of the rows that register them.

        Args:
            tick: Called now and then; raises to cancel.
            sound: The own log verifies, so that its records can be read and the rows compared with them.
        """
        from ipfs_kit.ledger.published import verifying
        from ipfs_kit.operations.publications import recorded_imports

        engine = self._engine
        yield from verifying.findings(engine.state, str(engine.path), tick)
        if sound:
            yield from verifying.row_faults(recorded_imports(engine), engine.state)

    def verify(self, progress: Report) -> VerifyReport:
        """Check packs, index, pins, buckets, keys and ledger.

        Args:
            progress: Receives reports.
        """
        engine = self._engine
        faults: list[Fault] = []
        blocks = CheckReport()
        with _told_as_fault("blocks and pins", faults):
            blocks = verify(
                engine.blocks, engine.pins, links_of=links_of(engine.keys.domain_key), progress=_told(progress, "bytes")
            )
        faults += [Fault(found.where, found.what, found.mend, str(found.fault)) for found in blocks.findings]
        with _told_as_fault("buckets", faults):
            faults += [Fault(found.subject, found.fault, found.remedy) for found in engine.buckets.verify()]
        faults += [Fault(found.path, found.fault, found.mend) for found in engine.keys.verify()]
        rows = replay(engine, time.time_ns(), _told(progress, "ops"))
        faults += [Fault(found.where, found.what, found.mend, str(found.fault)) for found in rows.mismatches]
        if rows.more:
            faults.append(Fault("state.db", f"{rows.more} more rows differ", "restore state.db from its backup"))
        ledger = self.verify_ledger(None, _told(progress, "records"))
        faults += [
            Fault("ledger", found, "restore ledger/ from a backup; see 'ledger verify'") for found in ledger.findings
        ]
        checked = {
            "blocks": blocks.blocks,
            "packs": blocks.packs,
            "buckets": engine.buckets.count(),
            "records": ledger.records,
            "rows": rows.rows,
            "rows_unknown": rows.unknown,
        }
        return VerifyReport(not faults, checked, faults)

    def repair(self, progress: Report) -> RepairReport:
        """Mend what can be mended and name the rest.

        Args:
            progress: Receives reports.
        """
        engine = self._engine
        found: CheckReport = verify(
            engine.blocks, engine.pins, links_of=links_of(engine.keys.domain_key), progress=_told(progress, "bytes")
        )
        mended = repair(engine.blocks, found.findings)
        return RepairReport(mended, self.verify(progress).faults)


@contextmanager
def _told_as_fault(where: str, faults: list[Fault]) -> Iterator[None]:
    """Rows so damaged that reading them fails must be named as well, and must not stop the other checks."""
    try:
        yield
    except Cancelled:
        raise
    except (KitError, ValueError, TypeError) as exc:
        what = f"a row of state.db cannot be read ({exc}); the rest of them was not checked"
        faults.append(Fault(where, what, "restore state.db from its backup", "row_unreadable"))


def _told(progress: Report, unit: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(done, total, unit, "")
