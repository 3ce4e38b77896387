"""The catalogue: every operation declared once; command line, Python, MCP and HTTP are views of it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger.streams import EVENT_STREAMS
from ipfs_kit.operations.arguments import Param, json_schema, params_of
from ipfs_kit.operations.places import Places

Handler = TypeVar("Handler", bound=Callable[..., Any])

TOOLSETS = (
    "store",
    "block",
    "dag",
    "car",
    "pin",
    "bucket",
    "files",
    "versions",
    "dataset",
    "search",
    "metadata",
    "ledger",
    "stream",
    "audit",
    "journal",
    "vfs_journal",
    "observer",
    "logs",
    "health",
    "telemetry",
    "system",
)
"""Modules of ``ipfs_kit.operations.toolsets``, in the order users meet them."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "bucket": ("bucket", "bucket_catalogue", "bucket_settings", "bucket_bundle"),
    "versions": ("versions", "versions_rewrite", "versions_rules", "versions_folders", "versions_share"),
    "dataset": ("dataset", "dataset_rows", "dataset_sql", "dataset_profile"),
    "ledger": ("ledger", "follow", "retention", "erase", "mirror", "witness", "queries", "publication", "export"),
    "stream": ("stream", "settings"),
    "audit": ("audit", "audit_reports", "audit_watch"),
    "journal": ("journal", "journal_watch"),
    "logs": ("logs", "logs_versions"),
    "metadata": ("metadata", "metadata_peers", "metadata_ai"),
    "observer": ("observer", "observer_figures"),
    "telemetry": ("telemetry", "telemetry_shown", "telemetry_otlp"),
}
"""Modules that hold a toolset's operations, where they are several."""


class Mode(StrEnum):
    """What an operation may change; decides its log and its acknowledgement."""

    READ = "read"
    """Changes nothing: recorded in the ``bulk`` log, acknowledged ``buffered``."""
    WRITE = "write"
    """Changes state: recorded in the ``main`` log, acknowledged ``fsync``."""


class Surface(StrEnum):
    """Where a call came from."""

    PYTHON = "python"
    CLI = "cli"
    MCP = "mcp"
    HTTP = "http"
    SYSTEM = "system"


LOCAL_SURFACES = frozenset({Surface.PYTHON, Surface.CLI, Surface.SYSTEM})
"""Surfaces whose caller may name paths on this machine."""


