"""Charts and pages: drawn from true values, safe with any text, readable offline."""

from __future__ import annotations

import base64
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring.html_report import ROWS_MAX, Section, page
from ipfs_kit.monitoring.plots import KINDS, Chart, Series, render

HOSTILE = "<script>alert('$x$')</script> & 日本 $\\frac"


def chart(kind: str, **more: object) -> Chart:
    values = Series("a", ["one", "two", HOSTILE], [3, None, 5.5])
    return Chart(HOSTILE, kind, "x $", "y", [values], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_a_png_of_the_size_asked_for_and_the_same_svg_twice(kind: str) -> None:
    png = render(chart(kind), "png", 4, 3)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (440, 330)
    svg = render(chart(kind), "svg")
    assert svg == render(chart(kind), "svg")
    ElementTree.fromstring(svg)


def test_nothing_measured_is_drawn_as_such_and_times_are_dates() -> None:
    assert render(Chart("empty", "line", "", "", [])) == render(
        Chart("empty", "line", "", "", [Series("a", [1], [None])])
    )
    timed = Chart("t", "line", "time", "n", [Series("a", [0.0, 3600.0], [1, 2]), Series("b", [0.0], [4])], times=True)
    assert render(timed) != render(Chart("t", "line", "time", "n", timed.series))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (Chart("t", "radar", "", "", []), "png"),
        (Chart("t", "line", "", "", []), "gif"),
        (Chart("t", "line", "", "", [Series("a", [1, 2], [1])]), "png"),
        (Chart("t", "line", "", "", [Series("a", [1], [float("nan")])]), "png"),
        (Chart("t", "histogram", "", "", [Series("a", [], [1.0] * 100_001)]), "png"),
    ],
)
def test_what_cannot_be_drawn_is_refused(bad: Chart, kind: str) -> None:
    with pytest.raises(InvalidInput):
        render(bad, kind)


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_its_text_tables_and_pictures_and_takes_nothing_from_outside() -> None:
    rows = [(HOSTILE, 7, 0.25, None)]
    text = page(HOSTILE, [Section("Part", f"{HOSTILE}\n\nsecond", ("a", "b", "c", "d"), rows, chart("bar"))])
    seen = Seen()
    seen.feed(text)
    assert "script" not in seen.tags
    assert "link" not in seen.tags
    assert HOSTILE in seen.text
    assert seen.tags.count("p") == 2
    assert re.findall(r">([^<]*)</td>", text)[1:] == ["7", "0.25", "unknown"]
    (source,) = seen.sources
    ElementTree.fromstring(base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")))


def test_a_long_table_is_cut_and_says_so() -> None:
    text = page("t", [Section("s", columns=("n",), rows=((n,) for n in range(ROWS_MAX + 5)))])
    assert text.count("<tr>") == ROWS_MAX + 1
    assert "5 more rows are not shown." in text


def test_without_matplotlib_the_error_names_the_extra_and_the_page_keeps_its_tables() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from ipfs_kit.errors import MissingExtra
from ipfs_kit.monitoring.html_report import Section, page
from ipfs_kit.monitoring.plots import Chart, Series, render
chart = Chart("t", "bar", "", "", [Series("a", ["x"], [1])])
try:
    render(chart)
except MissingExtra as error:
    print(error)
print(page("t", [Section("s", columns=("n",), rows=[(41,)], chart=chart)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("ipfs-kit-py[plots]") == 2
    assert ">41</td>" in done.stdout
