"""A synthetic audit trail with labelled attacks, the same for the same seed: what detectors are measured on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ipfs_kit.monitoring.audit_rows import AuditRow
from ipfs_kit.monitoring.detectors import DETECTORS, Hit, detect

DAY_S: Final = 86_400
LEARN_DAYS: Final = 14
JUDGE_DAYS: Final = 3
USERS: Final = 24
_EPOCH_S: Final = 1_700_000_000


@dataclass
class Attack:
    """One attack.

    Args:
        kind: What the attacker does.
        detector: The detector that is meant to find it.
        ops: Its ops.
    """

    kind: str
    detector: str
    ops: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class AttackLog:
    """A trail and what was done to it.

    Args:
        before: Rows of ordinary days, to learn from.
        rows: Rows to judge, of ordinary days and attacks.
        attacks: The attacks among them.
    """

    before: list[AuditRow]
    rows: list[AuditRow]
    attacks: list[Attack]


@dataclass(frozen=True)
class Score:
    """How a detector did.

    Args:
        hits: What it told.
        true_hits: Hits that name an op of some attack.
        attacks: Attacks that it is meant to find.
        found: Attacks among them that a hit of it names.
    """

    hits: int
    true_hits: int
    attacks: int
    found: int

    @property
    def precision(self) -> float:
        """Share of hits that are attacks; 1 without hits."""
        return self.true_hits / self.hits if self.hits else 1.0

    @property
    def recall(self) -> float:
        """Share of attacks that were found; 1 without attacks."""
        return self.found / self.attacks if self.attacks else 1.0


def attack_log(seed: int) -> AttackLog:
    """Ordinary days with typing errors, trips and batch jobs, and nine kinds of attack in the last three."""
    return _Writer(seed).log()


def score(log: AttackLog) -> dict[str, Score]:
    """Precision and recall of each detector, and of ``all`` together, for which any hit on an attack counts."""
    hits = detect(DETECTORS, log.before, log.rows)
    found = {name: _scored([hit for hit in hits if hit.detector == name], log, name) for name in DETECTORS}
    return {**found, "all": _scored(hits, log, None)}


def _scored(hits: list[Hit], log: AttackLog, detector: str | None) -> Score:
    meant = [attack for attack in log.attacks if detector in (None, attack.detector)]
    named = [set(hit.ops) for hit in hits]
    true_hits = sum(any(ops & attack.ops for attack in log.attacks) for ops in named)
    return Score(len(hits), true_hits, len(meant), sum(any(ops & each.ops for ops in named) for each in meant))


class _Writer:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._made: list[tuple[int, dict[str, Any], Attack | None]] = []
        self._home = {f"user{at:02}": f"10.0.{at}.{self._random.randint(2, 250)}" for at in range(USERS)}
        self._attacks: list[Attack] = []

    def log(self) -> AttackLog:
        for day in range(LEARN_DAYS + JUDGE_DAYS):
            for user in self._home:
                if self._random.random() < 0.85:
                    self._ordinary_day(user, day)
            self._batch_job(day)
        kinds: list[tuple[str, str, Callable[[Attack, int], None]]] = [
            ("brute force", "rate", self._brute_force), ("spraying", "rate", self._spraying),
            ("slow brute force", "rate", self._slow), ("probing", "rate", self._probing),
            ("bulk reading", "rate", self._bulk), ("stolen session", "novelty", self._stolen),
            ("new kind of access", "novelty", self._new_access), ("guessed password", "sequence", self._guessed),
            ("escalation", "sequence", self._escalation),
        ]  # fmt: skip
        for kind, detector, write in kinds:
            for _ in range(2):
                attack = Attack(kind, detector)
                self._attacks.append(attack)
                write(attack, int((LEARN_DAYS + self._random.random() * JUDGE_DAYS) * DAY_S))
        rows = []
        for at, (second, event, attack_of) in enumerate(sorted(self._made, key=lambda made: made[0])):
            row = _row(at, second, event)
            rows.append(row)
            if attack_of is not None:
                attack_of.ops.add(row.op)
        cut = (_EPOCH_S + LEARN_DAYS * DAY_S) * 1_000_000_000
        before = [row for row in rows if row.time_ns < cut]
        return AttackLog(before, rows[len(before) :], self._attacks)

    def _put(self, second: float, attack: Attack | None = None, **event: Any) -> None:
        self._made.append((int(second * 1000), event, attack))

    def _login(self, second: float, user: str, ip: str, status: str, attack: Attack | None = None) -> None:
        self._put(
            second, attack, event_type="authentication", action="login", user_id=user, ip_address=ip, status=status
        )

    def _read(
        self, second: float, user: str, ip: str, attack: Attack | None = None, action: str = "read", kind: str = "file"
    ) -> None:
        self._put(
            second, attack, event_type="data", action=action, user_id=user, ip_address=ip, status="success",
            resource_id=f"{kind}{self._random.randint(0, 400)}", resource_type=kind,
        )  # fmt: skip

    def _ordinary_day(self, user: str, day: int) -> None:
        rng = self._random
        # One day in a hundred is spent elsewhere: a novelty that is no attack.
        ip = f"172.16.{rng.randint(0, 255)}.{rng.randint(2, 250)}" if rng.random() < 0.01 else self._home[user]
        second = day * DAY_S + rng.gauss(9 * 3600, 3600)
        for _ in range(rng.randint(1, 3)):
            for _ in range(rng.choices((0, 1, 2, 3), (80, 14, 5, 1))[0]):
                self._login(second, user, ip, "failure")
                second += rng.uniform(4, 30)
            self._login(second, user, ip, "success")
            for _ in range(rng.randint(3, 15)):
                second += rng.expovariate(1 / 90)
                if rng.random() < 0.04:
                    self._put(
                        second, event_type="authorization", action="check_permission", user_id=user, ip_address=ip,
                        status="denied", resource_id=f"file{rng.randint(0, 400)}",
                    )  # fmt: skip
                else:
                    self._read(second, user, ip, action=rng.choices(("read", "write", "list"), (6, 3, 2))[0])
            if user in ("user00", "user01") and rng.random() < 0.3:
                for event_type, action in (("user", "modify"), ("role", "modify")):
                    second += rng.uniform(20, 90)
                    self._put(
                        second, event_type=event_type, action=action, user_id=user, ip_address=ip, status="success"
                    )
            second += rng.uniform(1800, 7200)

    def _batch_job(self, day: int) -> None:
        """A program that reads much every night: usual for it."""
        for at in range(self._random.randint(80, 110)):
            self._read(
                day * DAY_S + 2 * 3600 + at * self._random.uniform(1.5, 2.5), "backup", "10.1.1.1", kind="bucket"
            )

    def _anyone(self) -> str:
        return f"user{self._random.randint(2, USERS - 1):02}"

    def _outside(self) -> str:
        return f"203.0.113.{self._random.randint(1, 250)}"

    def _brute_force(self, attack: Attack, second: int) -> None:
        user, ip = self._anyone(), self._outside()
        for at in range(self._random.randint(20, 60)):
            self._login(second + at * 2.5, user, ip, "failure", attack)

    def _slow(self, attack: Attack, second: int) -> None:
        """Six to nine in five minutes: little more than people with a forgotten password."""
        user, ip = self._anyone(), self._outside()
        for at in range(self._random.randint(6, 9)):
            self._login(second + at * 32, user, ip, "failure", attack)

    def _spraying(self, attack: Attack, second: int) -> None:
        ip = self._outside()
        for at, user in enumerate(sorted(self._home)):
            self._login(second + at * 5, user, ip, "failure", attack)

    def _probing(self, attack: Attack, second: int) -> None:
        user = self._anyone()
        for at in range(self._random.randint(8, 20)):
            self._put(
                second + at * 4, attack, event_type="authorization", action="check_permission", user_id=user,
                ip_address=self._home[user], status="denied", resource_id=f"secret{at}",
            )  # fmt: skip

    def _bulk(self, attack: Attack, second: int) -> None:
        user = self._anyone()
        self._login(second, user, self._home[user], "success", attack)
        for at in range(self._random.randint(60, 150)):
            self._read(second + 10 + at * 1.5, user, self._home[user], attack)

    def _stolen(self, attack: Attack, second: int) -> None:
        user, ip = self._anyone(), self._outside()
        for at in range(self._random.randint(3, 8)):
            self._read(second + at * 40, user, ip, attack)

    def _new_access(self, attack: Attack, second: int) -> None:
        user = self._anyone()
        for at in range(self._random.randint(1, 4)):
            self._read(second + at * 30, user, self._home[user], attack, "export", "key_material")

    def _guessed(self, attack: Attack, second: int) -> None:
        user, ip = self._anyone(), self._outside()
        for at in range(self._random.randint(5, 12)):
            self._login(second + at * 45, user, ip, "failure", attack)
        self._login(second + 620, user, ip, "success", attack)

    def _escalation(self, attack: Attack, second: int) -> None:
        user = self._anyone()
        ip = self._home[user]
        self._login(second, user, ip, "success", attack)
        steps = (("role", "create"), ("role", "modify"), ("user", "modify"), ("api_key", "create"), ("data", "delete"))
        for at, (event_type, action) in enumerate(steps):
            self._put(
                second + 30 + at * 25, attack, event_type=event_type, action=action, user_id=user, ip_address=ip,
                status="success",
            )  # fmt: skip


def _row(at: int, millisecond: int, event: dict[str, Any]) -> AuditRow:
    time_ns = _EPOCH_S * 1_000_000_000 + millisecond * 1_000_000
    get = event.get
    return AuditRow(
        f"main:{at}", f"{at:032x}", "", time_ns, "event", get("event_type"), get("action"), "info", get("user_id"),
        get("ip_address"), get("resource_id"), get("resource_type"), get("status"), None, None,
    )  # fmt: skip
