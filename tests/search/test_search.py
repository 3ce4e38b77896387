"""Full-text search over buckets: what is found, in which version, by whom, and that the index follows and forgets."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ipfs_kit import Kit
from ipfs_kit.buckets.paths import Location
from ipfs_kit.errors import Cancelled, Denied, InvalidInput, ReadOnly, Unsupported
from ipfs_kit.operations.principal import Principal
from ipfs_kit.search import text_index
from ipfs_kit.search.catalogue import Indexes
from ipfs_kit.search.match import understand
from ipfs_kit.search.text_index import Filters, Found

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "s") as opened:
        opened.bucket.create("notes")
        yield opened


def paths(kit: Kit, text: str, path: str | None = "notes", **more: Any) -> list[str]:
    return [hit.path for hit in kit.search.query(text, path=path, **more).hits]


def database(kit: Kit, bucket: str = "notes") -> Path:
    folder = kit.engine.path / "cache" / "search"
    return folder / f"{kit.engine.buckets.row(bucket).uid}.db"


# -- what is found ---------------------------------------------------------------------------------------------------


QUESTIONS = [
    ("how is a person forgotten without breaking a proof", "/guide/retention-and-erasure.md"),
    ("limits of the disk: what happens when it is full", "/design/004-full-disk.md"),
    ("witness cosignature policy", "/guide/proofs.md"),
    ("look at an earlier state of a bucket by op or time", "/guide/undo-and-time.md"),
    ("which columns has the view ops in SQL", "/guide/sql.md"),
    ("rotate log files and mask secrets", "/guide/logs.md"),
    ("exit status of the command line for each error kind", "/guide/errors.md"),
    ("encrypt a bucket under a key that can be destroyed", "/guide/sealed-buckets.md"),
    ("narrow a token to one folder", "/guide/scopes.md"),
    ("layout of a pack file on disk", "/format/packs.md"),
]


def test_ten_questions_about_this_documentation_are_answered_with_the_right_citation(kit: Kit) -> None:
    kit.files.put(str(DOCS), "notes:/")
    kit.versions.commit("notes", message="docs")
    right = []
    for question, expected in QUESTIONS:
        hits = kit.search.query(question, path="notes@main", limit=3, names=False).hits
        right.append(expected in [hit.path for hit in hits])
        for hit in hits:
            assert hit.start is not None
            assert hit.stop is not None
            quoted = kit.files.read(f"notes@main:{hit.path}", offset=hit.start, length=hit.stop - hit.start).read()
            shown = " ".join(hit.snippet.strip("…").split())
            assert shown in " ".join(quoted.decode().split()) or hit.heading in hit.snippet
            assert hit.cid == kit.files.stat(f"notes@main:{hit.path}").cid
            for begin, end in hit.matches:
                assert hit.snippet[begin:end].strip()
    assert all(right), [question for (question, _), good in zip(QUESTIONS, right, strict=True) if not good]


def test_names_labels_and_titles_are_found_beside_content(kit: Kit) -> None:
    kit.files.write("notes:/reports/quarterly-2026.bin", data=b"\0\1\2")
    kit.files.write("notes:/b.txt", text="x", tags={"project": "apollo"})
    kit.files.write("notes:/c.md", text="# Saturn\n\nrings")
    assert paths(kit, "quarterly") == ["/reports/quarterly-2026.bin"]
    assert paths(kit, "apollo") == ["/b.txt"]
    assert paths(kit, "saturn")[0] == "/c.md"
    assert paths(kit, "quarterly", names=False) == []


def test_queries_know_phrases_prefixes_exclusions_and_all_words(kit: Kit) -> None:
    kit.files.write("notes:/one.txt", text="the quick brown fox")
    kit.files.write("notes:/two.txt", text="brown bread, quickly baked")
    kit.files.write("notes:/three.txt", text="Müller fährt")
    assert set(paths(kit, "quick brown")) == {"/one.txt", "/two.txt"}
    assert paths(kit, '"quick brown"') == ["/one.txt"]
    assert paths(kit, "brown -fox") == ["/two.txt"]
    assert paths(kit, "brown bread", every=True) == ["/two.txt"]
    assert paths(kit, "mull*") == ["/three.txt"]
    assert paths(kit, "muller") == ["/three.txt"]


@pytest.mark.parametrize(
    "text",
    ["NEAR(a b)", "name:one", 'a" OR "b', "a AND", "*", "^a", "{name} : a", "a'; DROP TABLE files; --", "(", "\\", "-"],
)
def test_no_text_is_taken_for_the_language_of_the_engine(kit: Kit, text: str) -> None:
    kit.files.write("notes:/one.txt", text="nothing here")
    if any(char.isalnum() for char in text.removeprefix("-")):
        assert paths(kit, text) in ([], ["/one.txt"])
    else:
        with pytest.raises(InvalidInput, match="names no word"):
            paths(kit, text)


@pytest.mark.parametrize("text", ["", "   ", "-a", "…", "a" * 1_001, " ".join(f"w{n}" for n in range(33))])
def test_a_query_that_cannot_be_answered_says_why(kit: Kit, text: str) -> None:
    with pytest.raises(InvalidInput):
        kit.search.query(text)


def test_filters_narrow_by_folder_ending_type_and_label(kit: Kit) -> None:
    kit.files.write("notes:/a/one.md", text="whale", content_type="text/markdown")
    kit.files.write("notes:/a/two.txt", text="whale", tags={"lang": "en"})
    kit.files.write("notes:/ab/three.txt", text="whale")
    assert set(paths(kit, "whale", "notes:/a")) == {"/a/one.md", "/a/two.txt"}
    assert paths(kit, "whale", suffix=".MD") == ["/a/one.md"]
    assert paths(kit, "whale", type="text/*") == ["/a/one.md"]
    assert paths(kit, "whale", tags={"lang": "en"}) == ["/a/two.txt"]


def test_pages_go_on_where_the_last_ended_and_one_file_does_not_fill_them(kit: Kit) -> None:
    for number in range(25):
        kit.files.write(f"notes:/{number:02}.txt", text="whale " * (number + 1))
    kit.files.write("notes:/long.txt", text=" whale\n\n".join("x" * 1_100 for _ in range(20)))
    first = kit.search.query("whale", limit=10)
    rest, offset = [], first.offset
    while offset is not None:
        page = kit.search.query("whale", limit=10, offset=offset)
        rest += page.hits
        offset = page.offset
    found = [(hit.path, hit.start) for hit in [*first.hits, *rest]]
    assert len(found) == len(set(found)) == 25 + 3
    assert sum(path == "/long.txt" for path, _ in found) == 3


def test_every_bucket_is_searched_but_sealed_ones_which_are_named(kit: Kit) -> None:
    kit.bucket.create("more")
    kit.bucket.create("secret", kind="sealed")
    for bucket in ("notes", "more", "secret"):
        kit.files.write(f"{bucket}:/f.txt", text="whale")
    page = kit.search.query("whale")
    assert {hit.bucket for hit in page.hits} == {"notes", "more"}
    assert page.left_out == ["secret"]
    with pytest.raises(Unsupported, match="sealed"):
        kit.search.query("whale", path="secret")
    assert not list((kit.engine.path / "cache" / "search").glob(f"{kit.engine.buckets.row('secret').uid}*"))


# -- versions and following ------------------------------------------------------------------------------------------


def test_each_version_answers_for_itself_and_all_survive_a_restart(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("notes")
        kit.files.write("notes:/a.txt", text="whale")
        kit.versions.commit("notes", message="1")
        kit.versions.tag_create("notes", "v1")
        kit.files.write("notes:/a.txt", text="dolphin")
        index = kit.call("files.write", path="notes:/b.txt", text="whale too").index
        kit.files.rm("notes:/b.txt")
    for _ in range(2):
        with Kit.open(tmp_path / "s") as kit:
            assert paths(kit, "whale") == []
            assert paths(kit, "dolphin") == ["/a.txt"]
            assert paths(kit, "whale", "notes@v1") == ["/a.txt"]
            assert paths(kit, "dolphin", "notes@v1") == []
            assert paths(kit, "whale", f"notes@op:{index}") == ["/b.txt"]
            assert [len(one.indexes) for one in [kit.search.status("notes")]] == [3]


def test_older_indexes_are_few(kit: Kit) -> None:
    for number in range(8):
        kit.files.write("notes:/a.txt", text=f"word{number}")
        kit.versions.commit("notes", message="c")
        kit.versions.tag_create("notes", f"v{number}")
        assert paths(kit, f"word{number}", f"notes@v{number}") == ["/a.txt"]
    assert len(kit.search.status("notes").indexes) <= 4


def test_content_is_read_once_however_it_moves(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        kit.files.write(f"notes:/a/{number}.txt", text=f"whale {number}")
    kit.search.index("notes")
    read: list[str] = []
    real = text_index.passages.parse
    monkeypatch.setattr(text_index.passages, "parse", lambda form, *rest: read.append(form) or real(form, *rest))
    kit.files.mv("notes:/a", "notes:/b")
    kit.files.cp("notes:/b", "notes:/c")
    kit.files.set_metadata("notes:/c/1.txt", tags={"x": "y"})
    assert len(paths(kit, "whale", limit=100)) == 100
    assert read == []
    kit.files.write("notes:/c/7.txt", text="seal")
    assert paths(kit, "seal") == ["/c/7.txt"]
    assert len(read) == 1


def test_what_was_deleted_leaves_no_trace_in_the_index(kit: Kit) -> None:
    canary = "xylophonecanary"
    for number in range(200):
        kit.files.write(f"notes:/{number}.txt", text=f"{'some words ' * 50} {canary if number == 77 else ''}")
    assert paths(kit, canary) == ["/77.txt"]
    kit.files.rm("notes:/77.txt")
    assert paths(kit, canary) == []
    held = b"".join(path.read_bytes() for path in database(kit).parent.glob("*.db*"))
    assert canary.encode() not in held
    assert b"some words" in held or b"word" in held


def test_the_index_stays_small_over_many_changes(kit: Kit) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    for number in range(20):
        kit.files.write(f"notes:/{number}.txt", text=f"{number} {text}")
    kit.search.index("notes")
    small = database(kit).stat().st_size
    for change in range(60):
        kit.files.write(f"notes:/{change % 20}.txt", text=f"{change} changed {text}")
        kit.search.index("notes")
    assert database(kit).stat().st_size < 2 * small


def test_an_index_that_was_cut_short_goes_on_and_reads_nothing_twice(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "BATCH", 10)
    for number in range(60):
        kit.files.write(f"notes:/{number}.txt", text=f"whale {number}")
    read: list[str] = []
    real = text_index.passages.parse
    monkeypatch.setattr(text_index.passages, "parse", lambda form, *rest: read.append(form) or real(form, *rest))
    stop = threading.Event()
    with pytest.raises(Cancelled):
        kit.call_with(
            "search.index",
            {"bucket": "notes"},
            cancelled=stop,
            progress=lambda at: stop.set() if at.done >= 20 else None,
        )
    assert kit.search.status("notes").indexes[0].root is None
    before = len(read)
    assert 0 < before < 60
    kit.files.rm("notes:/3.txt")
    assert len(paths(kit, "whale", limit=100)) == 59
    assert len(read) <= 60


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1_000, None])
def test_a_damaged_index_is_made_anew(kit: Kit, damage: bytes | None) -> None:
    kit.files.write("notes:/a.txt", text="whale")
    kit.search.index("notes")
    path = database(kit)
    if damage is None:
        held = bytearray(path.read_bytes())
        held[0:16] = b"\xff" * 16
        damage = bytes(held)
    path.write_bytes(damage)
    assert paths(kit, "whale") == ["/a.txt"]


def test_old_blocks_that_were_collected_are_no_obstacle(kit: Kit) -> None:
    kit.files.write("notes:/a.txt", text="whale")
    assert paths(kit, "whale") == ["/a.txt"]
    index = kit.engine.indexes
    with index._opened(str(database(kit))) as opened:
        opened._db.execute("UPDATE about SET value = replace(value, substr(value, 20, 8), '00000000')")
    kit.files.write("notes:/b.txt", text="seal")
    assert set(paths(kit, "whale OR seal")) == {"/a.txt", "/b.txt"}


def test_two_processes_search_while_the_bucket_changes(tmp_path: Path) -> None:
    script = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    for number in range(25):
        kit.files.write(f"notes:/{sys.argv[2]}/{number}.txt", text=f"whale {sys.argv[2]} {number}")
        found = kit.search.query(f"{sys.argv[2]} {number}", path="notes", every=True, limit=100).hits
        assert f"/{sys.argv[2]}/{number}.txt" in [hit.path for hit in found], found
"""
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("notes")
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "s"), name]) for name in ("red", "blue")]
    assert [process.wait(120) for process in running] == [0, 0]
    with Kit.open(tmp_path / "s") as kit:
        assert kit.search.status("notes").indexes[0].holds.files == 50


