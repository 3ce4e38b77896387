from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from history_trees import TREES, TRIPLES, Blocks, Model, bare, build, read
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.buckets.diff import diff, same
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.merge import STEPS_MAX, Conflict, ConflictKind, MergeResult, merge_trees
from ipfs_kit.buckets.tree import Tree
from ipfs_kit.errors import InvalidInput, MergeConflict


class Trees:
    def __init__(self, base: Model, ours: Model, theirs: Model) -> None:
        self.blocks = Blocks()
        self.view = self.blocks.view()
        self.base, self.ours, self.theirs = (build(self.view, self.blocks, model) for model in (base, ours, theirs))

    def merge(self, **options: Any) -> MergeResult:
        return merge_trees(self.view, self.blocks.put, self.base, self.ours, self.theirs, **options)

    def merged(self, **options: Any) -> Model:
        return read(self.view, self.blocks, self.merge(**options).require())


def named(result: MergeResult) -> list[tuple[str, str]]:
    return [(conflict.path, conflict.kind.value) for conflict in result.conflicts]


@pytest.mark.slow
@given(TREES, TREES)
@settings(max_examples=60, deadline=None)
def test_merging_what_only_one_side_changed_gives_that_side(base: Model, changed: Model) -> None:
    trees = Trees(base, changed, changed)
    view, put = trees.view, trees.blocks.put
    for ours, theirs in ((changed, changed), (changed, base), (base, changed)):
        one, other = (trees.base if side is base else trees.ours for side in (ours, theirs))
        result = merge_trees(view, put, trees.base, one, other)
        assert result.conflicts == ()
        assert result.root == trees.ours


@pytest.mark.slow
@given(TRIPLES)
@settings(max_examples=200, deadline=None)
def test_merging_is_symmetric_and_its_conflicts_are_mirrored(models: tuple[Model, Model, Model]) -> None:
    trees = Trees(*models)
    one = trees.merge()
    other = merge_trees(trees.view, trees.blocks.put, trees.base, trees.theirs, trees.ours)
    if one.root is None:
        assert other.root is None
    else:
        assert one.root == other.root
    mirrored = [replace(c, ours=c.theirs, theirs=c.ours) for c in other.conflicts]
    assert sorted(one.conflicts, key=_where) == sorted(mirrored, key=_where)


def _where(conflict: Conflict) -> tuple[bytes, ...]:
    return conflict.parts


@pytest.mark.slow
@given(TRIPLES)
@settings(max_examples=150, deadline=None)
def test_a_clean_merge_is_what_merging_entry_by_entry_gives(models: tuple[Model, Model, Model]) -> None:
    trees = Trees(*models)
    result = trees.merge()
    wanted = _model_merge(*models)
    if wanted is None:
        assert result.conflicts
    else:
        # A clean build of the merged model: the root is a pure function of entries and profile.
        assert named(result) == []
        assert result.root == build(trees.view, trees.blocks, wanted)


CLASH = object()


def _model_merge(base: Any, ours: Any, theirs: Any) -> Any:
    """Three-way merge of models by looking at everything; None when anything conflicts."""
    found = _merge(base, ours, theirs)
    return None if _clashes(found) else found


def _clashes(value: Any) -> bool:
    return value is CLASH or (isinstance(value, dict) and any(_clashes(below) for below in value.values()))


def _merge(base: Any, ours: Any, theirs: Any) -> Any:
    if ours == theirs or base == theirs:
        return ours
    if base == ours:
        return theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        first = base if isinstance(base, dict) else {}
        names = sorted(ours.keys() | theirs.keys() | first.keys())
        merged = {name: _merge(first.get(name), ours.get(name), theirs.get(name)) for name in names}
        return {name: value for name, value in merged.items() if value is not None}
    if ours is None or theirs is None:
        kept = theirs if ours is None else ours
        both = isinstance(kept, dict) and isinstance(base, dict)
        return None if both and not _grew(base, kept) else CLASH
    if isinstance(ours, dict) or isinstance(theirs, dict):
        return CLASH
    return _merge_files(base, ours, theirs)


def _grew(base: Model, kept: Model) -> bool:
    for name, value in kept.items():
        before = base.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if _grew(before, value):
                return True
        elif value != before:
            return True
    return False


def _merge_files(base: Any, ours: Any, theirs: Any) -> Any:
    sides = [value if isinstance(value, tuple) else (value, {}) for value in (base, ours, theirs)]
    if isinstance(base, dict) or base is None:
        sides[0] = (None, {})
    content = _pick(*(side[0] for side in sides))
    attrs = {}
    for key in ("mode", "tags"):
        value = _pick(*(side[1].get(key) for side in sides))
        if value is CLASH:
            return CLASH
        if value is not None:
            attrs[key] = value
    if content is CLASH:
        return CLASH
    return (content, attrs) if attrs else content


