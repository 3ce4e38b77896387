"""What lies where in a dataset's tree, and its manifest (``docs/format/datasets.md``).

::

    README.md                      the card, for people
    dataset.json                   the manifest
    schema.arrow                   the schema, an Arrow IPC message
    data/SPLIT/00000000.parquet    the rows, parts in order of their numbers
    index/SPLIT/00000000.json      rows, bytes and column figures of a part
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final, NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.paths import Path
from ipfs_kit.errors import FormatError, InvalidInput

FORMAT: Final = 1
MANIFEST: Final[Path] = (b"dataset.json",)
CARD: Final[Path] = (b"README.md",)
SCHEMA: Final[Path] = (b"schema.arrow",)
DATA: Final = b"data"
INDEX: Final = b"index"
MANIFEST_BYTES_MAX: Final = 1 << 20
SPLITS_MAX: Final = 64
COLUMNS_MAX: Final = 2_000
COMPRESSIONS: Final = ("zstd", "snappy", "gzip", "lz4", "brotli", "none")
_SPLIT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Tail(NamedTuple):
    """A part that may still be joined with those beside it."""

    number: int
    level: int
    """How often its rows were joined before."""
    rows: int


@dataclass(frozen=True, slots=True)
class Split:
    """One split as the manifest has it.

    Args:
        rows: Rows in all parts.
        size: Bytes of all parts.
        parts: How many there are.
        next: Number of the next part.
        tail: The last parts, as long as they may be joined.
    """

    rows: int = 0
    size: int = 0
    parts: int = 0
    next: int = 0
    tail: tuple[Tail, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """How parts are written.

    Args:
        compression: One of ``COMPRESSIONS``.
        level: Of the compression; None takes its own default.
        bloom: Columns with a Bloom filter in each part.
    """

    compression: str = "zstd"
    level: int | None = None
    bloom: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise InvalidInput(f"compression is one of {', '.join(COMPRESSIONS)}, not {self.compression!a}")
        if self.level is not None and (self.compression not in ("zstd", "gzip", "brotli") or not 1 <= self.level <= 22):
            raise InvalidInput("a level of 1 to 22 belongs to zstd, gzip or brotli")
        if len(self.bloom) > 64:
            raise InvalidInput("at most 64 columns have a Bloom filter")

    @staticmethod
    def of(found: Mapping[str, Any]) -> Settings:
        """The settings of a mapping, such as a bucket's metadata keep."""
        level = found.get("level")
        try:
            return Settings(
                str(found.get("compression", "zstd")),
                int(level) if level is not None else None,
                tuple(str(name) for name in found.get("bloom", ())),
            )
        except (TypeError, ValueError) as exc:
            raise InvalidInput(f"settings of a dataset do not parse: {exc}") from exc

    def told(self) -> dict[str, Any]:
        """As a mapping."""
        return {"compression": self.compression, "level": self.level, "bloom": list(self.bloom)}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a dataset holds.

    Args:
        splits: By name.
        settings: How parts are written.
    """

    splits: Mapping[str, Split] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(split.size for split in self.splits.values())

    def with_split(self, name: str, split: Split) -> Manifest:
        """The same with one split changed."""
        if name not in self.splits and len(self.splits) >= SPLITS_MAX:
            raise InvalidInput(f"a dataset has at most {SPLITS_MAX} splits")
        return replace(self, splits={**self.splits, name: split})


def encode(manifest: Manifest) -> bytes:
    """The manifest as bytes, the same for the same manifest."""
    splits = {
        name: {
            "rows": split.rows,
            "bytes": split.size,
            "parts": split.parts,
            "next": split.next,
            "tail": [list(each) for each in split.tail],
        }
        for name, split in manifest.splits.items()
    }
    whole = {"format": FORMAT, "splits": splits, "settings": manifest.settings.told()}
    return json.dumps(whole, sort_keys=True, indent=1).encode() + b"\n"


def decode(data: bytes) -> Manifest:
    """The manifest of bytes.

    Raises:
        FormatError: They are none, or of a newer build.
    """
    try:
        whole = json.loads(data)
        if whole["format"] != FORMAT:
            raise FormatError(f"dataset.json has format {whole['format']!a}: upgrade ipfs-kit-py")
        splits = {check_split(name): _split(found) for name, found in whole["splits"].items()}
        if len(splits) > SPLITS_MAX:
            raise ValueError(len(splits))
        return Manifest(splits, Settings.of(whole["settings"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise FormatError("dataset.json is not a dataset's manifest; restore it from an earlier version") from exc


def _split(found: Mapping[str, Any]) -> Split:
    tail = tuple(Tail(*(_count(value) for value in each)) for each in found["tail"])
    rows, size, parts, following = (_count(found[name]) for name in ("rows", "bytes", "parts", "next"))
    return Split(rows, size, parts, following, tail)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(value)
    return value


def check_split(name: str) -> str:
    """A name of a split.

    Raises:
        InvalidInput: It is none.
    """
    if not isinstance(name, str) or not _SPLIT.fullmatch(name):
        raise InvalidInput(f"a split is named with 1 to 64 letters, digits, _ and -, not {str(name)[:80]!a}")
    return name


def part_path(split: str, number: int) -> Path:
    """Where the rows of a part lie."""
    return DATA, split.encode(), f"{number:08d}.parquet".encode()


def figures_path(split: str, number: int) -> Path:
    """Where the figures of a part lie."""
    return INDEX, split.encode(), f"{number:08d}.json".encode()
