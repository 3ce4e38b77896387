"""Lost keys are a named fault: nothing is made in their place and nothing is collected because of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import IntegrityError, StoreNotFound


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("s", kind="sealed")
        kit.files.write("s:/x", text="secret")
        kit.versions.commit("s", message="m")
    return tmp_path / "store"


def test_a_store_whose_current_key_number_is_lost_is_refused_and_its_keys_stay(store: Path) -> None:
    keys = {path.name: path.read_bytes() for path in (store / "keys").iterdir() if path.name != "ring.lock"}
    (store / "keys" / "current").unlink()
    with pytest.raises(StoreNotFound, match="restore keys/"):
        Kit.open(store)
    for name in ("kek-1", "ring-1.mdb", "signing.key"):
        assert (store / "keys" / name).read_bytes() == keys[name]
    (store / "keys" / "current").write_bytes(keys["current"])
    (store / "keys" / "current").chmod(0o600)
    with Kit.open(store) as kit:
        assert b"".join(kit.files.read("s:/x").open()) == b"secret"


def test_old_keys_beside_a_newer_store_are_a_fault_and_no_erasure(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / "keys", tmp_path / "old")
    with Kit.open(store) as kit:
        kit.bucket.create("t", kind="sealed")
        kit.files.write("t:/y", text="newer")
        kit.versions.commit("t", message="m")
    shutil.move(store / "keys", tmp_path / "new")
    shutil.copytree(tmp_path / "old", store / "keys")
    with Kit.open(store) as kit:
        with pytest.raises(IntegrityError, match=r"bucket t: .* restore keys/"):
            kit.store.verify()
        assert {bucket.name for bucket in kit.bucket.list().buckets} == {"s", "t"}
        with pytest.raises(IntegrityError, match="restore keys/"):
            kit.files.read("t:/y")
        with pytest.raises(IntegrityError, match="restore keys/"):
            kit.store.gc()
    shutil.rmtree(store / "keys")
    shutil.copytree(tmp_path / "new", store / "keys")
    with Kit.open(store) as kit:
        assert b"".join(kit.files.read("t:/y").open()) == b"newer"
        assert kit.store.verify().ok
