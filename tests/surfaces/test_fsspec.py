"""Buckets through fsspec: its own conformance suite, and the programs that people read data with."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests import abstract

from ipfs_kit import Kit
from ipfs_kit.surfaces.filesystem import KitFileSystem


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[KitFileSystem]:
        made = KitFileSystem(store=tmp_path / "s", skip_instance_cache=True)
        made.makedirs("data")
        yield made
        made.close()

    @pytest.fixture
    def fs_path(self) -> str:
        return "data"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    """fsspec's own tests of copying."""


class TestGet(abstract.AbstractGetTests, Fixtures):
    """fsspec's own tests of getting."""


class TestPut(abstract.AbstractPutTests, Fixtures):
    """fsspec's own tests of putting."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    """fsspec's own tests of pipes."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    """fsspec's own tests of opening."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/a.txt", text="first")
        kit.versions.commit("b", message="one")
        kit.versions.tag_create("b", "v1")
        kit.files.write("b:/a.txt", text="second")
    return tmp_path / "s"


def test_versions_are_read_at_their_ref_and_listings_are_never_stale(store: Path) -> None:
    fs = fsspec.filesystem("kit", store=str(store), skip_instance_cache=True)
    assert fs.cat("kit://b/a.txt") == b"second"
    assert fs.cat("kit://b@v1/a.txt") == b"first"
    with fsspec.open("kit://b@v1/a.txt", store=str(store)) as file:
        assert file.read() == b"first"
    assert fs.ls("", detail=False) == ["b"]
    assert fs.ls("b", detail=False) == ["b/a.txt"]
    with Kit.open(store) as other:
        other.files.write("b:/new", text="x")
    assert fs.ls("b", detail=False) == ["b/a.txt", "b/new"]
    assert fs.ukey("b/a.txt") != fs.ukey("b@v1/a.txt")
    with pytest.raises(OSError, match="fixed state") as refused:
        fs.pipe("b@v1/a.txt", b"x")
    assert refused.value.errno == errno.EROFS
    assert fs.commit("b", "through fsspec") is not None
    fs.close()
    with Kit.open(store) as kit:
        assert kit.versions.log("b").commits[0].message == "through fsspec"
        (read,) = kit.ledger.sql("SELECT count(*) FROM ops WHERE operation = 'files.read' AND surface = 'python'").rows
        assert read[0] == 3


def test_errors_are_those_of_an_operating_system(store: Path) -> None:
    fs = KitFileSystem(store=store, skip_instance_cache=True)
    for work, kind in (
        (lambda: fs.cat("b/none"), FileNotFoundError), (lambda: fs.open("nobucket/x"), FileNotFoundError),
        (lambda: fs.cat("b@none/a.txt"), FileNotFoundError), (lambda: fs.mkdir("b"), FileExistsError),
        (lambda: fs.open("b/a.txt", "xb"), FileExistsError), (lambda: fs.open("b", "rb"), IsADirectoryError),
        (lambda: fs.rmdir("b"), OSError), (lambda: fs.cat("b/../x"), OSError), (lambda: fs.rm("b/none"), FileNotFoundError),
    ):  # fmt: skip
        with pytest.raises(kind):
            work()
    with pytest.raises(ValueError, match="mode"):
        fs.open("b/a.txt", "r+b")
    assert not fs.exists("b/none")
    assert not fs.exists("nobucket/none")
    fs.close()
    reading = KitFileSystem(store=store, read_only=True, skip_instance_cache=True)
    assert reading.cat("b/a.txt") == b"second"
    with pytest.raises(OSError, match="reading only") as refused:
        reading.pipe("b/x", b"x")
    assert refused.value.errno == errno.EROFS
    reading.close()


