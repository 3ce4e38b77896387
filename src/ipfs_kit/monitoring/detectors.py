"""Detectors of attacks in the audit trail: rate, novelty and sequence, each judged against what was usual before.

A detector learns a baseline from earlier rows and judges later ones by a threshold that it derives from the baseline.
Every hit names both, the value found and the ops behind it, so that a person can check it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from ipfs_kit.monitoring.audit_rows import AuditRow

WINDOW_S: Final = 300.0
"""Rows of five minutes count together."""
SESSION_S: Final = 900.0
"""A longer pause begins a new sequence."""
OPS_MAX: Final = 100
HITS_MAX: Final = 10_000
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hit:
    """Something unusual.

    Args:
        detector: ``rate``, ``novelty`` or ``sequence``.
        subject: Whom or what it is about.
        what: What was unusual.
        baseline: What was usual.
        threshold: From which value on it is unusual.
        value: What was found.
        time_ns: When it was reached, nanoseconds since 1970.
        ops: The ops behind it, oldest first, at most a hundred.
    """

    detector: str
    subject: str
    what: str
    baseline: float
    threshold: float
    value: float
    time_ns: int
    ops: list[str]


# -- rate ----------------------------------------------------------------------------------------------------------

_Series = tuple[str, int, Callable[[AuditRow], str | None]]
_SERIES: Final[tuple[_Series, ...]] = (
    ("failed sign-ins of a user", 5, lambda row: row.user_id if row.failed_login else None),
    ("failed sign-ins from an address", 5, lambda row: row.ip_address if row.failed_login else None),
    ("refusals to a caller", 4, lambda row: row.who if row.refused else None),
    ("accesses to data by a user", 30, lambda row: row.user_id if row.event_type == "data" else None),
)
"""What is counted, the least count that is judged, and about whom."""


def rate(before: Sequence[AuditRow], rows: Sequence[AuditRow], window_s: float = WINDOW_S) -> list[Hit]:
    """More within a window than is usual for this subject, or for all when it is new.

    The baseline is the mean over the subject's busy windows; the threshold is the mean and six standard deviations, one
    and a half times its busiest window, and the least count of the series, whichever is largest. A subject with fewer
    than five busy windows is judged by those of everybody.
    """
    hits: list[Hit] = []
    for what, least, about in _SERIES:
        usual = _windows(before, about, window_s)
        everybody = [count for counts in usual.values() for count in counts]
        for subject, of in _grouped(rows, about).items():
            counts = usual.get(subject, [])
            mean, threshold = _limit(counts if len(counts) >= 5 else everybody, least)
            hits += _crossings(what, subject, of, window_s, mean, threshold)
    return hits


def _windows(
    rows: Iterable[AuditRow], about: Callable[[AuditRow], str | None], window_s: float
) -> dict[str, list[int]]:
    """The most within a window of each busy time: windows slide, or a steady job would seem busier where it is judged."""
    found: dict[str, list[int]] = {}
    for subject, of in _grouped(rows, about).items():
        peaks: dict[int, int] = {}
        first = 0
        for at, row in enumerate(of):
            while of[first].time_ns <= row.time_ns - int(window_s * _NS):
                first += 1
            window = row.time_ns // int(window_s * _NS)
            peaks[window] = max(peaks.get(window, 0), at - first + 1)
        found[subject] = list(peaks.values())
    return found


def _limit(counts: Sequence[int], least: int) -> tuple[float, float]:
    if not counts:
        return 0.0, float(least)
    mean = sum(counts) / len(counts)
    deviation = math.sqrt(sum((count - mean) ** 2 for count in counts) / len(counts))
    return mean, max(float(least), mean + 6 * deviation, 1.5 * max(counts))


def _crossings(
    what: str, subject: str, rows: list[AuditRow], window_s: float, mean: float, threshold: float
) -> list[Hit]:
    """One hit for each time the count rises over the threshold, with all that came until it fell."""
    first, hits, begun, peak = 0, list[Hit](), -1, 0
    for at, row in enumerate(rows):
        while rows[first].time_ns <= row.time_ns - int(window_s * _NS):
            first += 1
        count = at - first + 1
        if begun >= 0 and count < threshold:
            hits.append(_rate_hit(what, subject, rows[begun:at], mean, threshold, peak))
            begun = -1
        if count >= threshold:
            begun, peak = (first, count) if begun < 0 else (begun, max(peak, count))
    if begun >= 0:
        hits.append(_rate_hit(what, subject, rows[begun:], mean, threshold, peak))
    return hits


def _rate_hit(what: str, subject: str, rows: list[AuditRow], mean: float, threshold: float, peak: int) -> Hit:
    ops = [row.op for row in rows[:OPS_MAX]]
    return Hit("rate", subject, what, round(mean, 3), round(threshold, 3), float(peak), rows[-1].time_ns, ops)


# -- novelty -------------------------------------------------------------------------------------------------------

KNOWN_MIN: Final = 20
"""Rows after which a person's habits are known."""
NOVELTY_MAX: Final = 0.02
"""A person for whom more than this share of rows is new is not judged: being new says nothing."""
_TRAITS: Final[Mapping[str, Callable[[AuditRow], str | None]]] = MappingProxyType(
    {
        "an address": lambda row: row.ip_address if row.signed_in or row.event_type != "authentication" else None,
        "a kind of access": lambda row: (
            f"{row.event_type} {row.action} {row.resource_type or ''}".strip() if not row.failed_login else None
        ),
    }
)


