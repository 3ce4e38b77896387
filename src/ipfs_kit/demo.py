"""The main job, end to end, on real input: ``make demo``.

A folder goes into a versioned bucket, an agent works on it over MCP, and every step is durable, provable, queryable and
undoable. Exits 0 only when every step held.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipfs_kit import Kit, Progress
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ipld import CID, car
from ipfs_kit.surfaces.text import human_size

BUCKET = "library"
AGENT = "demo-agent"
IGNORED = ["__pycache__", "site-packages"]
KILL_AFTER_BYTES = 2 << 20
"""The writer is killed once this much of its import is done: certainly in the middle."""


class StepFailed(Exception):
    """A step of the demo did not hold."""


def require(holds: bool, what: str) -> None:
    """Stop the demo when a promise does not hold."""
    if not holds:
        raise StepFailed(what)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a step's title, then how long it took."""
    print(f"\n== {title}", flush=True)
    started_s = time.perf_counter()
    yield
    print(f"   {time.perf_counter() - started_s:.2f} s", flush=True)


def say(text: str) -> None:
    """Print one finding of the step under way."""
    print(f"   {text}", flush=True)


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ipfs_kit.demo", description=__doc__)
    parser.add_argument("--folder", help="folder to import (default: this Python's standard library)")
    parser.add_argument("--keep", metavar="DIR", help="keep the store in this new directory")
    parser.add_argument("--killed-writer", metavar="STORE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = Path(options.folder or sysconfig.get_paths()["stdlib"])
    if options.killed_writer:
        return run_writer(Path(options.killed_writer), folder)
    started_s = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="ipfs-kit-demo-") as scratch:
            run(Path(options.keep) if options.keep else Path(scratch) / "store", folder, Path(scratch))
    except StepFailed as failure:
        print(f"\nFAILED: {failure}", flush=True)
        return 1
    print(f"\nEvery step held, in {time.perf_counter() - started_s:.1f} s.", flush=True)
    return 0


def run(store: Path, folder: Path, scratch: Path) -> None:
    """All steps, on one store."""
    with Kit.open(store) as kit:
        with step(f"A store in {store}, and {folder} in a bucket"):
            first_root = import_and_commit(kit, folder)
        with step("An agent over MCP (its own process, stdio): list, read, edit, write, delete"):
            op_range = agent_session(store, kit)
        with step("What changed"):
            show_changes(kit)
        with step("The ledger, by SQL"):
            query_ledger(kit)
        with step("A proof that one of the agent's edits is in the log, checked by the independent verifier"):
            prove(kit, op_range[0], scratch)
    with step("kill -9 of a writer in the middle of an import, then reopen and verify"):
        kill_a_writer(store, folder)
    with Kit.open(store) as kit:
        with step("Undo all the agent did: the root must be the first one again"):
            undo_agent(kit, op_range, first_root)
        with step("Export a CAR and read its root back"):
            export_car(kit, first_root, scratch)


def import_and_commit(kit: Kit, folder: Path) -> CID:
    """Import the folder, commit it, and return the bucket's root."""
    info = kit.store.init()
    say(f"store {info.node}; log key {info.vkey}")
    kit.bucket.create(BUCKET)
    started_s = time.perf_counter()
    put = kit.files.put(str(folder), f"{BUCKET}:/", ignore=IGNORED)
    committed = kit.versions.commit(BUCKET, message=f"import of {folder.name}")
    elapsed_s = time.perf_counter() - started_s
    say(
        f"{put.files:,} files, {human_size(put.size)}: "
        f"{put.files / elapsed_s:,.0f} files/s, {human_size(int(put.size / elapsed_s))}/s"
    )
    require(put.files > 500, f"only {put.files} files were imported from {folder}")
    say(f"commit {committed.commit}")
    say(f"root   {committed.root}  (a plain UnixFS root any IPFS gateway can serve)")
    return committed.root


def agent_session(store: Path, kit: Kit) -> tuple[int, int]:
    """Let an MCP client work; returns the main-log range [first, last] of its writes."""
    import anyio

    before = kit.engine.ledger.size("main")
    anyio.run(_agent, store)
    after = kit.engine.ledger.size("main")
    say(f"{after - before} operations of the agent changed state: main:{before} to main:{after - 1}")
    return before, after - 1


async def _agent(store: Path) -> None:
    from mcp import Client, StdioServerParameters

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ipfs_kit", "--store", str(store), "mcp", "--as", AGENT],
        env=dict(os.environ),
    )
    async with Client(server) as client:
        tools = await client.list_tools()
        say(
            f"{len(tools.tools)} tools, "
            f"{sum(bool(t.annotations and t.annotations.destructive_hint) for t in tools.tools)} of them marked destructive"
        )
        names = [b["name"] for b in (await _tool(client, "bucket_list"))["buckets"]]
        require(names == [BUCKET], f"the agent sees buckets {names}")
        listed = await _tool(client, "files_list", path=f"{BUCKET}:/json")
        say(f"{BUCKET}:/json holds {', '.join(entry['name'] for entry in listed['entries'])}")
        text = (await _tool(client, "files_read", path=f"{BUCKET}:/json/__init__.py"))["text"]
        first_line = text.splitlines()[0]
        await _tool(
            client,
            "files_edit",
            path=f"{BUCKET}:/json/__init__.py",
            old=first_line,
            new="# read by an agent\n" + first_line,
        )
        await _tool(client, "files_write", path=f"{BUCKET}:/NOTES.md", text="# Notes\nThe json package was reviewed.\n")
        await _tool(client, "files_rm", path=f"{BUCKET}:/antigravity.py")
        await _tool(client, "files_mv", source=f"{BUCKET}:/this.py", destination=f"{BUCKET}:/zen.py")
        reply = await client.call_tool("files_stat", {"path": f"{BUCKET}:/zen.py"})
        require(not reply.is_error, "the moved file is not there")
        say(f"every reply says how to prove it: {(reply.meta or {}).get('ipfs-kit/proof')}")
        missing = await client.call_tool("files_read", {"path": f"{BUCKET}:/antigravity.py"})
        require(bool(missing.is_error), "a deleted file could still be read")


