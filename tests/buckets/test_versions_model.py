"""A stateful model of versions: sessions, branches, merges, picks, resets, rebases, undo, GC and crashes against plain
dictionaries.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

import pytest
from engine import Clock, Engine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ipfs_kit.blocks.gc import Collector
from ipfs_kit.blocks.sealed import links_of
from ipfs_kit.buckets.path_history import PathHistories
from ipfs_kit.buckets.paths import Location
from ipfs_kit.errors import Conflict, MergeConflict, RefConflict, RefNotFound

NAMES = ["a", "b", "d/x", "d/y"]
SESSIONS = ["main", "work"]
names = st.sampled_from(NAMES)
sessions = st.sampled_from(SESSIONS)


def three_way(base, ours, theirs):
    """The merged tree and the names both sides changed."""
    merged, clashes = {}, set()
    for name in {*base, *ours, *theirs}:
        was, one, other = base.get(name), ours.get(name), theirs.get(name)
        if one == other or other == was:
            chosen = one
        elif one == was:
            chosen = other
        else:
            clashes.add("/" + name)
            chosen = one
        if chosen is not None:
            merged[name] = chosen
    return merged, clashes


class Model:
    """Commits by CID with tree and parents; branches; sessions with branch, base and tree."""

    def __init__(self):
        self.trees = {}
        self.parents = {}
        self.heads = {}
        self.sessions = {}

    def ancestors(self, cid):
        found, stack = set(), [cid]
        while stack:
            at = stack.pop()
            if at not in found:
                found.add(at)
                stack += self.parents[at]
        return found

    def bases(self, one, other):
        common = self.ancestors(one) & self.ancestors(other)
        return {cid for cid in common if not any(cid in self.ancestors(each) - {each} for each in common - {cid})}

    def first_parent(self, cid):
        return self.trees[self.parents[cid][0]] if self.parents[cid] else {}


class VersionsModel(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="versions-model-"))
        self.clock = Clock()
        self.engine = Engine(self.folder / "store", self.clock)
        self.count = 0
        self.model = Model()
        self.before = None
        b = self.engine.buckets
        self.engine.run(lambda: b.create("B"))
        self.engine.run(lambda: b.put_bytes("B:/a", b"0"))
        self.engine.run(lambda: b.mkdir("B:/d"))
        first = self.engine.run(lambda: b.commit("B", "first")).commit
        self.model.trees[first], self.model.parents[first] = {"a": b"0"}, ()
        self.engine.run(lambda: b.branch_create("B", "topic"))
        self.engine.run(lambda: b.session_create("B", "work", branch="topic"))
        self.model.heads = {"main": first, "topic": first}
        self.model.sessions = {"main": ("main", first, {"a": b"0"}), "work": ("topic", first, {"a": b"0"})}

    def teardown(self):
        if hasattr(self, "engine"):
            assert list(self.engine.buckets.verify()) == []
            self.engine.close()
            shutil.rmtree(self.folder)

    # -- doing --------------------------------------------------------------------------------------------------------

    def run(self, prepare):
        """Run an effect and remember the model of before, for undo."""
        before = copy.deepcopy(self.model)
        value = self.engine.run(prepare)
        self.before = (self.engine.index, before)
        return value

    def refused(self, error, prepare):
        with pytest.raises(error) as caught:
            self.engine.run(prepare)
        return caught.value

    def committed(self, session, value, tree, parents):
        branch = self.model.sessions[session][0]
        assert value.created
        self.model.trees[value.commit] = dict(tree)
        self.model.parents[value.commit] = tuple(parents)
        self.model.heads[branch] = value.commit
        self.model.sessions[session] = (branch, value.commit, dict(tree))

    def clean(self, session):
        _, base, tree = self.model.sessions[session]
        return tree == self.model.trees[base]

    def chosen(self, which):
        """One of the commits, in the order they were made: addresses differ from run to run."""
        return list(self.model.trees)[-1 - which % len(self.model.trees)]

    def behind(self, session):
        branch, base, _ = self.model.sessions[session]
        return self.model.heads[branch] != base

    # -- content ------------------------------------------------------------------------------------------------------

    @rule(session=sessions, name=names)
    def write(self, session, name):
        self.count += 1
        data = str(self.count).encode() * (1 + self.count % 3)
        self.run(lambda: self.engine.buckets.put_bytes(f"B#{session}:/{name}", data))
        self.model.sessions[session][2][name] = data

    @rule(session=sessions, name=names)
    def remove(self, session, name):
        if name in self.model.sessions[session][2]:
            self.run(lambda: self.engine.buckets.rm(f"B#{session}:/{name}"))
            del self.model.sessions[session][2][name]

    # -- versions -----------------------------------------------------------------------------------------------------

    @rule(session=sessions)
    def commit(self, session):
        _, base, tree = self.model.sessions[session]
        make = lambda: self.engine.buckets.commit(f"B#{session}", "m")  # noqa: E731
        if self.clean(session):
            assert not self.engine.run(make).created
        elif self.behind(session):
            self.refused(RefConflict, make)
        else:
            self.committed(session, self.run(make), tree, [base])

    @rule(session=sessions, source=st.sampled_from(["main", "topic"]))
    def merge(self, session, source):
        branch, base, tree = self.model.sessions[session]
        theirs = self.model.heads[source]
        make = lambda: self.engine.buckets.merge(f"B#{session}", source, "merge")  # noqa: E731
        if theirs == self.model.heads[branch] != base and base in self.model.ancestors(theirs):
            merged, clashes = three_way(self.model.trees[base], tree, self.model.trees[theirs])
            if clashes:
                assert set(self.refused(MergeConflict, make).details["paths"]) == clashes
                return
            assert not self.run(make).created
            self.model.sessions[session] = (branch, theirs, merged)
        elif not self.clean(session):
            self.refused(Conflict, make)
        elif theirs in self.model.ancestors(base):
            assert not self.engine.run(make).created
        elif base in self.model.ancestors(theirs):
            if self.behind(session):
                self.refused(RefConflict, make)
                return
            self.run(make)
            self.model.heads[branch] = theirs
            self.model.sessions[session] = (branch, theirs, dict(self.model.trees[theirs]))
        else:
            self.merge_for_real(session, theirs, make)

    def merge_for_real(self, session, theirs, make):
        _, base, tree = self.model.sessions[session]
        bases = self.model.bases(base, theirs)
        if len(bases) != 1:
            return  # criss-cross: its virtual base has tests of its own
        merged, clashes = three_way(self.model.trees[bases.pop()], tree, self.model.trees[theirs])
        if clashes:
            assert set(self.refused(MergeConflict, make).details["paths"]) == clashes
        elif self.behind(session):
            self.refused(RefConflict, make)
        else:
            self.committed(session, self.run(make), merged, [base, theirs])

    @rule(session=sessions, which=st.integers(0, 40), take_back=st.booleans())
    def pick_or_revert(self, session, which, take_back):
        _, base, tree = self.model.sessions[session]
        chosen = self.chosen(which)
        changed, was = self.model.trees[chosen], self.model.first_parent(chosen)
        buckets, where = self.engine.buckets, f"B#{session}"
        if take_back:
            changed, was = was, changed
            make = lambda: buckets.revert(where, str(chosen))  # noqa: E731
        else:
            make = lambda: buckets.cherry_pick(where, str(chosen))  # noqa: E731
        merged, clashes = three_way(was, tree, changed)
        if not self.clean(session):
            self.refused(Conflict, make)
        elif take_back and chosen not in self.model.ancestors(base):
            self.refused(RefNotFound, make)
        elif take_back and not self.model.parents[chosen]:
            return  # the folder of the first commit is not in the model
        elif clashes:
            assert set(self.refused(MergeConflict, make).details["paths"]) == clashes
        elif merged == tree:
            return  # times may still differ
        elif self.behind(session):
            self.refused(RefConflict, make)
        else:
            self.committed(session, self.run(make), merged, [base])

    @rule(session=sessions, which=st.integers(0, 40), hard=st.booleans())
    def reset(self, session, which, hard):
        branch, _, tree = self.model.sessions[session]
        chosen = self.chosen(which)
        make = lambda: self.engine.buckets.reset(f"B#{session}", str(chosen), hard=hard)  # noqa: E731
        if self.behind(session):
            self.refused(RefConflict, make)
            return
        self.run(make)
        self.model.heads[branch] = chosen
        self.model.sessions[session] = (branch, chosen, dict(self.model.trees[chosen]) if hard else tree)

    @rule(session=sessions, onto=st.sampled_from(["main", "topic"]))
    def rebase(self, session, onto):
        branch, base, _ = self.model.sessions[session]
        target = self.model.heads[onto]
        if not self.clean(session) or self.behind(session) or target in self.model.ancestors(base):
            return
        own = self.model.ancestors(base) - self.model.ancestors(target)
        line, at = [], base
        while at in own and len(self.model.parents[at]) == 1:
            line.append(at)
            at = self.model.parents[at][0]
        if len(line) != len(own):
            return  # merges among them: which of their sides comes first is a matter of times
        tree, clashes = dict(self.model.trees[target]), set()
        made = []
        for cid in reversed(line):
            merged, clashes = three_way(self.model.first_parent(cid), tree, self.model.trees[cid])
            if clashes:
                break
            made.append(merged)
            tree = merged
        make = lambda: self.engine.buckets.rebase(f"B#{session}", onto)  # noqa: E731
        if clashes:
            assert set(self.refused(MergeConflict, make).details["paths"]) == clashes
            return
        done = self.run(make)
        log = self.engine.buckets.log(f"B#{session}", limit=done.replayed + 1)
        for entry in reversed(log[: done.replayed]):
            found = self.read(f"B@{entry.cid}")
            assert found in made
            self.model.trees[entry.cid], self.model.parents[entry.cid] = found, entry.parents
        self.model.heads[branch] = done.commit
        self.model.sessions[session] = (branch, done.commit, tree)

    @rule()
    def undo_the_last(self):
        if self.before is not None:
            index, model = self.before
            self.engine.run(lambda: self.engine.buckets.undo(index))
            for cid, tree in self.model.trees.items():
                model.trees.setdefault(cid, tree)
                model.parents.setdefault(cid, self.model.parents[cid])
            self.model, self.before = model, None

    # -- the store ----------------------------------------------------------------------------------------------------

    @rule()
    def collect_garbage(self):
        self.engine.buckets.checkpoint()
        collector = Collector(
            self.engine.blocks, self.engine.state, lambda: self.engine.buckets.roots(self.clock.now_ns),
            links_of=links_of(self.engine.keys.domain_key), key_alive=lambda domain: True,
        )  # fmt: skip
        collector.collect(self.clock.now_ns + 10**15)

    @rule(crash=st.booleans())
    def reopen(self, crash):
        if crash:
            self.engine.abandon()
        else:
            self.engine.close()
        self.engine = Engine(self.folder / "store", self.clock)

    @rule(name=names, source=st.sampled_from(["main", "topic"]))
    def the_history_of_a_path(self, name, source):
        histories = PathHistories(self.folder / "store", self.engine.buckets, False, 30.0)
        found = {entry.cid for entry in histories.log(Location.parse(f"B@{source}:/{name}"), limit=1000).commits}
        wanted = {
            cid
            for cid in self.model.ancestors(self.model.heads[source])
            if all(
                self.model.trees[parent].get(name) != self.model.trees[cid].get(name)
                for parent in self.model.parents[cid]
            )
            and (self.model.parents[cid] or name in self.model.trees[cid])
        }
        # A merge may also keep the later of two times of equal content, which no model of content knows.
        assert wanted <= found
        assert all(len(self.model.parents[cid]) > 1 for cid in found - wanted)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def read(self, ref):
        buckets = self.engine.buckets
        return {
            each.path[1:]: buckets.cat(f"{ref}:{each.path}") for each in buckets.walk(f"{ref}:/") if each.kind == "file"
        }

    @invariant()
    def sessions_and_branches_are_those_of_the_model(self):
        if not hasattr(self, "engine") or not self.model.sessions:
            return
        for session, (branch, base, tree) in self.model.sessions.items():
            status = self.engine.buckets.status(f"B#{session}")
            assert (status.branch, status.head) == (branch, base)
            assert self.read(f"B#{session}") == tree
            assert self.engine.buckets.used("B", session) == (len(tree), sum(map(len, tree.values())))
        for branch, head in self.model.heads.items():
            assert self.read(f"B@{branch}") == self.model.trees[head]


VersionsModel.TestCase.settings = settings(
    max_examples=6, stateful_step_count=30, print_blob=False, deadline=None, suppress_health_check=list(HealthCheck)
)
TestVersionsModel = pytest.mark.slow(VersionsModel.TestCase)
