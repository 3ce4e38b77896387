"""Parsing of command lines, with our errors in place of the standard library's exit."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ipfs_kit.errors import InvalidInput


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ``InvalidInput`` with the usage instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Refuse the words given.

        Raises:
            InvalidInput: Always.
        """
        raise InvalidInput(f"{message}\nusage: {self.format_usage().removeprefix('usage: ').strip()}")