@dataclass(frozen=True)
class Operation:
    """One operation: what it is called, takes, may change and how it is undone.

    Args:
        name: ``toolset.verb``.
        handler: ``(ctx, …) -> result``; its signature declares the arguments.
        mode: Whether it changes state.
        scope: Permission a principal needs.
        destructive: Removes something that the operation itself cannot bring back without ``undo``.
        idempotent: Repeating it with the same arguments changes nothing more.
        undo: ``merge`` (three-way merge of the recorded effect), ``ref`` (compare-and-swap back), ``inverse`` (the
            opposite operation) or None.
        irreversible: Why there is no undo; set exactly when a writing operation has none.
        external: Its effect lies outside ``state.db``: an intent is recorded before it and an outcome after.
        target: Names the object for the record and for authorisation, from the bound arguments.
        aliases: Published names that this operation serves.
        places: What it touches; an operation that declares nothing is refused to every narrowed scope.
        quick: A read of bounded local work, a few milliseconds at most: a surface may run it without a thread.
    """

    name: str
    handler: Callable[..., Any]
    mode: Mode
    scope: str
    destructive: bool = False
    idempotent: bool = False
    undo: str | None = None
    irreversible: str | None = None
    external: bool = False
    target: Callable[[Mapping[str, Any]], str | None] | None = None
    aliases: tuple[str, ...] = field(default=())
    places: Places | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        toolset, _, verb = self.name.partition(".")
        if toolset not in TOOLSETS or not verb:
            raise InvalidInput(
                f"operation name {self.name!r} must be TOOLSET.VERB with a toolset of {', '.join(TOOLSETS)}"
            )
        if self.mode is Mode.WRITE and (self.undo is None) == (self.irreversible is None):
            raise InvalidInput(f"operation {self.name} must declare either undo or irreversible")
        if not inspect.getdoc(self.handler):
            raise InvalidInput(f"operation {self.name} needs a docstring")

    @property
    def toolset(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]

    @cached_property
    def stream(self) -> str:
        """The family its calls belong to: its toolset, unless events have taken that name."""
        return "monitoring" if self.toolset in EVENT_STREAMS else self.toolset

    @property
    def verb(self) -> str:
        """The part of the name after the dot."""
        return self.name.partition(".")[2]

    @property
    def tool_name(self) -> str:
        """The name as an MCP tool: letters, digits and underscores."""
        return self.name.replace(".", "_")

    @property
    def log(self) -> str:
        """The log that records it."""
        return "bulk" if self.mode is Mode.READ else "main"

    @cached_property
    def params(self) -> tuple[Param, ...]:
        """Its arguments."""
        return params_of(self.handler)

    @cached_property
    def is_local(self) -> bool:
        """Whether an argument names a path on the machine it runs on."""
        return any(param.arg.local for param in self.params)

    @cached_property
    def summary(self) -> str:
        """First sentence of its documentation."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @cached_property
    def description(self) -> str:
        """Its documentation before the argument list."""
        text = inspect.getdoc(self.handler) or ""
        return text.partition("\nArgs:")[0].partition("\nReturns:")[0].partition("\nRaises:")[0].strip()

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of its arguments."""
        return json_schema(self.params)

    def offered_to(self, surface: Surface) -> bool:
        """Whether a surface may call it."""
        return surface in LOCAL_SURFACES or not self.is_local


_declared: dict[str, Operation] = {}


def operation(name: str, mode: Mode, scope: str, **options: Any) -> Callable[[Handler], Handler]:
    """Declare an operation by decorating its handler.

    Args:
        name: ``toolset.verb``.
        mode: Whether it changes state.
        scope: Permission a principal needs.
        options: The other fields of ``Operation``.

    Returns:
        A decorator that registers the handler and returns it unchanged.
    """

    def declare(handler: Handler) -> Handler:
        if name in _declared:
            raise InvalidInput(f"operation {name} is declared twice")
        _declared[name] = Operation(name, handler, mode, scope, **options)
        return handler

    return declare


class Catalogue(Mapping[str, Operation]):
    """Operations by name and alias; a toolset's module is imported when first asked for."""

    def __init__(self) -> None:
        self._all_loaded = False
        self._aliases: dict[str, str] = {}

    def __getitem__(self, name: str) -> Operation:
        found = _declared.get(name)
        if found is None and (toolset := name.partition(".")[0]) in TOOLSETS:
            self._load(toolset)
            found = _declared.get(name)
        if found is None:
            self._load_all()
            found = _declared.get(self._aliases.get(name, name))
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(sorted(_declared, key=lambda name: (TOOLSETS.index(name.partition(".")[0]), name)))

    def __len__(self) -> int:
        self._load_all()
        return len(_declared)

    def toolset(self, name: str) -> list[Operation]:
        """Operations of one toolset, in declaration order."""
        self._load(name)
        return [found for found in _declared.values() if found.toolset == name]

    def _load(self, toolset: str) -> None:
        for module in PARTS.get(toolset, (toolset,)):
            importlib.import_module(f"ipfs_kit.operations.toolsets.{module}")

    def _load_all(self) -> None:
        if self._all_loaded:
            return
        for toolset in TOOLSETS:
            self._load(toolset)
        for found in _declared.values():
            for alias in (*found.aliases, found.tool_name):
                self._aliases[alias] = found.name
        self._all_loaded = True


CATALOGUE = Catalogue()
