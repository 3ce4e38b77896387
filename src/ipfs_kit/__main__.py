"""``python -m ipfs_kit`` is the ``ipfs-kit`` command."""

import sys

from ipfs_kit.surfaces.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
