"""Models and datasets among the records: found by what they are for, and by what they have in common.

A record is a model or a dataset when it says so: in ``properties.type`` or ``properties.resource_type``, by a tag, and for
models by an extension that only models have. Attributes such as framework or task are looked for where people write them, in
properties and tags, without regard to case and to whether words are joined by spaces, dashes or underscores.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, InvalidCid, InvalidInput, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.search.metadata.conditions import SAME, Clause, Condition, Either
from ipfs_kit.search.metadata.projection import Progress

if TYPE_CHECKING:
    from ipfs_kit.search.metadata.index import MetadataIndex

KINDS: Final = ("model", "dataset")
MODEL_EXTENSIONS: Final = (
    "safetensors", "onnx", "gguf", "ggml", "pt", "pth", "ckpt", "tflite", "pb", "h5", "keras", "mlmodel", "xgb", "engine",
)  # fmt: skip
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "framework": ("properties.framework", "properties.library", "tags"),
    "task": ("properties.task", "properties.tasks", "properties.task_type", "properties.pipeline_tag", "tags"),
    "domain": ("properties.domain", "tags"),
    "architecture": ("properties.architecture", "properties.model_type", "tags"),
    "language": ("properties.language", "tags"),
    "license": ("metadata.license", "properties.license"),
    "format": ("properties.format", "extension", "mime_type"),
    "dataset": ("properties.dataset", "properties.dataset_id", "properties.trained_on"),
    "creator": ("metadata.creator", "properties.author"),
    "source": ("metadata.source",),
}
"""Where an attribute is looked for."""
ROWS: Final = ("rows", "num_rows", "row_count", "num_examples")
"""Properties that tell how many rows a dataset has."""
NAMES: Final = ("properties.model_id", "properties.dataset_id", "properties.name", "metadata.title", "filename")
"""Where a model is called by a name."""
WEIGHTS: Final[Mapping[str, float]] = {
    "architecture": 2.0, "task": 2.0, "framework": 1.0, "tags": 1.0, "dataset": 1.0, "language": 0.5, "size": 0.5,
    "license": 0.25,
}  # fmt: skip
ASKED_MAX: Final = 64
"""Tags, and values of attributes, of one question."""
_SEPARATORS: Final = re.compile(r"[\s_-]+")


@dataclass(frozen=True, slots=True)
class Match:
    """A record found, and why.

    Args:
        record: The record.
        score: Share of what was asked for that it has, by weight, above 0 to 1.
        matched: What it has of it.
    """

    record: dict[str, Any]
    score: float
    matched: list[str]


def of_kind(kind: str) -> Either:
    """What a record says when it is of a kind.

    Raises:
        InvalidInput: There is no such kind.
    """
    if kind not in KINDS:
        raise InvalidInput(f"there is no kind {kind[:40]!r} of resource: use one of {', '.join(KINDS)}")
    words = (kind, f"{kind}s", f"ml-{kind}", f"ai-{kind}")
    conditions = [
        Condition(field, key, SAME, form)
        for field, key in (("properties", "type"), ("properties", "resource_type"), ("tags", None))
        for word in words
        for form in _forms(word)
    ]
    if kind == "model":
        conditions.append(Condition("extension", None, "in", MODEL_EXTENSIONS))
    return Either(tuple(conditions))


def wanted(attributes: Mapping[str, Any], tags: Sequence[str] = ()) -> list[Clause]:
    """The clauses that records with some attributes meet.

    Args:
        attributes: Values by attribute; a list of values stands for any of them. ``min_size``, ``max_size``, ``min_rows``
            and ``max_rows`` take numbers; a name without a place of its own is a property.
        tags: All of these.

    Raises:
        InvalidInput: A value is of the wrong kind.
    """
    asked = len(tags) + sum(len(value) if isinstance(value, list | tuple | set) else 1 for value in attributes.values())
    if asked > ASKED_MAX:
        raise BudgetExceeded(f"a question names at most {ASKED_MAX} tags and values of attributes, this one {asked}")
    clauses: list[Clause] = [Condition("tags", None, SAME, str(tag).casefold()) for tag in tags]
    for name, value in attributes.items():
        if value is None:
            continue
        if name in ("min_size", "max_size", "min_rows", "max_rows"):
            clauses.append(_bound(name, value))
        else:
            values = value if isinstance(value, list | tuple | set) else [value]
            places = PLACES.get(name, (f"properties.{name}",))
            clauses.append(Either(tuple(each for item in values for each in _at(places, item))))
    return clauses


def _bound(name: str, value: Any) -> Clause:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1 << 63:
        raise InvalidInput(f"{name} takes a number")
    operator = ">=" if name.startswith("min") else "<="
    if name.endswith("size"):
        return Condition("size_bytes", None, operator, value)
    return Either(tuple(Condition("properties", key, operator, value) for key in ROWS))


def _at(places: Sequence[str], value: Any) -> Iterator[Condition]:
    if not isinstance(value, str | int | float):
        raise InvalidInput("an attribute is text, a number, or a list of them")
    for place in places:
        field, _, key = place.partition(".")
        for form in _forms(str(value)):
            yield Condition(field, key or None, SAME, form)


def _forms(text: str) -> list[str]:
    """A text in lower case with its words joined in each usual way."""
    parts = _SEPARATORS.split(text.strip().casefold())
    return list(dict.fromkeys([text.strip().casefold(), *(joint.join(parts) for joint in (" ", "-", "_"))]))


def find(
    index: MetadataIndex, kind: str | None, attributes: Mapping[str, Any], tags: Sequence[str], text: str | None, limit: int,
    progress: Progress | None = None,
) -> list[Match]:  # fmt: skip
    """Models and datasets that have everything asked for; the most used first.

    Args:
        index: The index.
        kind: ``model`` or ``dataset``; None for both.
        attributes: As in ``wanted``.
        tags: All of these.
        text: Words that they hold too.
        limit: At most so many.
        progress: Told of rows read when the index is made anew.
    """
    either = of_kind(kind) if kind else Either(tuple(c for each in KINDS for c in of_kind(each).conditions))
    clauses = [either, *wanted(attributes, tags)]
    told = [*(name for name, value in attributes.items() if value is not None), *(f"tag {tag}" for tag in tags)]
    if text:
        rows, _ = index.search(text, None, clauses, None, limit, 0, progress)
        return [Match(row, 1.0, [*told, "text"]) for row in rows]
    best = _largest(index.every(clauses, None, progress), lambda row: (row["access_count"] or 0, row["cid"]), limit)
    return [Match(row, 1.0, told) for row in best]


def datasets_for(
    index: MetadataIndex, task: str, attributes: Mapping[str, Any], limit: int, progress: Progress | None = None
) -> list[Match]:
    """Datasets for a task: those that name it as their task before those that only bear it as a tag, larger ones first."""
    if not task.strip():
        raise InvalidInput("a task is needed, for example text-classification")
    clauses = [of_kind("dataset"), *wanted({"task": task, **attributes})]
    others = [name for name, value in attributes.items() if value is not None]

    def stated(row: dict[str, Any]) -> bool:
        return bool(set(_forms(task)) & set(_values(row, PLACES["task"][:-1])))

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        return stated(row), _rows(row), row["cid"]

    best = _largest(index.every(clauses, None, progress), rank, limit)
    return [
        Match(row, 1.0 if stated(row) else 0.5, ["task" if stated(row) else "task as a tag", *others]) for row in best
    ]


def similar_models(
    index: MetadataIndex, model: str, criteria: Mapping[str, Any] | Sequence[str] | None, limit: int,
    progress: Progress | None = None,
) -> list[Match]:  # fmt: skip
    """Models that have most in common with one, by weight.

    Args:
        index: The index.
        model: Its CID, or what it is called: ``properties.model_id``, ``properties.name``, title or file name.
        criteria: Weight by attribute, or attributes of equal weight; those of ``WEIGHTS`` when left out.
        limit: At most so many.
        progress: Told of rows read when the index is made anew.

    Raises:
        NotFound: There is no such model.
        InvalidInput: A criterion is unknown or its weight no positive number.
    """
    weights = _weights(criteria)
    source = _model(index, model, progress)
    theirs = {name: _attribute(source, name) for name in weights}
    known = {name: value for name, value in theirs.items() if value}
    whole = sum(weights[name] for name in known)
    shared = [clause for name in known for clause in _sharing(source, name)]
    if not shared:
        return []
    clauses: list[Clause] = [of_kind("model"), Either(tuple(shared))]

    def matches() -> Iterator[Match]:
        for row in index.every(clauses, None, progress):
            if row["cid"] == source["cid"]:
                continue
            parts = {name: _likeness(name, value, _attribute(row, name)) for name, value in known.items()}
            score = sum(weights[name] * part for name, part in parts.items()) / whole
            if score > 0:
                yield Match(row, round(score, 6), [name for name, part in parts.items() if part > 0])

    return heapq.nsmallest(limit, matches(), key=lambda match: (-match.score, match.record["cid"]))


def _weights(criteria: Mapping[str, Any] | Sequence[str] | None) -> dict[str, float]:
    if not criteria:
        return dict(WEIGHTS)
    given = dict(criteria) if isinstance(criteria, Mapping) else dict.fromkeys(criteria, True)
    found = {}
    for name, value in given.items():
        if name not in WEIGHTS:
            raise InvalidInput(f"models are compared by {', '.join(WEIGHTS)}, not by {str(name)[:40]!r}")
        if value is False or value is None:
            continue
        weight = WEIGHTS[name] if value is True else value
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
            raise InvalidInput(f"the weight of {name} must be a positive number, true or false")
        found[name] = float(weight)
    if not found:
        raise InvalidInput("name at least one thing that models are compared by")
    return found


def _model(index: MetadataIndex, model: str, progress: Progress | None) -> dict[str, Any]:
    try:
        found = index.get(CID.parse(model))
    except InvalidCid:
        named = Either(tuple(_named(model)))
        found = next(index.every([named, of_kind("model")], None, progress), None)
    if found is None:
        raise NotFound(f"no record of a model {model[:100]!r}: give its CID, model_id, name, title or file name")
    return found


def _named(name: str) -> Iterator[Condition]:
    for place in NAMES:
        field, _, key = place.partition(".")
        yield Condition(field, key or None, "==", name)


def _values(row: dict[str, Any], places: Sequence[str]) -> list[str]:
    """What a record says at some places, in lower case."""
    found = []
    for place in places:
        field, _, key = place.partition(".")
        value = row[field].get(key) if key else row[field]
        found += [each.casefold() for each in (value if isinstance(value, list) else [value]) if each]
    return found


def _attribute(row: dict[str, Any], name: str) -> Any:
    if name == "size":
        return row["size_bytes"]
    if name == "tags":
        return {tag.casefold() for tag in row["tags"]}
    # A tag may stand for anything, so of two records only what both name as the attribute counts.
    return {form for value in _values(row, [p for p in PLACES[name] if p != "tags"]) for form in _forms(value)}


def _sharing(source: dict[str, Any], name: str) -> Iterator[Condition]:
    """Conditions of which a record that shares an attribute meets one."""
    if name == "tags":
        yield from (Condition("tags", None, SAME, tag.casefold()) for tag in source["tags"])
    elif name != "size":
        for value in _values(source, [place for place in PLACES[name] if place != "tags"]):
            yield from _at([place for place in PLACES[name] if place != "tags"], value)


def _likeness(name: str, mine: Any, theirs: Any) -> float:
    if not theirs:
        return 0.0
    if name == "size":
        return float(min(mine, theirs) / max(mine, theirs))
    if name == "tags":
        return len(mine & theirs) / len(mine | theirs)
    return 1.0 if mine & theirs else 0.0


def _rows(row: dict[str, Any]) -> float:
    for key in ROWS:
        try:
            return float(row["properties"][key])
        except (KeyError, ValueError):
            continue
    return -1.0


def _largest(rows: Iterator[dict[str, Any]], rank: Callable[[dict[str, Any]], Any], limit: int) -> list[dict[str, Any]]:
    return heapq.nlargest(limit, rows, key=rank)
