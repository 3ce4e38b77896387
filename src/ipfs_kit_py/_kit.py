"""A kit whose calls belong to one stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipfs_kit import Kit, Result
from ipfs_kit.operations.dispatcher import MustWait
from ipfs_kit_py._dataset import StreamDataset

APPEND = "stream.append"
NOTE = "stream.note"
"""The operation that records a call which no operation serves."""


class StreamKit(Kit):
    """A kit whose calls, by whatever surface, are recorded under one stream and count towards its next batch.

    A stream of events holds the events appended and nothing else; a stream of calls holds every call.
    """

    family: str | None = None
    holds_calls = False
    batches: StreamDataset | None = None

    def bind(self, stream: str) -> StreamKit:
        """Let calls be recorded under a stream from now on."""
        from ipfs_kit.ledger.streams.registry import stream_named

        self.family, self.holds_calls = stream, stream_named(stream).event is None
        return self

    def call_with(self, name: str, arguments: Mapping[str, Any], **options: Any) -> Result:
        """Run one operation under the stream and count it, whether it succeeds or not."""
        own = self.holds_calls and (name == NOTE or not name.startswith("stream."))
        if own:
            options.setdefault("stream", self.family)
        try:
            result = super().call_with(name, arguments, **options)
        except MustWait:
            raise  # nothing was recorded
        except Exception:
            self._count(1 if own else 0, options)
            raise
        appended = name == APPEND and arguments.get("stream") == self.family
        self._count(1 if own else len(arguments.get("events", ())) if appended else 0, options)
        return result

    def _count(self, records: int, options: Mapping[str, Any]) -> None:
        if self.batches is not None and records:
            self.batches.count(records, may_wait=options.get("may_wait", True))