def test_a_file_appears_whole_or_not_at_all(store: Path) -> None:
    fs = KitFileSystem(store=store, skip_instance_cache=True)
    with pytest.raises(RuntimeError), fs.open("b/half", "wb") as file:
        file.write(b"x" * 100)
        raise RuntimeError
    with pytest.raises(RuntimeError), fs.open("b/a.txt", "wb", block_size=10) as file:
        file.write(b"x" * 100)
        raise RuntimeError
    assert not fs.exists("b/half")
    assert fs.cat("b/a.txt") == b"second"
    big = os.urandom(3 << 20)
    with fs.open("b/deep/er/big", "wb", block_size=1 << 20) as file:
        for start in range(0, len(big), 100_000):
            file.write(big[start : start + 100_000])
        assert not fs.exists("b/deep/er/big")
    assert fs.cat("b/deep/er/big") == big
    with fs.open("b/deep/er/big", "ab", block_size=1 << 20) as file:
        file.write(big)
    with fs.open("b/new", "ab") as file:
        file.write(b"made by appending")
    assert fs.cat("b/deep/er/big") == big + big
    assert fs.cat("b/new") == b"made by appending"
    with fs.transaction:
        with fs.open("b/t1", "wb") as file:
            file.write(b"1")
        assert not fs.exists("b/t1")
    assert fs.cat("b/t1") == b"1"
    assert fs.cat_file("b/deep/er/big", start=-5) == big[-5:]
    assert fs.cat_ranges(["b/deep/er/big"] * 2, [0, 7], [3, 9]) == [big[:3], big[7:9]]
    fs.close()


def test_ranges_are_read_without_the_rest_and_a_file_changed_meanwhile_is_refused(store: Path) -> None:
    fs = KitFileSystem(store=store, skip_instance_cache=True)
    fs.pipe("b/big", bytes(4 << 20) + b"end")
    with fs.open("b/big", "rb", block_size=1024, cache_type="none") as file:
        file.seek(4 << 20)
        assert file.read() == b"end"
        fs.pipe("b/big", bytes(5 << 20))
        file.seek(0)
        with pytest.raises(OSError, match="changed while it was read") as refused:
            file.read(10)
        assert refused.value.errno == errno.ESTALE
    ops = [op for op in fs.kit.ledger.tail(log="bulk", limit=50).ops if op.operation == "files.read"]
    assert {(op.args or {})["length"] for op in ops} <= {3, 10}
    fs.close()


def test_a_file_system_goes_to_other_processes(store: Path) -> None:
    fs = KitFileSystem(store=store)
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat("b/a.txt") == b"second"
    assert KitFileSystem.from_json(fs.to_json()).cat("b/a.txt") == b"second"
    fs.close()
    again.close()
    KitFileSystem.clear_instance_cache()


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")
import fsspec
fs = fsspec.filesystem("kit", store=sys.argv[1])
assert fs.cat("b/a.txt") == b"second"
children = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        fs.pipe(f"b/from-{number}", fs.cat("b/a.txt"))
        fs.close()
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
assert fs.cat("b/from-1") == b"second"
"""


def test_workers_forked_while_it_is_open_use_it(store: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED, str(store)], check=True, timeout=120)


def test_pandas_pyarrow_and_duckdb_read_and_write_it(store: Path) -> None:
    pandas = pytest.importorskip("pandas")
    duckdb = pytest.importorskip("duckdb")
    import pyarrow.dataset
    import pyarrow.parquet

    options: dict[str, Any] = {"store": str(store)}
    frame = pandas.DataFrame({"n": range(1_000), "word": [f"w{n % 7}" for n in range(1_000)]})
    frame.to_csv("kit://b/t/frame.csv", index=False, storage_options=options)
    frame.to_parquet("kit://b/t/one.parquet", storage_options=options)
    assert pandas.read_csv("kit://b/t/frame.csv", storage_options=options).equals(frame)
    assert pandas.read_parquet("kit://b/t/one.parquet", storage_options=options).equals(frame)
    fs = fsspec.filesystem("kit", **options)
    pyarrow.parquet.write_table(pyarrow.table({"n": [5_000], "word": ["w"]}), "b/t/two.parquet", filesystem=fs)
    found = pyarrow.dataset.dataset("b/t", filesystem=fs, exclude_invalid_files=True, format="parquet")
    assert found.count_rows() == 1_001
    assert found.to_table(filter=pyarrow.dataset.field("n") > 998).num_rows == 2
    fs.commit("b", "frames")
    fs.rm("b/t/two.parquet")
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        rows = connection.execute("SELECT count(*), sum(n) FROM read_parquet('kit://b/t/*.parquet')").fetchall()
        assert rows == [(1_000, sum(range(1_000)))]
        older = connection.execute("SELECT count(*) FROM read_parquet('kit://b@main/t/*.parquet')").fetchall()
        assert older == [(1_001,)]
        connection.execute("COPY (SELECT 7 AS seven) TO 'kit://b/t/out.parquet'")
    assert pandas.read_parquet("kit://b/t/out.parquet", storage_options=options)["seven"].tolist() == [7]
    fs.close()
    fs.clear_instance_cache()
    with Kit.open(store) as kit:
        assert kit.store.verify().ok
