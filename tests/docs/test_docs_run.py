"""What the README and the guides show does work: their blocks run in order, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ipfs_kit

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))
RUNNABLE = [ROOT / "README.md", *GUIDES]
LINKED = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_SECONDS_PER_BLOCK = 60


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Language and body of each block that is to be run; ``sh skip`` and blocks that call make are shown only."""
    found = []
    for match in _BLOCK.finditer(text):
        info, body = match["info"].split(), match["body"]
        if not info or info[0] not in ("sh", "python") or "skip" in info[1:]:
            continue
        if info[0] == "sh" and re.search(r"^\s*make\b", body, re.MULTILINE):
            continue
        found.append((info[0], body))
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headings_of(text: str) -> set[str]:
    """Anchors as forges make them of headings."""
    plain = _BLOCK.sub("", text)
    titles = re.findall(r"^#{1,6}\s+(.+?)\s*$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_blocks_marked_skip_or_calling_make_are_not_run():
    text = "```sh\nmake demo\n```\n```sh skip\nfalse\n```\n```json\n{}\n```\n```sh\ntrue\n```\n```python\n1\n```\n"
    assert blocks_of(text) == [("sh", "true\n"), ("python", "1\n")]


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RUNNABLE if blocks_of(path.read_text("utf-8"))], ids=name_of)
def test_every_block_of_the_file_runs_in_order(path: Path, tmp_path: Path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(tmp_path),
        "IPFS_KIT_STORE": str(tmp_path / "store"),
        "PYTHONWARNINGS": "error",
    }
    for number, (language, body) in enumerate(blocks_of(path.read_text("utf-8")), 1):
        command = ["bash", "-eu", "-o", "pipefail", "-c", body] if language == "sh" else [sys.executable, "-c", body]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS_PER_BLOCK,
        )
        assert done.returncode == 0, (
            f"{name_of(path)}, {language} block {number}, exit {done.returncode}:\n{body}\n{done.stdout}\n{done.stderr}"
        )


@pytest.mark.parametrize("path", LINKED, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(path: Path):
    text = path.read_text("utf-8")
    dead = []
    for match in _LINK.finditer(_BLOCK.sub("", text)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        aim = (path.parent / target).resolve() if target else path
        if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in headings_of(aim.read_text("utf-8"))):
            dead.append(match["target"])
    assert not dead, f"{name_of(path)}: {dead}"


def test_every_guide_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in LINKED[1:] if path.name != "README.md"]
    missing = [page for page in pages if f"({page})" not in index]
    assert not missing


def test_every_public_name_is_in_the_python_guide():
    text = (ROOT / "docs" / "guide" / "python.md").read_text("utf-8")
    missing = [name for name in ipfs_kit.__all__ if f"`{name}`" not in text]
    assert not missing


def test_every_error_kind_is_in_the_errors_guide_with_its_codes():
    from ipfs_kit.errors import SURFACE_CODES

    text = (ROOT / "docs" / "guide" / "errors.md").read_text("utf-8")
    missing = [
        kind.value
        for kind, code in SURFACE_CODES.items()
        if not re.search(rf"^\| `{kind.value}` \|[^\n]*\| {code.exit} \| {code.http} \|", text, re.MULTILINE)
    ]
    assert not missing
