"""``dataclass`` whose methods are compiled when first used.

The standard decorator writes and compiles up to six functions for every class, half a millisecond each class; the
command imports about ninety such classes and uses a dozen. Here a class gets its fields and slots at once and stand-ins
for its methods, which put the standard library's own in their place on the first call. Everything else is standard:
``fields``, ``replace``, ``asdict``, pickling, matching, ``FrozenInstanceError``.

Classes with bases that are dataclasses, with methods of their own among those generated, with ``ClassVar``, ``InitVar``
or ``KW_ONLY``, and options other than ``frozen`` and ``slots`` go straight to the standard decorator.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, **options):
        """See ``dataclasses.dataclass``."""
        return (lambda made: _made(made, options)) if cls is None else _made(cls, options)


__all__ = ["dataclass"]

_GENERATED = (
    "__init__",
    "__repr__",
    "__eq__",
    "__hash__",
    "__setattr__",
    "__delattr__",
    "__getstate__",
    "__setstate__",
)
_SPECIAL = ("ClassVar", "InitVar", "KW_ONLY")


def _made(cls: type, options: dict[str, Any]) -> type:
    annotations = inspect.get_annotations(cls)
    if (
        not options.keys() <= {"frozen", "slots"}
        or any(name in cls.__dict__ for name in _GENERATED)
        or any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:])
        or any(not isinstance(kind, str) or any(word in kind for word in _SPECIAL) for kind in annotations.values())
    ):
        return dataclasses.dataclass(**options)(cls)
    frozen = bool(options.get("frozen"))
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=bool(options.get("slots")))(cls)
    params = made.__dataclass_params__
    params.init = params.repr = params.eq = True
    params.frozen = frozen
    _stand_in(made, frozen)
    return made  # type: ignore[no-any-return]


def _stand_in(cls: Any, frozen: bool) -> None:
    """Give a class methods that replace themselves by the generated ones."""

    def complete() -> None:
        real = _generated(cls, frozen)
        for name in ("__init__", "__repr__", "__eq__", "__hash__"):
            setattr(cls, name, real.__dict__[name])

    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807 - installed under this name
        complete()
        cls.__init__(self, *args, **named)

    def __repr__(self: Any) -> str:  # noqa: N807
        complete()
        return str(cls.__repr__(self))

    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        complete()
        return cls.__eq__(self, other)

    def __hash__(self: Any) -> int:  # noqa: N807
        complete()
        return int(cls.__hash__(self))

    cls.__init__, cls.__repr__, cls.__eq__ = __init__, __repr__, __eq__
    cls.__hash__ = __hash__ if frozen else None
    if frozen:
        _freeze(cls)


def _freeze(cls: Any) -> None:
    names = cls.__dataclass_fields__.keys()

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    cls.__setattr__, cls.__delattr__ = __setattr__, __delattr__
    if "__slots__" in cls.__dict__:
        cls.__getstate__, cls.__setstate__ = _getstate, _setstate


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


def _generated(cls: Any, frozen: bool) -> type:
    """A class of the standard decorator with the same fields, to take its methods from."""
    namespace: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": ""}
    if hasattr(cls, "__post_init__"):
        namespace["__post_init__"] = cls.__post_init__
    namespace["__annotations__"] = {}
    for field in dataclasses.fields(cls):
        namespace["__annotations__"][field.name] = field.type
        same: dict[str, Any] = {"init": field.init, "repr": field.repr, "hash": field.hash, "compare": field.compare}
        if field.default is not dataclasses.MISSING:
            same["default"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            same["default_factory"] = field.default_factory
        namespace[field.name] = dataclasses.field(**same, kw_only=bool(field.kw_only))
    return dataclasses.dataclass(frozen=frozen)(type(cls.__name__, (), namespace))
