"""The process that runs one user query and dies (decision 28).

Started as ``python -I _sandbox_child.py FD``: by path, so that nothing of the package is imported before it is needed.
Everything it may know comes over the socket ``FD``: the query, limits, where the sealed segments lie, the live tail as
Arrow IPC and, on demand, the keys that this principal may use. Order matters: confine the process first, prepare the
views, lock the engine, and only then bind anything of the user's text.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import base64
import bisect
import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

FRAME = struct.Struct(">cI")
JSON, ARROW = b"J", b"A"
FRAME_BYTES_MAX = 1 << 30
"""No frame is larger; the reader refuses before it allocates."""
AST_NODES_MAX = 20_000
"""Parsed queries beyond this are refused before they are bound."""

_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
_NODES = frozenset(
    {
        "SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE",
        "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "EMPTY_FROM", "PIVOT",
        "SHOW_REF",
        "ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER", "ASCENDING", "DESCENDING",
        "ORDER_DEFAULT",
    }
)  # fmt: skip
_SKIP = frozenset({"cast_type", "literal", "value_type", "type_info"})
_FUNCTIONS_DENIED = frozenset(
    {"getenv", "getvariable", "write_log", "nextval", "currval", "json_serialize_plan", "json_execute_serialized_sql",
     "query", "query_table", "which_secret", "sleep_ms", "current_setting", "in_search_path"}
)  # fmt: skip
_PLAIN_REFS = frozenset({"BASE_TABLE", "SUBQUERY", "EMPTY", "EMPTY_FROM", "TABLE_FUNCTION", "EXPRESSION_LIST", "JOIN"})


class Refusal(Exception):
    """A typed answer to the parent; ``kind`` is a value of ``ErrorKind``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# -- the channel -----------------------------------------------------------------------------------------------------


def send(sock: socket.socket, kind: bytes, payload: bytes | memoryview) -> None:
    """Send one frame."""
    sock.sendall(FRAME.pack(kind, len(payload)))
    sock.sendall(payload)


def send_json(sock: socket.socket, message: dict[str, Any]) -> None:
    """Send one JSON frame."""
    send(sock, JSON, json.dumps(message).encode())


# The engine's threads ask for keys while the main thread sends rows: one frame at a time.
_wire = threading.Lock()


def _say(sock: socket.socket, kind: bytes, payload: bytes | memoryview) -> None:
    with _wire:
        send(sock, kind, payload)


def _say_json(sock: socket.socket, message: dict[str, Any]) -> None:
    _say(sock, JSON, json.dumps(message).encode())


def receive(sock: socket.socket, size_max: int = FRAME_BYTES_MAX) -> tuple[bytes, bytearray]:
    """Receive one frame.

    Raises:
        EOFError: The other side is gone.
        ValueError: The frame is larger than ``size_max``.
    """
    kind, size = FRAME.unpack(_exactly(sock, FRAME.size))
    if size > size_max:
        raise ValueError(f"a frame of {size} bytes; at most {size_max} were expected")
    return kind, _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        done = sock.recv_into(view)
        if not done:
            raise EOFError("the other side of the sandbox channel is gone")
        view = view[done:]
    return data


# -- confinement -----------------------------------------------------------------------------------------------------

_CLONE_NEWNET, _CLONE_NEWUSER, _CLONE_NEWIPC = 0x40000000, 0x10000000, 0x08000000
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_FS_EXECUTE, _FS_READ_FILE, _FS_READ_DIR = 1, 4, 8
# Every right that Landlock ABI 1, 2, 3 and 5 knows; handling a right means refusing it unless a rule allows it.
_FS_BITS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FS_BITS_NEWEST = (1 << 16) - 1


