"""One HTML page with text, tables and charts that opens without a network: nothing in it comes from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from ipfs_kit.errors import MissingExtra
from ipfs_kit.monitoring.plots import Chart, render

ROWS_MAX: Final = 10_000
"""Rows shown of one table; the page says how many more there are."""
STYLE: Final = (
    ":root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ddd}"
    "p{overflow-wrap:anywhere}div.t{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse}"
    "th,td{padding:.25rem .8rem;border-bottom:1px solid #e5e5e5;text-align:left;vertical-align:top}"
    "th,td.n{white-space:nowrap}td{overflow-wrap:anywhere;max-width:26rem}td:not(.n){min-width:7rem}"
    "th.n,td.n{text-align:right}td.n{font-variant-numeric:tabular-nums}"
    "th{background:#f5f5f5}img{max-width:100%;height:auto}p.note{color:#666}"
)
"""A table that is too wide scrolls by itself; numbers and headings are never broken."""
EMPTY: Final = "Nothing was recorded."


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page.

    Args:
        heading: Its heading.
        text: A paragraph; an empty line begins the next one.
        columns: Headings of a table.
        rows: Its rows; None is shown as "unknown".
        chart: A picture.
    """

    heading: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Iterable[Sequence[object]] = ()
    chart: Chart | None = None


def page(title: str, sections: Iterable[Section]) -> str:
    """Write a page.

    A chart becomes an image within the page. Where matplotlib is missing, a sentence says so and the tables stay.

    Args:
        title: Title and first heading.
        sections: Its parts, in order.

    Returns:
        The HTML document; every text in it is escaped and no script, style or image comes from outside.
    """
    body = "\n".join(_section(each) for each in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(each)}</p>" for each in section.text.split("\n\n") if each.strip()]
    table, filled = _table(section) if section.columns else ("", True)
    if not filled:
        return "\n".join([*parts, f'<p class="note">{EMPTY}</p>', "</section>"])
    if section.chart is not None:
        parts.append(_picture(section.chart))
    return "\n".join([*parts, table, "</section>"])


def _picture(chart: Chart) -> str:
    try:
        drawn = base64.b64encode(render(chart, "svg")).decode("ascii")
    except MissingExtra as error:
        return f'<p class="note">{escape(str(error))}</p>'
    return f'<img alt="{escape(chart.title)}" src="data:image/svg+xml;base64,{drawn}">'


def _table(section: Section) -> tuple[str, bool]:
    """A table, and whether it has a row."""
    lines, left = [], 0
    numbers = [True] * len(section.columns)
    for number, row in enumerate(section.rows):
        if number < ROWS_MAX:
            lines.append(f"<tr>{''.join(_cell(value) for value in row)}</tr>")
            numbers = [
                so_far and (value is None or _is_number(value)) for so_far, value in zip(numbers, row, strict=True)
            ]
        else:
            left += 1
    head = "".join(
        ('<th class="n">' if is_number else "<th>") + f"{escape(str(name))}</th>"
        for name, is_number in zip(section.columns, numbers, strict=True)
    )
    more = f'\n<p class="note">{left} more rows are not shown.</p>' if left else ""
    rows = "\n".join(lines)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return f'<div class="t">{table}</div>{more}', bool(lines)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return '<td class="n">unknown</td>'
    if _is_number(value):
        return f'<td class="n">{value if isinstance(value, int) else f"{value:.6g}"}</td>'
    return f"<td>{escape(str(value))}</td>"