def novelty(before: Sequence[AuditRow], rows: Sequence[AuditRow]) -> list[Hit]:
    """A person does something for the first time, who hardly ever does.

    The baseline is the share of the person's rows that showed a value seen once only (Good and Turing's estimate that
    the next one is new); the threshold is the share up to which a new value is told. The value is the rows with it.
    """
    hits: list[Hit] = []
    earlier = _grouped(before, lambda row: row.user_id)
    for user, of in _grouped(rows, lambda row: row.user_id).items():
        for trait, take in _TRAITS.items():
            seen = Counter(value for row in earlier.get(user, []) if (value := take(row)) is not None)
            total = sum(seen.values())
            chance = sum(1 for count in seen.values() if count == 1) / total if total else 1.0
            if total < KNOWN_MIN or chance > NOVELTY_MAX:
                continue
            new: dict[str, list[AuditRow]] = {}
            for row in of:
                value = take(row)
                if value is not None and value not in seen:
                    new.setdefault(value, []).append(row)
            hits += [
                Hit(
                    "novelty", user, f"{trait} never seen: {value}", round(chance, 6), NOVELTY_MAX, float(len(found)),
                    found[0].time_ns, [row.op for row in found[:OPS_MAX]],
                )
                for value, found in new.items()
            ]  # fmt: skip
    return hits


# -- sequence ------------------------------------------------------------------------------------------------------

FAILURES_MIN: Final = 4
CHAIN: Final = 4
"""Steps that are judged together."""
_SURPRISE_MIN: Final = 5.0
"""Bits a step, below which no order is told as unusual."""


def sequence(before: Sequence[AuditRow], rows: Sequence[AuditRow], session_s: float = SESSION_S) -> list[Hit]:
    """Things happen in an order that is not usual: a sign-in after many failures, or steps that do not follow each other.

    The baseline of the first is the longest run of failures before a success; its threshold is one more, and four at
    least. That of the second is the mean surprise in bits of four steps, by how often one follows the other; its
    threshold lies a tenth above all that was seen.
    """
    usual = [float(len(run)) for _, run in _runs(before, session_s)]
    longest = max(usual, default=0.0)
    threshold = max(float(FAILURES_MIN), longest + 1)
    hits = [
        Hit(
            "sequence", user, "signed in after failures", longest, threshold, float(len(run)),
            run[-1].time_ns, [row.op for row in run[-OPS_MAX:]],
        )
        for user, run in _runs(rows, session_s)
        if len(run) >= threshold
    ]  # fmt: skip
    return hits + _orders(before, rows, session_s)


