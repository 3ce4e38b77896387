"""Every published module, class, method, field and word is there as it was published (``signatures.txt``)."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PUBLISHED = Path(__file__).with_name("signatures.txt").read_text(encoding="utf-8")
PLACES = {"storage_path", "log_dir", "base_path", "stats_dir", "output_dir", "metrics_path"}
"""Which folder is meant when none is given is ours to say: the default store, not a shared folder under /tmp."""


def wanted() -> Iterator[Any]:
    """Module, owner and text of every published signature."""
    for section in re.split(r"(?m)^## ", PUBLISHED)[1:]:
        name, _, body = section.partition("\n")
        module = "ipfs_kit_py." + name.strip().replace("/", ".")
        owner: str | None = None
        for line in body.splitlines():
            if line.startswith("functions: "):
                for text in calls(line.removeprefix("functions: ")):
                    yield pytest.param(module, None, text, id=f"{name}:{text.split('(')[0]}")
            elif line.startswith("  enum "):
                yield pytest.param(module, None, line.strip(), id=f"{name}:{line.split()[1]}")
            elif line.startswith("- "):
                owner = re.split(r"[ (]", line[2:])[0]
                yield pytest.param(module, None, line[2:], id=f"{name}:{owner}")
            elif line.strip():
                for text in calls(line):
                    yield pytest.param(module, owner, text, id=f"{name}:{owner}.{text.split('(')[0].split()[-1]}")


def calls(line: str) -> list[str]:
    return [each.strip() for each in re.split(r";\s+(?=[\w ]+\()", line.strip()) if each.strip()]


def parsed(text: str) -> tuple[bool, str, ast.arguments]:
    is_async, text = text.startswith("async "), text.removeprefix("async ")
    (node,) = ast.parse(f"def {text}: ...").body
    assert isinstance(node, ast.FunctionDef)
    return is_async, node.name, node.args


def literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...  # an expression: that there is a default is all that is compared


def compare(published: ast.arguments, found: inspect.Signature, what: str) -> None:
    ours = [each for each in found.parameters.values() if each.name not in ("self", "cls")]
    names = [each.arg for each in published.args if each.arg not in ("self", "cls")]
    free = [each.name for each in ours if each.kind is each.VAR_KEYWORD]
    plain = [each for each in ours if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    assert [each.name for each in plain][: len(names)] == names, f"{what}: arguments are {[each.name for each in ours]}"
    assert bool(published.kwarg) <= bool(free), f"{what} takes further keywords"
    for extra in plain[len(names) :]:
        assert extra.default is not inspect.Parameter.empty, f"{what}: {extra.name} must not be required"
    defaults = dict(zip(names[::-1], published.defaults[::-1], strict=False))
    for parameter in plain[: len(names)]:
        given = defaults.get(parameter.name)
        if given is None:
            continue  # published without a default: ours may have one
        assert parameter.default is not inspect.Parameter.empty, f"{what}: {parameter.name} has a default"
        value = literal(given)
        if value is not ... and not (parameter.name in PLACES and parameter.default is None):
            assert parameter.default == value, f"{what}: {parameter.name}={parameter.default!r}, published {value!r}"


@pytest.mark.parametrize(("module", "owner", "text"), list(wanted()))
def test_what_was_published_is_there(module: str, owner: str | None, text: str) -> None:
    space: Any = importlib.import_module(module)
    if owner is not None:
        space = getattr(space, owner)
    if text.startswith("enum "):
        name, _, members = text.removeprefix("enum ").partition(" ")
        kind = getattr(space, name)
        assert issubclass(kind, enum.Enum)
        for each in re.findall(r"(\w+)='([^']*)'", members):
            assert (each[0], kind[each[0]].value) == each
        return
    fields = re.match(r"(\w+) fields: (.*)", text)
    if fields:
        compare(parsed(f"{fields[1]}({fields[2]})")[2], inspect.signature(getattr(space, fields[1])), fields[1])
        return
    is_async, name, arguments = parsed(text)
    found = getattr(space, name)
    assert inspect.iscoroutinefunction(found) == is_async
    compare(arguments, inspect.signature(found), f"{owner or module}.{name}")


def test_the_list_covers_every_published_module_there_is() -> None:
    import ipfs_kit_py

    root = Path(ipfs_kit_py.__file__).parent
    there = {
        str(path.relative_to(root).with_suffix(""))
        for path in root.rglob("*.py")
        if not any(part.startswith("_") for part in path.relative_to(root).with_suffix("").parts)
    }
    assert there == set(re.findall(r"(?m)^## (\S+)$", PUBLISHED))
