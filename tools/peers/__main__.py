"""``make peers``: build the reference implementations, then regenerate the golden vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.peers import vectors


def main() -> int:
    built = subprocess.run([str(Path(__file__).with_name("build.sh"))])
    return built.returncode or vectors.main()


if __name__ == "__main__":
    sys.exit(main())