def confine_process() -> list[str]:
    """Before anything is imported: no core, no debugger, no files to write, no network where the kernel lets us.

    Returns:
        The names of the walls that stand.
    """
    walls = ["rlimit"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Exceeding FSIZE then fails the write instead of killing the process without a word.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        walls.append("no_new_privs")
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        walls.append("netns")
    return walls


def confine_files(readable: list[str]) -> list[str]:
    """Leave only ``readable`` directories and the interpreter's own files openable, for reading, where Landlock exists.

    Must run before any thread starts, because it binds the calling thread and those it creates.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if abi < 1:
        return []
    handled = _FS_BITS.get(abi, _FS_BITS_NEWEST)
    network = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scoped)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        return []
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo",
           "/lib", "/lib64", "/sys/devices/system/cpu", "/sys/fs/cgroup", "/proc/self"]  # fmt: skip
    for name, rights in [(n, _FS_EXECUTE | _FS_READ_FILE | _FS_READ_DIR) for n in own] + [
        (n, _FS_READ_FILE | _FS_READ_DIR) for n in readable
    ]:
        if not os.path.isdir(name):
            continue
        fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
        os.close(fd)
    done = libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return ["landlock"] if done else []


def limit(memory_bytes: int, wall_s: float, threads: int) -> None:
    """Bound address space, processor and wall time, whatever the parent does."""
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    # Address space is not memory: arenas and thread stacks reserve more than they use.
    space = mapped + 2 * memory_bytes + (512 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    seconds = int(wall_s * threads) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, wall_s + 2.0)


def _watch_parent(lifeline: int) -> None:
    """End this process as soon as the parent is gone, also in the middle of a query."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(lifeline, select.POLLHUP)

    def wait() -> None:
        while os.getppid() == parent:
            if poll.poll(1000):
                break
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


# -- the gate: what a query may be -----------------------------------------------------------------------------------


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    stack, seen = [tree], 0
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            seen += 1
            if seen > AST_NODES_MAX:
                raise Refusal("budget_exceeded", "the query is too large: simplify it")
            yield node
            stack.extend(value for key, value in node.items() if key not in _SKIP)


def admit(connection: Any, duckdb: Any, sql: str, relations: set[str]) -> tuple[str, list[dict[str, Any]]]:
    """Accept exactly one SELECT over our relations, judged by the engine's own parser.

    Args:
        connection: An engine without any data yet.
        duckdb: The module.
        sql: The user's text.
        relations: The names a query may read.

    Returns:
        The statement's text and every node of its tree.

    Raises:
        Refusal: Anything else.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise Refusal("invalid_input", f"exactly one SELECT is allowed, found {len(statements)} statements")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise Refusal("denied", f"only SELECT is allowed, not {str(kind).rpartition('.')[2]}")
    text = statements[0].query
    # The same text, read again as a tree: INSERT inside WITH, for one, has the statement type SELECT.
    answer = json.loads(connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0][0])
    if answer.get("error"):
        raise Refusal("denied", f"only SELECT is allowed: {answer.get('error_message', 'not serializable')}")
    nodes = list(_walk(answer["statements"]))
    local = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", [])}
    for node in nodes:
        _admit_node(node, relations | local)
    return text, nodes


def _admit_node(node: dict[str, Any], names: set[str]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and "class" not in node and kind not in _NODES:
        raise Refusal("denied", f"only SELECT is allowed, found {kind.lower()}")
    if kind == "BASE_TABLE":
        name = node["table_name"].lower()
        if node.get("catalog_name") or node.get("schema_name") or name not in names:
            full = ".".join(part for part in (node.get("catalog_name"), node.get("schema_name"), name) if part)
            raise Refusal(
                "invalid_input", f"there is no table {full!r} here: there are {', '.join(sorted(names)[:20])}"
            )
    elif kind == "TABLE_FUNCTION":
        name = node["function"]["function_name"].lower()
        if name not in _TABLE_FUNCTIONS:
            raise Refusal(
                "denied", f"the table function {name!r} is not available: query {', '.join(sorted(names)[:20])}"
            )
    elif kind == "SHOW_REF":
        shown = str(node.get("table_name", "")).strip('"').lower()
        if node.get("query") is None and shown not in names:
            raise Refusal("denied", f"only DESCRIBE or SUMMARIZE of {', '.join(sorted(names)[:20])} is available")
    if "function_name" in node:
        name = node["function_name"].lower()
        if name in _FUNCTIONS_DENIED or name.startswith(("_kit", "duckdb_", "pragma_")):
            raise Refusal("denied", f"the function {name!r} is not available")


def needed_columns(nodes: list[dict[str, Any]], columns: list[str]) -> set[str]:
    """The columns a query can touch; all of them whenever it names columns only implicitly."""
    used: set[str] = set()
    for node in nodes:
        kind, family = node.get("type"), node.get("class")
        implicit = family in ("STAR", "POSITIONAL_REFERENCE") or kind in ("PIVOT", "SHOW_REF")
        if implicit or node.get("ref_type") == "NATURAL":
            return set(columns)
        if family == "COLUMN_REF":
            used.update(part.lower() for part in node["column_names"])
        used.update(name.lower() for name in node.get("using_columns") or [] if isinstance(name, str))
    aliases = {str(n.get("alias") or n.get("table_name")).lower() for n in nodes if n.get("type") in _PLAIN_REFS}
    # A bare table name used as a value is the whole row.
    whole = any(n.get("class") == "COLUMN_REF" and n["column_names"][-1].lower() in aliases for n in nodes)
    return set(columns) if whole else used & set(columns)


# -- decryption on demand --------------------------------------------------------------------------------------------


class Oracle:
    """Asks the parent for keys and names of the ids that a query really touches, each once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {"keys": {}, "names": {}}

    def lookup(self, what: str, ids: set[str]) -> dict[str, Any]:
        """Return what is known of ``ids``; None where the principal may not or the key is gone."""
        with self._lock:
            known = self._known[what]
            missing = sorted(ids - known.keys())
            if missing:
                _say_json(self._sock, {"ask": what, "ids": missing})
                answer = json.loads(receive(self._sock)[1])["found"]
                for name in missing:
                    value = answer.get(name)
                    known[name] = base64.b64decode(value) if what == "keys" and value is not None else value
            return known


class _Derived:
    """CIDs of sealed records, derived from all their columns a row group at a time."""

    def __init__(self, datasets: list[dict[str, Any]], columns: Any) -> None:
        self._columns = columns
        # ``<first>-<last>-<hash>.parquet``: the name says which span a file is of; a span may have several.
        self._spans: dict[str, dict[int, list[str]]] = {}
        for source in datasets:
            if source["log"] is None:
                continue  # of other nodes: their records say which file they are in
            spans = self._spans.setdefault(source["log"], {})
            for file in source["files"]:
                spans.setdefault(int(os.path.basename(file)[:12]), []).append(file)
        self._firsts = {log: sorted(spans) for log, spans in self._spans.items()}
        self._kept: list[tuple[str, dict[int, bytes]]] = []
        self._lock = threading.Lock()

    def cid(self, log: str, index: int) -> bytes:
        with self._lock:
            for held, cids in self._kept:
                if held == log and index in cids:
                    return cids[index]
            cids = self._load(log, index)
            # Two engine threads read two places at once, each of several files; more would only hold memory.
            self._kept = [*self._kept[-7:], (log, cids)]
            return cids[index]

    def _load(self, log: str, index: int) -> dict[int, bytes]:
        import pyarrow.parquet as pq

        if log in self._spans:
            first = self._firsts[log][bisect.bisect_right(self._firsts[log], index) - 1]
            paths = self._spans[log][first]
        else:
            paths = [log]
        for path in paths:
            file = pq.ParquetFile(path, read_dictionary=list(self._columns.DICTIONARY_NAMES))
            for group in range(file.metadata.num_row_groups):
                bounds = file.metadata.row_group(group).column(0).statistics
                if bounds is not None and bounds.has_min_max and not bounds.min <= index <= bounds.max:
                    continue
                table = file.read_row_group(group)
                cids = dict(zip(table[self._columns.INDEX].to_pylist(), self._columns.record_cids(table), strict=True))
                if index in cids:
                    return cids
        raise LookupError(f"record {index} of log {log} is in no segment")


def _functions(oracle: Oracle, source: str, datasets: list[dict[str, Any]]) -> dict[str, Callable[..., Any]]:
    """The engine functions behind sealed and derived columns."""
    import pyarrow as pa

    if source not in sys.path:
        sys.path.append(source)
    from ipfs_kit.ledger import columns

    def unseal(field: Any, subject: Any, op_id: Any, sealed: Any, ext: Any) -> Any:
        fields = field.to_pylist()
        named = zip(fields, subject.to_pylist(), ext.to_pylist(), strict=True)
        under = [columns.sealed_under(f, s, e) for f, s, e in named]
        keys = oracle.lookup("keys", {s for s in under if s is not None})
        rows = zip(fields, under, op_id.to_pylist(), sealed.to_pylist(), strict=True)
        return pa.array([columns.unseal_text(s, keys.get(s or ""), o, f, c) for f, s, o, c in rows], pa.string())

    def name(actor: Any) -> Any:
        actors = actor.to_pylist()
        names = oracle.lookup("names", {a for a in actors if a is not None})
        return pa.array([names.get(a) for a in actors], pa.string())

    def json_text(data: Any) -> Any:
        return pa.array([columns.json_text(value) for value in data.to_pylist()], pa.string())

    def cid_text(data: Any) -> Any:
        return pa.array([columns.cid_text(value) for value in data.to_pylist()], pa.string())

    derived = _Derived(datasets, columns)

    def record_cid(log: Any, index: Any, known: Any) -> Any:
        rows = zip(log.to_pylist(), index.to_pylist(), known.to_pylist(), strict=True)
        return pa.array([columns.cid_text(derived.cid(n, i) if c is None else c) for n, i, c in rows], pa.string())

    return {"unseal": unseal, "name": name, "json_text": json_text, "cid_text": cid_text, "record_cid": record_cid}


def _create_functions(connection: Any, request: dict[str, Any], oracle: Oracle) -> None:
    try:
        import numpy as np
    except ImportError as exc:
        # The engine's Python functions need it; nothing else here does.
        raise Refusal("missing_extra", "reading sealed columns with SQL needs numpy: pip install numpy") from exc
    assert np
    made = _functions(oracle, request["source"], request["datasets"])
    for spec in request["functions"]:
        connection.create_function(
            spec["name"], made[spec["kind"]], spec["takes"], "VARCHAR", type="arrow", null_handling="special"
        )


# -- one query -------------------------------------------------------------------------------------------------------


def _prepare(connection: Any, request: dict[str, Any], tail: Any, used: set[str], oracle: Oracle) -> None:
    """Register the data and create the relations, everything of ours, nothing of the user's."""
    for source in request["datasets"]:
        files = ", ".join(_literal(name) for name in source["files"])
        named = ", filename = true" if source["log"] is None else ""
        connection.execute(f"CREATE VIEW {source['name']} AS SELECT * FROM read_parquet([{files}]{named})")  # noqa: S608 - our own names
    if tail is not None:
        connection.register("_kit_tail", tail)
    if used & set(request["computed"]) or request["row_filter"]:
        _create_functions(connection, request, oracle)
        for statement in request["setup"]:
            connection.execute(statement)
    else:
        for statement in request["setup_plain"]:
            connection.execute(statement)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _scope(connection: Any, request: dict[str, Any], used: set[str]) -> None:
    """Copy the rows this principal may see, so that no expression of the query ever touches another row."""
    for name, columns in request["relations"].items():
        if name in request["streams"]:
            continue  # a view over the others, so it sees what they keep
        wanted = [c for c in columns if c in used] or columns[:1]
        listed = ", ".join(f'"{c}"' for c in wanted)
        connection.execute(
            f"CREATE TABLE _kit_scoped_{name} AS SELECT {listed} FROM {name} WHERE ({request['row_filter']})"  # noqa: S608 - our own text
        )
        connection.execute(f"DROP VIEW {name}")
        connection.execute(f"ALTER TABLE _kit_scoped_{name} RENAME TO {name}")


def _answer(sock: socket.socket, relation: Any, rows_max: int, bytes_max: int) -> None:
    """Stream the result up to the caps, then say what was left out."""
    import pyarrow as pa

    reader = relation.limit(rows_max + 1).to_arrow_reader(2048)
    _say(sock, ARROW, reader.schema.serialize().to_pybytes())
    rows = size = 0
    truncated = False
    for part in reader:
        batch = part
        if rows + batch.num_rows > rows_max:
            batch, truncated = batch.slice(0, rows_max - rows), True
        while batch.num_rows and size + batch.get_total_buffer_size() > bytes_max and size + batch.nbytes > bytes_max:
            batch, truncated = batch.slice(0, batch.num_rows // 2), True
        if batch.num_rows:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            rows += batch.num_rows
            size += batch.nbytes
            _say(sock, ARROW, memoryview(sink.getvalue()))
        if truncated:
            break
    if truncated and not rows:
        raise Refusal("budget_exceeded", f"one row is larger than {bytes_max} bytes: select less of it")
    _say_json(sock, {"done": True, "rows": rows, "truncated": truncated})


def serve(sock: socket.socket, duckdb: Any, walls: list[str]) -> None:
    """Take one request, answer it."""
    import pyarrow as pa

    request = json.loads(receive(sock)[1])
    tail = pa.ipc.open_stream(receive(sock)[1]).read_all() if request["tail"] else None
    limits = request["limits"]
    # Segments are named from here: a name below the store has no character that means a pattern to the engine.
    os.chdir(request["root"])
    walls += confine_files(request["directories"])
    limit(limits["memory_bytes"], limits["wall_s"], limits["threads"])
    try:
        _serve(sock, duckdb, request, tail, limits, walls)
    except Refusal as refusal:
        _say_json(sock, {"error": refusal.kind, "message": str(refusal), "walls": walls})
    except MemoryError:
        _say_json(sock, {"error": "budget_exceeded", "message": "the query needs more memory than it may use"})
    except Exception as exc:
        _say_json(sock, {"error": _kind(exc, duckdb), "message": _message(exc), "walls": walls})


def _serve(
    sock: socket.socket, duckdb: Any, request: dict[str, Any], tail: Any, limits: dict[str, Any], walls: list[str]
) -> None:
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": limits["threads"],
            "memory_limit": f"{limits['memory_bytes']}B",
            "temp_directory": "",
            "max_temp_directory_size": "0KiB",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_unsigned_extensions": "false",
            "python_enable_replacements": "false",
            "python_scan_all_frames": "false",
        },
    )
    connection.execute("SET allow_persistent_secrets = false")
    # Three scans of one query read the same footers.
    connection.execute("SET parquet_metadata_cache = true")
    folders = sorted({f"{os.path.dirname(name)}/" for source in request["datasets"] for name in source["files"]})
    connection.execute(f"SET allowed_directories = [{', '.join(map(_literal, folders))}]")
    # Last, because it also freezes the settings that name directories.
    connection.execute("SET enable_external_access = false")
    connection.execute("SET TimeZone = 'UTC'")
    text, nodes = admit(connection, duckdb, request["sql"], set(request["relations"]))
    named = {str(node.get("table_name", "")).strip('"').lower() for node in nodes}
    used = {c for columns in request["relations"].values() for c in needed_columns(nodes, columns)}
    if named & set(request["streams"]):
        # Their columns are computed, and they rest on columns of the record that the query does not name.
        used |= set(request["relations"]["records"])
    _prepare(connection, request, tail, used, Oracle(sock))
    if request["row_filter"]:
        _scope(connection, request, used)
    connection.execute("SET lock_configuration = true")
    _say_json(sock, {"started": True, "walls": walls})
    _answer(sock, connection.sql(text, params=request["params"]), limits["rows"], limits["bytes"])


