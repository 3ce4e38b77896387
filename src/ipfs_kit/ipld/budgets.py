"""Every bound on outside input, in one table (each parser takes a ``Budgets`` and defaults to ``DEFAULT``)."""

from __future__ import annotations

from ipfs_kit._dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


@dataclass(frozen=True, slots=True)
class Budgets:
    """Upper bounds, inclusive, on what a parser or walk accepts before it raises ``BudgetExceeded``."""

    # Addresses.
    cid_bytes: int = 160
    """Bytes of one binary CID: identity digest plus four varints, with room."""
    cid_text_chars: int = 384
    """Characters of one textual CID: the largest binary CID in base16 plus its prefix, with room."""
    identity_bytes: int = 128
    """Bytes inlined in an identity CID: larger ones are data that no store counts, pins or deletes."""

    # Blocks.
    block_bytes: int = 4 * MIB
    """Bytes of one block: IPFS transports move at most 2 MiB; local writers get twice that, and no more."""

    # CAR.
    car_header_bytes: int = 32 * KIB
    """Bytes of the CARv1 header block; holds ``car_roots`` CIDs of the usual size."""
    car_section_bytes: int = 8 * MIB
    """Bytes of one section (CID and block); the reader holds one section at a time."""
    car_varint_bytes: int = 9
    """Bytes of a section-length varint, the limit of the unsigned-varint specification."""
    car_roots: int = 512
    """Roots in one header: a CAR naming more is a list, not a set of entry points."""
    car_index_bytes: int = 256 * MIB
    """Bytes of a CARv2 index that will be read: about 6 million sha2-256 entries."""
    car_blocks: int = 100_000_000
    """Sections in one CAR: 100 TB of 1 MiB blocks."""

    # Walks.
    dag_depth: int = 1024
    """Links from root to block: a 1024-link tree of 2^60 bytes needs 6; deep chains are commits, walked otherwise."""
    dag_nodes: int = 100_000_000
    """Distinct blocks one walk visits: bounds its visited set to about 15 GB in the worst case."""
    links_per_node: int = 65_536
    """Links in one block: a 4 MiB block cannot hold more than 65,536 useful ones."""
    logical_bytes: int = 64 * TIB
    """Content bytes a file or DAG may claim: small blocks that repeat can claim 2^60."""
    logical_ratio: int = 1_000_000
    """Logical to physical bytes: sparse files dedup well; beyond this it is a bomb."""

    # UnixFS.
    hamt_depth: int = 32
    """Levels of a HAMT: a 64-bit hash at fanout 256 gives 8, at fanout 4 gives 32."""
    hamt_fanout: int = 1024
    """Slots of a HAMT node: the limit Kubo enforces."""
    file_depth: int = 64
    """Levels of a file's tree: 2 links per node and 2^64 bytes."""
    symlink_bytes: int = 4096
    """Bytes of a symlink target: PATH_MAX on Linux."""
    name_bytes: int = 255
    """Bytes of one path component: NAME_MAX on Linux."""
    path_bytes: int = 4096
    """Bytes of one path: PATH_MAX on Linux."""
    path_components: int = 256
    """Components of one path."""

    # dag-cbor and dag-json.
    cbor_bytes: int = 4 * MIB
    """Bytes of a dag-cbor block."""
    cbor_depth: int = 128
    """Nesting of lists and maps: consumers recurse, and CPython's stack allows 1,000 frames."""
    cbor_items: int = 1_048_576
    """Items (scalars, lists, maps, keys) in one dag-cbor block: each costs up to 100 bytes of memory."""
    json_bytes: int = 16 * MIB
    """Bytes of one JSON document (dag-json spends 4 bytes on 3 of binary data, and more on escapes)."""
    json_depth: int = 128
    """Nesting of JSON arrays and objects, equal to ``cbor_depth`` so that every value has both forms."""
    json_items: int = 1_048_576
    """Items in one JSON document."""

    # Publications of ledgers (``docs/format/publication.md``).
    publication_manifest_bytes: int = 64 * KIB
    """Bytes of ``publication.json``."""
    publication_note_bytes: int = 256 * KIB
    """Bytes of a signed checkpoint, cosignatures included."""
    publication_files: int = 100_000
    """Parquet files of one log, and names in one of its folders: 6 billion records."""
    publication_tiles: int = 4_194_304
    """Tiles of one log and the folders they are in: a billion records."""
    publication_file_bytes: int = 256 * MIB
    """Bytes of one Parquet file: sealing gathers at most 64 MiB of records for one."""
    publication_group_rows: int = 65_536
    """Rows of one row group; ours have 4,096."""
    publication_group_bytes: int = 256 * MIB
    """Uncompressed bytes that a row group may state."""
    publication_span_records: int = 4 * 1_048_576
    """Records of the files of one span, the most that a policy of sealing allows."""

    # Elsewhere: decompression, patterns, SQL.
    decompressed_bytes: int = 16 * GIB
    """Bytes one compressed stream may expand to."""
    decompression_ratio: int = 1024
    """Expanded to compressed bytes: DEFLATE's own maximum is 1,032."""
    regex_chars: int = 1024
    """Characters of a caller's regular expression."""
    sql_chars: int = 65_536
    """Characters of a caller's SQL statement."""


DEFAULT = Budgets()
