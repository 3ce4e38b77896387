"""Content-addressed archives: CARv1 and CARv2, read and written as streams in bounded memory."""

from ipfs_kit.ipld.car.frames import (
    Recovered,
    Section,
    decode_header,
    encode_header,
    read_header,
    recover,
    scan,
    section_prefix,
    section_size,
    split_section,
)
from ipfs_kit.ipld.car.index import CarIndex, IndexEntry, V2Header, decode_index, encode_index
from ipfs_kit.ipld.car.reader import CarReader, read_car
from ipfs_kit.ipld.car.writer import CarWriter, write_car

__all__ = [
    "CarIndex",
    "CarReader",
    "CarWriter",
    "IndexEntry",
    "Recovered",
    "Section",
    "V2Header",
    "decode_header",
    "decode_index",
    "encode_header",
    "encode_index",
    "read_car",
    "read_header",
    "recover",
    "scan",
    "section_prefix",
    "section_size",
    "split_section",
    "write_car",
]