def _runs(rows: Iterable[AuditRow], session_s: float) -> list[tuple[str, list[AuditRow]]]:
    """Failures of each user that a success ended: all of them, the success not counted."""
    open_runs: dict[str, list[AuditRow]] = {}
    found = []
    for row in rows:
        user = row.user_id
        if user is None:
            continue
        run = open_runs.get(user, [])
        if run and row.time_ns - run[-1].time_ns > session_s * _NS:
            run = []
        if row.failed_login:
            open_runs[user] = [*run[-1_000:], row]
        elif row.signed_in:
            if run:
                found.append((user, run))
            open_runs.pop(user, None)
    return found


def _orders(before: Sequence[AuditRow], rows: Sequence[AuditRow], session_s: float) -> list[Hit]:
    model = _Steps(before, session_s)
    scores = [score for chain in _chains(before, session_s) for score in model.scores(chain)]
    if len(scores) < KNOWN_MIN:
        return []
    baseline = sum(scores) / len(scores)
    threshold = max(_SURPRISE_MIN, 1.1 * max(scores))
    hits: list[Hit] = []
    for chain in _chains(rows, session_s):
        found = model.scores(chain)
        over = [at for at, score in enumerate(found) if score >= threshold]
        if over:
            part = chain[over[0] : over[-1] + CHAIN + 1]
            what = "an order never usual: " + ", ".join(_step(row) for row in part[: CHAIN + 1])
            ops = [row.op for row in part[:OPS_MAX]]
            value = round(max(found[at] for at in over), 3)
            hits.append(
                Hit(
                    "sequence", part[0].who, what, round(baseline, 3), round(threshold, 3), value, part[-1].time_ns, ops
                )
            )
    return hits


class _Steps:
    """How likely one step follows another, counted over sessions, one count given to every pair."""

    def __init__(self, rows: Sequence[AuditRow], session_s: float) -> None:
        self._after: dict[str, Counter[str]] = defaultdict(Counter)
        self._steps = len({_step(row) for row in rows}) + 1
        for chain in _chains(rows, session_s):
            for first, second in pairwise(chain):
                self._after[_step(first)][_step(second)] += 1

    def scores(self, chain: Sequence[AuditRow]) -> list[float]:
        """Mean surprise of each four steps on end, in bits a step."""
        bits = []
        for first, second in pairwise(chain):
            after = self._after.get(_step(first), Counter())
            bits.append(-math.log2((after[_step(second)] + 1) / (after.total() + self._steps)))
        return [sum(bits[at : at + CHAIN]) / CHAIN for at in range(len(bits) - CHAIN + 1)]


def _step(row: AuditRow) -> str:
    return f"{row.event_type} {row.action} {row.status or ''}".strip()


def _chains(rows: Iterable[AuditRow], session_s: float) -> list[list[AuditRow]]:
    """Rows of each person without a long pause between."""
    chains: list[list[AuditRow]] = []
    for of in _grouped(rows, lambda row: row.user_id).values():
        chain = [of[0]]
        for row in of[1:]:
            if row.time_ns - chain[-1].time_ns > session_s * _NS:
                chains.append(chain)
                chain = []
            chain.append(row)
        chains.append(chain)
    return chains


def _grouped(rows: Iterable[AuditRow], about: Callable[[AuditRow], str | None]) -> dict[str, list[AuditRow]]:
    found: dict[str, list[AuditRow]] = {}
    for row in rows:
        if (subject := about(row)) is not None:
            found.setdefault(subject, []).append(row)
    return found


DETECTORS: Final[Mapping[str, Callable[[Sequence[AuditRow], Sequence[AuditRow]], list[Hit]]]] = MappingProxyType(
    {"rate": rate, "novelty": novelty, "sequence": sequence}
)


def detect(names: Iterable[str], before: Sequence[AuditRow], rows: Sequence[AuditRow]) -> list[Hit]:
    """What some detectors find, oldest first.

    Args:
        names: Which detectors.
        before: Rows that show what is usual, in the order of time.
        rows: Rows to judge, in the order of time.
    """
    hits = [hit for name in names for hit in DETECTORS[name](before, rows)]
    return sorted(hits, key=lambda hit: (hit.time_ns, hit.detector, hit.subject))[:HITS_MAX]