def test_a_bucket_that_is_deleted_takes_its_index_along(kit: Kit) -> None:
    kit.files.write("notes:/a.txt", text="whale")
    kit.search.index("notes")
    path = database(kit)
    assert path.exists()
    assert kit.search.drop("notes").indexes == 1
    assert not path.exists()
    kit.search.index("notes")
    kit.bucket.delete("notes", force=True)
    kit.store.gc()
    assert not path.exists()


def test_a_store_open_for_reading_answers_from_what_is_indexed(kit: Kit, tmp_path: Path) -> None:
    kit.files.write("notes:/a.txt", text="whale")
    kit.versions.commit("notes", message="1")
    kit.search.index("notes")
    kit.close()
    with Kit.open(tmp_path / "s", read_only=True) as reader:
        assert paths(reader, "whale") == ["/a.txt"]
        assert paths(reader, "whale", "notes@main") == ["/a.txt"]
        os.remove(database(reader))
        with pytest.raises(ReadOnly, match="read-only"):
            reader.search.query("whale", path="notes")


# -- who may ---------------------------------------------------------------------------------------------------------


def test_a_narrowed_caller_finds_only_what_lies_below_its_places(kit: Kit) -> None:
    kit.files.write("notes:/mine/a.txt", text="whale")
    kit.files.write("notes:/theirs/b.txt", text="whale canary")
    kit.bucket.create("other")
    kit.files.write("other:/c.txt", text="whale")
    narrow = Principal("n", frozenset({"search:read@notes/mine"}))

    def ask(principal: Principal, **arguments: Any) -> Any:
        return kit.call_with("search.query", {"text": "whale", **arguments}, principal=principal).value

    assert [hit.path for hit in ask(narrow, path="notes:/mine").hits] == ["/mine/a.txt"]
    assert ask(narrow, path="notes:/mine", explain=True).terms is None
    assert ask(narrow).hits == []
    for place in ("notes", "notes:/theirs", "other", "notes@op:1:/mine"):
        with pytest.raises(Denied):
            ask(narrow, path=place)
    whole = Principal("n", frozenset({"search:read@notes"}))
    assert {hit.bucket for hit in ask(whole).hits} == {"notes"}


