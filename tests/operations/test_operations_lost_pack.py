"""A pack that is gone: verify and repair run to their end and name what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import IntegrityError


@pytest.mark.parametrize("kind", ["dag", "leaf"])
def test_verify_and_repair_name_what_a_lost_pack_held(tmp_path: Path, kind: str) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/f", text="x" * 5000)
        kit.versions.commit("b", message="m")
    (pack,) = (tmp_path / "store" / "packs").glob(f"{kind}-*.car")
    pack.unlink()
    with Kit.open(tmp_path / "store") as kit:
        with pytest.raises(IntegrityError, match=r"(?s)faults:.*bucket b.*restore the missing blocks"):
            kit.store.verify()
        assert any(fault.where.startswith("bucket b") for fault in kit.store.repair().remaining)
        assert kit.store.info().buckets == 1
