"""Settings of streams: batches, limits and compression, changed for one store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.ledger import Outcome
from ipfs_kit.ledger.streams import settings
from ipfs_kit.ledger.streams.registry import stream_named
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The settings of a stream that are in force.

    Args:
        stream: The stream.
        batch_rows: Records that make a batch.
        batch_age_s: Age in seconds at which waiting records are batched by a running process.
        keep_s: Seconds after which sealed records may expire; None keeps them.
        keep_bytes: Bytes of sealed records beyond which the oldest may expire; None sets no limit.
        keep_ops: Sealed records that stay when the oldest expire; None sets no limit.
        zstd_level: Compression of records sealed from now on.
        sample_reads: Of so many reads one is recorded, the others are counted; None records all.
        before: The settings before this call.
    """

    stream: str
    batch_rows: int
    batch_age_s: float
    keep_s: float | None
    keep_bytes: int | None
    keep_ops: int | None
    zstd_level: int
    sample_reads: int | None
    before: dict[str, Any]


@operation(
    "stream.configure",
    Mode.WRITE,
    "stream:admin",
    idempotent=True,
    irreversible="configure again with the settings before, which the record names",
    places=Everywhere("sets how records of all callers are kept"),
)
def stream_configure(
    ctx: Context,
    stream: Annotated[str, Arg("the stream", positional=True)],
    batch_rows: Annotated[int | None, Arg("records that make a batch")] = None,
    batch_age_s: Annotated[float | None, Arg("seconds after which waiting records are batched")] = None,
    keep_s: Annotated[float | None, Arg("seconds after which sealed records may expire; 0 keeps them")] = None,
    keep_bytes: Annotated[
        int | None, Arg("bytes of sealed records beyond which the oldest may expire; 0: no limit")
    ] = None,
    keep_ops: Annotated[int | None, Arg("sealed records that stay when the oldest expire; 0: no limit")] = None,
    zstd_level: Annotated[int | None, Arg("compression of sealed records, 1 to 22")] = None,
    sample_reads: Annotated[
        int | None, Arg("record one of so many successful reads of a toolset and count the others; 0 records all")
    ] = None,
) -> StreamSettings:
    """Change settings of a stream, what is left out stays; return all of them as they are now.

    Limits hold for records sealed from now on: a stream gets files of its own once it has a limit. What they let go is
    removed by `ledger expire`, which a running process calls every hour. Writes, failures and denials are recorded whatever
    is sampled.

    Raises:
        InvalidInput: A value is out of range, or the stream must be kept.
    """
    name = stream_named(stream).name
    given = {
        "batch_rows": batch_rows, "batch_age_s": batch_age_s, "keep_s": keep_s, "keep_bytes": keep_bytes,
        "keep_ops": keep_ops, "zstd_level": zstd_level, "sample_reads": sample_reads,
    }  # fmt: skip
    changes = settings.checked(name, given)

    def effect(tx: Any) -> Outcome:
        before, after = settings.merged(tx, name, changes)
        made = StreamSettings(name, **after, before=before)
        return Outcome(made, {"stream": name, "before": before, "after": after})

    made: StreamSettings = ctx.commit(lambda: effect)
    return made
