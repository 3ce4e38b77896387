"""Bytes and addresses: CIDs, codecs, UnixFS, chunkers and CAR. No I/O, no clock.

Modules: ``codecs``, ``varint``, ``multibase``, ``multihash``, ``dag_cbor``, ``dag_json``, ``dag_pb``, ``links``,
``walk``, ``resolve``, ``car``, ``unixfs``, ``chunkers``, ``budgets``.
"""

from ipfs_kit.ipld.budgets import Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.types import Get, Put

__all__ = ["CID", "Budgets", "Get", "Put"]
