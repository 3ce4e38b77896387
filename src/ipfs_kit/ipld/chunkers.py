"""Cut a byte stream into chunks: fixed sizes, or content-defined boundaries (FastCDC 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput

if TYPE_CHECKING:
    from pyfastcdc import FastCDC


class Readable(Protocol):
    """Anything with a blocking ``read(size)`` that returns ``b""`` only at the end."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most ``size`` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class CdcParameters:
    """Parameters of the content-defined chunker; changing one changes the CID of every large file.

    The cut point depends only on the bytes from the chunk's start up to ``max_bytes``, never on how the stream was
    read. The gear table is the one of the FastCDC reference code (seed 0), as in the fastcdc-rs crate's v2020 module.
    """

    min_bytes: int
    avg_bytes: int
    """Expected size before the minimum is skipped: real chunks average about ``min_bytes + avg_bytes``."""
    max_bytes: int
    normalization: int
    """Normalised chunking level of the FastCDC paper, 0 to 3."""


CDC_V1: Final = CdcParameters(min_bytes=128 * 1024, avg_bytes=512 * 1024, max_bytes=2 * 1024 * 1024, normalization=2)
"""Parameters of profile ``unixfs-v1-cdc``: the maximum equals the largest block IPFS transports move (2 MiB)."""

CDC_64K: Final = CdcParameters(min_bytes=16 * 1024, avg_bytes=64 * 1024, max_bytes=256 * 1024, normalization=2)
"""Parameters of profile ``unixfs-v1-cdc-64k``: for files of which small parts change, such as tables."""

CDC_BY_AVERAGE: Final = {parameters.avg_bytes: parameters for parameters in (CDC_V1, CDC_64K)}
"""The parameters that profiles name by their average."""

_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Bytes handed to the cutter at once: several largest chunks, so that little is scanned twice."""


def read_full(stream: Readable, size: int) -> bytes:
    """Return exactly ``size`` bytes, or fewer at the end of the stream only.

    Raises:
        InvalidInput: The stream is non-blocking or does not return bytes.
    """
    data = stream.read(size)
    if data is None or not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidInput("the stream gave no bytes: open it in blocking binary mode")
    if len(data) == size or not data:
        return data if type(data) is bytes else bytes(data)
    parts = [data]
    missing = size - len(data)
    while missing > 0:
        part = stream.read(missing)
        if part is None:
            raise InvalidInput("the stream gave no bytes: open it in blocking binary mode")
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def fixed(stream: Readable, size: int) -> Iterator[bytes]:
    """Yield chunks of ``size`` bytes, the last one shorter; nothing for an empty stream."""
    while True:
        chunk = read_full(stream, size)
        if chunk:
            yield chunk
        if len(chunk) < size:
            return


def content_defined(stream: Readable, parameters: CdcParameters = CDC_V1) -> Iterator[bytes]:
    """Yield content-defined chunks: an insertion moves only the boundaries near it."""
    cutter = _cutter(parameters)
    rest = b""
    ended = False
    while not ended:
        fresh = read_full(stream, _WINDOW_BYTES)
        ended = len(fresh) < _WINDOW_BYTES
        window = rest + fresh if rest else fresh
        view = memoryview(window)
        # A cut is final only when the cutter saw a whole largest chunk ahead of it, or the end of the stream.
        final = len(window) if ended else len(window) - parameters.max_bytes
        start = 0
        for cut in cutter.cut_buf(view) if window else ():
            if cut.offset > final:
                break
            start = cut.offset + cut.length
            yield bytes(view[cut.offset : start])
        rest = window[start:]


@lru_cache(maxsize=8)
def _check(parameters: CdcParameters) -> None:
    p = parameters
    if not 64 <= p.min_bytes < p.avg_bytes < p.max_bytes or not 0 <= p.normalization <= 3:
        raise InvalidInput(f"chunk sizes must rise from minimum to maximum and normalization be 0 to 3: {p}")


def _cutter(parameters: CdcParameters) -> FastCDC:
    # Imported at use: fixed-size chunking needs no extension module. A cutter is cheap and not thread-safe.
    from pyfastcdc import FastCDC

    _check(parameters)
    return FastCDC(
        parameters.avg_bytes,
        min_size=parameters.min_bytes,
        max_size=parameters.max_bytes,
        normalized_chunking=parameters.normalization,  # type: ignore[arg-type]  # checked to be 0 to 3
        seed=0,
    )