async def _tool(client: Any, name: str, **arguments: Any) -> Any:
    reply = await client.call_tool(name, arguments)
    require(not reply.is_error, f"{name} failed: {reply.structured_content}")
    return reply.structured_content["result"]


def show_changes(kit: Kit) -> None:
    """The working session against the last commit: exactly what the agent did."""
    changes = {change.path: str(change.change) for change in kit.versions.diff(BUCKET).changes}
    for path, change in sorted(changes.items()):
        say(f"{change:<9} {path}")
    wanted = {
        "/NOTES.md": "added",
        "/antigravity.py": "removed",
        "/json/__init__.py": "modified",
        "/this.py": "removed",
        "/zen.py": "added",
    }
    require(changes == wanted, f"the diff is {changes}")


def query_ledger(kit: Kit) -> None:
    """Who did what, by SQL over the recorded operations."""
    found = kit.ledger.sql(
        "SELECT actor_name, operation, status, count(*) AS n FROM ops WHERE surface = 'mcp' "
        "GROUP BY ALL ORDER BY n DESC, operation"
    )
    for row in found.rows:
        say("  ".join(str(cell) for cell in row))
    require({row[0] for row in found.rows} == {AGENT}, "the agent's calls are not all recorded under its name")
    require(any(row[2] == "error" for row in found.rows), "the failed read was not recorded")
    say(f"({found.row_count} rows in {found.elapsed_ms:.0f} ms, in a sandboxed process)")


def prove(kit: Kit, index: int, scratch: Path) -> None:
    """Prove an op, check the proof with the stand-alone verifier, and see that a changed proof is refused."""
    from ipfs_kit.ledger.check import verify_proof_file

    proof = kit.ledger.prove(str(index))
    path = scratch / "proof.txt"
    path.write_text(proof.proof, encoding="utf-8")
    shown = verify_proof_file(str(path), kit.ledger.vkey().vkey)
    require(shown.record_cid == proof.cid, "the proof is of another record")
    say(
        f"{shown.op}, record {shown.record_cid}, in a tree of {shown.size} records signed by {shown.origin}; "
        f"{path.stat().st_size} bytes"
    )
    path.write_text(proof.proof.replace(f"index {index}", f"index {index + 1}"), encoding="utf-8")
    try:
        verify_proof_file(str(path), kit.ledger.vkey().vkey)
    except IntegrityError as refused:
        say(f"a proof changed by one character is refused: {refused}")
    else:
        raise StepFailed("a changed proof was accepted")


def kill_a_writer(store: Path, folder: Path) -> None:
    """Kill a process while it imports, then verify the store from packs to ledger."""
    arguments = [sys.executable, "-m", "ipfs_kit.demo", "--killed-writer", str(store), "--folder", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        line = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    require(line.startswith("importing"), "the writer ended before it could be killed")
    require(writer.returncode == -signal.SIGKILL, f"the writer ended with {writer.returncode}")
    say(f"killed at {line.strip().removeprefix('importing ')}")
    started_s = time.perf_counter()
    with Kit.open(store) as kit:
        say(f"reopened in {(time.perf_counter() - started_s) * 1000:.0f} ms")
        report = kit.store.verify()
    say(", ".join(f"{count:,} {what}" for what, count in report.checked.items()) + ": no fault")


def run_writer(store: Path, folder: Path) -> int:
    """The process that is killed: imports the folder again under another name."""

    def told(progress: Progress) -> None:
        if progress.done >= KILL_AFTER_BYTES:
            print(f"importing {human_size(progress.done)}", flush=True)

    with Kit.open(store) as kit:
        kit.call_with("files.put", {"source": str(folder), "path": f"{BUCKET}:/again"}, progress=told)
    return 0


def undo_agent(kit: Kit, op_range: tuple[int, int], first_root: CID) -> None:
    """Take the agent's operations back, newest first, and compare roots."""
    for index in range(op_range[1], op_range[0] - 1, -1):
        kit.versions.undo(str(index))
    root = kit.engine.buckets.root(BUCKET)
    say(f"root {root}")
    require(root == first_root, f"after undo the root is {root}, not {first_root}")
    require(kit.versions.status(BUCKET).clean, "the session still differs from the commit")


def export_car(kit: Kit, root: CID, scratch: Path) -> None:
    """Write the version as a CAR file and read it back with every block verified."""
    path = scratch / "library.car"
    written = kit.car.export(str(root), str(path))
    with path.open("rb") as stream:
        reader = car.read_car(stream)
        blocks = sum(1 for _ in reader)
        require(list(reader.roots) == [root], "the CAR names another root")
    require(blocks == written.blocks, f"{written.blocks} blocks were written and {blocks} read")
    say(f"{blocks:,} blocks, {human_size(path.stat().st_size)}, root {root}")


if __name__ == "__main__":
    sys.exit(main())
