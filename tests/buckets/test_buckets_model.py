"""A stateful model: buckets against plain dictionaries, with crashes, other processes' views, time travel and undo."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

import pytest
from engine import Clock, Engine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ipfs_kit.errors import Conflict, InvalidPath, KitError, MergeConflict, NotFound

NAMES = ["a", "b", "c", "ü", "D"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple)
contents = st.sampled_from([b"", b"x", b"hello world", b"y" * 3000])


def find(tree, path):
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree


def totals(tree):
    """Files and bytes, as a quota counts them."""
    if not isinstance(tree, dict):
        return 1, len(tree)
    parts = [totals(each) for each in tree.values()]
    return sum(files for files, _ in parts), sum(size for _, size in parts)


def text(path):
    return "B:/" + "/".join(path)


class BucketModel(RuleBasedStateMachine):
    """``tree`` is the workspace, ``heads`` what each branch holds, ``past`` what each op left behind."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="buckets-model-"))
        self.clock = Clock()
        self.engine = Engine(self.folder / "store", self.clock)
        self.other = None
        self.engine.run(lambda: self.engine.buckets.create("B", profile="unixfs-v0-2015"))
        self.tree: dict = {}
        self.base: dict = {}
        self.branch = "main"
        self.heads: dict = {}
        self.past: dict = {self.engine.index: {}}
        self.ops: list = []

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.close()
            shutil.rmtree(self.folder)

    def do(self, prepare, after, undoable=True):
        """Run an effect; ``after`` is the expected tree, or None when it must be refused and change nothing."""
        if after is None:
            with pytest.raises(KitError):
                self.engine.run(prepare)
            return
        before = copy.deepcopy(self.tree)
        self.engine.run(prepare)
        self.tree = after
        self.past[self.engine.index] = copy.deepcopy(after)
        if undoable and before != after:
            self.ops.append((self.engine.index, before, copy.deepcopy(after)))

    def changed(self, path, value, make=True):
        """The tree with a value put at a path; None where that is impossible."""
        tree = copy.deepcopy(self.tree)
        node = tree
        for name in path[:-1]:
            if name not in node and make:
                node[name] = {}
            node = node.get(name)
            if not isinstance(node, dict):
                return None
        if value is None:
            node.pop(path[-1], None)
        else:
            node[path[-1]] = value
        return tree

    @rule(path=paths, data=contents)
    def put(self, path, data):
        expected = None if isinstance(find(self.tree, path), dict) else self.changed(path, data)
        self.do(lambda: self.engine.buckets.put_bytes(text(path), data), expected)

    @rule(path=paths, data=contents)
    def put_without_overwrite(self, path, data):
        expected = None if find(self.tree, path) is not None else self.changed(path, data)
        self.do(lambda: self.engine.buckets.put_bytes(text(path), data, overwrite=False), expected)

    @rule(path=paths)
    def mkdir(self, path):
        expected = None if find(self.tree, path) is not None else self.changed(path, {}, make=False)
        self.do(lambda: self.engine.buckets.mkdir(text(path)), expected)

    @rule(path=paths)
    def mkdir_parents(self, path):
        here = find(self.tree, path)
        expected = self.tree if isinstance(here, dict) else None if here is not None else self.changed(path, {})
        self.do(lambda: self.engine.buckets.mkdir(text(path), parents=True, exist_ok=True), copy.deepcopy(expected))

    @rule(path=paths)
    def remove(self, path):
        here = find(self.tree, path)
        expected = None if here is None else self.changed(path, None)
        self.do(lambda: self.engine.buckets.rm(text(path), recursive=True), expected)

    @rule(path=paths)
    def remove_folder(self, path):
        expected = self.changed(path, None) if find(self.tree, path) == {} else None
        self.do(lambda: self.engine.buckets.rmdir(text(path)), expected)

    def landed(self, source, target, move):
        item = find(self.tree, source)
        if item is None:
            return None
        here = find(self.tree, target)
        final = (*target, source[-1]) if isinstance(here, dict) else target
        if find(self.tree, final) is not None or (move and final[: len(source)] == source):
            return None
        tree = self.changed(final, copy.deepcopy(item), make=False)
        if tree is not None and move:
            node = find(tree, source[:-1])
            del node[source[-1]]
        return tree

    @rule(source=paths, goal=paths)
    def move(self, source, goal):
        self.do(lambda: self.engine.buckets.mv(text(source), text(goal)), self.landed(source, goal, True))

    @rule(source=paths, goal=paths)
    def copy_entry(self, source, goal):
        self.do(lambda: self.engine.buckets.cp(text(source), text(goal)), self.landed(source, goal, False))

    @rule(path=paths, data=contents)
    def append(self, path, data):
        here = find(self.tree, path)
        expected = None if isinstance(here, dict) else self.changed(path, (here or b"") + data, make=False)
        self.do(lambda: self.engine.buckets.append(text(path), data), expected)

    @rule(path=paths, data=contents, offset=st.integers(0, 20))
    def write_at(self, path, data, offset):
        here = find(self.tree, path)
        if isinstance(here, dict):
            expected = None
        else:
            old = here or b""
            new = old.ljust(offset, b"\0")[:offset] + data + old[offset + len(data) :]
            expected = self.changed(path, new, make=False)
        self.do(lambda: self.engine.buckets.write(text(path), data, offset=offset), expected)

    @rule(path=paths, tag=st.sampled_from(["one", "two"]))
    def tag_entry(self, path, tag):
        expected = copy.deepcopy(self.tree) if find(self.tree, path) is not None else None
        root = self.engine.buckets.root("B")
        self.do(lambda: self.engine.buckets.set_metadata(text(path), tags={"t": tag}), expected, undoable=False)
        assert self.engine.buckets.root("B") == root

    @rule()
    def commit(self):
        result = self.engine.run(lambda: self.engine.buckets.commit("B", "m"))
        self.base = copy.deepcopy(self.tree)
        self.past[self.engine.index] = copy.deepcopy(self.tree)
        if result.commit is not None:
            self.heads[self.branch] = copy.deepcopy(self.tree)
        assert self.engine.buckets.status("B").clean

    @precondition(lambda self: "main" in self.heads)
    @rule()
    def make_branch(self):
        if "dev" in self.heads:
            with pytest.raises(Conflict):
                self.engine.run(lambda: self.engine.buckets.branch_create("B", "dev"))
            return
        self.engine.run(lambda: self.engine.buckets.branch_create("B", "dev"))
        self.heads["dev"] = copy.deepcopy(self.base)

    @precondition(lambda self: "dev" in self.heads)
    @rule(force=st.booleans())
    def switch(self, force):
        goal = "dev" if self.branch == "main" else "main"
        if not force and not self.engine.buckets.status("B").clean:
            with pytest.raises(Conflict):
                self.engine.run(lambda: self.engine.buckets.checkout("B", goal))
            return
        self.engine.run(lambda: self.engine.buckets.checkout("B", goal, force=True))
        self.branch, self.tree = goal, copy.deepcopy(self.heads[goal])
        self.base = copy.deepcopy(self.tree)
        self.past[self.engine.index] = copy.deepcopy(self.tree)

    @precondition(lambda self: "dev" in self.heads)
    @rule()
    def merge_other(self):
        if not self.engine.buckets.status("B").clean:
            return
        theirs = self.heads["dev" if self.branch == "main" else "main"]
        try:
            self.engine.run(lambda: self.engine.buckets.merge("B", "dev" if self.branch == "main" else "main"))
        except MergeConflict:
            return
        merged = self.read()
        # Whatever both sides agree on survives a merge.
        for name in merged.keys() & theirs.keys() & self.tree.keys():
            if theirs[name] == self.tree[name]:
                assert merged[name] == theirs[name]
        self.tree = merged
        self.base, self.heads[self.branch] = copy.deepcopy(merged), copy.deepcopy(merged)
        self.past[self.engine.index] = copy.deepcopy(merged)

    @precondition(lambda self: bool(self.ops))
    @rule(which=st.integers(0, 10))
    def undo(self, which):
        index, before, after = self.ops[-1 - which % len(self.ops)]
        try:
            self.engine.run(lambda: self.engine.buckets.undo(index))
        except MergeConflict:
            assert self.tree != after
            return
        now = self.read()
        if self.tree == after:
            assert now == before
        self.tree = now
        self.past[self.engine.index] = copy.deepcopy(now)

    @rule(data=st.data())
    def read_the_past(self, data):
        index = data.draw(st.sampled_from(sorted(self.past)))
        assert self.read(f"B@op:{index}") == self.past[index]

    @precondition(lambda self: bool(self.heads))
    @rule(data=st.data())
    def read_a_head(self, data):
        branch = data.draw(st.sampled_from(sorted(self.heads)))
        assert self.read(f"B@{branch}") == self.heads[branch]

    @rule(data=st.data())
    def restore_the_past(self, data):
        index = data.draw(st.sampled_from(sorted(self.past)))
        expected = copy.deepcopy(self.past[index])
        self.do(lambda: self.engine.buckets.checkout("B", f"op:{index}", force=True), expected, undoable=False)

    @rule()
    def reopen(self):
        self.engine.close()
        self.engine = Engine(self.folder / "store", self.clock)

    @rule()
    def crash_and_reopen(self):
        self.engine.abandon()
        self.engine = Engine(self.folder / "store", self.clock)

    @rule()
    def checkpoint(self):
        self.engine.buckets.checkpoint()

    @rule(path=st.sampled_from(["B:/../x", "B:/a//b", "B:/./a", "B:/a/\0", "B:/" + "n" * 256]))
    def hostile_paths_are_refused(self, path):
        with pytest.raises(InvalidPath):
            self.engine.buckets.put_bytes(path, b"x")

    @rule(path=paths)
    def stat_agrees(self, path):
        here = find(self.tree, path)
        if here is None:
            with pytest.raises(NotFound):
                self.engine.buckets.stat(text(path))
        else:
            found = self.engine.buckets.stat(text(path))
            assert (found.kind, found.size) == (("dir", 0) if isinstance(here, dict) else ("file", len(here)))

    @rule()
    def verify_finds_nothing(self):
        assert list(self.engine.buckets.verify()) == []

    def read(self, ref="B"):
        out: dict = {}
        for found in self.engine.buckets.walk(f"{ref}:/"):
            parts = found.path[1:].split("/")
            node = find(out, parts[:-1])
            where = f"{ref}:{found.path}"
            node[parts[-1]] = {} if found.kind == "dir" else self.engine.buckets.cat(where)
        return out

    @invariant()
    def the_workspace_is_the_model(self):
        if hasattr(self, "tree"):
            assert self.read() == self.tree

    @invariant()
    def the_counts_are_those_of_the_model(self):
        if hasattr(self, "tree"):
            assert self.engine.buckets.used("B") == totals(self.tree)


BucketModel.TestCase.settings = settings(
    max_examples=6, stateful_step_count=25, print_blob=False, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBucketModel = BucketModel.TestCase
