"""Reports as a person sees them: opened in a browser without a network, looked at, measured."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import KitError
from ipfs_kit_py.filesystem_journal import FilesystemJournal, FilesystemJournalManager
from ipfs_kit_py.fs_journal_monitor import JournalVisualization

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium"),
]
LOOK = """
const lines = cell => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getClientRects().length;
};
const cells = [...document.querySelectorAll("td.n, th")].map(lines);
const images = [...document.images];
document.title = JSON.stringify({
  wide: document.documentElement.scrollWidth, window: innerWidth, most_lines: Math.max(0, ...cells),
  images: images.length, drawn: images.filter(i => i.complete && i.naturalWidth > 0).length,
  headings: [...document.querySelectorAll("h2")].map(h => h.innerText),
  text: document.body.innerText,
});
"""


def browse(*options: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", *options,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def looked_at(page: str, folder: Path, width: int) -> dict[str, Any]:
    """What a browser makes of a page at a width; a copy may run the script that measures."""
    measured = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    measured = measured.replace("</body>", f"<script>{LOOK}</script></body>")
    (folder / "measured.html").write_text(measured, encoding="utf-8")
    profile = f"--user-data-dir={folder}/profile"
    seen = browse(profile, f"--window-size={width},900", "--dump-dom", f"file://{folder}/measured.html")
    title = re.search(r"<title>(.*?)</title>", seen.stdout, re.S)
    assert title is not None
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    (folder / "page.html").write_text(page, encoding="utf-8")
    shot = folder / f"{width}.png"
    drawn = browse(profile, f"--window-size={width},2600", f"--screenshot={shot}", f"file://{folder}/page.html")
    assert "CONSOLE" not in drawn.stderr, drawn.stderr
    found["shot"] = shot
    return found


def colours(shot: Path) -> tuple[int, float]:
    """Different colours of a picture, and the share of it that is not white."""
    from matplotlib import image

    pixels = (image.imread(str(shot))[..., :3] * 255).astype("uint32")
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    return len(set(packed.ravel().tolist())), float((packed != 0xFFFFFF).mean())


@pytest.mark.parametrize("width", [1200, 420])
def test_the_report_of_telemetry_is_whole_readable_and_true(tmp_path: Path, width: int) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("docs")
        for number in range(60):
            kit.files.write(f"docs:/f{number % 7}", text="x" * number)
            if number % 6 == 0:
                with pytest.raises(KitError):
                    kit.files.read("docs:/none")
        kit.stream.note("mcp." + "a_very_long_name_" * 3 + "x")
        page = kit.telemetry.report().read().decode()
        counted = dict(kit.ledger.sql("SELECT operation, count(*) FROM ops GROUP BY 1").rows)
    seen = looked_at(page, tmp_path, width)
    assert seen["wide"] <= seen["window"]
    assert seen["most_lines"] == 1  # no number and no heading is broken
    assert seen["images"] == seen["drawn"] >= 4
    assert seen["headings"][:3] == ["What this is", "All together", "By operation and backend"]
    for name, backend in (("files.write", "files"), ("files.read", "files"), ("bucket.create", "bucket")):
        assert re.search(rf"{re.escape(name)}\s+{backend}\s+{counted[name]}\s", seen["text"]), seen["text"]
    kinds, inked = colours(seen["shot"])
    assert kinds > 100
    assert 0.02 < inked < 0.6


def test_the_report_of_an_empty_store_says_that_nothing_was_recorded(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        page = kit.telemetry.report().read().decode()
    seen = looked_at(page, tmp_path, 1200)
    assert seen["text"].count("Nothing was recorded.") >= 5
    assert seen["images"] == 0
    assert not re.search(r"\bNaN|undefined|None|null\b", seen["text"])


def test_the_dashboard_of_a_journal_shows_its_pictures(tmp_path: Path) -> None:
    journal = FilesystemJournal(base_path=tmp_path / "j")
    manager = FilesystemJournalManager(journal)
    for number in range(12):
        manager.create_file(f"/f{number}", b"x" * number)
    manager.delete("/f3")
    made = JournalVisualization(journal=journal, output_dir=tmp_path / "out").create_dashboard()
    journal.close()
    seen = looked_at(Path(made["html_report"]).read_text(encoding="utf-8"), tmp_path, 1200)
    assert seen["images"] == seen["drawn"] == 7
    assert seen["wide"] <= seen["window"]
    assert re.search(r"create\s+12", seen["text"])
    assert re.search(r"delete\s+1", seen["text"])
    assert colours(seen["shot"])[0] > 100
