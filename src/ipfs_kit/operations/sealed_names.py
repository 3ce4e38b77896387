"""Names in sealed buckets: what a record says of them goes with the bucket's key (decisions 18 and 19)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.errors import KitError
from ipfs_kit.ledger import Draft
from ipfs_kit.ledger.record import DOMAINS, naming_key_id
from ipfs_kit.operations.places import OfOp

if TYPE_CHECKING:
    from ipfs_kit.operations.catalogue import Operation
    from ipfs_kit.operations.engine import Engine

_NAME: Final = re.compile(r"[^:@#/]{1,255}")
_NOW: Final = "SELECT kind, domain FROM buckets WHERE name=? AND dropped_op IS NULL"
_EVER: Final = "SELECT kind, domain FROM buckets WHERE name=? ORDER BY id DESC LIMIT 64"
_KNOWN_MAX: Final = 1_000


class SealedNames:
    """Finds the sealed buckets that calls name.

    Args:
        engine: The open store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.token = -1
        """Token of the committed state that the newest call saw: asking for one costs as much as the rest of ``note``."""
        self._known: dict[str, str | None] = {}

    def note(self, draft: Draft, operation: Operation, given: Mapping[str, Any]) -> None:
        """Have a call's record sealed under the keys of the sealed buckets it names, too.

        It looks at what was given rather than at what it means: a call that is refused was told the names as well.

        Args:
            draft: The record being prepared.
            operation: What is called.
            given: Its arguments, unchecked.
        """
        token = self._engine.state.changed()
        if token != self.token or len(self._known) >= _KNOWN_MAX:
            self.token, self._known = token, {}
        places = operation.places
        domains: dict[str, None] = {}
        if isinstance(places, tuple):
            for at in places:
                if isinstance(text := given.get(at.argument), str):
                    domains.update(dict.fromkeys(self._domains_of(text)))
        elif isinstance(places, OfOp):
            domains.update(dict.fromkeys(self._domains_of_op(given.get(places.argument))))
        if domains:
            draft.ext = draft.ext | {DOMAINS: sorted(domains)}

    def settle(self, draft: Draft) -> None:
        """Leave the names out of a record when the key of a bucket it names is gone; that it was called stays."""
        domains = draft.ext.get(DOMAINS)
        if not domains or all(self._alive(domain) for domain in domains):
            return
        draft.ext = {name: value for name, value in draft.ext.items() if name != DOMAINS}
        bucket = None if draft.target is None else _NAME.match(draft.target)
        draft.target = None if bucket is None else bucket.group()
        draft.args = draft.error_message = None

    def readable(self, draft: Draft) -> str | None:
        """The key that a kept result of the call is sealed under, as ``KeyRing.subject_key`` takes it."""
        return naming_key_id(draft.actor, draft.ext)

    def _alive(self, domain: str) -> bool:
        return self._engine.keys.domain_key_or_none(domain) is not None

    def _domains_of(self, text: str) -> list[str]:
        found = _NAME.match(text)
        if found is None:
            return []
        name = found.group()
        past = text[found.end() : found.end() + 1] == "@"
        current = self._current(name)
        if not past:
            return [] if current is None else [current]
        rows = self._engine.state.query(_EVER, (name,))
        older = [domain for kind, domain in rows if kind == BucketKind.SEALED.value and domain]
        return [domain for domain in older if domain == current or self._alive(domain)]

    def _current(self, name: str) -> str | None:
        """The domain of the newest bucket of a name; None when it is open or there never was one."""
        known, state = self._known, self._engine.state
        if name not in known:
            rows = state.query(_NOW, (name,)) or state.query(_EVER, (name,))[:1]
            known[name] = rows[0][1] if rows and rows[0][0] == BucketKind.SEALED.value else None
        return known[name]

    def _domains_of_op(self, op: Any) -> list[str]:
        try:
            log, index = self._engine.find_op(str(op))
            domains = self._engine.ledger.record_at(log, index).ext.get(DOMAINS)
        except KitError:
            return []  # the operation itself says what is wrong with it
        return [str(domain) for domain in domains] if isinstance(domains, list) else []
