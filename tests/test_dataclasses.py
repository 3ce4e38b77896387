"""The dataclass whose methods are compiled at first use behaves as the standard one."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from typing import Any, ClassVar

import pytest

from ipfs_kit._dataclasses import dataclass as lazy


def shapes(decorator: Any) -> dict[str, type]:
    @decorator(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 2
        tags: list[str] = dataclasses.field(default_factory=list, hash=False)

    @decorator
    class Open:
        name: str
        size: int = dataclasses.field(default=0, compare=False)

    @decorator(frozen=True)
    class Checked:
        low: int
        high: int
        width: int = dataclasses.field(init=False, default=0)

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")
            object.__setattr__(self, "width", self.high - self.low)

    @decorator(slots=True)
    class Named:
        a: int
        b: int = dataclasses.field(default=1, kw_only=True, repr=False)

    @decorator(frozen=True)
    class Counted:
        count: ClassVar[int] = 3
        x: int = 0

    return {cls.__name__: cls for cls in (Point, Open, Checked, Named, Counted)}


OURS, THEIRS = shapes(lazy), shapes(dataclasses.dataclass)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Point", (1,), {}),
    ("Point", (1, 5), {"tags": ["t"]}),
    ("Point", (), {}),
    ("Point", (1, 2, [], 4), {}),
    ("Open", ("n",), {"size": 4}),
    ("Open", ("n",), {"unknown": 4}),
    ("Checked", (1, 9), {}),
    ("Checked", (9, 1), {}),
    ("Named", (1,), {"b": 2}),
    ("Named", (1, 2), {}),
    ("Counted", (7,), {}),
]


def outcome(make: Any) -> Any:
    try:
        return make()
    except (TypeError, ValueError, AttributeError, dataclasses.FrozenInstanceError) as exc:
        return type(exc), str(exc)


def shown(classes: dict[str, type], name: str, args: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """Everything a caller can see of one instance, each part by itself."""
    cls: Any = classes[name]
    one = outcome(lambda: cls(*args, **named))
    if isinstance(one, tuple):
        return [one]
    field = dataclasses.fields(cls)[0].name
    return [
        repr(one),
        one == cls(*args, **named),
        one != cls(*args, **named),
        one == object(),
        outcome(lambda: hash(one) == hash(cls(*args, **named))),
        outcome(lambda: setattr(one, field, 8)),
        outcome(lambda: delattr(one, field)),
        dataclasses.asdict(cls(*args, **named)),
        dataclasses.astuple(cls(*args, **named)),
        [(each.name, each.init, each.kw_only, each.compare) for each in dataclasses.fields(cls)],
        repr(copy.copy(cls(*args, **named))),
        repr(copy.deepcopy(cls(*args, **named))),
        outcome(lambda: repr(dataclasses.replace(cls(*args, **named), **{field: 0}))),
        cls.__match_args__,
    ]


@pytest.mark.parametrize(("name", "args", "named"), CALLS)
def test_every_instance_shows_what_the_standard_one_shows(
    name: str, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    assert shown(OURS, name, args, named) == shown(THEIRS, name, args, named)


@lazy(frozen=True, slots=True)
class Pickled:
    x: int
    y: str = "y"


def test_instances_pickle() -> None:
    assert pickle.loads(pickle.dumps(Pickled(3))) == Pickled(3)


def test_first_uses_at_once_agree() -> None:
    classes = shapes(lazy)
    found: list[Any] = []
    gate = threading.Barrier(8)

    def use() -> None:
        gate.wait(10)
        found.append(repr(classes["Point"](1)))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {repr(THEIRS["Point"](1))}
