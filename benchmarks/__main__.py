"""``python -m benchmarks [NAME…] [--quick] [--json FILE] [--dir DIR]``."""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Bench, machine, report

NAMES = (
    "primitives",
    "store",
    "files",
    "ledger",
    "scale",
    "bucket",
    "datasets",
    "search",
    "metadata",
    "filesystem",
    "versions",
    "mcp_stdio",
    "cli",
    "follow",
    "detectors",
    "kubo",
)


def main() -> int:
    """Run the benchmarks named, or all; exit status 1 when a target that was judged is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(NAMES)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="reduced sizes, under a minute; targets are not judged")
    parser.add_argument("--json", metavar="FILE", help="also write machine, inputs, raw timings and figures here")
    parser.add_argument("--dir", metavar="DIR", default=tempfile.gettempdir(), help="a folder on the disk to measure")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    facts, started = machine(Path(options.dir)), time.time()
    for name, value in facts.items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory(prefix="ipfs-kit-bench-", dir=options.dir) as directory:
        bench = Bench(options.quick, Path(directory))
        for name in options.names or NAMES:
            print(f"\n{name}", flush=True)
            start = time.perf_counter()
            importlib.import_module(f"benchmarks.{name}").run(bench)
            print(f"  ({time.perf_counter() - start:.1f} s)", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(report(bench, facts, started), out, indent=1)
    missed = [figure.name for figure in bench.figures if figure.reached is False]
    judged = sum(figure.reached is not None for figure in bench.figures)
    print(f"\n{len(bench.figures)} figures; {judged - len(missed)} of {judged} targets reached")
    if missed:
        print("missed: " + "; ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