def _pick(base: Any, ours: Any, theirs: Any) -> Any:
    if ours == theirs or base == theirs:
        return ours
    return theirs if base == ours else CLASH


@pytest.mark.slow
@given(TRIPLES)
@settings(max_examples=100, deadline=None)
def test_steps_turn_ours_into_the_result(models: tuple[Model, Model, Model]) -> None:
    trees = Trees(*models)
    for strategy in (None, "ours", "theirs"):
        result = trees.merge(strategy=strategy)
        if result.root is None:
            assert result.steps == ()
            continue
        tree = Tree(trees.view, trees.blocks.put, trees.ours)
        tree.apply(result.steps)
        assert tree.flush() == result.root


@given(TRIPLES)
@settings(max_examples=100, deadline=None)
def test_a_merge_with_conflicts_writes_nothing(models: tuple[Model, Model, Model]) -> None:
    trees = Trees(*models)
    before = trees.blocks.writes
    result = trees.merge()
    if result.conflicts:
        assert result.root is None
        assert trees.blocks.writes == before
        with pytest.raises(MergeConflict) as caught:
            result.require()
        assert caught.value.details["paths"] == [conflict.path for conflict in result.conflicts]


@given(TRIPLES)
@settings(max_examples=60, deadline=None)
def test_undoing_the_last_change_gives_the_state_before_it(models: tuple[Model, Model, Model]) -> None:
    before, after, _ = models
    trees = Trees(after, after, before)
    assert trees.merge().root == trees.theirs


@given(TRIPLES, st.data())
@settings(max_examples=60, deadline=None)
def test_undoing_at_the_changed_paths_equals_undoing_everything(
    models: tuple[Model, Model, Model], data: st.DataObject
) -> None:
    before, after, _ = models
    trees = Trees(after, after, before)
    paths = {change.parts for change in diff(trees.view, trees.base, trees.theirs, expand=False)}
    assert trees.merge(paths=paths).root == trees.theirs
    some = data.draw(st.sets(st.sampled_from(sorted(paths))) if paths else st.just(set()))
    result = trees.merge(paths=some).require()
    left = {change.parts for change in diff(trees.view, result, trees.theirs, expand=False)}
    assert left <= paths
    assert not any(path[: len(chosen)] == chosen for path in left for chosen in some)


def test_each_kind_of_conflict_is_named_with_its_path() -> None:
    trees = Trees(
        {b"m": b"0", b"d": b"0", b"t": b"0", b"dir": {b"f": b"0", b"g": b"0"}, b"tag": b"0"},
        {b"m": b"1", b"t": {}, b"a": b"1", b"dir": {b"f": b"1", b"g": b"0"}, b"tag": (b"0", {"mode": 1})},
        {b"m": b"2", b"d": b"2", b"t": b"2", b"a": b"2", b"tag": (b"0", {"mode": 2})},
    )
    assert named(trees.merge()) == [
        ("/a", "both_added"),
        ("/d", "modify_delete"),
        ("/dir/f", "modify_delete"),
        ("/m", "both_modified"),
        ("/t", "type_change"),
        ("/tag", "meta"),
    ]


def test_strategies_decide_conflicts_and_keep_what_did_not_conflict() -> None:
    models = ({b"c": b"0", b"x": b"0", b"y": b"0"}, {b"c": b"1", b"x": b"1", b"y": b"0"}, {b"c": b"2", b"x": b"0"})
    trees = Trees(*models)
    assert trees.merged(strategy="ours") == {b"c": b"1", b"x": b"1"}
    assert trees.merged(strategy="theirs") == {b"c": b"2", b"x": b"1"}
    assert named(trees.merge(strategy="theirs")) == [("/c", "both_modified")]


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Trees({}, {}, {}).merge(strategy="best")


def test_a_removed_folder_keeps_what_the_other_side_added_by_conflict_not_by_loss() -> None:
    trees = Trees({b"d": {b"f": b"0"}}, {b"d": {b"f": b"0", b"new": b"1"}}, {})
    assert named(trees.merge()) == [("/d/new", "modify_delete")]
    assert trees.merged(strategy="ours") == {b"d": {b"f": b"0", b"new": b"1"}}
    assert trees.merged(strategy="theirs") == {}


def test_a_folder_emptied_on_one_side_and_removed_on_the_other_is_removed() -> None:
    assert Trees({b"d": {b"f": b"0"}}, {b"d": {}}, {}).merged() == {}


def test_content_and_metadata_changed_apart_are_joined() -> None:
    trees = Trees({b"f": b"0"}, {b"f": (b"0", {"mode": 0o600})}, {b"f": b"1"})
    assert trees.merged() == {b"f": (b"1", {"mode": 0o600})}