def _kind(exc: Exception, duckdb: Any) -> str:
    if isinstance(exc, FileNotFoundError) or (isinstance(exc, duckdb.IOException) and _gone(str(exc))):
        return "stale"
    if isinstance(exc, duckdb.OutOfMemoryException):
        return "budget_exceeded"
    if isinstance(exc, duckdb.PermissionException):
        return "denied"
    if isinstance(exc, duckdb.InterruptException):
        return "timeout"
    text = str(exc).lower()
    if "bad_alloc" in text or "malloc of size" in text or "out of memory" in text or "bad allocation" in text:
        return "budget_exceeded"
    if isinstance(exc, duckdb.Error):
        return "internal" if isinstance(exc, (duckdb.InternalException, duckdb.FatalException)) else "invalid_input"
    return "internal"


def _gone(text: str) -> bool:
    """Whether the engine says that a segment is no longer there."""
    return "No files found" in text or "No such file" in text


def _message(exc: Exception) -> str:
    text = str(exc)
    return text if len(text) <= 1000 else text[:1000] + "…"


def main(fd: int, lifeline: int) -> None:
    """Entry point of the child."""
    walls = confine_process()
    sock = socket.socket(fileno=fd)
    try:
        import duckdb
        import pyarrow as pa
    except ImportError as exc:
        name = (exc.name or "duckdb").partition(".")[0]
        _say_json(sock, {"error": "missing_extra", "message": f"SQL over the ledger needs {name}: pip install {name}"})
        return
    pa.set_memory_pool(pa.system_memory_pool())
    # A thread started before Landlock stays outside it; this one only polls a pipe.
    _watch_parent(lifeline)
    try:
        _say_json(sock, {"ready": True, "walls": walls})
        serve(sock, duckdb, walls)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    # Skip destructors: the answer is out, and the engine's teardown only costs time.
    os._exit(0)
