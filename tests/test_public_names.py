"""The public surface: one sorted list, every name importable, nothing loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import ipfs_kit


def test_every_public_name_exists_and_the_list_is_sorted() -> None:
    assert ipfs_kit.__all__ == sorted(ipfs_kit.__all__)
    assert set(ipfs_kit.__all__) == set(ipfs_kit._HOME)
    for name in ipfs_kit.__all__:
        assert getattr(ipfs_kit, name) is not None


def test_importing_the_package_loads_no_layer() -> None:
    code = "import sys, ipfs_kit; print([m for m in sys.modules if m.startswith('ipfs_kit.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_opening_a_store_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ipfs_kit import Kit; "
        "print(sorted({'pyarrow', 'duckdb', 'mcp', 'pydantic', 'starlette', 'uvicorn', 'numpy', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