def test_tags_are_merged_one_by_one() -> None:
    base = (b"0", {"tags": {"a": "0", "b": "0", "c": "0"}})
    ours = (b"0", {"tags": {"a": "1", "b": "0", "c": "0", "n": "1"}})
    theirs = (b"0", {"tags": {"a": "0", "b": "2"}})
    merged = Trees({b"f": base}, {b"f": ours}, {b"f": theirs}).merged()
    assert merged == {b"f": (b"0", {"tags": {"a": "1", "b": "2", "n": "1"}})}


def test_of_two_new_times_the_later_is_kept_without_conflict() -> None:
    trees = Trees({b"f": b"0"}, {b"f": b"0"}, {b"f": b"0"})

    def at(root: Item, time_ns: int) -> Item:
        item = trees.view.child(root, b"f")
        assert item is not None
        return trees.view.edit(root, [(b"f", replace(item, mtime_ns=time_ns))], trees.blocks.put)

    trees.ours, trees.theirs = at(trees.ours, 9), at(trees.theirs, 5)
    merged = trees.view.child(trees.merge().require(), b"f")
    assert merged is not None
    assert merged.mtime_ns == 9


def test_attributes_of_a_folder_merge_beside_its_content() -> None:
    trees = Trees({b"d": {b"f": b"0"}}, {b"d": {b"f": b"0"}}, {b"d": {b"f": b"1"}})
    folder = trees.view.child(trees.ours, b"d")
    assert folder is not None
    tagged = replace(folder, attrs={"tags": {"k": "v"}})
    trees.ours = trees.view.edit(trees.ours, [(b"d", tagged)], trees.blocks.put)
    result = trees.merge()
    merged = trees.view.child(result.require(), b"d")
    assert merged is not None
    assert merged.attrs == {"tags": {"k": "v"}}
    assert read(trees.view, trees.blocks, result.require()) == {b"d": {b"f": b"1"}}
    assert [step.path for step in result.steps] == [(b"d",)]


def test_without_a_base_equal_entries_agree_and_others_conflict() -> None:
    trees = Trees({}, {b"d": {b"f": b"1", b"o": b"o"}}, {b"d": {b"f": b"1", b"t": b"t"}})
    result = merge_trees(trees.view, trees.blocks.put, None, trees.ours, trees.theirs)
    assert read(trees.view, trees.blocks, result.require()) == {b"d": {b"f": b"1", b"o": b"o", b"t": b"t"}}


def test_undo_at_a_path_whose_folder_is_gone_is_a_conflict() -> None:
    trees = Trees({b"d": {b"f": b"1"}}, {}, {b"d": {b"f": b"0"}})
    assert named(trees.merge(paths=[(b"d", b"f")])) == [("/d", "modify_delete")]


def test_folders_without_index_merge_by_their_links() -> None:
    trees = Trees({b"d": {b"a": b"0", b"b": b"0"}}, {b"d": {b"a": b"1", b"b": b"0"}}, {b"d": {b"a": b"0", b"b": b"2"}})
    result = merge_trees(trees.view, trees.blocks.put, bare(trees.base), bare(trees.ours), bare(trees.theirs))
    assert read(trees.view, trees.blocks, result.require()) == {b"d": {b"a": b"1", b"b": b"2"}}


def test_a_merge_with_many_steps_is_one_step_at_the_root() -> None:
    many = {b"%05d" % i: b"0" for i in range(STEPS_MAX + 200)}
    trees = Trees(many, {**many, b"own": b"1"}, dict.fromkeys(many, b"1"))
    result = trees.merge()
    assert [step.path for step in result.steps] == [()]
    assert result.steps[0].after == result.root


def test_conflicts_beyond_the_limit_are_cut_and_said_to_be() -> None:
    many = [b"%05d" % i for i in range(1_200)]
    result = Trees({}, dict.fromkeys(many, b"1"), dict.fromkeys(many, b"2")).merge()
    assert len(result.conflicts) == 1_000
    assert result.truncated
    assert result.root is None


def test_a_merge_reads_only_what_theirs_changed() -> None:
    model: Model = {b"%02d" % i: {b"%02d" % j: b"%d" % (i * j) for j in range(20)} for i in range(40)}
    ours = {**model, b"00": {b"mine": b"1"}}
    theirs = {**model, b"07": {**model[b"07"], b"11": b"changed"}}
    trees = Trees(model, ours, theirs)
    trees.blocks.reads = 0
    fresh = trees.blocks.view()
    result = merge_trees(fresh, trees.blocks.put, trees.base, trees.ours, trees.theirs)
    assert result.conflicts == ()
    assert [step.path for step in result.steps] == [(b"07",)]
    assert trees.blocks.reads <= 12


def test_entries_count_as_equal_when_one_side_has_no_index() -> None:
    trees = Trees({b"d": {b"f": b"1"}}, {}, {})
    folder = trees.view.child(trees.base, b"d")
    assert same(folder, bare(folder) if folder is not None else None)
    assert ConflictKind("meta") is ConflictKind.META
