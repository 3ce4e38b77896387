"""Bytes and addresses: CIDs, codecs, UnixFS, chunkers and CAR. No I/O, no clock."""
