"""``ipfs-kit mount``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ipfs_kit.buckets.paths import Location
from ipfs_kit.errors import InvalidInput
from ipfs_kit.surfaces.cli.main import Globals
from ipfs_kit.surfaces.parsing import Parser


def parser() -> Parser:
    """The options of ``ipfs-kit mount``."""
    words = Parser(prog="ipfs-kit mount", description="Mount a bucket until it is unmounted or interrupted.")
    words.add_argument("place", metavar="BUCKET[@ref][:/path]", help="what is mounted; a version can only be read")
    words.add_argument("folder", help="an empty folder; unmount it with 'fusermount3 -u FOLDER' or Ctrl-C")
    return words


def run_mount(words: Sequence[str], options: Globals) -> int:
    """Mount a bucket until it is unmounted or interrupted.

    Args:
        words: What is mounted, and where.
        options: Global options.

    Returns:
        0 once it is unmounted.

    Raises:
        MissingExtra: The package or the system's library is not installed.
        InvalidInput: The folder is not empty, or what is to be mounted is none.
    """
    chosen = parser().parse_args(list(words))
    from ipfs_kit.operations.kit import Kit
    from ipfs_kit.surfaces.fuse.mount import serve

    folder = os.path.realpath(chosen.folder)
    if not os.path.isdir(folder) or os.listdir(folder):
        raise InvalidInput(f"{folder} must be an empty folder")
    location = Location.parse(chosen.place)
    ref, _, top = chosen.place.partition(":/")
    with Kit.open(
        Kit.store_path(options.store), create=False, read_only=options.read_only, surface="cli",
        lock_timeout_s=options.lock_timeout_s,
    ) as kit:  # fmt: skip
        if f"{folder}/".startswith(f"{os.path.realpath(kit.engine.path)}/"):
            raise InvalidInput("a store cannot be mounted inside itself: name a folder elsewhere")
        found = kit.files.stat(f"{ref}:/{top}")
        if found.kind != "dir":
            raise InvalidInput(f"{chosen.place} is a {found.kind}: mount a folder")
        if not options.quiet:
            sys.stderr.write(f"{chosen.place} is mounted at {folder}; Ctrl-C unmounts it\n")
            sys.stderr.flush()
        live = location.ref.live
        serve(kit, ref, top.strip("/"), folder, writable=live and not options.read_only, fixed=not live)
    return 0
