"""The error tree: every class has its own stable kind and every kind its place on each surface."""

from __future__ import annotations

from ipfs_kit import errors
from ipfs_kit.errors import SURFACE_CODES, ErrorKind, KitError


def classes() -> list[type[KitError]]:
    return [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, KitError) and v is not KitError]


def test_every_kind_has_one_code_on_each_surface() -> None:
    assert set(SURFACE_CODES) == set(ErrorKind)
    assert all(0 < code.exit < 256 and 400 <= code.http < 600 and code.mcp < 0 for code in SURFACE_CODES.values())


def test_every_class_has_a_kind_of_its_own_and_every_kind_a_class() -> None:
    kinds = [cls.kind for cls in classes()]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == set(ErrorKind)


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert all(cls.__name__ in (errors.__doc__ or "") for cls in classes())


def test_groups_are_what_standard_handlers_expect() -> None:
    assert issubclass(errors.NotFound, KeyError)
    assert issubclass(errors.InvalidInput, ValueError)
    assert str(errors.PathNotFound("no /a in bucket b", path="/a")) == "no /a in bucket b"
    assert errors.PathNotFound("x", path="/a").details == {"path": "/a"}