# -- the same as from nothing ----------------------------------------------------------------------------------------

WORDS = ("whale", "seal", "dolphin", "otter", "krill")


class Following(RuleBasedStateMachine):
    """Any history of edits, searched in between, answers as an index made of the last state alone."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.kit = Kit.open(Path(self.folder.name) / "s")
        self.kit.bucket.create("notes")
        self.ops: list[int] = []

    @rule(
        name=st.sampled_from("abc"),
        folder=st.sampled_from(["", "x/", "y/"]),
        words=st.lists(st.sampled_from(WORDS), max_size=6),
    )
    def write(self, name: str, folder: str, words: list[str]) -> None:
        made = self.kit.call("files.write", path=f"notes:/{folder}{name}.txt", text=" ".join(words))
        assert made.index is not None
        self.ops.append(made.index)

    @rule(source=st.sampled_from(["x", "y"]), to=st.sampled_from(["z", "y/deep"]))
    def move(self, source: str, to: str) -> None:
        exists = self.kit.engine.buckets.exists_at
        if exists(f"notes:/{source}") and not exists(f"notes:/{to}") and not to.startswith(f"{source}/"):
            self.kit.files.mkdir(f"notes:/{Path(to).parent}".removesuffix("."), parents=True)
            self.kit.files.mv(f"notes:/{source}", f"notes:/{to}")

    @rule(path=st.sampled_from(["x", "y", "z", "a.txt", "x/b.txt"]))
    def remove(self, path: str) -> None:
        if self.kit.engine.buckets.exists_at(f"notes:/{path}"):
            self.kit.files.rm(f"notes:/{path}", recursive=True)

    @rule(word=st.sampled_from(WORDS))
    def search(self, word: str) -> None:
        self.kit.search.query(word, path="notes")

    @precondition(lambda self: self.ops)
    @rule(data=st.data())
    def search_the_past(self, data: st.DataObject) -> None:
        self.kit.search.query("whale", path=f"notes@op:{data.draw(st.sampled_from(self.ops))}")

    @invariant()
    def answers_as_if_made_anew(self) -> None:
        if not hasattr(self, "kit"):
            return
        with tempfile.TemporaryDirectory() as empty:
            anew = Indexes(empty, self.kit.engine.buckets, False, 30.0)
            assert self._answers(self.kit.engine.indexes) == self._answers(anew)

    def _answers(self, indexes: Indexes) -> list[list[Found]]:
        with indexes.at(Location.parse("notes"), lambda _: None) as (index, _):
            return [index.find(understand(word), Filters(), 100)[0] for word in WORDS]

    def teardown(self) -> None:
        if hasattr(self, "kit"):
            self.kit.close()
            self.folder.cleanup()


Following.TestCase.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFollowing = pytest.mark.slow(Following.TestCase)
