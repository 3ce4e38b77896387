"""Publications across layers: the records that explain the rows of imports, and whether there is anything to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.ledger import Where
from ipfs_kit.ledger.published.layout import Scope
from ipfs_kit.ledger.record import MAIN

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

CREATE: Final = "ledger.publication_create"
DROP: Final = "ledger.publication_drop"
_IMPORTS: Final = frozenset({"ledger.publication_import", "ledger.publication_load", DROP})


def recorded_imports(engine: Engine) -> dict[str, dict[str, Any] | None]:
    """What the main log says of imported publications: by id the effect of the last import; None where it was erased.

    Args:
        engine: The open store.
    """
    expected: dict[str, dict[str, Any] | None] = {}
    for _, record in engine.ledger.select(MAIN, Where(operation=_IMPORTS, status=frozenset({"ok"}))):
        opened = engine.ledger.open_record(record)
        if opened.erased:
            # Nobody can tell which publication it was: none is judged by what was recorded before.
            expected = dict.fromkeys(expected)
            continue
        effect = opened.effect
        if not isinstance(effect, dict):
            continue
        if "dropped" in effect:
            expected.pop(effect["dropped"], None)
        elif "imported" in effect:
            expected[effect["imported"]] = effect
    return expected


def has_news(engine: Engine, scope: Scope, log: str) -> bool:
    """Whether a log holds unsealed records of a scope, other than those of publishing itself.

    Args:
        engine: The open store.
        scope: What is published.
        log: ``main`` or ``bulk``.
    """
    where = Where() if scope.stream is None else Where(stream=frozenset({scope.stream}))
    start = engine.ledger.state(log).sealed_upto
    return any(record.operation != CREATE for _, record in engine.ledger.select(log, where, start))
