"""Errors as an operating system has them, for callers that know files and not stores."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ipfs_kit.errors import ErrorKind, KitError

_NUMBERS: Final = {
    ErrorKind.PATH_NOT_FOUND: errno.ENOENT, ErrorKind.BUCKET_NOT_FOUND: errno.ENOENT, ErrorKind.REF_NOT_FOUND: errno.ENOENT,
    ErrorKind.NOT_FOUND: errno.ENOENT, ErrorKind.STORE_NOT_FOUND: errno.ENOENT, ErrorKind.ALREADY_EXISTS: errno.EEXIST,
    ErrorKind.NOT_EMPTY: errno.ENOTEMPTY, ErrorKind.DENIED: errno.EACCES, ErrorKind.READ_ONLY: errno.EROFS,
    ErrorKind.NO_SPACE: errno.ENOSPC, ErrorKind.LOCK_TIMEOUT: errno.EBUSY, ErrorKind.TIMEOUT: errno.ETIMEDOUT,
    ErrorKind.INVALID_PATH: errno.EINVAL, ErrorKind.INVALID_NAME: errno.EINVAL, ErrorKind.INVALID_INPUT: errno.EINVAL,
    ErrorKind.CONFLICT: errno.EAGAIN,
}  # fmt: skip
"""What the operating system would say; anything else is EIO."""


@contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Errors as those of the operating system, which callers of a file system expect; the cause keeps the kind."""
    try:
        yield
    except KitError as error:
        number = _NUMBERS.get(error.kind, errno.EIO)
        raise OSError(number, error.message, path) from error
