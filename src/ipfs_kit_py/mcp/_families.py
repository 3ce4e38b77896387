"""Command families of the published server: which operation serves each action, and which part brings the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ipfs_kit import InvalidInput

Arguments = dict[str, Any]
Served = tuple[str, Callable[[Arguments], Arguments]]

CONFIG = "mcp-config"
"""Bucket of the settings made by ``config set``: one file a key, versioned and undoable; made at the first set."""


def renamed(**names: str) -> Callable[[Arguments], Arguments]:
    """Arguments under the operation's names; unknown ones pass on, so that the operation refuses and records them."""
    return lambda given: {names.get(key, key): value for key, value in given.items()}


def _one(given: Arguments, *names: str) -> Any:
    for name in names:
        if name in given:
            return given.pop(name)
    raise InvalidInput(f"the argument {names[0]} is missing")


def _bucket_add(given: Arguments) -> Arguments:
    bucket, path = _one(given, "bucket", "bucket_name", "name"), _one(given, "path", "file_path")
    return {"path": f"{bucket}:/{str(path).lstrip('/')}", "text": _one(given, "content", "text"), **given}


def _config_at(given: Arguments) -> Arguments:
    return {"path": f"{CONFIG}:/{_one(given, 'key', 'name')}", **given}


def _config_set(given: Arguments) -> Arguments:
    text = json.dumps(_one(given, "value"))
    return {**_config_at(given), "text": text, "content_type": "application/json", "tags": {"value": text}}


STATS_SQL = "SELECT operation, status, count(*) AS calls FROM ops GROUP BY 1, 2 ORDER BY 3 DESC"

_CID = renamed(cid="path", cid_or_file="path", path="path")
_NAME = renamed(bucket="name", bucket_name="name", bucket_type="type", vfs_structure="structure")

SERVED: Mapping[tuple[str, str], Served] = {
    ("pin", "add"): ("pin.add", _CID),
    ("pin", "remove"): ("pin.rm", renamed(cid="pin", name="pin")),
    ("pin", "list"): ("pin.list", renamed()),
    ("pin", "get"): ("store.stat", _CID),
    ("pin", "cat"): ("store.cat", _CID),
    ("pin", "init"): ("store.init", renamed()),
    ("bucket", "create"): ("bucket.create", _NAME),
    ("bucket", "list"): ("bucket.list", renamed()),
    ("bucket", "add"): ("files.write", _bucket_add),
    ("log", "show"): ("ledger.tail", renamed()),
    ("log", "export"): ("ledger.tail", lambda given: {"limit": 10_000, **given}),
    ("log", "stats"): ("ledger.sql", lambda given: {"query": STATS_SQL, **given}),
    ("health", "overall"): ("store.info", renamed()),
    ("health", "status"): ("store.info", renamed()),
    ("health", "metrics"): ("store.info", renamed()),
    ("health", "version"): ("system.doctor", renamed()),
    ("backend", "list"): ("store.info", renamed()),
    ("backend", "status"): ("store.info", renamed()),
    ("config", "show"): ("files.list", lambda given: {"path": f"{CONFIG}:/", **given}),
    ("config", "get"): ("files.stat", _config_at),
    ("config", "set"): ("files.write", _config_set),
}
"""Family and action to the operation that serves it, and how its arguments are named."""

OWN = frozenset({("mcp", "status"), ("daemon", "status")})
"""Answered by the server about itself, and recorded as ``mcp.FAMILY.ACTION``."""

REMOTE = ("huggingface", "github", "s3", "storacha", "ipfs", "gdrive", "lotus", "synapse", "sshfs", "ftp")
LOCAL_KINDS = ("ipfs_cluster", "ipfs_cluster_follow", "parquet", "arrow")
_USE = "start and stop it in the process that holds it: await server.start(), await server.stop()"
LATER: Mapping[tuple[str, str], str] = {
    **{("daemon", action): "comes with the replication part (remote nodes)" for action in ("start", "stop", "restart")},
    **{("intelligent", a): "comes with the monitoring part" for a in ("start", "stop", "status", "insights")},
    ("pin", "pending"): "comes with the replication part; pins of the embedded store are never pending",
    **{("backend", kind): "comes with the replication part (remote backends)" for kind in (*REMOTE, *LOCAL_KINDS)},
    **{("backend", action): "comes with the replication part (remote backends)" for action in ("test", "auth")},
    ("log", "clear"): "is refused: the record of operations is append-only; retention comes with the governance part",
    **{("service", s): "comes with the replication part" for s in ("ipfs", "lotus", "cluster", "lassie")},
    **{("mcp", action): f"is not done over the wire; {_USE}" for action in ("start", "stop", "restart")},
    ("mcp", "role"): "comes with the replication part (roles of nodes)",
}
"""Known actions this build does not serve, and why."""

FAMILIES = sorted({family for family, _ in (*SERVED, *OWN, *LATER)})
DEFAULT_ACTION = {"health": "overall", "version": "version"}
"""Action of a family named alone."""
