"""UnixFS: files, directories, HAMT-sharded directories and symlinks as DAGs (specs.ipfs.tech/unixfs)."""

from __future__ import annotations

from ipfs_kit.ipld.unixfs._build import build_bytes, build_file
from ipfs_kit.ipld.unixfs._check import TreeReport, check_tree
from ipfs_kit.ipld.unixfs._data import Data, decode_data
from ipfs_kit.ipld.unixfs._directory import Directory, check_name
from ipfs_kit.ipld.unixfs._entry import Entry, Kind, build_symlink, entry_of, read_symlink
from ipfs_kit.ipld.unixfs._murmur3 import murmur3_x64_64
from ipfs_kit.ipld.unixfs._profiles import DEFAULT_PROFILE, PROFILES, Profile
from ipfs_kit.ipld.unixfs._reader import FileReader, iter_range, open_file
from ipfs_kit.ipld.unixfs._splice import splice
from ipfs_kit.ipld.unixfs._wire import Link

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "Data",
    "Directory",
    "Entry",
    "FileReader",
    "Kind",
    "Link",
    "Profile",
    "TreeReport",
    "build_bytes",
    "build_file",
    "build_symlink",
    "check_name",
    "check_tree",
    "decode_data",
    "entry_of",
    "iter_range",
    "murmur3_x64_64",
    "open_file",
    "read_symlink",
    "splice",
]
